"""What the comparisons with the published code share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from torch_cormorant import CormorantMD17, CormorantQM9
from torch_cormorant.ops import PathTable
from torch_cormorant.so3 import from_complex_basis, to_complex_basis

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]
RTOL = 1e-10
"""The fixtures themselves are reproduced to 5e-14 by an independent program."""


def settings_of(case: Arrays) -> dict[str, Any]:
    """The configuration as `from_original` takes it."""
    return {
        key[4:]: value.item() if value.ndim == 0 else value.tolist()
        for key, value in case.items()
        if key.startswith("cfg_")
    }


@dataclass
class Network:
    """A network fixture with its weights, factors multiplied in."""

    name: str
    case: Arrays
    weights: Arrays

    @property
    def config(self) -> dict[str, Any]:
        return settings_of(self.case)

    def model(self) -> CormorantQM9 | CormorantMD17:
        kinds = {"qm9": CormorantQM9, "md17": CormorantMD17}
        return kinds[self.config["kind"]].from_original(self.weights, self.config)

    def tensor(self, name: str) -> Tensor:
        return torch.tensor(self.case[name])


def read_network(folder: Path, name: str) -> Network:
    case = dict(np.load(folder / f"{name}.npz"))
    file = "_".join(name.split("_")[:2]) + "_weights.npz"
    weights = {}
    for key, array in np.load(folder / file).items():
        kind = np.complex128 if np.iscomplexobj(array) else np.float64
        weights[key] = array.astype(kind)
    for key, factor in case.items():
        if key.startswith("scale_"):
            level, l = key.removeprefix("scale_").rsplit("_", 1)
            weights[f"{level}_weight_{l}"] *= float(factor)
    return Network(name, case, weights)


@pytest.fixture(scope="session")
def parity(shared: Path) -> Path:
    """Return the folder of fixtures of the published code, or skip."""
    folder = shared / "parity"
    if not folder.is_dir():
        pytest.skip("no fixtures of the published code in ../shared/parity")
    return folder


@pytest.fixture(scope="session")
def read(parity: Path) -> Callable[[str], Arrays]:
    """Return a reader of one fixture by name."""
    return lambda name: dict(np.load(parity / f"{name}.npz"))


@pytest.fixture(scope="session")
def network(parity: Path) -> Callable[[str], Network]:
    """Return a reader of one network fixture by name."""
    return lambda name: read_network(parity, name)


@pytest.fixture(scope="session")
def close() -> Callable[..., None]:
    """Return a comparison: largest error over largest value."""

    def check(
        found: Tensor | Array, expected: Tensor | Array, rtol: float = RTOL
    ) -> None:
        found = torch.as_tensor(found).detach().resolve_conj()
        expected = torch.as_tensor(expected).detach()
        assert found.shape == expected.shape
        assert not found.is_floating_point() or found.dtype == torch.float64
        scale = float(expected.abs().max()) if expected.numel() else 0.0
        error = float((found - expected).abs().max()) if expected.numel() else 0.0
        assert error <= rtol * scale, f"relative error {error / max(scale, 1e-300):.1e}"

    return check


@pytest.fixture(scope="session")
def theirs() -> Callable[..., list[Tensor]]:
    """Return a map of products ``[N, 2l+1, paths, C]`` to the complex basis.

    One phase for each path: i for odd ``l1 + l2 + l``.
    """

    def convert(parts: tuple[Tensor, ...], table: PathTable) -> list[Tensor]:
        result = []
        for l, part in enumerate(parts):
            odd = [sum(path) % 2 for path in table.paths if path[2] == l]
            phase = torch.tensor([1j if o else 1.0 for o in odd], dtype=part.dtype)
            turned = (part * phase[:, None]).flatten(2)
            planes = torch.stack([turned.real, turned.imag], dim=2)
            before = planes.new_zeros(planes.shape[0], l * l, *planes.shape[2:])
            result.append(to_complex_basis(torch.cat([before, planes], dim=1))[l])
        return result

    return convert


@pytest.fixture(scope="session")
def ours() -> Callable[[Arrays, str], Tensor]:
    """Return a reader of ``{name}_l0``, ``{name}_l1``, ... as one of our tensors."""

    def convert(arrays: Arrays, name: str) -> Tensor:
        parts, l = [], 0
        while f"{name}_l{l}" in arrays:
            parts.append(torch.tensor(arrays[f"{name}_l{l}"]))
            l += 1
        return from_complex_basis(parts)

    return convert
