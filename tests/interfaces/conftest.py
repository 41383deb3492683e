"""Small potentials with random weights, and structures for them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

from torch_cormorant import Cormorant

sys.path.insert(0, str(Path(__file__).parent))

from structures import liquid, small_potential


@pytest.fixture
def potential() -> Cormorant:
    return small_potential()


@pytest.fixture
def make_liquid() -> Callable[..., Atoms]:
    return liquid


@pytest.fixture
def molecules() -> list[Atoms]:
    """Molecules, a crystal-like cell, a slab: everything that may come together."""
    numbers = np.random.default_rng(3)
    water = Atoms("OH2", [(0, 0, 0), (0, 0, 0.96), (0, 0.93, -0.24)])
    alone = Atoms("O", [(5.0, 5.0, 5.0)])
    slab = liquid(6, seed=4)
    slab.pbc = (True, False, True)
    skewed = liquid(5, seed=5)
    skewed.set_cell(skewed.cell.array + numbers.normal(size=(3, 3)), scale_atoms=False)
    return [water, alone, liquid(8), slab, skewed]


@pytest.fixture
def double() -> torch.dtype:
    return torch.float64
