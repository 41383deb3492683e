"""Repulsion at short range, against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from torch_cormorant.errors import ConfigError
from torch_cormorant.nn.zbl import COVALENT_RADII, ZBL, zbl_energy


def by_hand(length: float, first: int, second: int) -> float:
    """The formula of the paper with a calculator's precision, in eV."""
    a = 0.8854 * 0.529177210903 / (first**0.23 + second**0.23)
    x = length / a
    phi = (
        0.18175 * math.exp(-3.1998 * x)
        + 0.50986 * math.exp(-0.94229 * x)
        + 0.28022 * math.exp(-0.4029 * x)
        + 0.02817 * math.exp(-0.20162 * x)
    )
    return 14.399645478 * first * second / length * phi


@pytest.mark.parametrize(
    ("length", "first", "second"), [(0.1, 1, 1), (0.5, 6, 6), (0.8, 6, 8), (1.5, 29, 1)]
)
def test_energies_are_those_of_the_formula(
    length: float, first: int, second: int
) -> None:
    r = torch.tensor([length], dtype=torch.float64)
    z = torch.tensor([first]), torch.tensor([second])
    found = float(zbl_energy(r, *z))
    assert found == pytest.approx(by_hand(length, first, second), rel=1e-12)
    swapped = float(zbl_energy(r, z[1], z[0]))
    assert swapped == pytest.approx(found, rel=1e-14)


def test_two_carbon_atoms_at_half_an_angstrom() -> None:
    """119.92 eV: a = 0.15515 A, x = 3.2227, phi = 0.11567, 14.3996 * 72 * phi."""
    six = torch.tensor([6])
    found = float(zbl_energy(torch.tensor([0.5]).double(), six, six))
    assert found == pytest.approx(119.92, abs=0.01)


def test_units_differ_by_their_factor() -> None:
    six, half = torch.tensor([6]), torch.tensor([0.5], dtype=torch.float64)
    ratio = zbl_energy(half, six, six, "kcal/mol") / zbl_energy(half, six, six)
    assert float(ratio) == pytest.approx(23.060547830619, rel=1e-9)


def test_bare_nuclei_are_left_at_tiny_distances() -> None:
    six = torch.tensor([6])
    r = torch.tensor([1e-6], dtype=torch.float64)
    coulomb = 14.399645478 * 36 / 1e-6
    assert float(zbl_energy(r, six, six)) == pytest.approx(coulomb, rel=1e-4)


def test_radii_are_those_that_ase_takes_from_the_same_paper() -> None:
    data = pytest.importorskip("ase.data")
    for z, radius in enumerate(COVALENT_RADII, start=1):
        assert radius == pytest.approx(float(data.covalent_radii[z]), abs=1e-12)


def energy_at(zbl: ZBL, length: torch.Tensor) -> torch.Tensor:
    z = torch.tensor([6, 1])
    vec = torch.zeros(2, 3, dtype=torch.float64)
    vec = torch.stack([vec[0], vec[0]]) + length * torch.tensor(
        [[0.6, 0, 0.8], [-0.6, 0, -0.8]], dtype=torch.float64
    )
    index = torch.tensor([[1, 0], [0, 1]])
    energy: torch.Tensor = zbl(z, index, vec).sum()
    return energy


def test_the_switch_ends_with_two_vanishing_derivatives() -> None:
    zbl = ZBL([1, 6])
    last = 0.31 + 0.76
    K = None
    for h in (1e-2, 1e-3, 1e-4):
        r = torch.tensor(last - h, dtype=torch.float64, requires_grad=True)
        energy = energy_at(zbl, r)
        (slope,) = torch.autograd.grad(energy, r, create_graph=True)
        (curvature,) = torch.autograd.grad(slope, r)
        K = K or 2 * float(curvature.abs()) / h
        assert 0 < float(energy.detach()) <= K * h**3
        assert 0 < -float(slope.detach()) <= K * h**2
        assert 0 < float(curvature) <= K * h
    beyond = torch.tensor([last, last + 1e-9, 2.0], dtype=torch.float64)
    assert all(float(energy_at(zbl, r)) == 0 for r in beyond)


def test_atoms_always_push_each_other_away() -> None:
    zbl = ZBL([1, 6])
    lengths = torch.linspace(0.05, 1.05, 60, dtype=torch.float64)
    energies = torch.stack([energy_at(zbl, r) for r in lengths])
    assert bool((energies.diff() < 0).all())


def test_self_edges_add_nothing_and_have_no_gradient() -> None:
    vec = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    energy = ZBL([1])(torch.tensor([1]), torch.zeros(2, 1, dtype=torch.long), vec)
    assert energy.tolist() == [0.0]
    (slope,) = torch.autograd.grad(energy.sum(), vec, materialize_grads=True)
    assert not slope.any()


def test_tables_keep_their_precision_in_every_dtype() -> None:
    vec = torch.tensor([[0.0, 0, 0.5]], dtype=torch.float64)
    index, z = torch.tensor([[0], [1]]), torch.tensor([6, 8])
    exact = ZBL([6, 8])(z, index, vec)
    assert torch.equal(ZBL([6, 8]).float().double()(z, index, vec), exact)
    assert torch.equal(ZBL([6, 8]).half()(z, index, vec), exact)
    assert not ZBL([6, 8]).state_dict()


@pytest.mark.parametrize(
    ("species", "options"),
    [([0], {}), ([120], {}), ([1], {"unit": "bohr"}), ([1], {"scale": 0.0})],
)
def test_what_it_does_not_know_is_refused(
    species: list[int], options: dict[str, str]
) -> None:
    with pytest.raises(ConfigError, match="ZBL knows"):
        ZBL(species, **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="bohr"):
        zbl_energy(torch.ones(1), torch.ones(1), torch.ones(1), "bohr")
