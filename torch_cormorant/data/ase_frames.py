"""Frames of the many formats that ASE reads."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from torch_cormorant.data.extxyz_format import COLUMN_BY_COLUMN, ParsedFrame
from torch_cormorant.errors import BackendError, ConfigError, DataError

__all__ = ["read_with_ase"]

# Some of these may unpickle, run code or ask a server.
_REFUSED = {"bundletrajectory", "gpw", "mysql", "postgresql"}


def read_with_ase(path: Path, format: str | None) -> list[ParsedFrame]:
    """Read all frames of a file with ASE.

    Args:
        path: The file.
        format: ASE's name of the format; default: told by name and contents.

    Returns:
        The frames; results of calculators are among ``info`` and ``arrays``.

    Raises:
        DataError: The file is missing or damaged, or ASE cannot read it.
        ConfigError: The format is one that is not read because it could do harm.
        BackendError: ASE is not installed.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        import ase.io
        from ase.io.formats import filetype, ioformats
    except ImportError as error:
        raise BackendError(
            f"{path}: reading this format needs ASE: pip install torch-cormorant[ase]; "
            "files in extended XYZ are read without it"
        ) from error
    try:
        kind = format or filetype(str(path))
    except Exception:  # noqa: BLE001  it looks into the file, whatever that holds
        kind = ""
    if kind not in ioformats:
        raise DataError(
            f"{path}: ASE does not know this format; give the file the usual ending of "
            "its format"
        )
    if kind in _REFUSED:
        raise ConfigError(
            f"{path}: files of format {kind!r} are not read, they may run code; "
            "convert it: ase convert FILE FILE.extxyz"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the format, not about the data
            images = ase.io.read(path, index=":", format=kind)
        frames = [
            _frame_of(atoms, f"{path}: frame {number}")
            for number, atoms in enumerate(images)
        ]
    except DataError:
        raise
    except Exception as error:  # its readers raise whatever the damage leads to
        raise DataError(
            f"{path}: ASE cannot read it as {kind!r} ({type(error).__name__}: {error})"
        ) from error
    if not frames:
        raise DataError(f"{path}: holds no frame")
    return frames


def _frame_of(atoms: Any, where: str) -> ParsedFrame:
    """An ``ase.Atoms`` object as what the own reader returns."""
    cell = np.array(atoms.cell, dtype=np.float64)
    frame = ParsedFrame(
        z=np.array(atoms.numbers, dtype=np.int64),
        pos=np.array(atoms.positions, dtype=np.float64),
        cell=cell if cell.any() else None,
        pbc=np.array(atoms.pbc, dtype=bool),
    )
    found = [(str(name), value, False) for name, value in atoms.info.items()]
    found += [
        (name, value, True)
        for name, value in atoms.arrays.items()
        if name not in {"numbers", "positions"}
    ]
    results = {} if atoms.calc is None else atoms.calc.results
    for name, value in results.items():
        found.append((name, value, _is_of_atoms(name, value, len(atoms))))
    for name, value, of_atoms in found:
        _keep(frame, name, value, where, of_atoms=of_atoms)
    return frame


def _is_of_atoms(name: str, value: Any, count: int) -> bool:
    """Whether a result belongs to the atoms; its shape may fit by chance only."""
    from ase.outputs import all_outputs

    if name in all_outputs:
        return bool("natoms" in all_outputs[name].shapespec[:1])
    shape = np.shape(value)
    # Of others: rows for the atoms, but a tensor of three atoms is the molecule's.
    return len(shape) == 2 and shape[0] == count and shape != (3, 3)


def _keep(
    frame: ParsedFrame, name: str, value: Any, where: str, *, of_atoms: bool
) -> None:
    """Add a value, as the own reader would hold it."""
    try:
        values = np.asarray(value)
    except ValueError:  # lists of different lengths
        return
    kind = values.dtype.kind
    if of_atoms and kind in "fiub":
        table = values.reshape(len(frame.z), -1).astype(np.float64)
        known = frame.arrays.setdefault(name, table)
        if not np.array_equal(known, table, equal_nan=True):
            raise DataError(f"{where}: {name!r} of the atoms is there twice")
    elif not of_atoms and kind in "fiubUS":
        if name in COLUMN_BY_COLUMN and values.size == 9:
            values = values.reshape(3, 3).T
        text = str(value)
        if kind not in "US":
            text = " ".join(repr(float(number)) for number in values.reshape(-1))
        there = frame.info.setdefault(name, text)
        if there != text:
            raise DataError(f"{where}: {name!r} is there twice: {there!r} and {text!r}")
