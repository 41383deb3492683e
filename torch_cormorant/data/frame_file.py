"""A file of frames, opened: what it holds as it stands there."""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import lzma
import os
from pathlib import Path
from typing import Any

from torch_cormorant.data.ase_frames import read_with_ase
from torch_cormorant.data.extxyz_format import ParsedFrame, parse_frame, scan_frames
from torch_cormorant.data.files import file_digest, reading
from torch_cormorant.data.frame_index import FrameIndex, index_frames
from torch_cormorant.data.text import SIZE_LIMIT, decoded
from torch_cormorant.errors import DataError

__all__ = ["FrameFile"]

_OWN = {"extxyz", "xyz"}
_OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


class FrameFile:
    r"""The frames of a file as they stand there, without units.

    Opening extended XYZ only finds where the frames are. Compressed files and the
    formats of ASE are read at once.

    Args:
        path: The file.
        format: ASE's name of the format, if the name of the file does not tell.
        cache: Whether the places of the frames of a large file may be remembered beside
            it.

    Attributes:
        path: The file.
        periodic: Whether any frame has a cell.

    Raises:
        DataError: The file is missing, damaged or empty.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "h.xyz"
        >>> _ = path.write_text("1\ngap=0.4 label=mine\nH 0 0 0\n")
        >>> FrameFile(path).info(0)
        {'gap': '0.4', 'label': 'mine'}
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        format: str | None = None,
        *,
        cache: bool = True,
    ) -> None:
        self.path = Path(path)
        packed = self.path.suffix.lower() in _OPENERS
        name = self.path.with_suffix("") if packed else self.path
        own = (format or name.suffix.lower().removeprefix(".")) in _OWN
        self._index: FrameIndex | None = None
        self._frames: list[ParsedFrame] = []
        if own and not packed:
            self._index = index_frames(self.path, cache=cache)
            self.periodic = self._index.cells
            return
        self._frames = _unpacked(self.path) if own else read_with_ase(self.path, format)
        self.periodic = any(frame.cell is not None for frame in self._frames)

    def __len__(self) -> int:
        """Number of frames."""
        return len(self._frames if self._index is None else self._index)

    def parsed(self, idx: int) -> ParsedFrame:
        """What a frame says.

        Raises:
            DataError: The frame is damaged.
        """
        if self._index is None:
            return self._frames[idx]
        try:
            with reading(self.path):
                return parse_frame(self._index.text(idx))
        except DataError:
            raise
        except ValueError as error:
            raise self.fail(idx, str(error)) from None

    def info(self, idx: int) -> dict[str, str]:
        """What the second line of a frame says, as text.

        Raises:
            DataError: The frame is damaged.
        """
        return dict(self.parsed(idx).info)

    def names(self, idx: int = 0) -> list[str]:
        """Names of what a frame holds besides elements and positions.

        Raises:
            DataError: The frame is damaged.
        """
        frame = self.parsed(idx)
        return list(dict.fromkeys([*frame.info, *frame.arrays]))

    def single(self, idx: int) -> bool:
        """Whether a frame has one atom; nothing is read for it."""
        if self._index is None:
            return len(self._frames[idx].z) == 1
        return bool(self._index.atoms[idx] == 1)

    def fail(self, idx: int, problem: str) -> DataError:
        """An error about one frame, to be raised by the caller."""
        return DataError(f"{self.path}: frame {idx}: {problem}")

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return file_digest(self.path)


def _unpacked(path: Path) -> list[ParsedFrame]:
    """All frames of a compressed file of extended XYZ."""
    try:
        with reading(path), _OPENERS[path.suffix.lower()](path) as stream:
            raw = stream.read(SIZE_LIMIT + 1)
    except DataError:
        raise
    except Exception as error:  # EOFError, of zlib and of lzma
        raise DataError(f"{path}: is damaged ({error}); get it again") from error
    if len(raw) > SIZE_LIMIT:
        raise DataError(f"{path}: unpacks to more than {SIZE_LIMIT:,} bytes; unpack it")
    frames: list[ParsedFrame] = []
    try:
        starts = [start for start, _, _ in scan_frames(io.BytesIO(raw))]
        for start, end in itertools.pairwise(starts):
            frames.append(parse_frame(decoded(raw[start:end], start)))
    except ValueError as error:
        raise DataError(f"{path}: frame {len(frames)}: {error}") from None
    if not frames:
        raise DataError(f"{path}: holds no frame")
    return frames
