"""Embedded numbers in whole steps of 1e-5."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from torch_cormorant.data import MiniEthanol
from torch_cormorant.data.arrays import NpzFile
from torch_cormorant.data.fixed_point import in_steps, with_values
from torch_cormorant.errors import DataError


def test_values_are_the_nearest_decimals_and_the_rest_stays() -> None:
    values = np.array([[82.999994, -82.999994, 0.0], [-0.000004, 1.234567, -3e-5]])
    arrays = {**in_steps("pos", values), "z": np.array([1, 8])}
    found = with_values(NpzFile(Path("made.npz"), "", arrays), "pos")
    assert found["pos"].dtype == np.float64
    assert np.array_equal(found["pos"], np.round(values, 5))
    assert np.array_equal(found["z"], arrays["z"])


@pytest.mark.parametrize("value", [83.0, -83.0, np.nan, np.inf])
def test_what_does_not_fit_is_refused(value: float) -> None:
    with pytest.raises(DataError, match=r"array 'pos': values up to .*, below 83 fit"):
        in_steps("pos", np.array([0.0, value]))


def test_embedded_ethanol_is_kept_in_steps() -> None:
    data = MiniEthanol()._data
    for values in (data.pos, data.forces):
        assert np.array_equal(values.numpy(), np.round(values.numpy(), 5))
