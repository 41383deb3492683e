"""Tables of trainings that were given hours, beside errors that others have published.

Ours are records of ``benchmarks/search.py`` in ``docs/records/converged``, those of
others are in ``docs/records/published/errors.json`` with the paper they were read in.

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


def records() -> list[Run]:
    """All of ours, longest budgets first."""
    paths = sorted((RECORDS / "converged").glob("*.json"))
    runs = [json.loads(path.read_text()) for path in paths]
    return sorted(runs, key=lambda run: -run["budget_quiet_cpu_seconds"])


def published() -> Run:
    """Errors of others."""
    found: Run = json.loads((RECORDS / "published" / "errors.json").read_text())
    return found


def best(runs: Iterable[Run], name: str, frames: int | None = None) -> Run | None:
    """The longest run of a set, with all training frames or so many."""
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
        "Ethanol, by the number of frames": curves,
    }
    made = {name: make(runs) for name, make in parts.items()}
    print("\n\n".join(f"**{name}**\n\n{text}" for name, text in made.items() if text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
