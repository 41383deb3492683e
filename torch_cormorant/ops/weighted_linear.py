r"""The weighted sum with the last layer of the network of weights inside.

:math:`w = h V` is made for a thousand edges at a time, used and forgotten, forward
and backward: no ``[E, W]`` tensor exists. Gradients of gradients make it once.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from torch_cormorant.ops import cpu_kernel, weighted_kernel
from torch_cormorant.ops.operands import check_blocks, check_count, check_linear
from torch_cormorant.ops.operator import Operator
from torch_cormorant.ops.plan import GraphPlan, plan_of
from torch_cormorant.ops.product_paths import ProductPaths, paths_of
from torch_cormorant.ops.pullback import pulled_back
from torch_cormorant.ops.tensors import plain
from torch_cormorant.ops.weighted_operators import (
    full_grads,
    implementation,
    sum_gradient,
)
from torch_cormorant.ops.weighted_reference import block_shapes

CHUNK = 1024
"""Edges whose weights exist at one time."""
KEEP_WIDTH, KEEP_BYTES = 32, 1 << 25
"""From this many hidden channels on, weights of up to that many bytes are kept: making
them again would cost more than reading them."""


def keeps(hidden: Tensor, last: Tensor) -> bool:
    """Whether all weights are made at once and kept for the gradients."""
    size = hidden.shape[0] * last.shape[1] * last.element_size()
    return hidden.shape[1] >= KEEP_WIDTH and size <= KEEP_BYTES


def _chunks(plan: GraphPlan) -> Iterator[tuple[int, int, int, int]]:
    """(first receiver, last, first edge, last) of about ``CHUNK`` edges each."""
    rowptr = plan.rowptr.tolist()
    first = begin = 0
    while begin < plan.num_edges:
        last = bisect_right(rowptr, begin + CHUNK, first + 1) - 1
        last = max(last, first + 1)
        end = rowptr[last]
        yield first, last, begin, end
        first, begin = last, end


class _Weights:
    """Weights of a chunk of edges, and what is made of their gradients."""

    def __init__(self, hidden: Tensor, last: Tensor, plan: GraphPlan) -> None:
        self.hidden, self.last, self.plan = hidden, last, plan
        self.chunks = list(_chunks(plan))
        most = max((end - begin for *_, begin, end in self.chunks), default=0)
        self.room = hidden.new_empty(most, last.shape[1])

    def of(self, begin: int, end: int) -> tuple[Tensor, Tensor]:
        """Rows of the hidden layer, and the weights, in the order of the plan."""
        rows = self.hidden.index_select(0, self.plan.csr_edge[begin:end])
        return rows, torch.mm(rows, self.last, out=self.room[: end - begin])


def _forward(
    x: Tensor,
    sh: Tensor,
    hidden: Tensor,
    last: Tensor,
    plan: GraphPlan,
    paths: ProductPaths,
) -> list[Tensor]:
    shapes = block_shapes(plan.num_targets, paths)
    outs = [x.new_zeros(shape) for shape in shapes]
    weights = _Weights(hidden, last, plan)
    problem = weighted_kernel.Problem(x, sh, weights.room, plan, paths, outs, base=0)
    for first, end, e0, e1 in weights.chunks:
        weights.of(e0, e1)
        problem.receivers(first, end, e0)
        cpu_kernel.call("cormorant_weighted_forward", problem.struct)
    return outs


def _backward(
    x: Tensor,
    sh: Tensor,
    hidden: Tensor,
    last: Tensor,
    plan: GraphPlan,
    paths: ProductPaths,
    need: Sequence[bool],
    grads: Sequence[Tensor],
) -> list[Tensor | None]:
    likes = (x, sh, hidden, last)
    made = [
        torch.zeros_like(like) if wanted else None
        for like, wanted in zip(likes, need, strict=True)
    ]
    dx, dsh, dhidden, dlast = made
    weights = _Weights(hidden, last, plan)
    room = torch.empty_like(weights.room)
    problem = weighted_kernel.Problem(x, sh, weights.room, plan, paths, grads, base=0)
    problem.gradients(dx, dsh, room if need[2] or need[3] else None)
    for first, end, e0, e1 in weights.chunks:
        rows, _ = weights.of(e0, e1)
        problem.receivers(first, end, e0)
        cpu_kernel.call("cormorant_weighted_backward", problem.struct)
        dw = room[: e1 - e0]
        if dhidden is not None:
            dhidden.index_copy_(0, plan.csr_edge[e0:e1], dw @ last.t())
        if dlast is not None:
            dlast.addmm_(rows.t(), dw)
    return made


def _run_linear(
    x: Tensor,
    sh: Tensor,
    hidden: Tensor,
    last: Tensor,
    packed: Tensor,
    header: Tensor,
    num_targets: int,  # noqa: ARG001
    key: Sequence[int],
    backend: str,
) -> list[Tensor]:
    paths, plan = paths_of(key), plan_of(packed, header)
    inputs = (plain(x), plain(sh), plain(hidden), plain(last))
    check_linear(*inputs, plan, paths)
    made = implementation(backend, x, paths)
    if made is weighted_kernel:
        return _forward(*inputs, plan, paths)
    found: list[Tensor] = made.forward(*inputs[:2], inputs[2] @ inputs[3], plan, paths)
    return found


def _run_gradient(
    x: Tensor,
    sh: Tensor,
    hidden: Tensor,
    last: Tensor,
    packed: Tensor,
    header: Tensor,
    key: Sequence[int],
    backend: str,
    need: Sequence[bool],
    grads: Sequence[Tensor],
) -> list[Tensor]:
    """Gradients of x, sh, hidden and last, empty where not needed."""
    paths, plan = paths_of(key), plan_of(packed, header)
    inputs = (plain(x), plain(sh), plain(hidden), plain(last))
    full = [plain(grad) for grad in grads]
    check_linear(*inputs, plan, paths)
    check_count("need", need, 4)
    check_blocks(full, plan.num_targets, paths, x)
    made = implementation(backend, x, paths)
    if made is weighted_kernel:
        parts = _backward(*inputs, plan, paths, need, full)
    else:
        w, wanted = inputs[2] @ inputs[3], (need[0], need[1], need[2] or need[3])
        dx, dsh, dw = made.backward(*inputs[:2], w, plan, paths, wanted, full)
        parts = [dx, dsh, None, None]
        if need[2]:
            parts[2] = dw @ inputs[3].t()
        if need[3]:
            parts[3] = inputs[2].t() @ dw
    return [
        like.new_empty(0) if part is None else part
        for part, like in zip(parts, inputs, strict=True)
    ]


def _fake_linear(
    x: Tensor,
    sh: Tensor,  # noqa: ARG001
    hidden: Tensor,  # noqa: ARG001
    last: Tensor,  # noqa: ARG001
    packed: Tensor,  # noqa: ARG001
    header: Tensor,  # noqa: ARG001
    num_targets: int,
    key: Sequence[int],
    backend: str,  # noqa: ARG001
) -> list[Tensor]:
    return [x.new_empty(shape) for shape in block_shapes(num_targets, paths_of(key))]


def _fake_gradient(
    x: Tensor,
    sh: Tensor,
    hidden: Tensor,
    last: Tensor,
    packed: Tensor,  # noqa: ARG001
    header: Tensor,  # noqa: ARG001
    key: Sequence[int],  # noqa: ARG001
    backend: str,  # noqa: ARG001
    need: Sequence[bool],
    grads: Sequence[Tensor],  # noqa: ARG001
) -> list[Tensor]:
    return [
        part.new_empty(part.shape if wanted else (0,))
        for part, wanted in zip((x, sh, hidden, last), need, strict=True)
    ]


def _keep_linear(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:  # noqa: ARG001
    ctx.save_for_backward(*inputs[:6])
    ctx.num_targets, ctx.key, ctx.backend = inputs[6:]
    ctx.set_materialize_grads(False)


def _linear_backward(ctx: Any, grads: list[Tensor | None]) -> tuple[Any, ...]:
    saved = ctx.saved_tensors
    full = full_grads(grads, saved[0], ctx.num_targets, paths_of(ctx.key))
    need = list(ctx.needs_input_grad[:4])
    parts = _gradient(*saved, ctx.key, ctx.backend, need, full)
    given = [part if wanted else None for part, wanted in zip(parts, need, strict=True)]
    return (*given, None, None, None, None, None)


def _keep_gradient(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:  # noqa: ARG001
    ctx.save_for_backward(*inputs[:6], *inputs[9])
    ctx.key, ctx.backend, ctx.need = inputs[6:9]
    ctx.set_materialize_grads(False)


def _gradient_backward(ctx: Any, cotangents: list[Tensor | None]) -> tuple[Any, ...]:
    """Gradient of the gradient, by way of all weights at once."""
    x, sh, hidden, last, packed, header, *grads = ctx.saved_tensors
    need = ctx.need

    def again(
        x: Tensor, sh: Tensor, hidden: Tensor, last: Tensor, *grads: Tensor
    ) -> list[Tensor | None]:
        wanted = [need[0], need[1], need[2] or need[3]]
        plan = (packed, header)
        parts = sum_gradient(
            x, sh, hidden @ last, *plan, ctx.key, ctx.backend, wanted, list(grads)
        )
        dhidden = parts[2] @ last.t() if need[2] else None
        dlast = hidden.t() @ parts[2] if need[3] else None
        found = [*parts[:2], dhidden, dlast]
        return [part if q else None for part, q in zip(found, need, strict=True)]

    parts = pulled_back(again, [x, sh, hidden, last, *grads], cotangents)
    return (*parts[:4], None, None, None, None, None, parts[4:])


_LINEAR = "Tensor x, Tensor sh, Tensor hidden, Tensor last, Tensor packed, "
linear_sum = Operator(
    "weighted_sum_linear",
    f"({_LINEAR}Tensor header, SymInt num_targets, int[] key, str backend) -> Tensor[]",
    run=_run_linear,
    fake=_fake_linear,
    keep=_keep_linear,
    backward=_linear_backward,
    operands=(0, 1, 2, 3),
)
_gradient = Operator(
    "weighted_sum_linear_backward",
    f"({_LINEAR}Tensor header, int[] key, str backend, bool[] need, Tensor[] grads)"
    " -> Tensor[]",
    run=_run_gradient,
    fake=_fake_gradient,
    keep=_keep_gradient,
    backward=_gradient_backward,
)
