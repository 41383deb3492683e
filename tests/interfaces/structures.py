"""A tiny potential and a small periodic box, also for processes of their own."""

from __future__ import annotations

import numpy as np
import torch
from ase import Atoms

from torch_cormorant import Cormorant


def small_potential(
    cutoff: float = 3.0, num_levels: int = 2, kind: str = "linear"
) -> Cormorant:
    """Hydrogen and oxygen, float64, random weights: forces of 0.001 to 1 eV/A."""
    torch.manual_seed(7)
    model = Cormorant(
        species=[1, 8],
        channels=3,
        num_levels=num_levels,
        lmax=1,
        cutoff=cutoff,
        input=kind,
        head="extensive",
        hidden=8,
        num_basis=4,
        paths="even",
        norm="norm",
        activation="silu",
    )
    model.head.rescale(10.0)
    return model.double().eval()


def liquid(count: int = 8, seed: int = 0, spread: float = 2.0) -> Atoms:
    """Atoms on a disturbed lattice in a periodic box, a third of them oxygen."""
    random = np.random.default_rng(seed)
    side = int(np.ceil(count ** (1 / 3)))
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3), axis=-1).reshape(-1, 3)
    pos = spread * grid[:count] + 0.25 * random.normal(size=(count, 3))
    numbers = np.where(np.arange(count) % 3 == 0, 8, 1)
    return Atoms(numbers, pos, cell=np.eye(3) * spread * side, pbc=True)
