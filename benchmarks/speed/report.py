"""A run as a table for the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.speed.results import Row, Run

_TITLES = {
    "aggregation": "Neighbour sum alone",
    "layer": "Whole layer",
    "harmonics": "Spherical harmonics, alone and within a layer",
    "step": "Training step of CormorantQM9, all pairs",
    "network": "Energies and forces of whole networks of equal size",
    "scaling": "Neighbour sum, growth with channels and degree",
    "large": "Radius graphs",
}


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _short(value: float | None) -> str:
    """Three figures, thousands and millions with a letter."""
    if value is None:
        return ""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.3g}"


def _goal(row: Row) -> str:
    if row.goal is None:
        return ""
    reached = row.ratio is not None and row.ratio >= row.goal
    return f"{row.goal:g} {'reached' if reached else 'MISSED'}"


def _remark(row: Row) -> str:
    parts = [row.note] if row.note else []
    if row.published_s is not None:
        parts.append(f"published code, 2 cores: {row.published_s:g} s")
    if row.exponent is not None:
        parts.append(f"time ~ edges^{row.exponent:.2f}")
    return "; ".join(parts)


BUSY = 0.7
"""Load average at the start beyond which other programs must have run."""

Column = tuple[str, int, Callable[[Row], str]]

_COLUMNS: tuple[Column, ...] = (
    ("graph", 17, lambda row: row.graph),
    ("measured", 18, lambda row: row.measured),
    ("formulation", 27, lambda row: row.formulation),
    ("threads", 7, lambda row: str(row.threads)),
    ("edges", 7, lambda row: str(row.edges)),
    ("channels", 8, lambda row: _number(row.channels, "d")),
    ("lmax", 4, lambda row: _number(row.lmax, "d")),
    ("weights", 7, lambda row: _short(row.parameters)),
    ("CPU ms", 9, lambda row: _number(row.cpu_ms, ".1f")),
    ("wall ms", 9, lambda row: _number(row.wall_ms, ".1f")),
    ("edges/s", 7, lambda row: _short(row.edges_per_s)),
    ("atoms/s", 7, lambda row: _short(row.atoms_per_s)),
    ("MB", 6, lambda row: _number(row.memory_mb, ".0f")),
    ("error", 7, lambda row: _number(row.error, ".0e" if row.error else ".0f")),
    ("ratio", 7, lambda row: _number(row.ratio, ".2f")),
    ("goal", 10, _goal),
    ("remark", 0, _remark),
)
_LEFT = {"graph", "measured", "formulation", "goal", "remark"}


_OPTIONAL = {
    "channels": {"scaling"},
    "lmax": {"scaling"},
    "weights": {"network"},
    "atoms/s": {"network"},
}
"""Columns that only some sections have in the terminal."""


def line(row: Row | None, section: str = "") -> str:
    """One line of the terminal's table; without a row, the heads of a section."""
    section = section if row is None else row.section
    cells = []
    for name, width, value in _COLUMNS:
        if section not in _OPTIONAL.get(name, {section}):
            continue
        text = name if row is None else value(row)
        cells.append(text.ljust(width) if name in _LEFT else text.rjust(width))
    joined = "  ".join(cells).rstrip()
    return f"\n{_TITLES[section]}\n{joined}" if row is None else joined


def markdown(run: Run) -> str:
    """Tables for the documentation, with the circumstances in front."""
    facts = [
        f"`{value}`" if name in ("command", "commit") else value
        for name, value in run.circumstances.items()
    ]
    names = list(run.circumstances)
    lines = ["| | |", "| --- | --- |"]
    lines += [f"| {name} | {fact} |" for name, fact in zip(names, facts, strict=True)]
    lines += _warning(run)
    for section, title in _TITLES.items():
        rows = [row for row in run.rows if row.section == section]
        if rows:
            lines += ["", f"**{title}**", "", *_markdown_table(rows)]
    return "\n".join(lines) + "\n"


def _warning(run: Run) -> list[str]:
    """Tell where other programs disturbed the measurement."""
    loads = run.circumstances.get("load at start", "0").split("; ")
    busy = [load for load in loads if load != "unknown" and float(load) > BUSY]
    if not busy:
        return []
    text = (
        f"Other programs ran at the same time (load {', '.join(busy)}), so times are "
        "too long; the ratios suffer less, because the formulations took turns."
    )
    return ["", text]


def _markdown_table(rows: list[Row]) -> list[str]:
    """Columns that are empty in all rows are left out."""
    used = [column for column in _COLUMNS if any(column[2](row) for row in rows)]
    names = [name for name, _, _ in used]
    rule = ["---" if name in _LEFT else "---:" for name in names]
    table = [names, rule, *([value(row) for _, _, value in used] for row in rows)]
    return [f"| {' | '.join(cells)} |" for cells in table]
