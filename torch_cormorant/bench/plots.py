"""The figures of a run as a picture."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from torch_cormorant.bench.results import Row, Run

_BLUE, _ORANGE, _GREY = "#1f5fa8", "#d9772b", "#777777"


def plot(run: Run, path: Path) -> None:
    """Ratios to the peers, training steps and radius graphs, side by side.

    Args:
        run: The figures.
        path: PNG file to write.
    """
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    ratios, steps, large = figure.subplots(1, 3)
    _ratios(ratios, run.rows)
    _steps(steps, [row for row in run.rows if row.section == "step"])
    _large(large, [row for row in run.rows if row.section == "large"])
    facts = run.circumstances
    figure.suptitle(f"{facts['cpu']}, torch {facts['torch']}", fontsize=9, color=_GREY)
    figure.savefig(path, dpi=150)


def _ratios(axes: Axes, rows: list[Row]) -> None:
    peers = [row for row in rows if row.ratio is not None and _is_peer(row)]
    places = range(len(peers))
    axes.barh(places, [row.ratio or 0.0 for row in peers], color=_BLUE)
    for place, row in zip(places, peers, strict=True):
        if row.goal is not None:
            axes.plot([row.goal] * 2, [place - 0.4, place + 0.4], color=_ORANGE)
    names = [
        f"{row.formulation}\n{row.graph}, {row.measured}, {row.threads} thr."
        for row in peers
    ]
    axes.set_yticks(places, names, fontsize=6)
    axes.invert_yaxis()
    axes.set_xlabel("time over ours (line: goal)")


def _is_peer(row: Row) -> bool:
    return "ormorant" not in row.formulation


def _steps(axes: Axes, rows: list[Row]) -> None:
    for threads, style in zip(
        sorted({row.threads for row in rows}), "os^v", strict=False
    ):
        mine = [row for row in rows if row.threads == threads and row.spent_ms]
        axes.plot(
            [row.edges for row in mine],
            [(row.spent_ms or 0.0) / 1e3 for row in mine],
            style,
            color=_BLUE,
            label=f"ours, {threads} thread{'s' if threads > 1 else ''}",
        )
    stated = {row.edges: row.published_s for row in rows if row.published_s}
    if stated:
        times = list(stated.values())
        axes.plot(list(stated), times, "x", color=_ORANGE, label="published, 2 cores")
    _finish(axes, "ordered pairs", "training step [s]")


def _large(axes: Axes, rows: list[Row]) -> None:
    for name in dict.fromkeys(row.formulation for row in rows):
        mine = [row for row in rows if row.formulation == name and row.spent_ms]
        axes.plot(
            [row.edges for row in mine],
            [(row.spent_ms or 0.0) / 1e3 for row in mine],
            "o-",
            label=name,
        )
    _finish(axes, "edges of the radius graph", "time [s]")


def _finish(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if axes.lines:
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.legend(fontsize=8)
