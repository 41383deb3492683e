"""QM9 in the forms in which it is published: sdf with csv, and an archive of xyz."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from torch_cormorant.data.archives import archive_files
from torch_cormorant.data.references import ATOM_REFERENCES
from torch_cormorant.data.targets import QM9_TARGETS
from torch_cormorant.data.text import decoded, read_text
from torch_cormorant.elements import NUMBERS
from torch_cormorant.errors import DataError

__all__ = ["Molecules", "read_csv", "read_sdf", "read_uncharacterized", "read_xyz_tar"]

#: Properties in the order of QM9's own files, and their units.
COLUMNS: tuple[str, ...] = (
    *("A", "B", "C", "mu", "alpha", "homo", "lumo", "gap", "r2", "zpve"),
    *("u0", "u298", "h298", "g298", "cv"),
    *("u0_atom", "u298_atom", "h298_atom", "g298_atom"),
)
UNITS: tuple[str, ...] = tuple(
    next(t.file_unit for t in QM9_TARGETS.values() if t.column == column)
    for column in COLUMNS
)
_KCAL_PER_HARTREE = 627.509  # the factor behind QM9's own atomisation energies
# The whole archive unpacks to about 130 MB in 133,885 files.
_XYZ_BYTES = 1 << 30
_LONGEST_XYZ = 1 << 20
_LIST_HEADER = 9  # lines above the first row, as PyG counts them


class Molecules:
    """Molecules that are being read, one after the other.

    Args:
        source: The file, for messages.
    """

    def __init__(self, source: Path) -> None:
        self.source = source
        self.names: list[str] = []
        self.smiles: list[str] = []
        self.sizes: list[int] = []
        self.symbols: list[str] = []
        self.numbers: list[float] = []
        self.values: list[list[float]] = []

    def fail(self, name: str, problem: str) -> DataError:
        """An error about one molecule, to be raised by the caller."""
        return DataError(f"{self.source}: molecule {name!r}: {problem}")

    def add(self, name: str, symbols: list[str], numbers: list[float]) -> None:
        """Append a molecule.

        Raises:
            DataError: It has no atoms, an unknown element or a bad coordinate.
        """
        if not symbols:
            raise self.fail(name, "has no atoms")
        for symbol in symbols:
            if symbol not in NUMBERS:
                raise self.fail(name, f"{symbol!r} is no element")
        if not np.isfinite(numbers).all():
            raise self.fail(name, "a coordinate is not finite")
        self.names.append(name)
        self.sizes.append(len(symbols))
        self.symbols += symbols
        self.numbers += numbers

    @property
    def index(self) -> NDArray[np.int64]:
        """QM9's own numbers."""
        return np.array([number_of(self.source, name) for name in self.names])

    @property
    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """The molecules as flat arrays."""
        return {
            "index": self.index,
            "offset": np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int64),
            "z": np.array([NUMBERS[symbol] for symbol in self.symbols], dtype=np.uint8),
            "pos": np.array(self.numbers, dtype=np.float64).reshape(-1, 3),
        }


def number_of(source: Path, name: str) -> int:
    """QM9's number of a molecule named such as ``gdb_17``.

    Raises:
        DataError: The name is another one.
    """
    digits = name.removeprefix("gdb").lstrip(" _\t")
    if not (digits.isascii() and digits.isdigit()):
        raise DataError(f"{source}: molecule {name!r}: expected a name such as gdb_17")
    return int(digits)


def read_sdf(path: Path) -> Molecules:
    """Elements and positions of an sdf file (V2000), to its four decimals.

    Bonds and charges are passed over. No chemistry package is needed.

    Args:
        path: The file, such as QM9's ``gdb9.sdf``.

    Returns:
        The molecules in the order of the file.

    Raises:
        DataError: The file is missing or an entry is not understood; it is named.
    """
    molecules = Molecules(path)
    lines = read_text(path).split("\n")
    start = 0
    while start < len(lines) and any(lines[start : start + 4]):
        start = _read_block(molecules, lines, start)
    if not molecules.names:
        raise DataError(f"{path}: holds no molecule")
    seen: set[str] = set()
    for name in molecules.names:
        if name in seen:
            raise molecules.fail(name, "comes twice")
        seen.add(name)
    return molecules


def _read_block(molecules: Molecules, lines: list[str], start: int) -> int:
    """Read one entry; returns where the next one starts."""
    name = lines[start].strip()
    header = lines[start + 3] if start + 3 < len(lines) else ""
    try:
        count, bonds = int(header[:3]), int(header[3:6])
    except ValueError:
        count, bonds = -1, -1
    if not header.rstrip().endswith("V2000") or count < 0 or bonds < 0:
        raise molecules.fail(
            name, f"line {start + 4}: expected a V2000 line of counts, found {header!r}"
        )
    first = start + 4
    symbols, numbers = [], []
    for row in range(first, first + count):
        line = lines[row] if row < len(lines) else ""
        try:
            numbers += [float(line[:10]), float(line[10:20]), float(line[20:30])]
        except ValueError:
            raise molecules.fail(
                name,
                f"line {row + 1}: expected an atom ({row - first + 1} of {count}), "
                f"found {line!r}",
            ) from None
        symbols.append(line[31:34].strip())
    molecules.add(name, symbols, numbers)
    return _end_of_block(molecules, lines, first + count, bonds)


def _end_of_block(molecules: Molecules, lines: list[str], row: int, bonds: int) -> int:
    """Pass over bonds, properties and data items of the last molecule."""
    name = molecules.names[-1]
    row += bonds
    while row < len(lines) and lines[row].startswith("M  ") and lines[row] != "M  END":
        row += 1
    if row >= len(lines) or lines[row] != "M  END":
        raise molecules.fail(
            name,
            f"line {row + 1}: expected M  END after {bonds} bonds; the entry is "
            "damaged or cut off",
        )
    while row < len(lines) and lines[row] != "$$$$":
        if lines[row].endswith("V2000"):
            raise molecules.fail(name, f"line {row + 1}: another entry before $$$$")
        row += 1
    if row == len(lines):
        raise molecules.fail(name, "the entry is not closed by $$$$")
    return row + 1


def read_csv(path: Path) -> tuple[list[str], NDArray[np.float64]]:
    """Names and properties of QM9's table ``gdb9.sdf.csv``.

    Args:
        path: The file.

    Returns:
        The names, and the properties ``[n, 19]`` in the order of ``COLUMNS``.

    Raises:
        DataError: The file is missing or a row is not understood; it is named.
    """
    lines = read_text(path).split("\n")
    header = ("mol_id", *COLUMNS)
    if tuple(lines[0].split(",")) != header:
        raise DataError(f"{path}: line 1: expected the columns {','.join(header)}")
    if lines[-1] != "":
        raise DataError(f"{path}: the last line has no end; the file is cut off")
    names, values = [], []
    for number, line in enumerate(lines[1:-1], start=2):
        fields = line.split(",")
        if len(fields) != len(header):
            raise DataError(
                f"{path}: line {number}: molecule {fields[0]!r}: {len(fields)} fields, "
                f"expected {len(header)}"
            )
        names.append(fields[0])
        values.append(_floats(path, fields[0], fields[1:]))
    if not names:
        raise DataError(f"{path}: holds no molecule")
    return names, np.array(values)


def _floats(path: Path, name: str, fields: Sequence[str]) -> list[float]:
    numbers = []
    for column, field in zip(COLUMNS, fields, strict=False):
        try:
            number = float(field.replace("*^", "e"))
        except ValueError:
            number = np.nan
        if not np.isfinite(number):
            raise DataError(
                f"{path}: molecule {name!r}: {column!r}: {field!r} is no finite number"
            )
        numbers.append(number)
    return numbers


def read_uncharacterized(path: Path) -> set[int]:
    """Numbers of the molecules that failed QM9's own consistency check.

    Nine lines of heading and what stands below the last row are passed over, as PyG
    does. Where the line below the rows tells how many there are, they are counted.

    Args:
        path: QM9's ``uncharacterized.txt``.

    Returns:
        QM9's numbers.

    Raises:
        DataError: The file is missing, a line is not understood, or there are more or
            fewer rows than the file says; file and line are named.
    """
    text = read_text(path)
    lines = text.rstrip().split("\n")
    if len(lines) <= _LIST_HEADER:
        raise DataError(f"{path}: has only {len(lines)} lines; the file is cut off")
    rows = lines[_LIST_HEADER:]
    # Below the rows stands a line of another kind, or an empty one.
    above = sum(any(letter.isalnum() for letter in row) for row in rows[:-1])
    if not (text.endswith("\n\n") and _is_row(rows[-1], above)):
        footer = rows.pop()
        if rows and not any(letter.isalnum() for letter in rows[-1]):
            rows.pop()  # a rule above it
        _check_footer(path, footer, len(rows))
    found = set()
    for number, line in enumerate(rows, _LIST_HEADER + 1):
        words = line.split()
        if not words or not words[0].isdecimal():
            raise DataError(
                f"{path}: line {number}: expected a molecule's number, found {line!r}"
            )
        found.add(int(words[0]))
    return found


def _is_row(line: str, above: int) -> bool:
    """Whether a line names a molecule and is no count of the rows above it."""
    words = line.split()
    return bool(words) and words[0].isdecimal() and int(words[0]) != above


def _check_footer(path: Path, footer: str, rows: int) -> None:
    """Compare the number in the last line, if there is one, with the rows.

    Raises:
        DataError: They differ, or the last line is a row.
    """
    counts = re.findall(r"(?<![\w.-])\d+(?![\w.-])", footer)
    if _is_row(footer, rows) or (counts and rows not in map(int, counts)):
        raise DataError(
            f"{path}: the last line is {footer!r}, but {rows} molecules are listed "
            "above it; the file is cut off or damaged"
        )


def read_xyz_tar(path: Path) -> Molecules:
    """Molecules and properties from QM9's own archive ``dsgdb9nsd.xyz.tar.bz2``.

    Positions keep all printed decimals. Numbers such as ``1.2*^-6`` are read as what
    they mean. Atomisation energies, which the archive does not have, are computed as
    QM9 does, with 627.509 kcal/mol per Hartree.

    Args:
        path: The archive.

    Returns:
        The molecules in QM9's order, with ``values`` in the order of ``COLUMNS``.

    Raises:
        DataError: The archive is missing, damaged or does harm, or an entry is not
            understood; it is named.
    """
    entries = sorted(_xyz_entries(path))
    molecules = Molecules(path)
    for number, name, text in entries:
        _read_xyz(molecules, f"gdb_{number}", name, text)
    if not entries:
        raise DataError(f"{path}: holds no molecule")
    numbers = [number for number, _, _ in entries]
    if len(set(numbers)) < len(numbers):
        raise DataError(f"{path}: a molecule comes twice")
    return molecules


def _xyz_entries(path: Path) -> Iterator[tuple[int, str, str]]:
    for name, stream in archive_files(path, max_bytes=_XYZ_BYTES):
        if not name.endswith(".xyz"):
            continue
        try:
            text = decoded(stream.read(_LONGEST_XYZ))
        except DataError:
            raise
        except Exception as error:  # of the decompressor, or not plain text
            raise DataError(f"{path}: {name!r} cannot be read ({error})") from error
        second = [*text.split("\n", 2), ""][1]
        tag = " ".join(second.split()[:2])
        yield number_of(path, tag), name, text


def _read_xyz(molecules: Molecules, name: str, file: str, text: str) -> None:
    lines = text.split("\n")
    count = int(lines[0]) if lines[0].strip().isdigit() else 0
    if count < 1 or len(lines) < count + 5:
        raise molecules.fail(
            name, f"{file}: {len(lines)} lines do not hold {lines[0]!r} atoms"
        )
    symbols, numbers = [], []
    for line in lines[2 : 2 + count]:
        words = line.replace("*^", "e").split()
        try:
            symbols.append(words[0])
            numbers += [float(word) for word in words[1:4]]
        except (IndexError, ValueError):
            raise molecules.fail(name, f"{file}: atom {line!r}") from None
        if len(words) != 5:
            raise molecules.fail(name, f"{file}: atom {line!r} has no five fields")
    molecules.add(name, symbols, numbers)
    fields = lines[1].split()[2:]
    if len(fields) != 15:
        raise molecules.fail(name, f"{file}: {len(fields)} properties, expected 15")
    values = _floats(molecules.source, name, fields)
    for column, key in zip(range(10, 14), ("u0", "u298", "h298", "g298"), strict=True):
        known = ATOM_REFERENCES[key]
        try:
            atoms = sum(known[NUMBERS[symbol]] for symbol in symbols)
        except KeyError:
            raise molecules.fail(name, "has an element that QM9 does not") from None
        values.append((values[column] - atoms) * _KCAL_PER_HARTREE)
    molecules.values.append(values)
    relaxed = lines[3 + count].split()
    molecules.smiles.append(relaxed[-1] if relaxed else "")
