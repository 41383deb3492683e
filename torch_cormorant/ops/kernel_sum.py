"""The full convolution with radial weights: every channel to every channel.

The last layer of the network of weights is linear and can act after the sum, like the
mixing of channels. Without weights the product with harmonics costs little on edges;
one matrix product for each receiver then sums it with every hidden channel, and one on
nodes applies the last layer. No ``[edges, u, v]`` tensor exists.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from torch_cormorant.errors import ConfigError
from torch_cormorant.ops.geometry import EdgeGeometry
from torch_cormorant.ops.operands import check_full
from torch_cormorant.ops.plan import Chunk, GraphPlan
from torch_cormorant.ops.product_paths import ProductPaths, cg_table
from torch_cormorant.ops.tensor_product import tensor_product
from torch_cormorant.ops.tensors import plain
from torch_cormorant.ops.weighted_sum import edges_of
from torch_cormorant.so3.flat import flat_blocks

ORDERS = ("auto", "edges", "nodes")


def kernel_neighbour_sum(
    x: Tensor,
    edges: EdgeGeometry | tuple[GraphPlan | Tensor, Tensor],
    hidden: Tensor,
    last: Tensor,
    paths: ProductPaths,
    order: str = "auto",
) -> tuple[Tensor, ...]:
    r"""Sum messages of neighbours that mix all channels, with radial weights.

    .. math::
        \text{out}_i^{l}[m, w] = \sum_j \sum_{p, u} R_{ij}[p, u, w]
        \sum_{m_1 m_2} C^{l_1 l_2 l}_{m_1 m_2 m}\,
        F_j^{l_1}[m_1, u]\, Y^{l_2}_{m_2}(r_{ij}), \qquad R = h(r_{ij})\, V,

    the kernel of 3D steerable convolutions and of full tensor field networks, without a
    normalisation.

    Args:
        x: Node features, flat rows of ``paths.first``.
        edges: As for :func:`~torch_cormorant.ops.weighted_neighbour_sum`.
        hidden: Last hidden layer h of the network of weights, a row for each edge, or
            for each undirected pair.
        last: The matrix V behind it; its columns belong to the paths one after the
            other, each ``[u, w]``.
        paths: Paths of mode ``"uvw"``, harmonics of degrees 0, 1, ..., lmax as second
            operand.
        order: ``"nodes"``: the last layer acts after the sum. ``"edges"``: a set of
            weights for every edge, the readable reference. ``"auto"`` (default):
            whichever needs fewer operations, ``"nodes"`` from about two neighbours on.

    Shapes:
        ``x`` ``[N, dim]``; harmonics ``[E, (lmax + 1)^2]``; ``hidden`` ``[E, H]``;
        ``last`` ``[H, paths.weight_numel]``.

    Returns:
        For each block of ``paths.out`` one tensor ``[N_target, 2l + 1, mul]``.

    Raises:
        ShapeError, DtypeError, DeviceError: If a tensor does not fit the others.
        ConfigError: If the paths or the order are not as above.
        EdgeIndexError: If the edges name a node that does not exist.

    Note:
        Deterministic on a CPU; differentiable to any order. With H hidden channels and
        Z numbers for each edge, ``"nodes"`` costs ``H Z`` per edge and ``H`` times the
        weights of a path with its components per node.

    Example:
        >>> import torch
        >>> from torch_cormorant import EdgeGeometry
        >>> index = torch.tensor([[0, 1, 2], [1, 0, 0]])
        >>> geometry = EdgeGeometry.from_pos(torch.randn(3, 3), index)
        >>> paths = ProductPaths("8x0 + 4x1", "0 + 1", out="5x0 + 2x1", mode="uvw")
        >>> h, last = torch.randn(3, 16), torch.randn(16, paths.weight_numel)
        >>> out = kernel_neighbour_sum(torch.randn(3, 20), geometry, h, last, paths)
        >>> [tuple(part.shape) for part in out]
        [(3, 1, 5), (3, 3, 2)]
    """
    if order not in ORDERS:
        raise ConfigError(f"order must be one of {ORDERS}, got {order!r}")
    plan, sh = edges_of(edges, x.shape[0] if x.ndim else 0, paths)
    x, sh, hidden, last = plain(x), plain(sh), plain(hidden), plain(last)
    if not torch.compiler.is_compiling():
        check_full(x, sh, hidden, last, plan, paths)
    if order == "auto":
        order = (
            "nodes" if plan.num_edges >= _even(paths) * plan.num_targets else "edges"
        )
    made = _by_nodes if order == "nodes" else _by_edges
    return made(x, sh, hidden, last, plan, paths)


def _even(paths: ProductPaths) -> float:
    """Neighbours from which on the last layer is cheaper after the sum."""
    on_nodes, on_edges = 0, 0
    for path, size in zip(paths.paths, paths.sizes, strict=True):
        components = paths.out[path.out].ir.dim
        on_nodes += components * size
        on_edges += size - components * paths.first[path.first].mul
    return on_nodes / on_edges if on_edges > 0 else float("inf")


def _rows(hidden: Tensor, plan: GraphPlan, of_pair: Tensor, of_edge: Tensor) -> Tensor:
    """Rows of the hidden layer that edges (or slots) read."""
    paired = plan.pairs is not None and hidden.shape[0] == plan.pairs.edge.shape[0]
    return hidden.index_select(0, of_pair if paired else of_edge)


def _by_edges(
    x: Tensor,
    sh: Tensor,
    hidden: Tensor,
    last: Tensor,
    plan: GraphPlan,
    paths: ProductPaths,
) -> tuple[Tensor, ...]:
    """A set of weights for every edge: slow, short, and never changed for speed."""
    weights = _rows(hidden, plan, plan.csr_row, plan.csr_edge) @ last
    first, second = x[plan.csr_source], sh[plan.csr_edge]
    messages = tensor_product(first, second, "", "", paths=paths, weights=weights)
    nodes = torch.arange(plan.num_targets, device=x.device)
    target = nodes.repeat_interleave(plan.rowptr.diff())
    total = x.new_zeros(plan.num_targets, paths.out.dim)
    return flat_blocks(total.index_add(0, target, messages), paths.out)


def _by_nodes(
    x: Tensor,
    sh: Tensor,
    hidden: Tensor,
    last: Tensor,
    plan: GraphPlan,
    paths: ProductPaths,
) -> tuple[Tensor, ...]:
    matrices = _matrices(last, paths)
    found = [
        _chunk(chunk, x, sh, hidden, matrices, plan, paths) for chunk in plan.chunks
    ]
    outs = []
    for k, block in enumerate(paths.out):
        shape = (plan.num_targets, block.ir.dim, block.mul)
        rows = [parts[k] for parts in found]
        if not rows:
            outs.append(x.new_zeros(shape))
        elif plan.in_order and plan.all_receive:
            outs.append(torch.cat(rows))
        else:
            total = x.new_zeros(shape)
            outs.append(total.index_copy(0, plan.order, torch.cat(rows)))
    return tuple(outs)


def _matrices(last: Tensor, paths: ProductPaths) -> list[Tensor]:
    """The last layer of each path as a matrix, rows (u, hidden) and columns w."""
    parts = last.split(paths.sizes, dim=1)
    return [
        part.unflatten(1, (shape[0], shape[2])).transpose(0, 1).flatten(0, 1)
        for part, shape in zip(parts, paths.shapes, strict=True)
    ]


def _chunk(
    chunk: Chunk,
    x: Tensor,
    sh: Tensor,
    hidden: Tensor,
    matrices: Sequence[Tensor],
    plan: GraphPlan,
    paths: ProductPaths,
) -> list[Tensor]:
    """Results of some receivers with equally many slots."""
    count, width = chunk.last - chunk.first, chunk.width
    span = slice(chunk.slot, chunk.slot + count * width)
    edge = plan.slot_edge[span]
    h = _rows(hidden, plan, _part(plan, span), edge)
    if plan.slot_weight is not None:
        h = h * plan.slot_weight[span].unsqueeze(1)
    h = h.view(count, width, -1)
    f = flat_blocks(x.index_select(0, plan.slot_source[span]), paths.first)
    y = sh.index_select(0, edge)
    outs: list[Tensor | None] = [None] * len(paths.out)
    for path, matrix in zip(paths.paths, matrices, strict=True):
        l1, l2, l = paths.degrees(path)
        cg = cg_table((l1, l2, l), x.dtype, x.device)
        table = cg.transpose(0, 1).reshape(2 * l2 + 1, -1)
        A = (y[:, l2 * l2 : (l2 + 1) ** 2] @ table).view(-1, 2 * l1 + 1, 2 * l + 1)
        z = A.transpose(1, 2) * f[path.first] if l1 == 0 else A.mT @ f[path.first]
        total = z.reshape(count, width, -1).transpose(1, 2) @ h
        part = total.view(count * (2 * l + 1), -1) @ matrix
        part = part.view(count, 2 * l + 1, -1)
        before = outs[path.out]
        outs[path.out] = part if before is None else before + part
    return [
        x.new_zeros(count, block.ir.dim, block.mul) if out is None else out
        for out, block in zip(outs, paths.out, strict=True)
    ]


def _part(plan: GraphPlan, span: slice) -> Tensor:
    pairs = plan.pairs
    return plan.slot_edge[span] if pairs is None else pairs.of_slot[span]
