"""Reading single frames of extended XYZ, strictly.

The format: number of atoms, a line of ``key=value`` pairs, one line for each atom.
``Lattice`` holds nine numbers (three rows are the vectors), ``Properties`` names the
columns. A plain XYZ file is one without pairs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from torch_cormorant.data.describe import NUMBERS
from torch_cormorant.data.frame_checks import Floats

__all__ = ["ParsedFrame", "numbers_of", "parse_frame", "scan_frames"]

LONGEST_LINE = 1 << 20
_SYMBOL_NAMES = {"species", "symbol", "symbols", "element"}
_NUMBER_NAMES = {"z", "numbers", "atomic_numbers"}
_POSITION_NAMES = {"pos", "positions"}
_RESERVED = ("Properties", "Lattice", "pbc")
_TRUE, _FALSE = {"t", "true", "1"}, {"f", "false", "0"}
# Fortran writes double precision as 1.0D-03.
_FORTRAN = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))[dD]([+-]?\d+)")
_CLOSING = {'"': '"', "'": "'", "{": "}", "[": "]"}


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
    """

    z: NDArray[np.int64]
    pos: Floats
    info: dict[str, str] = field(default_factory=dict)
    arrays: dict[str, Floats] = field(default_factory=dict)
    cell: Floats | None = None
    pbc: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(3, dtype=bool))


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
        try:
            count = int(line)
        except ValueError:
            text = line[:60].decode("ascii", "replace").rstrip()
            raise ValueError(f"expected the number of atoms, found {text!r}") from None
        if count < 1:
            raise ValueError(f"has {count} atoms, expected at least 1")
        comment = stream.readline(LONGEST_LINE)
        for row in range(count):
            line = stream.readline(LONGEST_LINE)
            if not line.strip():
                raise ValueError(
                    f"ends after {row} of {count} atoms; the file is cut off"
                )
            if len(line) == LONGEST_LINE:
                raise ValueError(f"atom {row}: the line is too long")
        yield start, count, b"lattice" in comment.lower()


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
    info = parse_pairs(lines[1].strip() if len(lines) > 1 else "")
    for name in _RESERVED:
        # Some programs write them in small letters. A cell must not get lost.
        for other in [key for key in info if key.lower() == name.lower()]:
            if other != name and name in info:
                raise ValueError(f"{other!r} and {name!r} are both there")
            info[name] = info.pop(other)
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
    return ParsedFrame(z, pos, info, arrays, cell, pbc)


def _columns(properties: str | None) -> list[tuple[str, str, int]]:
    """Name, kind and width of every column."""
    words = (properties or "species:S:1:pos:R:3").split(":")
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
    z: NDArray[np.int64] | None = None
    pos: Floats | None = None
    arrays = {}
    start = 0
    for name, kind, size in columns:
        words = [row[start : start + size] for row in rows]
        start += size
        lower = name.lower()
        if lower in _SYMBOL_NAMES and kind == "S":
            z = np.array([_element(k, row[0]) for k, row in enumerate(words)])
        elif kind in {"R", "I"}:
            values = _table(name, words)
            if lower in _NUMBER_NAMES and kind == "I":
                z = values[:, 0].astype(np.int64)
            elif lower in _POSITION_NAMES:
                pos = values
            else:
                arrays[name] = values
    if z is None or pos is None or pos.shape[1] != 3:
        raise ValueError("'Properties': names no species, or no pos of three columns")
    return z, pos, arrays


def _element(atom: int, word: str) -> int:
    number = NUMBERS.get(word.capitalize())
    if number is None:
        raise ValueError(f"'species': atom {atom}: {word!r} is no element")
    return number


def _number(word: str) -> float:
    """One number, also one that Fortran wrote.

    Raises:
        ValueError: The word is none.
    """
    found = _FORTRAN.fullmatch(word)
    return float(f"{found[1]}e{found[2]}" if found else word)


def _table(name: str, words: list[list[str]]) -> Floats:
    try:
        return np.array(words, dtype=np.float64)
    except ValueError:
        values = np.empty((len(words), len(words[0])))
        for atom, row in enumerate(words):
            for column, word in enumerate(row):
                try:
                    values[atom, column] = _number(word)
                except ValueError:
                    raise ValueError(
                        f"{name!r}: atom {atom}: {word!r} is no number"
                    ) from None
        return values


def numbers_of(text: str, name: str) -> Floats:
    """The numbers of a value, whatever brackets it stands in.

    ASE writes arrays of more than one axis with the word ``_JSON`` before them.

    Raises:
        ValueError: One of the words is no number.
    """
    bare = text.removeprefix("_JSON ")
    words = bare.translate(str.maketrans("[]{}(),", "       ")).split()
    try:
        return np.array([_number(word) for word in words])
    except ValueError:
        raise ValueError(f"{name!r}: {text[:60]!r} holds no numbers") from None


def _truths(text: str) -> NDArray[np.bool_]:
    words = text.translate(str.maketrans("[]{}(),", "       ")).lower().split()
    if len(words) == 1 and len(words[0]) == 3:
        words = list(words[0])
    if len(words) != 3 or any(word not in _TRUE | _FALSE for word in words):
        raise ValueError(f"'pbc': {text!r}, expected three of T and F")
    return np.array([word in _TRUE for word in words])


def parse_pairs(line: str) -> dict[str, str]:
    """The ``key=value`` pairs of a line; a key alone is true.

    A line without any ``=`` is a comment.

    Raises:
        ValueError: A quote or bracket is not closed, or, in extended XYZ, a key has
            two values.
    """
    if "=" not in line:
        return {}
    found: dict[str, str] = {}
    position = 0
    while (position := _skip_spaces(line, position)) < len(line):
        key, position = _word(line, position, stop="=")
        after = _skip_spaces(line, position)
        if after < len(line) and line[after] == "=":
            value, position = _word(line, _skip_spaces(line, after + 1), stop="")
        else:
            value = "T"
        if "Properties" in found and key in found and _differ(found[key], value):
            raise ValueError(f"{key!r} is there twice: {found[key]!r} and {value!r}")
        if key:
            found[key] = value
    return found


def _differ(one: str, other: str) -> bool:
    try:
        return _number(one) != _number(other)
    except ValueError:
        return one != other


def _skip_spaces(line: str, position: int) -> int:
    while position < len(line) and line[position].isspace():
        position += 1
    return position


def _word(line: str, start: int, stop: str) -> tuple[str, int]:
    """One word from ``start`` on, quoted or not, and where it ends."""
    if start >= len(line):
        return "", start
    if line[start] == stop:  # a pair without a key
        return "", start
    close = _CLOSING.get(line[start])
    if close is None:
        return _bare(line, start, stop)
    if close in "\"'":
        return _quoted(line, start, close)
    end = _closed(line, start, close)
    return line[start:end], end


def _bare(line: str, start: int, stop: str) -> tuple[str, int]:
    letters: list[str] = []
    position = start
    while position < len(line):
        letter = line[position]
        if letter.isspace() or letter == stop:
            break
        if letter == "\\" and position + 1 < len(line):  # as ASE reads it
            position += 1
            letter = line[position]
        letters.append(letter)
        position += 1
    return "".join(letters), position


def _quoted(line: str, start: int, close: str) -> tuple[str, int]:
    letters: list[str] = []
    position = start + 1
    while position < len(line):
        letter = line[position]
        if letter == close:
            return "".join(letters), position + 1
        if letter == "\\" and position + 1 < len(line):
            position += 1
            letter = {"n": "\n"}.get(line[position], line[position])
        letters.append(letter)
        position += 1
    raise ValueError(f"a quote is not closed: {line[start : start + 40]!r}")


def _closed(line: str, start: int, close: str) -> int:
    depth = 0
    for position in range(start, len(line)):
        depth += (line[position] == line[start]) - (line[position] == close)
        if depth == 0:
            return position + 1
    raise ValueError(f"a bracket is not closed: {line[start : start + 40]!r}")
