"""What the runs of all scripts share: command line, circumstances, one record a run."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from pathlib import Path

import torch

from benchmarks.machine import ROOT, commit
from benchmarks.peers import PeerMissingError
from torch_cormorant.errors import CormorantError
from torch_cormorant.train import hardware, versions

FOLDER = ROOT / "docs" / "records"
Run = tuple[str, Path, Callable[[], None]]
"""Name of the network, its record, and what trains it and writes the record."""


class DivergedError(RuntimeError):
    """A loss that is not a number."""


def parser(description: str | None, models: Iterable[str]) -> argparse.ArgumentParser:
    """What every comparison at equal CPU time is asked."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = tuple(models)
    made.add_argument("--models", nargs="+", choices=names, default=list(names))
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--lr", type=float, help="other than that of the family")
    return made


def circumstances(script: str) -> dict[str, object]:
    """What a figure needs beside it.

    Args:
        script: Name of the module that runs.
    """
    command = ["python", "-m", f"benchmarks.{script}", *sys.argv[1:]]
    return {
        "command": shlex.join(command),
        "commit": commit(),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "versions": versions(),
        "hardware": hardware(torch.device("cpu")),
    }


def make_missing(script: str, runs: Iterable[Run]) -> int:
    """Make all runs whose record is not there.

    Args:
        script: Name of the module that runs.
        runs: In order; what they need is read on the way.

    Returns:
        Exit status: 2 after a mistake of the caller, which is said in one line.
    """
    missing: dict[str, str] = {}
    try:
        for model, path, make in runs:
            if path.exists() or model in missing:
                continue
            try:
                make()
            except PeerMissingError as absent:
                missing[model] = str(absent)
    except (CormorantError, OSError) as problem:
        print(f"{script}: error: {problem}", file=sys.stderr)
        return 2
    for model, why in missing.items():
        print(f"{model}: not run: {why}")
    return 0
