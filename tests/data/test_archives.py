"""Archives made to do harm."""

from __future__ import annotations

import bz2
import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from torch_cormorant.data.archives import archive_files, extract_archive
from torch_cormorant.errors import DataError

MAX = 1 << 20
FILES = {"a.txt": b"alpha", "b/c.txt": b"gamma" * 1000}


def zip_file(path: Path, entries: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("b/")
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def tar_file(path: Path, entries: dict[str, bytes], mode: str = "w:bz2") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in entries.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


Writer = Callable[[Path, dict[str, bytes]], Path]
WRITERS = [zip_file, tar_file]


@pytest.mark.parametrize("write", WRITERS)
def test_files_are_unpacked_and_nothing_else_is_left(
    write: Writer, tmp_path: Path
) -> None:
    path = write(tmp_path / "archive", FILES)
    found = extract_archive(path, tmp_path / "out", max_bytes=MAX)
    assert [file.relative_to(tmp_path / "out").as_posix() for file in found] == [*FILES]
    for file, content in zip(found, FILES.values(), strict=True):
        assert file.read_bytes() == content
    assert sorted(item.name for item in (tmp_path / "out").iterdir()) == ["a.txt", "b"]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_kinds_of_tar_are_told_by_their_contents(mode: str, tmp_path: Path) -> None:
    path = tar_file(tmp_path / "archive", FILES, mode)
    names = [name for name, _ in archive_files(path, max_bytes=MAX)]
    assert names == [*FILES]


def test_only_wanted_files_are_unpacked(tmp_path: Path) -> None:
    path = tar_file(tmp_path / "archive", FILES)
    out = extract_archive(
        path, tmp_path / "out", max_bytes=MAX, wanted=lambda name: name == "a.txt"
    )
    assert [file.name for file in out] == ["a.txt"]


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(
    "name",
    ["../up.txt", "/etc/root.txt", "b/../../up.txt", "c:\\x", "b\\..\\x", "x\n", ".."],
)
def test_no_name_leads_out_of_the_folder(
    write: Writer, name: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "archive", {"good.txt": b"x", name: b"evil"})
    with pytest.raises(DataError, match="outside of the folder"):
        extract_archive(path, tmp_path / "deep" / "out", max_bytes=MAX)
    assert not list((tmp_path / "deep" / "out").iterdir())
    assert sorted(item.name for item in tmp_path.iterdir()) == ["archive", "deep"]


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_tar_links_and_devices_are_refused(kind: bytes, tmp_path: Path) -> None:
    path = tmp_path / "archive"
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("link")
        member.type, member.linkname = kind, "/etc/hostname"
        archive.addfile(member)
    with pytest.raises(DataError, match="'link' is a link or a device"):
        extract_archive(path, tmp_path / "out", max_bytes=MAX)


def test_zip_links_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    with zipfile.ZipFile(path, "w") as archive:
        entry = zipfile.ZipInfo("link")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc/hostname")
    with pytest.raises(DataError, match="'link' is a link or a device"):
        extract_archive(path, tmp_path / "out", max_bytes=MAX)


def test_a_link_that_lies_in_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "b").symlink_to(tmp_path / "elsewhere")
    path = zip_file(tmp_path / "archive", FILES)
    with pytest.raises(DataError, match=r"'b/c\.txt' would leave"):
        extract_archive(path, tmp_path / "out", max_bytes=MAX)
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("write", WRITERS)
def test_size_bombs_are_refused(write: Writer, tmp_path: Path) -> None:
    path = write(tmp_path / "archive", {"zeros": bytes(8 * MAX)})
    assert path.stat().st_size < MAX // 50
    with pytest.raises(DataError, match="unpacks to more than 1,048,576 bytes"):
        extract_archive(path, tmp_path / "out", max_bytes=MAX)
    many = {f"{number}": bytes(MAX // 8) for number in range(9)}
    with pytest.raises(DataError, match="unpacks to more than"):
        extract_archive(write(tmp_path / "many", many), tmp_path / "out", max_bytes=MAX)
    assert not list((tmp_path / "out").iterdir())


def test_a_tar_whose_header_is_a_bomb_is_refused(tmp_path: Path) -> None:
    # An extended header is read into memory before any file is seen.
    header = tarfile.TarInfo("bomb")
    header.type, header.size = tarfile.XHDTYPE, 100 << 20
    path = tmp_path / "archive"
    path.write_bytes(bz2.compress(header.tobuf() + bytes(header.size)))
    assert path.stat().st_size < 1000
    with pytest.raises(DataError, match="header of 104,85"):
        extract_archive(path, tmp_path / "out", max_bytes=MAX)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("write", WRITERS)
def test_names_come_once(write: Writer, tmp_path: Path) -> None:
    path = write(tmp_path / "archive", {"a.txt": b"one"})
    if write is zip_file:
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("a.txt", b"two")
    else:
        members = [("a.txt", b"one"), ("a.txt", b"two")]
        with tarfile.open(path, "w") as tar:
            for name, content in members:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    with pytest.raises(DataError, match=r"'a\.txt' comes twice"):
        extract_archive(path, tmp_path / "out", max_bytes=MAX)


@pytest.mark.parametrize("write", WRITERS)
def test_damaged_archives_are_refused_or_unpacked_rightly(
    write: Writer, tmp_path: Path
) -> None:
    path = write(tmp_path / "archive", FILES)
    raw = path.read_bytes()
    rng = np.random.default_rng(0)
    for case in range(150):
        broken = bytearray(raw)
        if case % 3 == 0:
            broken = broken[: rng.integers(len(raw))]
        else:
            broken[rng.integers(len(raw))] ^= 1 << rng.integers(8)
        path.write_bytes(broken)
        out = tmp_path / f"out{case}"
        try:
            found = extract_archive(path, out, max_bytes=MAX)
        except DataError as error:
            assert str(path) in str(error)  # noqa: PT017
            assert not list(out.iterdir())
            continue
        if write is zip_file:  # tar has no checksum of its contents; bzip2 has one
            contents = {file.read_bytes() for file in found}
            assert contents <= set(FILES.values())


def test_what_is_no_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        extract_archive(tmp_path / "none", tmp_path / "out", max_bytes=MAX)
    (tmp_path / "text").write_text("hello")
    with pytest.raises(DataError, match="not an archive that can be read"):
        extract_archive(tmp_path / "text", tmp_path / "out", max_bytes=MAX)
