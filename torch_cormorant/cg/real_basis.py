r"""Exact change of one Clebsch-Gordan block to the real basis.

With real harmonics :math:`S_{lk}` and :math:`\Upsilon_l = U_l S_l`, the unitary
:math:`U_l` has, for :math:`m > 0`,

.. math::
    U_{m,m} = \frac{(-1)^m}{\sqrt 2},\quad U_{m,-m} = \frac{-i(-1)^m}{\sqrt 2},\quad
    U_{-m,m} = \frac{1}{\sqrt 2},\quad U_{-m,-m} = \frac{i}{\sqrt 2},\quad U_{0,0} = 1.

The block :math:`q = U_l^\dagger C (U_{l_1} \otimes U_{l_2})` is real for even
:math:`l_1+l_2+l` and purely imaginary for odd; the real table is Re(q) or Im(q).
"""

from __future__ import annotations

from fractions import Fraction
from typing import TypeAlias

#: One block: components (m1, m2, m), or (k1, k2, k), to the signed square of the entry.
Block: TypeAlias = dict[tuple[int, int, int], Fraction]

# A power of the imaginary unit: the entry of U_l without its 1/sqrt(2).
_Rows: TypeAlias = tuple[tuple[int, int], ...]


def _rows_of_u(m: int) -> _Rows:
    """Return the columns k in which row m of U is not zero, with the power of i."""
    if m == 0:
        return ((0, 0),)
    if m > 0:
        sign = 2 * (m % 2)
        return ((m, sign), (-m, sign + 3))
    return ((-m, 0), (m, 1))


def real_block(complex_block: Block, *, odd: bool) -> Block:
    """Change one block from the Condon-Shortley to the real basis, exactly.

    At most two complex coefficients meet in one real entry, and they are equal up to
    the sign; their phases add up to 0, or to a whole number times one power of i, so
    every real entry is again sign * sqrt(p / q).

    Args:
        complex_block: Signed squares of the nonzero complex coefficients.
        odd: Whether l1 + l2 + l is odd.

    Returns:
        Signed squares of the nonzero real entries.

    Raises:
        ArithmeticError: If an entry is not of the form sign * sqrt(p / q).

    Example:
        >>> real_block({(0, 0, 0): Fraction(1)}, odd=False)
        {(0, 0, 0): Fraction(1, 1)}
    """
    phases: dict[tuple[int, int, int], list[int]] = {}
    squares: Block = {}
    for (m1, m2, m), value in complex_block.items():
        # Each factor with m != 0 brings one 1/sqrt(2).
        square = abs(value) / 2 ** sum(order != 0 for order in (m1, m2, m))
        flip = 2 if value < 0 else 0
        for k1, power1 in _rows_of_u(m1):
            for k2, power2 in _rows_of_u(m2):
                for k, power in _rows_of_u(m):
                    key = (k1, k2, k)
                    if squares.setdefault(key, square) != square:
                        msg = f"terms of different size meet in the real entry {key}"
                        raise ArithmeticError(msg)
                    # U_l enters by its conjugate, hence minus.
                    count = phases.setdefault(key, [0, 0, 0, 0])
                    count[(power1 + power2 - power + flip) % 4] += 1
    return {
        key: term
        for key in sorted(squares)
        if (term := _entry(key, phases[key], squares[key], odd=odd))
    }


def _entry(
    key: tuple[int, int, int], count: list[int], square: Fraction, *, odd: bool
) -> Fraction:
    """Add equal terms with the given phases; return the signed square of the sum."""
    real, imaginary = count[0] - count[2], count[1] - count[3]
    kept, other = (imaginary, real) if odd else (real, imaginary)
    if other:
        msg = f"the real entry {key} has a part that should vanish"
        raise ArithmeticError(msg)
    return square * kept * abs(kept)
