"""Several networks that differ in their seed: does their spread tell the error?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from torch_cormorant.errors import ShapeError
from torch_cormorant.train.files import write_atomically
from torch_cormorant.train.record import rank_correlation

__all__ = ["EnsembleCalibration", "calibration", "plot_calibration"]


@dataclass(frozen=True)
class EnsembleCalibration:
    """Spread and error of an ensemble, in groups of rising spread.

    Args:
        spread: Root mean square of the predicted deviation in each group.
        error: Root mean square of the true error of the mean in each group.
        mae: Mean absolute error of the mean of the networks.
        correlation: Rank correlation of spread and absolute error, one per molecule.
    """

    spread: tuple[float, ...]
    error: tuple[float, ...]
    mae: float
    correlation: float

    def record(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {
            "mae_of_mean": self.mae,
            "rank_correlation": self.correlation,
            "spread_rms": list(self.spread),
            "error_rms": list(self.error),
        }


def calibration(
    predicted: Tensor, values: Tensor, groups: int = 8, factor: float = 1.0
) -> EnsembleCalibration:
    """Compare the spread of an ensemble with its errors.

    Args:
        predicted: Predictions of K networks ``[K, n, T]``.
        values: True values ``[n, T]``.
        groups: Number of groups that the molecules are sorted into by their spread.
        factor: What the spread is multiplied by. Default 1.

    Returns:
        What was found; spread equal to error in every group is perfect.

    Raises:
        ShapeError: Fewer than two networks, or the shapes do not fit.

    Example:
        >>> import torch
        >>> values = torch.zeros(100, 1)
        >>> noise = torch.linspace(0.1, 1, 100)[None, :, None]
        >>> found = calibration(noise * torch.tensor([[[-1.0]], [[2.0]]]), values)
        >>> round(found.correlation, 3)
        1.0
    """
    if predicted.ndim != 3 or len(predicted) < 2 or predicted.shape[1:] != values.shape:
        raise ShapeError(
            f"predicted, values: shapes {tuple(predicted.shape)} and "
            f"{tuple(values.shape)}, expected [K, n, T] with K of at least 2, and "
            "[n, T]"
        )
    spread = predicted.double().std(dim=0).flatten() * factor
    error = (predicted.double().mean(dim=0) - values).abs().flatten()
    order = spread.argsort(stable=True)
    parts = order.tensor_split(min(groups, len(order)))
    return EnsembleCalibration(
        tuple(_rms(spread[part]) for part in parts),
        tuple(_rms(error[part]) for part in parts),
        error.mean().item(),
        rank_correlation(spread, error),
    )


def _rms(numbers: Tensor) -> float:
    return numbers.square().mean().sqrt().item()


@rc_context({"text.parse_math": False})  # units are the user's own text
def plot_calibration(path: Path, found: EnsembleCalibration, unit: str = "") -> None:
    """Error against spread, group by group.

    Args:
        path: PNG file to write.
        found: What :func:`calibration` found.
        unit: Unit of both.
    """
    figure = Figure(figsize=(4.4, 4.4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    top = max(*found.spread, *found.error) * 1.05 or 1.0
    axes.plot((0, top), (0, top), color="#777777", linewidth=1, label="perfect")
    axes.plot(found.spread, found.error, "o-", color="#1f5fa8", label="ensemble")
    suffix = f" [{unit}]" if unit else ""
    axes.set_xlabel(f"spread of the networks{suffix}")
    axes.set_ylabel(f"error of their mean{suffix}")
    title = f"calibration, rank correlation {found.correlation:.2f}"
    axes.set_title(title, fontsize=10)
    axes.set_xlim(0, top)
    axes.set_ylim(0, top)
    axes.legend(edgecolor="none", fontsize=9)
    write_atomically(path, lambda stream: figure.savefig(stream, format="png"))
