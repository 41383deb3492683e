"""Molecules from sdf files and SMILES, read by RDKit."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch_geometric.data import Data

from torch_cormorant.cli.mol_checks import check_drawing, check_hydrogens, oddities
from torch_cormorant.data.smiles import frame_of, molecule_of, rdkit
from torch_cormorant.data.smiles import read_smiles as smiles_frame
from torch_cormorant.data.text import read_text
from torch_cormorant.errors import BackendError, CormorantWarning, DataError

__all__ = ["is_smiles", "molecules_of", "read_sdf", "read_smi", "read_smiles"]

Molecules = tuple[list[Data], list[str]]


def read_sdf(path: Path) -> Molecules:
    """Molecules of an sdf file, or the one of a molfile, with their names.

    Args:
        path: The file.

    Returns:
        The structures, and what to call them.

    Raises:
        DataError: The file is missing or damaged, an entry is not understood, is a
            drawing in two dimensions or has no hydrogens; it is named.
        BackendError: RDKit is missing.
    """
    text, chem = read_text(path), rdkit()
    supplier = chem.SDMolSupplier()
    supplier.SetData(text, sanitize=False, removeHs=False)
    frames, names, odd = [], [], []
    try:
        for entry, molecule in enumerate(supplier):
            title = "" if molecule is None else _title(molecule)
            where = f"{path}: entry {entry + 1}{f' ({title})' if title else ''}"
            if molecule is None or molecule.GetNumAtoms() == 0:
                raise DataError(f"{where} is not understood")
            frames.append(frame_of(molecule, where))
            check_drawing(molecule, supplier.GetItemText(entry), where)
            check_hydrogens(molecule, where)
            odd += [f"{where} {what}" for what in oddities(molecule)]
            names.append(title or f"entry {entry + 1}")
    except (RuntimeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not an sdf file ({error})") from None
    _warn(odd)
    return frames, names


def read_smiles(path: Path) -> tuple[list[Data], list[str], dict[str, list[str]]]:
    """Molecules of a table with a column ``smiles``, with geometries of RDKit.

    Args:
        path: The ``.csv`` file.

    Returns:
        The structures, their SMILES, and the other columns by name.

    Raises:
        DataError: The file is missing or damaged, has no such column or two, or a line
            is not understood; it is named.
        BackendError: RDKit is missing.
    """
    text = read_text(path)
    try:
        table = csv.DictReader(io.StringIO(text, newline=""))
        rows = list(table)
    except csv.Error as error:
        raise DataError(f"{path}: not a csv file ({error})") from None
    columns = [str(name) for name in table.fieldnames or ()]
    wanted = [name for name in columns if name.strip().lower() == "smiles"]
    if len(wanted) != 1:
        found = "two columns" if wanted else "no column"
        raise DataError(
            f"{path}: {found} 'smiles' in its first line, there is "
            f"{', '.join(map(repr, columns)) or 'nothing'}"
        )
    entries = [
        (f"{path}: line {line}", str(row[wanted[0]] or "").strip())
        for line, row in enumerate(rows, 2)
    ]
    frames = molecules_of(entries)
    others = [name for name in columns if name != wanted[0]]
    kept = {name: [str(row[name] or "") for row in rows] for name in others}
    return frames, [smiles for _, smiles in entries], kept


def read_smi(path: Path) -> Molecules:
    """Molecules of a file with a SMILES in every line, and perhaps a name behind it.

    Args:
        path: The ``.smi`` file. Empty lines and those that begin with ``#`` are left
            out.

    Returns:
        The structures, and their names, or their SMILES.

    Raises:
        DataError: As :func:`read_smiles`.
        BackendError: RDKit is missing.
    """
    entries, names = [], []
    for line, text in enumerate(read_text(path).splitlines(), 1):
        smiles, *name = text.split(maxsplit=1)[:2] or ("",)
        if smiles and not smiles.startswith("#"):
            entries.append((f"{path}: line {line}", smiles))
            names.append(name[0].strip() if name else smiles)
    return molecules_of(entries), names


def is_smiles(text: str) -> bool:
    """Whether a text is a SMILES, as far as RDKit is there to tell.

    Args:
        text: What stands on the command line.
    """
    try:
        molecule = rdkit().MolFromSmiles(text)
    except BackendError:
        return False
    return molecule is not None and molecule.GetNumAtoms() > 0


def molecules_of(entries: Sequence[tuple[str, str]]) -> list[Data]:
    """Structures of SMILES, with geometries of RDKit.

    Args:
        entries: What to call each in messages, and its SMILES.

    Raises:
        DataError: One is not understood; it is named.
        BackendError: RDKit is missing.
    """
    frames, odd = [], []
    for where, smiles in entries:
        molecule = molecule_of(smiles, where)
        odd += [f"{where} ({smiles[:80]}) {what}" for what in oddities(molecule)]
        frames.append(smiles_frame(smiles, where))
    _warn(odd)
    return frames


def _warn(odd: list[str]) -> None:
    if odd:
        more = f" (and {len(odd) - 1} more such entries)" if len(odd) > 1 else ""
        text = (
            f"{odd[0]}{more}; a network sees elements and positions only, and predicts "
            "for molecules as those of its training"
        )
        warnings.warn(text, CormorantWarning, stacklevel=4)


def _title(molecule: Any) -> str:
    return str(molecule.GetProp("_Name")) if molecule.HasProp("_Name") else ""
