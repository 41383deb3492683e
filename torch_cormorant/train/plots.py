"""Learning curve and parity plot as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogFormatter, MaxNLocator
from torch import Tensor

from torch_cormorant.data import Target, mean_absolute_error
from torch_cormorant.train.callbacks import EpochRow
from torch_cormorant.train.files import write_atomically

__all__ = ["plot_learning_curve", "plot_parity"]

_BLUE, _ORANGE, _GREY = "#1f5fa8", "#d9772b", "#777777"
_FAR = 10.0
"""Values as many times further from zero than from each other are shifted."""


class PlainLogFormatter(LogFormatter):
    """Chooses which minor ticks get numbers, and writes 0.6 in place of 6e-01."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """The text of a tick, or nothing."""
        return f"{x:g}" if super().__call__(x, pos) else ""


def plot_learning_curve(
    path: Path,
    rows: Sequence[EpochRow],
    target: Target,
    *,
    title: str,
    levels: Sequence[tuple[str, float]] = (),
) -> None:
    """Training and validation error over the epochs, on a logarithmic axis.

    Args:
        path: PNG file to write.
        rows: The epochs.
        target: Tells the unit.
        title: Title of the figure.
        levels: Names and errors, in the unit of the data, of horizontal lines; on the
            validation molecules, as the curve beside them.
    """
    figure, axes = _figure(title)
    draw_learning_curve(axes, rows, target, levels)
    _save(figure, path)


def draw_learning_curve(
    axes: Axes,
    rows: Sequence[EpochRow],
    target: Target,
    levels: Sequence[tuple[str, float]] = (),
) -> None:
    """The curves of :func:`plot_learning_curve`, into axes.

    Args:
        axes: Where to.
        rows: The epochs.
        target: Tells the unit.
        levels: Names and errors of horizontal lines.
    """
    epochs = [row["epoch"] for row in rows]
    factor = target.shown_factor
    # A single epoch would be invisible as a line.
    marker = "o" if len(rows) < 3 else ""
    train = [row["train_mae"] * factor for row in rows]
    valid = [row["valid_mae"] * factor for row in rows]
    axes.plot(epochs, train, color=_BLUE, marker=marker, label="training")
    axes.plot(epochs, valid, color=_ORANGE, marker=marker, label="validation")
    for (name, level), style in zip(levels, ("--", ":", "-."), strict=False):
        axes.axhline(
            level * factor, color=_GREY, linestyle=style, linewidth=1.2, label=name
        )
    set_epoch_axes(axes, epochs)
    axes.set_ylabel(f"MAE of {target.name} [{target.shown_unit}], logarithmic")
    axes.grid(which="both", color="#e4e4e4", linewidth=0.6)
    axes.legend(loc="best", edgecolor="none", framealpha=0.9, fontsize=9)


def set_epoch_axes(axes: Axes, epochs: Sequence[int]) -> None:
    """Whole epochs to the right, upwards a logarithmic axis with plain numbers.

    Args:
        axes: With the curves drawn.
        epochs: Numbers of the epochs.
    """
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    # Where the axis spans little, decades alone would leave it without numbers.
    axes.yaxis.set_minor_formatter(PlainLogFormatter(minor_thresholds=(1.5, 0.6)))
    # Without min_n_ticks a single epoch is divided into fractions.
    locator = MaxNLocator(integer=True, steps=[1, 2, 5, 10], min_n_ticks=1)
    axes.xaxis.set_major_locator(locator)
    if len(epochs) == 1:
        axes.set_xlim(epochs[0] - 1, epochs[0] + 1)
    axes.set_xlabel("epoch")


def plot_parity(
    path: Path,
    values: Tensor,
    predicted: Tensor,
    target: Target,
    *,
    title: str,
    what: str = "test molecules",
) -> None:
    """Predicted against true values of the test molecules.

    Args:
        path: PNG file to write.
        values: True values ``[n, 1]``.
        predicted: Predictions ``[n, 1]``.
        target: Tells the unit.
        title: Title of the figure.
        what: What the points are.
    """
    error = target.shown(mean_absolute_error(predicted, values))
    title = f"{title}\n{len(values)} {what}, MAE {error}"
    figure, axes = _figure(title, width=4.4)
    origin = origin_of(values)
    true, ours = ((part.flatten() - origin).tolist() for part in (values, predicted))
    low, high = min(*true, *ours), max(*true, *ours)
    margin = 0.04 * (high - low) or 1.0
    limits = (low - margin, high + margin)
    axes.plot(limits, limits, color=_GREY, linewidth=1)
    many = len(true) > 1000
    axes.scatter(
        true,
        ours,
        s=6 if many else 22,
        alpha=0.3 if many else 0.8,
        color=_BLUE,
        edgecolors="none",
    )
    axes.set_xlim(limits)
    axes.set_ylim(limits)
    axes.set_aspect("equal")
    name = axis_text(target.name, origin)
    axes.set_xlabel(f"{name}, computed [{target.unit}]")
    axes.set_ylabel(f"{name}, predicted [{target.unit}]")
    axes.grid(color="#dddddd", linewidth=0.6)
    _save(figure, path)


def origin_of(truth: Tensor) -> float:
    """What to subtract from values for a plot: 0 unless they are far from it.

    Total energies are long numbers that differ in their last digits.

    Args:
        truth: True values.

    Example:
        >>> import torch
        >>> origin_of(torch.tensor([-309.25, -309.75])), origin_of(torch.tensor([1.0]))
        (-309.5, 0.0)
    """
    low, high = float(truth.min()), float(truth.max())
    far = min(abs(low), abs(high)) > _FAR * (high - low) and high > low
    return float(f"{(low + high) / 2:.7g}") if far else 0.0


def axis_text(name: str, origin: float) -> str:
    """What an axis shows when an origin is subtracted.

    Args:
        name: Of the values.
        origin: As :func:`origin_of` finds it.
    """
    return f"{name} {'+' if origin < 0 else '-'} {abs(origin):.7g}" if origin else name


def _figure(title: str, width: float = 5.6) -> tuple[Figure, Axes]:
    # Figure and canvas directly: pyplot would choose a backend for the whole process.
    figure = Figure(figsize=(width, 4.4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=10)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _save(figure: Figure, path: Path) -> None:
    write_atomically(path, lambda stream: figure.savefig(stream, format="png"))
