"""The real compiler accepts the source: compiled for a GPU that need not be there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

triton = pytest.importorskip("triton", reason="the kernels need the package triton")
if "nvidia" not in triton.backends.backends:
    pytest.skip("this triton has no NVIDIA back end", allow_module_level=True)


def _table(folder: Path, *options: str) -> list[list[float]]:
    environment = {**os.environ, "TRITON_CACHE_DIR": str(folder)}
    environment.pop("TRITON_INTERPRET", None)
    module = "benchmarks.kernels.registers"
    run = subprocess.run(
        [sys.executable, "-m", module, *options],
        env=environment,
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    rows = [line.split() for line in run.stdout.splitlines()[1:]]
    return [[float(value) for value in row[2:]] for row in rows]


@pytest.mark.parametrize(
    "options",
    [
        ("--lmax", "1", "--channels", "16"),
        ("--lmax", "1", "--channels", "7", "--real", "--float64"),
        ("--lmax", "2", "--channels", "64", "--kinds", "forward"),
    ],
    ids=["complex", "real, double", "two channel blocks"],
)
def test_kernels_compile_without_spills(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    found = _table(tmp_path, *options)
    assert found
    for units, registers, stack, shared, _ in found:
        assert units >= 1
        assert 0 < registers <= 255
        # Nothing in local memory; no layout is changed through shared memory.
        assert stack == 0
        assert shared == 0
