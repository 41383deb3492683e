"""Text files, read in one way by every reader."""

from __future__ import annotations

from pathlib import Path

from torch_cormorant.data.files import reading
from torch_cormorant.errors import DataError

__all__ = ["BYTE_ORDER_MARK", "decoded", "read_text"]

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
SIZE_LIMIT = 2**30
"""Bytes of a text file that are read at once."""
# What Windows writes as "Unicode"; the longer ones first.
_WIDE = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}


def decoded(raw: bytes, start: int = 0) -> str:
    r"""The text in some bytes: UTF-8, no byte order mark, lines that end in ``\n``.

    Args:
        raw: The bytes.
        start: Where in the file they stand, for messages.

    Returns:
        The text.

    Raises:
        ValueError: It is in another encoding; the message names the byte.

    Example:
        >>> decoded(b"\xef\xbb\xbfsmiles\r\nCC\r\n")
        'smiles\nCC\n'
    """
    for mark, name in _WIDE.items():
        if start == 0 and raw.startswith(mark):
            raise ValueError(f"is text in {name}; save it as UTF-8")
    try:
        text = raw.removeprefix(BYTE_ORDER_MARK).decode("utf-8")
    except UnicodeDecodeError as error:
        place = start + error.start + len(raw) - len(raw.removeprefix(BYTE_ORDER_MARK))
        raise ValueError(f"byte {place} is no text in UTF-8") from None
    return text.replace("\r\n", "\n")


def read_text(path: Path, limit: int = SIZE_LIMIT) -> str:
    """The text of a whole file, as :func:`decoded` gives it.

    Args:
        path: The file.
        limit: Most bytes that it may have.

    Returns:
        The text.

    Raises:
        DataError: The file is missing, cannot be read, is too large or no text.
    """
    with reading(path), path.open("rb") as stream:
        raw = stream.read(limit + 1)
    if len(raw) > limit:
        raise DataError(f"{path}: more than {limit:,} bytes are too many; divide it")
    try:
        text = decoded(raw)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
    # Line ends of old spreadsheets; no line of these files holds one within.
    return text.replace("\r", "\n")
