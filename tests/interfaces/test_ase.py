from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.test import calculate_numerical_forces
from ase.md.verlet import VelocityVerlet

from torch_cormorant import CormorantQM9, save_model
from torch_cormorant.errors import (
    CellError,
    CoincidentAtomsError,
    ConfigError,
    CormorantWarning,
    NonFiniteError,
    ShapeError,
    SpeciesError,
)
from torch_cormorant.interfaces import ase as interface
from torch_cormorant.interfaces.ase import CormorantCalculator
from torch_cormorant.models import Cormorant

NAMES = {"energy", "free_energy", "energies", "forces", "stress"}


@pytest.fixture
def calculator(potential: Cormorant) -> CormorantCalculator:
    return CormorantCalculator(potential, energy_unit="eV")


def test_results_are_those_of_the_model(
    potential: Cormorant, calculator: CormorantCalculator, molecules: list[Atoms]
) -> None:
    box = molecules[2]
    box.calc = calculator
    out = potential.evaluate(
        torch.tensor(box.numbers),
        torch.tensor(box.positions),
        cell=torch.tensor(box.cell.array),
        stress=True,
    )
    stress = box.get_stress()
    assert set(calculator.results) == NAMES
    assert box.get_potential_energy() == pytest.approx(out.energy.item(), rel=1e-14)
    assert box.get_potential_energy(force_consistent=True) == box.get_potential_energy()
    assert box.get_potential_energies().sum() == pytest.approx(out.energy.item())
    np.testing.assert_allclose(box.get_forces(), out.forces, atol=1e-13)
    full = out.stress[0].numpy()
    order = [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]
    np.testing.assert_allclose(stress, [full[i, j] for i, j in order], atol=1e-14)


def test_forces_are_slopes_in_a_skewed_cell(
    calculator: CormorantCalculator, molecules: list[Atoms]
) -> None:
    box = molecules[4]
    box.calc = calculator
    slopes = calculate_numerical_forces(box, eps=1e-4, iatoms=[0, 1])
    np.testing.assert_allclose(box.get_forces()[:2], slopes, atol=1e-7)


def test_stress_is_the_slope_of_the_strain(
    calculator: CormorantCalculator, molecules: list[Atoms]
) -> None:
    box, step = molecules[2], 1e-5
    box.calc = calculator
    stress = box.get_stress(voigt=False)
    strain = np.zeros((3, 3))
    strain[0, 1] = strain[1, 0] = step / 2
    energies = []
    for sign in (1, -1):
        moved = box.copy()
        moved.set_cell(box.cell.array @ (np.eye(3) + sign * strain), scale_atoms=True)
        moved.calc = calculator
        energies.append(moved.get_potential_energy())
    slope = (energies[0] - energies[1]) / (2 * step) / box.get_volume()
    assert stress[0, 1] == pytest.approx(slope, rel=1e-6)


def test_many_structures_at_once_are_the_same_one_by_one(
    calculator: CormorantCalculator, molecules: list[Atoms]
) -> None:
    together = calculator.calculate_many(molecules)
    for atoms, found in zip(molecules, together, strict=True):
        atoms.calc = calculator
        assert found["energy"] == pytest.approx(atoms.get_potential_energy(), rel=1e-12)
        np.testing.assert_allclose(found["forces"], atoms.get_forces(), atol=1e-13)
        assert len(found["energies"]) == len(atoms)
    boxes = [molecules[2], molecules[4]]
    for atoms, found in zip(
        boxes, calculator.calculate_many(boxes, stress=True), strict=True
    ):
        np.testing.assert_allclose(found["stress"], atoms.get_stress(), atol=1e-14)
    assert calculator.calculate_many([]) == []


def test_energies_are_converted_to_ev(
    potential: Cormorant, calculator: CormorantCalculator, molecules: list[Atoms]
) -> None:
    other = CormorantCalculator(potential, energy_unit="kcal/mol")
    ratio = units.kcal / units.mol
    for name in ("energy", "forces", "stress", "energies"):
        expected = calculator.get_property(name, molecules[2])
        found = other.get_property(name, molecules[2])
        np.testing.assert_allclose(found, np.multiply(expected, ratio), rtol=1e-8)


def test_the_list_with_a_skin_changes_nothing_and_is_reused(
    potential: Cormorant, molecules: list[Atoms]
) -> None:
    runs = []
    for skin in (0.0, 0.4):
        box = molecules[2].copy()
        random = np.random.default_rng(0)
        box.set_momenta(0.3 * random.normal(size=(len(box), 3)))
        box.calc = CormorantCalculator(
            potential, energy_unit="eV", skin=skin, backend="model"
        )
        with VelocityVerlet(box, 1 * units.fs) as run:
            run.run(40)
        runs.append((box.positions, box.calc.engine.edges))
    assert np.array_equal(runs[0][0], runs[1][0])
    assert np.abs(runs[0][0] - molecules[2].positions).max() > 0.4, "atoms moved"
    assert runs[0][1].searches == runs[0][1].calls == 41
    assert 1 < runs[1][1].searches < 40


def test_a_changed_cell_needs_a_new_list(
    potential: Cormorant, molecules: list[Atoms]
) -> None:
    box = molecules[2]
    box.calc = CormorantCalculator(potential, energy_unit="eV")
    fresh = CormorantCalculator(potential, energy_unit="eV", skin=0.0)
    box.get_potential_energy()
    for change in (
        lambda: box.set_cell(box.cell.array * 0.9),
        lambda: box.set_pbc((True, True, False)),
        lambda: box.set_atomic_numbers(box.numbers[::-1]),
        box.pop,
    ):
        change()
        expected = fresh.get_property("energy", box)
        assert box.get_potential_energy() == pytest.approx(expected, rel=1e-14)


def test_types_and_devices_are_chosen_without_changing_the_model(
    potential: Cormorant, molecules: list[Atoms]
) -> None:
    calculator = CormorantCalculator(
        potential, energy_unit="eV", dtype=torch.float32, device="cpu"
    )
    water = molecules[0]
    single = calculator.get_property("forces", water)
    double = CormorantCalculator(potential, energy_unit="eV").get_property(
        "forces", water
    )
    assert potential.dtype == torch.float64
    assert all(parameter.requires_grad for parameter in potential.parameters())
    np.testing.assert_allclose(single, double, atol=1e-5)
    assert not np.array_equal(single, double)


def test_a_model_file_brings_its_unit(
    potential: Cormorant, molecules: list[Atoms], tmp_path: object
) -> None:
    pytest.importorskip("safetensors")
    path = f"{tmp_path}/model.safetensors"
    save_model(path, potential, targets=["energy"], units=["kcal/mol"])
    found = CormorantCalculator.from_file(path).get_property("energy", molecules[0])
    given = CormorantCalculator(potential, energy_unit="kcal/mol")
    assert found == given.get_property("energy", molecules[0])


def test_models_that_are_no_potential_are_refused(potential: Cormorant) -> None:
    for build, text in (
        (lambda: CormorantCalculator(potential), "energy_unit is needed"),
        (lambda: CormorantCalculator("model.pt"), "must be a potential or a network"),
        (lambda: CormorantCalculator(CormorantQM9(num_targets=2)), "one target"),
        (lambda: CormorantCalculator(potential, energy_unit="eV", skin=-1), "skin"),
        (lambda: CormorantCalculator(potential, energy_unit="Angstrom"), "Angstrom"),
        (
            lambda: CormorantCalculator(
                potential, energy_unit="eV", dtype=torch.float16
            ),
            "torch.float32 or torch.float64",
        ),
    ):
        with pytest.raises(ConfigError, match=text):
            build()


@pytest.mark.parametrize("backend", ["auto", "model"])
def test_mistakes_name_the_structure_and_the_atom(
    potential: Cormorant, molecules: list[Atoms], backend: str
) -> None:
    calculator = CormorantCalculator(potential, energy_unit="eV", backend=backend)
    water = molecules[0]
    sulfur, broken, flat = water.copy(), water.copy(), molecules[2].copy()
    sulfur.numbers[1] = 16
    broken.positions[2, 1] = np.nan
    flat.cell[2] = 0
    twice = water.copy()
    twice.positions[2] = twice.positions[0]
    for bad, error, text in (
        (sulfur, SpeciesError, r"structure 1: atom 1 has atomic number 16"),
        (broken, NonFiniteError, r"structure 1: the position of atom 2"),
        (flat, CellError, r"structure 1: cell "),
        (Atoms(), ShapeError, r"structure 1: there are no atoms"),
        (twice, CoincidentAtomsError, r"structure 1: (nodes|atoms) [02] and [02] "),
    ):
        with pytest.raises(error, match=text):
            calculator.calculate_many([water, bad])
    with pytest.raises(SpeciesError, match="knows \\[1, 8\\] only"):
        calculator.get_property("forces", sulfur)
    with pytest.raises(PropertyNotImplementedError, match="three periodic directions"):
        calculator.get_property("stress", water)


def test_all_pairs_and_a_cell_do_not_go_together(molecules: list[Atoms]) -> None:
    model = Cormorant(
        species=[1, 8], channels=2, num_levels=1, lmax=1, cutoff=None, head="extensive"
    )
    calculator = CormorantCalculator(model, energy_unit="eV")
    assert calculator.get_property("forces", molecules[0]).shape == (3, 3)
    with pytest.raises(ConfigError, match="make it with cutoff="):
        calculator.get_property("energy", molecules[2])


def test_positions_in_nm_are_warned_of_once(
    calculator: CormorantCalculator, molecules: list[Atoms]
) -> None:
    small = molecules[0].copy()
    small.positions *= 0.1
    with pytest.warns(CormorantWarning, match="structure 1: .* in nm") as seen:
        calculator.calculate_many([molecules[0], small])
    assert len(seen) == 1
    small.positions *= 0.9
    calculator.get_property("energy", small)


def test_a_run_is_looked_at_once(
    calculator: CormorantCalculator,
    molecules: list[Atoms],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For a large system a look costs as much as a small step."""
    looks: list[str] = []
    monkeypatch.setattr(
        interface, "warn_if_not_angstrom", lambda _, name: bool(looks.append(name))
    )
    water = molecules[0]
    water.calc = calculator
    for _ in range(4):
        water.rattle(0.01)
        water.get_forces()
    assert looks == ["atoms"]
    calculator.get_potential_energy(molecules[2])
    calculator.calculate_many([water, water])
    assert looks == ["atoms", "atoms", "structure 0", "structure 1"]


def test_a_composition_that_was_not_trained_on_is_warned_of_once(
    potential: Cormorant, molecules: list[Atoms]
) -> None:
    potential.info = replace(potential.info, training={"compositions": [{"8": 1}]})
    calculator = CormorantCalculator(potential, energy_unit="eV")
    with pytest.warns(CormorantWarning, match="atoms: the training structures"):
        calculator.get_property("energy", molecules[0])
    calculator.calculate_many(molecules)


def test_forces_and_stress_of_a_crystal_are_one_calculation(
    potential: Cormorant, molecules: list[Atoms]
) -> None:
    calculator = CormorantCalculator(potential, energy_unit="eV", backend="model")
    box, slab = molecules[2], molecules[3]
    box.calc = calculator
    box.get_forces()
    box.get_stress()
    assert calculator.engine.edges is not None
    assert calculator.engine.edges.calls == 1
    slab.calc = calculator
    slab.get_forces()
    assert "stress" not in calculator.results


def test_options_cannot_be_set_later(calculator: CormorantCalculator) -> None:
    assert calculator.set() == {}
    with pytest.raises(ConfigError, match="skin cannot be changed"):
        calculator.set(skin=2.0)


def test_a_calculator_says_what_it_computes(potential: Cormorant) -> None:
    calculator = CormorantCalculator(potential, energy_unit="eV", dtype=torch.float32)
    text = repr(calculator)
    assert text == str(calculator)
    name = type(potential).__name__
    assert text.startswith(f"CormorantCalculator({name}, elements H, O, cutoff ")
    assert text.endswith("Angstrom, float32 on cpu)")


def test_a_traced_molecule_gives_the_same(
    potential: Cormorant, calculator: CormorantCalculator, molecules: list[Atoms]
) -> None:
    fast = CormorantCalculator(potential, energy_unit="eV", traced=True)
    free = next(atoms for atoms in molecules if not atoms.pbc.any())
    for atoms in (free, free[:2], free):  # another molecule is traced anew
        expected = atoms.copy()
        atoms.calc, expected.calc = fast, calculator
        np.testing.assert_allclose(
            atoms.get_forces(), expected.get_forces(), atol=1e-12
        )
        assert set(fast.results) == NAMES - {"stress"}
    box = next(atoms for atoms in molecules if atoms.pbc.all())
    box.calc = fast
    with pytest.raises(ConfigError, match="traced=True is for molecules"):
        box.get_forces()


@pytest.mark.parametrize("traced", [False, True])
def test_calculators_are_copied_and_pickled(
    potential: Cormorant, molecules: list[Atoms], traced: bool
) -> None:
    calculator = CormorantCalculator(potential, energy_unit="eV", traced=traced)
    water = molecules[0]
    expected = calculator.get_potential_energy(water)
    for copied in (
        copy.deepcopy(calculator),
        copy.copy(calculator),
        pickle.loads(pickle.dumps(calculator)),  # noqa: S301
    ):
        assert copied.get_potential_energy(water) == expected
        copied.reset()
        assert copied.get_potential_energy(water) == pytest.approx(expected, 1e-13)
    assert calculator.get_potential_energy(water) == expected


def test_one_calculator_follows_every_change_of_its_atoms(
    potential: Cormorant, molecules: list[Atoms]
) -> None:
    """Results and list of the last call must not answer for other atoms."""
    calculator = CormorantCalculator(potential, energy_unit="eV", skin=1.0)
    box = molecules[2].copy()
    box.calc = calculator

    def check() -> None:
        fresh = CormorantCalculator(potential, energy_unit="eV")
        fresh.calculate(box, ["energy", "forces"])
        assert box.get_potential_energy() == pytest.approx(
            fresh.results["energy"], abs=1e-13
        )
        np.testing.assert_allclose(
            box.get_forces(), fresh.results["forces"], atol=1e-13
        )

    check()
    box.numbers[:2] = box.numbers[1::-1]
    check()
    box.set_cell(1.01 * box.cell.array, scale_atoms=False)
    check()
    box.pbc = (True, False, True)
    check()
    box.pbc = False
    check()
    box.pbc = True
    box.positions[0] += 3 * box.cell.array[1]
    check()
    del box[4]
    check()
    box *= (2, 1, 1)
    check()


def test_stress_has_the_order_and_the_sign_of_ase(
    potential: Cormorant, molecules: list[Atoms]
) -> None:
    box = molecules[4].copy()
    box.calc = CormorantCalculator(potential, energy_unit="eV")
    found, cell, step = box.get_stress(), box.cell.array, 1e-5
    pairs = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))  # xx yy zz yz xz xy
    for k, (a, b) in enumerate(pairs):
        strain = np.zeros((3, 3))
        strain[a, b] = strain[b, a] = step if a == b else step / 2
        energies = []
        for sign in (1, -1):
            pulled = box.copy()
            pulled.calc = box.calc
            pulled.set_cell(cell @ (np.eye(3) + sign * strain), scale_atoms=True)
            energies.append(pulled.get_potential_energy())
        slope = (energies[0] - energies[1]) / (2 * step * box.get_volume())
        assert found[k] == pytest.approx(slope, abs=1e-9)
    assert len({round(value, 9) for value in found}) == 6  # none stands for another
    np.testing.assert_allclose(box.get_stress(voigt=False)[0, 1], found[5], atol=1e-15)
    assert box.get_potential_energy(force_consistent=True) == pytest.approx(
        box.get_potential_energies().sum()
    )


@pytest.mark.parametrize("device", ["nowhere", "cuda"])
def test_devices_that_are_not_there_are_named(
    potential: Cormorant, device: str
) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(ConfigError, match=device):
        CormorantCalculator(potential, energy_unit="eV", device=device)
