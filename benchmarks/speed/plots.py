"""The figures of a run as a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from benchmarks.speed.results import Row, Run
from benchmarks.speed.settings import SECTIONS

_BLUE, _ORANGE, _GREY = "#1f5fa8", "#d9772b", "#777777"
_COLUMNS = 3


def plot(run: Run, path: Path) -> None:
    """Everything that was measured, a panel for each question.

    Ratios to the peers; time against pairs, edges, channels, degree and threads; atoms
    per second of whole networks. Panels without a figure are left out.

    Args:
        run: The figures.
        path: PNG file to write.
    """
    fewest = min((row.threads for row in run.rows), default=1)
    first = [row for row in run.rows if row.threads == fewest]
    chosen = {name: [row for row in first if row.section == name] for name in SECTIONS}
    steps = [row for row in run.rows if row.section == "step"]
    panels: list[tuple[str, Callable[[Axes, list[Row]], None], list[Row]]] = [
        (
            "Neighbour sum, layer: forward + backward",
            _ratios,
            [row for row in first if row.ratio is not None and _is_peer(row)],
        ),
        ("Training step of CormorantQM9", _steps, steps),
        ("Radius graphs", _large, chosen["large"]),
        ("Neighbour sum: channels", _channels, chosen["scaling"]),
        ("Neighbour sum: degree", _degrees, chosen["scaling"]),
        ("Networks of 300,000 weights", _networks, chosen["network"]),
        ("Threads", _threads, run.rows if len(first) < len(run.rows) else []),
    ]
    drawn = [panel for panel in panels if panel[2]]
    columns = max(1, min(_COLUMNS, len(drawn)))
    lines = max(1, -(-len(drawn) // columns))
    figure = Figure(figsize=(4.6 * columns, 3.9 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(lines, columns, squeeze=False).flat
    for title, draw, rows in drawn:
        place = next(axes)
        draw(place, rows)
        place.set_title(title, fontsize=9)
        place.grid(visible=True, which="major", color="0.9", lw=0.6)
        place.set_axisbelow(True)
    for rest in axes:
        rest.set_axis_off()
    # Several runs were joined with "; ": one name is enough here.
    cpu, torch = (run.circumstances[name].split("; ")[0] for name in ("cpu", "torch"))
    figure.suptitle(f"{cpu}, torch {torch}", fontsize=9, color=_GREY)
    figure.savefig(path, dpi=150)


def _ratios(axes: Axes, peers: list[Row]) -> None:
    places = range(len(peers))
    ratios = [row.ratio or 0.0 for row in peers]
    axes.barh(places, ratios, color=_BLUE, height=0.7)
    for place, row in zip(places, peers, strict=True):
        ratio = row.ratio or 0.0
        axes.text(1.1 * ratio, place, f"{ratio:.3g}", fontsize=6, va="center")
        if row.goal is not None:
            axes.plot([row.goal] * 2, [place - 0.4, place + 0.4], color=_ORANGE)
    names = [
        f"{row.formulation.partition(' (')[0]}, {_in_words(row.graph)}" for row in peers
    ]
    axes.set_yticks(places, names, fontsize=6)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(0.5, 4 * max(ratios))
    axes.axvline(1.0, color=_GREY, lw=0.8)
    axes.set_xlabel("times as long as our kernel (orange: goal)")


def _in_words(graph: str) -> str:
    """``25x18`` as a reader of the picture alone understands it."""
    molecules, sign, atoms = graph.partition("x")
    if sign and molecules.isdigit() and atoms.isdigit():
        return f"\n{molecules} molecules of {atoms} atoms"
    return f"\nradius graph of {graph} atoms" if graph.isdigit() else graph


def _is_peer(row: Row) -> bool:
    if "ormorant" in row.formulation and "portable" not in row.formulation:
        return False
    return row.section in {"aggregation", "layer"} and row.measured != "forward"


def _steps(axes: Axes, rows: list[Row]) -> None:
    for threads, style in zip(
        sorted({row.threads for row in rows}), "os^v", strict=False
    ):
        own = [row for row in rows if row.formulation == "CormorantQM9"]
        mine = [row for row in own if row.threads == threads and row.spent_ms]
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
    _finish(axes, "ordered pairs of atoms in a batch", "training step [s]")


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


def _channels(axes: Axes, rows: list[Row]) -> None:
    """At the degree that most rows have."""
    usual = Counter(row.lmax for row in rows).most_common(1)[0][0]
    _grow(axes, [row for row in rows if row.lmax == usual], lambda row: row.channels)
    _finish(axes, f"channels (lmax {usual})", "forward + backward [ms]")
    _whole(axes)


def _degrees(axes: Axes, rows: list[Row]) -> None:
    """At the number of channels that varies least."""
    degrees = {row.channels: set[int | None]() for row in rows}
    for row in rows:
        degrees[row.channels].add(row.lmax)
    usual = max(degrees, key=lambda channels: len(degrees[channels]))
    mine = [row for row in rows if row.channels == usual]
    _grow(axes, mine, lambda row: row.lmax)
    _finish(axes, f"lmax ({usual} channels)", "forward + backward [ms]")
    _whole(axes)


def _grow(axes: Axes, rows: list[Row], x: Callable[[Row], int | None]) -> None:
    for name in dict.fromkeys(row.formulation for row in rows):
        mine = [row for row in rows if row.formulation == name and row.spent_ms]
        points = sorted((x(row) or 0, row.spent_ms or 0.0) for row in mine)
        axes.plot(*zip(*points, strict=True), "o-", label=name)


def _whole(axes: Axes) -> None:
    """Ticks at the numbers that were measured."""
    measured = [np.asarray(line.get_xdata(), dtype=int) for line in axes.lines]
    values = np.unique(np.concatenate([np.empty(0, dtype=int), *measured])).tolist()
    axes.set_xticks(values, [str(value) for value in values])
    axes.xaxis.set_minor_locator(NullLocator())


def _networks(axes: Axes, rows: list[Row]) -> None:
    for name in dict.fromkeys(row.formulation for row in rows):
        mine = [row for row in rows if row.formulation == name and row.atoms_per_s]
        points = sorted((row.atoms or 0, row.atoms_per_s or 0.0) for row in mine)
        if points:
            axes.plot(*zip(*points, strict=True), "o-", label=name)
    _finish(axes, "atoms", "energy + forces [atoms/s]")
    if axes.lines:
        # Room for the legend below the lines.
        low, high = axes.get_ylim()
        axes.set_ylim(low**1.5 / high**0.5, high)
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.legend(fontsize=6.5, loc="lower center", ncols=2)


def _threads(axes: Axes, rows: list[Row]) -> None:
    """Wall time of what was measured with every number of threads."""
    cases: dict[tuple[str, str, str], dict[int, float]] = {}
    for row in rows:
        if row.wall_ms and row.section in {"aggregation", "layer", "step"}:
            key = (row.graph, row.measured, row.formulation)
            cases.setdefault(key, {})[row.threads] = row.wall_ms
    for (graph, measured, name), times in cases.items():
        if len(times) > 1 and "ormorant" in name and measured != "forward":
            points = sorted(times.items())
            axes.plot(*zip(*points, strict=True), "o-", label=f"{name}, {graph}")
    _finish(axes, "threads", "wall time [ms]")
    _whole(axes)


def _finish(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if axes.lines:
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.legend(fontsize=7)
