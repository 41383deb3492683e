"""Figures and colours that all pictures share."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, GREY = "#2c6fad", "#d9722b", "#4c9a5b", "#8a8f98"


def new_figure(width: float, height: float, *, constrained: bool = True) -> Figure:
    """A figure of its own: pyplot would choose a backend for the whole process."""
    figure = Figure(
        figsize=(width, height),
        dpi=100,
        layout="constrained" if constrained else None,
    )
    FigureCanvasAgg(figure)
    return figure


def plain(axes: Axes) -> None:
    """Take away the upper and the right side of the frame."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
