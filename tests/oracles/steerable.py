"""Files of numbers of steerable networks, of which every one says what it is."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from torch_cormorant.so3 import to_e3nn

SHARED = Path(__file__).resolve().parents[3] / "shared" / "family"
FOLDER = Path(os.environ.get("CORMORANT_FAMILY", SHARED))
RTOL = 1e-10


def cases(*prefixes: str) -> list[Any]:
    """Parameters of a fixture: the files, or one that is skipped."""
    found = [p for p in sorted(FOLDER.rglob("*.npz")) if p.stem.startswith(prefixes)]
    skip = pytest.mark.skip(reason=f"no files {prefixes} in {FOLDER}")
    return [pytest.param(path, id=path.stem) for path in found] or [
        pytest.param(None, marks=skip)
    ]


class Held:
    """A file: settings, weights as leaves in float64, inputs, and what came out."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as file:
            self.held = {name: file[name] for name in file.files}
        self.weights = {
            name[2:]: torch.tensor(value, dtype=torch.float64, requires_grad=True)
            for name, value in self.held.items()
            if name.startswith("w.")
        }
        self.batch, self.index = self.tensor("batch"), self.tensor("edge_index")
        self.leaves = {
            name: self.tensor(name).requires_grad_()
            for name in ("pos", "vel")
            if name in self.held
        }
        self.checked: set[str] = set()

    def cfg(self, name: str, default: Any = None) -> Any:
        """A setting as a plain value."""
        value = self.held.get(f"cfg_{name}")
        return default if value is None else value.tolist()

    def tensor(self, name: str) -> Tensor:
        return torch.tensor(self.held[name])

    def compare(self, name: str, found: Tensor, irreps: object = None) -> None:
        """Refuse another array; rows of irreps in e3nn's layout first."""
        if irreps is not None:
            found = to_e3nn(found, irreps)
        value, expected = found.detach().numpy(), self.held[name]
        assert value.shape == expected.shape, name
        largest = float(np.abs(expected).max(initial=0.0))
        scale = largest if largest > 1e-13 else 1.0  # round-off, where it must be 0
        assert float(np.abs(value - expected).max(initial=0.0)) <= RTOL * scale, name
        self.checked.add(name)

    def compare_gradients(self, out: Tensor) -> None:
        """Those of positions, velocities and all weights that are there."""
        loss = (out * self.tensor("cotangent")).sum()
        wanted = {f"grad_{name}": leaf for name, leaf in self.leaves.items()}
        wanted |= {f"gradw.{name}": leaf for name, leaf in self.weights.items()}
        wanted = {name: leaf for name, leaf in wanted.items() if name in self.held}
        found = torch.autograd.grad(loss, list(wanted.values()), materialize_grads=True)
        for name, value in zip(wanted, found, strict=True):
            self.compare(name, value)

    def left(self) -> set[str]:
        """Arrays that nobody compared."""
        inputs = {"pos", "vel", "charges", "batch", "edge_index", "mol_names"}
        own = {"cotangent", "edge_w"}
        others = ("cfg_", "w.")
        names = {name for name in self.held if not name.startswith(others)}
        return names - inputs - own - self.checked


def listen(network: nn.Module) -> dict[str, list[Any]]:
    """What every part of a network gives, and ``name<`` what it is given first."""
    seen: dict[str, list[Any]] = defaultdict(list)

    def keep(name: str) -> Any:
        def hook(module: nn.Module, given: Any, out: Any) -> None:
            del module
            seen[name].append(out)
            seen[f"{name}<"].append(given[0] if given else None)

        return hook

    for name, module in network.named_modules():
        module.register_forward_hook(keep(name))
    return seen
