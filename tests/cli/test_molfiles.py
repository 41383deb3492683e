"""Molfiles that a network of positions and elements cannot take as they stand."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from torch_cormorant.cli.structures import read_structures
from torch_cormorant.errors import CormorantWarning, DataError

chem: Any = pytest.importorskip("rdkit.Chem", reason="needs rdkit")
all_chem: Any = pytest.importorskip("rdkit.Chem.AllChem")


def block(smiles: str, *, flat: bool, hydrogens: bool = True, flag: str = "") -> str:
    """Return the molfile of a molecule, drawn or embedded."""
    molecule = chem.MolFromSmiles(smiles)
    molecule = chem.AddHs(molecule) if hydrogens else molecule
    if flat:
        all_chem.Compute2DCoords(molecule)
    else:
        assert all_chem.EmbedMolecule(molecule, randomSeed=1) == 0
    lines = chem.MolToMolBlock(molecule).split("\n")
    lines[0] = "mine"
    lines[1] = f"     test           {flag or lines[1][20:22]}"
    return "\n".join(lines)


def planar(name: str, flag: str) -> str:
    """Return benzene or water in the plane z = 0."""
    lines = block("c1ccccc1" if name == "benzene" else "O", flat=True).split("\n")
    lines[1] = f"     test           {flag}"
    return "\n".join(lines)


@pytest.fixture
def read(tmp_path: Path) -> Callable[[str], None]:
    """Return a function that reads a molfile after a right one in an sdf file."""
    good = block("CCO", flat=False) + "$$$$\n"

    def run(text: str) -> None:
        (tmp_path / "a.sdf").write_text(good + text + "$$$$\n")
        read_structures(tmp_path / "a.sdf")
        (tmp_path / "a.mol").write_text(text)
        read_structures(tmp_path / "a.mol")

    return run


@pytest.mark.parametrize("smiles", ["CCO", "c1ccccc1", "O=C=O", "[H][H]"])
def test_drawings_are_refused(read: Callable[[str], None], smiles: str) -> None:
    with pytest.raises(DataError, match=r"a\.sdf: entry 2 \(mine\): a drawing in"):
        read(block(smiles, flat=True))


def test_a_drawing_without_the_word_is_told_by_its_atoms(
    read: Callable[[str], None],
) -> None:
    with pytest.raises(DataError, match="atom with four neighbours is flat"):
        read(block("CCO", flat=True, flag="  "))


@pytest.mark.parametrize("flag", ["3D", "  "])
@pytest.mark.parametrize("name", ["benzene", "water"])
def test_flat_molecules_of_real_geometries_are_fine(
    read: Callable[[str], None], name: str, flag: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(planar(name, flag))


@pytest.mark.parametrize(
    "smiles",
    ["CC(=O)N", "C[N+](=O)[O-]", "c1cc[nH]c1", "CS(=O)(=O)C", "FC(F)F", "C#N", "[He]"],
)
def test_whole_molecules_are_read_without_a_word(
    read: Callable[[str], None], smiles: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(block(smiles, flat=False))


@pytest.mark.parametrize(("smiles", "count"), [("CCO", 6), ("c1ccccc1", 6), ("C", 4)])
def test_molecules_without_their_hydrogens_are_refused(
    read: Callable[[str], None], smiles: str, count: int
) -> None:
    text = block(smiles, flat=False, hydrogens=False)
    with pytest.raises(DataError, match=rf"entry 2 \(mine\): {count} hydrogens are"):
        read(text)


def test_some_missing_hydrogens_are_warned_of(tmp_path: Path) -> None:
    molecule = chem.AddHs(chem.MolFromSmiles("CCO"))
    all_chem.EmbedMolecule(molecule, randomSeed=1)
    some = chem.RWMol(molecule)
    some.RemoveAtom(molecule.GetNumAtoms() - 1)
    some.GetAtomWithIdx(2).SetNoImplicit(False)
    (tmp_path / "a.mol").write_text(chem.MolToMolBlock(some))
    with pytest.warns(CormorantWarning, match=r"entry 1: 1 hydrogen is missing"):
        read_structures(tmp_path / "a.mol")


@pytest.mark.parametrize(
    ("smiles", "what"),
    [
        ("C[NH3+]", r"entry [12] \(mine\) has a total charge of \+1"),
        ("CC(=O)[O-]", r"entry [12] \(mine\) has a total charge of -1"),
        ("C[CH2]", r"entry [12] \(mine\) is a radical"),
    ],
)
def test_charges_and_radicals_are_warned_of(
    read: Callable[[str], None], smiles: str, what: str
) -> None:
    with pytest.warns(CormorantWarning, match=what):
        read(block(smiles, flat=False))


def test_charges_and_radicals_of_smiles_are_warned_of_once(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("smiles\nC\nC[NH3+]\n[CH3]\n")
    with pytest.warns(CormorantWarning) as found:
        read_structures(tmp_path / "a.csv")
    (text,) = [str(entry.message) for entry in found]
    assert "line 3 (C[NH3+]) has a total charge of +1 (and 1 more such entries)" in text


def test_a_list_of_atoms_says_nothing_of_hydrogens(read: Callable[[str], None]) -> None:
    lines = block("CCO", flat=False, hydrogens=False).split("\n")
    lines[3] = lines[3][:3] + "  0" + lines[3][6:]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(
            "\n".join([line for line in lines if line[:6] not in {"  1  2", "  2  3"}])
        )


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_tables_and_molfiles_may_begin_with_a_byte_order_mark(
    tmp_path: Path, ends: str
) -> None:
    texts = {"a.csv": "smiles,name\nO,water\n", "a.mol": block("O", flat=False)}
    for name, text in texts.items():
        raw = b"\xef\xbb\xbf" + text.replace("\n", ends).encode()
        (tmp_path / name).write_bytes(raw)
        assert read_structures(tmp_path / name).frames[0].z.tolist() == [8, 1, 1]
