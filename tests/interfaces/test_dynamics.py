from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from ase.io import read
from ase.md.verlet import VelocityVerlet

from torch_cormorant.errors import BlowUpError, ConfigError, NonFiniteError
from torch_cormorant.interfaces.dynamics import BlowUpGuard, Bonds, linear_drift


class Exploding(Calculator):
    """A spring that lets go of atom 1 at a given call."""

    implemented_properties = ("energy", "forces")

    def __init__(self, call: int, force: float) -> None:
        super().__init__()
        self.calls, self.call, self.force = 0, call, force

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: tuple[str, ...] = ("energy",),
        system_changes: tuple[str, ...] = tuple(all_changes),
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        self.calls += 1
        if self.calls > self.call and np.isinf(self.force):
            msg = "the force on atom 1 is not finite"
            raise NonFiniteError(msg)
        forces = -0.1 * self.atoms.positions
        if self.calls > self.call:
            forces[1, 0] += self.force
        self.results = {"energy": 0.0, "forces": forces}


@pytest.mark.parametrize(
    ("force", "text"),
    [
        (1e6, r"step 6, atom 1 \(O\): the force is 1e\+06 eV/Angstrom"),
        (np.nan, r"step 6, atom 1 \(O\): the force is inf"),
        (np.inf, r"step 6, atom \d .*not finite"),
        (30.0, r"atom 1 \(O\): the temperature is .* K"),
    ],
)
def test_a_run_that_blows_up_says_where_and_keeps_the_last_good_frame(
    force: float, text: str, tmp_path: Path
) -> None:
    atoms = Atoms("CO", [(0.0, 0, 0), (1.2, 0, 0)])
    atoms.calc = Exploding(6, force)
    path = tmp_path / "kept" / "last_good.xyz"
    guard = BlowUpGuard(atoms, path, max_force=100, max_temperature=2000)
    with (
        VelocityVerlet(atoms, units.fs) as run,
        pytest.raises(BlowUpError, match=text) as caught,
    ):
        guard.run(run, 200)
    assert str(path) in str(caught.value)
    good = read(path)
    assert np.isfinite(good.positions).all()
    assert np.abs(good.positions - [(0, 0, 0), (1.2, 0, 0)]).max() < 1


class LettingGo(Calculator):
    """No forces at all: a molecule flies apart without any of them being large."""

    implemented_properties = ("energy", "forces")

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: tuple[str, ...] = ("energy",),
        system_changes: tuple[str, ...] = tuple(all_changes),
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 0.0, "forces": np.zeros((len(self.atoms), 3))}


def test_a_molecule_that_comes_apart_stops_the_run(tmp_path: Path) -> None:
    atoms = Atoms("CO", [(0.0, 0, 0), (1.2, 0, 0)], cell=np.eye(3) * 5, pbc=True)
    atoms.calc = LettingGo()
    atoms.set_velocities([(0, 0, 0), (0.05, 0, 0)])
    path = tmp_path / "last_good.xyz"
    with VelocityVerlet(atoms, units.fs) as run:
        BlowUpGuard(atoms, path).run(run, 100)  # bonds may break
        atoms.positions[1] = (1.2, 0, 0)
        guard = BlowUpGuard(atoms, path, max_stretch=1.5)
        text = r"atom 1 \(O\): its bond to atom 0 \(C\) is 1\.5\d? times"
        with pytest.raises(BlowUpError, match=text):
            guard.run(run, 300)
    assert read(path).get_distance(0, 1) <= 1.5 * 1.2
    with pytest.raises(ConfigError, match="max_stretch"):
        BlowUpGuard(atoms, path, max_stretch=-1.0)


def test_bonds_reach_over_the_edge_of_a_cell() -> None:
    atoms = Atoms("CO", [(0.1, 0, 0), (8.9, 0, 0)], cell=np.eye(3) * 10, pbc=True)
    bonds = Bonds(atoms)
    np.testing.assert_allclose(bonds.start, [1.2])
    atoms.positions[1, 0] -= 1.2
    assert bonds.stretch(atoms) == (pytest.approx(2.0), (0, 1))
    assert Bonds(Atoms("He")).stretch(Atoms("He")) == (1.0, (0, 0))


def test_a_structure_that_is_refused_is_no_explosion(tmp_path: Path) -> None:
    atoms = Atoms("CO", [(0.0, 0, 0), (1.2, 0, 0)])
    atoms.calc = Exploding(0, np.inf)
    guard = BlowUpGuard(atoms, tmp_path / "last.xyz")
    with (
        VelocityVerlet(atoms, units.fs) as run,
        pytest.raises(NonFiniteError, match=r"^the force on atom 1"),
    ):
        guard.run(run, 5)
    assert not (tmp_path / "last.xyz").exists()


def test_limits_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="max_force"):
        BlowUpGuard(Atoms("H"), tmp_path / "x.xyz", max_force=0)
    for path in (tmp_path, tmp_path / "last.nonsense"):
        with pytest.raises(ConfigError, match="no file that ASE can write"):
            BlowUpGuard(Atoms("H"), path)


def test_a_frame_that_cannot_be_written_does_not_hide_the_explosion(
    tmp_path: Path,
) -> None:
    atoms = Atoms("CO", [(0.0, 0, 0), (1.2, 0, 0)])
    atoms.calc = Exploding(3, 1e6)
    (tmp_path / "file").write_text("in the way of a folder")
    guard = BlowUpGuard(atoms, tmp_path / "file" / "last.xyz")
    with (
        VelocityVerlet(atoms, 0.1 * units.fs) as run,
        pytest.raises(BlowUpError, match=r"1e\+06.*could not be written"),
    ):
        guard.run(run, 20)


def test_drift_and_fluctuation_of_a_known_line() -> None:
    times = np.linspace(0, 10, 2001)
    wave = 0.02 * np.sin(2 * np.pi * 50 * times)
    found = linear_drift(times, -400 + 0.3 * times + wave, num_atoms=10)
    assert found["drift"] == pytest.approx(0.03, rel=1e-3)
    assert found["fluctuation"] == pytest.approx(0.002 / 2**0.5, rel=1e-2)
    assert 0 < found["error"] < 1e-4
    with pytest.raises(ConfigError, match="three values"):
        linear_drift([0, 1], [1, 2], 1)
