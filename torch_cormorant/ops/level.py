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
from typing import Any

import torch
from torch import Tensor

from torch_cormorant.ops import cpu_kernel, edge_network
from torch_cormorant.ops.edge_network import EdgeMask
from torch_cormorant.ops.level_kernels import Flags, Sizes, Work, composed, sizes_of
from torch_cormorant.ops.operands import check_like
from torch_cormorant.ops.operator import applied, asked_for, is_direct
from torch_cormorant.ops.paths import PathTable
from torch_cormorant.ops.plan import GraphPlan, plan_of
from torch_cormorant.ops.pullback import pulled_back
from torch_cormorant.ops.second_order import Seen, Some, looks_of, still_made
from torch_cormorant.ops.tensors import plain
from torch_cormorant.ops.transforms import refuse_rows


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
    what = sizes_of(tuple(sizes), len(given), tuple(key), tuple(numbers))
    constants = (*index, plan.packed, plan.header)
    plan = plan_of(plan.packed, plan.header)
    found = _Value.apply(  # type: ignore[no-untyped-call]
        what, plan, len(operands), *operands, *constants
    )
    return found[0], found[1]


class _Value(torch.autograd.Function):
    """The level; all its inputs and results are plain tensors."""

    @staticmethod
    def forward(
        ctx: Any, sizes: Sizes, plan: GraphPlan, count: int, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.sizes, ctx.plan, ctx.count, ctx.seen = sizes, plan, count, None
        ctx.set_materialize_grads(False)
        looks = looks_of(tensors)
        full = [*map(plain, tensors)] if looks is None else tensors
        work = Work(sizes, full[:count], full[count:], plan)
        results = tuple(work.forward())
        kept = results[1:]  # nothing reads the first one again
        more = looks_of(kept)
        if looks is not None and more is not None:
            ctx.seen = Seen(work.made, looks + more)
        ctx.save_for_backward(*tensors, *kept)
        return results

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        refuse_rows(grads)
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
            parts = applied(_Gradient, ctx.sizes, ctx.plan, marks, *saved, *given)
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
        ctx: Any, sizes: Sizes, plan: GraphPlan, marks: Any, *tensors: Tensor
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
        refuse_rows(cotangents)
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
    sizes: Sizes,
    plan: GraphPlan,
    count: int,
    seen: Seen | None,
    tensors: Sequence[Tensor],
) -> tuple[Work, list[Any]]:
    """The kernels and the results, as they were checked or checked again."""
    made = still_made(seen, tensors)
    full = [*map(plain, tensors)] if made is None else tensors
    operands, constants, results = full[:count], full[count:][:4], full[count + 4 :]
    work = Work(sizes, operands, constants, plan, made)
    if made is None:  # what does not fit any more is refused
        for k, (like, part) in enumerate(zip(work.forward()[1:], results, strict=True)):
            check_like(f"results[{k + 1}]", part, like)
        work.forget()
    return work, [None, *results]


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
