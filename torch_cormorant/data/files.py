"""Files written whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import platform
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from torch_cormorant.errors import DataError

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["file_digest", "reading", "write_atomically"]

_CHUNK = 1 << 20


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that a reader, or a crash, never sees half of it.

    The bytes go to a new temporary file in the same folder, are flushed to the disk,
    and the file is renamed. What a killed process left behind is removed by the next
    one that writes the same file. A link at the temporary file's name is removed and
    not followed.

    Args:
        path: The file; its folder is made if missing.
        write: Writes the contents to the binary stream it is given.

    Raises:
        OSError: The folder cannot be written; an older file is left as it was.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "a.txt"
        >>> write_atomically(path, lambda stream: stream.write(b"whole"))
        >>> path.read_text()
        'whole'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_litter(path)
    owner = f"{_host()}-{os.getpid()}-{threading.get_ident()}"
    temporary = path.with_name(f".{path.name}.{owner}.tmp")
    temporary.unlink(missing_ok=True)
    raw = _NewFile(temporary)
    try:
        with io.BufferedWriter(raw) as stream:
            write(cast("BinaryIO", stream))
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if raw.failure is not None and isinstance(error, Exception):
            # What a writer of another package makes of it says less.
            raise raw.failure from None
        raise
    sync_folder(path.parent)


class _NewFile(io.FileIO):
    """A file that was not there before, and remembers why it cannot be written."""

    def __init__(self, path: Path) -> None:
        super().__init__(os.fspath(path), "xb")
        self.failure: OSError | None = None

    def write(self, data: Buffer, /) -> int:
        """As that of any file."""
        try:
            return super().write(data)
        except OSError as error:
            self.failure = error
            raise


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9]", "_", platform.node()) or "host"


def _remove_litter(path: Path) -> None:
    # Only of processes of this machine that no longer run; a folder may be shared.
    pattern = re.compile(rf"\.{re.escape(path.name)}\.{_host()}-(\d+)-\d+\.tmp")
    for file in path.parent.iterdir():
        found = pattern.fullmatch(file.name)
        if found and not _runs(int(found.group(1))):
            file.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    if os.name != "posix":
        return True  # signal 0 would end the process there
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def sync_folder(folder: Path) -> None:
    """Flush a folder's own entries to the disk, where the system can."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """What the system says against reading a file as an error that names it.

    Args:
        path: The file.

    Raises:
        DataError: It is missing or cannot be read.
    """
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        reason = error.strerror or repr(error)
        raise DataError(f"{path}: cannot be read ({reason})") from error


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal, read in pieces.

    Args:
        path: The file.

    Returns:
        The digest.

    Raises:
        DataError: The file is missing or cannot be read.
    """
    digest = hashlib.sha256()
    with reading(path), path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
