"""Operators of the weighted neighbour sum of :mod:`torch_cormorant.ops.weighted_sum`.

It is trilinear in features, harmonics and weights: derivatives of any order are made of
``torch_cormorant::weighted_sum`` and ``torch_cormorant::weighted_sum_backward``; those
of second order are one pass of their own on a CPU. No tensor of messages exists.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from torch import Tensor

from torch_cormorant.errors import BackendError
from torch_cormorant.ops import weighted_kernel, weighted_reference
from torch_cormorant.ops.dispatch import use_kernel
from torch_cormorant.ops.operands import (
    check_blocks,
    check_count,
    check_like,
    check_weighted,
)
from torch_cormorant.ops.operator import Operator
from torch_cormorant.ops.plan import GraphPlan, plan_of
from torch_cormorant.ops.product_paths import ProductPaths, paths_of
from torch_cormorant.ops.pullback import pulled_back
from torch_cormorant.ops.tensors import fakes, plain
from torch_cormorant.ops.transforms import is_transformed
from torch_cormorant.ops.trilinear import composed
from torch_cormorant.ops.weighted_reference import block_shapes


def implementation(name: str, x: Tensor, paths: ProductPaths) -> ModuleType:
    """The module that computes the weighted sum of x.

    Raises:
        BackendError: If a backend that is asked for by name cannot do it.
    """
    if use_kernel(name, x, None) and weighted_kernel.fits(paths):
        return weighted_kernel
    if name in {"cpu_kernel", "triton"}:
        msg = (
            f'backend "{name}" does not compute the weighted sum of {paths} on '
            f'{x.device}: there is "cpu_kernel" up to degree '
            f'{weighted_kernel.MAX_LMAX} on a CPU; use backend="auto"'
        )
        raise BackendError(msg)
    return weighted_reference


def _run_sum(
    x: Tensor,
    sh: Tensor,
    w: Tensor,
    packed: Tensor,
    header: Tensor,
    num_targets: int,  # noqa: ARG001
    key: Sequence[int],
    backend: str,
) -> list[Tensor]:
    paths, plan = paths_of(key), plan_of(packed, header)
    inputs = (plain(x), plain(sh), plain(w))
    check_weighted(*inputs, plan, paths)
    found: list[Tensor] = implementation(backend, x, paths).forward(
        *inputs, plan, paths
    )
    return found


def _run_gradient(
    x: Tensor,
    sh: Tensor,
    w: Tensor,
    packed: Tensor,
    header: Tensor,
    key: Sequence[int],
    backend: str,
    need: Sequence[bool],
    grads: Sequence[Tensor],
) -> list[Tensor]:
    """Gradients with respect to x, sh and w, empty where not needed."""
    inputs, plan, paths, full = _checked(x, sh, w, packed, header, key, need[:3], grads)
    made = implementation(backend, x, paths)
    parts = made.backward(*inputs, plan, paths, tuple(need), full)
    return _filled(parts, inputs, need)


def _checked(
    x: Tensor,
    sh: Tensor,
    w: Tensor,
    packed: Tensor,
    header: Tensor,
    key: Sequence[int],
    need: Sequence[bool],
    grads: Sequence[Tensor],
) -> tuple[tuple[Tensor, Tensor, Tensor], GraphPlan, ProductPaths, list[Tensor]]:
    paths, plan = paths_of(key), plan_of(packed, header)
    inputs, full = (plain(x), plain(sh), plain(w)), [plain(grad) for grad in grads]
    check_weighted(*inputs, plan, paths)
    check_count("need", need, 3)
    check_blocks(full, plan.num_targets, paths, x)
    return inputs, plan, paths, full


def _filled(
    parts: Sequence[Tensor | None], likes: Sequence[Tensor], wanted: Sequence[bool]
) -> list[Tensor]:
    """Zeros where a gradient is missing, nothing where none is wanted."""
    return [
        part if part is not None else like.new_zeros(like.shape if w else (0,))
        for part, like, w in zip(parts, likes, wanted, strict=True)
    ]


def _fake_sum(
    x: Tensor,
    sh: Tensor,  # noqa: ARG001
    w: Tensor,  # noqa: ARG001
    packed: Tensor,  # noqa: ARG001
    header: Tensor,  # noqa: ARG001
    num_targets: int,
    key: Sequence[int],
    backend: str,  # noqa: ARG001
) -> list[Tensor]:
    return [x.new_empty(shape) for shape in block_shapes(num_targets, paths_of(key))]


def _fake_gradient(
    x: Tensor,
    sh: Tensor,
    w: Tensor,
    packed: Tensor,  # noqa: ARG001
    header: Tensor,  # noqa: ARG001
    key: Sequence[int],  # noqa: ARG001
    backend: str,  # noqa: ARG001
    need: Sequence[bool],
    grads: Sequence[Tensor],  # noqa: ARG001
) -> list[Tensor]:
    return fakes((x, sh, w), need)


def _keep_sum(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:  # noqa: ARG001
    ctx.save_for_backward(*inputs[:5])
    ctx.num_targets, ctx.key, ctx.backend = inputs[5:]
    ctx.set_materialize_grads(False)


def _sum_backward(ctx: Any, grads: list[Tensor | None]) -> tuple[Any, ...]:
    x, sh, w, packed, header = ctx.saved_tensors
    full = full_grads(grads, x, ctx.num_targets, paths_of(ctx.key))
    need = list(ctx.needs_input_grad[:3])
    parts = sum_gradient(x, sh, w, packed, header, ctx.key, ctx.backend, need, full)
    given = [part if wanted else None for part, wanted in zip(parts, need, strict=True)]
    return (*given, None, None, None, None, None)


def full_grads(
    grads: Sequence[Tensor | None], x: Tensor, num_targets: int, paths: ProductPaths
) -> list[Tensor]:
    """Gradients that arrive, with zeros where none does."""
    return [
        x.new_zeros(shape) if grad is None else plain(grad)
        for grad, shape in zip(grads, block_shapes(num_targets, paths), strict=True)
    ]


def _keep_gradient(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:  # noqa: ARG001
    ctx.save_for_backward(*inputs[:5], *inputs[8])
    ctx.key, ctx.backend, ctx.need = inputs[5:8]
    ctx.set_materialize_grads(False)


def _gradient_backward(ctx: Any, cotangents: list[Tensor | None]) -> tuple[Any, ...]:
    """Gradient of the gradient: one pass of its own, or of gradients and sums."""
    x, sh, w, packed, header, *grads = ctx.saved_tensors
    need = [*ctx.needs_input_grad[:3], any(ctx.needs_input_grad[8])]
    given = [
        None if part is None or not there else plain(part)
        for part, there in zip(cotangents, ctx.need, strict=True)
    ]
    inputs, plan, key = (x, sh, w), (packed, header), ctx.key
    dgrads: Sequence[Tensor | None] = [None] * len(grads)
    if is_transformed():
        found, dgrads = _composed(inputs, plan, key, ctx.backend, need, grads, given)
    else:
        there = [part is not None for part in given]
        full = [x.new_empty(0) if part is None else part for part in given]
        parts = _double(*inputs, *plan, key, ctx.backend, need, grads, full, there)
        found = [part if q else None for part, q in zip(parts, need[:3], strict=False)]
        if need[3]:
            dgrads = parts[3:]
    return (*found, None, None, None, None, None, list(dgrads))


def _composed(
    inputs: Sequence[Tensor],
    plan: Sequence[Tensor],
    key: Sequence[int],
    backend: str,
    need: Sequence[bool],
    grads: Sequence[Tensor],
    given: Sequence[Tensor | None],
) -> tuple[list[Tensor | None], list[Tensor | None]]:
    return composed(
        inputs,
        grads,
        given,
        need,
        lambda *a: sum_gradient(*a[:3], *plan, key, backend, a[3], grads),
        lambda *a: sum_operator(*a, *plan, grads[0].shape[0], key, backend),
    )


def _run_double(
    x: Tensor,
    sh: Tensor,
    w: Tensor,
    packed: Tensor,
    header: Tensor,
    key: Sequence[int],
    backend: str,
    need: Sequence[bool],
    grads: Sequence[Tensor],
    cotangents: Sequence[Tensor],
    given: Sequence[bool],
) -> list[Tensor]:
    """Gradients of the gradient with respect to x, sh, w and every one of grads."""
    check_count("need", need, 4)
    inputs, plan, paths, full = _checked(x, sh, w, packed, header, key, need[:3], grads)
    check_count("cotangents", cotangents, 3)
    check_count("given", given, 3)
    us = [plain(u) if q else None for u, q in zip(cotangents, given, strict=True)]
    for k, (u, like) in enumerate(zip(us, inputs, strict=True)):
        if u is not None:
            check_like(f"cotangents[{k}]", u, like)
    made = implementation(backend, x, paths)
    if made is weighted_kernel:
        found, dgrads = made.double_backward(*inputs, plan, paths, need, full, us)
    else:
        found, dgrads = composed(
            inputs,
            full,
            us,
            need,
            lambda *a: made.backward(*a[:3], plan, paths, tuple(a[3]), full),
            lambda *a: made.forward(*a, plan, paths),
        )
    parts = [*found, *(dgrads if need[3] and dgrads else [None] * len(full))]
    return _filled(parts, [*inputs, *full], _wanted(need, full))


def _wanted(need: Sequence[bool], grads: Sequence[Tensor]) -> list[bool]:
    return [*need[:3], *[need[3]] * len(grads)]


def _fake_double(
    x: Tensor,
    sh: Tensor,
    w: Tensor,
    packed: Tensor,  # noqa: ARG001
    header: Tensor,  # noqa: ARG001
    key: Sequence[int],  # noqa: ARG001
    backend: str,  # noqa: ARG001
    need: Sequence[bool],
    grads: Sequence[Tensor],
    cotangents: Sequence[Tensor],  # noqa: ARG001
    given: Sequence[bool],  # noqa: ARG001
) -> list[Tensor]:
    return fakes((x, sh, w, *grads), _wanted(need, grads))


def _keep_double(ctx: Any, inputs: tuple[Any, ...], output: object) -> None:  # noqa: ARG001
    ctx.save_for_backward(*inputs[:5], *inputs[8], *inputs[9])
    ctx.key, ctx.backend, ctx.need = inputs[5:8]
    ctx.degrees, ctx.given = len(inputs[8]), inputs[10]
    ctx.set_materialize_grads(False)


def _double_backward(ctx: Any, weights: list[Tensor | None]) -> tuple[Any, ...]:
    """Third derivatives: those of the composed form, which is differentiable."""
    x, sh, w, packed, header, *rest = ctx.saved_tensors
    last = 3 + ctx.degrees

    def again(*leaves: Tensor) -> list[Tensor | None]:
        grads, us = list(leaves[3:last]), leaves[last:]
        given = [u if there else None for u, there in zip(us, ctx.given, strict=True)]
        plan = (packed, header)
        found, dgrads = _composed(
            leaves[:3], plan, ctx.key, ctx.backend, ctx.need, grads, given
        )
        return [*found, *dgrads]

    parts = pulled_back(again, [x, sh, w, *rest], weights)
    return (*parts[:3], *[None] * 5, parts[3:last], parts[last:], None)


_SUM = "Tensor x, Tensor sh, Tensor w, Tensor packed, Tensor header, "
sum_operator = Operator(
    "weighted_sum",
    f"({_SUM}SymInt num_targets, int[] key, str backend) -> Tensor[]",
    run=_run_sum,
    fake=_fake_sum,
    keep=_keep_sum,
    backward=_sum_backward,
    operands=(0, 1, 2),
)
sum_gradient = Operator(
    "weighted_sum_backward",
    f"({_SUM}int[] key, str backend, bool[] need, Tensor[] grads) -> Tensor[]",
    run=_run_gradient,
    fake=_fake_gradient,
    keep=_keep_gradient,
    backward=_gradient_backward,
    operands=(0, 1, 2, 8),
    own=(0, 1, 2),
)
_double = Operator(
    "weighted_sum_double_backward",
    f"({_SUM}int[] key, str backend, bool[] need, Tensor[] grads, "
    "Tensor[] cotangents, bool[] given) -> Tensor[]",
    run=_run_double,
    fake=_fake_double,
    keep=_keep_double,
    backward=_double_backward,
)
