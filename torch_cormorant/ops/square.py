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

from torch_cormorant.errors import ConfigError, ShapeError
from torch_cormorant.ops import cpu_kernel
from torch_cormorant.ops.dispatch import chosen, use_kernel
from torch_cormorant.ops.operands import (
    FEATURE_AXES,
    check_product,
    check_rank,
    check_results,
)
from torch_cormorant.ops.operator import Operator
from torch_cormorant.ops.paths import PathTable, table_of
from torch_cormorant.ops.portable import shapes
from torch_cormorant.ops.precision import exact
from torch_cormorant.ops.tensors import plain, plus, real_view

CHUNK_NODES = 128
"""Nodes per step on a CPU, so that a step's buffers stay in the cache."""


def folded_square(
    x: Tensor, table: PathTable, backend: str = "auto"
) -> tuple[Tensor, ...]:
    """The independent paths of the channelwise CG product of x with itself.

    Args:
        x: Complex or real features ``[N, M, C]``.
        table: A folded table with ``lmax1 == lmax2``.
        backend: ``"portable"``, ``"cpu_kernel"`` or ``"auto"`` (default).

    Returns:
        For each degree l one tensor ``[N, 2l + 1, number of folded paths, C]``.

    Raises:
        ShapeError, DtypeError: If x does not fit the table.
        ConfigError: If the table is not one of a square.

    Note:
        Deterministic; differentiable to any order; memory beyond inputs and outputs
        is bounded by the chunk size.

    Example:
        >>> import torch
        >>> from torch_cormorant.ops import PathTable, folded_square
        >>> table = PathTable(1, 1, 1, folded=True)
        >>> [tuple(part.shape) for part in folded_square(torch.randn(5, 4, 8), table)]
        [(5, 1, 2, 8), (5, 3, 1, 8)]
    """
    if not table.folded or table.lmax1 != table.lmax2:
        msg = f"the table must be folded, with lmax1 == lmax2, got {table}"
        raise ConfigError(msg)
    x = plain(check_rank("x", x, FEATURE_AXES))
    return tuple(_square(x, x, table.key, chosen(backend)))


def _run_square(x: Tensor, y: Tensor, key: Sequence[int], backend: str) -> list[Tensor]:
    """Bilinear product of x and y, node by node, on the paths of a table."""
    x, y, table = plain(x), plain(y), table_of(key)
    check_product(x, y, table)
    if use_kernel(backend, x, table):
        return cpu_kernel.square(x, y, table)
    outs = [x.new_empty(shape) for shape in shapes(x.shape[0], table, x.shape[-1])]
    reals = [real_view(out) for out in outs]
    for nodes in _spans(x):
        _product(x[nodes], y[nodes], table, [real[nodes] for real in reals])
    return outs


def _run_gradient(
    x: Tensor, y: Tensor, key: Sequence[int], backend: str, grads: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Gradients with respect to both operands."""
    x, y, table = plain(x), plain(y), table_of(key)
    grads = [plain(grad) for grad in grads]
    check_product(x, y, table)
    check_results(grads, x.shape[0], table, x)
    if use_kernel(backend, x, table):
        return cpu_kernel.square_gradient(x, y, table, grads)
    dx, dy = torch.zeros_like(x), torch.zeros_like(y)
    for nodes in _spans(x):
        part = [grad[nodes] for grad in grads]
        _spread(x[nodes], y[nodes], table, part, dx[nodes], dy[nodes])
    return dx, dy


def _fake_square(
    x: Tensor,
    y: Tensor,  # noqa: ARG001
    key: Sequence[int],
    backend: str,  # noqa: ARG001
) -> list[Tensor]:
    table = table_of(key)
    return [x.new_empty(shape) for shape in shapes(x.shape[0], table, x.shape[-1])]


def _fake_gradient(
    x: Tensor,
    y: Tensor,
    key: Sequence[int],  # noqa: ARG001
    backend: str,  # noqa: ARG001
    grads: Sequence[Tensor],  # noqa: ARG001
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), y.new_empty(y.shape)


def _keep_square(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:  # noqa: ARG001
    ctx.save_for_backward(*inputs[:2])
    ctx.key, ctx.backend = inputs[2:]
    ctx.set_materialize_grads(False)


def _square_backward(ctx: Any, grads: list[Tensor | None]) -> tuple[Any, ...]:
    x, y = ctx.saved_tensors
    needed = shapes(x.shape[0], table_of(ctx.key), x.shape[-1])
    full = [
        x.new_zeros(shape) if grad is None else plain(grad)
        for grad, shape in zip(grads, needed, strict=True)
    ]
    return (*_gradient(x, y, ctx.key, ctx.backend, full), None, None)


def _keep_gradient(ctx: Any, inputs: tuple[Any, ...], output: object) -> None:  # noqa: ARG001
    ctx.save_for_backward(*inputs[:2], *inputs[4])
    ctx.key, ctx.backend = inputs[2:4]
    ctx.set_materialize_grads(False)


def _gradient_backward(
    ctx: Any, wx: Tensor | None, wy: Tensor | None
) -> tuple[Any, ...]:
    """Gradient of the gradient, in the same two operators.

    With Q(x, y, d) = <d, product(x, y)> and cotangents (wx, wy), the scalar to
    differentiate is Q(wx, y, d) + Q(x, wy, d).
    """
    x, y, *grads = ctx.saved_tensors
    dx = dy = None
    dgrads: list[Tensor | None] = [None] * len(grads)
    for side, w in enumerate((wx, wy)):
        if w is None:
            continue
        pair = (x, plain(w)) if side else (plain(w), y)
        sides = _gradient(*pair, ctx.key, ctx.backend, grads)
        if side:
            dx = sides[0]
        else:
            dy = sides[1]
        sums = _square(*pair, ctx.key, ctx.backend)
        dgrads = [plus(old, new) for old, new in zip(dgrads, sums, strict=True)]
    return dx, dy, None, None, dgrads


_square = Operator(
    "node_product",
    "(Tensor x, Tensor y, int[] key, str backend) -> Tensor[]",
    run=_run_square,
    fake=_fake_square,
    keep=_keep_square,
    backward=_square_backward,
    operands=(0, 1),
)
_gradient = Operator(
    "node_product_backward",
    "(Tensor x, Tensor y, int[] key, str backend, Tensor[] grads) -> (Tensor, Tensor)",
    run=_run_gradient,
    fake=_fake_gradient,
    keep=_keep_gradient,
    backward=_gradient_backward,
    operands=(0, 1, 4),
    own=(0, 1),
)


def _spans(x: Tensor) -> Iterator[slice]:
    step = CHUNK_NODES if x.device.type == "cpu" else max(1, x.shape[0])
    for start in range(0, x.shape[0], step):
        yield slice(start, start + step)


@exact
def _product(x: Tensor, y: Tensor, table: PathTable, reals: Sequence[Tensor]) -> None:
    """Fill the real views of the outputs of a few nodes."""
    for block in table.blocks:
        first = x[:, block.l1**2 : (block.l1 + 1) ** 2, None]
        second = y[:, None, block.l2**2 : (block.l2 + 1) ** 2]
        product = real_view((first * second).flatten(1, 2))
        rows = torch.matmul(table.matrix(block, product), product)
        for l, position, row in block.places:
            reals[l][:, :, position] = rows[:, row : row + 2 * l + 1]


@exact
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

    Raises:
        ShapeError: If the weight has not as many columns as the full table says.
    """
    count = sum(path[2] == l for path in full.paths) * channels
    if weight.ndim < 1 or weight.shape[-1] != count:
        msg = (
            f"weight must have {count} columns, {channels} channels for each path to "
            f"degree {l}, got shape {list(weight.shape)}"
        )
        raise ShapeError(msg)
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
