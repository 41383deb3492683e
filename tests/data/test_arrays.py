from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from torch_cormorant.data import Molecules, Target
from torch_cormorant.data.arrays import NpzFile, read_arrays
from torch_cormorant.data.frame_arrays import molecules_of
from torch_cormorant.errors import DataError

Arrays = dict[str, np.ndarray]


@pytest.fixture
def arrays() -> Arrays:
    rng = np.random.default_rng(0)
    return {
        "z": np.array([8, 1, 1, 9], dtype=np.uint8),
        "pos": rng.normal(size=(4, 3)),
        "offset": np.array([0, 3, 4]),
        "value": np.array([1.0, 2.0]),
    }


def write(path: Path, arrays: Arrays) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def molecules(file: NpzFile, name: str = "value") -> Molecules:
    target = Target(name, name, "eV", "eV")
    values = file.reals(name)[:, None]
    return Molecules(molecules_of(file), [target], values, name="x", source="a.npz")


def test_arrays_and_digest_are_read(tmp_path: Path, arrays: Arrays) -> None:
    file = read_arrays(write(tmp_path / "a.npz", arrays), tuple(arrays))
    for name, array in arrays.items():
        np.testing.assert_array_equal(file[name], array)
    assert len(molecules(file)) == 2
    assert len(file.digest) == 64


def test_missing_file_and_missing_array_are_named(
    tmp_path: Path, arrays: Arrays
) -> None:
    path = tmp_path / "a.npz"
    with pytest.raises(DataError, match=r"a\.npz: no such file"):
        read_arrays(path, ["z"])
    with pytest.raises(DataError, match="cannot be read"):
        read_arrays(tmp_path, ["z"])
    write(path, arrays)
    with pytest.raises(DataError, match=r"a\.npz: array 'y' is missing; the file has"):
        read_arrays(path, ["z", "y"])


def test_every_truncation_and_bit_flip_is_refused_or_harmless(
    tmp_path: Path, arrays: Arrays
) -> None:
    path = write(tmp_path / "a.npz", arrays)
    raw = path.read_bytes()
    rng = np.random.default_rng(1)
    for case in range(300):
        broken = bytearray(raw)
        if case % 3 == 0:
            broken = broken[: rng.integers(len(raw))]
        else:
            broken[rng.integers(len(raw))] ^= 1 << rng.integers(8)
        path.write_bytes(broken)
        try:
            file = read_arrays(path, tuple(arrays))
        except DataError:
            continue
        # Some bits, such as a time stamp, mean nothing to us.
        for name, array in arrays.items():
            np.testing.assert_array_equal(file[name], array)


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npz", {"z": np.array([{}], dtype=object)})
    with pytest.raises(DataError, match="array 'z' cannot be read"):
        read_arrays(path, ["z"])


def _set(name: str, value: object) -> Callable[[Arrays], None]:
    def change(arrays: Arrays) -> None:
        arrays[name] = np.asarray(value)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("z", [8.0, 1, 1, 9]), "'z': expected one axis of integers"),
        (_set("z", [8, 1, 0, 9]), "molecule 0: 'z': atom 2 has atomic number 0"),
        (
            _set("z", [8, 1, 1]),
            r"'offset': runs from 0 to 4, expected to rise from 0 to 3",
        ),
        (_set("pos", np.full((4, 3), np.nan)), "molecule 0: 'pos': atom 0 has .*nan"),
        (_set("pos", np.zeros((4, 2))), r"'pos': shape \(4, 2\), expected \(4, 3\)"),
        (_set("pos", np.zeros((4, 3))), "molecule 0: 'pos': atoms . and . lie at the"),
        (_set("pos", [["a"] * 3] * 4), "'pos': expected real numbers, found <U1"),
        (_set("offset", [0, 3, 5]), "'offset': .* expected to rise from 0 to 4"),
        (_set("offset", [0, 0, 4]), "'offset': molecule 0 has 0 atoms, expected to"),
        (_set("offset", [4]), "'offset': .* expected to rise"),
        (_set("offset", [[0, 4]]), "'offset': expected one axis"),
    ],
)
def test_wrong_arrays_are_named(
    tmp_path: Path, arrays: Arrays, change: Callable[[Arrays], None], message: str
) -> None:
    change(arrays)
    file = read_arrays(write(tmp_path / "a.npz", arrays), tuple(arrays))
    with pytest.raises(DataError, match=message):
        molecules(file)


def test_values_must_be_finite_and_one_per_molecule(
    tmp_path: Path, arrays: Arrays
) -> None:
    arrays["short"], arrays["bad"] = np.ones(1), np.array([1.0, np.inf])
    file = read_arrays(write(tmp_path / "a.npz", arrays), tuple(arrays))
    assert molecules(file).values.tolist() == [[1.0], [2.0]]
    with pytest.raises(DataError, match=r"a\.npz: 'values': shape .*, expected \(2, 1"):
        molecules(file, "short")
    with pytest.raises(DataError, match="'values': molecule 1 has a value that is not"):
        molecules(file, "bad")
