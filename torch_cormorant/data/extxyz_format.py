"""Reading single frames of extended XYZ, strictly.

The format: number of atoms, a line of ``key=value`` pairs, one line for each atom.
``Lattice`` holds nine numbers (three rows are the vectors), ``Properties`` names the
columns. A plain XYZ file is one without pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from torch_cormorant.data.extxyz_pairs import number_of, parse_pairs
from torch_cormorant.data.frame_arrays import Floats
from torch_cormorant.data.text import BYTE_ORDER_MARK, decoded
from torch_cormorant.elements import NUMBERS

__all__ = ["ParsedFrame", "numbers_of", "parse_frame", "scan_frames"]

LONGEST_LINE = 1 << 20
_SYMBOL_NAMES = {"species", "symbol", "symbols", "element"}
_NUMBER_NAMES = {"z", "numbers", "atomic_numbers"}
_POSITION_NAMES = {"pos", "positions"}
#: In small letters: columns that say which atoms there are and where.
STRUCTURE_NAMES = _SYMBOL_NAMES | _NUMBER_NAMES | _POSITION_NAMES
#: ASE and others write matrices of these names column by column, as the Lattice.
COLUMN_BY_COLUMN = {"stress", "virial"}
_RESERVED = ("Properties", "Lattice", "pbc")
_TRUE, _FALSE = {"t", "true", "1"}, {"f", "false", "0"}


@dataclass
class ParsedFrame:
    """What one frame says.

    Args:
        z: Atomic numbers ``[N]``.
        pos: Positions ``[N, 3]``.
        info: Values per frame, as text; arrays of numbers are put into words.
        arrays: Values per atom ``[N, k]``.
        cell: Rows are the vectors ``[3, 3]``, or ``None``.
        pbc: Periodic directions ``[3]``.
        twice: What a comment says again with another value.
    """

    z: NDArray[np.int64]
    pos: Floats
    info: dict[str, str] = field(default_factory=dict)
    arrays: dict[str, Floats] = field(default_factory=dict)
    cell: Floats | None = None
    pbc: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(3, dtype=bool))
    twice: dict[str, str] = field(default_factory=dict)

    def check_once(self, key: str) -> None:
        """Refuse a name that says two things.

        Raises:
            ValueError: It does.
        """
        if key in self.twice:
            raise ValueError(
                f"{key!r} is there twice: {self.info[key]!r} and {self.twice[key]!r}"
            )
        if key in self.info and key in self.arrays:
            raise ValueError(f"{key!r} is there twice, for the frame and for its atoms")


def scan_frames(stream: BinaryIO) -> Iterator[tuple[int, int, bool]]:
    """Find the frames of a file without reading what they hold.

    Args:
        stream: The file, at its start.

    Yields:
        Where each frame begins (bytes), its number of atoms and whether its second
        line speaks of a cell. At last, where the last frame ends, 0 and ``False``.

    Raises:
        ValueError: The message says what is wrong with the frame that comes next.
    """
    while True:
        start = stream.tell()
        line = stream.readline(LONGEST_LINE)
        if not line.strip():
            if stream.read(LONGEST_LINE).strip():
                raise ValueError("an empty line where the number of atoms should be")
            yield start, 0, False
            return
        count = _count(line)
        comment = stream.readline(LONGEST_LINE)
        if len(comment) == LONGEST_LINE:
            raise ValueError("the second line is too long")
        for row in range(count):
            line = stream.readline(LONGEST_LINE)
            if not line.strip():
                raise ValueError(
                    f"ends after {row} of {count} atoms; the file is cut off"
                )
            if len(line) == LONGEST_LINE:
                raise ValueError(f"atom {row}: the line is too long")
        yield start, count, b"lattice" in comment.lower()


def _count(line: bytes) -> int:
    """The number of atoms in the first line of a frame."""
    try:
        count = int(line.removeprefix(BYTE_ORDER_MARK))
    except ValueError:
        decoded(line)  # says so if the file is in another encoding
        if b"\r" in line.strip():
            raise ValueError(
                "its lines end in carriage returns alone; save it with line feeds"
            ) from None
        text = line[:60].decode("ascii", "replace").rstrip()
        raise ValueError(f"expected the number of atoms, found {text!r}") from None
    if count < 1:
        raise ValueError(f"has {count} atoms, expected at least 1")
    return count


def parse_frame(text: str) -> ParsedFrame:
    """Read one frame.

    Args:
        text: Its lines.

    Returns:
        The frame.

    Raises:
        ValueError: The message says what is wrong, without the name of the file.
    """
    lines = text.rstrip("\n").split("\n")
    count = int(lines[0])
    info, twice = parse_pairs(lines[1] if len(lines) > 1 else "")
    _restore_reserved(info)
    if len(lines) != count + 2:
        raise ValueError(f"has {len(lines) - 2} lines for {count} atoms")
    columns = _columns(info.pop("Properties", None))
    rows = [line.split() for line in lines[2:]]
    width = sum(size for _, _, size in columns)
    # Without Properties, further columns may follow the four that are known.
    strict = len(columns) > 2 or "Lattice" in info or bool(info)
    for number, row in enumerate(rows):
        if len(row) < width or (strict and len(row) > width):
            raise ValueError(f"atom {number}: {len(row)} fields, expected {width}")
    z, pos, arrays = _fields(rows, columns)
    cell = None
    if "Lattice" in info:
        cell = numbers_of(info.pop("Lattice"), "Lattice")
        if cell.shape != (9,):
            raise ValueError(f"'Lattice': {len(cell)} numbers, expected 9")
        cell = cell.reshape(3, 3)
    pbc = np.full(3, cell is not None)
    if "pbc" in info:
        pbc = _truths(info.pop("pbc"))
    return ParsedFrame(z, pos, info, arrays, cell, pbc, twice)


def _restore_reserved(info: dict[str, str]) -> None:
    """Some programs write these names in small letters; a cell must not get lost.

    Raises:
        ValueError: One of them is there in two ways.
    """
    for name in _RESERVED:
        for other in [key for key in info if key.lower() == name.lower()]:
            if other == name or not _may_be(name, info[other]):
                continue  # a word of the user, such as lattice=fcc
            if name in info:
                raise ValueError(f"{other!r} and {name!r} are both there")
            info[name] = info.pop(other)


def _may_be(name: str, value: str) -> bool:
    if name == "Properties":
        return ":" in value
    try:
        values = _truths(value) if name == "pbc" else numbers_of(value, name)
    except ValueError:
        return False
    return name == "pbc" or len(values) > 1


def _columns(properties: str | None) -> list[tuple[str, str, int]]:
    """Name, kind and width of every column."""
    usual = "species:S:1:pos:R:3"
    words = (usual if properties is None else properties).split(":")
    columns = []
    for name, kind, size in zip(words[::3], words[1::3], words[2::3], strict=False):
        if kind not in {"S", "R", "I", "L"} or not size.isdigit() or not int(size):
            raise ValueError(f"'Properties': {name}:{kind}:{size} is not understood")
        columns.append((name, kind, int(size)))
    if len(words) % 3 or len({name for name, _, _ in columns}) < len(columns):
        raise ValueError(f"'Properties': {properties!r} is not understood")
    return columns


def _fields(
    rows: list[list[str]], columns: list[tuple[str, str, int]]
) -> tuple[NDArray[np.int64], Floats, dict[str, Floats]]:
    """Elements, positions and all other columns of numbers.

    Raises:
        ValueError: There are none, or two columns contradict each other.
    """
    known: dict[str, tuple[str, NDArray[Any]]] = {}  # and the name of the column

    def keep(what: str, name: str, values: NDArray[Any]) -> None:
        other, held = known.setdefault(what, (name, values))
        if held.shape != values.shape or (held != values).any():
            raise ValueError(f"columns {other!r} and {name!r} contradict each other")

    arrays = {}
    start = 0
    for name, kind, size in columns:
        words = [row[start : start + size] for row in rows]
        start += size
        lower = name.lower()
        if lower in _SYMBOL_NAMES and kind == "S":
            # Of several, the first one names the elements; others may be labels.
            if "z" not in known or all(row[0].capitalize() in NUMBERS for row in words):
                keep("z", name, np.array([_element(*row) for row in enumerate(words)]))
        elif kind in {"R", "I"}:
            values = _table(name, words)
            if lower in _NUMBER_NAMES and kind == "I" and size == 1:
                keep("z", name, values[:, 0].astype(np.int64))
            elif lower in _POSITION_NAMES:
                keep("pos", name, values)
            else:
                arrays[name] = values
    if "z" not in known or "pos" not in known or known["pos"][1].shape[1] != 3:
        raise ValueError("'Properties': names no species, or no pos of three columns")
    return known["z"][1], known["pos"][1], arrays


def _element(atom: int, words: list[str]) -> int:
    word = " ".join(words)
    number = NUMBERS.get(word.capitalize())
    if number is None:
        raise ValueError(f"'species': atom {atom}: {word!r} is no element")
    return number


def _table(name: str, words: list[list[str]]) -> Floats:
    try:
        return np.array(words, dtype=np.float64)
    except ValueError:
        values = np.empty((len(words), len(words[0])))
        for atom, row in enumerate(words):
            for column, word in enumerate(row):
                try:
                    values[atom, column] = number_of(word)
                except ValueError:
                    raise ValueError(
                        f"{name!r}: atom {atom}: {word!r} is no number"
                    ) from None
        return values


def _bare_words(text: str) -> list[str]:
    """The words of a value, whatever brackets it stands in."""
    return text.translate(str.maketrans("[]{}(),", "       ")).split()


def numbers_of(text: str, name: str) -> Floats:
    """The numbers of a value.

    ASE writes arrays of more than one axis with the word ``_JSON`` before them.

    Raises:
        ValueError: One of the words is no number.
    """
    words = _bare_words(text.removeprefix("_JSON "))
    try:
        return np.array([number_of(word) for word in words])
    except ValueError:
        raise ValueError(f"{name!r}: {text[:60]!r} holds no numbers") from None


def _truths(text: str) -> NDArray[np.bool_]:
    words = _bare_words(text.lower())
    if len(words) == 1 and len(words[0]) == 3:
        words = list(words[0])
    if len(words) != 3 or any(word not in _TRUE | _FALSE for word in words):
        raise ValueError(f"'pbc': {text!r}, expected three of T and F")
    return np.array([word in _TRUE for word in words])
