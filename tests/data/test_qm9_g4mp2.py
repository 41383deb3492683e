"""G4MP2 energies, of another level of theory than QM9's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from torch_cormorant.data import HARTREE_TO_EV, read_qm9_g4mp2, reference_energies
from torch_cormorant.errors import ConfigError, DataError

Arrays = dict[str, np.ndarray]


def write(path: Path, **changes: object) -> Path:
    arrays: dict[str, object] = {
        "index": np.array([3, 5, 9]),
        "offset": np.array([0, 3, 5, 6]),
        "z": np.array([8, 1, 1, 6, 7, 6], dtype=np.uint8),
        "pos": np.arange(18, dtype=np.float32).reshape(6, 3),
        "g4mp2_atom": np.array([-0.35, np.nan, -0.5]),
    }
    np.savez(path, **{**arrays, **changes})
    return path


def test_molecules_without_a_value_are_left_out_and_files_are_joined(
    tmp_path: Path,
) -> None:
    one = write(tmp_path / "a.npz")
    two = write(
        tmp_path / "b.npz", index=[1, 2, 4], g4mp2_atom=np.array([np.nan, -1.0, np.nan])
    )
    dataset = read_qm9_g4mp2([one, two])
    assert [data.idx.item() for data in dataset] == [3, 9, 2]
    assert [data.z.tolist() for data in dataset] == [[8, 1, 1], [6], [6, 7]]
    np.testing.assert_array_equal(dataset[1].pos, [[15, 16, 17]])
    expected = np.array([-0.35, -0.5, -1.0]) * HARTREE_TO_EV
    np.testing.assert_array_equal(dataset.values[:, 0], expected)
    assert dataset.level_of_theory.startswith("G4MP2")
    assert not dataset.is_qm9
    assert dataset.digest not in {
        read_qm9_g4mp2(one).digest,
        read_qm9_g4mp2(two).digest,
    }
    with pytest.raises(DataError, match="'index': a molecule comes twice"):
        read_qm9_g4mp2([one, one])
    with pytest.raises(ConfigError, match="paths: none given"):
        read_qm9_g4mp2([])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"g4mp2_atom": np.array([-1.0, 0.5, -1])},
            "molecule 1 has 0.5, expected a neg",
        ),
        ({"g4mp2_atom": np.array([-1.0, -np.inf, -1])}, "molecule 1 has -inf"),
        ({"g4mp2_atom": np.full(3, np.nan)}, "no molecule has a value"),
        ({"g4mp2_atom": np.zeros(2)}, "expected 3 real numbers"),
        ({"pos": np.zeros((5, 3))}, r"'pos': shape \(5, 3\), expected \(6, 3\)"),
        ({"index": np.array([1])}, "'index': expected 3 numbers"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, changes: Arrays, message: str) -> None:
    with pytest.raises(DataError, match=rf"a\.npz: .*{message}"):
        read_qm9_g4mp2(write(tmp_path / "a.npz", **changes))


def test_more_than_a_hundred_thousand_molecules(shared: Path) -> None:
    folder = shared / "data/qm9"
    dataset = read_qm9_g4mp2(
        [folder / "qm9_labelled.npz", folder / "qm9_geometry_rest.npz"]
    )
    assert len(dataset) == 112_038
    found = reference_energies(dataset, constant=True)
    assert 0.75 < found.mae < 0.85
    assert found.per_element[6] == pytest.approx(-6.39, abs=0.05)
