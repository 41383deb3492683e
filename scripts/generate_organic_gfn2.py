"""About 100,000 frames of organic molecules with energies and forces by GFN2-xTB.

    pip install tblite rdkit
    python scripts/generate_organic_gfn2.py --qm9 qm9.npz --out runs/organic --workers 2
    python scripts/generate_organic_gfn2.py --qm9 qm9.npz --out runs/organic \
        --join organic-gfn2.npz

H, C, N, O, F, S and Cl; closed-shell neutral molecules, clusters, atoms and pairs of
atoms. The classes are in ``organic_gfn2/classes.py``. Every structure has random
numbers of its own, so shards can be made in any order; a second start makes only those
that are missing. ``--qm9`` is a file as ``read_qm9(npz=...)`` takes it, with the array
``smiles``.

``--join`` makes one file of the shards that are there; ``read_npz(file, part="train")``
reads a part of it: ``train``, ``valid``, ``test`` (other molecules) or ``held_out``
(other classes: big molecules and big clusters).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from organic_gfn2 import shards
from organic_gfn2.classes import CLASSES

shards.one_thread()


def made(todo: list[shards.Task], workers: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Records of the shards as they are ready, with their places in the list."""
    if workers == 1:
        yield from enumerate(map(shards.make, todo))
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context) as pool:
        places = {pool.submit(shards.make, task): k for k, task in enumerate(todo)}
        for future in as_completed(places):
            yield places[future], future.result()


def started(out: Path, setting: dict[str, Any]) -> None:
    """Make the folder, or see that it was made with the same settings."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "settings.json"
    if path.exists():
        there = json.loads(path.read_text(encoding="utf-8"))
        if there != setting:
            raise SystemExit(f"{out} holds frames of other settings: {there}")
    shards.written(path, json.dumps(setting))


def main() -> None:
    """Read the command line, make what is missing, write the manifest."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--qm9", type=Path, required=True, help="geometries")
    parser.add_argument("--out", type=Path, required=True, help="folder of the shards")
    parser.add_argument("--only", action="append", choices=list(CLASSES))
    parser.add_argument("--scale", type=float, default=1.0, help="0.01: a small run")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--join", type=Path, help="write this file of all and stop")
    given = parser.parse_args()
    setting = shards.settings(given.seed, given.scale, given.qm9)
    started(given.out, setting)
    kinds = given.only or list(CLASSES)
    todo = shards.tasks(kinds, given.scale, given.seed, given.qm9, given.out)
    if given.join:
        ready = [task.path for task in todo if task.record.exists()]
        arrays = shards.joined(ready)
        shards.saved(given.join, arrays)
        print(f"{len(arrays['energy'])} frames of {len(ready)} of {len(todo)} shards")
        return
    records: dict[int, dict[str, Any]] = {}
    for place, record in made(todo, given.workers):
        records[place] = record
        print(
            f"{len(records)}/{len(todo)} {todo[place].path.name}: {record['frames']} "
            f"frames, {record['cpu_seconds']} s",
            flush=True,
        )
    found = shards.manifest(setting, [records[k] for k in sorted(records)])
    shards.written(given.out / "manifest.json", json.dumps(found, indent=1))
    for name, total in found["classes"].items():
        print(f"{name}: {dict(total)}")


if __name__ == "__main__":
    main()
