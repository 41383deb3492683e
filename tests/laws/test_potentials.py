"""Laws of the default potential: smooth, additive, periodic, conservative."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from torch_cormorant import Cormorant
from torch_cormorant.models import CormorantPotential
from torch_cormorant.so3 import random_rotation
from torch_cormorant.testing import (
    assert_equivariant,
    assert_forces_match_differences,
    net_force_and_torque,
    random_molecule,
    stress_difference_error,
    work_error,
)

CUTOFF = 3.0
STEPS = [10.0**-k for k in range(3, 10)]
SKEW = torch.tensor([[1.0, 0.1, 0], [0.3, 1, 0], [-0.2, 0.1, 1.1]]).double()


def potential(**options: Any) -> CormorantPotential:
    torch.manual_seed(1)
    arguments = {"channels": 4, "num_levels": 2, "cutoff": CUTOFF, **options}
    model = Cormorant.potential(**arguments).double().eval()
    return model.set_units({1: -13.6, 6: -1029, 7: -1485, 8: -2041, 9: -2713}, 1.5)


def crystal(count: int = 6, size: float = 5.0) -> tuple[Tensor, Tensor, Tensor]:
    z, pos = random_molecule(count, torch.Generator().manual_seed(4))
    return z, pos, size * SKEW


@pytest.mark.parametrize("repulsion", [None, "zbl"])
@pytest.mark.parametrize("lmax", [1, 2, 3])
def test_forces_are_the_slope_of_the_energy(lmax: int, repulsion: str | None) -> None:
    model = potential(lmax=lmax, repulsion=repulsion)
    model.set_units(dict.fromkeys((1, 6, 7, 8, 9), 0.0))
    z, pos = random_molecule(4)
    # close enough that the repulsion acts
    assert_forces_match_differences(model, z, 0.75 * pos)


def test_forces_in_a_crystal_are_the_slope_of_the_energy() -> None:
    model = potential().set_units(dict.fromkeys((1, 6, 7, 8, 9), 0.0))
    z, pos, cell = crystal(4, 4.0)
    assert_forces_match_differences(model, z, pos, cell)
    pbc = torch.tensor([True, False, True])
    assert_forces_match_differences(model, z, pos, cell, pbc)


def test_stress_is_the_slope_of_the_energy_by_strain() -> None:
    model = potential(repulsion="zbl").set_units(dict.fromkeys((1, 6, 7, 8, 9), 0.0))
    z, pos, cell = crystal(5, 4.5)
    error, stress = stress_difference_error(model, z, pos, cell)
    assert float(stress.abs().max()) > 1e-3
    assert float(error.abs().max()) <= 1e-8
    # pulling the cell apart costs what the stress says, over a finite path too
    volume = float(torch.linalg.det(cell).abs())
    work = 0.0
    for place, weight in ((0.2113248654, 0.5), (0.7886751346, 0.5)):
        factor = 1 + 1e-3 * place
        out = model.evaluate(z, factor * pos, None, factor * cell, stress=True)
        assert out.stress is not None
        trace = float(out.stress[0].diagonal().sum()) * volume * factor**3
        work += weight * trace * 1e-3 / factor
    ends = [model.evaluate(z, f * pos, None, f * cell).energy for f in (1, 1.001)]
    assert float(ends[1] - ends[0]) == pytest.approx(work, rel=1e-6)


def test_forces_have_no_sum_and_no_torque() -> None:
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        model = potential(repulsion="zbl").to(dtype)
        z, pos = random_molecule(9)
        total, torque = net_force_and_torque(model, z, 0.8 * pos.to(dtype))
        size = float(model.energy_and_forces(z, 0.8 * pos.to(dtype))[1].abs().max())
        assert size > 0.1
        assert float(total.abs().max()) <= tolerance * 9 * max(size, 1)
        assert float(torque.abs().max()) <= tolerance * 9 * max(size, 1)
    z, pos, cell = crystal()
    forces = potential().energy_and_forces(z, pos, None, cell)[1]
    assert float(forces.sum(0).abs().max()) <= 1e-12 * 6


def test_forces_turn_and_energies_do_not() -> None:
    model = potential(repulsion="zbl")
    z, pos = random_molecule(6)

    def force(numbers: Tensor, places: Tensor) -> Tensor:
        return model.energy_and_forces(numbers, places)[1]

    assert_equivariant(force, z, 0.8 * pos, output="vector")
    turn = random_rotation(generator=torch.Generator().manual_seed(2))
    for matrix in (turn, -turn):  # mirror images as well
        found = model.evaluate(z, pos @ matrix.T, forces=False).energies
        expected = model.evaluate(z, pos, forces=False).energies
        torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-12)


def test_stress_turns_with_the_crystal() -> None:
    model = potential()
    z, pos, cell = crystal()
    turn = random_rotation(generator=torch.Generator().manual_seed(2))
    expected = model.evaluate(z, pos, None, cell, stress=True).stress
    found = model.evaluate(z, pos @ turn.T, None, cell @ turn.T, stress=True).stress
    assert expected is not None
    assert found is not None
    torch.testing.assert_close(found[0], turn @ expected[0] @ turn.T,
                               rtol=1e-10, atol=1e-13)  # fmt: skip


@pytest.mark.parametrize("shift", [40.0, 1e3, 1e4])
def test_the_place_in_space_does_not_matter(shift: float) -> None:
    model = potential()
    z, pos = random_molecule(8)
    move = shift * torch.tensor([1.0, -0.7, 0.3]).double()
    energy, forces = model.energy_and_forces(z, pos)
    found = model.energy_and_forces(z, pos + move)
    scale = float(forces.abs().max())
    assert float((found[0] - energy).abs()) <= 1e-10
    assert float((found[1] - forces).abs().max()) <= 1e-10 * max(1, shift / 1e2) * scale
    # float32 weights with float64 positions lose nothing more
    low = model.float()
    near, far = (low.energy_and_forces(z, p)[1] for p in (pos, pos + move))
    assert float((near - far).abs().max()) <= 1e-5 * scale


@pytest.mark.parametrize("radial", ["bessel", "gaussian"])
def test_energy_and_two_derivatives_vanish_at_the_cutoff(radial: str) -> None:
    """One K bounds value, slope and curvature by K h^3, K h^2, K h."""
    model = potential(radial=radial).set_units(dict.fromkeys((1, 6, 7, 8, 9), 0.0))
    h = torch.tensor(STEPS, dtype=torch.float64)
    r = (CUTOFF - h).requires_grad_()
    pos = torch.stack([torch.zeros(len(h), 3).double(),
                       torch.stack([0 * r, 0.6 * r, 0.8 * r], 1)], 1)  # fmt: skip
    batch = torch.arange(len(h)).repeat_interleave(2)
    z = torch.tensor([6, 8]).repeat(len(h))
    energy = model.train().evaluate(z, pos.flatten(0, 1), batch, forces=False).energy
    (slope,) = torch.autograd.grad(energy.sum(), r, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), r)
    far = torch.tensor([[0.0, 0, 0], [9, 9, 9]]).double()
    apart = model.eval().evaluate(z[:2], far, forces=False).energy
    K = 2 * float((curvature[0] / h[0]).abs())
    assert K > 1e-4
    noise = 1e-14
    assert bool(((energy - apart).detach().abs() <= K * h**3 + noise).all())
    assert bool((slope.detach().abs() <= K * h**2 + noise).all())
    assert bool((curvature.abs() <= K * (h + 1e-15) + noise).all())


def test_atoms_beyond_the_cutoff_feel_exactly_nothing() -> None:
    model = potential()
    z = torch.tensor([6, 8])
    for length in (CUTOFF, CUTOFF + 1e-9, 3.3, 40.0, 1e4):
        pos = torch.tensor([[0.0, 0, 0], [length, 0, 0]]).double()
        assert not model.energy_and_forces(z, pos)[1].any()


@pytest.mark.parametrize("gap", [1.01 * CUTOFF, 40.0, 1e4])
def test_far_fragments_add_up(gap: float) -> None:
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        model = potential(repulsion="zbl").to(dtype)
        first, second = random_molecule(7), random_molecule(5)
        shift = float(first[1][:, 0].max() - second[1][:, 0].min()) + gap
        moved = second[1] + torch.tensor([shift, 0, 0])
        both = model.evaluate(
            torch.cat([first[0], second[0]]), torch.cat([first[1], moved])
        )
        parts = [model.evaluate(*first), model.evaluate(second[0], moved)]
        total = float(sum(part.energy for part in parts))
        assert float(both.energy) == pytest.approx(total, rel=tolerance)
        assert both.forces is not None
        forces = torch.cat([part.forces for part in parts if part.forces is not None])
        scale = float(forces.abs().max())
        assert float((both.forces - forces).abs().max()) <= tolerance * scale


def test_wrapping_atoms_into_the_cell_changes_nothing() -> None:
    model = potential(repulsion="zbl")
    z, pos, cell = crystal()
    expected = model.evaluate(z, pos, None, cell, stress=True)
    whole = torch.randint(-3, 4, (len(z), 3)).double()
    found = model.evaluate(z, pos + whole @ cell, None, cell, stress=True)
    torch.testing.assert_close(found.energy, expected.energy, rtol=1e-13, atol=0)
    torch.testing.assert_close(found.forces, expected.forces, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(found.stress, expected.stress, rtol=1e-9, atol=1e-12)


def test_other_vectors_of_the_same_lattice_change_nothing() -> None:
    model = potential()
    z, pos, cell = crystal()
    other = torch.tensor([[1.0, 0, 0], [-2, 1, 0], [1, 3, 1]]).double() @ cell
    expected = model.evaluate(z, pos, None, cell, stress=True)
    found = model.evaluate(z, pos, None, other, stress=True)
    torch.testing.assert_close(found.energy, expected.energy, rtol=1e-13, atol=0)
    torch.testing.assert_close(found.forces, expected.forces, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found.stress, expected.stress, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("repeats", [(2, 1, 1), (1, 2, 3)])
def test_a_supercell_has_as_much_energy_as_its_cells(
    repeats: tuple[int, int, int],
) -> None:
    """Also from a cell that is smaller than the cutoff."""
    model = potential()
    z, pos = random_molecule(2)
    cell = 2.2 * SKEW
    assert float(cell.norm(dim=1).min()) < CUTOFF
    one = model.evaluate(z, pos, None, cell, stress=True)
    images = torch.cartesian_prod(*(torch.arange(n) for n in repeats)).double()
    places = (pos + (images @ cell).unsqueeze(1)).flatten(0, 1)
    larger = torch.tensor(repeats).unsqueeze(1) * cell
    count = len(images)
    found = model.evaluate(z.repeat(count), places, None, larger, stress=True)
    assert float(found.energy) == pytest.approx(count * float(one.energy), rel=1e-13)
    assert one.forces is not None
    torch.testing.assert_close(found.forces, one.forces.repeat(count, 1),
                               rtol=1e-10, atol=1e-12)  # fmt: skip
    torch.testing.assert_close(found.stress, one.stress, rtol=1e-10, atol=1e-13)


def test_a_large_box_is_empty_space() -> None:
    model = potential()
    z, pos = random_molecule(6)
    expected = model.evaluate(z, pos)
    found = model.evaluate(z, pos, None, 40 * SKEW)
    torch.testing.assert_close(found.energy, expected.energy, rtol=1e-14, atol=0)
    torch.testing.assert_close(found.forces, expected.forces, rtol=1e-12, atol=1e-14)


def test_energy_is_the_work_along_a_path() -> None:
    """Pairs that pass the cutoff leave a third derivative with a step: many pieces."""
    model = potential(repulsion="zbl")
    z, pos = random_molecule(5)
    middle = pos + 0.1 * torch.randn(5, 3).double()
    ends = [float(model.evaluate(z, p).energy) for p in (pos, 0.85 * pos)]
    size = abs(ends[1] - ends[0])
    assert size > 0.1
    error = work_error(model, z, [pos, middle, 0.85 * pos], pieces=60)
    assert abs(error) <= 1e-7 * size
    back = work_error(model, z, [pos, middle, 0.85 * pos, pos], pieces=60)
    assert abs(back) <= 1e-7 * size
