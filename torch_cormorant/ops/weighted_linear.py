r"""The weighted sum with the last layer of the network of weights inside.

:math:`w = h V` is made for a thousand edges at a time, used and forgotten, forward
and backward: no ``[E, W]`` tensor exists. Gradients of gradients make it once.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from torch_cormorant.ops import cpu_kernel, weighted_kernel
from torch_cormorant.ops.dense import dense
from torch_cormorant.ops.operands import check_linear
from torch_cormorant.ops.plan import GraphPlan
from torch_cormorant.ops.product_paths import ProductPaths
from torch_cormorant.ops.weighted_inside import InsideSum
from torch_cormorant.ops.weighted_reference import block_shapes

CHUNK = 1024
"""Edges whose weights exist at one time."""
KEEP_WIDTH, KEEP_BYTES = 32, 1 << 25
"""From this many hidden channels on, weights of up to that many bytes are kept: making
them again would cost more than reading them."""


def narrow(hidden: Tensor) -> bool:
    """Whether weights cost less to make again, for every edge, than to be read."""
    return hidden.shape[1] < KEEP_WIDTH


def keeps(hidden: Tensor, last: Tensor) -> bool:
    """Whether all weights are made at once and kept for the gradients."""
    size = hidden.shape[0] * last.shape[1] * last.element_size()
    return not narrow(hidden) and size <= KEEP_BYTES


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
        return rows, dense(rows, self.last, out=self.room[: end - begin])


class _Linear:
    """Weights as a product of two matrices."""

    check = staticmethod(check_linear)

    @staticmethod
    def weights(hidden: Tensor, last: Tensor) -> Tensor:
        return hidden @ last

    @staticmethod
    def forward(
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
        problem = weighted_kernel.Problem(
            x, sh, weights.room, plan, paths, outs, base=0
        )
        for first, end, e0, e1 in weights.chunks:
            weights.of(e0, e1)
            problem.receivers(first, end, e0)
            cpu_kernel.call("cormorant_weighted_forward", problem.struct)
        return outs

    @staticmethod
    def backward(
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
        room, turned = torch.empty_like(weights.room), last.t().contiguous()
        problem = weighted_kernel.Problem(
            x, sh, weights.room, plan, paths, grads, base=0
        )
        problem.gradients(dx, dsh, room if need[2] or need[3] else None)
        for first, end, e0, e1 in weights.chunks:
            rows, _ = weights.of(e0, e1)
            problem.receivers(first, end, e0)
            cpu_kernel.call("cormorant_weighted_backward", problem.struct)
            dw = room[: e1 - e0]
            if dhidden is not None:
                dhidden.index_copy_(0, plan.csr_edge[e0:e1], dense(dw, turned))
            if dlast is not None:
                dlast.addmm_(rows.t(), dw)
        return made


linear_sum = InsideSum("weighted_sum_linear", ("hidden", "last"), _Linear())
