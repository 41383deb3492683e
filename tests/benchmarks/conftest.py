"""Data that several comparisons are tested on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def qm9(tmp_path: Path) -> Path:
    """Thirty invented molecules in QM9's form; alpha is a sum over atoms."""
    random = np.random.default_rng(0)
    sizes = random.integers(3, 7, 30)
    z = random.choice([1, 6, 8], sizes.sum())
    offset = np.concatenate([[0], sizes.cumsum()])
    alpha = np.add.reduceat(np.where(z == 1, 1.0, 6.0), offset[:-1])
    path = tmp_path / "qm9.npz"
    np.savez(
        path,
        index=np.arange(1, 31),
        offset=offset,
        z=z,
        pos=3.0 * random.normal(size=(len(z), 3)),
        y=np.stack([alpha, 0.1 + random.random(30)], axis=1),
        y_names=["alpha", "mu"],
        y_units=["bohr^3", "Debye"],
        smiles=[""] * 30,
        g4mp2_atom=np.where(np.arange(30) % 3, -alpha, np.nan),
    )
    return path
