"""QM9 in the forms in which it is published: sdf with csv, and an archive of xyz."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from torch_cormorant.data.archives import archive_files
from torch_cormorant.data.targets import ATOM_REFERENCES, QM9_TARGETS
from torch_cormorant.data.text import decoded, read_text
from torch_cormorant.elements import NUMBERS
from torch_cormorant.errors import DataError

__all__ = [
    "RawMolecule",
    "read_csv",
    "read_sdf",
    "read_uncharacterized",
    "read_xyz_tar",
]

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


@dataclass
class RawMolecule:
    """One molecule as it was read.

    Args:
        source: The file, for messages.
        name: Its name, such as ``gdb_17``.
        z: Atomic numbers.
        pos: Coordinates, one after the other.
        values: Properties in the order of ``COLUMNS``.
        smiles: SMILES, where the file has them.
    """

    source: Path
    name: str
    z: list[int] = field(default_factory=list)
    pos: list[float] = field(default_factory=list)
    values: Sequence[float] = ()
    smiles: str = ""

    def fail(self, problem: str) -> DataError:
        """An error about this molecule, to be raised by the caller."""
        return DataError(f"{self.source}: molecule {self.name!r}: {problem}")

    def set_atoms(self, symbols: Sequence[str], numbers: list[float]) -> None:
        """Take over the atoms.

        Raises:
            DataError: There are none, an unknown element or a bad coordinate.
        """
        if not symbols:
            raise self.fail("has no atoms")
        for symbol in symbols:
            if symbol not in NUMBERS:
                raise self.fail(f"{symbol!r} is no element")
        if not np.isfinite(numbers).all():
            raise self.fail("a coordinate is not finite")
        self.z, self.pos = [NUMBERS[symbol] for symbol in symbols], numbers

    @property
    def index(self) -> int:
        """QM9's own number.

        Raises:
            DataError: The name is no name such as ``gdb_17``.
        """
        digits = self.name.removeprefix("gdb").lstrip(" _\t")
        if not (digits.isascii() and digits.isdigit()):
            raise self.fail("expected a name such as gdb_17")
        return int(digits)


def read_sdf(path: Path) -> list[RawMolecule]:
    """Elements and positions of an sdf file (V2000), to its four decimals.

    Bonds and charges are passed over. No chemistry package is needed.

    Args:
        path: The file, such as QM9's ``gdb9.sdf``.

    Returns:
        The molecules in the order of the file.

    Raises:
        DataError: The file is missing or an entry is not understood; it is named.
    """
    molecules: list[RawMolecule] = []
    lines = read_text(path).split("\n")
    start = 0
    while start < len(lines) and any(lines[start : start + 4]):
        molecules.append(RawMolecule(path, lines[start].strip()))
        start = _read_block(molecules[-1], lines, start)
    if not molecules:
        raise DataError(f"{path}: holds no molecule")
    seen: set[str] = set()
    for molecule in molecules:
        if molecule.name in seen:
            raise molecule.fail("comes twice")
        seen.add(molecule.name)
    return molecules


def _read_block(molecule: RawMolecule, lines: list[str], start: int) -> int:
    """Read one entry; returns where the next one starts."""
    header = lines[start + 3] if start + 3 < len(lines) else ""
    try:
        count, bonds = int(header[:3]), int(header[3:6])
    except ValueError:
        count, bonds = -1, -1
    if not header.rstrip().endswith("V2000") or count < 0 or bonds < 0:
        raise molecule.fail(
            f"line {start + 4}: expected a V2000 line of counts, found {header!r}"
        )
    first = start + 4
    symbols, numbers = [], []
    for row in range(first, first + count):
        line = lines[row] if row < len(lines) else ""
        try:
            numbers += [float(line[:10]), float(line[10:20]), float(line[20:30])]
        except ValueError:
            raise molecule.fail(
                f"line {row + 1}: expected an atom ({row - first + 1} of {count}), "
                f"found {line!r}"
            ) from None
        symbols.append(line[31:34].strip())
    molecule.set_atoms(symbols, numbers)
    # Bonds, properties and data items are passed over.
    row = first + count + bonds
    while row < len(lines) and lines[row].startswith("M  ") and lines[row] != "M  END":
        row += 1
    if row >= len(lines) or lines[row] != "M  END":
        raise molecule.fail(
            f"line {row + 1}: expected M  END after {bonds} bonds; the entry is "
            "damaged or cut off"
        )
    while row < len(lines) and lines[row] != "$$$$":
        if lines[row].endswith("V2000"):
            raise molecule.fail(f"line {row + 1}: another entry before $$$$")
        row += 1
    if row == len(lines):
        raise molecule.fail("the entry is not closed by $$$$")
    return row + 1


def read_csv(path: Path) -> tuple[list[str], list[list[float]]]:
    """Names and properties of QM9's table ``gdb9.sdf.csv``.

    Args:
        path: The file.

    Returns:
        The names, and the properties of each in the order of ``COLUMNS``.

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
    return names, values


def _floats(path: Path, name: str, fields: Sequence[str]) -> list[float]:
    numbers = []
    for column, text in zip(COLUMNS, fields, strict=False):
        try:
            number = float(text.replace("*^", "e"))
        except ValueError:
            number = np.nan
        if not np.isfinite(number):
            raise DataError(
                f"{path}: molecule {name!r}: {column!r}: {text!r} is no finite number"
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


def read_xyz_tar(path: Path) -> list[RawMolecule]:
    """Molecules and properties from QM9's own archive ``dsgdb9nsd.xyz.tar.bz2``.

    Positions keep all printed decimals. Numbers such as ``1.2*^-6`` are read as what
    they mean. Atomisation energies, which the archive does not have, are computed as
    QM9 does, with 627.509 kcal/mol per Hartree.

    Args:
        path: The archive.

    Returns:
        The molecules in QM9's order, with ``values``.

    Raises:
        DataError: The archive is missing, damaged or does harm, or an entry is not
            understood; it is named.
    """
    molecules: dict[int, RawMolecule] = {}
    for file, stream in archive_files(path, max_bytes=_XYZ_BYTES):
        if not file.endswith(".xyz"):
            continue
        try:
            lines = decoded(stream.read(_LONGEST_XYZ)).split("\n")
        except DataError:
            raise
        except Exception as error:  # of the decompressor, or not plain text
            raise DataError(f"{path}: {file!r} cannot be read ({error})") from error
        tag = " ".join([*lines, ""][1].split()[:2])
        number = RawMolecule(path, tag).index
        if number in molecules:
            raise DataError(f"{path}: a molecule comes twice")
        molecules[number] = RawMolecule(path, f"gdb_{number}")
        _read_xyz(molecules[number], file, lines)
    if not molecules:
        raise DataError(f"{path}: holds no molecule")
    return [molecules[number] for number in sorted(molecules)]


def _read_xyz(molecule: RawMolecule, file: str, lines: list[str]) -> None:
    count = int(lines[0]) if lines[0].strip().isdigit() else 0
    if count < 1 or len(lines) < count + 5:
        raise molecule.fail(
            f"{file}: {len(lines)} lines do not hold {lines[0]!r} atoms"
        )
    symbols, numbers = [], []
    for line in lines[2 : 2 + count]:
        words = line.replace("*^", "e").split()
        try:
            symbols.append(words[0])
            numbers += [float(word) for word in words[1:4]]
        except (IndexError, ValueError):
            raise molecule.fail(f"{file}: atom {line!r}") from None
        if len(words) != 5:
            raise molecule.fail(f"{file}: atom {line!r} has no five fields")
    molecule.set_atoms(symbols, numbers)
    fields = lines[1].split()[2:]
    if len(fields) != 15:
        raise molecule.fail(f"{file}: {len(fields)} properties, expected 15")
    values = _floats(molecule.source, molecule.name, fields)
    for column, key in zip(range(10, 14), ("u0", "u298", "h298", "g298"), strict=True):
        try:
            atoms = sum(ATOM_REFERENCES[key][z] for z in molecule.z)
        except KeyError:
            raise molecule.fail("has an element that QM9 does not") from None
        values.append((values[column] - atoms) * _KCAL_PER_HARTREE)
    molecule.values = values
    molecule.smiles = next(reversed(lines[3 + count].split()), "")
