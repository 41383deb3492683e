"""Threads of other packages that write files."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["raised_from_threads"]


@contextmanager
def raised_from_threads() -> Iterator[None]:
    """Raise here what a thread could not write, as the one of TensorBoard.

    Python would print its traceback and go on.

    Raises:
        OSError: The first one of a thread, where the block itself raises nothing.

    Example:
        >>> with raised_from_threads():
        ...     thread = threading.Thread(target=open, args=("/no/such/folder",))
        ...     thread.start()
        ...     thread.join()
        Traceback (most recent call last):
        FileNotFoundError: [Errno 2] No such file or directory: '/no/such/folder'
    """
    kept: list[OSError] = []
    usual = threading.excepthook

    def keep(args: threading.ExceptHookArgs) -> None:
        if isinstance(args.exc_value, OSError):
            kept.append(args.exc_value)
        else:
            usual(args)

    threading.excepthook = keep
    try:
        yield
    finally:
        threading.excepthook = usual
    if kept:
        raise kept[0]
