"""Tables of trainings that were given hours, beside errors that others have published.

Ours are records of ``benchmarks/search.py`` in ``docs/records/converged``, those of
others are in ``docs/records/published/errors.json`` with the paper they were read in;
what others reach in the same time is of ``benchmarks/force_training.py``, in
``docs/records/converged/peers``.

    python docs/converged_tables.py > docs/converged_tables.inc
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

RECORDS = Path(__file__).parent / "records"
MOLECULES = ("ethanol", "aspirin", "malonaldehyde", "toluene")
MOLECULES += ("salicylic", "naphthalene", "benzene")
FRAMES = 950
Run = dict[str, Any]


def read(folder: Path) -> list[Run]:
    """All records of a folder."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def records() -> list[Run]:
    """All of ours: the longest budgets first, of these the least validation error."""

    def place(run: Run) -> tuple[float, float]:
        return -run["budget_quiet_cpu_seconds"], run["valid"]["force_mae"]

    return sorted(read(RECORDS / "converged"), key=place)


def published() -> Run:
    """Errors of others."""
    found: Run = json.loads((RECORDS / "published" / "errors.json").read_text())
    return found


def best(runs: Iterable[Run], name: str, frames: int | None = None) -> Run | None:
    """The first run of a set, with all training frames or so many."""
    for run in runs:
        whole = frames is None and (name not in MOLECULES or count(run) == FRAMES)
        if run["set"] == name and run["test"] and (whole or count(run) == frames):
            return run
    return None


def count(run: Run) -> int:
    """Training frames."""
    return int(run["frames"]["train"])


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown; all columns but the first stand on the right."""
    marks = ["---", *["---:"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, marks, *rows))


def pair(energy: float | None, forces: float | None) -> str:
    """Both errors, those that are known."""
    return " / ".join("" if x is None else f"{x:g}" for x in (energy, forces))


def found(run: Run | None, part: str = "test", kind: str = "mae") -> str:
    """Errors of a run on one of its test sets."""
    if run is None:
        return ""
    each = run["test"][part]
    return f"{each[f'energy_{kind}']:.2f} / {each[f'force_{kind}']:.2f}"


def budget(run: Run | None) -> str:
    """How long it was trained, in minutes of a quiet core."""
    return "" if run is None else f"{run['budget_quiet_cpu_seconds'] / 60:.0f} min"


def molecules(runs: list[Run]) -> str:
    """Revised MD17, one row a molecule."""
    others = published()["rmd17"]
    rows = []
    for name in MOLECULES:
        run = best(runs, name)
        if run is None:
            continue
        theirs = [
            pair(*each["errors"].get(name, (None, None))) for each in others.values()
        ]
        rows.append([name, budget(run), found(run), *[x.strip(" /") for x in theirs]])
    return table(["molecule", "time", "ours", *others], rows)


def hot(runs: list[Run]) -> str:
    """Acetylacetone, root mean squares."""
    run = best(runs, "acac")
    if run is None:
        return ""
    rows = [
        [name, *(pair(*each["errors"][t]) for t in ("300K", "600K"))]
        for name, each in published()["acac"].items()
        if isinstance(each, dict)
    ]
    ours = [
        f"ours, {budget(run)}",
        *(found(run, t, "rmse") for t in ("300 K", "600 K")),
    ]
    return table(["network", "300 K", "600 K"], [ours, *rows])


def scan(runs: list[Run]) -> str:
    """Acetylacetone as its dihedral angle turns: how far the energies are from it."""
    run = best(runs, "acac")
    if run is None or not run["scan"]:
        return ""
    true, ours = run["scan"]["reference"], run["scan"]["model"]
    wrong = [1e3 * (a - b) for a, b in zip(ours, true, strict=True)]
    size = sum(x * x for x in wrong) / len(wrong)
    row = [
        str(len(true)),
        f"{1e3 * max(true):.0f}",
        f"{1e3 * (max(ours) - min(ours)):.0f}",
        f"{size**0.5:.1f}",
        f"{max(map(abs, wrong)):.1f}",
    ]
    heads = ["angles", "barrier", "ours", "root mean square", "largest"]
    return table(heads, [row])


def mixed(runs: list[Run]) -> str:
    """3BPA by temperature, both kinds of means."""
    run = best(runs, "3bpa")
    if run is None:
        return ""
    rows = [
        [part, str(each["frames"]), found(run, part), found(run, part, "rmse")]
        for part, each in run["test"].items()
    ]
    return table(["frames at", "number", "mean absolute", "root mean square"], rows)


def batch_of(settings: Run) -> int:
    """Frames of a step, which each benchmark calls in its own way."""
    names = {"frames_of_a_batch", "batch_size"} & settings.keys()
    return int(settings[names.pop()])


def side_by_side(runs: list[Run]) -> str:
    """Ethanol: ours and other packages, trained here for as long."""
    peers = read(RECORDS / "converged" / "peers")
    if not peers:
        return ""
    ours = best(runs, "ethanol", FRAMES)
    named = [("ours", ours), *((run["model"], run) for run in peers)]
    rows = [
        [
            name,
            f"{run['parameters']:,d}",
            f"{run['cpu_seconds']:,.0f}",
            f"{run['steps'] * batch_of(run['settings']):,d}",
            found(run),
            found(run, kind="rmse"),
        ]
        for name, run in named
        if run is not None
    ]
    heads = ["network", "weights", "CPU s", "frames seen"]
    return table([*heads, "mean absolute", "root mean square"], rows)


def curves(runs: list[Run]) -> str:
    """Errors by the number of training frames."""
    rows = []
    for frames in (100, 300, FRAMES):
        run = best(runs, "ethanol", frames)
        if run is not None:
            rows.append([str(frames), budget(run), found(run)])
    return table(["training frames", "time", "ethanol"], rows)


def main() -> int:
    """Print all tables, each under its name; without a run there is none."""
    runs = records()
    parts = {
        "Revised MD17, 950 frames": molecules,
        "Acetylacetone, trained at 300 K; root mean squares": hot,
        "Acetylacetone, the scan of a dihedral angle; energies in meV": scan,
        "3BPA, trained at 300 K": mixed,
        "Ethanol, by the number of frames": curves,
        "Ethanol, trained here for as long": side_by_side,
    }
    made = {name: make(runs) for name, make in parts.items()}
    print("\n\n".join(f"**{name}**\n\n{text}" for name, text in made.items() if text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
