"""Writing structures and predictions as extended XYZ."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data

from torch_cormorant.data.describe import symbol
from torch_cormorant.data.extxyz_format import STRUCTURE_NAMES
from torch_cormorant.data.files import write_atomically
from torch_cormorant.data.frame_arrays import LARGEST_ELEMENT
from torch_cormorant.data.units import unit_factor
from torch_cormorant.errors import ConfigError, DataError, ShapeError

__all__ = ["write_extxyz"]

_ENERGY_POWERS = {"energy": "", "forces": "/Angstrom", "stress": "/Angstrom^3"}
Info = Mapping[str, float | str | bool]
AtomValues = Mapping[str, Tensor]


def write_extxyz(
    path: str | os.PathLike[str],
    frames: Iterable[Data],
    *,
    unit: str = "eV",
    dipole_unit: str = "Debye",
    info: Sequence[Info] | None = None,
    arrays: Sequence[AtomValues] | None = None,
) -> None:
    """Write structures with what they hold, in ASE's units, whole or not at all.

    Numbers are printed so that reading them gives every bit back; energies are bitwise
    the same when they are in eV already.

    Args:
        path: The file.
        frames: Structures as :class:`~torch_cormorant.data.Frames` describes
            them: ``z``, ``pos`` and what there is of ``energy``, ``forces``,
            ``stress``, ``dipole``, ``cell`` and ``pbc`` (default with a cell: all
            three directions).
        unit: Unit of their energies; forces and stress are per Angstrom.
        dipole_unit: Unit of their dipoles.
        info: Further values for each frame, under names without spaces that the frame
            itself does not use.
        arrays: Further values for each atom of each frame, ``[N]`` or ``[N, ...]``,
            under names without spaces; integers stay integers.

    Raises:
        ShapeError: A tensor does not fit ``pos``; frame and field are named.
        DataError: An atomic number is none, a number is not finite, or the file cannot
            be written.
        ConfigError: A unit or a name is not understood, or there are more or fewer
            entries in ``info`` or ``arrays`` than frames.

    Example:
        >>> import pathlib, tempfile
        >>> from torch_cormorant.data import read_extxyz, MiniEthanol
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "three.extxyz"
        >>> write_extxyz(path, MiniEthanol()[:3], info=[{"step": k} for k in range(3)])
        >>> len(read_extxyz(path))
        3
    """
    factors = {
        field: unit_factor(f"{unit}{suffix}", f"eV{suffix}")
        for field, suffix in _ENERGY_POWERS.items()
    }
    factors["dipole"] = unit_factor(dipole_unit, "e*Angstrom")

    def write(stream: BinaryIO) -> None:
        count = 0
        for number, frame in enumerate(frames):
            extra = info[number] if info is not None and number < len(info) else {}
            own = arrays[number] if arrays is not None and number < len(arrays) else {}
            stream.write(_frame_text(frame, number, factors, extra, own).encode())
            count += 1
        for name, entries in (("info", info), ("arrays", arrays)):
            if entries is not None and len(entries) != count:
                raise ConfigError(f"{name}: {len(entries)} entries for {count} frames")

    try:
        write_atomically(Path(path), write)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from error


def _frame_text(
    frame: Data,
    number: int,
    factors: Mapping[str, float],
    extra: Info,
    own: AtomValues,
) -> str:
    z = _values(frame, "z", number).astype(np.int64)
    pos = _values(frame, "pos", number)
    count = len(z)
    if pos.shape != (count, 3):
        raise ShapeError(
            f"frame {number}: 'pos': shape {pos.shape}, expected ({count}, 3)"
        )
    bad = np.flatnonzero((z < 1) | (z > LARGEST_ELEMENT))
    if len(bad):
        raise DataError(
            f"frame {number}: 'z': atom {bad[0]} has atomic number {z[bad[0]]}"
        )
    header = _cell_words(frame, number)
    columns, tables = _columns(frame, number, pos, factors["forces"], own)
    header.append(f"Properties={columns}")
    for field, shape in (("energy", (1,)), ("stress", (9,)), ("dipole", (3,))):
        if field in frame:
            values = _shaped(frame, field, number, shape) * factors[field]
            if field == "stress":  # column by column, as ASE writes and reads it
                values = values.reshape(3, 3).T.reshape(9)
            text = _words(values)
            header.append(f"{field}={text}" if shape == (1,) else f'{field}="{text}"')
    header += _own_words(extra, header, columns)
    rows = zip(*(table.tolist() for table in tables), strict=True)
    symbols = [symbol(element) for element in z.tolist()]
    lines = [str(count), " ".join(header)]
    lines += [
        " ".join([name, *map(repr, chain.from_iterable(row))])
        for name, row in zip(symbols, rows, strict=True)
    ]
    return "\n".join(lines) + "\n"


def _cell_words(frame: Data, number: int) -> list[str]:
    if "cell" not in frame or not _values(frame, "cell", number).any():
        return []
    cell = _shaped(frame, "cell", number, (9,))
    # A cell alone means periodic in all directions, as when it is read.
    pbc = np.ones(3)
    if "pbc" in frame:
        pbc = _shaped(frame, "pbc", number, (3,))
    flags = " ".join("T" if flag else "F" for flag in pbc)
    return [f'Lattice="{_words(cell)}"', f'pbc="{flags}"']


def _columns(
    frame: Data,
    number: int,
    pos: NDArray[np.float64],
    force_factor: float,
    own: AtomValues,
) -> tuple[str, list[NDArray[Any]]]:
    """What ``Properties`` says, and the tables behind the symbols."""
    columns = "species:S:1:pos:R:3"
    tables: list[NDArray[Any]] = [pos]
    if "forces" in frame:
        columns += ":forces:R:3"
        tables.append(_shaped(frame, "forces", number, pos.shape) * force_factor)
    for name, of_atoms in own.items():
        _check_name("arrays", name)
        if f":{name}:" in f":{columns}:" or name.lower() in STRUCTURE_NAMES:
            raise ConfigError(f"arrays: {name!r} is the name of another column")
        table = _table(of_atoms, name, number, len(pos))
        whole = not torch.as_tensor(of_atoms).is_floating_point()
        columns += f":{name}:{'I' if whole else 'R'}:{table.shape[1]}"
        tables.append(table.astype(np.int64) if whole else table)
    return columns, tables


def _own_words(extra: Info, header: Sequence[str], columns: str) -> list[str]:
    taken = {pair.partition("=")[0] for pair in header} | {*columns.split(":")[::3]}
    for name in extra:
        if name in taken or name.lower() in {"lattice", "pbc", "properties"}:
            raise ConfigError(
                f"info: {name!r} is what the frame itself says; give it another name"
            )
    return [_pair(name, value) for name, value in extra.items()]


def _values(frame: Data, field: str, number: int) -> NDArray[np.float64]:
    if field not in frame:
        raise DataError(f"frame {number}: {field!r} is missing")
    return _finite(frame[field], field, number)


def _finite(tensor: Tensor, field: str, number: int) -> NDArray[np.float64]:
    try:
        known = torch.as_tensor(tensor)  # users have arrays and plain numbers, too
    except (TypeError, ValueError, RuntimeError):
        kind = type(tensor).__name__
        raise DataError(f"frame {number}: {field!r}: a {kind}, not a tensor") from None
    values: NDArray[np.float64] = known.detach().cpu().double().numpy()
    if not np.isfinite(values).all():
        raise DataError(f"frame {number}: {field!r}: holds NaN or infinity")
    return values


def _table(tensor: Tensor, name: str, number: int, count: int) -> NDArray[np.float64]:
    values = _finite(tensor, name, number)
    if values.ndim == 0 or len(values) != count or values.size == 0:
        raise ShapeError(
            f"frame {number}: {name!r}: shape {values.shape}, expected ({count}, ...)"
        )
    return values.reshape(count, -1)


def _shaped(
    frame: Data, field: str, number: int, shape: tuple[int, ...]
) -> NDArray[np.float64]:
    values = _values(frame, field, number)
    if values.size != np.prod(shape):
        raise ShapeError(
            f"frame {number}: {field!r}: shape {values.shape}, expected {shape} up to "
            "axes of length 1"
        )
    return values.reshape(shape)


def _words(values: NDArray[np.float64]) -> str:
    return " ".join(map(repr, values.tolist()))


def _check_name(argument: str, name: str) -> None:
    if not name or any(letter.isspace() or letter in "=\"'{}[]:\\" for letter in name):
        raise ConfigError(f"{argument}: {name!r} cannot be a name; use letters and _")


def _plain(name: str, value: object) -> float | str | bool:
    """The value as one of Python's own; users have those of NumPy and torch, too."""
    found: object = value
    if isinstance(value, (np.generic, Tensor)) and value.ndim == 0:
        found = value.item()
    if isinstance(found, (bool, int, float, str)):
        return found
    kind = type(value).__name__
    raise ConfigError(f"info: {name!r}: expected one number or a text, got {kind}")


def _pair(name: str, value: float | str | bool) -> str:
    _check_name("info", name)
    value = _plain(name, value)
    if isinstance(value, bool):
        return f"{name}={'T' if value else 'F'}"
    if isinstance(value, str):
        text = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'{name}="{text}"'
    return f"{name}={value!r}"
