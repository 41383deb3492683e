"""Table of the trained heads of QM9, beside what others reach with all of it.

``docs/records/qm9_heads`` holds ``ensemble.json`` of the training and ``results.json``
of its first member; errors of others are in ``docs/records/published/errors.json``.

    python docs/qm9_table.py > docs/qm9_table.inc
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

RECORDS = Path(__file__).parent / "records"
OTHERS = ("Cormorant", "SchNet", "PaiNN", "SEGNN")
MILLI = 1000.0


def read(*place: str) -> dict[str, Any]:
    """One record."""
    found: dict[str, Any] = json.loads(RECORDS.joinpath(*place).read_text())
    return found


def lines() -> list[str]:
    """The table in Markdown."""
    whole = read("qm9_heads", "ensemble.json")["targets"]
    first = read("qm9_heads", "results.json")["test"]
    published = read("published", "errors.json")["qm9"]
    sizes = {name: published[name]["training_molecules"] for name in OTHERS}
    heads = ["property", "unit", "composition", "one member", "**ensemble**"]
    heads += [
        f"{n}, {s:,}" if (s := sizes[n]) else f"{n}, size not read" for n in OTHERS
    ]
    rows = [heads, ["---", "---", *["---:"] * (len(heads) - 2)]]
    for name, each in first.items():
        energy = each["unit"] == "eV"
        factor, unit = (MILLI, "meV") if energy else (1.0, each["unit"])
        ours = [each["composition_least_squares"], each["ours"]]
        ours.append(whole[name]["mae_of_mean"])
        theirs = [published[n]["errors"].get(name, ("",))[0] for n in OTHERS]
        cells = [f"{factor * value:.3g}" for value in ours]
        cells[-1] = f"**{cells[-1]}**"
        rows.append([name, unit, *cells, *map(str, theirs)])
    return [f"| {' | '.join(row)} |" for row in rows]


if __name__ == "__main__":
    sys.stdout.write("\n".join(lines()) + "\n")
