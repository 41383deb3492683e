"""Tables in Markdown out of the records of the report."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Cells = Sequence[str]


def _table(heads: Cells, rows: Iterable[Cells]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _errors(rows: dict[str, Row]) -> str:
    heads = ["class", "frames", "energy MAE [meV/atom]", "force MAE [meV/Å]"]
    heads += ["force RMSE", "mean force", "warned of [%]", "rank of spread and error"]
    return _table(
        heads,
        [
            [
                name.replace("_", " "),
                f"{row['frames']:,}",
                f"{row['energy_mae']:.2f}",
                f"{row['force_mae']:.1f}",
                f"{row['force_rmse']:.1f}",
                f"{row['force_size']:.0f}",
                f"{row['warned']:.1f}" if "warned" in row else "",
                f"{row['rank']:.2f}" if "rank" in row else "",
            ]
            for name, row in rows.items()
        ],
    )


def _drugs(rows: dict[str, Row]) -> str:
    heads = ["molecule", "atoms", "RMSD, heavy atoms [Å]", "RMSD, all atoms [Å]"]
    return _table(
        heads,
        [
            [
                name,
                f"{row['atoms']}",
                f"{row['rmsd_heavy']:.3f}",
                f"{row['rmsd_all']:.3f}{'' if row['converged'] else ' (not done)'}",
            ]
            for name, row in rows.items()
        ],
    )


def _conformers(rows: dict[str, Row]) -> str:
    heads = ["molecule", "conformers", "Spearman, own minima"]
    heads += ["Spearman at GFN2's minima", "MAE there [kcal/mol]", "range [kcal/mol]"]
    return _table(
        heads,
        [
            [
                name,
                f"{row['conformers']}",
                f"{row['spearman']:.2f}",
                f"{row['spearman_at']:.2f}",
                f"{row['mae_kcal']:.2f}",
                f"{row['range_kcal']:.1f}",
            ]
            for name, row in rows.items()
        ],
    )


def _curves(rows: dict[str, Row]) -> str:
    heads = ["molecule", "highest, GFN2 [kcal/mol]", "ours", "MAE of the curve"]
    return _table(
        heads,
        [
            [
                name,
                f"{row['barrier']:.2f}",
                f"{row['our_barrier']:.2f}",
                f"{row['mae_kcal']:.2f}",
            ]
            for name, row in rows.items()
        ],
    )


def _stretches(rows: dict[str, Row]) -> str:
    heads = ["bond", "MAE at 0.8 to 1.3 times its length [kcal/mol]"]
    heads += ["MAE to 2.2 times", "energy at 2.2 times, GFN2", "ours"]
    return _table(
        heads,
        [
            [
                name,
                f"{row['mae_near']:.2f}",
                f"{row['mae_kcal']:.2f}",
                f"{row['depth']:.1f}",
                f"{row['our_depth']:.1f}",
            ]
            for name, row in rows.items()
        ],
    )


def _modes(rows: dict[str, Row]) -> str:
    heads = ["molecule", "modes", "MAE [1/cm]", "largest [1/cm]"]
    total = sum(row["modes"] for row in rows.values())
    mean = sum(row["modes"] * row["mae"] for row in rows.values()) / max(total, 1)
    cells = [
        [name, f"{row['modes']}", f"{row['mae']:.1f}", f"{row['largest']:.0f}"]
        for name, row in rows.items()
    ]
    return _table(heads, [*cells, ["all", f"{total}", f"{mean:.1f}", ""]])


def _waters(rows: dict[str, Row]) -> str:
    heads = ["molecules", "binding, GFN2 [kcal/mol a molecule]", "ours, own minima"]
    heads += ["ours at GFN2's minima"]
    return _table(
        heads,
        [
            [name, f"{row['gfn2']:.2f}", f"{row['ours']:.2f}", f"{row['ours_at']:.2f}"]
            for name, row in rows.items()
        ],
    )


def _stability(rows: dict[str, Row]) -> str:
    heads = ["molecule", "atoms", "time [ps]", "end", "ms a step"]
    return _table(
        heads,
        [
            [
                name,
                f"{row['atoms']}",
                f"{row['ps']:.1f} of {row['asked_ps']:g}",
                row["end"],
                f"{row['ms_a_step']:.2f}",
            ]
            for name, row in rows.items()
        ],
    )


def _times(rows: dict[str, Row]) -> str:
    heads = ["atoms", "GFN2 [ms]", "ensemble [ms]", "one member [ms]"]
    heads += ["GFN2 over ensemble"]
    return _table(
        heads,
        [
            [
                name,
                f"{row['gfn2_ms']:.1f}",
                f"{row['ours_ms']:.2f}",
                f"{row['one_ms']:.2f}",
                f"{row['gfn2_ms'] / row['ours_ms']:.0f}",
            ]
            for name, row in rows.items()
        ],
    )


def _strange(rows: dict[str, Row]) -> str:
    heads = ["molecule", "spread over its limit", "warned of"]
    return _table(
        heads,
        [
            [name, f"{row['share']:.2f}", "yes" if row["warned"] else "no"]
            for name, row in rows.items()
        ],
    )


TABLES: dict[str, tuple[str, Callable[[dict[str, Row]], str]]] = {
    "errors": ("Errors on molecules and classes that were held out", _errors),
    "drugs": ("Relaxed geometries of drugs", _drugs),
    "conformers": ("Order of conformers", _conformers),
    "torsions": ("Torsions, turned rigidly", _curves),
    "vibrations": ("Harmonic wavenumbers", _modes),
    "proton_transfer": ("Proton transfer", _curves),
    "dissociation": ("Bonds that are stretched", _stretches),
    "water": ("Water clusters", _waters),
    "stability": ("Dynamics at 500 K", _stability),
    "speed": ("Energy and forces of alkanes, one CPU thread", _times),
    "strange": ("Chemistry that no training frame holds", _strange),
}


def rendered(folder: Path) -> str:
    """All tables for which there are records.

    Args:
        folder: With a file ``PART.json`` for each.
    """
    parts = []
    for name, (title, table) in TABLES.items():
        path = folder / f"{name}.json"
        if path.exists():
            rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
            parts.append(f"### {title}\n\n{table(rows)}\n")
    return "\n".join(parts)
