"""The laws on calculators of ASE: good ones pass, each fault is named by its law."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.morse import MorsePotential
from ase.io import write

from torch_cormorant import Cormorant
from torch_cormorant.errors import ConfigError, InterfaceError
from torch_cormorant.interfaces.ase import CormorantCalculator
from torch_cormorant.testing.__main__ import main
from torch_cormorant.testing.calculators import check_calculator, scan_pair

ETHANOL = Path(__file__).parents[2] / "examples" / "models" / "ethanol.safetensors"


def morse() -> MorsePotential:
    return MorsePotential(rcut1=8, rcut2=9)


def water() -> Atoms:
    atoms = molecule("H2O")
    atoms.rattle(0.05, seed=1)
    return atoms


def failed(calculator: Any, atoms: Atoms, **options: Any) -> set[str]:
    checks = check_calculator(calculator, atoms, **options)
    return {check.law for check in checks if not check.passed}


def copper() -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=1)
    return atoms


def test_good_calculators_pass() -> None:
    assert not failed(morse(), water(), scans=False)
    assert not failed(LennardJones(), water())
    assert not failed(EMT(), copper())
    potential = Cormorant.potential([29], channels=2, num_levels=1, energy_unit="eV")
    assert not failed(CormorantCalculator(potential.double()), copper(), scans=False)


def test_single_precision_has_its_own_limits() -> None:
    potential = Cormorant.potential([1, 8], channels=2, num_levels=1, energy_unit="eV")
    calculator = CormorantCalculator(potential.float())
    assert failed(calculator, water(), scans=False)
    assert not failed(calculator, water(), scans=False, precision="single")


class Faulty(MorsePotential):
    """One fault at a time."""

    def __init__(self, fault: str) -> None:
        super().__init__(rcut1=8, rcut2=9)
        self.fault, self.calls = fault, 0

    def calculate(self, *args: Any, **options: Any) -> None:
        super().calculate(*args, **options)
        self.calls += 1
        found, pos = self.results, self.atoms.positions
        match self.fault:
            case "drift":
                found["forces"] = found["forces"] + 1e-3
            case "swirl":
                found["forces"] = found["forces"] + 1e-3 * np.cross([0, 0, 1], pos)
            case "axis":
                found["energy"] += 1e-3 * float(np.ptp(pos[:, 0]))
            case "chiral":
                a, b, c = pos[1] - pos[0], pos[2] - pos[0], pos[3] - pos[0]
                found["energy"] += 1e-3 * float(np.cross(a, b) @ c)
            case "origin":
                found["forces"] = found["forces"] * (1 + 1e-4 * abs(pos[0, 0]))
            case "order":
                found["energy"] += 1e-3 * float(np.linalg.norm(pos[0] - pos[-1]))
            case "history":
                found["energy"] += 1e-6 * self.calls
            case "stress":
                found["stress"] = 1.001 * found["stress"]


FAULTS = {
    "drift": "sum of forces",
    "swirl": "sum of torques",
    "axis": "energy of the turned structure",
    "chiral": "energy of the mirror image",
    "origin": "forces 100 A away (relative)",
    "order": "energy in another order",
    "history": "energy after other structures",
    "stress": "stress is the slope of the energy",
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_each_fault_is_named_by_its_law(fault: str) -> None:
    atoms = molecule("NH3")
    if fault == "stress":
        atoms = bulk("Si", a=3.0)
    atoms.rattle(0.05, seed=1)
    assert FAULTS[fault] in failed(Faulty(fault), atoms, scans=False)


def test_pairs_are_scanned_as_models_are() -> None:
    # the minimum of ASE's default lies at 1 Angstrom
    scan = scan_pair(morse(), 1, 1)
    assert scan.minima == 1
    assert scan.turns() == 1
    assert scan.is_repulsive
    fine = scan_pair(morse(), 1, 1, np.linspace(0.7, 3.0, 1000))
    assert fine.largest_jump < 1e-4
    step = 0.01 * (fine.length > 1.5)
    broken = replace(fine, energy=fine.energy + step)
    assert broken.largest_jump == pytest.approx(0.01, abs=1e-4)


def test_bad_arguments_and_errors_of_the_calculator_are_named() -> None:
    with pytest.raises(ConfigError, match="precision"):
        check_calculator(morse(), water(), precision="half")
    with pytest.raises(ConfigError, match="at least one atom"):
        check_calculator(morse(), Atoms())
    with pytest.raises(InterfaceError, match="raised NotImplementedError: No EMT"):
        check_calculator(EMT(), Atoms("U", [(0, 0, 0)]))


def ethanol_calculator() -> CormorantCalculator:
    return CormorantCalculator.from_file(ETHANOL)


def broken() -> None:
    raise RuntimeError("no weights")


def nothing() -> int:
    return 3


def test_the_command_takes_any_calculator(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "copper.xyz"
    write(path, copper(), format="extxyz")
    emt = ["--calculator", "ase.calculators.emt:EMT"]
    assert main([*emt, "--frames", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("ok") for line in lines)
    assert any("stress is the slope" in line for line in lines)
    assert main([*emt, "--no-scans"]) == 0  # ethanol
    capsys.readouterr()
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    assert main(["--calculator", "test_calculators:ethanol_calculator", "--single",
                 "--no-scans"]) == 0  # fmt: skip
    capsys.readouterr()
    for arguments, words in (
        ([], "a model file or --calculator"),
        (["x.safetensors", *emt], "one of them"),
        (["--calculator", "nowhere:make"], "nowhere:make: ModuleNotFoundError"),
        (["--calculator", "ase"], "expected module:factory"),
        (["--calculator", "test_calculators:broken"], "RuntimeError: no weights"),
        (["--calculator", "test_calculators:nothing"], "made int, no calculator"),
        ([*emt, "--frames", str(tmp_path / "no.xyz")], "no.xyz: frame 0"),
        ([*emt, "--frames", str(path), "--frame", "7"], "copper.xyz: frame 7"),
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
