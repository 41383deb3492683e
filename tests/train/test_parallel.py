"""Several processes do what one does (R30)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

JOB = Path(__file__).with_name("parallel_job.py")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("parallel")
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, str(JOB), str(folder)],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("epoch   2/2") == 3, "one line for each run"
    return {k: torch.load(folder / f"{k}.pt", weights_only=True) for k in (1, 2, 4)}


@pytest.mark.parametrize("world", [2, 4])
def test_gradients_are_those_of_one_process(
    found: dict[int, dict[str, Any]], world: int
) -> None:
    # Batches of 3, 3, 3 and 1: shares are unequal, some empty, some without an edge.
    single, several = found[1]["gradients"], found[world]["gradients"]
    assert len(single) == 8
    for step, (left, right) in enumerate(zip(single, several, strict=True)):
        error = (left - right).abs().max() / left.abs().max()
        assert error < 1e-12 * 10**step, f"step {step}"


@pytest.mark.parametrize("world", [2, 4])
def test_metrics_and_weights_are_those_of_one_process(
    found: dict[int, dict[str, Any]], world: int
) -> None:
    single, several = found[1], found[world]
    torch.testing.assert_close(
        several["weights"], single["weights"], rtol=1e-6, atol=1e-8
    )
    assert several["metrics"].keys() == single["metrics"].keys()
    for name, value in single["metrics"].items():
        assert several["metrics"][name] == pytest.approx(value, rel=1e-6), name
