r"""Dot products of SO(3)-vectors along edges.

:math:`d_e^{l,c} = \sum_m F_{i,m,c} F'_{j,m,c}` in the real basis: bilinear, no
conjugate, symmetric in i and j.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from torch_cormorant.ops import cpu_kernel
from torch_cormorant.ops.dispatch import chosen, use_kernel
from torch_cormorant.ops.operands import (
    FEATURE_AXES,
    check_dots,
    check_rank,
    check_rows,
    check_spread,
)
from torch_cormorant.ops.operator import Operator
from torch_cormorant.ops.tensors import accumulate, fakes, plain, plus

CHUNK = 1024
"""Edges per step on a CPU, so that a step's buffers stay in the cache."""


def edge_dots(
    a: Tensor, b: Tensor, index_a: Tensor, index_b: Tensor, backend: str = "auto"
) -> Tensor:
    """Bilinear dot products of rows of a with rows of b, per degree and channel.

    Eq. (S2) of Anderson et al. 2019, second group of terms.

    Args:
        a: Complex or real features of the targets.
        b: Features of the sources, same dtype, degrees and channels.
        index_a: Row of a for every edge.
        index_b: Row of b for every edge.
        backend: ``"portable"``, ``"cpu_kernel"`` or ``"auto"`` (default).

    Shapes:
        ``a`` ``[N, M, C]``, ``b`` ``[N', M, C]``, indices ``[E]``; result
        ``[E, lmax + 1, C]``.

    Raises:
        ShapeError, DtypeError, DeviceError: If a tensor does not fit the others.
        EdgeIndexError: If an index names a row that does not exist.

    Note:
        Differentiable to any order; works in chunks of edges.

    Example:
        >>> import torch
        >>> from torch_cormorant.ops import edge_dots
        >>> x, index = torch.randn(3, 4, 8), torch.tensor([[0, 1], [1, 2]])
        >>> tuple(edge_dots(x, x, index[1], index[0]).shape)
        (2, 2, 8)
    """
    check_rank("a", a, FEATURE_AXES)
    check_rank("b", b, FEATURE_AXES)
    check_rank("index_a", index_a, ("edges",))
    check_rank("index_b", index_b, ("edges",))
    args = (plain(a), plain(b), plain(index_a), plain(index_b), chosen(backend))
    out: Tensor = _dots(*args)
    return out


def _run_dots(a: Tensor, b: Tensor, ia: Tensor, ib: Tensor, backend: str) -> Tensor:
    a, b, ia, ib = plain(a), plain(b), plain(ia), plain(ib)
    check_dots(a, b, ia, ib)
    if use_kernel(backend, a, None) and _lmax(a) <= cpu_kernel.MAX_LMAX:
        return cpu_kernel.dots(a, b, ia, ib)
    check_rows("index_a", ia, a.shape[0])
    check_rows("index_b", ib, b.shape[0])
    degrees = _degrees(a)
    out = a.new_empty(ia.numel(), len(degrees), a.shape[-1])
    for span in _spans(ia):
        product = a.index_select(0, ia[span])
        product *= b.index_select(0, ib[span])
        for l, part in enumerate(degrees):
            torch.sum(product[:, part], dim=1, out=out[span, l])
    return out


def _run_spread(
    a: Tensor,
    b: Tensor,
    ia: Tensor,
    ib: Tensor,
    u: Tensor,
    need: Sequence[bool],
    backend: str,
) -> list[Tensor]:
    """Sums over edges of u times the other operand; empty where not needed."""
    a, b, ia, ib, u = plain(a), plain(b), plain(ia), plain(ib), plain(u)
    check_spread(a, b, ia, ib, u, need)
    da: Tensor | None
    db: Tensor | None
    if use_kernel(backend, a, None) and _lmax(a) <= cpu_kernel.MAX_LMAX:
        da, db = cpu_kernel.dots_gradient(a, b, ia, ib, u, (need[0], need[1]))
    else:
        check_rows("index_a", ia, a.shape[0])
        check_rows("index_b", ib, b.shape[0])
        da = torch.zeros_like(a) if need[0] else None
        db = torch.zeros_like(b) if need[1] else None
        for span in _spans(ia):
            rows_a, rows_b = ia[span], ib[span]
            if da is not None:
                accumulate(da, rows_a, _weighted(b, rows_b, u[span]))
            if db is not None:
                accumulate(db, rows_b, _weighted(a, rows_a, u[span]))
    return [a.new_empty(0) if d is None else d for d in (da, db)]


def _fake_dots(a: Tensor, b: Tensor, ia: Tensor, ib: Tensor, backend: str) -> Tensor:  # noqa: ARG001
    return a.new_empty(ia.shape[0], _lmax(a) + 1, a.shape[-1])


def _fake_spread(
    a: Tensor,
    b: Tensor,
    ia: Tensor,  # noqa: ARG001
    ib: Tensor,  # noqa: ARG001
    u: Tensor,  # noqa: ARG001
    need: Sequence[bool],
    backend: str,  # noqa: ARG001
) -> list[Tensor]:
    return fakes((a, b), need)


def _keep_dots(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001
    ctx.save_for_backward(*inputs[:4])
    ctx.backend = inputs[4]


def _dots_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    need = list(ctx.needs_input_grad[:2])
    parts = _spread(*ctx.saved_tensors, plain(grad), need, ctx.backend)
    given = [part if wanted else None for part, wanted in zip(parts, need, strict=True)]
    return (*given, None, None, None)


def _keep_spread(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:  # noqa: ARG001
    ctx.save_for_backward(*inputs[:5])
    ctx.need, ctx.backend = inputs[5:]
    ctx.set_materialize_grads(False)


def _spread_backward(ctx: Any, cotangents: list[Tensor | None]) -> tuple[Any, ...]:
    """Gradient of <wa, da> + <wb, db>: the same two operations."""
    a, b, ia, ib, u = ctx.saved_tensors
    want_a, want_b, _, _, want_u, *_ = ctx.needs_input_grad
    wa, wb = (
        plain(w) if w is not None and needed else None
        for w, needed in zip(cotangents, ctx.need, strict=True)
    )
    da = db = du = None
    if wa is not None and want_u:
        du = _dots(wa, b, ia, ib, ctx.backend)
    if wa is not None and want_b:
        db = _spread(wa, b, ia, ib, u, [False, True], ctx.backend)[1]
    if wb is not None and want_u:
        du = plus(du, _dots(a, wb, ia, ib, ctx.backend))
    if wb is not None and want_a:
        da = _spread(a, wb, ia, ib, u, [True, False], ctx.backend)[0]
    return da, db, None, None, du, None, None


_dots = Operator(
    "edge_dots",
    "(Tensor a, Tensor b, Tensor ia, Tensor ib, str backend) -> Tensor",
    run=_run_dots,
    fake=_fake_dots,
    keep=_keep_dots,
    backward=_dots_backward,
    operands=(0, 1),
)
_spread = Operator(
    "edge_dots_backward",
    "(Tensor a, Tensor b, Tensor ia, Tensor ib, Tensor u, bool[] need, "
    "str backend) -> Tensor[]",
    run=_run_spread,
    fake=_fake_spread,
    keep=_keep_spread,
    backward=_spread_backward,
    operands=(0, 1, 4),
    own=(0, 1),
)


def _lmax(x: Tensor) -> int:
    return math.isqrt(x.shape[1]) - 1


def _degrees(x: Tensor) -> list[slice]:
    """Components of each degree of a packed axis."""
    return [slice(l * l, (l + 1) ** 2) for l in range(_lmax(x) + 1)]


def _spans(index: Tensor) -> list[slice]:
    step = CHUNK if index.device.type == "cpu" else max(1, index.numel())
    return [slice(s, s + step) for s in range(0, index.numel(), step)]


def _weighted(x: Tensor, rows: Tensor, u: Tensor) -> Tensor:
    """``conj(x[rows])`` with every degree scaled by ``u``."""
    out = x.index_select(0, rows).conj().resolve_conj()
    for l, part in enumerate(_degrees(x)):
        out[:, part] *= u[:, l, None]
    return out
