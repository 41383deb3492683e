"""Write wheels anew, the same files packed smaller, and refuse what is too large.

    python scripts/repack_wheel.py dist/*.whl

Zopfli makes what every unzip reads, about four per cent smaller than zlib does. Names,
order, dates and contents stay, so RECORD is right as it is.
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

LIMIT = 5_000_000  # bytes of a wheel


class _Packed:
    """Stands where zipfile has its compressor: the packed data are there already."""

    def __init__(self, packed: bytes) -> None:
        self._packed = packed

    def compress(self, _: bytes) -> bytes:
        """Nothing yet."""
        return b""

    def flush(self) -> bytes:
        """All of it."""
        return self._packed


def repack(path: Path, pack: Callable[[bytes], bytes]) -> None:
    """Write a wheel anew in its place.

    Args:
        path: The wheel.
        pack: From the bytes of a file to a stream of zlib.
    """
    fresh = path.with_suffix(".new")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(fresh, "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            info = zipfile.ZipInfo(entry.filename, entry.date_time)
            info.external_attr = entry.external_attr
            info.create_system = entry.create_system
            info.file_size = len(data)
            packed = pack(data)[2:-4]  # without the head and the checksum of zlib
            smaller = len(packed) < len(data)
            info.compress_type = zipfile.ZIP_DEFLATED if smaller else zipfile.ZIP_STORED
            with new.open(info, "w") as to:
                if smaller:
                    vars(to)["_compressor"] = _Packed(packed)
                to.write(data)
    with zipfile.ZipFile(fresh) as new:
        broken = new.testzip()
    if broken:
        raise SystemExit(f"{path}: {broken} is not read as it was written")
    fresh.replace(path)


def check(path: Path, limit: int = LIMIT) -> None:
    """Say how large a wheel is, and by which files; stop where it is over the limit."""
    size = path.stat().st_size
    print(f"{path.name}: {size:,} bytes of {limit:,}")
    with zipfile.ZipFile(path) as wheel:
        parts = sorted(wheel.infolist(), key=lambda part: -part.compress_size)
    for part in parts[:5]:
        print(f"  {part.compress_size:9,} of {part.file_size:9,}  {part.filename}")
    if size > limit:
        raise SystemExit(f"{path.name}: {size:,} bytes, more than {limit:,}")


def main() -> None:
    """Repack and check all wheels that are named."""
    from zopfli.zlib import compress

    for path in map(Path, sys.argv[1:]):
        repack(path, compress)
        check(path)


if __name__ == "__main__":
    main()
