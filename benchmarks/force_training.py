r"""Potentials trained on forces: Cormorant and peers, equal frames and CPU time.

One run (skipped when its record is there):

    python -m benchmarks.force_training --data DATA --sets ethanol --models mace \
        --cpu-seconds 240

DATA holds `md17/rmd17_*.npz`, `md17/extra/*.npz` and `structures/*.npz`, plain arrays.
Other settings, for short trials that choose them:

    python -m benchmarks.force_training --data DATA --sets ethanol --models cormorant \
        --cpu-seconds 60 --lr 5e-3 --sizes channels=8 --batch-factor 2 \
        --records docs/records/forces/trials

Runs are made in the order sets x models; every finished run is one JSON file in
--records, written whole or not at all. `docs/force_tables.py` makes tables and figures
of them.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import records
from benchmarks.force_data import TASKS, Task
from benchmarks.force_families import FAMILIES, Family, batch_size, build
from benchmarks.force_loop import (
    CLIP,
    EMA,
    WARMUP,
    Outcome,
    make_module,
    predict,
    train,
)
from benchmarks.peers import version_of
from benchmarks.records import DivergedError
from torch_cormorant.data import Frames
from torch_cormorant.models import Normalisation
from torch_cormorant.models.energy import Result
from torch_cormorant.train import PotentialRegression, frame_errors, write_json

NAME = "force_training"


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = records.parser(__doc__, FAMILIES)
    parser.add_argument("--data", type=Path, required=True, help="folder of the arrays")
    parser.add_argument("--sets", nargs="+", choices=tuple(TASKS), default=["ethanol"])
    parser.add_argument("--cpu-seconds", type=float, default=240.0)
    parser.add_argument("--batch-factor", type=float, help="likewise")
    parser.add_argument("--energy-weight", type=float, help="likewise; default 1")
    parser.add_argument("--sizes", nargs="+", default=[], metavar="NAME=NUMBER")
    parser.add_argument("--records", type=Path, default=records.FOLDER / "forces")
    parser.add_argument("--weights", type=Path, help="folder for Cormorant model files")
    args = parser.parse_args(argv)
    if not args.cpu_seconds > 0:
        parser.error("--cpu-seconds must be positive")
    try:
        args.sizes = {
            name: json.loads(value)
            for name, value in (text.split("=") for text in args.sizes)
        }
    except ValueError:
        parser.error("--sizes: expected NAME=NUMBER")
    return args


def chosen(args: argparse.Namespace, name: str) -> tuple[Family, str]:
    """The family with what the command line changes, and what to call it."""
    family, words = FAMILIES[name], []
    if args.lr is not None:
        family = replace(family, lr=args.lr)
        words.append(f"lr{args.lr:g}")
    if args.batch_factor is not None:
        family = replace(family, batch_factor=args.batch_factor)
        words.append(f"batch{args.batch_factor:g}")
    if args.energy_weight is not None:
        training = {**family.training, "energy_weight": args.energy_weight}
        family = replace(family, training=training)
        words.append(f"energy{args.energy_weight:g}")
    if args.sizes:
        family = replace(family, sizes={**family.sizes, **args.sizes})
        words += [f"{key}{value}" for key, value in args.sizes.items()]
    return family, "".join(f"-{word}" for word in words)


def errors_of(
    module: PotentialRegression, task: Task, outcome: Outcome
) -> dict[str, dict[str, float]]:
    """Errors on every test set, in meV and meV/Angstrom, beside guessing."""
    errors = {}
    for name, frames in task.tests.items():
        output, seconds = predict(module, frames, task.batch)
        outcome.test_cpu_seconds_per_frame[name] = seconds
        errors[name] = in_mev(task.train, frames, output, module.normalisation)
    return errors


def in_mev(
    train_frames: Frames,
    frames: Frames,
    output: Result,
    units: Normalisation,
) -> dict[str, float]:
    """The library's errors times 1,000, per atom too, and those of the references."""
    found = frame_errors(train_frames, frames, output).values
    names = ("energy_mae", "energy_rmse", "force_mae", "force_rmse", "force_zero_mae")
    values = {name: 1e3 * found[name] for name in names}
    size = torch.tensor([len(frame.z) for frame in frames])
    guess = torch.stack([units.atoms(frame.z)[:, 0].sum() for frame in frames])
    wrong = output.energy - frames.energies
    left = guess - frames.energies
    forces = torch.cat([frame.forces for frame in frames])
    return values | {
        "energy_mae_per_atom": 1e3 * float((wrong / size).abs().mean()),
        "energy_guess_mae": 1e3 * float(left.abs().mean()),
        "energy_guess_rmse": 1e3 * rms(left),
        "energy_guess_mae_per_atom": 1e3 * float((left / size).abs().mean()),
        "force_zero_rmse": 1e3 * rms(forces),
        "frames": len(frames),
    }


def rms(values: Tensor) -> float:
    """Root mean square."""
    return float(values.square().mean().sqrt())


def scan_of(module: PotentialRegression, task: Task) -> dict[str, list[float]] | None:
    """Energies along the scan in eV, over the lowest of the reference."""
    if task.scan is None:
        return None
    frames, angles = task.scan
    output, _ = predict(module, frames, task.batch)
    reference = frames.energies
    lowest = reference.min()
    return {
        "angle": [round(angle, 3) for angle in angles],
        "reference": (reference - lowest).tolist(),
        "model": (output.energy - lowest).tolist(),
    }


def one(
    args: argparse.Namespace, name: str, made: Callable[[], Task], path: Path
) -> None:
    """Train one network and write its record."""
    task = made()
    if task.periodic and not FAMILIES[name].periodic:
        print(f"{name}, {task.name}: not run: it knows no periodic cells")
        return
    family, _ = chosen(args, name)
    module = make_module(build(family, task, args.seed), family, task)
    count = sum(part.numel() for part in module.model.parameters())
    errors, scan = None, None
    try:
        outcome = train(module, family, task, args.cpu_seconds, args.seed)
        errors = errors_of(module, task, outcome)
        scan = scan_of(module, task)
    except DivergedError as failure:
        outcome = Outcome()
        print(f"{path.stem}: {failure}", flush=True)
    batch = batch_size(family, task)
    record = {
        "kind": "potential trained on energies and forces at equal CPU time",
        "model": name,
        "set": task.name,
        "unit": "meV, meV/Angstrom",
        "test": errors,
        "scan": scan,
        **described(family, task, outcome, args),
        "parameters": count,
        "epochs": outcome.steps * batch / len(task.train),
        "settings": family.settings()
        | {"batch_size": batch, "ema": EMA, "clip": CLIP, "warmup_share": WARMUP},
    } | records.circumstances(NAME)
    write_json(path, record)
    if family.ours and args.weights is not None and errors is not None:
        file = args.weights / f"{path.stem}.safetensors"
        module.save_network(file, ["energy"], ["eV"], training=short(record))
    for where, values in (errors or {}).items():
        print(
            f"{path.stem}, {where}: energy {values['energy_mae']:.2f} meV, forces "
            f"{values['force_mae']:.2f} meV/A (RMS of the forces "
            f"{values['force_zero_rmse']:.0f}), {outcome.steps} steps",
            flush=True,
        )


def described(
    family: Family, task: Task, outcome: Outcome, args: argparse.Namespace
) -> dict[str, Any]:
    """How long it took and what it was trained on."""
    seconds = outcome.cpu_seconds
    return {
        "looks": outcome.looks,
        "best_look": outcome.best,
        "steps": outcome.steps,
        "budget_cpu_seconds": args.cpu_seconds,
        "cpu_seconds": seconds,
        "cpu_seconds_per_step": seconds / outcome.steps if outcome.steps else math.nan,
        "test_cpu_seconds_per_frame": outcome.test_cpu_seconds_per_frame,
        "frames": {"train": len(task.train), "valid": len(task.valid)},
        "split": task.split,
        "data": task.train.digest,
        "seed": args.seed,
        "peer_versions": {name: version_of(name) for name in family.packages},
    }


def short(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a model file says about its training."""
    names = ("set", "test", "steps", "settings", "split", "data", "seed", "commit")
    return {name: record[name] for name in names}


def runs(args: argparse.Namespace) -> Iterator[records.Run]:
    """All that are asked for."""
    for name in args.sets:
        task = functools.cache(partial(TASKS[name], args.data))
        for model in args.models:
            words = chosen(args, model)[1]
            stem = f"{model}{words}-{name}-{args.cpu_seconds:g}s-seed{args.seed}"
            path = args.records / f"{stem}.json"
            yield model, path, partial(one, args, model, task, path)


def main(argv: list[str] | None = None) -> int:
    """Make all runs that are asked for and not there."""
    args = parse(argv)
    torch.set_num_threads(1)
    return records.make_missing(NAME, runs(args))


if __name__ == "__main__":
    sys.exit(main())
