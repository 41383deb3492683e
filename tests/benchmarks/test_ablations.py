"""Tables over several seeds."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import stdev

from benchmarks import ablations


def record(row: str, seed: int, mae: float) -> dict[str, object]:
    """Return what a run leaves."""
    return {
        "row": row,
        "title": f"row {row}",
        "seed": seed,
        "units": ["bohr^3", "eV", "eV"],
        "mae": [mae, 2 * mae, 3 * mae],
        "mae_ema": [mae + 1, 2 * mae + 1, 3 * mae + 1],
        "composition": [9.0, 9.0, 9.0],
        "first_loss": 1.0 + seed,
        "largest_loss": 2.0 + seed,
    }


def test_seeds_are_averaged_and_their_spread_is_pooled(tmp_path: Path) -> None:
    runs = {"recipe": (1.0, 2.0, 6.0), "silu": (4.0, 5.0), "gate": (7.0,)}
    for row, maes in runs.items():
        for seed, mae in enumerate(maes):
            text = json.dumps(record(row, seed, mae))
            (tmp_path / f"{row}-{seed}.json").write_text(text)
    lines = ablations.table(tmp_path).splitlines()
    assert lines[2] == "| row recipe | 3 | 6 | 9 | 3 | 3 | 4 |"
    assert lines[3].startswith("| row recipe, averaged weights (EMA) | 4 (+56 %) |")
    # Against the recipe with the same seeds: 4 of 1 and 5 of 2.
    assert lines[4].startswith("| row silu | 4.5 (+225 %) | 9 (+225 %) |")
    assert lines[4].endswith("| 2 | 2 | 3 |")
    # Two degrees of freedom of the one, one of the other.
    pooled = math.sqrt((2 * stdev(runs["recipe"]) ** 2 + stdev(runs["silu"]) ** 2) / 3)
    assert lines[-1] == (
        f"| *between seeds* | {pooled:.2g} | {2 * pooled:.2g} | {3 * pooled:.2g} |  |  "
        "|  |"
    )


def test_single_runs_have_no_spread(tmp_path: Path) -> None:
    (tmp_path / "recipe-0.json").write_text(json.dumps(record("recipe", 0, 1.0)))
    assert "| *between seeds* | nan | nan | nan |" in ablations.table(tmp_path)
