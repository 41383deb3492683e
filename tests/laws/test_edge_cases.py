"""Strange but lawful molecules: finite values, finite slopes, finite curvature."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from torch_cormorant import CormorantConv, radius_graph
from torch_cormorant.errors import CoincidentAtomsError

Make = Callable[..., Any]


def line(axis: int, count: int = 4) -> Tensor:
    pos = torch.zeros(count, 3, dtype=torch.float64)
    pos[:, axis] = 1.2 * torch.arange(count)
    return pos


def ring(count: int = 6) -> Tensor:
    angle = 2 * math.pi / count * torch.arange(count, dtype=torch.float64)
    return 1.4 * torch.stack([angle.cos(), angle.sin(), 0 * angle], dim=1)


CASES: dict[str, Tensor] = {
    "single_atom": torch.zeros(1, 3, dtype=torch.float64),
    "two_far_atoms": torch.tensor([[0.0, 0, 0], [0, 0, 1000]], dtype=torch.float64),
    "isolated_atom": torch.cat([line(0), torch.tensor([[0.0, 90, 0]]).double()]),
    "line_x": line(0),
    "line_y": line(1),
    "line_z": line(2),
    "line_down": -line(2),
    "almost_line": line(2) + 1e-8 * torch.tensor([[0.0, 0, 0], [1, 0, 0]] * 2),
    "planar_ring": ring(),
    "ring_with_centre": torch.cat([ring(), torch.zeros(1, 3, dtype=torch.float64)]),
    "cube": torch.cartesian_prod(*[torch.tensor([0.0, 1.5]).double()] * 3),
    "close_pair": torch.tensor([[0.0, 0, 0], [0, 0, 0.3]], dtype=torch.float64),
}


@pytest.mark.parametrize("case", list(CASES))
def test_values_and_two_derivatives_are_finite(
    case: str, name: str, network: Make
) -> None:
    model = network(name, num_levels=2, lmax=(3, 1)).requires_grad_(True).train()
    pos = CASES[case]
    z = torch.tensor([6, 1, 8])[torch.arange(len(pos)) % 3]
    energy, forces = model.energy_and_forces(z, pos)
    assert bool(energy.isfinite().all())
    assert bool(forces.isfinite().all())
    loss = forces.square().sum() + energy.square().sum()
    loss.backward()
    for parameter in model.parameters():
        assert parameter.grad is None or bool(parameter.grad.isfinite().all())
    model.set_backend("reference")
    other, pushes = model.energy_and_forces(z, pos)
    torch.testing.assert_close(other, energy, rtol=1e-10, atol=1e-12)
    size = float(forces.detach().abs().max())
    torch.testing.assert_close(pushes, forces, rtol=1e-10, atol=1e-12 * max(size, 1))


@pytest.mark.parametrize("case", ["line_x", "line_y", "line_z", "planar_ring", "cube"])
def test_symmetric_molecules_have_symmetric_forces(
    case: str, name: str, network: Make
) -> None:
    """Forces of a line lie on it, those of a ring of equal atoms point outwards."""
    model = network(name)
    pos = CASES[case] - CASES[case].mean(0)
    _, forces = model.energy_and_forces(torch.full((len(pos),), 6), pos)
    assert float(forces.abs().max()) > 1e-6
    across = torch.linalg.cross(pos, forces)
    assert float(across.abs().max()) < 1e-12 * max(float(forces.abs().max()), 1)


def test_all_axes_are_equal(name: str, network: Make) -> None:
    model = network(name)
    z = torch.tensor([6, 1, 8, 6])
    energies = [model(z, line(axis)) for axis in range(3)]
    for energy in energies[1:]:
        torch.testing.assert_close(energy, energies[0], rtol=1e-12, atol=1e-14)


def test_a_far_atom_is_as_good_as_alone(network: Make) -> None:
    model = network("atomwise")
    z = torch.tensor([6, 1, 8, 6, 9])
    together = model(z, CASES["isolated_atom"])
    apart = model(z[:4], line(0)) + model(z[4:], CASES["single_atom"])
    torch.testing.assert_close(together, apart, rtol=1e-12, atol=1e-13)
    for distance in (5.0 * 1.01, 40.0, 1e4):
        pos = torch.cat([line(0), line(1) - torch.tensor([[distance, 0, 0]])])
        both = model(torch.cat([z[:4], z[:4]]), pos)
        parts = model(z[:4], line(0)) + model(z[:4], line(1))
        torch.testing.assert_close(both, parts, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("backend", ["portable", "reference"])
def test_duplicate_edges_count_twice(backend: str) -> None:
    torch.manual_seed(0)
    conv = CormorantConv(2, 3, lmax=2, backend=backend).double()
    pos = CASES["planar_ring"] + 0.1 * torch.randn(6, 3).double()
    index = radius_graph(pos, 2.0)
    x = torch.randn(6, 2, dtype=torch.float64)
    none = conv(x, index[:, :0], pos=pos)
    once = conv(x, index, pos=pos)
    twice = conv(x, torch.cat([index, index], dim=1), pos=pos)
    torch.testing.assert_close(twice - none, 2 * (once - none), rtol=1e-12, atol=1e-12)
    shuffled = torch.cat([index, index], dim=1)[:, torch.randperm(2 * index.shape[1])]
    torch.testing.assert_close(
        conv(x, shuffled, pos=pos), twice, rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("backend", ["portable", "reference"])
def test_self_loops_have_finite_gradients(backend: str) -> None:
    torch.manual_seed(0)
    conv = CormorantConv(2, 3, lmax=3, backend=backend).double()
    loop = torch.arange(3).repeat(2, 1)
    pos = torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    x = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    out = conv(x, loop, pos=pos)
    first = torch.autograd.grad(out.square().sum(), [x, pos], create_graph=True)
    assert not first[1].any(), "a self edge has no direction"
    assert bool(first[0].any())
    second = torch.autograd.grad(first[0].square().sum(), [x])
    assert bool(second[0].isfinite().all())


@pytest.mark.parametrize("distance", [0.0, 1e-300, 1e-12])
def test_coincident_atoms_are_refused_by_name(
    name: str, distance: float, network: Make
) -> None:
    model = network(name)
    pos = line(0)
    pos[2] = pos[0]
    pos[2, 1] += distance
    with pytest.raises(CoincidentAtomsError, match=r"nodes (0 and 2|2 and 0)"):
        model(torch.tensor([6, 1, 8, 1]), pos)
    with pytest.raises(CoincidentAtomsError):
        model.energy_and_forces(torch.tensor([6, 1, 8, 1]), pos)


def test_atoms_of_different_molecules_may_coincide(name: str, network: Make) -> None:
    model = network(name)
    pos = torch.zeros(2, 3, dtype=torch.float64)
    out = model(torch.tensor([6, 6]), pos, torch.tensor([0, 1]))
    torch.testing.assert_close(out[0], out[1], rtol=1e-13, atol=0)


@pytest.mark.parametrize("off", [1e-4, 1e-6, 1e-8])
def test_near_the_poles_forces_stay_moderate(off: float, network: Make) -> None:
    for dtype in (torch.float64, torch.float32):
        model = network("qm9", dtype)
        pos = torch.tensor([[0.0, 0, 0], [off, 0, 1.1], [0, off, -1.2]], dtype=dtype)
        exact = torch.tensor([[0.0, 0, 0], [0, 0, 1.1], [0, 0, -1.2]], dtype=dtype)
        z = torch.tensor([6, 1, 8])
        _, forces = model.energy_and_forces(z, pos)
        _, straight = model.energy_and_forces(z, exact)
        assert float((forces - straight).abs().max()) < 1e3 * off + 1e-4
