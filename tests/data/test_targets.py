from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from torch_cormorant.data import (
    ATOM_REFERENCES,
    MINI_TARGETS,
    QM9_TARGETS,
    atom_reference_sums,
    find_target,
)
from torch_cormorant.data.targets import chosen_targets
from torch_cormorant.errors import DataError


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("mu", "mu"),
        ("HOMO", "homo"),
        ("r2", "r2"),
        ("R2", "r2"),
        ("ZPVE", "zpve"),
        ("u0", "U0"),
        ("U", "U"),
        ("u298", "U"),
        ("H298", "H"),
        ("g", "G"),
        ("cv", "Cv"),
        ("u0_atom", "U0_atom"),
        ("u298_atom", "U_atom"),
        ("A", "A"),
        ("c", "C"),
        ("U_0", "U0"),
        ("E_gap", "gap"),
    ],
)
def test_names_of_pyg_and_of_the_paper_are_found(given: str, expected: str) -> None:
    assert find_target(given, QM9_TARGETS).name == expected


def test_no_two_properties_share_a_name() -> None:
    for table in (QM9_TARGETS, MINI_TARGETS):
        owners: dict[str, set[str]] = {}
        for target in table.values():
            for name in (target.name, *target.aliases):
                owners.setdefault(name.lower(), set()).add(target.name)
        assert all(len(owner) == 1 for owner in owners.values())


def test_order_is_that_of_pyg() -> None:
    expected = "mu alpha homo lumo gap r2 zpve U0 U H G Cv U0_atom U_atom H_atom G_atom"
    assert " ".join(QM9_TARGETS) == expected + " A B C"


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(DataError, match=r"'hommo'; did you mean 'homo'\?"):
        find_target("hommo", QM9_TARGETS)
    with pytest.raises(DataError, match=r"no property 'xyzzy' \(there are mu, alpha"):
        find_target("xyzzy", QM9_TARGETS)


def test_published_errors_are_those_of_table_1() -> None:
    published = {
        "alpha": (0.085, "bohr^3"),
        "gap": (61, "meV"),
        "homo": (34, "meV"),
        "lumo": (38, "meV"),
        "mu": (0.038, "Debye"),
        "Cv": (0.026, "cal/(mol K)"),
        "G": (20, "meV"),
        "H": (21, "meV"),
        "r2": (0.961, "bohr^2"),
        "U": (21, "meV"),
        "U0": (22, "meV"),
        "zpve": (2.027, "meV"),
    }
    for name, (error, unit) in published.items():
        target = QM9_TARGETS[name]
        assert (target.paper_mae, target.shown_unit) == (error, unit)
    assert all(target.paper_mae is None for target in MINI_TARGETS.values())


def test_errors_are_shown_in_the_unit_of_display() -> None:
    assert QM9_TARGETS["gap"].shown(0.061) == "61 meV"
    assert QM9_TARGETS["mu"].shown(0.5) == "0.5 Debye"


@pytest.mark.parametrize("given", [7, ["mu", 7]])
def test_a_number_of_a_column_is_answered_with_its_name(given: object) -> None:
    with pytest.raises(DataError, match=r"7 is not a name; column 7 .* is 'U0'"):
        chosen_targets(given, QM9_TARGETS)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"99 is not a name$"):
        chosen_targets(99, QM9_TARGETS)  # type: ignore[arg-type]


def test_sums_are_exact_in_float64() -> None:
    z, offset = np.array([6, 1, 1, 1, 1, 8, 1, 1]), np.array([0, 5, 8])
    expected = [-37.846772 - 4 * 0.500273, -75.064579 - 2 * 0.500273]
    sums = atom_reference_sums(z, offset, "u0")
    assert sums.dtype == np.float64
    np.testing.assert_allclose(sums, expected, rtol=1e-15)


def test_heat_capacity_reference_counts_the_atoms() -> None:
    z, offset = np.array([6, 1, 9]), np.array([0, 3])
    np.testing.assert_allclose(atom_reference_sums(z, offset, "cv"), [3 * 2.981])


def test_table_is_that_of_the_development_data(shared: Path) -> None:
    stored = json.loads((shared / "data/qm9/atomref.json").read_text())
    stored["cv"] = stored.pop("cv_cal_per_mol_K")
    for name, table in ATOM_REFERENCES.items():
        assert {str(z): value for z, value in table.items()} == stored[name]


def test_missing_element_or_key_is_named() -> None:
    with pytest.raises(DataError, match="atomic number 16"):
        atom_reference_sums(np.array([16, 1, 1]), np.array([0, 3]), "u0")
    with pytest.raises(DataError, match="no atom references named 'mu'"):
        atom_reference_sums(np.array([1]), np.array([0, 1]), "mu")
