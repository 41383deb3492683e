"""Molecular dynamics in C++, beside ASE's and beside what is known exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.lj import LennardJones
from ase.constraints import FixAtoms
from ase.md.verlet import VelocityVerlet

from torch_cormorant.errors import BlowUpError, ConfigError, SpeciesError
from torch_cormorant.interfaces.ase import CormorantCalculator
from torch_cormorant.interfaces.dynamics import BlowUpGuard
from torch_cormorant.interfaces.native_dynamics import NativeDynamics

Make = Callable[..., Any]
STEP = 0.5 * units.fs


@pytest.fixture
def start(make: Make, atoms: Any) -> Callable[..., Atoms]:
    """Eight atoms that move, in a box or not, with a unit that is not ASE's."""
    model = make(channels=3, num_levels=2, cutoff=3.0, energy_unit="kcal/mol")

    def build(*, periodic: bool = False) -> Atoms:
        z, pos = atoms(8)
        out = Atoms(z, pos, cell=4 * np.eye(3) if periodic else None, pbc=periodic)
        random = np.random.default_rng(1)
        out.set_velocities(0.05 * random.normal(size=pos.shape))
        out.calc = CormorantCalculator(model, backend="native")
        return out

    return build


@pytest.mark.parametrize("periodic", [False, True])
def test_without_friction_it_is_velocity_verlet(start: Any, periodic: bool) -> None:
    ours, theirs = start(periodic=periodic), start(periodic=periodic)
    dynamics = NativeDynamics(ours, STEP)
    dynamics.run(30)
    dynamics.run(30)
    VelocityVerlet(theirs, STEP).run(60)
    assert dynamics.get_time() == pytest.approx(60 * STEP)
    assert np.abs(theirs.positions - start().positions).max() > 0.1
    np.testing.assert_allclose(ours.positions, theirs.positions, atol=1e-11)
    np.testing.assert_allclose(ours.get_momenta(), theirs.get_momenta(), atol=1e-10)
    found, wanted = ours.calc.results, theirs.calc.results
    np.testing.assert_allclose(found["forces"], wanted["forces"], atol=1e-9)
    assert found["energy"] == pytest.approx(wanted["energy"], rel=1e-10)
    assert ours.get_potential_energies().shape == (8,)  # computed where asked for


def free(make: Make, count: int = 300) -> Atoms:
    """Atoms that do not feel each other."""
    pos = 9.0 * np.arange(count)[:, None] * np.eye(3)[0]
    out = Atoms(np.tile([1, 8], count // 2), pos)
    model = make(channels=2, num_levels=1, lmax=1)
    out.calc = CormorantCalculator(model, backend="native")
    return out


def test_a_bath_gives_its_temperature(make: Make) -> None:
    atoms = free(make)
    bath = {"temperature_K": 400.0, "friction": 0.5 / units.fs}
    dynamics = NativeDynamics(atoms, STEP, **bath, seed=3)
    found: list[list[float]] = []
    kinds = atoms.numbers == 1, atoms.numbers == 8

    def note() -> None:
        energy = 0.5 * atoms.get_masses()[:, None] * atoms.get_velocities() ** 2
        found.append([float(energy[kind].mean()) for kind in kinds])

    dynamics.attach(note, 10)
    dynamics.run(400)
    means = np.mean(found[1:], axis=0) / (0.5 * units.kB * 400.0)
    assert len(found) == 41
    assert np.abs(means - 1).max() < 0.05  # 18,000 numbers: 1 % each


def test_a_cold_bath_slows_down_as_the_formula_says(make: Make) -> None:
    atoms = free(make, 4)
    speed = np.random.default_rng(0).normal(size=(4, 3))
    atoms.set_velocities(speed)
    friction = 0.02 / units.fs
    NativeDynamics(atoms, STEP, temperature_K=0.0, friction=friction).run(50)
    wanted = speed * np.exp(-friction * 50 * STEP)
    np.testing.assert_allclose(atoms.get_velocities(), wanted, rtol=1e-12)


def test_a_seed_decides_every_digit(start: Any) -> None:
    def end(seed: int, parts: tuple[int, ...] = (40,)) -> Any:
        atoms = start()
        bath = {"temperature_K": 300.0, "friction": 0.01 / units.fs, "seed": seed}
        dynamics = NativeDynamics(atoms, STEP, **bath)
        for part in parts:
            dynamics.run(part)
        return atoms.positions

    assert np.array_equal(end(5), end(5))
    assert np.abs(end(5) - end(6)).max() > 1e-3
    np.testing.assert_allclose(end(5, (7, 33)), end(5), atol=1e-12)


def test_what_attached_functions_change_counts(start: Any) -> None:
    """Also where neither positions nor forces would show it."""
    atoms = start()
    dynamics = NativeDynamics(atoms, STEP)
    dynamics.attach(lambda: atoms.set_momenta(0 * atoms.get_momenta()), 5)
    dynamics.run(5)
    assert not atoms.get_momenta().any()
    still = atoms.copy()
    still.calc = atoms.calc
    dynamics.run(3)
    VelocityVerlet(still, STEP).run(3)
    np.testing.assert_allclose(atoms.positions, still.positions, atol=1e-12)


def test_a_run_that_blows_up_keeps_the_last_good_step(
    start: Any, tmp_path: Any
) -> None:
    whole, atoms, guarded = start(), start(), start()
    for one in (whole, atoms, guarded):
        one.set_velocities(-3 * one.get_velocities())
    sizes: list[float] = []

    def note() -> None:
        sizes.append(float(np.linalg.norm(whole.get_forces(), axis=1).max()))

    dynamics = NativeDynamics(whole, STEP)
    dynamics.attach(note)
    dynamics.run(40)
    most = (max(sizes[:10]) + max(sizes)) / 2
    first = next(k for k, size in enumerate(sizes) if size > most)
    assert first > 10
    limited = NativeDynamics(atoms, STEP, max_force=most)
    with pytest.raises(BlowUpError, match=r"the force on atom \d"):
        limited.run(40)
    assert limited.nsteps == first - 1
    size = np.linalg.norm(atoms.get_forces(), axis=1).max()
    assert size == pytest.approx(sizes[first - 1], rel=1e-9)
    guard = BlowUpGuard(guarded, tmp_path / "last_good.xyz")
    limited = NativeDynamics(guarded, STEP, max_force=most)
    with pytest.raises(BlowUpError, match=f"blew up at step {first}, atom"):
        guard.run(limited, 40, stride=7)


def test_what_does_not_fit_is_refused(start: Any) -> None:
    atoms = start()
    for arguments, text in (
        ({"timestep": 0.0}, "timestep"),
        ({"timestep": STEP, "friction": 1.0}, "temperature_K"),
        ({"timestep": STEP, "max_force": -1.0}, "max_force"),
    ):
        with pytest.raises(ConfigError, match=text):
            NativeDynamics(atoms, **arguments)
    with pytest.raises(ConfigError, match="interval"):
        NativeDynamics(atoms, STEP).attach(print, 0)
    atoms.set_constraint(FixAtoms([0]))
    with pytest.raises(ConfigError, match="constraints"):
        NativeDynamics(atoms, STEP)
    atoms.set_constraint()
    atoms.numbers[3] = 7
    with pytest.raises(SpeciesError, match="atom 3"):
        NativeDynamics(atoms, STEP).run(1)
    atoms.calc = LennardJones()
    with pytest.raises(ConfigError, match="CormorantCalculator"):
        NativeDynamics(atoms, STEP)
