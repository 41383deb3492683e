"""Clebsch-Gordan tables: read from the packed exact file, rounded once per type."""

from __future__ import annotations

import hashlib
import operator
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple, SupportsIndex

import torch
from torch import Tensor

from torch_cormorant.cg import exact
from torch_cormorant.cg.real_basis import Block, real_block
from torch_cormorant.cg.rounding import float_format, rounded_sqrt
from torch_cormorant.errors import ConfigError, DataError, DegreeError

Basis = Literal["real", "complex"]
Parity = Literal["all", "even"]

#: The file that the package reads.
TABLE_PATH = Path(__file__).with_name(exact.FILE_NAME)

_REGENERATE = "python -m torch_cormorant.cg.generate"


class PackedTables(NamedTuple):
    """The verified content of a table file."""

    #: Highest degree.
    lmax: int
    #: Bytes of one integer.
    width: int
    #: The packed integers.
    body: bytes
    #: Byte offset of each block in the body.
    offsets: dict[tuple[int, int, int], int]


def read_tables(path: Path) -> PackedTables:
    """Read a table file and verify its header, length and digest.

    Args:
        path: File written by ``torch_cormorant.cg.generate``.

    Returns:
        The content; coefficients are decoded later, block by block.

    Raises:
        DataError: If the file is missing, damaged or of another version.

    Example:
        >>> read_tables(TABLE_PATH).lmax
        8
    """
    way_out = f"write it anew with `{_REGENERATE}`"
    try:
        content = path.read_bytes()
    except OSError as error:
        msg = f"the Clebsch-Gordan tables {path} cannot be read ({error}); {way_out}"
        raise DataError(msg) from error
    body = content[exact.HEADER.size :]
    if len(content) < exact.HEADER.size or not content.startswith(exact.MAGIC):
        msg = f"{path} is not a file of Clebsch-Gordan tables; {way_out}"
        raise DataError(msg)
    fields = exact.HEADER.unpack_from(content)
    version, lmax, width = fields[1:4]
    if version != exact.VERSION:
        msg = (
            f"the Clebsch-Gordan tables {path} have format {version}, "
            f"this package reads format {exact.VERSION}; {way_out}"
        )
        raise DataError(msg)
    if content[: exact.HEADER.size] != exact.header(lmax, width, body):
        found = hashlib.sha256(content).hexdigest()[:12]
        msg = f"the Clebsch-Gordan tables {path} are damaged ({found}); {way_out}"
        raise DataError(msg)
    offsets, position = {}, 0
    for degrees in exact.blocks(lmax):
        offsets[degrees] = position
        position += 2 * width * exact.block_size(*degrees)
    return PackedTables(lmax, width, body, offsets)


@lru_cache(maxsize=1)
def _tables() -> PackedTables:
    return read_tables(TABLE_PATH)


def max_degree() -> int:
    """Return the highest degree of the tables at hand.

    Returns:
        ``MAX_DEGREE`` for the shipped file, more if it was generated with ``--lmax``.

    Example:
        >>> max_degree()
        8
    """
    return _tables().lmax


def unpack_block(tables: PackedTables, l1: int, l2: int, l: int) -> Block:
    """Decode the nonzero complex coefficients of one block.

    Args:
        tables: Content of a table file.
        l1: First degree.
        l2: Second degree.
        l: Degree of the product; the triangle rule must hold.

    Returns:
        Components (m1, m2, m) to the signed square of the coefficient.

    Example:
        >>> unpack_block(read_tables(TABLE_PATH), 0, 1, 1)[0, -1, -1]
        Fraction(1, 1)
    """
    swapped = l1 < l2
    first, second = max(l1, l2), min(l1, l2)
    mirror = -1 if (l1 + l2 - l) % 2 else 1
    position, width = tables.offsets[first, second, l], tables.width
    block: Block = {}
    for a, b in exact.component_pairs(first, second, l):
        p, q = (
            int.from_bytes(tables.body[start : start + width], "little", signed=True)
            for start in (position, position + width)
        )
        position += 2 * width
        if p == 0:
            continue
        m1, m2 = (b, a) if swapped else (a, b)
        value = Fraction(mirror * p if swapped else p, q)
        block[m1, m2, a + b] = value
        block[-m1, -m2, -a - b] = mirror * value
    return dict(sorted(block.items()))


@lru_cache(maxsize=2048)
def _block(l1: int, l2: int, l: int, basis: str) -> Block:
    block = unpack_block(_tables(), l1, l2, l)
    if basis == "complex":
        return block
    return real_block(block, odd=bool((l1 + l2 + l) % 2))


@lru_cache(maxsize=2048)
def _rounded(
    l1: int, l2: int, l: int, basis: str, dtype: torch.dtype
) -> tuple[tuple[int, float], ...]:
    """Round one block; return flat positions and values of the nonzero entries."""
    target = float_format(dtype)
    entries = []
    for (m1, m2, m), square in _block(l1, l2, l, basis).items():
        value = rounded_sqrt(abs(square.numerator), square.denominator, target)
        position = ((m1 + l1) * (2 * l2 + 1) + m2 + l2) * (2 * l + 1) + m + l
        entries.append((position, -value if square < 0 else value))
    return tuple(entries)


def _degree(name: str, value: SupportsIndex) -> int:
    """Return a degree as an int; refuse what is negative or not a whole number."""
    try:
        degree = operator.index(value)
    except TypeError:
        msg = f"{name} must be a whole number, got {value!r}"
        raise DegreeError(msg) from None
    if degree < 0:
        msg = f"{name} must be 0 or more, got {degree}"
        raise DegreeError(msg)
    return degree


def _checked(l1: int, l2: int, l: int, basis: str) -> tuple[int, int, int]:
    """Check the arguments that all tables share."""
    if basis not in ("real", "complex"):
        msg = f'basis must be "real" or "complex", got {basis!r}'
        raise ConfigError(msg)
    degrees = _degree("l1", l1), _degree("l2", l2), _degree("l", l)
    highest = max_degree()
    if max(degrees) > highest:
        msg = (
            f"(l1, l2, l) = {degrees}: the tables end at degree {highest}; write "
            f"larger ones with `{_REGENERATE} --lmax {max(degrees)}`"
        )
        raise DegreeError(msg)
    if not abs(degrees[0] - degrees[1]) <= degrees[2] <= degrees[0] + degrees[1]:
        msg = (
            f"(l1, l2, l) = {degrees} breaks the triangle rule "
            "|l1 - l2| <= l <= l1 + l2; `paths` lists the allowed degrees"
        )
        raise DegreeError(msg)
    return degrees


def exact_entries(
    l1: int, l2: int, l: int, basis: Basis = "real"
) -> list[tuple[int, int, int, int, int, int]]:
    """List the nonzero entries of one table as exact numbers.

    Args:
        l1: First degree.
        l2: Second degree.
        l: Degree of the product.
        basis: "real", or "complex" for the Condon-Shortley convention.

    Returns:
        Tuples (i1, i2, i, sign, p, q), sorted. Entry [i1, i2, i] of the table is
        sign * sqrt(p / q) with p and q without a common factor.

    Raises:
        DegreeError: If the triangle rule is broken or a degree is out of range.
        ConfigError: If the basis is unknown.

    Example:
        >>> exact_entries(1, 1, 0)
        [(0, 0, 0, -1, 1, 3), (1, 1, 0, -1, 1, 3), (2, 2, 0, -1, 1, 3)]
    """
    l1, l2, l = _checked(l1, l2, l, basis)
    return [
        (m1 + l1, m2 + l2, m + l, sign, abs(x.numerator), x.denominator)
        for (m1, m2, m), x in _block(l1, l2, l, basis).items()
        for sign in (-1 if x < 0 else 1,)
    ]


def clebsch_gordan(
    l1: int,
    l2: int,
    l: int,
    basis: Basis = "real",
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
) -> Tensor:
    r"""Return the Clebsch-Gordan table that couples degrees l1 and l2 to l.

    The complex table is :math:`\langle l_1 m_1\, l_2 m_2 | l m \rangle` in the
    Condon-Shortley convention. With the unitary :math:`U_l` from real to complex
    components and :math:`q = U_l^\dagger C (U_{l_1} \otimes U_{l_2})`, the real table
    is Re(q) for even l1 + l2 + l and Im(q) for odd. Both are orthonormal:
    :math:`\sum_{m_1 m_2} C_{m_1 m_2 m} C_{m_1 m_2 m'} = \delta_{m m'}`. Exchanging l1
    and l2 multiplies both by :math:`(-1)^{l_1+l_2-l}`.

    Args:
        l1: First degree.
        l2: Second degree.
        l: Degree of the product.
        basis: "real" (default), or "complex".
        dtype: float64 (default), float32, float16 or bfloat16.
        device: Where to put the table; default: torch's current default device.

    Shapes:
        Result: [2 l1 + 1, 2 l2 + 1, 2 l + 1], components m = -l..l.

    Returns:
        A new real tensor. Every entry is the exact number, correctly rounded once to
        the type asked for.

    Raises:
        DegreeError: If the triangle rule is broken or a degree is out of range.
        DtypeError: If there is no table of that type.
        ConfigError: If the basis is unknown.
        DataError: If the table file is missing or damaged.

    Example:
        >>> clebsch_gordan(1, 0, 1)[:, 0, :].tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    l1, l2, l = _checked(l1, l2, l, basis)
    shape = (2 * l1 + 1, 2 * l2 + 1, 2 * l + 1)
    # A list, not a cached tensor: a tensor made under fake or inference mode must not
    # outlive it. The values fit the type exactly, so this conversion rounds nothing.
    flat = [0.0] * (shape[0] * shape[1] * shape[2])
    for position, value in _rounded(l1, l2, l, basis, dtype):
        flat[position] = value
    return torch.tensor(flat, dtype=dtype, device=device).reshape(shape)


def paths(
    lmax1: int, lmax2: int, lmax: int, parity: Parity = "all"
) -> tuple[tuple[int, int, int], ...]:
    """List the couplings (l1, l2, l) up to given degrees, l outermost, l2 innermost.

    Args:
        lmax1: Highest degree of the first operand.
        lmax2: Highest degree of the second operand.
        lmax: Highest degree of the product.
        parity: "all" (default), or "even" for l1 + l2 + l even only, the couplings
            that do not change sign when space is mirrored.

    Returns:
        Triples (l1, l2, l) that obey the triangle rule, in the channel order of the
        networks: for every l, l1 outer and l2 inner.

    Raises:
        DegreeError: If a degree is negative or not a whole number.
        ConfigError: If the parity is unknown.

    Example:
        >>> paths(1, 1, 1)
        ((0, 0, 0), (1, 1, 0), (0, 1, 1), (1, 0, 1), (1, 1, 1))
        >>> len(paths(3, 3, 3)), len(paths(3, 3, 3, parity="even"))
        (34, 23)
    """
    if parity not in ("all", "even"):
        msg = f'parity must be "all" or "even", got {parity!r}'
        raise ConfigError(msg)
    step = 2 if parity == "even" else 1
    lmax1, lmax2 = _degree("lmax1", lmax1), _degree("lmax2", lmax2)
    return tuple(
        (l1, l2, l)
        for l in range(_degree("lmax", lmax) + 1)
        for l1 in range(lmax1 + 1)
        for l2 in range(abs(l - l1), min(lmax2, l + l1) + 1, step)
    )
