"""How often each element occurs in each structure."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from torch_cormorant.errors import SpeciesError

__all__ = ["element_counts"]


def element_counts(z: Tensor, offset: Tensor, species: Sequence[int]) -> Tensor:
    """Count the atoms of each element in each structure.

    Args:
        z: Atomic numbers of all structures, one after the other ``[N]``.
        offset: Structure ``k`` owns atoms ``offset[k]:offset[k+1]``; ``[n + 1]``.
        species: The elements to count, ascending; ``S`` of them.

    Returns:
        The counts ``[n, S]`` in float64.

    Raises:
        SpeciesError: An atom is of none of them.
    """
    known = torch.tensor(list(species))
    column = torch.searchsorted(known, z).clamp(max=len(known) - 1)
    wrong = known[column] != z
    if wrong.any():
        raise SpeciesError(
            f"z: atomic number {int(z[wrong][0])} is not among the elements "
            f"{tuple(species)}"
        )
    molecule = torch.repeat_interleave(
        torch.arange(len(offset) - 1), offset[1:] - offset[:-1]
    )
    counts = torch.zeros(len(offset) - 1, len(known), dtype=torch.float64)
    ones = torch.ones(len(column), dtype=torch.float64)
    return counts.index_put_((molecule, column), ones, accumulate=True)
