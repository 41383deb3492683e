"""Rounding of exact roots, compared with fractions and with torch's own rounding."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torch_cormorant.cg.rounding import FORMATS, float_format, rounded_sqrt
from torch_cormorant.errors import DtypeError

dtypes = pytest.mark.parametrize("dtype", list(FORMATS), ids=str)
positive = st.integers(min_value=1, max_value=2**70)


def neighbour(value: float, dtype: torch.dtype, towards: float) -> Fraction:
    """Return the next number of the type, as a fraction."""
    start = torch.tensor(value, dtype=dtype)
    step = torch.nextafter(start, torch.tensor(towards, dtype=dtype))
    return Fraction(step.item())


@dtypes
@given(p=positive, q=positive)
def test_root_lies_between_the_midpoints(dtype: torch.dtype, p: int, q: int) -> None:
    p, q = min(p, q), max(p, q)
    value = rounded_sqrt(p, q, float_format(dtype))
    here = Fraction(torch.tensor(value, dtype=dtype).item())
    assert here == Fraction(value), "the value is not a number of the type"
    lower = max((here + neighbour(value, dtype, -1.0)) / 2, Fraction(0))
    upper = (here + neighbour(value, dtype, 2.0)) / 2
    assert lower**2 <= Fraction(p, q) <= upper**2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@given(n=st.integers(min_value=1, max_value=2**40), e=st.integers(-60, 0))
def test_exact_squares_round_as_torch_rounds(
    dtype: torch.dtype, n: int, e: int
) -> None:
    # n / 2^k is exact in float64, and so torch's conversion is one correct rounding.
    value = math.ldexp(n, e - 40)
    square = Fraction(value) ** 2
    ours = rounded_sqrt(square.numerator, square.denominator, float_format(dtype))
    assert ours == torch.tensor(value, dtype=torch.float64).to(dtype).item()


def test_ties_go_to_the_even_neighbour() -> None:
    half = float_format(torch.float16)
    below, above = 2**11 + 1, 2**11 + 3  # both lie midway between two numbers
    assert rounded_sqrt(below**2, 2**24, half) == 2**11 / 2**12
    assert rounded_sqrt(above**2, 2**24, half) == (2**11 + 4) / 2**12


def test_smallest_numbers_round_to_subnormals_and_zero() -> None:
    half = float_format(torch.float16)
    assert rounded_sqrt(1, 2**48, half) == 2.0**-24
    assert rounded_sqrt(1, 2**52, half) == 0.0
    assert rounded_sqrt(0, 1, half) == 0.0


def test_unknown_type_is_refused() -> None:
    with pytest.raises(DtypeError, match=r"int64.*use one of.*float64"):
        float_format(torch.int64)
