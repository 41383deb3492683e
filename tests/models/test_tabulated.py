"""Potentials with tables in the place of radial functions."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from torch_cormorant import Cormorant, load_model, save_model
from torch_cormorant.errors import ConfigError
from torch_cormorant.models import Potential
from torch_cormorant.networks import NequIP, PaiNN, SchNet
from torch_cormorant.testing import random_molecule

SPECIES = [1, 6, 7, 8, 9]
CUTOFFS = [[3.0 - 0.1 * abs(i - j) for j in range(5)] for i in range(5)]
NETWORKS: dict[str, Any] = {
    "nequip": lambda: NequIP(SPECIES, cutoff=3.0, channels=4, num_levels=2, lmax=2),
    "cutoffs": lambda: NequIP(
        SPECIES, cutoff=3.0, channels=4, num_levels=2, edge_cutoffs=CUTOFFS
    ),
    "painn": lambda: PaiNN(SPECIES, cutoff=3.0, channels=4, num_levels=2),
    "shared": lambda: PaiNN(
        SPECIES, cutoff=3.0, channels=4, num_levels=2, shared_filters=True
    ),
    "schnet": lambda: SchNet(SPECIES, cutoff=3.0, channels=4, num_levels=2),
}


def made(name: str = "nequip", dtype: torch.dtype = torch.float64) -> Potential:
    torch.manual_seed(0)
    return Potential(NETWORKS[name]().to(dtype)).eval()


def molecule(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    z, pos = random_molecule(9)
    return z, pos.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", list(NETWORKS))
def test_tables_are_the_exact_functions(name: str, dtype: torch.dtype) -> None:
    potential, given = made(name, dtype), molecule(dtype)
    fast = potential.tabulate()
    exact, found = potential.evaluate(*given), fast.evaluate(*given)
    assert exact.forces is not None
    assert found.forces is not None
    assert not torch.equal(found.forces, exact.forces)
    difference = (found.forces - exact.forces).abs().max()
    assert difference < 1e-5 * exact.forces.abs().max()
    assert torch.allclose(found.energy, exact.energy, rtol=1e-5)
    assert potential.network.tables is None
    assert any(p.requires_grad for p in potential.parameters())


def test_forces_are_slopes() -> None:
    fast, (z, pos) = made().tabulate(32, tolerance=1.0), molecule()
    forces, step = fast.evaluate(z, pos).forces, 1e-5
    assert forces is not None
    for atom, axis in ((0, 1), (4, 2)):
        ends = []
        for sign in (1, -1):
            moved = pos.clone()
            moved[atom, axis] += sign * step
            ends.append(fast.evaluate(z, moved, forces=False).energy)
        slope = (ends[0] - ends[1]) / (2 * step)
        assert torch.allclose(forces[atom, axis], -slope, rtol=1e-6)


def test_more_pieces_are_closer_and_too_few_are_refused() -> None:
    potential, given = made("painn"), molecule()
    exact = potential.evaluate(*given).forces
    assert exact is not None
    errors = []
    for pieces in (24, 48, 96):
        forces = potential.tabulate(pieces, tolerance=1.0).evaluate(*given).forces
        errors.append((forces - exact).abs().max())
    assert errors[0] > 10 * errors[1] > 100 * errors[2]
    with pytest.raises(ConfigError, match="24 pieces forces differ by"):
        potential.tabulate(24)
    with pytest.raises(ConfigError, match="24 pieces forces differ by"):
        potential.tabulate(24, structures=[given])
    with pytest.raises(ConfigError, match="tolerance must be a positive"):
        potential.tabulate(tolerance=0.0)


def test_changed_weights_and_training_are_refused() -> None:
    fast, given = made().tabulate(), molecule()
    fast.train()
    with pytest.raises(ConfigError, match="training mode"):
        fast.evaluate(*given)
    fast.eval()
    fast.requires_grad_()
    with pytest.raises(ConfigError, match="require gradients"):
        fast.evaluate(*given)
    fast.requires_grad_(requires_grad=False)
    expected = fast.evaluate(*given).energy
    same = {name: value.clone() for name, value in fast.state_dict().items()}
    fast.load_state_dict(same)
    assert torch.equal(fast.evaluate(*given).energy, expected)
    other = copy.deepcopy(fast).float()
    with pytest.raises(ConfigError, match=r"type was torch\.float64"):
        other.evaluate(given[0], given[1].float())
    next(fast.network.parameters()).mul_(2)
    with pytest.raises(ConfigError, match="weights were changed"):
        fast.evaluate(*given)


def test_a_file_holds_the_exact_potential(tmp_path: Path) -> None:
    potential, given = made(), molecule()
    fast = potential.tabulate()
    assert list(fast.state_dict()) == list(potential.state_dict())
    save_model(tmp_path / "fast.safetensors", fast)
    loaded = load_model(tmp_path / "fast.safetensors")
    assert isinstance(loaded, Potential)
    exact = potential.evaluate(*given).energy
    assert torch.equal(loaded.evaluate(*given).energy, exact)
    again = fast.tabulate()
    assert torch.equal(again.evaluate(*given).energy, fast.evaluate(*given).energy)
    copied = copy.deepcopy(fast)
    assert torch.equal(copied.evaluate(*given).energy, fast.evaluate(*given).energy)


def test_networks_without_such_functions_are_refused() -> None:
    potential = Cormorant.potential(channels=4, num_levels=1)
    with pytest.raises(ConfigError, match="has no functions of lengths alone"):
        potential.tabulate()


def test_a_tolerance_that_is_no_number_is_refused() -> None:
    potential = Potential(NequIP([1, 8], channels=2, num_levels=1))
    for wrong in (0, "fine"):
        with pytest.raises(ConfigError, match=f"positive number, got {wrong!r}"):
            potential.tabulate(tolerance=wrong)
