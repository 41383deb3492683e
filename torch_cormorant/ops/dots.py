r"""Dot products of SO(3)-vectors along edges.

:math:`d_e^{l,c} = \sum_m F_{i,m,c} F'_{j,m,c}` in the real basis: bilinear, no
conjugate, symmetric in i and j.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torch_cormorant.ops.tensors import accumulate, plain

CHUNK = 1024
"""Edges per step on a CPU, so that a step's buffers stay in the cache."""


def edge_dots(a: Tensor, b: Tensor, index_a: Tensor, index_b: Tensor) -> Tensor:
    """Bilinear dot products of rows of a with rows of b, per degree and channel.

    Eq. (S2) of Anderson et al. 2019, second group of terms.

    Args:
        a: Complex or real features of the targets.
        b: Features of the sources, same dtype, degrees and channels.
        index_a: Row of a for every edge.
        index_b: Row of b for every edge.

    Shapes:
        ``a`` ``[N, M, C]``, ``b`` ``[N', M, C]``, indices ``[E]``; result
        ``[E, lmax + 1, C]``.

    Note:
        Differentiable to any order; works in chunks of edges.
    """
    args = (plain(a), plain(b), index_a, index_b)
    out: Tensor = _Dots.apply(*args)  # type: ignore[no-untyped-call]
    return out


class _Dots(torch.autograd.Function):
    """Forward of the bilinear operation; its gradient is :class:`_Spread`."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, ia: Tensor, ib: Tensor) -> Tensor:
        ctx.save_for_backward(a, b, ia, ib)
        degrees = _degrees(a)
        out = a.new_empty(ia.numel(), len(degrees), a.shape[-1])
        for span in _spans(ia):
            product = a.index_select(0, ia[span])
            product *= b.index_select(0, ib[span])
            for l, part in enumerate(degrees):
                torch.sum(product[:, part], dim=1, out=out[span, l])
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        need = tuple(ctx.needs_input_grad[:2])
        args = (*ctx.saved_tensors, plain(grad), need)
        return (*_Spread.apply(*args), None, None)  # type: ignore[no-untyped-call]


class _Spread(torch.autograd.Function):
    """Gradient of :class:`_Dots`: sums over edges of u times the other operand."""

    @staticmethod
    def forward(
        ctx: Any,
        a: Tensor,
        b: Tensor,
        ia: Tensor,
        ib: Tensor,
        u: Tensor,
        need: tuple[bool, bool],
    ) -> tuple[Tensor | None, Tensor | None]:
        ctx.save_for_backward(a, b, ia, ib, u)
        ctx.set_materialize_grads(False)
        da = torch.zeros_like(a) if need[0] else None
        db = torch.zeros_like(b) if need[1] else None
        for span in _spans(ia):
            rows_a, rows_b = ia[span], ib[span]
            if da is not None:
                accumulate(da, rows_a, _weighted(b, rows_b, u[span]))
            if db is not None:
                accumulate(db, rows_b, _weighted(a, rows_a, u[span]))
        return da, db

    @staticmethod
    def backward(
        ctx: Any, wa: Tensor | None, wb: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        a, b, ia, ib, u = ctx.saved_tensors
        want_a, want_b, _, _, want_u, _ = ctx.needs_input_grad
        da = db = du = None
        if wa is not None:
            if want_u:
                du = edge_dots(wa, b, ia, ib)
            if want_b:
                args = (plain(wa), b, ia, ib, u, (False, True))
                db = _Spread.apply(*args)[1]  # type: ignore[no-untyped-call]
        if wb is not None:
            if want_u:
                more = edge_dots(a, wb, ia, ib)
                du = more if du is None else du + more
            if want_a:
                args = (a, plain(wb), ia, ib, u, (True, False))
                da = _Spread.apply(*args)[0]  # type: ignore[no-untyped-call]
        return da, db, None, None, du, None


def _degrees(x: Tensor) -> list[slice]:
    """Components of each degree of a packed axis."""
    lmax = round(x.shape[1] ** 0.5) - 1
    return [slice(l * l, (l + 1) ** 2) for l in range(lmax + 1)]


def _spans(index: Tensor) -> list[slice]:
    step = CHUNK if index.device.type == "cpu" else max(1, index.numel())
    return [slice(s, s + step) for s in range(0, index.numel(), step)]


def _weighted(x: Tensor, rows: Tensor, u: Tensor) -> Tensor:
    """``conj(x[rows])`` with every degree scaled by ``u``."""
    out = x.index_select(0, rows).conj().resolve_conj()
    for l, part in enumerate(_degrees(x)):
        out[:, part] *= u[:, l, None]
    return out
