"""Structures as flat arrays, and what is checked of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torch_cormorant.data.arrays import NpzFile
from torch_cormorant.errors import DataError
from torch_cormorant.graph.spacing import warn_if_not_angstrom

__all__ = [
    "FrameArrays",
    "atoms_of",
    "check_frames",
    "molecules_of",
    "offset_of",
    "own_frames",
    "warn_of_units",
]

Floats = NDArray[np.float64]
PER_ATOM: dict[str, tuple[int, ...]] = {"z": (), "pos": (3,), "forces": (3,)}
"""Fields with a row for every atom, and the shape of a row."""
PER_FRAME: dict[str, tuple[int, ...]] = {
    "energy": (),
    "stress": (3, 3),
    "dipole": (3,),
    "cell": (3, 3),
    "pbc": (3,),
}
"""Fields with a row for every frame."""
LARGEST_ELEMENT = 118
LOOKED_AT = 20
"""Frames whose distances are looked at."""
# A cell is singular when its volume is below this share of the box of its edges.
_FLAT = 1e-6
_KINDS = {"z": "iu", "offset": "iu", "pbc": "biu"}
_TYPES: dict[str, type] = {"z": np.int64, "offset": np.int64, "pbc": np.bool_}


@dataclass(frozen=True)
class FrameArrays:
    """Structures one after the other; frame ``k`` owns ``offset[k]:offset[k+1]``.

    Args:
        z: Atomic numbers ``[N]``, int64.
        pos: Positions ``[N, 3]`` in Angstrom, float64 like all that follow.
        offset: ``[F + 1]``, int64.
        energy: ``[F]``, or ``None``.
        forces: ``[N, 3]``, or ``None``.
        stress: ``[F, 3, 3]``, or ``None``.
        dipole: ``[F, 3]``, or ``None``.
        cell: Rows are the cell vectors ``[F, 3, 3]`` in Angstrom, or ``None``.
        pbc: Periodic directions ``[F, 3]``, bool, or ``None``.
    """

    z: NDArray[np.int64]
    pos: Floats
    offset: NDArray[np.int64]
    energy: Floats | None = None
    forces: Floats | None = None
    stress: Floats | None = None
    dipole: Floats | None = None
    cell: Floats | None = None
    pbc: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.offset) - 1

    def held(self) -> dict[str, NDArray[Any]]:
        """The fields that are there, without ``offset``; those of atoms first."""
        found = {name: getattr(self, name) for name in (*PER_ATOM, *PER_FRAME)}
        return {name: values for name, values in found.items() if values is not None}

    def scaled(self, factors: dict[str, float]) -> FrameArrays:
        """The same with some of the fields that are there times a factor."""
        changed: dict[str, Any] = {
            name: values * factors[name]
            for name, values in self.held().items()
            if name in factors
        }
        return replace(self, **changed)

    def keep(self, rows: NDArray[np.int64]) -> FrameArrays:
        """The frames of those row numbers, in their order."""
        atoms = atoms_of(self.offset, rows)
        taken = {
            name: values[atoms if name in PER_ATOM else rows]
            for name, values in self.held().items()
        }
        return FrameArrays(offset=offset_of(np.diff(self.offset)[rows]), **taken)

    @classmethod
    def joined(cls, parts: Sequence[FrameArrays]) -> FrameArrays:
        """The frames of several, which hold the same fields."""
        sizes = np.concatenate([np.diff(part.offset) for part in parts])
        held = [part.held() for part in parts]
        arrays = {name: np.concatenate([h[name] for h in held]) for name in held[0]}
        return cls(offset=offset_of(sizes), **arrays)


def molecules_of(file: NpzFile) -> FrameArrays:
    """Elements and positions from the arrays ``z``, ``pos`` and ``offset`` of a file.

    Raises:
        DataError: One of them is not of numbers, or they do not fit each other.
    """
    z, pos, offset = file.integers("z"), file.reals("pos"), file.integers("offset")
    _check_offset(offset, len(z), str(file.path), "molecule {}".format)
    if pos.shape != (len(z), 3):
        raise file.fail("pos", f"shape {pos.shape}, expected ({len(z)}, 3)")
    return FrameArrays(z, pos, offset)


def offset_of(sizes: Sequence[int] | NDArray[np.integer]) -> NDArray[np.int64]:
    """Where frames of these numbers of atoms start, and the end of the last one."""
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def atoms_of(offset: NDArray[np.int64], rows: NDArray[np.integer]) -> NDArray[np.int64]:
    """Numbers of the atoms of some frames, in their order."""
    sizes = np.diff(offset)[rows]
    ends = offset_of(sizes)
    starts = np.repeat(offset[:-1][rows] - ends[:-1], sizes)
    return np.asarray(starts + np.arange(ends[-1]))


def own_frames(frames: FrameArrays, where: str) -> FrameArrays:
    """Copies of the arrays in the promised types; those of the caller stay his own.

    Args:
        frames: The frames, of any number types.
        where: What messages begin with: the file.

    Returns:
        The same frames, int64, float64 and bool.

    Raises:
        DataError: Something is not of numbers, or whole numbers are expected and the
            type is another one.
    """
    copies: dict[str, Any] = {}
    for name in (field.name for field in fields(frames)):
        values = getattr(frames, name)
        if values is None:
            continue
        try:
            given = np.asarray(values)
        except ValueError as error:
            raise DataError(f"{where}: {name!r}: not an array ({error})") from None
        if given.dtype.kind not in _KINDS.get(name, "fiu"):
            whole = "whole numbers" if name in _KINDS else "real numbers"
            raise DataError(f"{where}: {name!r}: expected {whole}, got {given.dtype}")
        if name in ("z", "offset") and given.ndim != 1:
            raise DataError(f"{where}: {name!r}: shape {given.shape}, expected [n]")
        copies[name] = np.array(given, dtype=_TYPES.get(name, np.float64))
    return FrameArrays(**copies)


def check_frames(
    frames: FrameArrays, where: str, name: Callable[[int], str] = "frame {}".format
) -> None:
    """Check shapes, elements, numbers and cells.

    Args:
        frames: The frames.
        where: What messages begin with: the file.
        name: How a message calls frame ``k``; default ``frame k``.

    Raises:
        DataError: Something does not fit; the message names the first bad frame, the
            field and the value.
    """

    def fail(frame: int, problem: str) -> DataError:
        return DataError(f"{where}: {name(frame)}: {problem}")

    atoms = len(frames.z)
    if len(frames.offset) == 1 and atoms < 1:
        raise DataError(f"{where}: holds no frame")
    _check_offset(frames.offset, atoms, where, name)
    count = len(frames)
    for field, values in frames.held().items():
        rows, row = (atoms, PER_ATOM) if field in PER_ATOM else (count, PER_FRAME)
        shape = (rows, *row[field])
        if values.shape != shape:
            raise DataError(
                f"{where}: {field!r}: shape {values.shape}, expected {shape} for "
                f"{count} frames of {atoms} atoms"
            )
        if values.dtype.kind == "f":
            _check_finite(frames, field, values, fail)
    bad = np.flatnonzero((frames.z < 1) | (frames.z > LARGEST_ELEMENT))
    if len(bad):
        frame, atom = _frame_of(frames, int(bad[0]))
        raise fail(
            frame,
            f"'z': atom {atom} has atomic number {frames.z[bad[0]]}, expected 1 to "
            f"{LARGEST_ELEMENT}",
        )
    _check_apart(frames, fail)
    _check_cells(frames, fail)


Fail = Callable[[int, str], DataError]


def _check_offset(
    offset: NDArray[np.int64], atoms: int, where: str, name: Callable[[int], str]
) -> None:
    steps = np.diff(offset)
    found = f"runs from {offset[0]} to {offset[-1]}" if len(offset) else "is empty"
    if len(steps) > 0 and (offset[0], offset[-1]) == (0, atoms):
        row = int(np.argmin(steps))
        if steps[row] > 0:
            return
        found = f"{name(row)} has {steps[row]} atoms"
    raise DataError(
        f"{where}: 'offset': {found}, expected to rise from 0 to {atoms}, by at least "
        "one atom each time"
    )


def _frame_of(frames: FrameArrays, atom: int) -> tuple[int, int]:
    frame = int(np.searchsorted(frames.offset, atom, side="right")) - 1
    return frame, atom - int(frames.offset[frame])


def _check_finite(frames: FrameArrays, field: str, values: Floats, fail: Fail) -> None:
    finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if finite.all():
        return
    row = int(np.argmin(finite))
    frame, found = row, "found"
    if field in PER_ATOM:
        frame, atom = _frame_of(frames, row)
        found = f"atom {atom} has"
    raise fail(
        frame, f"{field!r}: {found} {values[row].tolist()}, expected finite numbers"
    )


def _check_apart(frames: FrameArrays, fail: Fail) -> None:
    """No two atoms of a frame lie at the very same place."""
    frame = np.repeat(np.arange(len(frames)), np.diff(frames.offset))
    # Few atoms share even one coordinate, so that one is looked at first.
    atoms = np.arange(len(frame))
    for axes in ([0], [0, 1, 2]):
        keys = [*(frames.pos[atoms, axis] for axis in axes), frame[atoms]]
        order = np.lexsort(keys)
        same = np.all([np.diff(key[order]) == 0 for key in keys], axis=0)
        first, second = atoms[order[:-1][same]], atoms[order[1:][same]]
        atoms = np.union1d(first, second)
        if len(atoms) == 0:
            return
    k, one = _frame_of(frames, int(first[0]))
    _, other = _frame_of(frames, int(second[0]))
    raise fail(
        k,
        f"'pos': atoms {one} and {other} lie at the same place, "
        f"{frames.pos[first[0]].tolist()}",
    )


def _check_cells(frames: FrameArrays, fail: Fail) -> None:
    if frames.pbc is None or not frames.pbc.any():
        return
    periodic = np.flatnonzero(frames.pbc.any(axis=1)).tolist()
    if frames.cell is None:
        raise fail(periodic[0], "'cell': missing, but the frame is periodic")
    for frame in periodic:
        vectors = frames.cell[frame][frames.pbc[frame]]
        lengths = np.linalg.norm(vectors, axis=1)
        volume = np.sqrt(max(0.0, float(np.linalg.det(vectors @ vectors.T))))
        if not volume > _FLAT * float(np.prod(lengths)):
            raise fail(
                frame,
                f"'cell': the periodic vectors {vectors.tolist()} span no volume; give "
                "a cell that is not singular or switch the periodic directions off",
            )


def warn_of_units(frames: Any, path: Path | str) -> None:
    """Warn once if the first frames of a file look as if they were in nm.

    Args:
        frames: With ``pos``.
        path: Where they come from.
    """
    for number in range(min(len(frames), LOOKED_AT)):
        if warn_if_not_angstrom(frames[number].pos, f"{path}: frame {number}"):
            return
