"""Fixtures of the whole suite."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from torch import Tensor

with warnings.catch_warnings():
    # torch-geometric uses TorchScript in its own modules, which newer releases of torch
    # report once, while torch_geometric is imported. Only that import is excused.
    warnings.filterwarnings("ignore", "`torch.jit.script", DeprecationWarning)
    import torch_geometric.nn  # noqa: F401

from torch_cormorant.irreps import Irreps
from torch_cormorant.so3 import flat_blocks, wigner_D

# No time limit for one example: the first one imports and compiles things, and machines
# differ. The same examples in every run, so that a failure can be repeated.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of reference data beside the repository, or skip."""
    if not SHARED.is_dir():
        pytest.skip("no folder ../shared with reference data beside the repository")
    return SHARED


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Start every test from the same random state."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def turned() -> Callable[[Tensor, object, Tensor], Tensor]:
    """Return what rotates rows of irreps; improper matrices ask for parities."""

    def turn(x: Tensor, irreps: object, R: Tensor) -> Tensor:
        improper = bool(torch.det(R) < 0)
        D = wigner_D(-R if improper else R, Irreps(irreps).lmax)
        parts = []
        for part, (_, ir) in zip(flat_blocks(x, irreps), Irreps(irreps), strict=True):
            assert ir.p or not improper, "without parity there is no inversion"
            own = D[ir.l**2 : (ir.l + 1) ** 2, ir.l**2 : (ir.l + 1) ** 2]
            parts.append(((ir.p if improper else 1) * own @ part).flatten(-2))
        return torch.cat(parts, dim=-1)

    return turn
