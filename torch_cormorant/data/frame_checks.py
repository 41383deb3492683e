"""Checks of structures with energies and forces; messages name frame and field."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torch_cormorant.errors import DataError
from torch_cormorant.graph.spacing import warn_if_not_angstrom

__all__ = ["FrameArrays", "check_frames", "own_frames", "warn_of_units"]

Floats = NDArray[np.float64]
LARGEST_ELEMENT = 118
LOOKED_AT = 20
"""Frames whose distances are looked at."""
# A cell is singular when its volume is below this share of the box of its edges.
_FLAT = 1e-6


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

    def with_energy(self, energy: Floats) -> FrameArrays:
        """The same frames with other energies ``[F]``."""
        return replace(self, energy=energy)

    def keep(self, rows: NDArray[np.int64]) -> FrameArrays:
        """The frames of those row numbers, in their order."""
        sizes = np.diff(self.offset)[rows]
        starts = np.repeat(self.offset[rows], sizes)
        ends = np.concatenate([[0], np.cumsum(sizes)])
        atoms = starts + np.arange(ends[-1]) - np.repeat(ends[:-1], sizes)

        def take(values: Floats | None, index: NDArray[np.int64]) -> Floats | None:
            return None if values is None else values[index]

        return FrameArrays(
            z=self.z[atoms],
            pos=self.pos[atoms],
            offset=ends.astype(np.int64),
            energy=take(self.energy, rows),
            forces=take(self.forces, atoms),
            stress=take(self.stress, rows),
            dipole=take(self.dipole, rows),
            cell=take(self.cell, rows),
            pbc=None if self.pbc is None else self.pbc[rows],
        )


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
    kinds = {"z": "iu", "offset": "iu", "pbc": "biu"}
    types: dict[str, type] = {"z": np.int64, "offset": np.int64, "pbc": np.bool_}
    copies: dict[str, Any] = {}
    for field in fields(frames):
        name, values = field.name, getattr(frames, field.name)
        if values is None:
            continue
        try:
            given = np.asarray(values)
        except ValueError as error:
            raise DataError(f"{where}: {name!r}: not an array ({error})") from None
        if given.dtype.kind not in kinds.get(name, "fiu"):
            whole = "whole numbers" if name in kinds else "real numbers"
            raise DataError(f"{where}: {name!r}: expected {whole}, got {given.dtype}")
        copies[name] = np.array(given, dtype=types.get(name, np.float64))
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
    count, atoms = len(frames), len(frames.z)
    if count < 1:
        raise DataError(f"{where}: holds no frame")
    sizes = np.diff(frames.offset)
    if sizes.min() < 1:
        raise DataError(f"{where}: {name(int(np.argmin(sizes)))}: has no atom")
    if frames.offset[0] != 0 or frames.offset[-1] != atoms:
        raise DataError(
            f"{where}: 'offset': runs from {frames.offset[0]} to {frames.offset[-1]}, "
            f"expected 0 to {atoms}, the number of atoms"
        )
    shapes = {
        "pos": (atoms, 3),
        "energy": (count,),
        "forces": (atoms, 3),
        "stress": (count, 3, 3),
        "dipole": (count, 3),
        "cell": (count, 3, 3),
        "pbc": (count, 3),
    }
    for field, shape in shapes.items():
        values = getattr(frames, field)
        if values is None:
            continue
        if values.shape != shape:
            raise DataError(
                f"{where}: {field!r}: shape {values.shape}, expected {shape} for "
                f"{count} frames of {atoms} atoms"
            )
        _check_finite(frames, field, values, where, name)
    _check_elements(frames, where, name)
    _check_apart(frames, where, name)
    _check_cells(frames, where, name)


def _frame_of(frames: FrameArrays, atom: int) -> tuple[int, int]:
    frame = int(np.searchsorted(frames.offset, atom, side="right")) - 1
    return frame, atom - int(frames.offset[frame])


def _check_finite(
    frames: FrameArrays,
    field: str,
    values: Floats,
    where: str,
    name: Callable[[int], str],
) -> None:
    if field == "pbc":
        return
    finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if finite.all():
        return
    row = int(np.argmin(finite))
    if field in {"pos", "forces"}:
        frame, atom = _frame_of(frames, row)
        found = f"atom {atom} has {values[row].tolist()}"
    else:
        frame, found = row, f"found {values[row].tolist()}"
    raise DataError(
        f"{where}: {name(frame)}: {field!r}: {found}, expected finite numbers"
    )


def _check_elements(
    frames: FrameArrays, where: str, name: Callable[[int], str]
) -> None:
    bad = np.flatnonzero((frames.z < 1) | (frames.z > LARGEST_ELEMENT))
    if len(bad):
        frame, atom = _frame_of(frames, int(bad[0]))
        raise DataError(
            f"{where}: {name(frame)}: 'z': atom {atom} has atomic number "
            f"{frames.z[bad[0]]}, expected 1 to {LARGEST_ELEMENT}"
        )


def _check_apart(frames: FrameArrays, where: str, name: Callable[[int], str]) -> None:
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
    raise DataError(
        f"{where}: {name(k)}: 'pos': atoms {one} and {other} lie at the same place, "
        f"{frames.pos[first[0]].tolist()}"
    )


def _check_cells(frames: FrameArrays, where: str, name: Callable[[int], str]) -> None:
    if frames.pbc is None:
        return
    if frames.cell is None:
        if frames.pbc.any():
            frame = int(np.argmax(frames.pbc.any(axis=1)))
            raise DataError(
                f"{where}: {name(frame)}: 'cell': missing, but the frame is periodic"
            )
        return
    for frame in np.flatnonzero(frames.pbc.any(axis=1)).tolist():
        vectors = frames.cell[frame][frames.pbc[frame]]
        lengths = np.linalg.norm(vectors, axis=1)
        volume = np.sqrt(max(0.0, float(np.linalg.det(vectors @ vectors.T))))
        if not volume > _FLAT * float(np.prod(lengths)):
            raise DataError(
                f"{where}: {name(frame)}: 'cell': the periodic vectors "
                f"{vectors.tolist()} span no volume; give a cell that is not singular "
                "or switch the periodic directions off"
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
