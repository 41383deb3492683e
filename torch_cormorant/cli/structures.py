"""Structures without labels from the files people have."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch_geometric.data import Data

from torch_cormorant.data import MD17, ExtXYZDataset, FrameDataset, Frames
from torch_cormorant.data.arrays import npz_names
from torch_cormorant.errors import BackendError, DataError
from torch_cormorant.graph.spacing import warn_if_not_angstrom

__all__ = ["Structures", "read_npz_frames", "read_structures", "warn_of_units"]

# Names that the files of revised and original MD17 have, and frames of ours have not.
_MD17_NAMES = {"nuclear_charges", "R"}
LOOKED_AT = 20
"""Frames whose distances are looked at."""
SIZE_LIMIT = 2**30
"""Bytes of an sdf or csv file that are read."""


@dataclass(frozen=True)
class Structures:
    """Structures and what to call them.

    Args:
        frames: With ``z`` and ``pos``, and ``cell`` and ``pbc`` where there is a cell.
        names: One for each.
    """

    frames: Sequence[Data]
    names: Sequence[str]


def read_structures(path: Path, unit: str = "Angstrom") -> Structures:
    """Read structures; the suffix tells the format.

    Args:
        path: ``.extxyz``, ``.xyz``, ``.npz`` (frames), ``.sdf``, or ``.csv`` with a
            column ``smiles``.
        unit: Of the positions in an extxyz file.

    Returns:
        The structures.

    Raises:
        DataError: The file is missing, damaged or empty, an entry is not understood,
            or the format is unknown; file and entry are named.
        BackendError: RDKit is missing (sdf and csv).
    """
    readers: dict[str, Callable[[Path], Structures]] = {
        ".extxyz": lambda path: _extxyz(path, unit),
        ".xyz": lambda path: _extxyz(path, unit),
        ".npz": _npz,
        ".sdf": _sdf,
        ".csv": _smiles,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: unknown format; there are {', '.join(readers)}")
    found = reader(path)
    if not found.frames:
        raise DataError(f"{path}: holds no structure")
    warn_of_units(found.frames, path)
    return found


def warn_of_units(frames: Any, path: Path | str) -> None:
    """Warn once if the first frames of a file look as if they were in nm.

    Args:
        frames: With ``pos``.
        path: Where they come from.
    """
    for number in range(min(len(frames), LOOKED_AT)):
        if warn_if_not_angstrom(frames[number].pos, f"{path}: frame {number}"):
            return


def read_npz_frames(
    path: Path, unit: str | None = None, file_unit: str | None = None
) -> FrameDataset:
    """Frames of plain arrays, or of MD17 (kcal/mol) by the names of its arrays.

    Args:
        path: The ``.npz`` file.
        unit: Unit of the energies; default that of the file.
        file_unit: Unit in a file of plain arrays that does not tell it.

    Raises:
        DataError: The file is missing, damaged or not understood.
    """
    if _MD17_NAMES & set(npz_names(path)):
        return MD17(npz=path, unit=unit or "kcal/mol")
    return Frames(path, unit=unit, file_unit=file_unit)


def _numbered(frames: Sequence[Data]) -> Structures:
    return Structures(frames, [f"frame {k}" for k in range(len(frames))])


def _extxyz(path: Path, unit: str) -> Structures:
    data: Any = ExtXYZDataset(path, energy=None, forces=None, units={"pos": unit})
    return _numbered([data[k] for k in range(len(data))])


def _npz(path: Path) -> Structures:
    data: Any = read_npz_frames(path)
    return _numbered([data[k] for k in range(len(data))])


def _text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            raw = stream.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    if len(raw) > SIZE_LIMIT:
        raise DataError(f"{path}: larger than {SIZE_LIMIT:,} bytes; divide it")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: no text in UTF-8 ({error})") from None


def _rdkit() -> Any:
    try:
        rdkit: Any = import_module("rdkit")
        chem = import_module("rdkit.Chem")
        import_module("rdkit.Chem.AllChem")
    except ImportError:
        raise BackendError(
            'sdf and SMILES need RDKit: pip install "torch-cormorant[chem]"'
        ) from None
    # Its complaints would stand between ours.
    rdkit.rdBase.DisableLog("rdApp.*")
    return chem


def _sdf(path: Path) -> Structures:
    text, chem = _text(path), _rdkit()
    supplier = chem.SDMolSupplier()
    supplier.SetData(text, sanitize=False, removeHs=False)
    frames, names = [], []
    try:
        for entry, molecule in enumerate(supplier, 1):
            if molecule is None or molecule.GetNumAtoms() == 0:
                raise DataError(f"{path}: entry {entry} is not understood")
            frames.append(_frame(molecule, f"{path}: entry {entry}"))
            title = molecule.GetProp("_Name") if molecule.HasProp("_Name") else ""
            names.append(title or f"entry {entry}")
    except (RuntimeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not an sdf file ({error})") from None
    return Structures(frames, names)


def _smiles(path: Path) -> Structures:
    text, chem = _text(path), _rdkit()
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise DataError(f"{path}: not a csv file ({error})") from None
    columns = {str(name).strip().lower(): name for name in (rows[0] if rows else {})}
    if "smiles" not in columns:
        raise DataError(f"{path}: no column 'smiles' in its first line")
    frames, names = [], []
    for line, row in enumerate(rows, 2):
        smiles = str(row[columns["smiles"]] or "").strip()
        where = f"{path}: line {line}"
        molecule = chem.MolFromSmiles(smiles) if smiles else None
        if molecule is None or molecule.GetNumAtoms() == 0:
            raise DataError(f"{where}: {smiles[:80]!r} is no SMILES")
        frames.append(_frame(_embedded(chem.AddHs(molecule), where), where))
        names.append(smiles)
    return Structures(frames, names)


def _embedded(molecule: Any, where: str) -> Any:
    chem = _rdkit().AllChem
    # A fixed seed: the same SMILES has the same geometry every time.
    if chem.EmbedMolecule(molecule, randomSeed=1) != 0:
        raise DataError(f"{where}: RDKit finds no geometry; give one as extxyz")
    if chem.MMFFHasAllMoleculeParams(molecule):
        chem.MMFFOptimizeMolecule(molecule, maxIters=2000)
    return molecule


def _frame(molecule: Any, where: str) -> Data:
    z = torch.tensor([atom.GetAtomicNum() for atom in molecule.GetAtoms()])
    if molecule.GetNumConformers() == 0:
        raise DataError(f"{where}: has no coordinates")
    pos = torch.from_numpy(molecule.GetConformer().GetPositions().copy()).double()
    if not bool(pos.isfinite().all()) or int(z.min()) < 1:
        raise DataError(f"{where}: a coordinate or an element is not understood")
    return Data(z=z, pos=pos)
