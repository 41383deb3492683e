"""Numbers of embedded files as whole steps of 1e-5, three bytes each.

The upper byte hardly varies, so that it is packed to a few bits; the lower two are
noise. Files are half as large as with float32, and a decimal number that is read is the
nearest float64.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torch_cormorant.data.arrays import NpzFile
from torch_cormorant.errors import DataError

__all__ = ["in_steps", "part_names", "with_values"]

_STEPS = 100_000  # of the unit
_LOW = 1 << 16
_LARGEST = 83  # an int8 times _LOW steps


def part_names(name: str) -> tuple[str, str]:
    """What the upper and the lower part of an array are called in the file."""
    return f"{name}_high", f"{name}_low"


def in_steps(name: str, values: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """Both parts of an array, rounded to whole steps; the first axis becomes the last.

    Args:
        name: The array.
        values: Its values ``[F, ...]``, below 83 in size.

    Returns:
        By name: ``[..., F]`` int8 and uint16.

    Raises:
        DataError: A value is too large for three bytes, or not finite.
    """
    largest = float(np.abs(values).max(initial=0.0))
    if not largest < _LARGEST:
        raise DataError(
            f"array {name!r}: values up to {largest:g}, below {_LARGEST} fit"
        )
    steps = np.moveaxis(np.rint(values * _STEPS).astype(np.int64), 0, -1)
    parts = (steps // _LOW).astype(np.int8), (steps % _LOW).astype(np.uint16)
    return dict(zip(part_names(name), parts, strict=True))


def with_values(file: NpzFile, *names: str) -> NpzFile:
    """The same file with the arrays of those names in place of their parts.

    Args:
        file: Holds both parts of each.
        names: The arrays.

    Returns:
        Arrays ``[F, ...]`` float64 of these names, the others as they were.

    Raises:
        DataError: A part is not of numbers.
    """
    arrays = dict(file.arrays)
    for name in names:
        high, low = map(file.reals, part_names(name))
        arrays[name] = np.moveaxis((high * _LOW + low) / _STEPS, -1, 0)
    return replace(file, arrays=arrays)
