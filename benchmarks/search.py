r"""The best network for a second of CPU: equal CPU time, successive halving.

    python -m benchmarks.search --data DATA --sets ethanol --seconds 60
    python -m benchmarks.search --data DATA --sets ethanol aspirin --seconds 240 \
        --best 4 --after 60 --test
    python -m benchmarks.search --data DATA --sets aspirin --candidates muon-lmax-3 \
        --seconds 3600 --test --models runs/converged --records docs/records/converged
    python -m benchmarks.search --table

A trial takes as many steps as --seconds of one thread of a quiet machine hold. What its
step takes there follows from :data:`QUIET`, the step of the default on ethanol, and the
ratio of both steps, measured in turns in the process of the trial: trials on a busy
machine are worth the same. The weights of the best of six looks at the validation
frames count; test frames are read with --test alone.

Every finished trial is one JSON file in --records; a trial that was cut goes on from
its checkpoint in --scratch. --best K takes the K candidates with the lowest validation
error of the forces after the shorter trials of --after seconds, and the default.
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
from typing import Any

import torch

from benchmarks import records
from benchmarks.force_data import TASKS, Task
from benchmarks.force_loop import CLIP, FINAL, WARMUP, Outcome
from benchmarks.force_training import errors_of, scan_of
from benchmarks.records import FOLDER, DivergedError
from benchmarks.search_run import Trial, in_turns
from benchmarks.search_space import CANDIDATES
from torch_cormorant.train import write_json

NAME = "search"
QUIET = 18.3e-3
"""CPU seconds of a step of the default on ten frames of ethanol, machine quiet:
``Cormorant.potential`` as it was when the search began, 3 levels."""
REFERENCE = "ethanol"
"""The set of that step."""
DEFAULT = "default"


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, help="folder of the arrays, see benchmarks.force_data")
    add("--sets", nargs="+", choices=tuple(TASKS), default=[REFERENCE])
    add("--candidates", nargs="+", choices=tuple(CANDIDATES), default=[*CANDIDATES])
    add("--seconds", type=float, default=60.0, help="of one thread, machine quiet")
    add("--seed", type=int, default=0)
    add("--test", action="store_true", help="read the test frames too")
    add("--frames", type=int, help="the first so many training frames alone")
    add("--models", type=Path, help="folder for the networks")
    add("--best", type=int, help="the best so many of the shorter trials alone")
    add("--after", type=float, default=60.0, help="seconds of the shorter trials")
    add("--records", type=Path, default=FOLDER / "search")
    add("--scratch", type=Path, default=Path("build/search"))
    add("--table", action="store_true", help="print all records and stop")
    args = parser.parse_args(argv)
    if not args.table and args.data is None:
        parser.error("--data is needed to train")
    if not args.seconds > 0:
        parser.error("--seconds must be positive")
    return args


def stem(args: argparse.Namespace, name: str, set_name: str) -> str:
    """Name of a record."""
    frames = f"-{args.frames}" if args.frames else ""
    return f"{name}-{set_name}{frames}-{args.seconds:g}s-seed{args.seed}"


def cost(name: str, task: Task, reference: Task) -> dict[str, float]:
    """What a step costs beside that of the default on the reference set."""
    trials = [Trial(CANDIDATES[DEFAULT], reference, 0)]
    if name == DEFAULT and task.name == reference.name:
        return {"ratio": 1.0, "milliseconds_here": 1e3 * in_turns(trials)[1][0]}
    ratios, least = in_turns([*trials, Trial(CANDIDATES[name], task, 0)])
    return {
        "ratio": ratios[1],
        "milliseconds_here": 1e3 * least[1],
        "milliseconds_of_default_here": 1e3 * least[0],
    }


def one(
    args: argparse.Namespace, name: str, made: Callable[[], Task], path: Path
) -> None:
    """Make one trial and write its record."""
    task, reference = made(), TASKS[REFERENCE](args.data)
    if args.frames:
        task = replace(task, train=task.train[: args.frames])
    price = measured(args.scratch / f"{path.stem}.cost.json", name, task, reference)
    steps = max(1, round(args.seconds / (QUIET * price["ratio"])))
    trial = Trial(CANDIDATES[name], task, args.seed, steps)
    test = scan = None
    try:
        outcome = trial.run(args.scratch / f"{path.stem}.pt")
        if args.test:
            test = errors_of(trial.module, task, outcome)
            scan = scan_of(trial.module, task)
    except DivergedError as failure:
        outcome = Outcome()
        print(f"{path.stem}: {failure}", flush=True)
    best = outcome.looks[outcome.best] if outcome.looks else None
    record = {
        "kind": "trial of the search at equal CPU time of a quiet machine",
        "candidate": name,
        "set": task.name,
        "unit": "meV, meV/Angstrom",
        "valid": best and {k: 1e3 * best[k] for k in ("energy_mae", "force_mae")},
        "test": test,
        "scan": scan,
        "budget_quiet_cpu_seconds": args.seconds,
        "quiet_step_of_default_ms": 1e3 * QUIET,
        "cost": price,
        "planned_steps": steps,
        "steps": outcome.steps,
        "cpu_seconds": outcome.cpu_seconds,
        "looks": outcome.looks,
        "best_look": outcome.best,
        "parameters": sum(weight.numel() for weight in trial.weights),
        "frames": {"train": len(task.train), "valid": len(task.valid)},
        "split": task.split,
        "data": task.train.digest,
        "seed": args.seed,
        "settings": CANDIDATES[name].settings()
        | {"frames_of_a_batch": trial.size, "schedule": "cosine"}
        | {"clip": CLIP, "warmup_share": WARMUP, "final_rate": FINAL},
    } | records.circumstances(NAME)
    if args.models and best:
        args.models.mkdir(parents=True, exist_ok=True)
        told = ("command", "commit", "seed", "split", "steps", "versions")
        trial.module.save_network(
            args.models / f"{path.stem}.safetensors",
            ["energy"],
            ["eV"],
            {"data": {"name": task.name, "sha256": task.train.digest}}
            | {name: record[name] for name in told},
        )
    write_json(path, record)
    for file in (f"{path.stem}.pt", f"{path.stem}.cost.json"):
        (args.scratch / file).unlink(missing_ok=True)
    print(line(record), flush=True)


def measured(file: Path, name: str, task: Task, reference: Task) -> dict[str, float]:
    """The cost of a trial, the same when a cut one goes on."""
    if not file.exists():
        write_json(file, cost(name, task, reference))
    found: dict[str, float] = json.loads(file.read_text())
    return found


# ------------------------------------------------------------------------- halving


def read(folder: Path) -> list[dict[str, Any]]:
    """All records."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def force_error(record: dict[str, Any]) -> float:
    """What ranks: the mean absolute error of the forces on the validation frames."""
    return record["valid"]["force_mae"] if record["valid"] else math.inf


def ranked(found: list[dict[str, Any]], seconds: float, sets: list[str]) -> list[str]:
    """Candidates by the mean over sets of the logarithm of their error, best first."""
    scores: dict[str, list[float]] = {}
    for record in found:
        if record["budget_quiet_cpu_seconds"] == seconds and record["set"] in sets:
            error = math.log(force_error(record))
            scores.setdefault(record["candidate"], []).append(error)
    means = {name: sum(each) / len(each) for name, each in scores.items()}
    return sorted(means, key=means.__getitem__)


def chosen(args: argparse.Namespace) -> list[str]:
    """The candidates of a run."""
    if args.best is None:
        names: list[str] = args.candidates
        return names
    order = ranked(read(args.records), args.after, [REFERENCE])
    best = [name for name in order if name in args.candidates][: args.best]
    return [DEFAULT, *[name for name in best if name != DEFAULT]]


# --------------------------------------------------------------------------- table


def line(record: dict[str, Any]) -> str:
    """One trial as a row of the table."""
    valid = record["valid"] or {"energy_mae": math.nan, "force_mae": math.nan}
    tests = [
        f"{name} {each['energy_mae']:.2f} / {each['force_mae']:.2f}"
        for name, each in (record["test"] or {}).items()
    ]
    cells = [
        record["candidate"],
        record["set"],
        f"{record['budget_quiet_cpu_seconds']:g}",
        record["seed"],
        f"{record['parameters']:,d}",
        f"{record['cost']['ratio']:.2f}",
        f"{record['steps']:,d}",
        f"{valid['energy_mae']:.2f} / {valid['force_mae']:.2f}",
        ", ".join(tests),
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def table(folder: Path) -> str:
    """All trials in Markdown: sets, budgets, then the best first."""
    found = read(folder)
    found.sort(key=lambda r: (r["set"], r["budget_quiet_cpu_seconds"], force_error(r)))
    names = "trial | set | seconds | seed | weights | step | steps | validation | test"
    return "\n".join(
        [f"| {names} |", "| --- | --- |" + " ---: |" * 6 + " --- |", *map(line, found)]
    )


def runs(args: argparse.Namespace) -> Iterator[records.Run]:
    """All that are asked for."""
    for set_name in args.sets:
        task = functools.cache(partial(TASKS[set_name], args.data))
        for name in chosen(args):
            path = args.records / f"{stem(args, name, set_name)}.json"
            yield name, path, partial(one, args, name, task, path)


def main(argv: list[str] | None = None) -> int:
    """Make all trials that are asked for and not there."""
    args = parse(argv)
    if args.table:
        print(table(args.records))
        return 0
    torch.set_num_threads(1)
    return records.make_missing(NAME, runs(args))


if __name__ == "__main__":
    sys.exit(main())
