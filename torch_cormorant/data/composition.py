"""How often each element occurs in each structure."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from torch_cormorant.errors import SpeciesError

__all__ = ["element_counts", "independent_compositions"]


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
    column = torch.searchsorted(known, z.long()).clamp(max=len(known) - 1)
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


def independent_compositions(
    counts: Tensor, species: Sequence[int]
) -> list[dict[str, int]]:
    """A few compositions of which all others are sums or differences.

    Args:
        counts: How often each element occurs in each structure ``[n, S]``.
        species: The elements ``[S]``.

    Returns:
        At most ``S`` compositions, the smallest first, counts by atomic number as text
        (ready for JSON).

    Example:
        >>> import torch
        >>> independent_compositions(torch.tensor([[2, 1], [4, 2], [2, 2]]), [1, 8])
        [{'1': 2, '8': 1}, {'1': 2, '8': 2}]
    """
    rows = torch.unique(counts.double(), dim=0)
    rows = rows[rows.sum(1).argsort(stable=True)]
    kept = rows[:0]
    for row in rows:
        longer = torch.cat([kept, row[None]])
        if int(torch.linalg.matrix_rank(longer)) == len(longer):
            kept = longer
        if len(kept) == len(species):
            break
    return [
        {str(z): int(n) for z, n in zip(species, row, strict=True) if n}
        for row in kept.tolist()
    ]
