from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from torch_cormorant.data import HARTREE_TO_EV, QM9_TARGETS, read_qm9
from torch_cormorant.errors import DataError

COLUMNS = [target.column for target in QM9_TARGETS.values()]
UNITS = [target.file_unit for target in QM9_TARGETS.values()]


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    """Two invented molecules in the format of the file."""
    rng = np.random.default_rng(0)
    return {
        "index": np.array([3, 17], dtype=np.int32),
        "offset": np.array([0, 3, 5]),
        "z": np.array([8, 1, 1, 9, 1], dtype=np.uint8),
        "pos": rng.normal(size=(5, 3)),
        "y": rng.normal(size=(2, len(COLUMNS))) - 400.0,
        "y_names": np.array(COLUMNS),
        "y_units": np.array(UNITS),
        "smiles": np.array(["O", "F"]),
    }


def write(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    np.savez(path, **arrays)
    return path


def test_references_are_subtracted_before_anything_is_rounded(
    tmp_path: Path, arrays: dict[str, np.ndarray]
) -> None:
    arrays["y"][:, COLUMNS.index("u0")] = [-76.404702, -100.425]
    dataset = read_qm9(npz=write(tmp_path / "q.npz", arrays), target="U0")
    expected = [
        (-76.404702 + 75.064579 + 2 * 0.500273) * HARTREE_TO_EV,
        (-100.425 + 99.71873 + 0.500273) * HARTREE_TO_EV,
    ]
    assert dataset.values.dtype == torch.float64
    np.testing.assert_allclose(dataset.values[:, 0], expected, rtol=0, atol=1e-12)
    total = read_qm9(npz=tmp_path / "q.npz", target="U0", subtract_references=False)
    assert total.values[0, 0] == -76.404702 * HARTREE_TO_EV


def test_all_targets_come_in_the_order_of_pyg(
    tmp_path: Path, arrays: dict[str, np.ndarray]
) -> None:
    path = write(tmp_path / "q.npz", arrays)
    dataset = read_qm9(npz=path)
    assert [target.name for target in dataset.targets] == list(QM9_TARGETS)
    for column, name in enumerate(QM9_TARGETS):
        alone = read_qm9(npz=path, target=name).values[:, 0]
        assert torch.equal(alone, dataset.values[:, column])
    assert dataset[1].idx.item() == 17
    assert dataset[1].y.shape == (1, 19)
    assert dataset.is_qm9


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("y_units", np.array(["eV"] * 19), "'y_units': 'homo' must be in Hartree"),
        ("y_names", np.array(["x"] * 19), "'y_names': 'homo' is missing"),
        ("y_names", np.array(["x"]), "'y': shape .* does not fit 2 molecules, 1 names"),
        ("y", np.zeros((3, 19)), r"'y': shape \(3, 19\) does not fit 2 molecules"),
        ("y", np.full((2, 19), np.nan), "'y': molecule 0 is not finite"),
        ("index", np.arange(3), "'index': 3 numbers for 2 molecules"),
        ("smiles", np.array(["C"]), r"'smiles': expected shape \(2,\)"),
        (
            "offset",
            np.array([0, 5, 5]),
            "'offset': molecule 1 has 0 atoms, expected to rise",
        ),
    ],
)
def test_wrong_arrays_are_named_with_the_file(
    tmp_path: Path,
    arrays: dict[str, np.ndarray],
    name: str,
    value: np.ndarray,
    message: str,
) -> None:
    arrays[name] = value
    with pytest.raises(DataError, match=rf"q\.npz: (array )?{message}"):
        read_qm9(npz=write(tmp_path / "q.npz", arrays), target="homo")


def test_element_without_reference_is_named(
    tmp_path: Path, arrays: dict[str, np.ndarray]
) -> None:
    arrays["z"][3] = 17
    path = write(tmp_path / "q.npz", arrays)
    assert read_qm9(npz=path, target="mu").species == (1, 8, 17)
    with pytest.raises(DataError, match="atomic number 17"):
        read_qm9(npz=path, target="H")


def test_water_of_the_real_file_has_its_published_values(shared: Path) -> None:
    dataset = read_qm9(npz=shared / "data/qm9/qm9_labelled.npz")
    water = dataset[0]
    assert (water.idx.item(), water.smiles) == (3, "O")
    found = dict(zip(QM9_TARGETS, water.y[0].tolist(), strict=True))
    assert found["A"] == 799.58812
    assert found["mu"] == 1.8511
    assert found["alpha"] == 6.31
    assert found["r2"] == 19.0002
    assert found["homo"] == -0.2928 * HARTREE_TO_EV
    assert found["Cv"] == pytest.approx(6.002 - 3 * 2.981, abs=1e-12)


def test_references_agree_with_the_published_atomisation_energies(
    shared: Path,
) -> None:
    dataset = read_qm9(npz=shared / "data/qm9/qm9_labelled.npz")
    names = list(QM9_TARGETS)
    for total in ("U0", "U", "H", "G"):
        ours = dataset.values[:, names.index(total)]
        published = dataset.values[:, names.index(f"{total}_atom")]
        # The factors of PyG for Hartree and for kcal/mol differ by 3e-7.
        torch.testing.assert_close(ours, published, rtol=1e-6, atol=0)
