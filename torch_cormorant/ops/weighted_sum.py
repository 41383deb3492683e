"""The weighted neighbour sum: one weight for each edge, path and channel."""

from __future__ import annotations

from typing import Any, TypeAlias

from torch import Tensor

from torch_cormorant.errors import ShapeError
from torch_cormorant.ops.dispatch import chosen
from torch_cormorant.ops.geometry import EdgeGeometry
from torch_cormorant.ops.operands import check_rank
from torch_cormorant.ops.plan import GraphPlan, build_plan
from torch_cormorant.ops.product_paths import ProductPaths
from torch_cormorant.ops.splines import Splines, spline_rows
from torch_cormorant.ops.tensors import plain
from torch_cormorant.ops.transforms import is_transformed
from torch_cormorant.ops.weighted_linear import keeps, linear_sum, narrow
from torch_cormorant.ops.weighted_operators import sum_operator
from torch_cormorant.ops.weighted_splines import spline_sum

Weights: TypeAlias = Tensor | tuple[Tensor, Tensor] | Splines
"""Rows of edges or pairs; two matrices whose product they are; or splines."""


def weight_rows(weights: Weights) -> Tensor:
    """Weights as rows of edges or pairs, however they are given."""
    if isinstance(weights, Splines):
        return weights.rows()
    return weights[0] @ weights[1] if isinstance(weights, tuple) else weights


def weighted_neighbour_sum(
    x: Tensor,
    edges: EdgeGeometry | tuple[GraphPlan | Tensor, Tensor],
    weights: Weights,
    paths: ProductPaths,
    backend: str = "auto",
) -> tuple[Tensor, ...]:
    r"""Sum messages of neighbours, each path and channel with a weight of its own.

    .. math::
        \text{out}_i^{p,l}[m, c] = \sum_j w_{ij}[p, c] \sum_{m_1 m_2}
        C^{l_1 l_2 l}_{m_1 m_2 m}\, F_j^{l_1}[m_1, c]\, Y^{l_2}_{m_2}(r_{ij}),

    the depthwise convolution of tensor field networks (Thomas et al. 2018, eq. (4)),
    NequIP and others, with orthonormal tables, unit harmonics and no other factor.

    Args:
        x: Node features, flat rows of ``paths.first``.
        edges: The geometry of a graph; or its sorted plan, or its edges (row 0 =
            source, row 1 = target, as many nodes as rows of x), and their harmonics.
        weights: A row for every edge, or for every undirected pair if there are as many
            rows as ``plan.pairs.edge``. Or the last hidden layer of the network that
            makes them and the matrix behind it: their product is then made for a
            thousand edges at a time and never kept. (It is kept for every pair where
            there is a row for every pair, and where it is small and wide layers make it
            costly.) Or :class:`~torch_cormorant.ops.Splines`, which the kernel
            evaluates edge by edge.
        paths: Paths of mode ``"uvu"``, with the harmonics of degrees 0, 1, ..., lmax as
            second operand.
        backend: ``"portable"`` (PyTorch alone, edge by edge), ``"cpu_kernel"`` (degrees
            up to 3) or ``"auto"`` (default): the faster one that works here.

    Shapes:
        ``x`` ``[N, dim]``; harmonics ``[E, (lmax + 1)^2]``; ``weights`` ``[E, W]`` with
        ``W = paths.weight_numel``, or ``[E, H]`` and ``[H, W]``.

    Returns:
        For each block of ``paths.out`` one tensor ``[N_target, 2l + 1, channels]``, the
        paths of that degree and parity side by side: ready for one matrix product.

    Raises:
        ShapeError, DtypeError, DeviceError: If a tensor does not fit the others.
        ConfigError: If the paths are not as above.
        EdgeIndexError: If the edges or the plan name a row that does not exist.
        BackendError: If the backend is unknown, missing, or cannot do it.

    Note:
        Deterministic, by the kernel with equal bits for any number of threads (the
        matrix product with the last layer may be PyTorch's); differentiable to any
        order; one operator for ``torch.compile``.

    Example:
        >>> import torch
        >>> from torch_cormorant import EdgeGeometry
        >>> index = torch.tensor([[0, 1, 2], [1, 0, 0]])
        >>> geometry = EdgeGeometry.from_pos(torch.randn(3, 3), index)
        >>> paths = ProductPaths("8x0e + 4x1o", "0e + 1o", out="0e + 1o")
        >>> x, w = torch.randn(3, 20), torch.randn(3, paths.weight_numel)
        >>> out = weighted_neighbour_sum(x, geometry, w, paths)
        >>> [tuple(part.shape) for part in out]
        [(3, 1, 12), (3, 3, 12)]
    """
    check_rank("x", x, ("nodes", "numbers"))
    plan, sh = edges_of(edges, x.shape[0], paths)
    tail = (plan.packed, plan.header, plan.num_targets, paths.key, chosen(backend))
    check_rank("sh", sh, ("edges", "components"))
    if not isinstance(weights, tuple):
        check_rank("weights", weights, ("edges", "weights"))
        return tuple(sum_operator(plain(x), plain(sh), plain(weights), *tail))
    if isinstance(weights, Splines):
        return _of_splines(x, sh, weights, tail)
    hidden, last = weights
    check_rank("hidden", hidden, ("edges", "hidden"))
    check_rank("last", last, ("hidden", "weights"))
    pairs = plan.pairs
    if pairs is not None and hidden.shape[0] == len(pairs.edge) and narrow(hidden):
        hidden = hidden.index_select(0, pairs.of_edge)
    paired = hidden.shape[0] != plan.num_edges
    if paired or keeps(hidden, last) or is_transformed():
        if hidden.shape[1] != last.shape[0]:
            msg = f"hidden and last do not fit: {[*hidden.shape]} and {[*last.shape]}"
            raise ShapeError(msg)
        return tuple(sum_operator(plain(x), plain(sh), plain(hidden @ last), *tail))
    return tuple(linear_sum(plain(x), plain(sh), plain(hidden), plain(last), *tail))


def _of_splines(
    x: Tensor, sh: Tensor, weights: Splines, tail: tuple[Any, ...]
) -> tuple[Tensor, ...]:
    place, table = weights
    check_rank("place", place, ("edges",))
    check_rank("table", table, ("knots", "weights"))
    if is_transformed():
        rows = spline_rows(place, table)
        return tuple(sum_operator(plain(x), plain(sh), plain(rows), *tail))
    fixed = table.detach()
    return tuple(spline_sum(plain(x), plain(sh), plain(place), plain(fixed), *tail))


def edges_of(
    edges: EdgeGeometry | tuple[GraphPlan | Tensor, Tensor],
    num_nodes: int,
    paths: ProductPaths,
) -> tuple[GraphPlan, Tensor]:
    """Plan and harmonics of a graph that is given in one of three ways."""
    if isinstance(edges, EdgeGeometry):
        return edges.plan, edges.sh(len(paths.second) - 1)
    graph, sh = edges
    if isinstance(graph, Tensor):
        graph = build_plan(graph, num_nodes, num_nodes)
    return graph, sh
