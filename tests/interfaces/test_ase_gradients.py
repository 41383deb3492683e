"""ASE's own comparisons of forces and stress with differences of the energy."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.calculators.test import gradient_test
from structures import liquid

from torch_cormorant.interfaces.ase import CormorantCalculator
from torch_cormorant.interfaces.structures import read_atoms
from torch_cormorant.models import Cormorant

MODELS = Path(__file__).parents[2] / "examples" / "models"


def least_error(atoms: Atoms, capsys: pytest.CaptureFixture[str]) -> float:
    """Return the smallest error in the table that ASE prints, one line per step."""
    gradient_test(atoms, [0, 2])
    rows = re.findall(r"^ *[\d.]+ +([\d.]+)$", capsys.readouterr().out, re.MULTILINE)
    assert len(rows) == 8
    return min(map(float, rows))


def test_gradients_of_random_weights(
    potential: Cormorant, molecules: list[Atoms], capsys: pytest.CaptureFixture[str]
) -> None:
    for atoms in (molecules[3], molecules[4]):  # a slab and a skewed cell
        atoms.calc = CormorantCalculator(potential, energy_unit="eV")
        assert np.abs(atoms.get_forces()).max() > 1e-3
        assert least_error(atoms, capsys) < 1e-9


def test_gradients_of_the_shipped_potential(
    capsys: pytest.CaptureFixture[str],
) -> None:
    atoms = read_atoms(MODELS / "ethanol.xyz")
    atoms.rattle(0.05, seed=0)
    file = MODELS / "ethanol.safetensors"
    atoms.calc = CormorantCalculator.from_file(file, dtype=torch.float64)
    assert least_error(atoms, capsys) < 1e-6
    found = calculate_numerical_forces(atoms, eps=1e-4, iatoms=[1])
    np.testing.assert_allclose(atoms.get_forces()[1:2], found, rtol=0, atol=2e-5)


def test_stress_is_that_of_strained_cells(potential: Cormorant) -> None:
    atoms = liquid(8)
    atoms.calc = CormorantCalculator(potential, energy_unit="eV")
    found = calculate_numerical_stress(atoms, eps=1e-5)
    assert np.abs(found).max() > 1e-5
    np.testing.assert_allclose(atoms.get_stress(), found, rtol=0, atol=2e-9)
