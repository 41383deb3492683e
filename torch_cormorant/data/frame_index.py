"""Where the frames of a text file begin."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from torch_cormorant.data.arrays import read_arrays, write_arrays
from torch_cormorant.data.extxyz_format import scan_frames
from torch_cormorant.data.files import reading
from torch_cormorant.data.text import decoded
from torch_cormorant.errors import DataError

__all__ = ["FrameIndex", "index_frames"]

# Smaller files are scanned faster than anything is looked up.
_CACHE_FROM = 4 << 20
_VERSION = 1


@dataclass(frozen=True)
class FrameIndex:
    """The places of the frames of a file.

    Args:
        path: The file.
        starts: First byte of every frame, and the end of the last one ``[F + 1]``.
        atoms: Number of atoms of every frame ``[F]``.
        cells: Whether any frame has a cell.
        stamp: Version of this format, length and time of the file ``[3]``.
    """

    path: Path
    starts: NDArray[np.int64]
    atoms: NDArray[np.int64]
    cells: bool
    stamp: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.atoms)

    def text(self, idx: int) -> str:
        """The lines of one frame.

        Raises:
            OSError: The file cannot be read.
            ValueError: The file is another one now, or holds something that is no text.
        """
        start, end = int(self.starts[idx]), int(self.starts[idx + 1])
        with self.path.open("rb") as stream:
            stream.seek(start)
            raw = stream.read(end - start)
            now = _stamp(os.fstat(stream.fileno()))
        if len(raw) < end - start or not np.array_equal(now, self.stamp):
            raise ValueError(
                "the file was changed or replaced after it was opened, so frames are "
                "no longer where they were; open it again"
            )
        return decoded(raw, start)


def index_frames(path: Path, *, cache: bool = True) -> FrameIndex:
    """Find the frames of an extended XYZ file.

    For files of 4 MiB and more the result is kept beside the file as
    ``.NAME.index.npz`` and used as long as length and time stamp of the file stay the
    same.

    Args:
        path: The file.
        cache: Whether anything may be kept.

    Returns:
        The places.

    Raises:
        DataError: The file is missing, empty or damaged; the frame is named.
    """
    beside = path.with_name(f".{path.name}.index.npz")
    with reading(path):
        status = path.stat()
        stamp = _stamp(status)
        cache = cache and status.st_size >= _CACHE_FROM
        if cache:
            with contextlib.suppress(DataError):
                return _kept(path, beside, stamp)
        index = _scanned(path, stamp)
    if cache:
        arrays = {name: getattr(index, name) for name in ("stamp", "starts", "atoms")}
        cells = np.array([int(index.cells)])
        with contextlib.suppress(OSError):  # a folder that cannot be written is fine
            write_arrays(beside, {**arrays, "cells": cells})
    return index


def _stamp(status: os.stat_result) -> NDArray[np.int64]:
    """What tells a file from a later one of the same name."""
    return np.array([_VERSION, status.st_size, status.st_mtime_ns])


def _kept(path: Path, beside: Path, stamp: NDArray[np.int64]) -> FrameIndex:
    file = read_arrays(beside, ["stamp", "starts", "atoms", "cells"])
    starts, atoms = file.integers("starts"), file.integers("atoms")
    if (
        not np.array_equal(file.integers("stamp"), stamp)
        or len(starts) != len(atoms) + 1
        or len(atoms) == 0
        or starts[0] != 0
        or np.diff(starts).min() < 1
        or starts[-1] > stamp[1]
    ):
        raise file.fail("stamp", "of another file")
    return FrameIndex(path, starts, atoms, bool(file.integers("cells")[0]), stamp)


def _scanned(path: Path, stamp: NDArray[np.int64]) -> FrameIndex:
    starts, atoms, cells = [], [], False
    with path.open("rb") as stream:
        try:
            for start, count, cell in scan_frames(stream):
                starts.append(start)
                atoms.append(count)
                cells = cells or cell
        except ValueError as error:
            raise DataError(f"{path}: frame {len(starts)}: {error}") from None
    if len(starts) < 2:
        raise DataError(f"{path}: holds no frame")
    return FrameIndex(path, np.array(starts), np.array(atoms[:-1]), cells, stamp)
