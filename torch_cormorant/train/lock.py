"""One run per folder, by a lock that ends with the process that holds it."""

from __future__ import annotations

import contextlib
import os
import platform
import weakref
from pathlib import Path

from lightning.fabric.utilities import rank_zero_only

from torch_cormorant.errors import ConfigError

__all__ = ["FolderLock"]


class FolderLock:
    """The right to write into a folder.

    The lock is the operating system's, on the file ``.lock``: a killed process does not
    leave it behind, only the file, which says nothing. Of several processes that train
    together the first one holds it for all.

    Args:
        folder: The folder; nothing is touched before :meth:`acquire`.

    Example:
        >>> import pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> lock = FolderLock(folder)
        >>> lock.acquire()
        ''
        >>> lock.release()
        >>> list(folder.iterdir())
        []
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / ".lock"
        self._finalizer: weakref.finalize[..., FolderLock] | None = None

    def acquire(self) -> str:
        """Take the lock; nothing happens if it is held already.

        Returns:
            A remark for the user where no lock is to be had, or nothing.

        Raises:
            ConfigError: Another run holds it.
            OSError: The folder cannot be written.
        """
        if self._finalizer is not None or getattr(rank_zero_only, "rank", 0) != 0:
            return ""
        try:
            import fcntl
        except ImportError:  # on Windows
            return self._unlocked("no locks on this system")
        while True:
            handle = _open(self.path)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(handle, 200).decode(errors="replace").strip()
                os.close(handle)
                raise ConfigError(
                    f"{self.folder}: another run writes here"
                    f"{f' ({holder})' if holder else ''}; wait until it has ended, or "
                    "choose another folder"
                ) from None
            except OSError as error:  # some network file systems
                os.close(handle)
                return self._unlocked(f"{error.strerror}")
            if _is_file(handle, self.path):
                break
            os.close(handle)  # the one before has just deleted it
        with contextlib.suppress(OSError):  # as a full disk; the lock itself holds
            os.ftruncate(handle, 0)
            os.write(handle, f"process {os.getpid()} on {platform.node()}".encode())
        self._finalizer = weakref.finalize(
            self, _release, handle, self.path, os.getpid()
        )
        return ""

    def release(self) -> None:
        """Give the lock back, if it is held."""
        if self._finalizer is not None:
            self._finalizer()
            self._finalizer = None

    def _unlocked(self, reason: str) -> str:
        return (
            f"{self.folder}: cannot be locked ({reason}); take care that no other run "
            "writes here"
        )


def _open(path: Path) -> int:
    """Open a file that may be there, unless it is a link."""
    return os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _is_file(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _release(handle: int, path: Path, process: int) -> None:
    if os.getpid() != process:  # a fork has the handle, too, but not the right
        return
    with contextlib.suppress(OSError):
        path.unlink()
    os.close(handle)
