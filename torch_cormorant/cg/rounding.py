"""Correct rounding of exact square roots to any floating-point type."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from torch_cormorant.errors import DtypeError


class FloatFormat(NamedTuple):
    """A binary floating-point format."""

    #: Bits of the significand, the hidden one included.
    precision: int
    #: Exponent of the smallest positive number.
    lowest: int


FORMATS = {
    torch.float64: FloatFormat(53, -1074),
    torch.float32: FloatFormat(24, -149),
    torch.float16: FloatFormat(11, -24),
    torch.bfloat16: FloatFormat(8, -133),
}


def float_format(dtype: torch.dtype) -> FloatFormat:
    """Return the format of a tensor type.

    Args:
        dtype: float64, float32, float16 or bfloat16.

    Returns:
        Its precision and lowest exponent.

    Raises:
        DtypeError: If the type is another one.

    Example:
        >>> float_format(torch.float32).precision
        24
    """
    try:
        return FORMATS[dtype]
    except KeyError:
        names = ", ".join(str(known) for known in FORMATS)
        msg = f"dtype {dtype} has no Clebsch-Gordan table; use one of {names}"
        raise DtypeError(msg) from None


def rounded_sqrt(p: int, q: int, target: FloatFormat) -> float:
    """Round sqrt(p / q) to the nearest number of a format, ties to even.

    Integers only: ``math.isqrt`` of a scaled fraction gives more bits than the format
    holds and tells whether any were cut off, so there is one rounding and no other.

    Args:
        p: Numerator, 0 or more.
        q: Denominator, 1 or more.
        target: The format to round to.

    Returns:
        The rounded number; a Python float holds it without a second rounding.

    Example:
        >>> rounded_sqrt(1, 2, FORMATS[torch.float64]) == 0.5**0.5
        True
        >>> rounded_sqrt(1, 2, FORMATS[torch.bfloat16])
        0.70703125
    """
    if p == 0:
        return 0.0
    # 2^(magnitude-1) < p/q < 2^(magnitude+1): scale to two or more spare bits.
    magnitude = p.bit_length() - q.bit_length()
    scale = max(target.precision + 2 - (magnitude - 1) // 2, 0)
    root = math.isqrt((p << 2 * scale) // q)
    exact = root * root * q == p << 2 * scale
    exponent = max(root.bit_length() - scale - target.precision, target.lowest)
    cut = exponent + scale
    kept, rest, half = root >> cut, root & ((1 << cut) - 1), 1 << (cut - 1)
    if rest > half or (rest == half and (not exact or kept % 2)):
        kept += 1
    return math.ldexp(kept, exponent)
