r"""Products of features of edges with features of their receivers.

All edges of a receiver share one operand, so the Clebsch-Gordan tables and the weights
act on it once: :math:`B_i[m_1, m] = \sum_{p, m_2} w_p\, C_p[m_1, m_2, m]\, X_i[m_2]`
for every channel, and an edge is one small matrix product,
:math:`V_e[m_1] B_i[m_1, m]`.
"""

from __future__ import annotations

from itertools import accumulate

import torch
from torch import Tensor
from torch.nn import functional

from torch_cormorant.errors import ConfigError, ShapeError
from torch_cormorant.irreps import Irreps
from torch_cormorant.ops.dispatch import chosen
from torch_cormorant.ops.plan import GraphPlan
from torch_cormorant.ops.product_paths import ProductPaths, cg_table
from torch_cormorant.ops.tensor_product import tensor_product
from torch_cormorant.so3.flat import check_flat, flat_blocks

__all__ = ["EdgePaths", "edge_product"]


class EdgePaths:
    """Paths of a channelwise product whose results are added up.

    Args:
        first: Irreps of the first operand, the edges.
        second: Irreps of the second operand, the nodes.
        out: Irreps of the result. All three have the same multiplicity everywhere.

    Attributes:
        paths: The paths, in the order of the blocks of the result, the first operand
            and the second operand.
        channels: The multiplicity.

    Raises:
        ConfigError: If multiplicities differ, or a block of the result has no path.

    Example:
        >>> EdgePaths("4x0e + 4x1o", "4x0e + 4x1o", "4x0e").num_paths
        2
    """

    def __init__(self, first: object, second: object, out: object) -> None:
        self.first, self.second, self.out = Irreps(first), Irreps(second), Irreps(out)
        muls = {mul for irreps in (first, second, out) for mul, _ in Irreps(irreps)}
        if len(muls) != 1:
            msg = (
                "a channelwise product needs equal multiplicities, got "
                f"{self.first}, {self.second} and {self.out}"
            )
            raise ConfigError(msg)
        (self.channels,) = muls
        found = [
            (i, j, k)
            for k, (_, ir) in enumerate(self.out)
            for i, (_, a) in enumerate(self.first)
            for j, (_, b) in enumerate(self.second)
            if ir in a.product(b)
        ]
        missing = set(range(len(self.out))) - {k for _, _, k in found}
        if missing:
            msg = (
                f"{self.first} and {self.second} make no {self.out[min(missing)]}: "
                "leave it out"
            )
            raise ConfigError(msg)
        self.blocks = tuple(k for _, _, k in found)
        triples = [(i, j, self.out[k].ir) for i, j, k in found]
        self.paths = ProductPaths(self.first, self.second, mode="uuu", paths=triples)

    @property
    def num_paths(self) -> int:
        """Number of paths."""
        return len(self.blocks)

    def signs(self) -> list[int]:
        """What e3nn's 3j symbols are of our tables, for every path."""
        return self.paths.signs()

    def __repr__(self) -> str:
        return f"EdgePaths({self.first} x {self.second} -> {self.out})"


def edge_product(
    v: Tensor,
    x: Tensor,
    plan: GraphPlan,
    weights: Tensor,
    paths: EdgePaths,
    backend: str = "auto",
) -> Tensor:
    r"""Multiply features of edges with those of their receivers, channel by channel.

    .. math::
        \text{out}_{ij}^{l}[m, c] = \sum_p w_p[c] \sum_{m_1 m_2}
        C^{l_1 l_2 l}_{m_1 m_2 m}\, V_{ij}^{l_1}[m_1, c]\, X_i^{l_2}[m_2, c],

    eq. (12) of `Allegro <https://arxiv.org/abs/2204.05249>`_ without its linear map.

    Args:
        v: Features of edges, flat rows of ``paths.first``.
        x: Features of receivers, flat rows of ``paths.second``.
        plan: The graph, ``EdgeGeometry.plan``.
        weights: One for each path, and for each channel.
        paths: The paths.
        backend: ``"portable"``: row by row, the readable reference; ``"auto"``
            (default) and all others: the tables act once for each receiver.

    Shapes:
        ``v`` ``[E, D1 C]``, ``x`` ``[N, D2 C]``, ``weights`` ``[num_paths, C]``, or
        ``[num_paths, 1]`` for all channels alike.

    Returns:
        Flat rows ``[E, D C]`` of ``paths.out``.

    Raises:
        ShapeError: If a tensor does not fit the others.
        BackendError: If the backend is not known.

    Note:
        Deterministic; differentiable to any order.

    Example:
        >>> import torch
        >>> from torch_cormorant.ops import build_plan
        >>> plan = build_plan(torch.tensor([[0, 1, 2], [1, 0, 0]]), 3, 3)
        >>> paths = EdgePaths("4x0e + 4x1o", "4x0e + 4x1o", "4x1o")
        >>> v, x, w = torch.randn(3, 16), torch.randn(3, 16), torch.randn(2, 4)
        >>> edge_product(v, x, plan, w, paths).shape
        torch.Size([3, 12])
    """
    _check(v, x, plan, weights, paths)
    weights = weights.expand(-1, paths.channels)
    if chosen(backend) == "portable":
        return _by_rows(v, x, plan, weights, paths)
    return _by_receivers(v, x, plan, weights, paths)


def _check(
    v: Tensor, x: Tensor, plan: GraphPlan, weights: Tensor, paths: EdgePaths
) -> None:
    check_flat(v, paths.first, "v")
    check_flat(x, paths.second, "x")
    rows = (v.ndim, x.ndim, v.shape[0], x.shape[0])
    if rows != (2, 2, plan.num_edges, plan.num_targets):
        msg = (
            f"v must have {plan.num_edges} rows (edges) and x {plan.num_targets} "
            f"(receivers), got shapes {list(v.shape)} and {list(x.shape)}"
        )
        raise ShapeError(msg)
    sizes = {(paths.num_paths, paths.channels), (paths.num_paths, 1)}
    if tuple(weights.shape) not in sizes:
        msg = f"weights must have one of the shapes {sizes}, got {list(weights.shape)}"
        raise ShapeError(msg)


def _targets(plan: GraphPlan) -> Tensor:
    """Receiver of each edge ``[E]``."""
    nodes = torch.arange(plan.num_targets, device=plan.rowptr.device)
    by_row = nodes.repeat_interleave(plan.rowptr.diff(), output_size=plan.num_edges)
    return torch.empty_like(by_row).index_copy(0, plan.csr_edge, by_row)


def _by_rows(
    v: Tensor, x: Tensor, plan: GraphPlan, weights: Tensor, paths: EdgePaths
) -> Tensor:
    """The reference: every edge on its own, and never changed for speed."""
    table = paths.paths
    rows = tensor_product(
        v, x[_targets(plan)], "", "", paths=table, weights=weights.flatten()
    )
    parts: list[list[Tensor]] = [[] for _ in paths.out]
    made = flat_blocks(rows, table.out)
    for path, k in zip(table.paths, paths.blocks, strict=True):
        parts[k].append(made[path.out][..., path.at : path.at + paths.channels])
    return torch.cat([torch.stack(p).sum(0).flatten(1) for p in parts], dim=1)


def _by_receivers(
    v: Tensor, x: Tensor, plan: GraphPlan, weights: Tensor, paths: EdgePaths
) -> Tensor:
    B = _matrices(x, weights, paths)
    rows = v.unflatten(1, (-1, paths.channels))
    if B.shape[2] == 1:  # scalars alone: no matrix, a sum
        own: Tensor = B[:, :, 0].index_select(0, _targets(plan))
        total: Tensor = (rows * own).sum(1)
        return total
    if not plan.num_edges:
        return v.new_zeros(0, paths.out.dim)
    chunks = plan.chunks
    counts = [chunk.last - chunk.first for chunk in chunks]
    slots = [n * chunk.width for n, chunk in zip(counts, chunks, strict=True)]
    rows = rows.index_select(0, plan.slot_edge)
    if not (plan.in_order and plan.all_receive):
        B = B.index_select(0, plan.order)
    made = [
        torch.einsum("nwac,namc->nwmc", part.unflatten(0, (n, -1)), own).flatten(0, 1)
        for part, own, n in zip(rows.split(slots), B.split(counts), counts, strict=True)
    ]
    return torch.cat(made).flatten(1).index_select(0, _slot_of_edge(plan))


def _matrices(x: Tensor, weights: Tensor, paths: EdgePaths) -> Tensor:
    """B of the module's docstring ``[N, D1, D, C]``."""
    blocks = flat_blocks(x, paths.second)
    pieces = zip(paths.paths.paths, weights.unbind(0), strict=True)
    u = torch.cat([blocks[path.second] * w for path, w in pieces], dim=1)
    return torch.einsum("kam,nkc->namc", _table(paths, x), u)


def _table(paths: EdgePaths, like: Tensor) -> Tensor:
    """All tables together ``[(path, m2), D1, D]``."""
    first, out = _starts(paths.first), _starts(paths.out)
    parts = []
    for path, k in zip(paths.paths.paths, paths.blocks, strict=True):
        cg = cg_table(paths.paths.degrees(path), like.dtype, like.device)
        left, top = out[k], first[path.first]
        right = out[-1] - left - cg.shape[2]
        below = first[-1] - top - cg.shape[0]
        parts.append(functional.pad(cg.transpose(0, 1), (left, right, top, below)))
    return torch.cat(parts)


def _starts(irreps: Irreps) -> list[int]:
    """Component at which each block begins, and the number of all."""
    return [0, *accumulate(block.ir.dim for block in irreps)]


def _slot_of_edge(plan: GraphPlan) -> Tensor:
    """Slot of each edge ``[E]``."""
    slot = torch.arange(plan.slot_edge.shape[0], device=plan.slot_edge.device)
    place = plan.slot_edge
    if plan.slot_weight is not None:  # empty slots go to a place of their own
        place = torch.where(plan.slot_weight, place, plan.num_edges)
    found = slot.new_empty(plan.num_edges + 1).index_copy(0, place, slot)
    return found[:-1]
