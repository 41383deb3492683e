"""The comparison of integrators: one start, one table."""

from __future__ import annotations

import numpy as np
import pytest
from ase.md.verlet import VelocityVerlet

from benchmarks import engines
from torch_cormorant.interfaces.native_dynamics import NativeDynamics
from torch_cormorant.ops import cpu_kernel


@pytest.mark.skipif(bool(cpu_kernel.problem()), reason=cpu_kernel.problem())
def test_both_integrators_have_the_same_energies() -> None:
    theirs = engines.by_python(VelocityVerlet, 600)
    ours = engines.by_python(NativeDynamics, 600)
    assert len(ours) == 61
    assert np.ptp(theirs) > 1e-4
    assert np.abs(ours - theirs).max() < 1e-10
    cells = engines.row("native", ours, theirs, 0.6).split(" | ")
    assert cells[0] == "| native"
    assert float(cells[3]) < 1e-10
    assert cells[-1] == "1.000 |"


def test_a_drift_has_the_error_of_blocks() -> None:
    times = np.linspace(0, 1, 400)
    wave = 1e-3 * np.sin(9 * times)
    found = engines.drift_of(times, wave + 0.02 * times, 2)
    alone = engines.linear_drift(times.tolist(), (wave + 0.02 * times).tolist(), 2)
    assert found["drift"] == alone["drift"]
    assert found["error"] > 2 * alone["error"]
