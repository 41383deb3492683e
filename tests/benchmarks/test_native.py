"""The benchmark of the native evaluator: its rows, its gates, and what it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import native
from torch_cormorant.ops import cpu_kernel


def test_a_gate_says_whether_it_holds() -> None:
    gate = native.Gate("water", "default", 50.0, per_atom=True)
    assert gate.holds(0.04, 1)[0]
    fine, text = gate.holds(0.4, 2)
    assert not fine
    assert text == "gate FAILS: water, default: 200 us/atom of 50"


@pytest.mark.skipif(bool(cpu_kernel.problem()), reason=cpu_kernel.problem())
def test_rows_of_a_small_molecule(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "md17").mkdir()
    np.savez(
        tmp_path / "md17" / "rmd17_ethanol.npz",
        nuclear_charges=np.array([8, 1, 1]),
        coords=np.array([[[0.0, 0, 0], [0, 0, 0.96], [0, 0.93, -0.24]]]),
    )
    command = ["--data", str(tmp_path), "--systems", "ethanol", "--rounds", "1"]
    native.main([*command, "--alone"])
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split(" | ")[2] for line in lines if line.startswith("| ethanol")]
    assert rows == [*native.NETWORKS, "default, float64"]
    assert lines[-1].startswith("gate ")
