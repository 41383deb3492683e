"""Wheels are packed smaller with nothing lost, and refused when they are too large."""

from __future__ import annotations

import random
import zipfile
import zlib
from pathlib import Path

import pytest
import repack_wheel

MEMBERS = {
    "package/text.py": b"import this\n" * 500,
    "package/noise.npz": random.Random(0).randbytes(3000),
    "package/empty.py": b"",
    "package-1.dist-info/RECORD": b"package/text.py,sha256=0,6000\n",
}


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "package-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for k, (name, data) in enumerate(MEMBERS.items()):
            info = zipfile.ZipInfo(name, (2020, 2, 1 + k, 0, 0, 0))
            info.external_attr = (0o100644 + k) << 16
            archive.writestr(info, data, zipfile.ZIP_DEFLATED, compresslevel=1)
    return path


def pack(data: bytes) -> bytes:
    return zlib.compress(data, 9)


def members(path: Path) -> list[tuple[object, ...]]:
    with zipfile.ZipFile(path) as archive:
        return [
            (part.filename, part.date_time, part.external_attr, archive.read(part))
            for part in archive.infolist()
        ]


def test_a_wheel_is_smaller_and_holds_the_same(wheel: Path) -> None:
    before, size = members(wheel), wheel.stat().st_size
    repack_wheel.repack(wheel, pack)
    assert members(wheel) == before
    assert wheel.stat().st_size < size
    once = wheel.read_bytes()
    repack_wheel.repack(wheel, pack)
    assert wheel.read_bytes() == once
    assert [path.name for path in wheel.parent.iterdir()] == [wheel.name]


def test_the_packing_that_is_given_is_used(wheel: Path) -> None:
    repack_wheel.repack(wheel, pack)
    with zipfile.ZipFile(wheel) as archive:
        parts = {part.filename: part for part in archive.infolist()}
    for name, data in MEMBERS.items():
        assert parts[name].compress_size == min(len(pack(data)) - 6, len(data))


def test_what_does_not_unpack_replaces_nothing(wheel: Path) -> None:
    before = wheel.read_bytes()
    with pytest.raises((SystemExit, zlib.error)):
        repack_wheel.repack(wheel, lambda _: b"123456789")
    assert wheel.read_bytes() == before


def test_a_wheel_over_the_limit_is_refused(
    wheel: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = wheel.stat().st_size
    repack_wheel.check(wheel, size)
    assert f"{size:,} bytes of {size:,}" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=rf"{size:,} bytes, more than {size - 1:,}"):
        repack_wheel.check(wheel, size - 1)
