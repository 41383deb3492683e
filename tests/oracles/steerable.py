"""Files of numbers of steerable networks, of which every one says what it is."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.oracles.public_files import PublicFile


class Held(PublicFile):
    """One of molecules or of particles with velocities, weights in float64."""

    dtype = torch.float64
    zero = 1e-13

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.batch, self.index = self.tensor("batch"), self.tensor("edge_index")
        self.leaves = {
            name: self.tensor(name).requires_grad_()
            for name in ("pos", "vel")
            if name in self.held
        }

    def cfg(self, name: str, default: Any = None) -> Any:
        """A setting as a plain value."""
        value = self.held.get(f"cfg_{name}")
        return default if value is None else value.tolist()

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
