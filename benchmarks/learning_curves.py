r"""Learning curves of Cormorant and its peers, at equal molecules and equal CPU time.

One run (skipped when its record is there):

    python -m benchmarks.learning_curves --npz qm9.npz --models recipe schnet \
        --targets alpha --sizes 1000 --cpu-seconds 180

Measure first how long a step of every network takes, all in turns, so that the budget
does not depend on what else the machine does during a run:

    python -m benchmarks.learning_curves --npz qm9.npz --speed speed.json --measure 15
    python -m benchmarks.learning_curves --npz qm9.npz --speed speed.json ...

Runs are made in the order targets x sizes x models; every finished run is one JSON file
in --records, written whole or not at all. `docs/learning_curves.py` draws them.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from benchmarks import records
from benchmarks.curve_data import Task, load, task
from benchmarks.curve_families import FAMILIES, build
from benchmarks.curve_training import (
    BATCH,
    CLIP,
    WARMUP,
    Outcome,
    step_seconds,
    train,
)
from benchmarks.machine import load as load_average
from benchmarks.peers import PeerMissingError, version_of
from benchmarks.records import DivergedError
from torch_cormorant.train import write_json

NAME = "learning_curves"


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = records.parser(__doc__, FAMILIES)
    parser.add_argument("--npz", type=Path, required=True, help="QM9 arrays")
    parser.add_argument("--targets", nargs="+", default=["alpha", "U0_atom", "gap"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[1000, 5000])
    parser.add_argument("--cpu-seconds", type=float, default=600.0)
    parser.add_argument("--speed", type=Path, help="time of a step of every network")
    parser.add_argument("--measure", type=int, help="rounds; writes --speed, no runs")
    parser.add_argument("--records", type=Path, default=records.FOLDER / "curves")
    args = parser.parse_args(argv)
    if not args.cpu_seconds > 0 or min(args.sizes) < 1:
        parser.error("--cpu-seconds and --sizes must be positive")
    if args.measure is not None and (args.measure < 1 or args.speed is None):
        parser.error("--measure needs a positive number and --speed")
    return args


def measure(args: argparse.Namespace) -> None:
    """Write the CPU seconds of a step of every network that is installed."""
    job = task(load(args.npz, "alpha"), args.sizes[0], args.seed)
    nets, missing = {}, {}
    for name in args.models:
        try:
            nets[name] = build(name, "alpha", args.seed)
        except PeerMissingError as absent:
            missing[name] = str(absent)
    times = step_seconds(nets, FAMILIES, job, args.measure)
    middle = {name: found[len(found) // 2] for name, found in times.items()}
    write_json(
        args.speed,
        {
            "kind": "CPU seconds of a training step, batch of 25, in turns",
            "median": middle,
            "smallest": {name: found[0] for name, found in times.items()},
            "rounds": args.measure,
            "missing": missing,
            "load": load_average(),
        }
        | records.circumstances(NAME),
    )
    for name, found in middle.items():
        print(f"{name}: {1e3 * found:.0f} ms a step")


def record_path(args: argparse.Namespace, model: str, target: str, size: int) -> Path:
    """One name for one run."""
    rate = "" if args.lr is None else f"-lr{args.lr:g}"
    name = f"{model}-{target}-{size}-{args.cpu_seconds:g}s-seed{args.seed}{rate}.json"
    return Path(args.records) / name


def one(
    args: argparse.Namespace, model: str, made: Callable[[], Task], path: Path
) -> None:
    """Train one network and write its record."""
    job = made()
    family = FAMILIES[model]
    if args.lr is not None:
        family = replace(family, lr=args.lr)
    net = build(model, job.molecules.target, args.seed)
    count = sum(part.numel() for part in net.parameters() if part.requires_grad)
    speed = json.loads(args.speed.read_text())["median"] if args.speed else {}
    step = speed.get(model, speed.get(family.timed_as))
    try:
        outcome = train(net, family, job, args.cpu_seconds, args.seed, step)
    except DivergedError as failure:
        outcome = Outcome()
        print(f"{path.stem}: {failure}", flush=True)
    size = len(job.split.train)
    finished = math.isfinite(outcome.test_mae)
    write_json(
        path,
        {
            "kind": "learning curve at equal CPU time",
            "model": model,
            "target": job.molecules.target,
            "unit": job.molecules.unit,
            "level_of_theory": job.molecules.theory,
            "test_mae": outcome.test_mae if finished else None,
            "baselines": job.baselines,
            "valid": outcome.valid,
            "train_size": size,
            "steps": outcome.steps,
            "epochs": outcome.steps * BATCH / size,
            "budget_cpu_seconds": args.cpu_seconds,
            "step_cpu_seconds": step,
            "cpu_seconds": outcome.cpu_seconds,
            "evaluation_cpu_seconds": outcome.evaluation_seconds,
            "parameters": count,
            "settings": family.settings()
            | {"batch_size": BATCH, "clip": CLIP, "warmup_share": WARMUP},
            "seed": args.seed,
            "split": {
                "sizes": [len(part) for part in job.split.parts],
                "seed": job.split.seed,
                "sha256": job.split.digest,
            },
            "data": job.molecules.digest,
            "peer_versions": {name: version_of(name) for name in family.packages},
        }
        | records.circumstances(NAME),
    )
    print(
        f"{path.stem}: {outcome.test_mae:.4g} {job.molecules.unit} (composition "
        f"{job.baselines['composition']:.4g}), {outcome.steps} steps",
        flush=True,
    )


def runs(args: argparse.Namespace) -> Iterator[records.Run]:
    """All that are asked for."""
    for target in args.targets:
        molecules = load(args.npz, target)
        for size in args.sizes:
            job = functools.cache(partial(task, molecules, size, args.seed))
            for model in args.models:
                path = record_path(args, model, target, size)
                yield model, path, partial(one, args, model, job, path)


def main(argv: list[str] | None = None) -> int:
    """Make all runs that are asked for and not there."""
    args = parse(argv)
    torch.set_num_threads(1)
    if args.measure is not None:
        measure(args)
        return 0
    return records.make_missing(NAME, runs(args))


if __name__ == "__main__":
    sys.exit(main())
