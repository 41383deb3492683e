"""Structures without labels from the files people have."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch_geometric.data import Data

from torch_cormorant.cli.molfiles import (
    is_smiles,
    molecules_of,
    read_sdf,
    read_smi,
    read_smiles,
)
from torch_cormorant.data import Frames, read_extxyz, read_md17, read_npz
from torch_cormorant.data.arrays import array_names
from torch_cormorant.data.describe import Words
from torch_cormorant.data.frame_arrays import warn_of_units
from torch_cormorant.errors import ConfigError, DataError

__all__ = [
    "WORDS",
    "Structures",
    "is_own_file",
    "read_npz_frames",
    "read_structures",
]

# Names that the files of revised and original MD17 have, and frames of ours have not.
_MD17_NAMES = {"nuclear_charges", "R"}
_NOT_OWN = (".npz", ".sdf", ".mol", ".csv", ".smi")


@dataclass(frozen=True)
class Structures:
    """Structures and what to call them.

    Args:
        frames: With ``z`` and ``pos``, and ``cell`` and ``pbc`` where there is a cell.
        names: One for each.
        columns: Further columns of a table, by name.
    """

    frames: Sequence[Data]
    names: Sequence[str]
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)


WORDS = Words(
    unit="--unit energy",
    unit_advice="--unit energy=eV",
    part="--data-part",
    missing="name the right one with --{field} NAME",
)
"""What arguments are called on the command line."""


def is_own_file(path: Path) -> bool:
    """Whether a file is extended XYZ or of another format that ASE reads.

    Such files have names and units of their own.
    """
    return path.is_file() and path.suffix.lower() not in _NOT_OWN


def read_structures(
    path: Path, unit: str = "Angstrom", part: str | None = None
) -> Structures:
    """Read structures; the suffix tells the format.

    Args:
        path: ``.extxyz``, ``.xyz``, ``.npz`` (frames), ``.sdf``, ``.mol``, ``.csv``
            with a column ``smiles``, ``.smi``, any other file that ASE reads; or,
            where there is no such file, a SMILES.
        unit: Of the positions in an extxyz file, or one that ASE reads.
        part: Part of a divided ``.npz`` file.

    Returns:
        The structures.

    Raises:
        DataError: The file is missing, damaged or empty, an entry is not understood,
            or the format is unknown; file and entry are named.
        BackendError: RDKit (sdf and csv) or ASE is missing.
    """
    readers: dict[str, Callable[[Path], Structures]] = {
        ".npz": lambda path: _numbered(read_npz_frames(path, part=part)),
        ".sdf": lambda path: Structures(*read_sdf(path)),
        ".mol": lambda path: Structures(*read_sdf(path)),
        ".csv": lambda path: Structures(*read_smiles(path)),
        ".smi": lambda path: Structures(*read_smi(path)),
    }
    text = str(path)
    if not path.exists() and is_smiles(text):
        return Structures(molecules_of([("input", text)]), [text])
    reader = readers.get(path.suffix.lower())
    if reader is None:
        own = read_extxyz(path, energy=None, forces=None, units={"pos": unit})
        found = _numbered(own)
    else:
        found = reader(path)
    if not found.frames:
        raise DataError(f"{path}: holds no structure")
    warn_of_units(found.frames, path)
    return found


def read_npz_frames(
    path: Path,
    unit: str | None = None,
    file_unit: str | None = None,
    part: str | None = None,
) -> Frames:
    """Frames of plain arrays, or of MD17 (kcal/mol) by the names of its arrays.

    Args:
        path: The ``.npz`` file.
        unit: Unit of the energies; default that of the file.
        file_unit: Unit in a file of plain arrays that does not tell it.
        part: Part of a divided file.

    Raises:
        DataError: The file is missing, damaged or not understood.
    """
    if _MD17_NAMES & set(array_names(path)):
        if part is not None:
            raise ConfigError(f"--data-part: {path} is not divided into parts")
        return read_md17(npz=path, unit=unit or "kcal/mol")
    return read_npz(path, part, unit=unit, file_unit=file_unit, words=WORDS)


def _numbered(data: Frames) -> Structures:
    frames = [data[k] for k in range(len(data))]
    return Structures(frames, [f"frame {k}" for k in range(len(frames))])
