r"""One level as one node of the graph of gradients.

Edge network, neighbour sum, vertex step and the norm behind it are kernels of their
own; here they run one after the other inside of one ``torch.autograd.Function``. What
lies between them is a result too: derivatives of the gradient with respect to it arrive
with those of the level itself, so that every kernel runs once in every pass.

Where something could see that the operators are left out (compilers, modes,
``torch.func``), and for third derivatives, the four operators run as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torch_cormorant.ops import cpu_kernel, edge_network, norm, vertex
from torch_cormorant.ops.edge_network import EdgeMask
from torch_cormorant.ops.neighbour_sum import neighbour_sum
from torch_cormorant.ops.operands import check_like, check_sum
from torch_cormorant.ops.operator import asked_for, is_direct
from torch_cormorant.ops.paths import PathTable
from torch_cormorant.ops.plan import GraphPlan, plan_of
from torch_cormorant.ops.pullback import pulled_back
from torch_cormorant.ops.second_order import Problem, Some, seen_as, still_made
from torch_cormorant.ops.tensors import plain
from torch_cormorant.ops.vertex_paths import VertexPaths, vertex_paths

Flags = Sequence[bool]


@dataclass(frozen=True)
class _Sizes:
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
        return vertex_paths(self.key)

    @cached_property
    def table(self) -> PathTable:
        return self.paths.sums

    @cached_property
    def degrees(self) -> int:
        return len(self.table.counts)

    @property
    def normed(self) -> bool:
        return len(self.numbers) > 2

    @property
    def last(self) -> int:
        """Where the weights of the vertex step end."""
        return self.edges + 2 + self.paths.lmax


@cache
def _sizes(*given: Any) -> _Sizes:
    return _Sizes(*given)


def fits(x: Tensor, operands: Sequence[Tensor], table: PathTable) -> bool:
    """Whether a level can be one node."""
    whole = x.shape[1] == (table.used_lmax2 + 1) ** 2
    return whole and cpu_kernel.fits(table) and is_direct(operands)


def level(
    x: Tensor,
    index: tuple[Tensor, Tensor],
    state: Tensor | None,
    radial: Tensor,
    mask: EdgeMask,
    edge_weights: Sequence[Tensor],
    widths: Sequence[tuple[int, int, int, int]],
    sh: Tensor,
    plan: GraphPlan,
    vertex_weights: Sequence[Tensor],
    key: Sequence[int],
    norm_weight: Tensor | None = None,
    eps: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Features and edge scalars of one level.

    Args:
        x: Complex (or real) features ``[N, M_in, C]``.
        index: As for :func:`.edge_network.edge_network`, and so on.
        state: The same.
        radial: The same.
        mask: The same.
        edge_weights: The same.
        widths: The same.
        sh: Harmonics of the edges.
        plan: The graph's plan.
        vertex_weights: As for :func:`.vertex.vertex_step`.
        key: The same.
        norm_weight: As for :func:`.norm.so3_norm`; None: no norm.
        eps: The same.

    Returns:
        Real ``[N, M, P, C_out]``, and the edge scalars of pairs.
    """
    given, sizes, numbers = edge_network.problem(
        x, x, state, radial, mask, edge_weights, widths
    )
    operands = [*given, sh, *vertex_weights]
    if norm_weight is not None:
        operands.append(norm_weight)
        numbers = [*numbers, eps]
    what = _sizes(tuple(sizes), len(given), tuple(key), tuple(numbers))
    constants = (*index, plan.packed, plan.header)
    plan = plan_of(plan.packed, plan.header)
    found = _Value.apply(  # type: ignore[no-untyped-call]
        what, plan, len(operands), *operands, *constants
    )
    return found[0], found[1]


class _Made(NamedTuple):
    """What the kernels prepared."""

    edge: Any
    sum: Any
    vertex: Any
    norm: Any


class _Work:
    """Kernels of a level on plain tensors."""

    def __init__(
        self,
        sizes: _Sizes,
        operands: Sequence[Tensor],
        constants: Sequence[Tensor],
        plan: GraphPlan,
        made: _Made | None = None,
    ) -> None:
        self.sizes, self.plan = sizes, plan
        self.made = _Made(None, None, None, None) if made is None else made
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

    def vertex(self, sums: Sequence[Tensor]) -> Problem:
        operands = [*sums, self.x, *self.mixing]
        return Problem(operands, (), self.sizes.key, (), self.made.vertex)

    def norm(self, mixed: Tensor) -> Problem:
        scale: Any = self.scale
        eps = self.sizes.numbers[2:]
        return Problem((mixed, scale), (), (), eps, self.made.norm)

    def sum(self, g: Tensor) -> tuple[Any, ...]:
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
            self.made = _Made(edge, aggregate, mixing, None)
            return [mixed, g, *sums, h]
        p = self.norm(mixed)
        scaling = norm.KERNEL.prepare(p)
        (out,) = norm.KERNEL.forward(p._replace(made=scaling))
        self.made = _Made(edge, aggregate, mixing, scaling)
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
                wanted = (below or any(need[edges + 1 : last]), need[last])
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
            tsums = found if found is not None else tsums
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
        tout, of_mixed, of_scale = tmixed, None, []
        if normed:
            tout, of_scale, along = None, [None], [tmixed, tangents[last]]
            if arrived[0] is not None and any(part is not None for part in along):
                wanted = [need_mixed, need[last] and along[0] is not None]
                (of_mixed, *of_scale), (tout,) = norm.KERNEL.double_backward(
                    self.norm(mixed), [arrived[0]], along, wanted, [need_grads[0]]
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


class _Value(torch.autograd.Function):
    """The level; all its inputs and results are plain tensors."""

    @staticmethod
    def forward(
        ctx: Any, sizes: _Sizes, plan: GraphPlan, count: int, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.sizes, ctx.plan, ctx.count = sizes, plan, count
        ctx.set_materialize_grads(False)
        operands = [*map(plain, tensors[:count])]
        constants = [*map(plain, tensors[count : count + 2])]
        work = _Work(sizes, operands, constants, plan)
        results = tuple(work.forward())
        kept = (*tensors, *results[1:])  # nothing reads the first one again
        ctx.seen = seen_as(kept, work.made)
        ctx.save_for_backward(*kept)
        return results

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        count, saved = ctx.count, ctx.saved_tensors
        end = count + 4
        none = (None,) * 3
        need = asked_for(ctx, ctx.needs_input_grad[3:])[:count]
        there = [grad is not None for grad in grads]
        if not any(there) or not any(need):
            return (*none, *[None] * end)
        if is_direct(grads):
            given = [grad for grad in grads if grad is not None]
            marks = (count, need, there, ctx.seen)
            parts = _Gradient.apply(  # type: ignore[no-untyped-call]
                ctx.sizes, ctx.plan, marks, *saved, *given
            )
        else:
            parts = pulled_back(
                lambda *x: composed(ctx.sizes, x, saved[count:end], grads),
                saved[:count],
                grads,
            )
        return (*none, *parts, *[None] * 4)


class _Gradient(torch.autograd.Function):
    """Its gradient: of operands, constants, results and what arrived for these."""

    @staticmethod
    def forward(
        ctx: Any, sizes: _Sizes, plan: GraphPlan, marks: Any, *tensors: Tensor
    ) -> tuple[Tensor | None, ...]:
        ctx.sizes, ctx.plan, ctx.marks = sizes, plan, marks
        ctx.set_materialize_grads(False)
        count, need, there, seen = marks
        first = count + 3 + len(there)
        work, results = _known(sizes, plan, count, seen, tensors[:first])
        given = iter(tensors[first:])
        grads = [plain(next(given)) if mark else None for mark in there]
        found, arrived = work.backward(results, grads, need)
        ctx.arrived = [part is not None for part in arrived]
        kept = [part for part in arrived if part is not None]
        ctx.save_for_backward(*tensors, *kept)
        return tuple(found)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Any, ...]:
        count, _, there, seen = ctx.marks
        saved, end = ctx.saved_tensors, count + 4
        first = end + len(there) - 1
        last = first + sum(there)
        none = (None,) * 3
        flags = asked_for(ctx, ctx.needs_input_grad[3:])
        if not any(flags) or all(part is None for part in cotangents):
            return (*none, *[None] * last)
        direct = is_direct(cotangents) and not any(there[2:])
        if torch.is_grad_enabled() or not direct:
            return (*none, *_third(ctx, saved, cotangents))
        work, results = _known(ctx.sizes, ctx.plan, count, seen, saved[:first])
        kept, of_grads = iter(saved[last:]), iter(flags[first:])
        arrived = [next(kept) if mark else None for mark in ctx.arrived]
        need_grads = [mark and next(of_grads) for mark in there]
        changes = [None if part is None else plain(part) for part in cotangents]
        need, need_results = flags[:count], [False, *flags[end:first]]
        found, of_results, outside = work.double_backward(
            results, arrived, changes, need, need_results, need_grads
        )
        return (
            *none,
            *_chosen(found, need),
            *[None] * 4,
            *_chosen(of_results[1:], need_results[1:]),
            *(
                part if want else None
                for part, want, mark in zip(outside, need_grads, there, strict=True)
                if mark
            ),
        )


def _chosen(parts: Sequence[Tensor | None], wanted: Flags) -> Some:
    return [part if want else None for part, want in zip(parts, wanted, strict=True)]


def _known(
    sizes: _Sizes,
    plan: GraphPlan,
    count: int,
    seen: Sequence[Any],
    tensors: Sequence[Tensor],
) -> tuple[_Work, list[Any]]:
    """The kernels and the results, as they were checked or checked again."""
    made = still_made(seen, tensors)
    full = [*map(plain, tensors)] if made is None else tensors
    operands, constants, results = full[:count], full[count:][:4], full[count + 4 :]
    work = _Work(sizes, operands, constants, plan, made)
    if made is None:  # what does not fit any more is refused
        for k, (like, part) in enumerate(zip(work.forward()[1:], results, strict=True)):
            check_like(f"results[{k + 1}]", part, like)
        work.made = _Made(None, None, None, None)
    return work, [None, *results]


def composed(
    sizes: _Sizes,
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


def _third(ctx: Any, saved: Sequence[Tensor], cotangents: Sequence[Any]) -> Some:
    """Derivatives of the second derivatives, by the operators one by one."""
    count, need, there, _ = ctx.marks
    first = count + 3 + len(there)
    last = first + sum(there)
    constants = saved[count : count + 4]

    def gradient(*leaves: Tensor) -> Some:
        given = iter(leaves[count:])
        grads = [next(given) if mark else None for mark in there]
        return pulled_back(
            lambda *x: composed(ctx.sizes, x, constants, grads), leaves[:count], grads
        )

    leaves = [*saved[:count], *saved[first:last]]
    parts = pulled_back(gradient, leaves, _chosen(cotangents, need))
    return [*parts[:count], *[None] * (first - count), *parts[count:]]
