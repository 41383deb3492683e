"""One way of reading text: byte order marks, line ends, encodings, sizes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from torch_cormorant.data.qm9_raw import read_csv, read_sdf, read_uncharacterized
from torch_cormorant.data.text import read_text
from torch_cormorant.errors import DataError


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_marks_and_line_ends_are_no_part_of_the_text(
    tmp_path: Path, ends: str, mark: bytes
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(mark + f"Å{ends}b{ends}".encode())
    assert read_text(path) == "Å\nb\n"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("smiles\n".encode("utf-16"), "is text in UTF-16; save it as UTF-8"),
        ("smiles\n".encode("utf-32"), "is text in UTF-32; save it as UTF-8"),
        (b"caf\xe9\n", "byte 3 is no text in UTF-8"),
        (b"\xef\xbb\xbfcaf\xe9\n", "byte 6 is no text in UTF-8"),
        (b"x" * 11, "more than 10 bytes"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, raw: bytes, message: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(raw)
    with pytest.raises(DataError, match=rf"a\.txt: {message}"):
        read_text(path, limit=10 if raw[0] == ord("x") else 100)
    with pytest.raises(DataError, match="no such file"):
        read_text(tmp_path / "none")


@pytest.mark.parametrize("name", ["sdf", "csv", "list"])
def test_files_of_qm9_may_begin_with_a_mark(
    tmp_path: Path, samples: SimpleNamespace, name: str
) -> None:
    text: str = {
        "sdf": samples.sdf_text,
        "csv": samples.csv_text,
        "list": lambda: samples.list_text(1, 17),
    }[name]()
    readers: dict[str, Callable[[Path], object]] = {
        "sdf": lambda path: [one.pos for one in read_sdf(path)],
        "csv": lambda path: read_csv(path)[1],
        "list": read_uncharacterized,
    }
    found = []
    for raw in (text.encode(), b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()):
        (tmp_path / "a").write_bytes(raw)
        found.append(readers[name](tmp_path / "a"))
    assert found[0] == found[1]


ROWS = ["heading"] * 9 + ["     1 C#N", "    17 CC", "    21 O"]


@pytest.mark.parametrize("footer", [["-----"], ["---", "3 compounds"], ["# 3"]])
@pytest.mark.parametrize("end", ["", "\n", "\n\n", "\r\n"])
def test_no_failed_molecule_is_lost_with_the_last_line_end(
    tmp_path: Path, footer: list[str], end: str
) -> None:
    path = tmp_path / "uncharacterized.txt"
    path.write_text("\n".join([*ROWS, *footer]) + end, newline="")
    assert read_uncharacterized(path) == {1, 17, 21}


def test_an_empty_line_ends_the_list_too(tmp_path: Path) -> None:
    path = tmp_path / "uncharacterized.txt"
    path.write_text("\n".join([*ROWS, "", ""]))
    assert read_uncharacterized(path) == {1, 17, 21}


@pytest.mark.parametrize(
    "lines", [ROWS, [*ROWS, "2 compounds"], [*ROWS[:-1], "total: 3"]]
)
def test_the_number_in_the_last_line_is_that_of_the_rows(
    tmp_path: Path, lines: list[str]
) -> None:
    path = tmp_path / "uncharacterized.txt"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match="are listed above it; the file is cut off"):
        read_uncharacterized(path)
