r"""Rows of numbers that depend on one number, as splines of degree five.

A table of K + 5 rows makes K pieces; piece k, at places from k to k + 1, is

.. math:: w(s) = \sum_{r=0}^{5} B_r(s - k) \, T_{k + r}

with the six uniform B-splines B of degree five that are not zero there, so that four
derivatives are continuous. Outside of all pieces the result is zero.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from torch_cormorant.errors import ConfigError

__all__ = ["DEGREE", "Splines", "spline_rows", "spline_table"]

DEGREE = 5


class Splines(NamedTuple):
    """Weights of edges as functions of one number of each.

    In the place of weights in :func:`~torch_cormorant.ops.weighted_neighbour_sum`,
    which then makes no row of them for all edges.

    Args:
        place: For each edge, or each undirected pair, its place in units of pieces.
        table: Coefficients, as :func:`~torch_cormorant.ops.spline_table` makes them; no
            gradient goes there.

    Shapes:
        ``place`` ``[E]``, ``table`` ``[K + 5, W]``.

    Example:
        >>> import torch
        >>> table = spline_table(lambda s: torch.sin(s / 8).unsqueeze(1), 16)
        >>> Splines(torch.tensor([4.0, 16.5], dtype=torch.float64), table).rows()
        tensor([[0.4794],
                [0.0000]], dtype=torch.float64)
    """

    place: Tensor
    table: Tensor

    def rows(self) -> Tensor:
        """The weights ``[E, W]``, differentiable by ``place`` to any order."""
        return spline_rows(self.place, self.table)


def spline_rows(place: Tensor, table: Tensor) -> Tensor:
    """Values of splines ``[E, W]`` at places ``[E]``."""
    last = table.shape[0] - DEGREE
    inside = (place >= 0) & (place < last)
    k = torch.where(inside, place.detach(), 0.0).long()
    basis = b_splines(torch.where(inside, place - k, 0.0))
    total = place.new_zeros(place.shape[0], table.shape[1])
    for r, b in enumerate(basis):
        part = torch.where(inside, b, 0.0).unsqueeze(1)
        total = total + part * table.index_select(0, k + r)
    return total


def b_splines(t: Tensor) -> list[Tensor]:
    """The six B-splines that are not zero between two knots, by de Boor's recursion.

    Args:
        t: From 0 to 1.
    """
    b = [torch.ones_like(t)]
    for d in range(1, DEGREE + 1):
        up = [(t + d - k) / d * b[k - 1] for k in range(1, d + 1)]
        down = [(k + 1 - t) / d * b[k] for k in range(d)]
        inner = [up[k - 1] + down[k] for k in range(1, d)]
        b = [down[0], *inner, up[-1]]
    return b


def spline_table(function: Callable[[Tensor], Tensor], pieces: int) -> Tensor:
    """Coefficients of the splines through values of a function.

    Args:
        function: Places ``[n]`` in float64, from 0 to ``pieces``, to rows ``[n, W]``.
            It is asked at all knots, and twice between the first and the last two; not
            at 0 itself but a thousandth beside it, where formulas with 1 / r hold.
        pieces: K, at least 4.

    Returns:
        ``[K + 5, W]`` in the type of the rows.

    Raises:
        ConfigError: There are too few pieces.

    Example:
        >>> import torch
        >>> spline_table(lambda s: s.unsqueeze(1) ** 2, 4)[:3, 0]
        tensor([ 3.5000,  0.5000, -0.5000], dtype=torch.float64)
    """
    if pieces < 4:
        raise ConfigError(f"pieces must be at least 4, got {pieces}")
    at = torch.arange(pieces + 1, dtype=torch.float64)
    third = torch.tensor([1 / 3, 2 / 3], dtype=torch.float64)
    at[0] = 1e-3
    at = torch.cat([at[:1], third, at[1:-1], pieces - third.flip(0), at[-1:]])
    # the last point belongs to the last piece, at its end
    k = at.long().clamp_max(pieces - 1)
    matrix = at.new_zeros(len(at), pieces + DEGREE)
    rows = torch.arange(len(at))
    for r, b in enumerate(b_splines(at - k)):
        matrix[rows, k + r] = b
    values = function(at)
    table: Tensor = torch.linalg.solve(matrix, values.double())
    return table.to(values.dtype)
