"""Frames of the many formats that ASE reads."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from torch_cormorant.data.extxyz_format import ParsedFrame
from torch_cormorant.errors import BackendError, ConfigError, DataError

__all__ = ["read_with_ase", "uses_own_reader"]

_OWN = {"extxyz", "xyz"}
# Results of calculators that belong to atoms, however many of them there are.
_OF_ATOMS = {"charges", "magmoms", "energies", "stresses"}
# Some of these may unpickle, run code or ask a server.
_REFUSED = {"bundletrajectory", "gpw", "mysql", "postgresql"}


def uses_own_reader(path: Path, format: str | None) -> bool:
    """Whether a file is (extended) XYZ, by the format asked for or its name."""
    return (format or path.suffix.lower().removeprefix(".")) in _OWN


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
            f"{path}: ASE does not know this format; name it with format=..."
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
        frames = [_frame_of(image) for image in images]
    except Exception as error:  # its readers raise whatever the damage leads to
        raise DataError(
            f"{path}: ASE cannot read it as {kind!r} ({type(error).__name__}: {error})"
        ) from error
    if not frames:
        raise DataError(f"{path}: holds no frame")
    return frames


def _frame_of(atoms: Any) -> ParsedFrame:
    """An ``ase.Atoms`` object as what the own reader returns."""
    info: dict[str, str] = {}
    arrays = {}
    results = {} if atoms.calc is None else dict(atoms.calc.results)
    count = len(atoms)
    for name, value in [*atoms.info.items(), *atoms.arrays.items(), *results.items()]:
        values = np.asarray(value)
        if name in {"numbers", "positions"} or values.dtype.kind not in "fiubUS":
            continue
        if values.dtype.kind in "US":
            info[str(name)] = str(value)
        elif (
            values.shape[:1] == (count,)
            and name not in atoms.info
            and (name in atoms.arrays or values.ndim == 2 or name in _OF_ATOMS)
        ):
            arrays[str(name)] = values.reshape(count, -1).astype(np.float64)
        else:
            info[str(name)] = " ".join(repr(float(x)) for x in values.reshape(-1))
    cell = np.array(atoms.cell, dtype=np.float64)
    return ParsedFrame(
        z=np.array(atoms.numbers, dtype=np.int64),
        pos=np.array(atoms.positions, dtype=np.float64),
        info=info,
        arrays=arrays,
        cell=cell if cell.any() else None,
        pbc=np.array(atoms.pbc, dtype=bool),
    )
