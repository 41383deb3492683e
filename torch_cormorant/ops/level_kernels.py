"""The kernels of one level, one after the other, with two derivatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torch_cormorant.ops import cpu_kernel, edge_network, norm, vertex
from torch_cormorant.ops.neighbour_sum import neighbour_sum
from torch_cormorant.ops.operands import check_sum
from torch_cormorant.ops.paths import PathTable
from torch_cormorant.ops.plan import GraphPlan, plan_of
from torch_cormorant.ops.second_order import Problem, Some
from torch_cormorant.ops.vertex_paths import VertexPaths, vertex_paths

Flags = Sequence[bool]


@dataclass(frozen=True)
class Sizes:
    """Which operands there are.

    ``edge``: sizes of the edge network; ``edges``: how many operands it has; ``key``:
    that of the vertex step; ``numbers``: envelope, hard radius, and epsilon of a norm.

    Operands are those of the edge network, with the features first, harmonics, weights
    of the vertex step, and the weight of the norm. Constants are the two indices of the
    pairs and the two tensors of the plan. Results are features, edge scalars, sums of
    all degrees, edge scalars before the mask, and with a norm the features before it.
    """

    edge: tuple[int, ...]
    edges: int
    key: tuple[int, ...]
    numbers: tuple[float, ...]

    @cached_property
    def paths(self) -> VertexPaths:
        """Paths of the vertex step."""
        return vertex_paths(self.key)

    @cached_property
    def table(self) -> PathTable:
        """Paths of the neighbour sum."""
        return self.paths.sums

    @cached_property
    def degrees(self) -> int:
        """How many sums there are."""
        return len(self.table.counts)

    @cached_property
    def normed(self) -> bool:
        """Whether there is a norm."""
        return len(self.numbers) > 2

    @cached_property
    def last(self) -> int:
        """Where the weights of the vertex step end."""
        return self.edges + 2 + self.paths.lmax


@cache
def sizes_of(*given: Any) -> Sizes:
    """Which operands there are, from the four parts of that."""
    return Sizes(*given)


class Made(NamedTuple):
    """What the kernels prepared."""

    edge: Any
    sum: Any
    vertex: Any
    norm: Any


UNMADE = Made(None, None, None, None)


class Work:
    """Kernels of a level on plain tensors."""

    def __init__(
        self,
        sizes: Sizes,
        operands: Sequence[Tensor],
        constants: Sequence[Tensor],
        plan: GraphPlan,
        made: Made | None = None,
    ) -> None:
        self.sizes, self.plan = sizes, plan
        self.made = UNMADE if made is None else made
        edges, last = sizes.edges, sizes.last
        self.x, self.sh = operands[0], operands[edges]
        self.mixing = operands[edges + 1 : last]
        self.scale = operands[last] if sizes.normed else None
        self.edge = Problem(
            operands[:edges],
            constants[:2],
            sizes.edge,
            sizes.numbers[:2],
            self.made.edge,
        )

    def forget(self) -> None:
        """Let every kernel look at its operands again."""
        self.made = UNMADE
        self.edge = self.edge._replace(made=None)

    def vertex(self, sums: Sequence[Tensor]) -> Problem:
        """What the vertex step is given."""
        operands = [*sums, self.x, *self.mixing]
        return Problem(operands, (), self.sizes.key, (), self.made.vertex)

    def norm(self, mixed: Tensor) -> Problem:
        """What the norm is given."""
        scale: Any = self.scale
        eps = self.sizes.numbers[2:]
        return Problem((mixed, scale), (), (), eps, self.made.norm)

    def sum(self, g: Tensor) -> tuple[Tensor, Tensor, Tensor, GraphPlan, PathTable]:
        """What the neighbour sum is given."""
        return self.x, g, self.sh, self.plan, self.sizes.table

    def forward(self) -> list[Tensor]:
        """Check operands, prepare kernels and run them."""
        edge = edge_network.KERNEL.prepare(self.edge)
        g, h = edge_network.KERNEL.forward(self.edge._replace(made=edge), keep=True)
        given = self.sum(g)
        check_sum(*given)
        aggregate = cpu_kernel.prepare_sum(*given)
        sums = cpu_kernel.forward(*given, aggregate)
        p = self.vertex(sums)
        mixing = vertex.KERNEL.prepare(p)
        (mixed,) = vertex.KERNEL.forward(p._replace(made=mixing))
        if not self.sizes.normed:
            self.made = Made(edge, aggregate, mixing, None)
            return [mixed, g, *sums, h]
        p = self.norm(mixed)
        scaling = norm.KERNEL.prepare(p)
        (out,) = norm.KERNEL.forward(p._replace(made=scaling))
        self.made = Made(edge, aggregate, mixing, scaling)
        return [out, g, *sums, h, mixed]

    def between(self, results: Sequence[Any]) -> tuple[Any, Any, list[Any], Any]:
        """Features before the norm, edge scalars, sums, scalars before the mask.

        Of results, or of what belongs to them.
        """
        mixed = results[-1] if self.sizes.normed else results[0]
        end = 2 + self.sizes.degrees
        return mixed, results[1], list(results[2:end]), results[end]

    def backward(
        self, results: Sequence[Tensor], grads: Some, need: Flags
    ) -> tuple[Some, Some]:
        """Gradients of the operands, and of all results."""
        edges, last = self.sizes.edges, self.sizes.last
        mixed, g, sums, h = self.between(results)
        dmixed, dg, dsums, dh = self.between(grads)
        need_edge = any(need[:edges])
        below = need_edge or need[edges]
        dscale: Some = []
        if self.sizes.normed:
            dscale = [None]
            if grads[0] is not None:
                wanted = [below or any(need[edges + 1 : last]), need[last]]
                more, *dscale = norm.KERNEL.backward(
                    self.norm(mixed), [grads[0]], wanted
                )
                dmixed = _onto(more, dmixed)
        dmixing: Some = [None] * len(self.mixing)
        dx: Tensor | None = None
        if dmixed is not None:
            wanted = [below] * len(sums) + [need[0], *need[edges + 1 : last]]
            parts = vertex.KERNEL.backward(self.vertex(sums), [dmixed], wanted)
            dsums = [*map(_onto, parts, dsums)]
            dx, dmixing = parts[len(sums)], parts[len(sums) + 1 :]
        dsh: Tensor | None = None
        if below and any(part is not None for part in dsums):
            dsums = _filled(dsums, sums)
            dx, more, dsh = cpu_kernel.backward(
                *self.sum(g),
                (need[0], need_edge, need[edges]),
                dsums,
                self.made.sum,
                dx,
            )
            dg = _onto(more, dg)
        dedge: Some = [None] * edges
        if need_edge and not (dg is None and dh is None):
            dedge = edge_network.KERNEL.backward(
                self.edge, [dg], need[:edges], (h, dh, None)
            )
            dedge[0] = _onto(dedge[0], dx)
        else:
            dedge[0] = dx
        arrived = [grads[0], dg, *dsums, dh]
        if self.sizes.normed:
            arrived.append(dmixed)
        else:
            arrived[0] = dmixed
        return [*dedge, dsh, *dmixing, *dscale], arrived

    def double_backward(
        self,
        results: Sequence[Tensor],
        arrived: Some,
        tangents: Some,
        need: Flags,
        need_results: Flags,
        need_grads: Flags,
    ) -> tuple[Some, Some, Some]:
        """Gradients of ``backward``.

        Args:
            results: As there.
            arrived: What it returned for results.
            tangents: Cotangents of what it returned for operands.
            need: For each operand.
            need_results: For each result.
            need_grads: For each gradient that arrived from outside.

        Returns:
            With respect to operands, results, and what arrived.
        """
        edges, last, normed = self.sizes.edges, self.sizes.last, self.sizes.normed
        mixed, g, sums, h = self.between(results)
        dmixed, dg, dsums, _ = self.between(arrived)
        need_mixed, need_g, need_sums, _ = self.between(need_results)
        wants_mixed, wants_g, wants_sums, _ = self.between(need_grads)
        above = normed and (need_grads[0] or need_mixed or need[-1])
        on_mixed = wants_mixed or above
        on_sums = on_mixed or any([*wants_sums, *need_sums, *need[edges + 1 : last]])
        on_sums = on_sums or need[0]
        on_g = wants_g or on_sums or need_g or need[edges]

        of_edge: Some = [None] * edges
        tg = of_h = None
        given = [part is not None for part in tangents[:edges]]
        if dg is not None and any(given):
            wanted = edge_network.KERNEL.reached(
                self.sizes.edge, given, need[:edges], kept=True
            )
            of_h = torch.empty_like(h)
            of_edge, (tg,) = edge_network.KERNEL.double_backward(
                self.edge, [dg], tangents[:edges], wanted, [on_g], (h, None, of_h)
            )
        along = (tangents[0], tg, tangents[edges])
        of_x = of_g = of_sh = None
        tsums: Some = [None] * len(sums)
        if dsums[0] is not None and any(part is not None for part in along):
            of_x, of_g, of_sh, found = cpu_kernel.double_backward(
                *self.sum(g),
                (need[0], need_g, need[edges]),
                on_sums,
                dsums,
                along,
                self.made.sum,
            )
            tsums = [*found] if found is not None else tsums
        tangent = [*tsums, tangents[0], *tangents[edges + 1 : last]]
        of_vertex: Some = [None] * len(tangent)
        tmixed: Tensor | None = None
        given = [part is not None for part in tangent]
        if dmixed is not None and any(given):
            wanted = [*need_sums, need[0], *need[edges + 1 : last]]
            wanted = vertex.KERNEL.reached(self.sizes.key, given, wanted)
            if on_mixed or any(wanted):
                of_vertex, (tmixed,) = vertex.KERNEL.double_backward(
                    self.vertex(sums), [dmixed], tangent, wanted, [on_mixed]
                )
        of_sums, rest = of_vertex[: len(sums)], of_vertex[len(sums) :]
        tout, of_mixed = tmixed, None
        of_scale: Some = []
        if normed:
            tout, of_scale, tangent = None, [None], [tmixed, tangents[last]]
            if arrived[0] is not None and any(part is not None for part in tangent):
                wanted = [need_mixed, need[last] and tmixed is not None]
                (of_mixed, *of_scale), (tout,) = norm.KERNEL.double_backward(
                    self.norm(mixed), [arrived[0]], tangent, wanted, [need_grads[0]]
                )
        of_edge[0] = _onto(of_edge[0], _onto(of_x, rest[0]))
        of_results = [None, of_g, *of_sums, of_h, *([of_mixed] if normed else [])]
        of_grads = [tout, tg, *tsums, None, *([tmixed] if normed else [])]
        return [*of_edge, of_sh, *rest[1:], *of_scale], of_results, of_grads


def _onto(own: Tensor | None, other: Tensor | None) -> Tensor | None:
    """The sum, in the place of the first, which nobody else has."""
    if own is None or other is None:
        return other if own is None else own
    return own.add_(other)


def _filled(parts: Some, likes: Sequence[Tensor]) -> list[Tensor]:
    return [
        torch.zeros_like(like) if part is None else part
        for part, like in zip(parts, likes, strict=True)
    ]


def composed(
    sizes: Sizes,
    operands: Sequence[Tensor],
    constants: Sequence[Tensor],
    grads: Sequence[object],
) -> list[Tensor | None]:
    """The same by the four operators; results that have no gradient may be None."""
    edges, last = sizes.edges, sizes.last
    index, (packed, header) = [*constants[:2]], constants[2:]
    of_edge, numbers = [*operands[:edges]], [*sizes.numbers[:2]]
    (g,) = edge_network.OPERATOR(of_edge, index, [*sizes.edge], numbers)
    h = None
    if grads[2 + sizes.degrees] is not None:
        parts = edge_network.without_mask(of_edge, [*sizes.edge])
        (h,) = edge_network.OPERATOR(parts[0], index, parts[1], [0.0, 0.0])
    plan = plan_of(packed, header)
    x, sh, table = operands[0], operands[edges], sizes.table
    sums = neighbour_sum(x, g, sh, plan, table)
    mixing = operands[edges + 1 : last]
    mixed = vertex.vertex_step(sums, x, mixing, [*sizes.key])
    if not sizes.normed:
        return [mixed, g, *sums, h]
    out = norm.so3_norm(mixed, operands[last], sizes.numbers[2])
    return [out, g, *sums, h, mixed]
