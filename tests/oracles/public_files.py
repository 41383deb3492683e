"""Files of numbers of public packages: arrays, settings, weights, and a comparison.

They lie in a folder beside the repository, or in the one that the environment variable
CORMORANT_FAMILY names; every file says what it is by its name and settings.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch_geometric.nn import MessagePassing

from torch_cormorant.ops import use_backend
from torch_cormorant.so3 import to_e3nn

SHARED = Path(__file__).resolve().parents[3] / "shared" / "family"
FOLDER = Path(os.environ.get("CORMORANT_FAMILY", SHARED))
RTOL = 1e-10


def files(*prefixes: str, having: str = "") -> list[Any]:
    """Parameters of a test: files of some kinds, those with a certain array."""
    found = [p for p in sorted(FOLDER.rglob("*.npz")) if p.stem.startswith(prefixes)]
    kept = [path for path in found if not having or having in np.load(path)]
    skip = pytest.mark.skip(reason=f"no files {prefixes} in {FOLDER}")
    return [pytest.param(p, id=p.stem) for p in kept] or [
        pytest.param(None, marks=skip)
    ]


class PublicFile:
    """A file with its weights as leaves, and what was compared with it.

    Attributes:
        dtype: Of the weights. Default None: as in the file.
        zero: Arrays that are nowhere larger are zero but for round-off.
    """

    dtype: torch.dtype | None = None
    zero = 0.0

    def __init__(self, path: Path) -> None:
        with np.load(path) as file:
            self.held = {name: file[name] for name in file.files}
        self.name = path.stem
        self.weights = {
            name[2:]: torch.tensor(value, dtype=self.dtype, requires_grad=True)
            for name, value in self.held.items()
            if name.startswith("w.")
        }
        self.checked: set[str] = set()

    def tensor(self, name: str) -> Tensor:
        return torch.tensor(self.held[name])

    def compare(self, name: str, found: Tensor, irreps: object = None) -> None:
        """Refuse another array; with irreps, one in the layout and axes of e3nn."""
        if irreps is not None:
            found = to_e3nn(found, irreps)
        value, expected = found.detach().numpy(), self.held[name]
        assert value.shape == expected.shape, name
        largest = float(np.abs(expected).max(initial=0.0))
        scale = 1.0 if largest <= self.zero != 0 else largest
        assert float(np.abs(value - expected).max(initial=0.0)) <= RTOL * scale, name
        self.checked.add(name)


class Golden(PublicFile):
    """A network on molecules."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.config = {
            name[4:]: value.tolist()
            for name, value in self.held.items()
            if name.startswith("cfg_")
        }
        if "pos" in self.held:
            self.pos = torch.tensor(self.held["pos"], requires_grad=True)

    def left(self) -> set[str]:
        """Arrays that nothing was compared with."""
        inputs = {"pos", "charges", "batch", "edge_index", "mol_names", "cotangent"}
        rest = self.held.keys() - inputs - self.checked
        return {name for name in rest if not name.startswith(("cfg_", "w.", "grad"))}

    def gradients(self, kind: Any, way: str) -> None:
        """Output, slopes of positions and of all weights.

        Args:
            kind: Class of the network.
            way: A backend; or "messages": edge by edge through ``propagate``.
        """
        network, state = kind.read_original(self.weights, self.config)
        backend = "auto" if way == "messages" else way
        for module in network.modules() if way == "messages" else ():
            if isinstance(module, MessagePassing):
                module.register_message_forward_hook(lambda *_: None)
        z, batch = self.tensor("charges"), self.tensor("batch")
        names = [name for name in self.weights if f"gradw.{name}" in self.held]
        leaves = [self.pos, *(self.weights[name] for name in names)]
        with use_backend(backend):
            out = functional_call(network, state, (z, self.pos, batch))
            loss = (
                (out * self.tensor("cotangent")).sum()
                if "cotangent" in self.held
                else out.sum()
            )
            slopes = torch.autograd.grad(loss, leaves, materialize_grads=True)
        self.compare("out", out.reshape(self.held["out"].shape))
        self.compare("grad_pos", slopes[0])
        for name, slope in zip(names, slopes[1:], strict=True):
            self.compare(f"gradw.{name}", slope)
        assert names

    def returned(self, kind: Any) -> None:
        """Weights go back to where they came from."""
        found = kind.from_original(self.weights, self.config).to_original()
        assert found.keys() == self.weights.keys()
        for name, value in found.items():
            expected = self.weights[name]
            assert value.shape == expected.shape, name
            assert torch.allclose(value, expected, rtol=1e-13, atol=0), name
