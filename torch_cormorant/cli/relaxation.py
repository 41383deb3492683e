"""Geometries of lowest energy, for ``cormorant predict --relax``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch_geometric.data import Data

from torch_cormorant.errors import BackendError
from torch_cormorant.models.loading import Loaded

__all__ = ["relaxed"]

STEPS = 1000


def relaxed(
    model: Loaded, frames: Sequence[Data], names: Sequence[str], largest: float
) -> list[Data]:
    """Structures moved downhill until no force is larger, cells kept.

    Args:
        model: A potential, or an ensemble.
        frames: The structures; they are left as they are.
        names: What each is called.
        largest: Force in eV/Angstrom.

    Raises:
        BackendError: ASE is missing.
    """
    try:
        from ase import Atoms
        from ase.optimize import BFGS

        from torch_cormorant.interfaces.ase import CormorantCalculator
    except ImportError:
        raise BackendError(
            'relaxing needs ASE: pip install "torch-cormorant[ase]"'
        ) from None
    calculator = CormorantCalculator(model)
    found = []
    for frame, name in zip(frames, names, strict=True):
        atoms = Atoms(frame.z.numpy(), frame.pos.numpy(), calculator=calculator)
        if frame.get("cell") is not None:
            atoms.cell[:] = frame.cell.view(3, 3).numpy()
            atoms.pbc = True if frame.get("pbc") is None else frame.pbc.view(3).numpy()
        with BFGS(atoms, logfile=None) as optimiser:
            done = optimiser.run(fmax=largest, steps=STEPS)
        if not done:
            print(f"{name}: not yet relaxed after {STEPS} steps")
        moved = frame.clone()
        moved.pos = torch.from_numpy(atoms.positions.copy())
        found.append(moved)
    return found
