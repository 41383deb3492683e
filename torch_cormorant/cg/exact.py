r"""Exact Clebsch-Gordan coefficients: computed by Sympy, packed into one small file.

This module stands alone: it needs the standard library, and Sympy only while
coefficients are computed. The build loads it by its path, before the package and its
dependencies are installed, so it must never import another module of the package.

Every coefficient in the Condon-Shortley convention is ``sign * sqrt(p / q)`` with
integers, and is kept as the two integers ``(sign * p, q)``.

The file holds, for every block ``l2 <= l1 <= lmax`` and every l that the triangle rule
allows, the coefficients of ``m1 + m2 = m >= 0`` in the order of ``component_pairs``,
zeros included, so that no index has to be stored. The rest follows from

.. math::
    \langle l_1\,{-m_1}\; l_2\,{-m_2} | l\,{-m} \rangle
    = (-1)^{l_1+l_2-l} \langle l_1 m_1\; l_2 m_2 | l m \rangle
    = \langle l_2 m_2\; l_1 m_1 | l m \rangle .
"""

from __future__ import annotations

import hashlib
import os
import struct
import tempfile
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Highest degree of the tables that are shipped.
MAX_DEGREE = 8
FILE_NAME = "_tables.bin"
MAGIC = b"cormorCG"
VERSION = 1

# magic, version, lmax, bytes of one integer, unused, bytes of the body, sha256 digest
HEADER = struct.Struct("<8sHHHHQ32s")


def blocks(lmax: int) -> Iterator[tuple[int, int, int]]:
    """Yield the blocks (l1, l2, l) of the file in their order, l2 <= l1 only.

    Args:
        lmax: Highest degree of l1, l2 and l.

    Yields:
        Degrees (l1, l2, l) that obey the triangle rule.

    Example:
        >>> list(blocks(1))
        [(0, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1)]
    """
    for l1 in range(lmax + 1):
        for l2 in range(l1 + 1):
            for l in range(l1 - l2, min(l1 + l2, lmax) + 1):
                yield l1, l2, l


def component_pairs(l1: int, l2: int, l: int) -> Iterator[tuple[int, int]]:
    """Yield the stored components (m1, m2) of one block: those with 0 <= m1+m2 <= l.

    Args:
        l1: First degree.
        l2: Second degree.
        l: Degree of the product.

    Yields:
        Pairs (m1, m2), m1 in the outer loop.

    Example:
        >>> list(component_pairs(1, 1, 0))
        [(-1, 1), (0, 0), (1, -1)]
    """
    for m1 in range(-l1, l1 + 1):
        for m2 in range(max(-l2, -m1), min(l2, l - m1) + 1):
            yield m1, m2


def block_size(l1: int, l2: int, l: int) -> int:
    """Count the stored components of one block.

    Args:
        l1: First degree.
        l2: Second degree.
        l: Degree of the product.

    Returns:
        The number of pairs that ``component_pairs`` yields.

    Example:
        >>> block_size(1, 1, 0)
        3
    """
    return sum(
        min(l1, m + l2) - max(-l1, m - l2) + 1
        for m in range(l + 1)
        if min(l1, m + l2) >= max(-l1, m - l2)
    )


@cache
def _ordered_three_j(degrees: tuple[int, ...], orders: tuple[int, ...]) -> Fraction:
    """Return sign * square of one 3j symbol from Sympy."""
    from sympy.physics.wigner import wigner_3j

    value = wigner_3j(*degrees, *orders)
    square = value**2
    if not square.is_Rational:
        msg = f"3j symbol {degrees} {orders} is not the root of a rational: {value}"
        raise ArithmeticError(msg)
    # Sympy writes sqrt(n) * rational: the sign is that of the rational factor.
    sign = -1 if value.could_extract_minus_sign() else 1
    return Fraction(sign * int(square.p), int(square.q))


def three_j(degrees: tuple[int, int, int], orders: tuple[int, int, int]) -> Fraction:
    r"""Return one Wigner 3j symbol as its signed square.

    Only one of up to twelve symbols that are equal up to a sign is computed:
    exchanging two columns or changing the sign of all orders multiplies the symbol by
    :math:`(-1)^{l_1+l_2+l_3}`.

    Args:
        degrees: (l1, l2, l3).
        orders: (m1, m2, m3), which add up to zero.

    Returns:
        sign * square of the symbol.

    Example:
        >>> three_j((1, 1, 0), (1, -1, 0))
        Fraction(1, 3)
    """
    plain = list(zip(degrees, orders, strict=True))
    mirrored = [(l, -m) for l, m in plain]
    chosen = max(plain, mirrored, key=lambda columns: sorted(columns, reverse=True))
    odd = _permutation_is_odd(chosen) != (chosen is mirrored)
    columns = sorted(chosen, reverse=True)
    square = _ordered_three_j(
        tuple(l for l, _ in columns), tuple(m for _, m in columns)
    )
    return -square if odd and sum(degrees) % 2 else square


def _permutation_is_odd(columns: list[tuple[int, int]]) -> bool:
    """Tell whether sorting the columns descending takes an odd number of swaps."""
    pairs = ((0, 1), (0, 2), (1, 2))
    return sum(columns[i] < columns[j] for i, j in pairs) % 2 == 1


def coefficient(l1: int, m1: int, l2: int, m2: int, l: int) -> Fraction:
    r"""Return the signed square of the coefficient <l1 m1 l2 m2 | l m1+m2>.

    .. math::
        \langle l_1 m_1\; l_2 m_2 | l m \rangle = (-1)^{l_1-l_2+m} \sqrt{2l+1}
        \begin{pmatrix} l_1 & l_2 & l \\ m_1 & m_2 & -m \end{pmatrix}

    Args:
        l1: First degree.
        m1: Component of the first degree.
        l2: Second degree.
        m2: Component of the second degree.
        l: Degree of the product.

    Returns:
        sign * p / q, where the coefficient is sign * sqrt(p / q).

    Example:
        >>> coefficient(1, 1, 1, -1, 1)
        Fraction(1, 2)
    """
    m = m1 + m2
    square = (2 * l + 1) * three_j((l1, l2, l), (m1, m2, -m))
    return -square if (l1 - l2 + m) % 2 else square


def pack(lmax: int = MAX_DEGREE) -> bytes:
    """Compute all coefficients up to a degree and pack them with header and digest.

    Args:
        lmax: Highest degree of l1, l2 and l.

    Returns:
        The bytes of the file; the same bytes on every machine.

    Raises:
        ValueError: If lmax is negative.

    Example:
        >>> len(pack(1))
        144
    """
    if lmax < 0:
        msg = f"lmax must be 0 or more, got {lmax}"
        raise ValueError(msg)
    squares = [
        coefficient(l1, m1, l2, m2, l)
        for l1, l2, l in blocks(lmax)
        for m1, m2 in component_pairs(l1, l2, l)
    ]
    numbers = [n for x in squares for n in (x.numerator, x.denominator)]
    bits = max(abs(n).bit_length() for n in numbers) + 1
    width = 4 * -(-bits // 32)
    body = b"".join(n.to_bytes(width, "little", signed=True) for n in numbers)
    return header(lmax, width, body) + body


def header(lmax: int, width: int, body: bytes) -> bytes:
    """Build the header; its digest covers the header's own fields and the body.

    Args:
        lmax: Highest degree.
        width: Bytes of one integer.
        body: The packed integers.

    Returns:
        The header's bytes.

    Example:
        >>> len(header(0, 4, b"")) == HEADER.size
        True
    """
    fields = (MAGIC, VERSION, lmax, width, 0, len(body))
    bare = HEADER.pack(*fields, bytes(32))
    return HEADER.pack(*fields, hashlib.sha256(bare + body).digest())


def write(path: Path, lmax: int = MAX_DEGREE) -> None:
    """Compute the tables and write them in one step: all of the file or none.

    Args:
        path: The file to write or replace.
        lmax: Highest degree.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write(Path(folder) / "tables.bin", lmax=1)
        ...     (Path(folder) / "tables.bin").stat().st_size
        144
    """
    content = pack(lmax)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
