r"""The neighbour sum with the Clebsch-Gordan contraction behind the sum.

For every receiver i and path (l1, l2) -> l

.. math::
    A_i^{l} = \sum_j C^{l1,l2,l} \, (g_{ij}^{l1} Y^{l1}(r_{ij})) \otimes F_j^{l2} .

Since :math:`g` depends on (l1, channel) only and :math:`Y` is real and the same for
all channels, the sum over j is the small matrix product
:math:`T_i^{l1}[m_1, (m_2, c)] = \sum_j Y_{m_1} (g^{l1} F_j)[m_2, c]`, and C acts once
per receiver. No ``[edges, paths]`` tensor exists. The operation is trilinear in
(F, g, Y), so its derivatives of any order are again the two operators of this file,
``torch_cormorant::neighbour_sum`` and ``torch_cormorant::neighbour_sum_backward``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from torch_cormorant.errors import ShapeError
from torch_cormorant.ops.dispatch import chosen, has_double_backward, implementation
from torch_cormorant.ops.operands import (
    FEATURE_AXES,
    check_count,
    check_like,
    check_rank,
    check_results,
    check_sum,
)
from torch_cormorant.ops.operator import Operator
from torch_cormorant.ops.paths import PathTable, table_of
from torch_cormorant.ops.plan import GraphPlan, known_plan, plan_of
from torch_cormorant.ops.portable import Need, shapes
from torch_cormorant.ops.pullback import pulled_back
from torch_cormorant.ops.tensors import fakes, plain
from torch_cormorant.ops.transforms import is_transformed
from torch_cormorant.ops.trilinear import composed


def neighbour_sum(
    x: Tensor,
    g: Tensor,
    sh: Tensor,
    plan: GraphPlan,
    table: PathTable,
    backend: str = "auto",
) -> tuple[Tensor, ...]:
    """Sum the channelwise CG products of edges with their source nodes.

    Eq. (8) of Anderson et al. 2019, last term, without the mixing matrix.

    Args:
        x: Node features, complex (or real for the real-valued variant).
        g: Edge scalars of the same dtype, one row per edge, or one row per
            undirected pair if it has as many rows as ``plan.pairs.edge``.
        sh: Real spherical harmonics of the edges.
        plan: The graph's plan.
        table: The paths; ``lmax1`` belongs to the edges, ``lmax2`` to the nodes.
        backend: ``"portable"`` (PyTorch alone), ``"cpu_kernel"``, ``"triton"`` or
            ``"auto"`` (default): the fastest one that works here.

    Shapes:
        ``x`` ``[N, M_in, C]``; ``g`` ``[E, lmax1 + 1, C]`` or
        ``[number of pairs, lmax1 + 1, C]``; ``sh`` ``[E, (lmax1 + 1)^2]``.

    Returns:
        For each degree l one tensor ``[N_target, 2l + 1, number of paths, C]``.

    Raises:
        ShapeError, DtypeError, DeviceError: If a tensor does not fit the others.
        EdgeIndexError: If the plan names a row that does not exist.
        BackendError: If the backend is unknown, or missing on this machine.

    Note:
        Deterministic; differentiable to any order; one operator for ``torch.compile``.
        Memory beyond inputs and outputs is bounded by the chunk size of the plan.

    Example:
        >>> import torch
        >>> from torch_cormorant.ops import PathTable, build_plan, neighbour_sum
        >>> plan = build_plan(torch.tensor([[0, 1, 2], [1, 0, 0]]), 3, 3)
        >>> x, g, sh = torch.randn(3, 4, 8), torch.randn(3, 2, 8), torch.randn(3, 4)
        >>> sums = neighbour_sum(x, g, sh, plan, PathTable(1, 1, 1))
        >>> [tuple(part.shape) for part in sums]
        [(3, 1, 2, 8), (3, 3, 3, 8)]
    """
    check_rank("x", x, FEATURE_AXES)
    check_rank("g", g, ("edges", "degrees", "channels"))
    check_rank("sh", sh, ("edges", "components"))
    if x.shape[1] != (table.lmax2 + 1) ** 2:
        msg = (
            f"x must have (lmax2 + 1)^2 = {(table.lmax2 + 1) ** 2} components on axis "
            f"1, as the table says, got {x.shape[1]}"
        )
        raise ShapeError(msg)
    used = (table.used_lmax2 + 1) ** 2
    if used < x.shape[1]:
        x = x[:, :used]
    out: list[Tensor] = _sum(
        plain(x),
        plain(g),
        plain(sh),
        plan.packed,
        plan.header,
        plan.num_targets,
        table.key,
        chosen(backend),
    )
    return tuple(out)


def _run_sum(
    x: Tensor,
    g: Tensor,
    sh: Tensor,
    packed: Tensor,
    header: Tensor,
    num_targets: int,
    key: Sequence[int],
    backend: str,
) -> list[Tensor]:
    table, plan = table_of(key), plan_of(packed, header)
    x, g, sh = plain(x), plain(g), plain(sh)
    check_sum(x, g, sh, plan, table)
    if num_targets != plan.num_targets:
        msg = f"num_targets is {num_targets}, the plan's graph has {plan.num_targets}"
        raise ShapeError(msg)
    return implementation(backend, x, table).forward(x, g, sh, plan, table)


def _run_gradient(
    x: Tensor,
    g: Tensor,
    sh: Tensor,
    packed: Tensor,
    header: Tensor,
    key: Sequence[int],
    backend: str,
    need: Sequence[bool],
    grads: Sequence[Tensor],
) -> list[Tensor]:
    """Gradients with respect to x, g and sh, empty where not needed."""
    table, plan = table_of(key), plan_of(packed, header)
    inputs, full = (plain(x), plain(g), plain(sh)), [plain(grad) for grad in grads]
    _check_gradient(inputs, plan, table, need, full)
    made = implementation(backend, x, table)
    needed: Need = (need[0], need[1], need[2])
    parts = made.backward(*inputs, plan, table, needed, full)
    return [
        like.new_empty(0) if part is None else part
        for part, like in zip(parts, inputs, strict=True)
    ]


def _check_gradient(
    inputs: tuple[Tensor, Tensor, Tensor],
    plan: GraphPlan,
    table: PathTable,
    need: Sequence[bool],
    grads: Sequence[Tensor],
) -> None:
    check_sum(*inputs, plan, table)
    check_count("need", need, 3)
    check_results(grads, plan.num_targets, table, inputs[0])


def _fake_sum(
    x: Tensor,
    g: Tensor,  # noqa: ARG001
    sh: Tensor,  # noqa: ARG001
    packed: Tensor,  # noqa: ARG001
    header: Tensor,  # noqa: ARG001
    num_targets: int,
    key: Sequence[int],
    backend: str,  # noqa: ARG001
) -> list[Tensor]:
    table = table_of(key)
    return [x.new_empty(shape) for shape in shapes(num_targets, table, x.shape[-1])]


def _fake_gradient(
    x: Tensor,
    g: Tensor,
    sh: Tensor,
    packed: Tensor,  # noqa: ARG001
    header: Tensor,  # noqa: ARG001
    key: Sequence[int],  # noqa: ARG001
    backend: str,  # noqa: ARG001
    need: Sequence[bool],
    grads: Sequence[Tensor],  # noqa: ARG001
) -> list[Tensor]:
    return fakes((x, g, sh), need)


def _keep_sum(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:  # noqa: ARG001
    ctx.save_for_backward(*inputs[:5])
    ctx.num_targets, ctx.key, ctx.backend = inputs[5:]
    ctx.plan = known_plan(inputs[3])
    ctx.set_materialize_grads(False)


def _sum_backward(ctx: Any, grads: list[Tensor | None]) -> tuple[Any, ...]:
    x, g, sh, packed, header = ctx.saved_tensors
    needed = shapes(ctx.num_targets, table_of(ctx.key), x.shape[-1])
    full = [
        x.new_zeros(shape) if grad is None else plain(grad)
        for grad, shape in zip(grads, needed, strict=True)
    ]
    need = list(ctx.needs_input_grad[:3])
    parts = _gradient(x, g, sh, packed, header, ctx.key, ctx.backend, need, full)
    given = [part if wanted else None for part, wanted in zip(parts, need, strict=True)]
    return (*given, None, None, None, None, None)


def _keep_gradient(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:  # noqa: ARG001
    ctx.save_for_backward(*inputs[:5], *inputs[8])
    ctx.key, ctx.backend, ctx.need = inputs[5:8]
    ctx.plan = known_plan(inputs[3])
    ctx.set_materialize_grads(False)


def _gradient_backward(ctx: Any, cotangents: list[Tensor | None]) -> tuple[Any, ...]:
    """Gradient of the gradient: the fused operator, or the two others."""
    x, g, sh, packed, header, *grads = ctx.saved_tensors
    need = [*ctx.needs_input_grad[:3], any(ctx.needs_input_grad[8])]
    given = [
        None if part is None or not there else plain(part)
        for part, there in zip(cotangents, ctx.need, strict=True)
    ]
    inputs, plan, key = (x, g, sh), (packed, header), ctx.key
    fused = has_double_backward(ctx.backend, x, table_of(key))
    if fused and not is_transformed():
        there = [part is not None for part in given]
        full = [x.new_empty(0) if part is None else part for part in given]
        parts = _double(*inputs, *plan, key, ctx.backend, need, grads, full, there)
        found = [part if w else None for part, w in zip(parts, need[:3], strict=False)]
        dgrads = parts[3:] if need[3] else [None] * len(grads)
    else:
        found, dgrads = composed(
            inputs,
            grads,
            given,
            need,
            lambda *a: _gradient(*a[:3], *plan, key, ctx.backend, a[3], grads),
            lambda *a: _sum(*a, *plan, grads[0].shape[0], key, ctx.backend),
        )
    return (*found, None, None, None, None, None, list(dgrads))


def _run_double(
    x: Tensor,
    g: Tensor,
    sh: Tensor,
    packed: Tensor,
    header: Tensor,
    key: Sequence[int],
    backend: str,
    need: Sequence[bool],
    grads: Sequence[Tensor],
    cotangents: Sequence[Tensor],
    given: Sequence[bool],
) -> list[Tensor]:
    """Gradients of the gradient with respect to x, g, sh and every one of grads."""
    table, plan = table_of(key), plan_of(packed, header)
    inputs, full = (plain(x), plain(g), plain(sh)), [plain(grad) for grad in grads]
    check_count("need", need, 4)
    _check_gradient(inputs, plan, table, need[:3], full)
    check_count("cotangents", cotangents, 3)
    check_count("given", given, 3)
    us = [
        plain(u) if there else None for u, there in zip(cotangents, given, strict=True)
    ]
    for k, (u, like) in enumerate(zip(us, inputs, strict=True)):
        if u is not None:
            check_like(f"cotangents[{k}]", u, like)
    made = implementation(backend, x, table)
    if hasattr(made, "double_backward"):
        wanted: Need = (need[0], need[1], need[2])
        *found, dgrads = made.double_backward(
            *inputs, plan, table, wanted, need[3], full, us
        )
    else:
        found, dgrads = composed(
            inputs,
            full,
            us,
            need,
            lambda x, g, y, w: made.backward(x, g, y, plan, table, (*w,), full),
            lambda x, g, y: made.forward(x, g, y, plan, table),
        )
    parts = [*found, *(dgrads if need[3] and dgrads else [None] * len(full))]
    likes = [*inputs, *full]
    return [
        (torch.zeros_like(like) if wanted else like.new_empty(0))
        if part is None
        else part
        for part, like, wanted in zip(parts, likes, _wanted(need, full), strict=True)
    ]


def _wanted(need: Sequence[bool], grads: Sequence[Tensor]) -> list[bool]:
    return [*need[:3], *[need[3]] * len(grads)]


def _fake_double(
    x: Tensor,
    g: Tensor,
    sh: Tensor,
    packed: Tensor,  # noqa: ARG001
    header: Tensor,  # noqa: ARG001
    key: Sequence[int],  # noqa: ARG001
    backend: str,  # noqa: ARG001
    need: Sequence[bool],
    grads: Sequence[Tensor],
    cotangents: Sequence[Tensor],  # noqa: ARG001
    given: Sequence[bool],  # noqa: ARG001
) -> list[Tensor]:
    return fakes((x, g, sh, *grads), _wanted(need, grads))


def _keep_double(ctx: Any, inputs: tuple[Any, ...], output: object) -> None:  # noqa: ARG001
    ctx.save_for_backward(*inputs[:5], *inputs[8], *inputs[9])
    ctx.key, ctx.backend, ctx.need = inputs[5:8]
    ctx.degrees, ctx.given = len(inputs[8]), inputs[10]
    ctx.set_materialize_grads(False)


def _double_backward(ctx: Any, weights: list[Tensor | None]) -> tuple[Any, ...]:
    """Third derivatives: those of the composed form, which is differentiable."""
    x, g, sh, packed, header, *rest = ctx.saved_tensors
    last, plan, key = 3 + ctx.degrees, (packed, header), ctx.key

    def again(*leaves: Tensor) -> list[Tensor | None]:
        grads, us = leaves[3:last], leaves[last:]
        found, dgrads = composed(
            leaves[:3],
            grads,
            [u if there else None for u, there in zip(us, ctx.given, strict=True)],
            ctx.need,
            lambda *a: _gradient(*a[:3], *plan, key, ctx.backend, a[3], list(grads)),
            lambda *a: _sum(*a, *plan, grads[0].shape[0], key, ctx.backend),
        )
        return [*found, *dgrads]

    parts = pulled_back(again, [x, g, sh, *rest], weights)
    return (*parts[:3], *[None] * 5, parts[3:last], parts[last:], None)


_sum = Operator(
    "neighbour_sum",
    "(Tensor x, Tensor g, Tensor sh, Tensor packed, Tensor header, "
    "SymInt num_targets, int[] key, str backend) -> Tensor[]",
    run=_run_sum,
    fake=_fake_sum,
    keep=_keep_sum,
    backward=_sum_backward,
    operands=(0, 1, 2),
)
_gradient = Operator(
    "neighbour_sum_backward",
    "(Tensor x, Tensor g, Tensor sh, Tensor packed, Tensor header, int[] key, "
    "str backend, bool[] need, Tensor[] grads) -> Tensor[]",
    run=_run_gradient,
    fake=_fake_gradient,
    keep=_keep_gradient,
    backward=_gradient_backward,
    operands=(0, 1, 2, 8),
    own=(0, 1, 2),
)
_double = Operator(
    "neighbour_sum_double_backward",
    "(Tensor x, Tensor g, Tensor sh, Tensor packed, Tensor header, int[] key, "
    "str backend, bool[] need, Tensor[] grads, Tensor[] cotangents, "
    "bool[] given) -> Tensor[]",
    run=_run_double,
    fake=_fake_double,
    keep=_keep_double,
    backward=_double_backward,
)
