"""Fixtures of the whole suite."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import settings

with warnings.catch_warnings():
    # torch-geometric uses TorchScript in its own modules, which newer releases of torch
    # report once, while torch_geometric is imported. Only that import is excused.
    warnings.filterwarnings("ignore", "`torch.jit.script", DeprecationWarning)
    import torch_geometric.nn  # noqa: F401

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
