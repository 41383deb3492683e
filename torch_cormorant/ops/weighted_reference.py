r"""The weighted neighbour sum in PyTorch alone, edge by edge: the reference.

With :math:`A[m_1, m] = \sum_{m_2} C Y_{m_2}` for every edge and path, the message is
:math:`w\, A^T F` and its gradients come from :math:`u = A\, d`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from torch_cormorant.ops.plan import GraphPlan
from torch_cormorant.ops.portable import Need
from torch_cormorant.ops.precision import exact
from torch_cormorant.ops.product_paths import ProductPaths, cg_table
from torch_cormorant.ops.tensors import accumulate
from torch_cormorant.so3.flat import flat_blocks


def block_shapes(num_targets: int, paths: ProductPaths) -> list[tuple[int, int, int]]:
    """Shapes of the results, one for each degree and parity."""
    return [(num_targets, block.ir.dim, block.mul) for block in paths.out]


def weight_rows(w: Tensor, plan: GraphPlan) -> Tensor | None:
    """Row of w that each edge reads, in the order of the plan; None: its own."""
    if plan.pairs is not None and w.shape[0] == plan.pairs.edge.shape[0]:
        return plan.csr_row
    return None


class _Edges:
    """Edges in the order of the plan, and what they read."""

    def __init__(self, x: Tensor, sh: Tensor, w: Tensor, plan: GraphPlan) -> None:
        self.source, self.edge = plan.csr_source, plan.csr_edge
        rows = weight_rows(w, plan)
        self.row = self.edge if rows is None else rows
        nodes = torch.arange(plan.num_targets, device=x.device)
        self.target = nodes.repeat_interleave(plan.rowptr.diff())
        self.x, self.sh = x.index_select(0, self.source), sh.index_select(0, self.edge)
        self.w = w.index_select(0, self.row)


Part = tuple[int, slice, slice, Tensor, Tensor, Tensor]


def _paths(data: _Edges, paths: ProductPaths) -> Iterator[Part]:
    """(result, channels there, components of Y, table, features, weights) of each."""
    blocks = flat_blocks(data.x, paths.first)
    weights = data.w.split(paths.sizes, dim=1)
    for path, w in zip(paths.paths, weights, strict=True):
        l1, l2, l = paths.degrees(path)
        cg = cg_table((l1, l2, l), data.x.dtype, data.x.device)
        channels = slice(path.at, path.at + w.shape[1])
        components = slice(l2 * l2, (l2 + 1) ** 2)
        yield path.out, channels, components, cg, blocks[path.first], w


@exact
def forward(
    x: Tensor, sh: Tensor, w: Tensor, plan: GraphPlan, paths: ProductPaths
) -> list[Tensor]:
    """One tensor ``[N_target, 2l + 1, channels]`` per degree and parity."""
    outs = [x.new_zeros(shape) for shape in block_shapes(plan.num_targets, paths)]
    data = _Edges(x, sh, w, plan)
    for out, channels, at, cg, f, weight in _paths(data, paths):
        A = torch.einsum("abm,eb->eam", cg, data.sh[:, at])
        message = torch.einsum("eam,eac->emc", A, f) * weight.unsqueeze(1)
        total = outs[out].new_zeros(plan.num_targets, *message.shape[1:])
        accumulate(total, data.target, message)
        outs[out][:, :, channels] = total
    return outs


@exact
def backward(
    x: Tensor,
    sh: Tensor,
    w: Tensor,
    plan: GraphPlan,
    paths: ProductPaths,
    need: Need,
    grads: Sequence[Tensor],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients with respect to x, sh and w; None where not needed."""
    data = _Edges(x, sh, w, plan)
    dx, dsh, dw = (torch.zeros_like(part) for part in (data.x, data.sh, data.w))
    to_x = flat_blocks(dx, paths.first)
    to_w = dw.split(paths.sizes, dim=1)
    for k, (out, channels, at, cg, f, weight) in enumerate(_paths(data, paths)):
        d = grads[out][data.target][:, :, channels]
        A = torch.einsum("abm,eb->eam", cg, data.sh[:, at])
        u = torch.einsum("eam,emc->eac", A, d)
        to_w[k].copy_((u * f).sum(1))
        to_x[paths.paths[k].first].add_(u * weight.unsqueeze(1))
        G = torch.einsum("eac,emc->eam", f * weight.unsqueeze(1), d)
        dsh[:, at] += torch.einsum("abm,eam->eb", cg, G)
    parts = [(dx, x, data.source), (dsh, sh, data.edge), (dw, w, data.row)]
    totals = []
    for wanted, (part, like, index) in zip(need, parts, strict=True):
        total = torch.zeros_like(like) if wanted else None
        accumulate(total, index, part)
        totals.append(total)
    return totals[0], totals[1], totals[2]
