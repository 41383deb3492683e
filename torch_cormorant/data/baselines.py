"""What a model has to beat: the mean, and a line through the composition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from torch_cormorant.errors import ShapeError, SpeciesError

__all__ = [
    "CompositionBaseline",
    "MeanBaseline",
    "element_counts",
    "independent_compositions",
    "mean_absolute_error",
]


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


def mean_absolute_error(predicted: Tensor, values: Tensor) -> float:
    """Mean of ``|predicted - values|``, in their unit.

    Args:
        predicted: Predictions.
        values: True values, of the same shape.

    Returns:
        The error.

    Raises:
        ShapeError: The shapes differ.
    """
    if predicted.shape != values.shape:
        raise ShapeError(
            f"predicted: shape {tuple(predicted.shape)}, expected that of values, "
            f"{tuple(values.shape)}"
        )
    return float((predicted - values).abs().mean())


@dataclass(frozen=True)
class MeanBaseline:
    """Predicts the mean of the training values for every molecule.

    Args:
        mean: The mean ``[T]``.

    Example:
        >>> import torch
        >>> MeanBaseline.fit(torch.tensor([[1.0], [3.0]])).predict(2)
        tensor([[2.],
                [2.]])
    """

    mean: Tensor

    @classmethod
    def fit(cls, values: Tensor) -> MeanBaseline:
        """Fit to training values ``[n, T]``."""
        return cls(values.mean(dim=0))

    def predict(self, count: int) -> Tensor:
        """Predictions ``[count, T]``."""
        return self.mean.expand(count, -1)


@dataclass(frozen=True)
class CompositionBaseline:
    r"""Least squares on the number of atoms of each element, plus a constant.

    .. math:: \hat y = b + \sum_e n_e w_e

    Args:
        weights: ``[S + 1, T]``; the last row is the constant.

    Example:
        >>> import torch
        >>> counts = torch.tensor([[1.0], [2.0], [4.0]], dtype=torch.float64)
        >>> fit = CompositionBaseline.fit(counts, 3 * counts + 1)
        >>> round(fit.predict(torch.tensor([[10.0]], dtype=torch.float64)).item(), 6)
        31.0
    """

    weights: Tensor

    @classmethod
    def fit(
        cls, counts: Tensor, values: Tensor, *, constant: bool = True
    ) -> CompositionBaseline:
        """Fit to element counts ``[n, S]`` and values ``[n, T]``.

        Of all solutions the one of least norm is taken, so elements that always
        occur together, or never, do no harm. ``constant=False`` holds the constant at
        zero, as the energy of a potential must be a sum over atoms.

        Raises:
            ShapeError: Different numbers of molecules.
        """
        if counts.ndim != 2 or values.ndim != 2 or len(counts) != len(values):
            raise ShapeError(
                f"counts, values: shapes {tuple(counts.shape)} and "
                f"{tuple(values.shape)}, expected [n, S] and [n, T]"
            )
        known = _with_constant(counts) if constant else counts.double()
        weights = torch.linalg.lstsq(known, values.double(), driver="gelsd").solution
        if not constant:
            weights = torch.cat([weights, weights.new_zeros(1, weights.shape[1])])
        return cls(weights)

    def predict(self, counts: Tensor) -> Tensor:
        """Predictions ``[n, T]`` for element counts ``[n, S]``."""
        return _with_constant(counts) @ self.weights


def _with_constant(counts: Tensor) -> Tensor:
    ones = torch.ones(len(counts), 1, dtype=torch.float64)
    return torch.cat([counts.double(), ones], dim=1)
