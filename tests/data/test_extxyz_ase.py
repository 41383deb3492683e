"""What ASE writes is read as it was meant, odd names and texts among it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from torch_cormorant.data import read_extxyz
from torch_cormorant.data.extxyz_format import ParsedFrame, numbers_of
from torch_cormorant.errors import DataError

FRAMES = 3000
TEXTS = (
    *("", " ", "plain", "two words", " leading", "trailing ", "[x", "{a: 1}", "(b)"),
    *(
        'a "quote"',
        "5'-end",
        "it's",
        "back\\slash",
        "C/C=C\\C",
        "CC(=O)O",
        "a=b==",
        "=",
    ),
    *(
        "T",
        "none",
        "1.5",
        "-3",
        "1e5",
        "0x10",
        "a,b",
        "a:b",
        "#",
        "%s",
        "$HOME",
        "_JSON",
    ),
    *("é", "水", "non\u00a0breaking", "a\u2028b", "bulk water", "pbc", "Lattice"),
)
KEYS = (
    *("label", "note", "my key", "Ünicode", "a.b", "a-b", "a:b", "5", "12abc", "_x"),
    *("key,", "(k)", "[k]", "it's", 'say "so"', "REF_energy", "Energy", "Pbc_kind"),
    *("smiles", "config_type", "uid", "lattice_kind", "F", "T", "None", "水", "k\\n"),
)
VALUES = (None, True, False, 0, -7, 2.5, 1e-300, 1e22, np.float64(0.1), np.int64(3))


def drawn(rng: np.random.Generator) -> Any:
    """Return any value that people put into ``info``."""
    kind = rng.integers(0, 6)
    if kind < 3:
        return TEXTS[rng.integers(len(TEXTS))]
    if kind == 3:
        return VALUES[rng.integers(len(VALUES))]
    shape = [(3,), (2, 2), (3, 3), (1,), (2, 1)][rng.integers(5)]
    return rng.normal(size=shape) if kind == 4 else rng.integers(-9, 9, size=shape)


def structures(count: int) -> list[Any]:
    """Return frames with results and odd entries."""
    ase = pytest.importorskip("ase")
    from ase.calculators.singlepoint import SinglePointCalculator

    rng = np.random.default_rng(7)
    found = []
    for _ in range(count):
        size = int(rng.integers(1, 5))
        atoms = ase.Atoms(rng.integers(1, 90, size), rng.normal(size=(size, 3)))
        if rng.random() < 0.5:
            atoms.set_cell(rng.normal(size=(3, 3)))
            atoms.set_pbc(rng.integers(0, 2, 3).astype(bool))
        for key in rng.choice(KEYS, size=4, replace=False).tolist():
            atoms.info[key] = drawn(rng)
        atoms.arrays["tags-of.mine"] = rng.integers(0, 5, size)
        atoms.arrays["vec"] = rng.normal(size=(size, 2))
        results = {"energy": rng.normal(), "forces": rng.normal(size=(size, 3))}
        results |= {"stress": rng.normal(size=6), "dipole": rng.normal(size=3)}
        atoms.calc = SinglePointCalculator(atoms, **results)
        found.append(atoms)
    return found


def agrees(text: str, value: Any, key: str) -> bool:
    """Return whether a text is what a value was meant to be."""
    if value is None or isinstance(value, bool):
        return text == ("F" if value is False else "T")
    if isinstance(value, str):
        return text == value
    numbers = np.asarray(value, dtype=np.float64).reshape(-1)
    return np.array_equal(numbers_of(text, key), numbers)


def check(frame: ParsedFrame, atoms: Any) -> None:
    """Compare one frame with what was written."""
    results = atoms.calc.results
    assert frame.z.tolist() == atoms.numbers.tolist()
    np.testing.assert_allclose(frame.pos, atoms.positions, atol=1e-8)
    np.testing.assert_allclose(frame.arrays["forces"], results["forces"], atol=1e-8)
    np.testing.assert_allclose(frame.arrays["vec"], atoms.arrays["vec"], atol=1e-8)
    assert frame.arrays["tags-of.mine"][:, 0].tolist() == list(
        atoms.arrays["tags-of.mine"]
    )
    assert float(frame.info["energy"]) == results["energy"]
    assert frame.pbc.tolist() == atoms.pbc.tolist()
    if atoms.cell.any():
        np.testing.assert_array_equal(frame.cell, atoms.cell[:])
    else:
        assert frame.cell is None
    for key, value in atoms.info.items():
        assert agrees(frame.info[key], value, key), (key, value, frame.info[key])
    held = {"energy", "stress", "dipole"}
    assert set(frame.info) == {*atoms.info, *held}


def test_three_thousand_frames_with_odd_names_and_texts(tmp_path: Path) -> None:
    io = pytest.importorskip("ase.io")
    written = structures(FRAMES)
    path = tmp_path / "odd.extxyz"
    io.write(path, written)
    data = read_extxyz(path)
    assert len(data) == FRAMES
    for number, atoms in enumerate(written):
        check(data.file.parsed(number), atoms)


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("suffix", ["traj", "json", "db"])
def test_tensors_are_of_the_molecule_whatever_its_number_of_atoms(
    tmp_path: Path, count: int, suffix: str
) -> None:
    io = pytest.importorskip("ase.io")
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator

    rng = np.random.default_rng(count)
    stress = rng.normal(size=(3, 3))
    results = {"energy": 1.0, "forces": rng.normal(size=(count, 3)), "stress": stress}
    results |= {"dielectric_tensor": rng.normal(size=(3, 3)), "dipole": np.ones(3)}
    atoms = Atoms("H" * count, rng.normal(size=(count, 3)), cell=np.eye(3), pbc=True)
    atoms.calc = SinglePointCalculator(atoms, **results)
    path = tmp_path / f"a.{suffix}"
    io.write(path, atoms)
    data = read_extxyz(path, stress="stress", dipole="dipole")
    np.testing.assert_allclose(data[0].stress[0], stress)
    np.testing.assert_allclose(data[0].forces, results["forces"])
    frame = data.file.parsed(0)
    assert set(frame.arrays) == {"forces"}
    if suffix != "db":  # which does not keep it
        tensor = numbers_of(frame.info["dielectric_tensor"], "").reshape(3, 3)
        np.testing.assert_allclose(tensor, results["dielectric_tensor"])


def test_two_values_in_other_formats_are_refused(tmp_path: Path) -> None:
    io = pytest.importorskip("ase.io")
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator

    atoms = Atoms("H", positions=[[0.0, 0, 0]])
    atoms.info |= {"energy": 1.0, "ragged": [[1], [1, 2]], "kind": "bulk water"}
    atoms.calc = SinglePointCalculator(atoms, energy=1.0, forces=np.zeros((1, 3)))
    io.write(tmp_path / "a.traj", atoms)
    data = read_extxyz(tmp_path / "a.traj")
    assert data[0].energy.item() == 1.0
    assert data.file.info(0) == {"energy": "1.0", "kind": "bulk water"}
    atoms.info["energy"] = 2.0
    io.write(tmp_path / "a.traj", [atoms])
    with pytest.raises(DataError, match="frame 0: 'energy' is there twice"):
        read_extxyz(tmp_path / "a.traj")
