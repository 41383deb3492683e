r"""The Clebsch-Gordan square of every node, independent paths only.

:math:`(F \otimes F)^{(l_2,l_1)} = (-1)^{l_1+l_2-l} (F \otimes F)^{(l_1,l_2)}`, and the
path (l, l) to an odd degree vanishes: of 34 paths at lmax 3 only 18 differ.
:func:`fold_columns` moves the weights of the repeated paths onto those.
"""

from __future__ import annotations

import torch
from torch import Tensor

from torch_cormorant.ops.paths import PathTable


def folded_square(x: Tensor, table: PathTable) -> tuple[Tensor, ...]:
    """The independent paths of the channelwise CG product of x with itself.

    Args:
        x: Complex or real features ``[N, M, C]``.
        table: A folded table with ``lmax1 == lmax2``.

    Returns:
        For each degree l one tensor ``[N, 2l + 1, number of folded paths, C]``.
    """
    parts: list[list[Tensor]] = [[] for _ in table.counts]
    for block in table.blocks:
        first = x[:, block.l1**2 : (block.l1 + 1) ** 2, None]
        second = x[:, None, block.l2**2 : (block.l2 + 1) ** 2]
        product = _real((first * second).flatten(1, 2))
        rows = torch.matmul(table.matrix(block, product), product)
        for l, _, row in block.places:
            parts[l].append(rows[:, row : row + 2 * l + 1])
    return tuple(
        _complex(torch.stack(part, dim=2), x) if part else _none(x, l)
        for l, part in enumerate(parts)
    )


def _real(x: Tensor) -> Tensor:
    return torch.view_as_real(x).flatten(-2) if x.is_complex() else x


def _complex(x: Tensor, like: Tensor) -> Tensor:
    if like.is_complex():
        return torch.view_as_complex(x.view(*x.shape[:-1], x.shape[-1] // 2, 2))
    return x


def _none(x: Tensor, l: int) -> Tensor:
    return x.new_zeros(x.shape[0], 2 * l + 1, 0, x.shape[-1])


def fold_columns(
    weight: Tensor, full: PathTable, folded: PathTable, l: int, channels: int
) -> Tensor:
    """Sum weight columns of equal paths of a square.

    Args:
        weight: ``[..., number of paths of degree l * channels]``, blocks in the order
            of the full table.
        full: The table with all paths.
        folded: The same table, folded.
        l: The degree.
        channels: Channels per path.

    Returns:
        ``[..., number of folded paths of degree l * channels]``.
    """
    paths = [p for p in full.paths if p[2] == l]
    columns = []
    for l1, l2, _ in (p for p in folded.paths if p[2] == l):
        k = paths.index((l1, l2, l))
        column = weight[..., k * channels : (k + 1) * channels]
        if l1 != l2:
            k = paths.index((l2, l1, l))
            other = weight[..., k * channels : (k + 1) * channels]
            column = column - other if (l1 + l2 - l) % 2 else column + other
        columns.append(column)
    return torch.cat(columns, dim=-1) if columns else weight[..., :0]
