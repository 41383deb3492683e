"""Structures from files that ASE reads, with errors that name the file."""

from __future__ import annotations

from pathlib import Path

from ase import Atoms
from ase.io import read

from torch_cormorant.errors import DataError

__all__ = ["read_atoms"]


def read_atoms(path: str | Path, index: int = -1) -> Atoms:
    r"""One structure of a file, in any format that ASE knows.

    Args:
        path: The file.
        index: Which frame. Default: the last one.

    Returns:
        The structure, with what the file says about cell and velocities.

    Raises:
        DataError: The file is missing, damaged, empty or not understood, or the frame
            has no atoms.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "oh.xyz"
        >>> _ = path.write_text("2\n\nO 0 0 0\nH 0 0 0.97\n")
        >>> read_atoms(path).get_chemical_formula()
        'HO'
    """
    path = Path(path)
    if not path.is_file():
        msg = f"{path}: no such file"
        raise DataError(msg)
    try:
        atoms = read(path, index=index)
    except Exception as error:  # every format has its own
        msg = f"{path}: not read as a structure ({error or type(error).__name__})"
        raise DataError(msg) from error
    if not isinstance(atoms, Atoms) or len(atoms) == 0:
        msg = f"{path}: frame {index} holds no atoms"
        raise DataError(msg)
    return atoms
