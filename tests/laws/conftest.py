"""Networks and molecules on which the laws are checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from torch_cormorant import Cormorant, CormorantMD17, CormorantQM9
from torch_cormorant.testing import random_molecule

Batch = tuple[Tensor, Tensor, Tensor]

# At the published initialisation the covariant levels are nearly dead, and a law that
# they break would not show. The activation is smooth where differences are taken.
ALIVE = {"init": "fan_in", "gain": 1.0, "hidden": 32, "activation": "silu"}
KINDS: dict[str, tuple[type[Cormorant], dict[str, Any]]] = {
    "qm9": (CormorantQM9, {"channels": 4, **ALIVE}),
    "md17": (CormorantMD17, {"channels": 4, "species": (1, 6, 7, 8, 9), **ALIVE}),
    "solid": (CormorantQM9, {"channels": 4, "harmonics": "solid", **ALIVE}),
    "cutoff": (Cormorant, {"channels": 6, "cutoff": 3.0, "norm": "norm", **ALIVE}),
    "gated": (Cormorant, {"channels": 6, "gate": True, "input": "linear", **ALIVE}),
    "real": (Cormorant, {"channels": 6, "complex": False, **ALIVE}),
    "even": (Cormorant, {"channels": 6, "paths": "even", **ALIVE}),
    "atomwise": (
        Cormorant,
        {"channels": 6, "head": "extensive", "input": "linear", **ALIVE},
    ),
}


def molecules_of(*sizes: int, seed: int = 3) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    parts = [random_molecule(n, generator) for n in sizes]
    batch = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    z, pos = zip(*parts, strict=True)
    return torch.cat(z), torch.cat(pos), batch.long()


def trained_a_little(model: Cormorant) -> Cormorant:
    """A few steps of Adam on random numbers."""
    z, pos, batch = molecules_of(6, 5, 7, seed=9)
    target = torch.tensor([[1.0], [-1.0], [0.5]], dtype=model.dtype)
    adam = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(5):
        loss = (model(z, pos.to(model.dtype), batch) - target).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    return model.requires_grad_(False)


@pytest.fixture(scope="session")
def network() -> Callable[..., Cormorant]:
    """Return a maker of networks by name; trained weights on request."""

    def make(
        name: str,
        dtype: torch.dtype = torch.float64,
        *,
        trained: bool = False,
        **options: Any,
    ) -> Cormorant:
        kind, arguments = KINDS[name]
        torch.manual_seed(1)
        model = kind(**{**arguments, **options}).to(dtype).eval()
        return trained_a_little(model) if trained else model.requires_grad_(False)

    return make


@pytest.fixture(params=list(KINDS))
def name(request: pytest.FixtureRequest) -> str:
    """Return the name of a network."""
    return str(request.param)


@pytest.fixture(scope="session")
def molecules() -> Callable[..., Batch]:
    """Return a maker of batches: atomic numbers, positions, molecule of each atom."""
    return molecules_of
