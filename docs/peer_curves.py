"""Tables and figure of Cormorant beside its peers, from ``docs/records/curves``.

Every record is one run of ``benchmarks/learning_curves.py``.

    python docs/peer_curves.py > docs/peers_table.inc
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

RECORDS = Path(__file__).parent / "records" / "curves"
STYLES = {
    "recipe": ("#d9722b", "o", "Cormorant, recipe"),
    "recipe-head": ("#a34d12", "h", "Cormorant, recipe, head by target"),
    "recipe-soft-3": ("#e3a15f", "D", "Cormorant, recipe, soft radii 3 Å"),
    "published": ("#2c6fad", "s", "Cormorant, as published"),
    "nequip": ("#3a8f5c", "^", "NequIP"),
    "mace": ("#8a5aa8", "P", "MACE"),
    "schnet": ("#8a8f98", "v", "SchNet (PyG)"),
    "visnet": ("#b5497a", "X", "ViSNet (PyG)"),
}
TITLES = {
    "alpha": r"$\alpha$",
    "U0_atom": r"$U_0$, atomisation",
    "gap": "gap",
    "mu": r"$\mu$",
    "Cv": r"$C_v$",
    "zpve": "ZPVE",
    "g4mp2_atom": "G4MP2 atomisation energy",
}
G4MP2 = "g4mp2_atom"
ORDER = tuple(TITLES)


def records() -> list[dict[str, Any]]:
    """All finished runs, ordered by target, size and network."""
    found = [json.loads(path.read_text()) for path in sorted(RECORDS.glob("*.json"))]
    runs = [run for run in found if run.get("kind", "").startswith("learning curve")]
    return sorted(runs, key=_key)


def merged(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One run for all that differ in their seed: mean error, spread and number."""
    groups: dict[Any, list[dict[str, Any]]] = {}
    for run in runs:
        groups.setdefault(_key(run), []).append(run)
    joined = []
    for same in groups.values():
        first = min(same, key=lambda run: run["seed"])
        errors = [run["test_mae"] for run in same]
        mean = None if None in errors else statistics.fmean(errors)
        spread = statistics.stdev(errors) if len(errors) > 1 and mean else 0.0
        joined.append({**first, "test_mae": mean, "spread": spread, "seeds": len(same)})
    return joined


def _key(run: dict[str, Any]) -> tuple[int, int, float, int]:
    return (
        ORDER.index(run["target"]),
        run["train_size"],
        run["budget_cpu_seconds"],
        list(STYLES).index(run["model"]),
    )


def unit(run: dict[str, Any]) -> str:
    """Unit of a record, with a raised number."""
    return str(run["unit"]).replace("bohr^3", "bohr³")


def table(runs: Sequence[dict[str, Any]]) -> str:
    """Errors as a Markdown table, the smallest of a target and size in bold."""
    runs = merged(runs)
    head = (
        "target | training molecules | CPU s | network | weights | steps | epochs | "
        "test MAE | composition | mean | unit"
    )
    lines = [f"| {head} |", "|" + " --- |" * (head.count("|") + 1)]
    for run in runs:
        group = [other for other in runs if _key(other)[:3] == _key(run)[:3]]
        errors = [other["test_mae"] for other in group if other["test_mae"] is not None]
        error = "diverged" if run["test_mae"] is None else f"{run['test_mae']:.3g}"
        if len(group) > 1 and run["test_mae"] == min(errors, default=None):
            error = f"**{error}**"
        if run["seeds"] > 1 and run["test_mae"] is not None:
            spread = float(f"{run['spread']:.1g}")
            error += f" ± {spread:g} ({run['seeds']} seeds)"
        cells = [
            run["target"],
            f"{run['train_size']:,}",
            f"{run['budget_cpu_seconds']:g}",
            STYLES[run["model"]][2],
            f"{run['parameters']:,}",
            f"{run['steps']:,}",
            f"{run['epochs']:.1f}",
            error,
            f"{run['baselines']['composition']:.3g}",
            f"{run['baselines']['training_mean']:.3g}",
            unit(run),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def speeds() -> str:
    """CPU time of a training step of every network, as a Markdown table."""
    found = json.loads((RECORDS / "speed.json").read_text())
    lines = ["| network | CPU time of a step |", "| --- | ---: |"]
    for name, seconds in sorted(found["median"].items(), key=lambda pair: pair[1]):
        lines.append(f"| {STYLES[name][2]} | {1e3 * seconds:.0f} ms |")
    return "\n".join(lines)


def settings(runs: Sequence[dict[str, Any]]) -> str:
    """Settings and versions of every network, as a Markdown list."""
    lines = []
    for name in STYLES:
        mine = [run for run in runs if run["model"] == name]
        if not mine:
            continue
        given, extra = mine[0]["settings"], mine[0]["peer_versions"]
        versions = ", ".join(f"{key} {value}" for key, value in extra.items())
        lines.append(
            f"- *{STYLES[name][2]}*: {given['note']}; loss {given['loss']}, largest "
            f"learning rate {given['lr']:g}{'; ' + versions if versions else ''}"
        )
    return "\n".join(lines)


def commands(runs: Sequence[dict[str, Any]]) -> str:
    """The commands, each once."""
    lines = dict.fromkeys(run["command"] for run in runs)
    return "```sh\n" + "\n".join(lines) + "\n```"


def peer_curves() -> Figure:
    """Test error against molecules, and validation error against CPU time."""
    runs = records()
    targets = [name for name in ORDER if any(run["target"] == name for run in runs)]
    figure, axes = plt.subplots(
        2, len(targets), figsize=(3.3 * len(targets), 6.0), squeeze=False
    )
    for column, target in zip(axes.T, targets, strict=True):
        chosen = [run for run in runs if run["target"] == target]
        _against_molecules(column[0], chosen)
        _against_time(column[1], chosen)
        column[0].set_title(TITLES[target])
        for axis in column:
            _finish(axis, unit(chosen[0]))
    handles = {
        label: line
        for axis in axes.flat
        for line, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.legend(handles.values(), handles, loc="lower center", ncols=4, frameon=False)
    return figure


def _against_molecules(axis: Axes, runs: Sequence[dict[str, Any]]) -> None:
    largest = max(run["budget_cpu_seconds"] for run in runs)
    for name, (colour, marker, label) in STYLES.items():
        whole = merged([run for run in runs if run["model"] == name])
        mine = [run for run in whole if run["test_mae"] is not None]
        budgets = sorted({run["budget_cpu_seconds"] for run in mine})
        for budget in budgets:  # a line joins equal budgets; hollow: smaller ones
            same = [run for run in mine if run["budget_cpu_seconds"] == budget]
            sizes = [run["train_size"] for run in same]
            errors = [run["test_mae"] for run in same]
            face = colour if budget == largest else "white"
            style = {"color": colour, "marker": marker, "markerfacecolor": face}
            axis.plot(sizes, errors, label=label, **style)
    sizes = sorted({run["train_size"] for run in runs})
    baseline = {run["train_size"]: run["baselines"]["composition"] for run in runs}
    ends = [sizes[0] / 1.5, *sizes, sizes[-1] * 1.5]
    levels = [baseline[size] for size in (sizes[0], *sizes, sizes[-1])]
    axis.plot(ends, levels, "--", color="#444444", label="composition")
    axis.set_xscale("log")
    axis.set_xlim(sizes[0] / 1.5, sizes[-1] * 1.5)
    axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlabel("training molecules")


def _against_time(axis: Axes, runs: Sequence[dict[str, Any]]) -> None:
    smallest = min(run["train_size"] for run in runs)
    for run in runs:
        if run["train_size"] == smallest and run["seed"] == 0:
            colour, marker, label = STYLES[run["model"]]
            seconds = [look["seconds"] for look in run["valid"]]
            errors = [look["valid_mae"] for look in run["valid"]]
            axis.plot(seconds, errors, color=colour, marker=marker, label=label)
    axis.set_xlim(left=0)
    axis.set_xlabel(f"CPU seconds, {smallest:,} molecules")


def _finish(axis: Axes, unit_name: str) -> None:
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
    which = "test" if axis.get_xscale() == "log" else "validation"
    axis.set_ylabel(f"{which} MAE [{unit_name}]")
    axis.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Write everything that the results page includes."""
    runs = records()
    parts = [
        table([run for run in runs if run["target"] != G4MP2]),
        "The scaling curve:",
        table([run for run in runs if run["target"] == G4MP2]),
        "Time of a step:",
        speeds(),
        "Settings:",
        settings(runs),
        "The commands:",
        commands(runs),
    ]
    sys.stdout.write("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    main()
