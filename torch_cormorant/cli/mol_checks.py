"""What a molfile says that a network of positions and elements cannot see."""

from __future__ import annotations

import warnings
from typing import Any

from torch_cormorant.errors import CormorantWarning, DataError

__all__ = ["check_drawing", "check_hydrogens", "oddities"]

# Elements whose four neighbours never lie in one plane.
_TETRAHEDRAL = {6, 7, 14, 15}
_NEIGHBOURS = 4
# Where the second line of a molfile says 2D or 3D.
_FLAG = slice(20, 22)


def check_drawing(molecule: Any, text: str, where: str) -> None:
    """Refuse a drawing in two dimensions.

    The second line of a molfile says ``2D`` or ``3D``. Where it says neither, a flat
    molecule is one that may be flat, such as benzene, unless an atom has four
    neighbours.

    Args:
        molecule: Of RDKit.
        text: Its molfile.
        where: What the message begins with.

    Raises:
        DataError: It is one.
    """
    if (
        molecule.GetNumAtoms() == 1
        or molecule.GetConformer().GetPositions()[:, 2].any()
    ):
        return
    flag = [*text.split("\n", 2), "", ""][1][_FLAG].upper()
    impossible = any(
        atom.GetDegree() == _NEIGHBOURS and atom.GetAtomicNum() in _TETRAHEDRAL
        for atom in molecule.GetAtoms()
    )
    if flag == "2D" or (flag != "3D" and impossible):
        says = "it says 2D" if flag == "2D" else "an atom with four neighbours is flat"
        raise DataError(
            f"{where}: a drawing in two dimensions ({says}, and all z are 0); make a "
            "geometry, for example with RDKit (EmbedMolecule), or give its SMILES"
        )


def check_hydrogens(molecule: Any, where: str) -> None:
    """Refuse a molecule whose hydrogens are left out; warn if only some are.

    Args:
        molecule: Of RDKit, as it stands in the file.
        where: What the message begins with.

    Raises:
        DataError: It holds none, and its bonds ask for some.
    """
    if molecule.GetNumBonds() == 0 and molecule.GetNumAtoms() > 1:
        return  # a list of atoms, which says nothing about bonds
    molecule.UpdatePropertyCache(strict=False)
    missing = sum(atom.GetTotalNumHs() for atom in molecule.GetAtoms())
    if not missing:
        return
    count = f"{missing} hydrogen{'s are' if missing > 1 else ' is'} missing"
    if all(atom.GetAtomicNum() != 1 for atom in molecule.GetAtoms()):
        raise DataError(
            f"{where}: {count} by its bonds, and there is none; add them with their "
            "positions, for example with RDKit (AddHs with addCoords=True)"
        )
    text = f"{where}: {count} by its bonds; if so, the prediction means nothing"
    warnings.warn(text, CormorantWarning, stacklevel=4)


def oddities(molecule: Any) -> list[str]:
    """A total charge and unpaired electrons, in words.

    Args:
        molecule: Of RDKit.

    Returns:
        What there is of them.
    """
    charge = sum(atom.GetFormalCharge() for atom in molecule.GetAtoms())
    radicals = sum(atom.GetNumRadicalElectrons() for atom in molecule.GetAtoms())
    found = [f"has a total charge of {charge:+d}"] if charge else []
    return [*found, "is a radical"] if radicals else found
