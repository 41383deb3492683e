"""The calculator of ASE with the native evaluator."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from torch_cormorant.errors import BackendError, ConfigError
from torch_cormorant.interfaces.ase import CormorantCalculator

Make = Callable[..., Any]


@pytest.fixture
def model(make: Make) -> Any:
    return make(channels=3, num_levels=2, energy_unit="kcal/mol")


def test_both_backends_agree(model: Any, atoms: Any) -> None:
    z, pos = atoms(8)
    chosen = CormorantCalculator(model)
    assert chosen.backend == "native"
    box = Atoms(z, pos, cell=6 * np.eye(3), pbc=True)
    slab = Atoms(z, pos, cell=6 * np.eye(3), pbc=(True, False, True))
    molecule = Atoms(z[:3], pos[:3])
    again = pickle.loads(pickle.dumps(chosen))  # noqa: S301
    for calculator in (chosen, copy.deepcopy(chosen), again):
        for one in (box, slab, molecule):
            network = CormorantCalculator(model, backend="model")
            for name in ("energy", "energies", "forces"):
                found, wanted = (
                    c.get_property(name, one) for c in (calculator, network)
                )
                np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
            assert network.results.keys() == calculator.results.keys()
    stress = [
        CormorantCalculator(model, backend=b).get_stress(box)
        for b in ("native", "model")
    ]
    np.testing.assert_allclose(*stress, atol=1e-12)
    many = chosen.calculate_many([box, molecule, box])
    assert [len(found["forces"]) for found in many] == [8, 3, 8]
    np.testing.assert_allclose(many[2]["forces"], chosen.get_forces(box), atol=1e-12)


def test_what_is_not_covered_is_computed_by_the_network(make: Make, atoms: Any) -> None:
    model = make(channels=3, num_levels=1, harmonics="solid")
    calculator = CormorantCalculator(model)
    assert calculator.backend == "model"
    molecule = Atoms(*atoms(3))
    wanted = model.evaluate(
        torch.tensor(molecule.numbers), torch.tensor(molecule.positions)
    )
    assert calculator.get_potential_energy(molecule) == pytest.approx(
        wanted.energy.item()
    )
    with pytest.raises(ConfigError, match="harmonics is 'solid'"):
        CormorantCalculator(model, backend="native")


def test_names_of_backends(model: Any) -> None:
    with pytest.raises(BackendError, match="'auto' or one of native, model"):
        CormorantCalculator(model, backend="fast")
    with pytest.raises(ConfigError, match="traced"):
        CormorantCalculator(model, backend="native", traced=True)
    assert CormorantCalculator(model, traced=True).backend == "model"
