r"""The neighbour sum in PyTorch alone: the reference of every kernel.

Works on every device, chunk after chunk of receivers; see
:mod:`torch_cormorant.ops.neighbour_sum` for the formula.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from torch_cormorant.ops.paths import PathTable
from torch_cormorant.ops.plan import Chunk, GraphPlan
from torch_cormorant.ops.precision import exact
from torch_cormorant.ops.tensors import accumulate, real_view

Need = tuple[bool, bool, bool]


def shapes(
    num_targets: int, table: PathTable, channels: int
) -> list[tuple[int, int, int, int]]:
    """Shapes of the results, degree by degree."""
    return [
        (num_targets, 2 * l + 1, count, channels)
        for l, count in enumerate(table.counts)
    ]


def _slots(g: Tensor, plan: GraphPlan) -> Tensor:
    """Row of g that each slot reads."""
    if plan.pairs is not None and g.shape[0] == plan.pairs.edge.shape[0]:
        return plan.pairs.of_slot
    return plan.slot_edge


class _ChunkData:
    """What one chunk reads: sources, edge scalars and weighted harmonics."""

    def __init__(
        self,
        chunk: Chunk,
        x: Tensor,
        g: Tensor,
        sh: Tensor,
        plan: GraphPlan,
    ) -> None:
        count = chunk.last - chunk.first
        span = slice(chunk.slot, chunk.slot + count * chunk.width)
        self.shape = (count, chunk.width)
        self.edge = plan.slot_edge[span]
        self.source = plan.slot_source[span]
        self.row = _slots(g, plan)[span]
        self.x = x.index_select(0, self.source)
        self.g = g.index_select(0, self.row)
        self.sh = sh.index_select(0, self.edge)
        self.weight = None if plan.slot_weight is None else plan.slot_weight[span]
        if self.weight is not None:
            self.sh *= self.weight.unsqueeze(-1)

    def harmonics(self, l1: int) -> Tensor:
        """``[receivers, 2 l1 + 1, width]``."""
        part = self.sh[:, l1 * l1 : (l1 + 1) ** 2]
        return part.reshape(*self.shape, -1).transpose(1, 2)

    def flat(self, h: Tensor) -> Tensor:
        """``[slots, M, C]`` as real ``[receivers, width, M * P * C]``."""
        return real_view(h).view(*self.shape, -1)


def _nodes(chunk: Chunk, plan: GraphPlan) -> slice | Tensor:
    if plan.in_order:
        return slice(chunk.first, chunk.last)
    return plan.order[chunk.first : chunk.last]


@exact
def forward(
    x: Tensor, g: Tensor, sh: Tensor, plan: GraphPlan, table: PathTable
) -> list[Tensor]:
    """One tensor ``[N_target, 2l + 1, number of paths, C]`` per degree."""
    make = x.new_empty if plan.all_receive else x.new_zeros
    outs = [make(shape) for shape in shapes(plan.num_targets, table, x.shape[-1])]
    for chunk in plan.chunks:
        data = _ChunkData(chunk, x, g, sh, plan)
        nodes = _nodes(chunk, plan)
        if isinstance(nodes, slice):
            _chunk_forward(data, table, [out[nodes] for out in outs])
            continue
        parts = [x.new_empty(nodes.numel(), *out.shape[1:]) for out in outs]
        _chunk_forward(data, table, parts)
        for out, part in zip(outs, parts, strict=True):
            out[nodes] = part
    return outs


def _chunk_forward(data: _ChunkData, table: PathTable, outs: list[Tensor]) -> None:
    """Fill the chunk's rows of the outputs."""
    reals = [real_view(out) for out in outs]
    count, components = data.shape[0], data.x.shape[1]
    h = torch.empty_like(data.x)
    current, total = -1, h
    for block in table.blocks:
        if block.l1 != current:
            current = block.l1
            torch.mul(data.x, data.g[:, current, None], out=h)
            total = torch.bmm(data.harmonics(current), data.flat(h))
            total = total.view(count, 2 * current + 1, components, -1)
        part = total[:, :, block.l2**2 : (block.l2 + 1) ** 2]
        part = part.reshape(count, -1, part.shape[-1])
        rows = torch.matmul(table.matrix(block, part), part)
        for l, position, row in block.places:
            reals[l][:, :, position] = rows[:, row : row + 2 * l + 1]


@exact
def backward(
    x: Tensor,
    g: Tensor,
    sh: Tensor,
    plan: GraphPlan,
    table: PathTable,
    need: Need,
    grads: Sequence[Tensor],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients with respect to x, g and sh; None where not needed."""
    dx = torch.zeros_like(x) if need[0] else None
    dg = torch.zeros_like(g) if need[1] else None
    dsh = torch.zeros_like(sh) if need[2] else None
    for chunk in plan.chunks:
        data = _ChunkData(chunk, x, g, sh, plan)
        nodes = _nodes(chunk, plan)
        _chunk_backward(data, table, [grad[nodes] for grad in grads], dx, dg, dsh)
    return dx, dg, dsh


def _spread(l1: int, data: _ChunkData, table: PathTable, grads: list[Tensor]) -> Tensor:
    """Gradient with respect to T of degree l1, ``[receivers, 2 l1 + 1, M * width]``."""
    reals = [real_view(grad) for grad in grads]
    count, components, wide = data.shape[0], data.x.shape[1], reals[0].shape[-1]
    blocks = [block for block in table.blocks if block.l1 == l1]
    make = reals[0].new_empty if len(blocks) ** 2 == components else reals[0].new_zeros
    total = make(count, 2 * l1 + 1, components, wide)
    for block in blocks:
        parts = [reals[l][:, :, position] for l, position, _ in block.places]
        rows = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        matrix = table.matrix(block, rows)
        spread = torch.matmul(matrix.t(), rows).view(count, 2 * l1 + 1, -1, wide)
        total[:, :, block.l2**2 : (block.l2 + 1) ** 2] = spread
    return total.view(count, 2 * l1 + 1, -1)


def _chunk_backward(
    data: _ChunkData,
    table: PathTable,
    grads: list[Tensor],
    dx: Tensor | None,
    dg: Tensor | None,
    dsh: Tensor | None,
) -> None:
    """Add one chunk's share of the three gradients."""
    g_conj = data.g.conj().resolve_conj()
    x_conj = data.x.conj().resolve_conj() if dg is not None else data.x
    part_x = torch.empty_like(data.x) if dx is not None else None
    part_g = torch.empty_like(data.g) if dg is not None else None
    part_sh = torch.empty_like(data.sh) if dsh is not None else None
    work = torch.empty_like(data.x)
    for l1 in range(table.lmax1 + 1):
        total = _spread(l1, data, table, grads)
        dh = torch.bmm(data.harmonics(l1).transpose(1, 2), total)
        dh = _shaped_like(dh, data.x)
        if part_x is not None and l1 == 0:
            torch.mul(dh, g_conj[:, :1], out=part_x)
        elif part_x is not None:
            part_x.addcmul_(dh, g_conj[:, l1, None])
        if part_g is not None:
            torch.mul(dh, x_conj, out=work)
            torch.sum(work, dim=1, out=part_g[:, l1])
        if part_sh is not None:
            torch.mul(data.x, data.g[:, l1, None], out=work)
            dy = torch.bmm(total, data.flat(work).transpose(1, 2)).transpose(1, 2)
            part_sh[:, l1 * l1 : (l1 + 1) ** 2] = dy.reshape(-1, 2 * l1 + 1)
    accumulate(dx, data.source, part_x)
    accumulate(dg, data.row, part_g)
    if part_sh is not None and data.weight is not None:
        part_sh *= data.weight.unsqueeze(-1)
    accumulate(dsh, data.edge, part_sh)


def _shaped_like(real: Tensor, x: Tensor) -> Tensor:
    """Real numbers ``[receivers, width, M * w]`` back to the dtype and shape of x."""
    if x.is_complex():
        return torch.view_as_complex(real.view(*x.shape, 2))
    return real.view(x.shape)
