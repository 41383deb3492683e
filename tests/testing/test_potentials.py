"""The checks of potentials see what they are made to see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from torch_cormorant import Cormorant
from torch_cormorant.errors import ConfigError
from torch_cormorant.models import Result, save_model
from torch_cormorant.models.cormorant import CormorantPotential
from torch_cormorant.ops.segment import scatter_sum
from torch_cormorant.testing import (
    assert_forces_match_differences,
    check_potential,
    diatomic_scan,
    force_jacobian_asymmetry,
    net_force_and_torque,
    random_molecule,
    stress_difference_error,
    work_error,
)
from torch_cormorant.testing.__main__ import main

SMALL: dict[str, Any] = {"channels": 2, "num_levels": 1, "lmax": 1, "cutoff": 3.0}


class Wrong(CormorantPotential):
    """Forces with an error that no energy shows, as a wrong kernel makes them."""

    def evaluate(self, *args: Any, **options: Any) -> Result:
        out = super().evaluate(*args, **options)
        if out.forces is None:
            return out
        pos = args[1]
        swirl = torch.stack([-pos[:, 1], pos[:, 0], 0 * pos[:, 0]], dim=1)
        return Result(out.energy, out.energies, out.forces + 1e-3 * swirl, out.stress)


class Hole(CormorantPotential):
    """An energy that falls where atoms come too close."""

    def pair_energies(
        self, z: Tensor, edge_index: Tensor, edge_vec: Tensor
    ) -> Tensor | None:
        squared = edge_vec.square().sum(1)
        near = ((squared > 0) & (squared < 0.2)).nonzero().flatten()
        energy = -10 * (0.2 - squared[near]).square()
        return scatter_sum(energy, edge_index[1, near], z.shape[0])


def make(kind: type[CormorantPotential] = CormorantPotential, **more: Any) -> Any:
    torch.manual_seed(0)
    return kind(**{**SMALL, **more}).double().eval()


def test_wrong_forces_are_seen() -> None:
    z, pos = random_molecule(4)
    assert_forces_match_differences(make(), z, pos)
    with pytest.raises(AssertionError, match="force on atom 0 along x"):
        assert_forces_match_differences(make(Wrong), z, pos)
    assert float(net_force_and_torque(make(), z, pos)[1].abs().max()) < 1e-12
    assert float(net_force_and_torque(make(Wrong), z, pos)[1].abs().max()) > 1e-4
    path = [pos, pos + 0.1 * torch.randn(4, 3).double()]
    assert abs(work_error(make(), z, path)) < 1e-7
    assert abs(work_error(make(Wrong), z, path)) > 1e-6


def test_forces_of_nothing_prove_nothing() -> None:
    far = torch.tensor([[0.0, 0, 0], [9, 0, 0]]).double()
    with pytest.raises(AssertionError, match="says nothing"):
        assert_forces_match_differences(make(), torch.tensor([6, 6]), far)


def test_symmetric_jacobians_and_stresses_are_small_numbers() -> None:
    z, pos = random_molecule(3)
    assert force_jacobian_asymmetry(make(), z, pos) < 1e-11
    cell = 4 * torch.eye(3).double()
    error, stress = stress_difference_error(make(), z, pos, cell)
    assert float(error.abs().max()) < 1e-8 < float(stress.abs().max())


def test_an_atom_alone_has_a_symmetric_jacobian() -> None:
    one = torch.zeros(1, 3, dtype=torch.float64)
    assert force_jacobian_asymmetry(make(), torch.tensor([1]), one) == 0


def test_holes_are_seen() -> None:
    assert diatomic_scan(make(repulsion="zbl"), 6, 6).is_repulsive
    scan = diatomic_scan(make(Hole), 6, 6)
    assert not scan.is_repulsive
    assert scan.length[0] == 0.2
    assert scan.bond == 1.52
    steps = torch.linspace(0.3, 1.0, 5)
    found = diatomic_scan(make(), 1, 6, steps)
    assert torch.equal(found.length, steps.double())
    assert found.energy.shape == found.force.shape == (5,)


def test_wiggles_are_counted() -> None:
    scan = diatomic_scan(make(), 6, 6)
    wave = type(scan)(scan.length, scan.energy, torch.cos(6 * scan.length), 1.0)
    assert wave.turns() == 6
    assert wave.turns(1.0) == 2


def test_all_checks_pass_on_a_good_potential_and_not_on_a_bad_one() -> None:
    z, pos = random_molecule(4)
    checks = check_potential(make(repulsion="zbl").float(), z, pos.float())
    assert all(check.passed for check in checks), checks
    assert len(checks) > 30
    failed = {c.law for c in check_potential(make(Wrong), z, pos) if not c.passed}
    assert "forces are the slope of the energy" in failed
    assert "sum of torques" in failed
    with pytest.raises(ConfigError, match="cutoff"):
        check_potential(Cormorant(cutoff=None), z, pos)


def test_the_command_prints_a_line_for_each_law(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, make(species=[1, 6], repulsion="zbl"))
    assert main([str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("ok") for line in lines)
    frames = tmp_path / "frames.npz"
    np.savez(frames, z=np.array([6, 1], np.uint8), pos=np.eye(3)[None, :2] * 1.1)
    assert main([str(path), "--frames", str(frames)]) == 0
    assert main([str(path), "--frames", str(frames), "--frame", "7"]) == 2
    assert "frames.npz: has no frame 7, only 1" in capsys.readouterr().err
    np.savez(frames, nuclear_charges=np.array([6, 1]), R=np.eye(3)[None, :2])
    assert main([str(path), "--frames", str(frames)]) == 2
    assert "frames.npz: needs arrays z [N] and pos" in capsys.readouterr().err
    frames.write_bytes(b"no archive")
    assert main([str(path), "--frames", str(frames)]) == 2
    assert "frames.npz: needs" in capsys.readouterr().err
    assert main([str(tmp_path / "missing.safetensors")]) == 2
    assert "missing.safetensors" in capsys.readouterr().err
