from __future__ import annotations

import pytest

from torch_cormorant.data import HARTREE_TO_EV, KCAL_PER_MOL_TO_EV, unit_factor
from torch_cormorant.errors import ConfigError


@pytest.mark.parametrize(
    ("source", "target", "factor"),
    [
        ("Hartree", "eV", 27.211386245988),
        ("kcal/mol", "kJ/mol", 4.184),
        ("kJ/mol", "eV", 0.010364269656262),
        ("bohr", "Angstrom", 0.529177210903),
        ("Hartree/bohr", "eV/Angstrom", 51.422067476326),
        ("Hartree / Bohr ** 3", "GPa", 29421.015697),
        ("eV/Angstrom^3", "GPa", 160.2176634),
        ("kbar", "GPa", 0.1),
        ("Debye", "e*Angstrom", 0.20819433270936),
        ("kcal/mol/A", "kcal/mol/nm", 10.0),
        ("Ha", "Rydberg", 2.0),
        ("1/bohr", "1/Angstrom", 1 / 0.529177210903),
    ],
)
def test_factors_are_those_of_codata(source: str, target: str, factor: float) -> None:
    assert unit_factor(source, target) == pytest.approx(factor, rel=1e-10)
    assert unit_factor(target, source) == pytest.approx(1 / factor, rel=1e-10)


def test_equal_units_change_no_digit() -> None:
    assert unit_factor("kcal/mol/Angstrom", "KCAL/MOL / angstrom") == 1.0


def test_factors_of_qm9_stay_near_codata() -> None:
    assert unit_factor("Hartree", "eV") == pytest.approx(HARTREE_TO_EV, rel=1e-9)
    assert unit_factor("kcal/mol", "eV") == pytest.approx(KCAL_PER_MOL_TO_EV, rel=1e-6)


@pytest.mark.parametrize(
    "unit",
    [
        "",
        "furlong",
        "eV/",
        "eV^",
        "eV+eV",
        "kcal",
        "eV^99",
        "eV/(a",
        "kcal mol",
        "(eV)",
    ],
)
def test_unknown_units_are_named(unit: str) -> None:
    with pytest.raises(ConfigError, match="is not understood"):
        unit_factor(unit, "eV")


def test_units_of_different_things_are_refused() -> None:
    with pytest.raises(ConfigError, match="'eV' cannot be expressed in 'eV/Angstrom'"):
        unit_factor("eV", "eV/Angstrom")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("kcal/(mol A)", "kcal/mol/Angstrom"),
        ("kcal/(mol*Angstrom)", "kcal/mol/Angstrom"),
        ("kcal mol^-1 A^-1", "kcal/mol/Angstrom"),
        ("e Angstrom", "e*Angstrom"),
        ("eV / Å³", "eV/Angstrom^3"),
        ("kJ/(mol nm)", "kJ/mol/nm"),
    ],
)
def test_other_spellings_mean_the_same(written: str, meant: str) -> None:
    assert unit_factor(written, meant) == 1.0
