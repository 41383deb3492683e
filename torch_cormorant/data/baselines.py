"""What a model has to beat: the mean, and a line through the composition."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from torch_cormorant.errors import ShapeError

__all__ = ["CompositionBaseline", "MeanBaseline", "mean_absolute_error"]


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
