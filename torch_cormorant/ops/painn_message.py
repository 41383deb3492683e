r"""The message of PaiNN as one operator for CPUs.

:math:`\phi(s_j)` on nodes and the rows of W for every pair are matrix products of
PyTorch; the sum is a kernel, as is its gradient, in which rows of W have none that is
stored: for some pairs at a time it is multiplied by the last layer at once.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import silu

from torch_cormorant.errors import EdgeIndexError
from torch_cormorant.irreps import Irreps
from torch_cormorant.ops import cpu_kernel
from torch_cormorant.ops.cpu_kernel import address
from torch_cormorant.ops.dense import dense
from torch_cormorant.ops.keeping import KeepingOperator, Some, silu_slope, two_layers
from torch_cormorant.ops.operands import check_painn_message
from torch_cormorant.ops.plan import GraphPlan, Pairs, plan_of
from torch_cormorant.ops.product_paths import ProductPaths
from torch_cormorant.ops.splines import Splines
from torch_cormorant.ops.weighted_sum import Weights, weighted_neighbour_sum

_P, _I, _L = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
KEEP_BYTES = 1 << 27
"""Rows of W of all pairs that are kept for the gradient, at most."""


class _Message(ctypes.Structure):
    _fields_ = (
        *((name, _L) for name in ("targets", "sources", "edges", "rows")),
        *((name, _I) for name in ("channels", "parts", "hidden")),
        *((name, _I) for name in ("is_double", "threads")),
        *((name, _P) for name in ("rowptr", "edge", "source", "row", "pair")),
        *((name, _P) for name in ("x", "phi", "w", "sh", "grad", "last")),
        ("last_step", _L),
        *((name, _P) for name in ("out", "dx", "dphi", "dsh", "dw", "dhidden")),
    )


@cache
def message_paths(channels: int) -> ProductPaths:
    """0 x 0 -> 0, 0 x 1 -> 1 and 1 x 0 -> 1 for so many channels."""
    C = channels
    return ProductPaths(
        [(C, "0e"), (C, "0e"), (C, "1o")],
        Irreps.harmonics(1),
        paths=[(0, 0, "0e"), (1, 1, "1o"), (2, 0, "1o")],
    )


def message_rows(phi: Tensor, vectors: Tensor) -> Tensor:
    """What is summed over neighbours, rows of the first irreps of the paths."""
    a, b, d = phi.chunk(3, dim=-1)
    return torch.cat([a, b, d.repeat(1, 3) * vectors], dim=1)


def message_step(blocks: Sequence[Tensor]) -> Tensor:
    """Change of scalars and vectors; two paths to vectors stand side by side."""
    scalars, vectors = blocks
    change = vectors.unflatten(2, (2, -1)).sum(2)
    return torch.cat([scalars.flatten(1), change.flatten(1)], dim=1)


def with_vectors(x: Tensor, channels: int) -> Tensor:
    """Rows of scalars with vectors that are zero; others as they are."""
    if x.ndim == 2 and x.shape[1] == channels:
        return torch.cat([x, x.new_zeros(x.shape[0], 3 * channels)], dim=1)
    return x


def fits(plan: GraphPlan, weights: Weights, channels: int) -> bool:
    """Whether the operator computes on a graph: one of pairs, with rows for them.

    Args:
        plan: The graph.
        weights: As :func:`painn_message` takes them, or others.
        channels: Scalars and vectors of a node.
    """
    if plan.pairs is None or isinstance(weights, Splines):
        return False
    count = len(plan.pairs.edge)
    first = weights[0] if isinstance(weights, tuple) else weights
    size = 3 * channels * first.element_size() * count
    return first.shape[0] == count == plan.num_edges / 2 and size <= KEEP_BYTES


def painn_message(
    x: Tensor,
    sh: Tensor,
    weights: Tensor | tuple[Tensor, Tensor],
    context: Sequence[Tensor],
    plan: GraphPlan,
) -> Tensor:
    """Scalars and vectors with messages added.

    Args:
        x: Scalars and vectors ``[N, 4 C]``; or scalars ``[N, C]``, vectors are zero.
        sh: Harmonics of degrees 0 and 1 ``[E, 4]``. Those of the edge that stands for
            a pair are read, also for its reverse.
        weights: W of every pair ``[pairs, 3 C]``, or ``[pairs, H]`` and ``[H, 3 C]``.
        context: Weight and bias of the layers of phi, ``[C, C]``, ``[C]``, ``[3 C, C]``
            and ``[3 C]``.
        plan: The graph, every edge with its reverse.

    Returns:
        ``[N, 4 C]``.

    Raises:
        ShapeError, DtypeError, DeviceError: If a tensor does not fit the others.
        EdgeIndexError: If the plan is not one of pairs, or was changed.
        BackendError: If the kernel is missing.
    """
    if isinstance(weights, tuple):
        hidden, last = weights
    else:
        hidden, last = weights, x.new_empty(0)
        x = with_vectors(x, context[0].shape[0])
    operands = [x, sh, hidden, last, *context]
    found: Tensor = OPERATOR(operands, plan.packed, plan.header)[0]
    return found


class _Stage:
    """As :class:`~torch_cormorant.ops.keeping.Stage` says."""

    def check(self, operands: Sequence[Tensor], packed: Tensor, header: Tensor) -> None:
        plan = plan_of(packed, header)
        check_painn_message(operands, plan, len(_pairs(plan).edge))

    def shapes(
        self,
        operands: Sequence[Tensor],
        packed: Tensor,  # noqa: ARG002
        header: Tensor,  # noqa: ARG002
    ) -> list[tuple[int, ...]]:
        x, _, hidden, last, first = operands[:5]
        nodes, C = x.shape[0], first.shape[0]
        wide = _parts(x, C) * C
        rows = hidden.shape[0] if last.numel() else 0
        return [(nodes, 4 * C), (rows, wide), (nodes, C), (nodes, wide)]

    def composed(
        self, operands: Sequence[Tensor], packed: Tensor, header: Tensor
    ) -> Tensor:
        x, sh, hidden, last, *context = operands
        plan, C = plan_of(packed, header), context[0].shape[0]
        pairs = _pairs(plan)
        own = torch.arange(plan.num_edges, device=x.device)
        sign = torch.where(pairs.edge[pairs.of_edge] == own, 1, -1).to(x)
        vector = sh[:, 1:].index_select(0, pairs.edge).index_select(0, pairs.of_edge)
        both = torch.cat([torch.ones_like(sh[:, :1]), sign[:, None] * vector], dim=1)
        phi = two_layers(x[:, :C], context)
        whole = with_vectors(x, C)
        weights = (hidden, last) if last.numel() else hidden
        rows = message_rows(phi, whole[:, C:])
        sums = weighted_neighbour_sum(rows, (plan, both), weights, message_paths(C))
        return whole + message_step(sums)

    def value(
        self, operands: Sequence[Tensor], packed: Tensor, header: Tensor
    ) -> list[Tensor]:
        x, sh, hidden, last, first, bias, second, other = operands
        C = first.shape[0]
        wide = _parts(x, C) * C
        h = dense(x[:, :C], first.t(), bias)
        phi = dense(silu(h), second[:wide].t(), other[:wide])
        w = dense(hidden, last[:, :wide]) if last.numel() else phi.new_empty(0, wide)
        rows = w if last.numel() else hidden
        struct = _struct(x, sh, rows, phi, C, plan_of(packed, header))
        out = x.new_empty(x.shape[0], 4 * C)
        struct.out = out.data_ptr()
        cpu_kernel.call("cormorant_painn_forward", struct)
        return [out, w, h, phi]

    def slopes(
        self,
        operands: Sequence[Tensor],
        kept: Sequence[Tensor],
        grad: Tensor,
        need: Sequence[bool],
        packed: Tensor,
        header: Tensor,
    ) -> Some:
        x, sh, hidden, last, first, _, second, _ = operands
        w, h, phi = kept
        C, wide, factors = first.shape[0], phi.shape[1], bool(last.numel())
        of_nodes, all_w = need[0] or any(need[4:]), need[3] or not factors
        dx = torch.empty_like(x) if of_nodes else None
        dphi = torch.empty_like(phi) if of_nodes else None
        dsh = torch.zeros_like(sh) if need[1] else None
        dhidden = torch.empty_like(hidden) if need[2] and not all_w else None
        like = w if factors else hidden
        dw = torch.empty_like(like) if all_w and (need[2] or need[3]) else None
        struct = _struct(x, sh, like, phi, C, plan_of(packed, header))
        struct.grad, struct.last = grad.data_ptr(), last.data_ptr()
        struct.last_step, struct.hidden = 3 * C, hidden.shape[1]
        named = {"dx": dx, "dphi": dphi, "dsh": dsh, "dw": dw, "dhidden": dhidden}
        for name, part in named.items():
            setattr(struct, name, address(part))
        cpu_kernel.call("cormorant_painn_backward", struct)
        dlast = None
        if dw is not None and factors:
            dhidden = dw @ last[:, :wide].t() if need[2] else None
            dlast = _widened(hidden.t() @ dw, 3 * C, 1) if need[3] else None
        elif dw is not None:
            dhidden = dw
        if dx is None or dphi is None:
            return [None, dsh, dhidden, dlast, *[None] * 4]
        dh = silu_slope(dense(dphi, second[:wide]), h)
        dense(dh, first, onto=dx[:, :C])
        return [
            dx if need[0] else None,
            dsh,
            dhidden,
            dlast,
            dh.t() @ x[:, :C] if need[4] else None,
            dh.sum(0) if need[5] else None,
            _widened(dphi.t() @ silu(h), 3 * C, 0) if need[6] else None,
            _widened(dphi.sum(0), 3 * C, 0) if need[7] else None,
        ]


def _parts(x: Tensor, channels: int) -> int:
    """Rows of phi and w: without vectors there is nothing to multiply by the third."""
    return 3 if x.shape[1] > channels else 2


def _pairs(plan: GraphPlan) -> Pairs:
    """The pairs of a plan where every edge has a reverse other than itself."""
    if plan.pairs is None or 2 * len(plan.pairs.edge) != plan.num_edges:
        msg = (
            "the plan must be one of pairs of edges: give build_plan the vectors of "
            "edges that all have a reverse, and no self edges"
        )
        raise EdgeIndexError(msg)
    return plan.pairs


def _widened(x: Tensor, size: int, dim: int) -> Tensor:
    """With zeros up to some size."""
    if x.shape[dim] == size:
        return x
    shape = [*x.shape]
    shape[dim] = size - x.shape[dim]
    return torch.cat([x, x.new_zeros(shape)], dim=dim)


def _struct(
    x: Tensor, sh: Tensor, w: Tensor, phi: Tensor, channels: int, plan: GraphPlan
) -> _Message:
    pairs = _pairs(plan)
    parts = _parts(x, channels)
    return _Message(
        targets=plan.num_targets,
        sources=plan.num_sources,
        edges=plan.num_edges,
        rows=len(pairs.edge),
        channels=channels,
        parts=parts,
        is_double=int(x.dtype == torch.float64),
        rowptr=plan.rowptr.data_ptr(),
        edge=plan.csr_edge.data_ptr(),
        source=plan.csr_source.data_ptr(),
        row=plan.csr_row.data_ptr(),
        pair=pairs.edge.data_ptr(),
        x=x.data_ptr(),
        phi=phi.data_ptr(),
        w=w.data_ptr(),
        sh=sh.data_ptr(),
    )


OPERATOR = KeepingOperator("painn_message", "Tensor packed, Tensor header", _Stage())
