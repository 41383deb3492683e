"""Unpacking archives that nobody vouches for."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, cast

from torch_cormorant.errors import DataError

__all__ = ["archive_files", "extract_archive"]

#: Most entries that are looked at in one archive.
MAX_ENTRIES = 500_000
# One header or one file name of a tar archive never needs more.
_LONGEST_READ = 16 << 20


def extract_archive(
    path: Path,
    folder: Path,
    *,
    max_bytes: int,
    wanted: Callable[[str], bool] = lambda _: True,
) -> list[Path]:
    """Unpack a zip or tar archive below a folder, all of it or nothing.

    Refused are names that lead out of the folder, links, devices, names that come
    twice, encrypted entries, and archives that unpack to more than ``max_bytes``. Only
    contents are taken over: no owners, no permissions.

    Args:
        path: The archive; zip, tar, tar.bz2, tar.gz or tar.xz, told by its contents.
        folder: Where to.
        max_bytes: Most bytes that the files may have together.
        wanted: Which names to unpack; default all. The others are checked too.

    Returns:
        The files that were written, in the order of the archive.

    Raises:
        DataError: The archive is damaged or does one of the above.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unpack-") as temporary:
        names = []
        for name, stream in archive_files(path, max_bytes=max_bytes):
            if not wanted(name):
                continue
            place = Path(temporary, name)
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                with place.open("xb") as target:
                    shutil.copyfileobj(stream, target)
                    target.flush()
                    os.fsync(target.fileno())
            except DataError:
                raise
            except Exception as error:  # a decompressor may raise nearly anything
                raise _damaged(path, name, error) from error
            names.append(name)
        root = folder.resolve()
        for name in names:
            final = folder / name
            if not final.parent.resolve().is_relative_to(root):
                raise DataError(f"{path}: {name!r} would leave {folder}")
            final.parent.mkdir(parents=True, exist_ok=True)
            Path(temporary, name).replace(final)
    return [folder / name for name in names]


def archive_files(path: Path, *, max_bytes: int) -> Iterator[tuple[str, IO[bytes]]]:
    """The files of a zip or tar archive, one after the other, nothing written.

    Args:
        path: The archive.
        max_bytes: Most bytes that the files may have together.

    Yields:
        The name and a stream that is valid until the next file is asked for.

    Raises:
        DataError: As for :func:`extract_archive`.
    """
    try:
        with path.open("rb") as stream:
            yield from _admitted(path, stream, max_bytes)
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except Exception as error:  # zlib, bz2, struct, Unicode and more
        raise _damaged(path, "", error) from error


def _admitted(
    path: Path, stream: IO[bytes], max_bytes: int
) -> Iterator[tuple[str, IO[bytes]]]:
    """The files that an archive may have, of good names and sizes."""
    start = stream.read(8)
    stream.seek(0)
    read = _zip_files if start[:4] == b"PK\x03\x04" else _tar_files
    seen: set[str] = set()
    total = 0
    for name, size, file in read(path, stream, max_bytes):
        _check_name(path, name)
        if name in seen:
            raise DataError(f"{path}: {name!r} comes twice; not unpacked")
        seen.add(name)
        total += size
        if size < 0 or total > max_bytes:
            raise _too_large(path, max_bytes)
        if len(seen) > MAX_ENTRIES:
            raise DataError(f"{path}: more than {MAX_ENTRIES:,} entries")
        yield name, file


def _damaged(path: Path, name: str, error: Exception) -> DataError:
    inside = f" in {name!r}" if name else ""
    return DataError(
        f"{path}: not an archive that can be read, or damaged{inside} ({error}); get "
        "it again"
    )


def _too_large(path: Path, max_bytes: int) -> DataError:
    return DataError(f"{path}: unpacks to more than {max_bytes:,} bytes; not unpacked")


def _check_name(path: Path, name: str) -> None:
    parts = PurePosixPath(name).parts
    if (
        not parts
        or name.startswith("/")
        or ".." in parts
        or any(letter in name for letter in ("\\", ":", "\0", "\n"))
        or len(name) > 255
    ):
        raise DataError(
            f"{path}: the entry {name[:80]!r} would be written outside of the folder, "
            "or has no plain name; nothing is unpacked"
        )


def _zip_files(
    path: Path, stream: IO[bytes], max_bytes: int
) -> Iterator[tuple[str, int, IO[bytes]]]:
    with zipfile.ZipFile(stream) as archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > max_bytes:
            raise _too_large(path, max_bytes)
        for entry in entries:
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
                raise DataError(
                    f"{path}: {entry.filename!r} is a link or a device; only files are "
                    "unpacked"
                )
            if entry.is_dir():
                _check_name(path, entry.filename)
                continue
            # zipfile gives no more than file_size bytes, and checks their CRC.
            with archive.open(entry) as file:
                yield entry.filename, entry.file_size, file


class _Guard(io.RawIOBase):
    """A decompressed tar archive that refuses to be a bomb."""

    def __init__(self, path: Path, stream: IO[bytes], max_bytes: int) -> None:
        super().__init__()
        self.path, self.stream, self.max_bytes = path, stream, max_bytes

    def read(self, size: int = -1) -> bytes:
        """Read a bounded number of bytes."""
        if not 0 <= size <= _LONGEST_READ:
            raise DataError(
                f"{self.path}: has a header of {size:,} bytes; not unpacked"
            )
        self._check(self.stream.tell() + size)
        return self.stream.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to an absolute position."""
        if whence != 0:
            raise io.UnsupportedOperation
        self._check(offset)
        return self.stream.seek(offset)

    def tell(self) -> int:
        """The position."""
        return self.stream.tell()

    def _check(self, position: int) -> None:
        # Headers and padding: at most two blocks for a file, and some at the end.
        if position > 2 * self.max_bytes + (64 << 20):
            raise _too_large(self.path, self.max_bytes)


def _tar_files(
    path: Path, stream: IO[bytes], max_bytes: int
) -> Iterator[tuple[str, int, IO[bytes]]]:
    guard = cast("IO[bytes]", _Guard(path, _decompressed(stream), max_bytes))
    with tarfile.open(fileobj=guard, mode="r:") as archive:
        while (member := archive.next()) is not None:
            # Otherwise the list of all headers stays in memory.
            vars(archive)["members"] = []
            if member.isdir():
                _check_name(path, member.name)
                continue
            file = archive.extractfile(member) if member.isreg() else None
            if file is None or member.issparse():
                raise DataError(
                    f"{path}: {member.name!r} is a link or a device; only files are "
                    "unpacked"
                )
            with file:
                yield member.name, member.size, file


def _decompressed(stream: IO[bytes]) -> IO[bytes]:
    start = stream.read(8)
    stream.seek(0)
    if start.startswith(b"BZh"):
        return bz2.BZ2File(stream)
    if start.startswith(b"\x1f\x8b"):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=stream))
    if start.startswith(b"\xfd7zXZ"):
        return lzma.open(stream)
    return stream
