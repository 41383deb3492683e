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
from torch_cormorant.data.frame_arrays import LARGEST_ELEMENT, Floats
from torch_cormorant.data.units import unit_factor
from torch_cormorant.errors import ConfigError, DataError, ShapeError

__all__ = ["write_extxyz"]

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
        "energy": unit_factor(unit, "eV"),
        "forces": unit_factor(f"{unit}/Angstrom", "eV/Angstrom"),
        "stress": unit_factor(f"{unit}/Angstrom^3", "eV/Angstrom^3"),
        "dipole": unit_factor(dipole_unit, "e*Angstrom"),
    }

    def write(stream: BinaryIO) -> None:
        count = 0
        for number, frame in enumerate(frames):
            extra = info[number] if info is not None and number < len(info) else {}
            own = arrays[number] if arrays is not None and number < len(arrays) else {}
            text = _Frame(frame, number, factors).text(extra, own)
            stream.write(text.encode())
            count += 1
        for name, entries in (("info", info), ("arrays", arrays)):
            if entries is not None and len(entries) != count:
                raise ConfigError(f"{name}: {len(entries)} entries for {count} frames")

    try:
        write_atomically(Path(path), write)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from error


class _Frame:
    """One structure on its way into a file."""

    def __init__(self, data: Data, number: int, factors: Mapping[str, float]) -> None:
        self.data, self.factors = data, factors
        self.where = f"frame {number}"
        for field in ("z", "pos"):
            if field not in data:
                raise DataError(f"{self.where}: {field!r} is missing")
        self.z = self.finite(data.z, "z").astype(np.int64)
        self.pos = self.finite(data.pos, "pos")
        self.count = len(self.z)
        if self.pos.shape != (self.count, 3):
            raise ShapeError(
                f"{self.where}: 'pos': shape {self.pos.shape}, expected "
                f"({self.count}, 3)"
            )
        bad = np.flatnonzero((self.z < 1) | (self.z > LARGEST_ELEMENT))
        if len(bad):
            raise DataError(
                f"{self.where}: 'z': atom {bad[0]} has atomic number {self.z[bad[0]]}"
            )

    def finite(self, tensor: Tensor, field: str) -> Floats:
        """Finite numbers as an array."""
        try:
            known = torch.as_tensor(tensor)  # users have arrays and plain numbers, too
        except (TypeError, ValueError, RuntimeError):
            kind = type(tensor).__name__
            raise DataError(
                f"{self.where}: {field!r}: a {kind}, not a tensor"
            ) from None
        values: Floats = known.detach().cpu().double().numpy()
        if not np.isfinite(values).all():
            raise DataError(f"{self.where}: {field!r}: holds NaN or infinity")
        return values

    def shaped(self, field: str, shape: tuple[int, ...]) -> Floats:
        """A field of the structure in ASE's unit."""
        values = self.finite(self.data[field], field)
        if values.size != np.prod(shape):
            raise ShapeError(
                f"{self.where}: {field!r}: shape {values.shape}, expected {shape} up "
                "to axes of length 1"
            )
        return values.reshape(shape) * self.factors.get(field, 1.0)

    def text(self, extra: Info, own: AtomValues) -> str:
        """The lines of the structure."""
        columns, tables = self._columns(own)
        header = [*self._cell(), f"Properties={columns}"]
        for field, shape in (("energy", (1,)), ("stress", (3, 3)), ("dipole", (3,))):
            if field in self.data:
                # A stress stands column by column, as ASE writes and reads it.
                words = _words(self.shaped(field, shape).T)
                quote = '"' * (len(shape) > 1 or shape[0] > 1)
                header.append(f"{field}={quote}{words}{quote}")
        taken = {pair.partition("=")[0] for pair in header} | {*columns.split(":")[::3]}
        for name, value in extra.items():
            if name in taken or name.lower() in {"lattice", "pbc", "properties"}:
                raise ConfigError(
                    f"info: {name!r} is what the frame itself says; give it another "
                    "name"
                )
            header.append(_pair(name, value))
        rows = zip(*(table.tolist() for table in tables), strict=True)
        lines = [
            " ".join([symbol(element), *map(repr, chain.from_iterable(row))])
            for element, row in zip(self.z.tolist(), rows, strict=True)
        ]
        return "\n".join([str(self.count), " ".join(header), *lines, ""])

    def _cell(self) -> list[str]:
        if "cell" not in self.data or not self.finite(self.data.cell, "cell").any():
            return []
        # A cell alone means periodic in all directions, as when it is read.
        pbc = self.shaped("pbc", (3,)) if "pbc" in self.data else np.ones(3)
        flags = " ".join("T" if flag else "F" for flag in pbc)
        return [f'Lattice="{_words(self.shaped("cell", (9,)))}"', f'pbc="{flags}"']

    def _columns(self, own: AtomValues) -> tuple[str, list[NDArray[Any]]]:
        """What ``Properties`` says, and the tables behind the symbols."""
        columns, tables = "species:S:1:pos:R:3", [self.pos]
        if "forces" in self.data:
            columns += ":forces:R:3"
            tables.append(self.shaped("forces", self.pos.shape))
        for name, tensor in own.items():
            _check_name("arrays", name)
            if f":{name}:" in f":{columns}:" or name.lower() in STRUCTURE_NAMES:
                raise ConfigError(f"arrays: {name!r} is the name of another column")
            values: NDArray[Any] = self.finite(tensor, name)
            if values.ndim == 0 or len(values) != self.count or values.size == 0:
                raise ShapeError(
                    f"{self.where}: {name!r}: shape {values.shape}, expected "
                    f"({self.count}, ...)"
                )
            whole = not torch.as_tensor(tensor).is_floating_point()
            table = values.reshape(self.count, -1)
            columns += f":{name}:{'I' if whole else 'R'}:{table.shape[1]}"
            tables.append(table.astype(np.int64) if whole else table)
        return columns, tables


def _words(values: Floats) -> str:
    return " ".join(map(repr, values.reshape(-1).tolist()))


def _check_name(argument: str, name: str) -> None:
    if not name or any(letter.isspace() or letter in "=\"'{}[]:\\" for letter in name):
        raise ConfigError(f"{argument}: {name!r} cannot be a name; use letters and _")


def _pair(name: str, value: object) -> str:
    _check_name("info", name)
    found = value
    if isinstance(value, (np.generic, Tensor)) and value.ndim == 0:
        found = value.item()  # users have those of NumPy and torch, too
    if isinstance(found, bool):
        return f"{name}={'T' if found else 'F'}"
    if isinstance(found, str):
        text = found.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'{name}="{text}"'
    if not isinstance(found, (int, float)):
        kind = type(value).__name__
        raise ConfigError(f"info: {name!r}: expected one number or a text, got {kind}")
    return f"{name}={found!r}"
