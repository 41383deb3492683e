"""Networks of the family beside public ones: a peer that is missing is named."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import pytest

from benchmarks import family


def test_a_missing_peer_is_named() -> None:
    atoms = family.molecules(1, 4)
    case = family.CASES["allegro"]
    found = family.compare(case, atoms, 1, None)
    assert found == "not run: give --peer-python"
    if find_spec("nequip") is not None:
        pytest.skip("the package is here")
    found = family.compare(case, atoms, 1, sys.executable)
    assert found == "not run: No module named 'nequip'"


def test_forces_beside_plain_formulas_are_equal() -> None:
    case = family.Case("painn", {**family.PAINN, "channels": 8}, "plain", ("exact",))
    found = family.compare(case, family.molecules(2, 4), 1, None)
    assert isinstance(found, dict)
    assert found["edges"] > 0
    assert found["exact_difference"] < 1e-4
