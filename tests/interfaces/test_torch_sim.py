from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms, units

torch_sim = pytest.importorskip("torch_sim")

from torch_sim.models.interface import validate_model_outputs  # noqa: E402

from torch_cormorant import Cormorant  # noqa: E402
from torch_cormorant.errors import (  # noqa: E402
    CoincidentAtomsError,
    CormorantWarning,
    NonFiniteError,
    SpeciesError,
)
from torch_cormorant.interfaces.ase import CormorantCalculator  # noqa: E402
from torch_cormorant.interfaces.native import native_problem  # noqa: E402
from torch_cormorant.interfaces.torch_sim import CormorantSimModel  # noqa: E402
from torch_cormorant.models import Potential  # noqa: E402
from torch_cormorant.networks import SEGNN, Allegro, NequIP  # noqa: E402

CPU = torch.device("cpu")


@pytest.fixture(params=["native", "model"])
def model(request: pytest.FixtureRequest, potential: Cormorant) -> CormorantSimModel:
    if request.param == "native" and native_problem(potential):
        pytest.skip(native_problem(potential))
    return CormorantSimModel(potential, energy_unit="eV", backend=request.param)


def test_torch_sim_finds_nothing_to_complain_about() -> None:
    potential = Cormorant.potential([1, 6, 12, 14, 26], channels=3, num_levels=1)
    model = CormorantSimModel(potential, dtype=torch.float64)
    validate_model_outputs(model, CPU, torch.float64)


def test_results_are_those_of_ase(
    potential: Cormorant, model: CormorantSimModel, molecules: list[Atoms]
) -> None:
    boxes = [molecules[2], molecules[4]]
    state = torch_sim.io.atoms_to_state(boxes, CPU, torch.float64)
    found = model(state)
    calculator = CormorantCalculator(potential, energy_unit="eV")
    for k, box in enumerate(boxes):
        box.calc = calculator
        assert found["energy"][k].item() == pytest.approx(box.get_potential_energy())
        rows = state.system_idx == k
        np.testing.assert_allclose(found["forces"][rows], box.get_forces(), atol=1e-12)
        stress = box.get_stress(voigt=False)
        np.testing.assert_allclose(found["stress"][k], stress, atol=1e-13)
    free = torch_sim.io.atoms_to_state(molecules[:2], CPU, torch.float64)
    molecules[0].calc = calculator
    found = model(free)
    assert found["energy"][0].item() == pytest.approx(
        molecules[0].get_potential_energy()
    )
    assert not found["stress"].any()


@pytest.mark.parametrize("kind", [NequIP, Allegro, SEGNN])
def test_potentials_of_the_family_are_those_of_ase(
    kind: Any, molecules: list[Atoms]
) -> None:
    torch.manual_seed(0)
    options = {"scalars": 8} if kind is Allegro else {}
    network = kind([1, 8], cutoff=3.0, channels=4, num_levels=2, **options)
    potential = Potential(network).double().eval()
    model = CormorantSimModel(potential, energy_unit="eV")
    boxes = [molecules[2], molecules[4]]
    found = model(torch_sim.io.atoms_to_state(boxes, CPU, torch.float64))
    for k, box in enumerate(boxes):
        box.calc = CormorantCalculator(potential, energy_unit="eV")
        assert found["energy"][k].item() == pytest.approx(box.get_potential_energy())
    forces = np.concatenate([box.get_forces() for box in boxes])
    assert np.abs(forces).max() > 0.001
    np.testing.assert_allclose(found["forces"], forces, rtol=1e-9, atol=1e-11)


def test_mistakes_name_the_system_and_its_atom(
    model: CormorantSimModel, molecules: list[Atoms]
) -> None:
    def refused(change: Callable[[Atoms], None], error: type, words: str) -> None:
        bad = molecules[0].copy()
        change(bad)
        both = [molecules[1], bad]
        state = torch_sim.io.atoms_to_state(both, CPU, torch.float64)
        with pytest.raises(error, match=words):
            model(state)

    def unknown(atoms: Atoms) -> None:
        atoms.numbers[2] = 7

    def lost(atoms: Atoms) -> None:
        atoms.positions[1] = np.nan

    def same(atoms: Atoms) -> None:
        atoms.positions[2] = atoms.positions[0]

    refused(unknown, SpeciesError, r"system 1: .*(7 \(atom 2\)|atom 2 has .* 7)")
    refused(lost, NonFiniteError, "system 1: .*(row|atom) 1")
    refused(same, CoincidentAtomsError, "system 1: (nodes|atoms) (0 and 2|2 and 0)")


def test_a_state_may_repeat_in_two_directions(
    potential: Cormorant, model: CormorantSimModel, molecules: list[Atoms]
) -> None:
    slab = molecules[3]
    state = torch_sim.io.atoms_to_state([slab], CPU, torch.float64)
    state.pbc = torch.tensor(slab.pbc)
    calculator = CormorantCalculator(potential, energy_unit="eV")
    assert model(state)["energy"].item() == pytest.approx(
        calculator.get_potential_energy(slab)
    )


def test_two_molecules_at_once_keep_their_energies(
    model: CormorantSimModel, molecules: list[Atoms]
) -> None:
    hot = []
    for temperature in (100, 300):
        atoms = molecules[0].copy()
        speed = np.random.default_rng(0).normal(size=(3, 3)) * temperature / 6000
        atoms.set_velocities(speed)
        hot.append(atoms)
    state = torch_sim.io.atoms_to_state(hot, CPU, torch.float64)
    masses, number = state.masses.unsqueeze(1), state.system_idx
    speed = torch.from_numpy(np.concatenate([a.get_velocities() for a in hot]))
    pos, step = state.positions, 0.2 * units.fs

    def total(found: dict[str, torch.Tensor]) -> torch.Tensor:
        kinetic = (masses * speed.square()).sum(1) / 2
        return found["energy"] + torch.zeros(2).double().index_add(0, number, kinetic)

    found = model(state)
    before = total(found)
    for _ in range(10):
        speed = speed + step / 2 * found["forces"] / masses
        pos = pos + step * speed
        state.positions = pos
        found = model(state)
        speed = speed + step / 2 * found["forces"] / masses
    torch.testing.assert_close(total(found), before, rtol=0, atol=1e-4)
    assert (before[0] - before[1]).abs() > 1e-3
    edges = model.engine.edges
    assert model.backend == "native" or edges.searches < edges.calls


def test_a_composition_that_was_not_trained_on_is_warned_of_once(
    potential: Cormorant, molecules: list[Atoms]
) -> None:
    known = {"compositions": [{"1": 2, "8": 1}]}
    potential.info = replace(potential.info, training=known)
    model = CormorantSimModel(potential, energy_unit="eV")
    water = torch_sim.io.atoms_to_state(molecules[:1], CPU, torch.float64)
    mixed = torch_sim.io.atoms_to_state(molecules[:2], CPU, torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("error", CormorantWarning)
        model(water)
    with pytest.warns(CormorantWarning, match="system 1: the training structures"):
        model(mixed)
    with warnings.catch_warnings():
        warnings.simplefilter("error", CormorantWarning)
        model(mixed)
