"""A page about a finished run that needs nothing but itself."""

from __future__ import annotations

import base64
import html
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, ScalarFormatter
from torch import Tensor

from torch_cormorant.data import Target
from torch_cormorant.data.describe import symbol
from torch_cormorant.models import Model
from torch_cormorant.train.callbacks import EpochRow
from torch_cormorant.train.files import write_atomically
from torch_cormorant.train.plots import (
    axis_text,
    draw_learning_curve,
    origin_of,
    set_epoch_axes,
)
from torch_cormorant.visualize import plot_radial

__all__ = ["RunReport", "write_report"]

_BLUE, _ORANGE, _GREY = "#1f5fa8", "#d9772b", "#777777"
_WORST, _MOST_DIGITS = 12, 8
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 68rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem;
  border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; margin: 0.5rem 0; }
td, th { padding: 0.15rem 0.8rem 0.15rem 0; text-align: left; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
pre { background: #f5f5f5; padding: 0.7rem; white-space: pre-wrap; }
img { max-width: 100%; height: auto; } .warn { color: #a33; }
"""


@dataclass
class RunReport:
    """What a report shows.

    Args:
        title: Its heading.
        targets: The outputs, with units.
        rows: The epochs.
        log_target: Unit of the errors in ``rows``.
        table: Errors beside baselines, as text.
        errors: The same as plain values.
        values: True values of the test molecules ``[n, T]``; of a vector or tensor all
            components, of values of atoms one row for each.
        predicted: Predictions, shaped alike.
        counts: Atoms of each element in each test molecule ``[n, S]``; for values of
            atoms the element of each.
        species: The elements.
        names: What to call the test molecules, or their atoms.
        forces: True and predicted force components ``[N, 3]``, and the atomic numbers
            ``[N]`` they belong to.
        activations: Per epoch, level and degree.
        remarks: Spikes, dead levels.
        network: For the learned radial functions.
        frames: Whether the rows are frames, not molecules.
        baseline: Error of the composition baseline on the validation molecules; of
            vectors and tensors that of guessing zero.
    """

    title: str
    targets: Sequence[Target]
    rows: Sequence[EpochRow]
    log_target: Target
    table: str
    errors: Mapping[str, Any]
    values: Tensor
    predicted: Tensor
    counts: Tensor
    species: Sequence[int]
    names: Sequence[str]
    forces: tuple[Tensor, Tensor, Tensor] | None = None
    activations: Sequence[Any] = field(default_factory=list)
    remarks: Sequence[str] = field(default_factory=list)
    network: Model | None = None
    baseline: float | None = None
    frames: bool = False

    def owner(self, target: Target) -> str:
        """What a row belongs to: a frame, a molecule or an atom."""
        return "frame" if self.frames else target.owner

    @property
    def levels(self) -> list[tuple[str, float]]:
        """Name and error of the line that a learning curve is compared with."""
        if self.baseline is None:
            return []
        guess = "always zero" if self.log_target.shape else "composition baseline"
        return [(f"{guess}, validation", self.baseline)]

    def columns(self, number: int) -> tuple[Tensor, Tensor]:
        """True values and predictions of one target, a row for each molecule or atom.

        Args:
            number: Of the target.
        """
        if self.targets[number].shape:
            return self.values.flatten(1), self.predicted.flatten(1)
        column = slice(number, number + 1)
        return self.values[:, column], self.predicted[:, column]


def write_report(path: Path, report: RunReport, record: Mapping[str, Any]) -> None:
    """Write a page with tables and plots inside; no script, nothing from elsewhere.

    Args:
        path: HTML file to write.
        report: What is shown.
        record: Command, settings, data, versions and hardware; plain values.
    """
    # Names and units are the user's own text: no mathematics in them.
    with rc_context({"text.parse_math": False}):
        text = _page(report, record)
    write_atomically(path, lambda stream: stream.write(text.encode()))


def _page(report: RunReport, record: Mapping[str, Any]) -> str:
    parts = [
        _heading(report, record),
        _section("Errors", f"<pre>{html.escape(report.table)}</pre>"),
        _section("Learning curve", _learning_curve(report)),
    ]
    for k, target in enumerate(report.targets):
        truth, ours = report.columns(k)
        drawn = _parity(truth, ours, target, report.owner(target))
        body = _picture(drawn, f"parity of {target.name}")
        # Frames of one molecule have one size and one composition: nothing to compare.
        if len(report.counts.unique(dim=0)) > 1:
            spread = _spread(report, truth, ours, target)
            body += _picture(spread, f"errors {target.name}")
        body += _worst(report, truth, ours, target)
        parts.append(_section(f"Test: {html.escape(target.name)}", body))
    if report.forces is not None:
        body = _picture(_forces(report), "parity and errors of the forces")
        parts.append(_section("Test: forces", body))
    if report.activations:
        body = _picture(_activations(report.activations), "activations over the epochs")
        parts.append(_section("Activations of levels and degrees", body))
    if report.network is not None:
        body = _picture(plot_radial(report.network), "radial functions and cutoffs")
        parts.append(_section("Learned cutoffs and radial functions", body))
    parts.append(_section("Record", _record(record)))
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">\n'
        f"<title>{html.escape(report.title)}</title>\n<style>{_STYLE}</style></head>\n"
        f"<body>\n{''.join(parts)}</body>\n</html>\n"
    )


def _heading(report: RunReport, record: Mapping[str, Any]) -> str:
    command = html.escape(str(record.get("command", "")))
    remarks = "".join(
        f'<p class="warn">{html.escape(text)}</p>\n' for text in report.remarks
    )
    return f"<h1>{html.escape(report.title)}</h1>\n<pre>{command}</pre>\n{remarks}"


def _section(title: str, body: str) -> str:
    return f"<h2>{title}</h2>\n{body}\n"


def _picture(figure: Figure, text: str) -> str:
    stream = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(stream, format="png", dpi=110)
    data = base64.b64encode(stream.getvalue()).decode()
    return f'<img alt="{html.escape(text)}" src="data:image/png;base64,{data}">\n'


def _figure(
    columns: int, width: float = 4.6, height: float = 3.4, *, sharey: bool = False
) -> list[Axes]:
    figure = Figure(figsize=(width * columns, height), layout="constrained")
    grid = figure.subplots(1, columns, squeeze=False, sharey=sharey)
    axes: list[Axes] = list(grid[0])
    for one in axes:
        one.grid(color="#e4e4e4", linewidth=0.6)
        one.set_axisbelow(True)
    return axes


def _owner(axes: Axes) -> Figure:
    figure = axes.get_figure()
    while not isinstance(figure, Figure):
        figure = figure.get_figure()  # type: ignore[union-attr]
    return figure


def _learning_curve(report: RunReport) -> str:
    forces = any("valid_force_mae" in row["metrics"] for row in report.rows)
    axes = _figure(2 if forces else 1, 5.6)
    draw_learning_curve(axes[0], report.rows, report.log_target, report.levels)
    if forces:
        factor, unit = report.log_target.shown_factor, report.log_target.shown_unit
        epochs = [row["epoch"] for row in report.rows]
        curves = (("train", "training", _BLUE), ("valid", "validation", _ORANGE))
        for part, name, colour in curves:
            key = f"{part}_force_mae"
            values = [
                row["metrics"].get(key, torch.nan) * factor for row in report.rows
            ]
            axes[1].plot(epochs, values, color=colour, marker=".", label=name)
        set_epoch_axes(axes[1], epochs)
        axes[1].set_ylabel(f"MAE of forces [{unit}/Å], logarithmic")
        axes[1].legend(edgecolor="none", fontsize=9)
    return _picture(_owner(axes[0]), "learning curve")


def _parity(truth: Tensor, ours: Tensor, target: Target, owner: str) -> Figure:
    axes = _figure(2)
    origin = origin_of(truth)
    _scatter(axes[0], truth - origin, ours - origin)
    what = axis_text(f"{target.name}{' (components)' * bool(target.shape)}", origin)
    axes[0].set_xlabel(f"{what}, computed [{target.unit}]")
    axes[0].set_ylabel(f"{what}, predicted [{target.unit}]")
    wrong = ((ours - truth) * target.shown_factor).flatten()
    axes[1].hist(wrong.numpy(), bins=min(40, max(8, len(wrong) // 4)), color=_BLUE)
    axes[1].axvline(0, color=_GREY, linewidth=1)
    axes[1].set_xlabel(f"{target.name}, predicted - computed [{target.shown_unit}]")
    counted = f"number of test {owner}s"
    axes[1].set_ylabel(f"{'components, ' * bool(target.shape)}{counted}")
    return _owner(axes[0])


def _scatter(axes: Axes, truth: Tensor, ours: Tensor) -> None:
    both = torch.cat([truth, ours])
    low, high = both.min().item(), both.max().item()
    axes.plot((low, high), (low, high), color=_GREY, linewidth=1)
    many = truth.numel() > 1000
    size, alpha = (4, 0.3) if many else (18, 0.7)
    axes.scatter(truth.numpy(), ours.numpy(), s=size, alpha=alpha, color=_BLUE)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(ScalarFormatter(useOffset=False))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))


def _spread(report: RunReport, truth: Tensor, ours: Tensor, target: Target) -> Figure:
    axes = _figure(1 if target.per_atom else 2)
    wrong = (ours - truth).abs().mean(dim=1) * target.shown_factor
    if not target.per_atom:
        sizes = report.counts.sum(dim=1).long()
        groups = sizes.unique().tolist()
        means = [wrong[sizes == size].mean().item() for size in groups]
        axes[0].bar(groups, means, color=_BLUE)
        axes[0].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes[0].set_xlabel(f"atoms in the {report.owner(target)}")
        axes[0].set_ylabel(f"MAE [{target.shown_unit}]")
    names, bars = [], []
    for k, number in enumerate(report.species):
        holds = report.counts[:, k] > 0
        if holds.any():
            names.append(f"{symbol(number)} ({int(holds.sum())})")
            bars.append(wrong[holds].mean().item())
    axes[-1].bar(names, bars, color=_ORANGE)
    owner = report.owner(target)
    what = "atoms" if target.per_atom else f"{owner}s that hold the element"
    axes[-1].set_xlabel(f"{what} (how many)")
    axes[-1].set_ylabel(f"MAE [{target.shown_unit}]")
    return _owner(axes[-1])


def _worst(report: RunReport, truth: Tensor, ours: Tensor, target: Target) -> str:
    wrong = (ours - truth).norm(dim=1) if target.shape else (ours - truth)[:, 0]
    order = wrong.abs().argsort(descending=True, stable=True)[:_WORST]
    # as many digits as tell the smallest of these errors
    least = float(wrong[order].abs().min())
    digits = 2 - math.floor(math.log10(least)) if least > 0 else 4
    places = min(max(digits, 0), _MOST_DIGITS)
    rows = [
        f"<tr><td>{html.escape(report.names[k])}</td>"
        f'<td class="number">{_numbers(truth[k], places)}</td>'
        f'<td class="number">{_numbers(ours[k], places)}</td>'
        f'<td class="number">{target.shown(wrong[k].item())}</td></tr>'
        for k in order.tolist()
    ]
    head = (
        f"<tr><th>worst {report.owner(target)}s</th>"
        f"<th>computed [{html.escape(target.unit)}]</th>"
        f"<th>predicted [{html.escape(target.unit)}]</th>"
        f"<th>{'length of the ' * bool(target.shape)}error</th></tr>"
    )
    return f"<table>{head}{''.join(rows)}</table>\n"


def _numbers(row: Tensor, places: int) -> str:
    return " ".join(f"{number:.{places}f}" for number in row.tolist())


def _forces(report: RunReport) -> Figure:
    assert report.forces is not None  # noqa: S101 - the caller has looked
    truth, ours, z = report.forces
    target = report.log_target
    axes = _figure(2)
    _scatter(axes[0], truth.flatten(), ours.flatten())
    axes[0].set_xlabel(f"force component, computed [{target.unit}/Å]")
    axes[0].set_ylabel(f"force component, predicted [{target.unit}/Å]")
    wrong = (ours - truth).abs().mean(dim=1) * target.shown_factor
    numbers = z.unique().tolist()
    bars = [wrong[z == number].mean().item() for number in numbers]
    axes[1].bar([symbol(number) for number in numbers], bars, color=_ORANGE)
    axes[1].set_xlabel("element of the atom")
    axes[1].set_ylabel(f"MAE of forces [{target.shown_unit}/Å]")
    return _owner(axes[0])


def _activations(rows: Sequence[Any]) -> Figure:
    axes = _figure(len(rows[0]), 3.0, 2.8, sharey=True)
    epochs = list(range(1, len(rows) + 1))
    for level, one in enumerate(axes):
        for l in range(len(rows[0][level])):
            values = [row[level][l] for row in rows]
            one.plot(epochs, values, marker=".", label=f"l = {l}")
        set_epoch_axes(one, epochs)
        one.set_title(f"level {level + 1}", fontsize=10)
        one.legend(edgecolor="none", fontsize=8)
    axes[0].set_ylabel("root mean square, logarithmic")
    return _owner(axes[0])


def _record(record: Mapping[str, Any]) -> str:
    shown = {name: value for name, value in record.items() if name != "epochs"}
    return f"<pre>{html.escape(json.dumps(shown, indent=2))}</pre>"
