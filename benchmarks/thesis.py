r"""The questions of the e3nn thesis (Miller 2020), put to Cormorant on QM9.

    python -m benchmarks.thesis --npz qm9_labelled.npz                  # all rows
    python -m benchmarks.thesis --npz qm9_labelled.npz --rows degree-1 degree-1-gate
    python -m benchmarks.thesis --table docs/side_by_side_thesis.inc

Does a gate close the gap of Cormorant for the dipole moment, at degree 0, 1 and 2?
Which radial functions, batch size, optimiser and depth? All rows are the recipe, with
one change, on the same molecules in the same order, for the same number of passes over
them: so every row sees each molecule equally often, as in the thesis, and the result
does not depend on what else the machine does. CPU seconds stand beside.

Every finished row is one JSON file in --records, written whole or not at all; a row
that is there is skipped.
"""

from __future__ import annotations

import argparse
import functools
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import records
from benchmarks.charge_dipole import ChargeDipole
from benchmarks.curve_data import Task, load, task
from benchmarks.curve_families import Family, Ours
from benchmarks.curve_training import (
    CLIP,
    WARMUP,
    error,
    make_optimiser,
    one_step,
    rate,
)
from benchmarks.thesis_tables import tables
from torch_cormorant.models import recipe
from torch_cormorant.nn.heads import HeadSpec
from torch_cormorant.train import write_json

NAME = "thesis"
HEADS: dict[str, HeadSpec] = {"mu": ChargeDipole, "alpha": "extensive"}
"""For mu one of invariants alone: degree 0 has no vectors, and all are to be alike."""


@dataclass(frozen=True)
class Row:
    """One setting.

    Attributes:
        target: Property of QM9.
        network: Arguments of the recipe that differ.
        batch: Molecules of a batch; 16 as in the thesis.
        amsgrad: The variant of Adam.
        seeds: Seeds of the split, the weights and the order.
    """

    target: str
    network: dict[str, Any] = field(default_factory=dict)
    batch: int = 16
    amsgrad: bool = False
    seeds: tuple[int, ...] = (0,)

    def family(self) -> Family:
        """How it is trained: as the learning curves train, absolute errors, 1e-3."""
        head = HEADS[self.target]
        return Family(
            lambda _: Ours(recipe(head=head, **self.network)),
            lr=1e-3,
            note="",
            amsgrad=self.amsgrad,
        )


DEGREES = (0, 1, 2)
BASES = {"cosine": "cosine_basis", "gaussian": "gaussian_basis"}
ROWS: dict[str, Row] = {
    **{
        f"degree-{l}{name}": Row("mu", {"lmax": l, "gate": gate}, seeds=(0, 1, 2))
        for l in DEGREES
        for name, gate in (("", False), ("-gate", True))
    },
    **{
        f"basis-{name}-l{l}": Row("mu", {"lmax": l, "radial": kind})
        for name, kind in BASES.items()
        for l in DEGREES
    },
    **{f"batch-{size}": Row("alpha", batch=size) for size in (8, 16, 32, 64)},
    "amsgrad": Row("alpha", amsgrad=True),
    **{f"levels-{count}": Row("alpha", {"num_levels": count}) for count in (5, 6)},
}
SAME = {
    **{f"basis-bessel-l{l}": f"degree-{l}" for l in DEGREES},
    "adam": "batch-16",
    "levels-3": "batch-16",
}
"""Names of rows that are another row: the recipe has Bessel functions, 3 levels."""


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--npz", type=Path, help="QM9 arrays")
    parser.add_argument("--rows", nargs="+", choices=(*ROWS, *SAME), default=list(ROWS))
    parser.add_argument("--seeds", nargs="+", type=int, help="other than those of rows")
    parser.add_argument("--train-size", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--records", type=Path, default=records.FOLDER / "thesis")
    parser.add_argument("--table", type=Path, help="write the tables and stop")
    args = parser.parse_args(argv)
    if args.table is None and args.npz is None:
        parser.error("--npz is needed to train")
    if min(args.train_size, args.epochs) < 1:
        parser.error("--train-size and --epochs must be positive")
    return args


def train(row: Row, job: Task, epochs: int, seed: int) -> dict[str, Any]:
    """Train one row, test it with the last weights.

    Raises:
        DivergedError: The loss is not finite.
    """
    family = row.family()
    torch.manual_seed(seed)
    net = family.make(row.target)
    optimiser = make_optimiser(net, family)
    train_rows, valid, test = job.parts
    total, used = epochs * math.ceil(len(train_rows) / row.batch), 0.0
    for step, rows in enumerate(job.epochs(row.batch, seed)):
        if step == total:
            break
        for group in optimiser.param_groups:
            group["lr"] = family.lr * rate(step / total)
        started = time.process_time()
        loss = one_step(net, optimiser, family, job, rows)
        used += time.process_time() - started
        if not math.isfinite(loss):
            raise records.DivergedError(f"loss {loss} after {step} steps")
    return {
        "test_mae": error(net, job, test),
        "valid_mae": error(net, job, valid),
        "steps": total,
        "cpu_seconds": round(used, 1),
        "parameters": sum(part.numel() for part in net.parameters()),
    }


def one(args: argparse.Namespace, name: str, made: Any, seed: int, path: Path) -> None:
    """Train a row with one seed and write its record."""
    row, job = ROWS[name], made()
    try:
        found = train(row, job, args.epochs, seed)
    except records.DivergedError as failure:
        print(f"{path.stem}: {failure}", flush=True)
        found = {"test_mae": None}
    record = {
        "kind": "question of the thesis, equal passes over equal molecules",
        "row": name,
        "unit": job.molecules.unit,
        **found,
        "baselines": job.baselines,
        "epochs": args.epochs,
        "train_size": args.train_size,
        "settings": asdict(row) | {"lr": 1e-3, "clip": CLIP, "warmup_share": WARMUP},
        "seed": seed,
        "split": {"seed": job.split.seed, "sha256": job.split.digest},
        "data": job.molecules.digest,
    } | records.circumstances(NAME)
    write_json(path, record)
    print(f"{path.stem}: {found['test_mae']} {job.molecules.unit}", flush=True)


def runs(args: argparse.Namespace) -> Iterator[records.Run]:
    """All that are asked for, each once."""
    molecules = functools.cache(partial(load, args.npz))

    @functools.cache
    def job(target: str, seed: int) -> Task:
        return task(molecules(target), args.train_size, seed)

    for name in dict.fromkeys(SAME.get(name, name) for name in args.rows):
        row = ROWS[name]
        for seed in args.seeds or row.seeds:
            stem = f"{name}-{args.train_size}-{args.epochs}e-seed{seed}"
            path = args.records / f"{stem}.json"
            make = partial(one, args, name, partial(job, row.target, seed), seed, path)
            yield name, path, make


def main(argv: list[str] | None = None) -> int:
    """Run the rows that are missing, or write the tables."""
    args = parse(argv)
    if args.table is not None:
        args.table.write_text(tables(args.records), encoding="utf-8")
        return 0
    torch.set_num_threads(1)
    return records.make_missing(NAME, runs(args))


if __name__ == "__main__":
    sys.exit(main())
