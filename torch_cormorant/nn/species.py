"""Which row of a table an atomic number has."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["SpeciesIndex"]


class SpeciesIndex(nn.Module):
    """Atomic numbers to places in a list of species.

    Args:
        species: Different atomic numbers, in the order of the rows.

    Shapes:
        ``[N]`` to ``[N]``; numbers that are not among the species get any row.

    Example:
        >>> import torch
        >>> SpeciesIndex([6, 1, 8])(torch.tensor([1, 8, 6]))
        tensor([1, 2, 0])
    """

    rows: Tensor

    def __init__(self, species: Sequence[int]) -> None:
        super().__init__()
        self.species = tuple(species)
        rows = torch.zeros(max(self.species, default=0) + 1, dtype=torch.int64)
        rows[list(self.species)] = torch.arange(len(self.species))
        self.register_buffer("rows", rows, persistent=False)

    def forward(self, z: Tensor) -> Tensor:
        """Shapes as above."""
        return self.rows[z]

    def extra_repr(self) -> str:
        """The species."""
        return ", ".join(map(str, self.species))
