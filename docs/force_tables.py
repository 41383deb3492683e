"""Tables and figures of potentials trained on forces, from ``docs/records/forces``.

Every record is one run of ``benchmarks/force_training.py``, those in ``energies`` of
``examples/md17.py``.

    python docs/force_tables.py > docs/forces_table.inc
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

RECORDS = Path(__file__).parent / "records" / "forces"
STYLES = {
    "cormorant": ("#d9722b", "o", "Cormorant"),
    "cormorant-tuned": ("#2c6fad", "s", "Cormorant, batch 10"),
    "mace": ("#8a5aa8", "P", "MACE"),
    "visnet": ("#b5497a", "X", "ViSNet (PyG)"),
}
SETS = {
    "ethanol": "ethanol (revised MD17)",
    "aspirin": "aspirin (revised MD17)",
    "toluene": "toluene (revised MD17)",
    "acac": "acetylacetone",
    "3bpa": "3BPA",
    "water": "water, 192 atoms, periodic",
    "Si": "silicon cells, periodic",
    "Mo": "molybdenum cells, periodic",
    "Li": "lithium cells, periodic",
}
CRYSTALS = ("Si", "Mo", "Li")
Run = dict[str, Any]


def records(folder: Path | None = None) -> list[Run]:
    """All finished runs, ordered by data set, budget and network."""
    paths = sorted((folder or RECORDS).glob("*.json"))
    runs = [json.loads(path.read_text()) for path in paths]
    return sorted(runs, key=_key)


def family(run: Run) -> str:
    """Key of :data:`STYLES`; larger batches of molecules are the tuned setting."""
    if run["model"].startswith("cormorant"):
        return "cormorant-tuned" if run["settings"]["batch_size"] > 5 else "cormorant"
    return str(run["model"])


def label(run: Run) -> str:
    """What to call the network."""
    return STYLES[family(run)][2]


def _key(run: Run) -> tuple[int, float, int]:
    return (
        list(SETS).index(run["set"]),
        run["budget_cpu_seconds"],
        list(STYLES).index(family(run)),
    )


def rows(head: str, lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    table = [f"| {head} |", "|" + " --- |" * (head.count("|") + 1)]
    return "\n".join([*table, *(f"| {' | '.join(cells)} |" for cells in lines)])


def first(run: Run) -> dict[str, float]:
    """Errors on the test frames that are like the training frames."""
    found: dict[str, float] = next(iter(run["test"].values()))
    return found


def smallest(
    runs: Sequence[Run], run: Run, of: Callable[[Run], float], digits: str
) -> str:
    """A number of a run, bold where no other at the same data and budget is smaller."""
    same = [
        of(other)
        for other in runs
        if other["test"]
        and other["set"] == run["set"]
        and other["budget_cpu_seconds"] == run["budget_cpu_seconds"]
    ]
    text = format(of(run), digits)
    return f"**{text}**" if len(same) > 1 and of(run) == min(same) else text


def table(runs: Sequence[Run]) -> str:
    """Errors on the first test set of every run."""
    head = (
        "frames | CPU s | network | weights | steps | epochs | energy MAE | RMSE | "
        "force MAE | RMSE | ms a step | ms a test frame"
    )
    lines, before = [], None
    for run in runs:
        place = (run["set"], run["budget_cpu_seconds"])
        if place != before and run["test"]:
            lines.append(guess(run))
            before = place
        cells = [SETS[run["set"]], f"{run['budget_cpu_seconds']:g}"]
        cells += [label(run), f"{run['parameters']:,}"]
        cells += [f"{run['steps']:,}", f"{run['epochs']:.1f}"]
        if run["test"]:
            cells += errors(runs, run)
        else:
            cells += ["diverged"] + [""] * 5
        lines.append(cells)
    return rows(head, lines)


def guess(run: Run) -> list[str]:
    """The row of what guessing gives."""
    values = first(run)
    cells = [SETS[run["set"]], "", "references, no forces", "", "", ""]
    cells += [f"{values['energy_guess_mae']:.1f}", f"{values['energy_guess_rmse']:.1f}"]
    cells += [f"{values['force_zero_mae']:.0f}", f"{values['force_zero_rmse']:.0f}"]
    return [*cells, "", ""]


def errors(runs: Sequence[Run], run: Run) -> list[str]:
    """Errors and times of a run."""
    names = ("energy_mae", "energy_rmse", "force_mae", "force_rmse")
    cells = [
        smallest(runs, run, lambda other, n=name: first(other)[n], ".1f")  # type: ignore[misc]
        for name in names
    ]
    seconds = next(iter(run["test_cpu_seconds_per_frame"].values()))
    cells += [f"{1e3 * run['cpu_seconds_per_step']:.0f}", f"{1e3 * seconds:.1f}"]
    return cells


def hotter(runs: Sequence[Run]) -> str:
    """Errors of networks trained at 300 K, by temperature of the test frames."""
    head = (
        "frames | network | tested at | frames | energy MAE | RMSE | force MAE | RMSE"
    )
    lines = []
    for name in ("acac", "3bpa"):
        mine = [run for run in runs if run["set"] == name and run["test"]]
        for where in mine[0]["test"] if mine else ():
            best = {
                key: min(run["test"][where][key] for run in mine)
                for key in ("energy_mae", "energy_rmse", "force_mae", "force_rmse")
            }
            for run in mine:
                values = run["test"][where]
                cells = [SETS[name], label(run), where]
                cells.append(f"{values['frames']:g}")
                for key, low in best.items():
                    text = f"{values[key]:.1f}"
                    cells.append(f"**{text}**" if values[key] == low else text)
                lines.append(cells)
    return rows(head, lines)


def per_atom(runs: Sequence[Run]) -> str:
    """Energy errors per atom of cells, which differ in size."""
    lines = [
        [
            SETS[run["set"]],
            label(run),
            f"{first(run)['energy_mae_per_atom']:.2f}",
            f"{first(run)['energy_guess_mae_per_atom']:.1f}",
        ]
        for run in runs
        if run["set"] in (*CRYSTALS, "water") and run["test"]
    ]
    return rows("frames | network | energy MAE per atom | references alone", lines)


def trials() -> str:
    """The short runs that chose the settings."""
    found = [run for run in records(RECORDS / "trials") if run["test"]]
    lines = []
    for run in sorted(found, key=lambda run: first(run)["force_mae"]):
        given = run["settings"]
        sizes = ", ".join(f"{key} {value}" for key, value in given["sizes"].items())
        weight = given["training"].get("energy_weight", 1)
        cells = [label(run), sizes, f"{given['lr']:g}"]
        cells += [str(given["batch_size"]), f"{weight:g}", f"{run['steps']:,}"]
        cells += [f"{first(run)['energy_mae']:.1f}", f"{first(run)['force_mae']:.1f}"]
        lines.append(cells)
    head = (
        "network | sizes | learning rate | batch | energy weight | steps | energy MAE"
    )
    return rows(f"{head} | force MAE", lines)


def settings(runs: Sequence[Run]) -> str:
    """Settings and versions of every network, as a Markdown list."""
    lines = []
    for name, (_, _, title) in STYLES.items():
        mine = [run for run in runs if family(run) == name]
        if not mine:
            continue
        given, extra = mine[-1]["settings"], mine[-1]["peer_versions"]
        versions = "".join(f"; {key} {value}" for key, value in extra.items())
        note, source = given["note"], given["source"]
        if name.startswith("cormorant"):
            levels = given["sizes"]["num_levels"]
            note = f"`Cormorant.potential` with {levels} levels, 16 channels, lmax 2"
            source = "that of examples/md17.py"
        lines.append(
            f"- *{title}*: {note}; largest learning rate {given['lr']:g} "
            f"({source}){versions}"
        )
    return "\n".join(lines)


def alone() -> list[Run]:
    """Runs on energies alone."""
    paths = sorted((RECORDS / "energies").glob("*.json"))
    return [json.loads(path.read_text()) for path in paths]


def energies() -> str:
    """Errors of the runs on energies alone, in the unit of the paper."""
    lines = []
    for run in alone():
        values, train, data = run["test"], run["settings"], run["data"]
        # Records of today, or of those that were made first.
        title = data if isinstance(data, str) else data["name"]
        network = train["network"] if "network" in train else train["model"]
        cells = [title, network, str(train["epochs"])]
        cells += [f"{run['seconds']:.0f}", f"{values['energy_mae']:.3f}"]
        cells += [f"{values['energy_mean_mae']:.3f}"]
        lines.append([*cells, f"{values['paper_kcal_per_mol']:.3f}"])
    head = "frames | network | epochs | seconds | energy MAE | mean alone | paper"
    return rows(head, lines)


def commands(runs: Sequence[Run]) -> str:
    """The commands, each once."""
    lines = dict.fromkeys(run["command"] for run in runs)
    return "```sh\n" + "\n".join(lines) + "\n```"


def force_curves() -> Figure:
    """Validation error of the forces against the CPU time used."""
    runs = [run for run in records() if run["looks"]]
    names = [name for name in SETS if any(run["set"] == name for run in runs)]
    wide = max(1, min(3, len(names)))
    high = max(1, -(-len(names) // wide))
    size = (max(5.0, 3.1 * wide), 2.9 * high + 0.4)
    figure, axes = plt.subplots(high, wide, figsize=size, squeeze=False)
    for axis in axes.flat[len(names) :]:
        axis.axis("off")
    for axis, name in zip(axes.flat, names, strict=False):
        here = [run for run in runs if run["set"] == name]
        longest = max(run["budget_cpu_seconds"] for run in here)
        for run in here:
            draw(axis, run, pale=run["budget_cpu_seconds"] < longest)
        axis.set_title(SETS[name].split(",")[0], fontsize=10)
        finish(axis)
    labels(figure, axes.flat)
    return figure


def draw(axis: Axes, run: Run, *, pale: bool) -> None:
    """One run as a line, a dotted one for a smaller budget than the largest."""
    colour, marker, title = STYLES[family(run)]
    seconds = [seen["seconds"] for seen in run["looks"]]
    found = [1e3 * seen["force_mae"] for seen in run["looks"]]
    style = {"ls": ":", "marker": "", "lw": 1.2} if pale else {"marker": marker}
    axis.plot(seconds, found, color=colour, ms=4, label=title, **style)


def finish(axis: Axes) -> None:
    """Axes of a curve."""
    axis.set_yscale("log")
    axis.set_xlim(left=0)
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel("CPU seconds")
    axis.set_ylabel("force MAE [meV/Å]")
    axis.spines[["top", "right"]].set_visible(False)


def labels(figure: Figure, axes: Iterable[Axes]) -> None:
    """One legend below all axes."""
    handles = {
        label: line
        for axis in axes
        for line, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.tight_layout(rect=(0, 0.1, 1, 1))
    lines, titles = handles.values(), handles.keys()
    figure.legend(lines, titles, loc="lower center", ncols=4, frameon=False, fontsize=9)


def dihedral_scan() -> Figure:
    """Energy of acetylacetone as the C-C-C-O angle turns."""
    runs = [run for run in records() if run["scan"]]
    figure, axis = plt.subplots(figsize=(5.6, 3.8))
    if runs:
        scan = runs[0]["scan"]
        axis.plot(scan["angle"], scan["reference"], "k--", lw=2, label="reference")
    for run in runs:
        colour = STYLES[family(run)][0]
        axis.plot(
            run["scan"]["angle"], run["scan"]["model"], color=colour, label=label(run)
        )
    axis.set_xlabel("dihedral angle C-C-C-O [degrees]")
    axis.set_ylabel("energy [eV]")
    axis.spines[["top", "right"]].set_visible(False)
    if runs:
        axis.legend(frameon=False)
    figure.tight_layout()
    return figure


def main() -> None:
    """Write everything that the page includes."""
    runs = records()
    parts = {
        "The runs:": table(runs),
        "Hotter:": hotter(runs),
        "Per atom:": per_atom(runs),
        "Energies:": energies(),
        "Trials:": trials(),
        "Settings:": settings(runs),
        "The commands:": commands([*runs, *records(RECORDS / "trials"), *alone()]),
    }
    text = "\n\n".join(f"{head}\n\n{part}" for head, part in parts.items())
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
