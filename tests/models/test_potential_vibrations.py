"""Hessians and vibrations, against molecules whose springs are known."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from torch_cormorant import Cormorant
from torch_cormorant.errors import (
    ConfigError,
    CormorantWarning,
    DtypeError,
    ShapeError,
    SpeciesError,
)
from torch_cormorant.models import hessian, vibrational_frequencies
from torch_cormorant.models.cormorant import CormorantPotential
from torch_cormorant.models.potential_masses import ATOMIC_MASSES
from torch_cormorant.ops.segment import scatter_sum
from torch_cormorant.testing import force_jacobian_asymmetry, random_molecule
from torch_cormorant.testing.potentials import STENCIL

SPRING = 30.0  # eV / Angstrom^2


class Springs(CormorantPotential):
    """A network whose energy is that of springs between atoms closer than 1.5 A."""

    def pair_energies(
        self, z: Tensor, edge_index: Tensor, edge_vec: Tensor
    ) -> Tensor | None:
        length = edge_vec.square().sum(1)
        near = ((length > 0) & (length < 2.25)).nonzero().flatten()
        energy = SPRING / 4 * (length[near].sqrt() - 1.0).square()
        return scatter_sum(energy, edge_index[1, near], z.shape[0])


def springs(unit: str = "eV") -> Springs:
    model = Springs([1, 6, 8], channels=2, num_levels=1, lmax=1, energy_unit=unit)
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.zero_()
    return model.double().eval()


def wavenumber(curvature: float, mass: float) -> float:
    omega = math.sqrt(curvature * 1.602176634e-19 / (mass * 1.66053906660e-27)) * 1e10
    return omega / (2 * math.pi * 29979245800)


def test_a_diatomic_molecule_has_the_frequency_of_its_spring() -> None:
    z = torch.tensor([6, 8])
    pos = torch.tensor([[0.0, 0, 0], [0.6, 0, 0.8]], dtype=torch.float64)
    found = vibrational_frequencies(springs(), z, pos)
    reduced = 12.011 * 15.999 / (12.011 + 15.999)
    expected = wavenumber(SPRING, reduced)
    assert found.frequencies.shape == (1,)
    assert float(found.frequencies) == pytest.approx(expected, rel=1e-10)
    # the mode moves the atoms along the bond, the lighter one more
    mode = found.modes[0]
    ratio = mode[0].norm() / mode[1].norm()
    assert float(ratio) == pytest.approx(15.999 / 12.011, rel=1e-10)
    masses = torch.tensor([1.0, 4.0])
    heavy = vibrational_frequencies(springs(), z, pos, masses)
    assert float(heavy.frequencies) == pytest.approx(wavenumber(SPRING, 0.8), rel=1e-10)


def test_a_linear_molecule_has_one_mode_more() -> None:
    z = torch.tensor([8, 6, 8])
    line = torch.tensor([[-1.0, 0, 0], [0, 0, 0], [1, 0, 0]], dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(3, 3).double()).Q
    found = vibrational_frequencies(springs(), z, line @ turn).frequencies
    assert found.shape == (4,)
    symmetric = wavenumber(SPRING, 15.999)
    antisymmetric = wavenumber(SPRING * (1 + 2 * 15.999 / 12.011), 15.999)
    assert found[2:].tolist() == pytest.approx([symmetric, antisymmetric], rel=1e-9)
    assert float(found[:2].abs().max()) < 1e-2  # springs do not bend
    bent = line.clone()
    bent[0, 1] = 0.3
    bent[0, 0] = -math.sqrt(1 - 0.09)
    assert vibrational_frequencies(springs(), z, bent).frequencies.shape == (3,)


def test_units_of_energy_are_those_of_the_model() -> None:
    z = torch.tensor([6, 8])
    pos = torch.tensor([[0.0, 0, 0], [0, 0, 1.0]], dtype=torch.float64)
    electronvolt = vibrational_frequencies(springs(), z, pos).frequencies
    kilocalories = vibrational_frequencies(springs("kcal/mol"), z, pos).frequencies
    ratio = float(electronvolt / kilocalories) ** 2
    assert ratio == pytest.approx(23.0605478, rel=1e-8)


def test_a_saddle_has_a_negative_number() -> None:
    """A compressed line of three atoms buckles."""
    z = torch.tensor([8, 6, 8])
    pos = torch.tensor([[-0.9, 0, 0], [0, 0, 0], [0.9, 0, 0]], dtype=torch.float64)
    with pytest.warns(CormorantWarning, match=r"atom [02] is 3 eV/.*relax.py"):
        found = vibrational_frequencies(springs(), z, pos).frequencies
    assert bool((found[:2] < -100).all())
    assert bool((found[2:] > 100).all())


def network(**options: Any) -> CormorantPotential:
    torch.manual_seed(3)
    arguments = {"channels": 4, "num_levels": 2, "cutoff": 3.0, **options}
    return Cormorant.potential(**arguments).double().eval()


@pytest.mark.parametrize("periodic", [False, True])
def test_the_hessian_is_the_slope_of_the_forces(periodic: bool) -> None:
    z, pos = random_molecule(4)
    cell = 4.0 * torch.eye(3).double() if periodic else None
    model = network()
    matrix = hessian(model, z, pos, cell)
    assert not model.training
    assert force_jacobian_asymmetry(model, z, pos, cell) < 1e-11
    step = 1e-4
    for k in (0, 7):
        move = torch.zeros(12, dtype=torch.float64)
        move[k] = step
        found = torch.zeros(12, dtype=torch.float64)
        for factor, weight in STENCIL:
            moved = pos + factor * move.view(4, 3)
            forces = model.energy_and_forces(z, moved, None, cell)[1]
            found -= weight * forces.flatten() / (12 * step)
        error = found - matrix[:, k]
        assert float(error.abs().max()) <= 1e-7 * float(matrix.abs().max())


def test_rigid_motions_cost_nothing() -> None:
    z, pos = random_molecule(5)
    model = network(repulsion="zbl")
    matrix = hessian(model, z, 0.8 * pos)
    shifts = torch.eye(3, dtype=torch.float64).repeat(5, 1)
    assert float((matrix @ shifts).abs().max()) <= 1e-10 * float(matrix.abs().max())
    with pytest.warns(CormorantWarning, match="this is no minimum"):
        assert vibrational_frequencies(model, z, pos).frequencies.shape == (9,)


def test_single_atoms_and_nothing_have_no_vibrations() -> None:
    alone = torch.zeros(1, 3).double()
    found = vibrational_frequencies(network(), torch.tensor([6]), alone)
    assert found.frequencies.shape == (0,)
    assert hessian(network(), torch.tensor([6]), alone).tolist() == [[0.0] * 3] * 3
    none = torch.empty(0, 3).double()
    assert hessian(network(), torch.empty(0).long(), none).shape == (0, 0)
    nothing = vibrational_frequencies(network(), torch.empty(0).long(), none)
    assert nothing.modes.shape == (0, 0, 3)


def test_bad_input_is_refused() -> None:
    z, pos = random_molecule(3)
    with pytest.raises(ConfigError, match="energy unit"):
        vibrational_frequencies(Cormorant(head="extensive", num_levels=1), z, pos)
    infinite = torch.tensor([1.0, torch.inf, 1.0])
    for masses in (torch.ones(2), torch.zeros(3), infinite):
        with pytest.raises(ShapeError, match="masses"):
            vibrational_frequencies(network(), z, pos, masses)
    with pytest.raises(DtypeError, match="masses must be a tensor"):
        vibrational_frequencies(network(), z, pos, [1.0, 1.0, 1.0])
    with pytest.raises(SpeciesError, match="element 99"):
        vibrational_frequencies(network(species=[99]), torch.tensor([99, 99, 99]), pos)


def test_masses_are_those_of_ase() -> None:
    data = pytest.importorskip("ase.data")
    for z, mass in enumerate(ATOMIC_MASSES, start=1):
        assert mass == pytest.approx(float(data.atomic_masses[z]), abs=2e-3)
