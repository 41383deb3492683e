"""A digest at the end of a checkpoint, where a zip archive has its comment.

PyTorch does not look at the check sums of its archives: most files with a flipped bit
load, with other weights.
"""

from __future__ import annotations

import hashlib
import warnings

from torch_cormorant.errors import CormorantWarning, DataError

__all__ = ["check_seal", "sealed"]

_MARK = b"torch-cormorant sha256:"
_HEX = 64
_END = b"PK\x05\x06"
_END_LENGTH = 22  # of the record that ends an archive without a comment


def sealed(archive: bytes) -> bytes:
    """An archive with the digest of everything before it as its comment.

    Args:
        archive: What ``torch.save`` wrote.

    Returns:
        The archive, which ``torch.load`` and ``zipfile`` read as before.

    Example:
        >>> import io, torch
        >>> stream = io.BytesIO()
        >>> torch.save(torch.ones(1), stream)
        >>> check_seal(sealed(stream.getvalue()), "ones")
        >>> torch.load(io.BytesIO(sealed(stream.getvalue())))
        tensor([1.])
    """
    length = (len(_MARK) + _HEX).to_bytes(2, "little")
    content = archive[:-2] + length + _MARK
    return content + hashlib.sha256(content).hexdigest().encode()


def check_seal(raw: bytes, name: str) -> None:
    """Refuse an archive that is not as it was written.

    Args:
        raw: The whole file.
        name: What to call it in messages.

    Raises:
        DataError: The digest differs, or is damaged itself.

    Warns:
        CormorantWarning: The file has none, as other programs write it.
    """
    if raw[:-_HEX].endswith(_MARK):
        found = hashlib.sha256(memoryview(raw)[:-_HEX]).hexdigest().encode()
        if found != raw[-_HEX:]:
            raise DataError(f"{name}: damaged, its contents do not have their digest")
    elif raw[-_END_LENGTH:].startswith(_END) and raw.endswith(b"\0\0"):
        text = f"{name}: has no digest, so that damage to it would not be seen"
        warnings.warn(text, CormorantWarning, stacklevel=3)
    else:
        raise DataError(f"{name}: damaged, not a checkpoint (its end is missing)")
