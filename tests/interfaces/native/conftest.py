"""Potentials with weights as if trained, and every instruction set of this machine."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from torch_cormorant import Cormorant
from torch_cormorant.interfaces.native import NativePotential
from torch_cormorant.models import CormorantPotential
from torch_cormorant.models.energy import Result
from torch_cormorant.ops import cpu_kernel

SPECIES = (1, 6, 8)
TOLERANCE = {torch.float64: (1e-12, 1e-10), torch.float32: (1e-6, 1e-5)}
"""Of energies and forces, beside the largest."""


def potential(**options: Any) -> CormorantPotential:
    """A potential in float64 with nothing at its start value."""
    torch.manual_seed(0)
    model = Cormorant.potential(SPECIES, **options).double().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
            if name.startswith("norms") or name.endswith("cutoff.width"):
                weight.mul_(1 + 0.2 * noise)
            elif name.startswith("gates") or name.endswith("cutoff.radius"):
                weight.add_(0.3 * noise)
    return model.set_units({1: -1.0, 6: -2.5, 8: -3.0}, 1.7)


def cluster(atoms: int, seed: int = 0, spread: float = 1.8) -> tuple[Any, Any]:
    """Numbers and positions of atoms that are not too close to each other."""
    random = np.random.default_rng(seed)
    side = int(np.ceil(max(atoms, 1) ** (1 / 3)))
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3), axis=-1).reshape(-1, 3)
    pos = spread * grid[:atoms] + random.normal(scale=0.2, size=(atoms, 3))
    return random.choice(SPECIES, size=atoms), pos


def expected(model: Any, z: Any, pos: Any, cell: Any = None, **options: Any) -> Result:
    """What the network itself says in double precision."""
    found: Result = (
        copy.deepcopy(model)
        .double()
        .evaluate(
            torch.as_tensor(z),
            torch.as_tensor(pos),
            cell=None if cell is None else torch.as_tensor(cell),
            **options,
        )
    )
    return found


def assert_equal(model: Any, found: Result, wanted: Result, z: Any) -> None:
    """Compare the energy beside the sum of what the network gives atoms.

    Forces are compared beside the largest one. The network's own single precision is
    as far off, or farther.
    """
    energy, force = TOLERANCE[model.dtype]
    references = model.info.normalisation.atoms(torch.as_tensor(z))[:, 0]
    assert found.energies is not None
    assert wanted.energies is not None
    sizes = (wanted.energies - references).abs()
    assert (found.energies - wanted.energies).abs().max() <= 3 * energy * sizes.max()
    assert (found.energy - wanted.energy).abs().max() <= energy * sizes.sum()
    for name in ("forces", "stress"):
        ours, theirs = getattr(found, name), getattr(wanted, name)
        assert (ours is None) == (theirs is None)
        if ours is not None:
            error = (ours - theirs).abs().max()
            assert error <= force * theirs.abs().max().clamp_min(1e-3), name


@pytest.fixture
def agree() -> Callable[..., Result]:
    """Check a native result against the network's; returns it."""

    def check(model: Any, z: Any, pos: Any, cell: Any = None, **options: Any) -> Result:
        found = NativePotential(model).evaluate(z, pos, cell, **options)
        assert_equal(model, found, expected(model, z, pos, cell, **options), z)
        return found

    return check


@pytest.fixture
def make() -> Callable[..., CormorantPotential]:
    return potential


@pytest.fixture
def atoms() -> Callable[..., tuple[Any, Any]]:
    return cluster


@pytest.fixture(params=["avx512", "avx2", "baseline"])
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run a test with one instruction set."""
    library = cpu_kernel.library()
    if not library.cormorant_use(request.param.encode()):
        pytest.skip(f"this processor has no {request.param}")
    yield request.param
    library.cormorant_use(b"")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without a compiler there is nothing to test here."""
    state = cpu_kernel.problem()
    for item in items if state else []:
        if "interfaces/native" in item.path.as_posix():
            item.add_marker(pytest.mark.skip(reason=f"the CPU kernel is {state}"))
