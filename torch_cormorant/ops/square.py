r"""The Clebsch-Gordan square of every node, independent paths only.

:math:`(F \otimes F)^{(l_2,l_1)} = (-1)^{l_1+l_2-l} (F \otimes F)^{(l_1,l_2)}`, and the
path (l, l) to an odd degree vanishes: of 34 paths at lmax 3 only 18 differ.
:func:`fold_columns` moves the weights of the repeated paths onto those.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from torch_cormorant.ops.paths import PathTable
from torch_cormorant.ops.tensors import plain, real_view

CHUNK_NODES = 128
"""Nodes per step on a CPU, so that a step's buffers stay in the cache."""


def folded_square(x: Tensor, table: PathTable) -> tuple[Tensor, ...]:
    """The independent paths of the channelwise CG product of x with itself.

    Args:
        x: Complex or real features ``[N, M, C]``.
        table: A folded table with ``lmax1 == lmax2``.

    Returns:
        For each degree l one tensor ``[N, 2l + 1, number of folded paths, C]``.

    Note:
        Deterministic; differentiable to any order; memory beyond inputs and outputs
        is bounded by the chunk size.
    """
    x = plain(x)
    out: tuple[Tensor, ...] = _Product.apply(x, x, table)  # type: ignore[no-untyped-call]
    return out


class _Product(torch.autograd.Function):
    """Bilinear product of x and y on the paths of a table."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, table: PathTable) -> tuple[Tensor, ...]:
        ctx.save_for_backward(x, y)
        ctx.table = table
        ctx.set_materialize_grads(False)
        outs = [
            x.new_empty(x.shape[0], 2 * l + 1, count, x.shape[-1])
            for l, count in enumerate(table.counts)
        ]
        reals = [real_view(out) for out in outs]
        for nodes in _spans(x):
            _product(x[nodes], y[nodes], table, [real[nodes] for real in reals])
        return tuple(outs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        x, y = ctx.saved_tensors
        full = [
            x.new_zeros(x.shape[0], 2 * l + 1, count, x.shape[-1])
            if grad is None
            else plain(grad)
            for (l, count), grad in zip(enumerate(ctx.table.counts), grads, strict=True)
        ]
        args = (x, y, ctx.table, *full)
        return (*_Gradient.apply(*args), None)  # type: ignore[no-untyped-call]


class _Gradient(torch.autograd.Function):
    """Gradient of :class:`_Product`; closed under differentiation.

    With Q(x, y, d) = <d, product(x, y)> and cotangents (wx, wy), the scalar to
    differentiate is Q(wx, y, d) + Q(x, wy, d).
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, y: Tensor, table: PathTable, *grads: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, y, *grads)
        ctx.table = table
        ctx.set_materialize_grads(False)
        dx, dy = torch.zeros_like(x), torch.zeros_like(y)
        for nodes in _spans(x):
            part = [grad[nodes] for grad in grads]
            _spread(x[nodes], y[nodes], table, part, dx[nodes], dy[nodes])
        return dx, dy

    @staticmethod
    def backward(
        ctx: Any, wx: Tensor | None, wy: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        x, y, *grads = ctx.saved_tensors
        table, dx, dy = ctx.table, None, None
        dgrads: list[Tensor | None] = [None] * len(grads)
        for first, second in ((wx, y), (x, wy)):
            if first is None or second is None:
                continue
            args = (plain(first), plain(second), table)
            sides = _Gradient.apply(*args, *grads)  # type: ignore[no-untyped-call]
            if first is wx:
                dy = sides[1]
            else:
                dx = sides[0]
            sums = _Product.apply(*args)  # type: ignore[no-untyped-call]
            dgrads = [
                new if old is None else old + new
                for old, new in zip(dgrads, sums, strict=True)
            ]
        return (dx, dy, None, *dgrads)


def _spans(x: Tensor) -> Iterator[slice]:
    step = CHUNK_NODES if x.device.type == "cpu" else max(1, x.shape[0])
    for start in range(0, x.shape[0], step):
        yield slice(start, start + step)


def _product(x: Tensor, y: Tensor, table: PathTable, reals: Sequence[Tensor]) -> None:
    """Fill the real views of the outputs of a few nodes."""
    for block in table.blocks:
        first = x[:, block.l1**2 : (block.l1 + 1) ** 2, None]
        second = y[:, None, block.l2**2 : (block.l2 + 1) ** 2]
        product = real_view((first * second).flatten(1, 2))
        rows = torch.matmul(table.matrix(block, product), product)
        for l, position, row in block.places:
            reals[l][:, :, position] = rows[:, row : row + 2 * l + 1]


def _spread(
    x: Tensor,
    y: Tensor,
    table: PathTable,
    grads: Sequence[Tensor],
    dx: Tensor,
    dy: Tensor,
) -> None:
    """Add the gradients with respect to both operands for a few nodes."""
    reals = [real_view(grad) for grad in grads]
    x_conj, y_conj = x.conj().resolve_conj(), y.conj().resolve_conj()
    for block in table.blocks:
        one = slice(block.l1**2, (block.l1 + 1) ** 2)
        two = slice(block.l2**2, (block.l2 + 1) ** 2)
        parts = [reals[l][:, :, position] for l, position, _ in block.places]
        rows = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        spread = torch.matmul(table.matrix(block, rows).t(), rows)
        shape = (x.shape[0], 2 * block.l1 + 1, 2 * block.l2 + 1, x.shape[-1])
        both = _complex(spread, x).view(shape)
        dx[:, one] += (both * y_conj[:, None, two]).sum(2)
        dy[:, two] += (both * x_conj[:, one, None]).sum(1)


def _complex(x: Tensor, like: Tensor) -> Tensor:
    if like.is_complex():
        return torch.view_as_complex(x.view(*x.shape[:-1], x.shape[-1] // 2, 2))
    return x


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
