"""Molecules as flat arrays, read from ``.npz`` files without trusting them."""

from __future__ import annotations

import hashlib
import io
import math
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torch_cormorant.data.files import reading, write_atomically
from torch_cormorant.data.units import unit_factor
from torch_cormorant.errors import ConfigError, DataError

__all__ = ["NpzFile", "array_names", "read_arrays", "write_arrays"]

# What an array may unpack to: this much, and this many times the size of its file.
# Deflate cannot do better than 1,032 : 1; arrays of real data hardly reach 20 : 1.
_FREE_BYTES = 64 << 20
_RATIO = 100


@dataclass(frozen=True)
class NpzFile:
    """Arrays of one file, and the digest of the bytes that they were read from.

    Args:
        path: The file.
        digest: SHA-256 of the file, hexadecimal.
        arrays: The arrays that were asked for.
    """

    path: Path
    digest: str
    arrays: dict[str, NDArray[np.generic]]

    def __getitem__(self, name: str) -> NDArray[np.generic]:
        """Array of that name."""
        return self.arrays[name]

    def integers(self, name: str) -> NDArray[np.int64]:
        """Array of that name as int64.

        Raises:
            DataError: It has more than one axis or is not of integers.
        """
        array = self.arrays[name]
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise self.fail(
                name,
                f"expected one axis of integers, found {array.dtype} of shape "
                f"{array.shape}",
            )
        return array.astype(np.int64)

    def reals(self, name: str) -> NDArray[np.float64]:
        """Array of that name as float64, a copy.

        Raises:
            DataError: It is not of numbers.
        """
        array = self.arrays[name]
        if array.dtype.kind not in "fiu":
            raise self.fail(name, f"expected real numbers, found {array.dtype}")
        return array.astype(np.float64)

    def text(self, name: str) -> str | None:
        """The one text of an optional array of that name, or ``None`` without it.

        Raises:
            DataError: It is none, empty or several.
        """
        if name not in self.arrays:
            return None
        values = self.arrays[name]
        if values.size != 1 or values.dtype.kind != "U":
            raise self.fail(
                name,
                f"expected one text, found {values.dtype} of shape {values.shape}",
            )
        found = str(values.reshape(())[()]).strip()
        if not found:
            raise self.fail(name, "the text is empty; name it, or leave the array out")
        return found

    def texts(self, name: str, count: int | None = None) -> list[str]:
        """The texts of an array of that name, which has one axis.

        Args:
            name: The array.
            count: How many there must be; default any number.

        Raises:
            DataError: It holds something else, or another number of them.
        """
        values = self.arrays[name]
        wrong = count is not None and values.shape != (count,)
        if values.ndim != 1 or values.dtype.kind != "U" or wrong:
            shape = "one axis" if count is None else f"shape ({count},)"
            raise self.fail(
                name,
                f"expected {shape} of texts, found {values.dtype} of shape "
                f"{values.shape}",
            )
        return [str(value) for value in values]

    def factor(self, name: str, there: str, wanted: str) -> float:
        """Factor from the unit that an array of that name states to another one.

        Raises:
            DataError: It is not understood, or one of another quantity.
        """
        try:
            return unit_factor(there, wanted)
        except ConfigError as problem:
            raise self.fail(name, str(problem)) from None

    def fail(self, name: str, problem: str) -> DataError:
        """An error about one array of this file, to be raised by the caller."""
        return DataError(f"{self.path}: array {name!r}: {problem}")


def read_arrays(
    path: str | os.PathLike[str],
    names: Sequence[str],
    optional: Sequence[str] = (),
) -> NpzFile:
    """Read named arrays of an ``.npz`` file; never unpickles anything.

    Args:
        path: The file.
        names: Arrays that must be there; others are left unread.
        optional: Arrays that are read when they are there.

    Returns:
        The arrays and the digest of the file.

    Raises:
        DataError: The file is missing, damaged, lacks an array, or would unpack to far
            more than its size.

    Example:
        >>> import numpy as np, tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.npz"
        >>> np.savez(path, z=np.arange(3))
        >>> read_arrays(path, ["z"])["z"]
        array([0, 1, 2])
    """
    path = Path(path)
    raw, archive, held = _open_archive(path)
    arrays = {}
    for name in (*names, *(name for name in optional if name in held)):
        if name not in held:
            known = ", ".join(sorted(held))
            raise DataError(f"{path}: array {name!r} is missing; the file has {known}")
        try:
            arrays[name] = _read_array(archive, held[name], len(raw))
        except Exception as error:  # as above: zlib, struct, header and memory errors
            raise DataError(
                f"{path}: array {name!r} cannot be read ({error}); get the file again"
            ) from error
    return NpzFile(path, hashlib.sha256(raw).hexdigest(), arrays)


def array_names(path: str | os.PathLike[str]) -> list[str]:
    """Names of the arrays of an ``.npz`` file, sorted.

    Args:
        path: The file.

    Returns:
        The names.

    Raises:
        DataError: The file is missing or damaged.
    """
    return sorted(_open_archive(Path(path))[2])


def write_arrays(
    path: str | os.PathLike[str],
    arrays: Mapping[str, NDArray[np.generic]],
    *,
    packed: bool = False,
) -> None:
    """Write arrays to an ``.npz`` file, whole or not at all.

    Args:
        path: The file.
        arrays: By name.
        packed: Whether to compress them.

    Raises:
        OSError: It cannot be written.
    """
    save: Any = np.savez_compressed if packed else np.savez
    write_atomically(Path(path), lambda stream: save(stream, **arrays))


def _open_archive(path: Path) -> tuple[bytes, Any, dict[str, zipfile.ZipInfo]]:
    """The bytes of a file, the archive in them and its arrays."""
    with reading(path):
        raw = path.read_bytes()
    try:
        archive = zipfile.ZipFile(io.BytesIO(raw))
        entries = archive.infolist()
    except Exception as error:  # a damaged archive may raise nearly anything
        raise DataError(
            f"{path}: not an .npz file, or damaged ({error}); get it again"
        ) from error
    held = {
        entry.filename.removesuffix(".npy"): entry
        for entry in entries
        if entry.filename.endswith(".npy")
    }
    if len(held) < len(entries):
        raise DataError(
            f"{path}: not an .npz file: it holds something else than .npy arrays, or "
            "one of them twice"
        )
    return raw, archive, held


def _read_array(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, size: int
) -> NDArray[np.generic]:
    limit = _FREE_BYTES + _RATIO * size
    if entry.file_size > limit:
        raise ValueError(
            f"it claims {entry.file_size:,} bytes, the limit for this file is {limit:,}"
        )
    raw = archive.read(entry)
    stream = io.BytesIO(raw)
    version = np.lib.format.read_magic(stream)
    reader = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[version]
    shape, _, dtype = reader(stream)
    # NumPy would reserve what the header asks for before it looks for the bytes.
    if math.prod(shape) * dtype.itemsize != len(raw) - stream.tell():
        raise ValueError(f"shape {shape} of {dtype} does not fit its {len(raw)} bytes")
    array: NDArray[np.generic] = np.load(io.BytesIO(raw), allow_pickle=False)
    return array
