"""What a potential for organic molecules is worth, beside GFN2-xTB.

    python scripts/organic_report.py --model organic-gfn2 --data organic-gfn2.npz \
        --reference-python PYTHON --records docs/records/organic \
        --tables docs/organic_tables.inc
    python scripts/organic_report.py --model runs/organic --only drugs --only water ...

``--reference-python`` is a Python that has tblite, ASE and RDKit. It computes the side
of GFN2-xTB once for each part and keeps it in ``--references``. Each part writes
``PART.json``; ``--tables`` renders all that are there. The parts ``errors`` (which need
``--data``, the joined frames of ``generate_organic_gfn2.py``), ``stability`` and
``strange`` need no reference.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from organic_checks import models
from organic_checks.sides import PARTS, Arrays
from organic_checks.tables import rendered

from torch_cormorant.version import __version__

HERE = Path(__file__).resolve().parent
ALONE = ("errors", "stability", "strange")
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def reference(part: str, given: argparse.Namespace) -> tuple[Arrays, Arrays]:
    """Starts of a part, and GFN2-xTB's side of it, which is computed once."""
    given.references.mkdir(parents=True, exist_ok=True)
    begun = given.references / f"{part}_starts.npz"
    done = given.references / f"{part}.npz"
    if not begun.exists():
        np.savez(begun, **_fewer(PARTS[part].starts(), given.most))
    if not done.exists():
        fresh = done.with_name(f".{part}.npz")
        words = [str(begun.resolve()), str(fresh.resolve())]
        subprocess.run(  # noqa: S603
            [given.reference_python, "-m", "organic_checks.reference", part, *words],
            check=True,
            cwd=HERE,
            env={**os.environ, **dict.fromkeys(ONE_THREAD, "1"), "PYTHONPATH": ""},
        )
        fresh.replace(done)
    with np.load(begun) as first, np.load(done) as second:
        return dict(first), dict(second)


def _fewer(arrays: Arrays, most: int | None) -> Arrays:
    """The first structures only, for a trial."""
    if most is None:
        return arrays
    names = [key.partition(":")[0] for key in arrays if key.endswith(":z")][:most]
    return {k: v for k, v in arrays.items() if k.partition(":")[0] in names}


def compared(part: str, model: Any, given: argparse.Namespace) -> dict[str, Any]:
    """Rows of a part that has a reference."""
    begun, theirs = reference(part, given)
    ours = PARTS[part].compute(models.maker(model), begun, theirs)
    rows = PARTS[part].compare(begun, theirs, ours)
    if part == "speed":
        one = PARTS[part].compute(models.maker(models.member(model)), begun)
        for name, row in rows.items():
            row["one_ms"] = float(one[f"{name}:ms"])
    return rows


def alone(part: str, model: Any, given: argparse.Namespace) -> dict[str, Any]:
    """Rows of a part without a reference."""
    calls: dict[str, Callable[[], dict[str, Any]]] = {
        "errors": lambda: models.errors(model, given.data, given.frames),
        "stability": lambda: models.stability(model, given.picoseconds),
        "strange": lambda: models.strange(model),
    }
    return calls[part]()


def _of_children() -> float:
    """CPU seconds of the processes that have been started and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", default="organic-gfn2", help="name, file or folder")
    add("--data", type=Path, help="joined frames, for the part errors")
    add("--reference-python", default="python", help="a Python with tblite")
    add("--records", type=Path, default=Path("runs/organic_report"))
    add("--references", type=Path, default=Path("runs/organic_references"))
    add("--tables", type=Path, help="write all tables there")
    add("--only", action="append", choices=[*ALONE, *PARTS])
    add("--frames", type=int, default=400, help="of each class; default 400")
    add("--picoseconds", type=float, default=100.0, help="of a run; default 100")
    add("--most", type=int, help="structures of each part, for a trial")
    given = parser.parse_args(argv)
    parts = given.only or [*ALONE, *PARTS]
    if "errors" in parts and given.data is None:
        if given.only:
            parser.error("the part errors needs --data")
        parts.remove("errors")
    given.parts = parts
    return given


def main(argv: list[str] | None = None) -> None:
    """Run the parts, write their records, render the tables."""
    given = parse(argv)
    torch.set_num_threads(1)
    given.records.mkdir(parents=True, exist_ok=True)
    model = models.loaded(given.model)
    for part in given.parts:
        start, before = time.process_time(), _of_children()
        rows = (alone if part in ALONE else compared)(part, model, given)
        spent = round(time.process_time() - start, 1)
        theirs = round(_of_children() - before, 1)
        held = {
            "part": part,
            "model": Path(given.model).name,
            "digest": models.member(model).info.digest,
            "version": __version__,
            "cpu_seconds": spent,
            "reference_cpu_seconds": theirs,  # 0: they were there
            "rows": rows,
        }
        path = given.records / f"{part}.json"
        path.write_text(json.dumps(held, indent=1) + "\n", encoding="utf-8")
        print(f"{part}: {len(rows)} rows, {spent} + {theirs} s", flush=True)
    if given.tables:
        given.tables.write_text(rendered(given.records), encoding="utf-8")
        print(f"{given.tables}: written")


if __name__ == "__main__":
    main()
