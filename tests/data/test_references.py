from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from torch_cormorant.data import ATOM_REFERENCES, atom_reference_sums
from torch_cormorant.errors import DataError


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
