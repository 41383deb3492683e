"""Whether positions look like Angstrom."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from torch_cormorant.errors import CormorantWarning

__all__ = ["neighbour_distance", "warn_if_not_angstrom"]

SUSPECT = (0.03, 0.3)
"""Median distance to the nearest atom between which positions are taken for nm.

The shortest bond, of two hydrogens, is 0.74 Angstrom. In nm, bonds are 0.07 to 0.3.
Below, atoms coincide, which has an error of its own.
"""
FEWEST = 3
"""Two atoms may be pushed together on purpose, to see the repulsion."""
SAMPLES = 64
"""So many atoms tell the median; all pairs of a large system would take long."""


def neighbour_distance(pos: Tensor) -> float:
    """Median distance of atoms to their nearest one, in the unit of the positions.

    Args:
        pos: Positions of one structure ``[N, 3]``.

    Returns:
        The median over evenly chosen atoms, or infinity for a single atom. Periodic
        images do not count.

    Example:
        >>> import torch
        >>> neighbour_distance(torch.tensor([[0.0, 0, 0], [0, 0, 1], [0, 0, 3]]))
        1.0
    """
    count = pos.shape[0]
    if count < 2:
        return float("inf")
    pos = pos.detach().double()
    samples = min(count, SAMPLES)
    nearest = []
    for sample in range(samples):  # one by one: a large system fits into memory
        atom = sample * count // samples
        squared = (pos - pos[atom]).square_().sum(1)
        squared[atom] = torch.inf
        nearest.append(squared.amin())
    return float(torch.stack(nearest).sqrt().median())


def warn_if_not_angstrom(pos: Tensor, where: str) -> bool:
    """Warn of positions that look like nm.

    Args:
        pos: Finite positions of one structure ``[N, 3]``.
        where: Name of the structure, the beginning of the message.

    Returns:
        Whether there was a warning.

    Example:
        >>> import torch
        >>> warn_if_not_angstrom(torch.eye(3), "water")
        False
    """
    if pos.shape[0] < FEWEST:
        return False
    nearest = neighbour_distance(pos)
    if not SUSPECT[0] <= nearest < SUSPECT[1]:
        return False
    text = (
        f"{where}: most atoms are about {nearest:.2g} Angstrom from their nearest one, "
        "shorter than any bond: are the positions in nm? then multiply them by 10"
    )
    warnings.warn(text, CormorantWarning, stacklevel=2)
    return True
