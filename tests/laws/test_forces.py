"""Forces are the slope of the energy, and obey mechanics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from torch_cormorant import Cormorant
from torch_cormorant.so3 import random_rotation

Make = Callable[..., Any]
MPNN_CUTOFF = 1.73
"""The published input jumps there: no test may drag a pair across it."""


@pytest.mark.parametrize("trained", [False, True])
def test_forces_have_no_sum_and_no_torque(
    name: str, trained: bool, network: Make, molecules: Make
) -> None:
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        model = network(name, dtype, trained=trained)
        z, pos, batch = molecules(9, 6)
        _, forces = model.energy_and_forces(z, pos.to(dtype), batch)
        forces = forces.double()
        size = float(forces.abs().max())
        assert size > 1e-3
        for k, count in ((0, 9), (1, 6)):
            mine = batch == k
            arm = pos[mine] - pos[mine].mean(0)
            total = forces[mine].sum(0)
            torque = torch.linalg.cross(arm, forces[mine]).sum(0)
            assert float(total.abs().max()) <= tolerance * count * max(size, 1)
            assert float(torque.abs().max()) <= tolerance * count * max(size, 1)


def differences(model: Cormorant, z: Tensor, pos: Tensor, step: float) -> Tensor:
    """Fourth-order central differences of the energy, all in one batch."""
    count = pos.numel()
    moves = step * torch.eye(count, dtype=torch.float64).view(count, *pos.shape)
    found = torch.zeros(count, dtype=torch.float64)
    for factor, weight in ((1, 8.0), (-1, -8.0), (2, -1.0), (-2, 1.0)):
        places = (pos + factor * moves).flatten(0, 1)
        batch = torch.arange(count).repeat_interleave(len(pos))
        with torch.no_grad():
            energy = model(z.repeat(count), places, batch)
        found += weight * energy.squeeze(1)
    return found.view(pos.shape) / (12 * step)


@pytest.mark.parametrize("backend", ["portable", "reference"])
def test_forces_are_differences_of_the_energy(
    name: str, backend: str, network: Make, molecules: Make
) -> None:
    few = {"num_levels": 2, "lmax": (3, 1)} if backend == "reference" else {}
    model = network(name, trained=True, **few)
    model.set_backend(backend)
    z, pos, _ = molecules(5)
    assert bool(((torch.pdist(pos) - MPNN_CUTOFF).abs() > 1e-3).all())
    _, forces = model.energy_and_forces(z, pos)
    error = (forces + differences(model, z, pos, 2e-4)).abs()
    assert bool((error <= 1e-8 + 1e-7 * forces.abs()).all()), float(error.max())


@pytest.mark.parametrize("lmax", [1, 2, 3, 4, 5, 6])
def test_forces_are_differences_of_the_energy_at_every_lmax(
    lmax: int, network: Make, molecules: Make
) -> None:
    model = network("gated", lmax=(lmax, 0), num_levels=2, channels=2)
    z, pos, _ = molecules(4)
    _, forces = model.energy_and_forces(z, pos)
    error = (forces + differences(model, z, pos, 2e-4)).abs()
    assert float(forces.abs().max()) > 1e-4
    assert bool((error <= 1e-8 + 1e-7 * forces.abs()).all()), float(error.max())


def hessian(model: Cormorant, z: Tensor, pos: Tensor) -> Tensor:
    model.train()
    leaf = pos.clone().requires_grad_()
    _, forces = model.energy_and_forces(z, leaf)
    rows = [
        torch.autograd.grad(part, leaf, retain_graph=True)[0].flatten()
        for part in forces.flatten()
    ]
    return -torch.stack(rows)


@pytest.mark.parametrize("backend", ["portable", "reference"])
def test_the_hessian_is_symmetric(
    name: str, backend: str, network: Make, molecules: Make
) -> None:
    few = {"num_levels": 2, "lmax": (3, 1)} if backend == "reference" else {}
    model = network(name, trained=True, **few)
    model.set_backend(backend)
    z, pos, _ = molecules(5)
    matrix = hessian(model, z, pos)
    assert float((matrix - matrix.T).norm() / matrix.norm()) <= 1e-11
    # rigid motions cost nothing
    ones = torch.eye(3, dtype=torch.float64).repeat(5, 1)
    assert float((matrix @ ones).abs().max()) <= 1e-10 * float(matrix.abs().max())


@pytest.mark.parametrize("lmax", [1, 4, 6])
def test_the_hessian_is_symmetric_at_every_lmax(
    lmax: int, network: Make, molecules: Make
) -> None:
    z, pos, _ = molecules(4)
    for dtype, tolerance in ((torch.float64, 1e-11), (torch.float32, 1e-4)):
        model = network("gated", dtype, lmax=(lmax, 0), num_levels=2, channels=2)
        matrix = hessian(model, z, pos.to(dtype)).double()
        assert float((matrix - matrix.T).norm() / matrix.norm()) <= tolerance


def test_the_hessian_is_a_difference_of_forces(network: Make, molecules: Make) -> None:
    model = network("cutoff", trained=True)
    z, pos, _ = molecules(5)
    matrix = hessian(model, z, pos)
    model.eval()
    step = 1e-4
    for k in (0, 4, 14):
        move = torch.zeros(15, dtype=torch.float64)
        move[k] = step
        ahead, behind = (
            model.energy_and_forces(z, pos + sign * move.view(5, 3))[1].flatten()
            for sign in (1, -1)
        )
        found = (behind - ahead) / (2 * step)
        error = (found - matrix[k]).abs().max()
        assert float(error) <= 1e-5 * float(matrix.abs().max())


def test_vectors_come_as_x_y_z(network: Make) -> None:
    """Never in the (y, z, x) order of the harmonics of degree 1."""
    model = network("md17")
    z = torch.tensor([8, 6])
    for axis in range(3):
        pos = torch.zeros(2, 3, dtype=torch.float64)
        pos[1, axis] = 1.2
        _, forces = model.energy_and_forces(z, pos)
        others = [k for k in range(3) if k != axis]
        assert float(forces[:, axis].abs().min()) > 1e-6
        assert float(forces[:, others].abs().max()) < 1e-14


def test_forces_on_a_loss_reach_all_weights(network: Make, molecules: Make) -> None:
    """Training on forces differentiates twice; compare along a random direction."""
    model = network("qm9", num_levels=2, lmax=(2, 0)).requires_grad_(True).train()
    z, pos, batch = molecules(4, 3)
    torch.manual_seed(0)
    target = torch.randn(7, 3, dtype=torch.float64)

    def loss() -> Tensor:
        energy, forces = model.energy_and_forces(z, pos, batch)
        return (forces - target).square().mean() + energy.square().mean()

    parameters = list(model.parameters())
    slopes = torch.autograd.grad(loss(), parameters)
    assert all(bool(slope.isfinite().all()) for slope in slopes)
    torch.manual_seed(1)
    moves = [torch.randn_like(p) for p in parameters]
    expected = sum(float((a * b).sum()) for a, b in zip(slopes, moves, strict=True))
    values = []
    for factor in (1e-6, -2e-6):
        with torch.no_grad():
            for parameter, move in zip(parameters, moves, strict=True):
                parameter.add_(move, alpha=factor)
        values.append(float(loss().detach()))
    found = (values[0] - values[1]) / 2e-6
    assert found == pytest.approx(expected, rel=1e-6)


def test_forces_turn_with_the_molecule_and_its_neighbours(
    network: Make, molecules: Make
) -> None:
    model = network("cutoff")
    z, pos, batch = molecules(5, 4)
    turn = random_rotation(generator=torch.Generator().manual_seed(2))
    _, forces = model.energy_and_forces(z, pos, batch)
    only = batch == 0
    turned = torch.where(only[:, None], pos @ turn.T, pos)
    found = model.energy_and_forces(z, turned, batch)[1]
    expected = torch.where(only[:, None], forces @ turn.T, forces)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)
