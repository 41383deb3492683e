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

from torch_cormorant.ops.dispatch import chosen, implementation
from torch_cormorant.ops.paths import PathTable, table_of
from torch_cormorant.ops.plan import GraphPlan, unpack_plan
from torch_cormorant.ops.portable import Need, shapes
from torch_cormorant.ops.tensors import plain, plus


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
        BackendError: If the backend is unknown, or missing on this machine.

    Note:
        Deterministic; differentiable to any order; one operator for ``torch.compile``.
        Memory beyond inputs and outputs is bounded by the chunk size of the plan.
    """
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


@torch.library.custom_op(
    "torch_cormorant::neighbour_sum",
    mutates_args=(),
    schema=(
        "(Tensor x, Tensor g, Tensor sh, Tensor packed, Tensor header, "
        "SymInt num_targets, int[] key, str backend) -> Tensor[]"
    ),
)
def _sum(
    x: Tensor,
    g: Tensor,
    sh: Tensor,
    packed: Tensor,
    header: Tensor,
    num_targets: int,  # noqa: ARG001 - for the shapes of fake tensors
    key: Sequence[int],
    backend: str,
) -> list[Tensor]:
    table, plan = table_of(key), unpack_plan(packed, header)
    made = implementation(backend, x, table)
    return made.forward(plain(x), plain(g), plain(sh), plan, table)


@torch.library.custom_op(
    "torch_cormorant::neighbour_sum_backward",
    mutates_args=(),
    schema=(
        "(Tensor x, Tensor g, Tensor sh, Tensor packed, Tensor header, int[] key, "
        "str backend, bool[] need, Tensor[] grads) -> Tensor[]"
    ),
)
def _gradient(
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
    table, plan = table_of(key), unpack_plan(packed, header)
    made = implementation(backend, x, table)
    needed: Need = (need[0], need[1], need[2])
    inputs, full = (plain(x), plain(g), plain(sh)), [plain(grad) for grad in grads]
    parts = made.backward(*inputs, plan, table, needed, full)
    return [
        like.new_empty(0) if part is None else part
        for part, like in zip(parts, inputs, strict=True)
    ]


@_sum.register_fake
def _(
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


@_gradient.register_fake
def _(
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
    return [
        part.new_empty(part.shape if wanted else (0,))
        for part, wanted in zip((x, g, sh), need, strict=True)
    ]


def _keep_sum(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:  # noqa: ARG001
    ctx.save_for_backward(*inputs[:5])
    ctx.num_targets, ctx.key, ctx.backend = inputs[5:]
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
    ctx.set_materialize_grads(False)


def _gradient_backward(ctx: Any, cotangents: list[Tensor | None]) -> tuple[Any, ...]:
    """Gradient of the gradient, in the same two operators.

    With Q(x, g, sh, d) = <d, sum(x, g, sh)>, multilinear over the reals, and
    cotangents (ux, ug, us) of the three gradients, the scalar to differentiate is
    Q(ux, g, sh, d) + Q(x, ug, sh, d) + Q(x, g, us, d).
    """
    x, g, sh, packed, header, *grads = ctx.saved_tensors
    want, want_grads = ctx.needs_input_grad[:3], any(ctx.needs_input_grad[8])
    totals: list[Tensor | None] = [None, None, None]
    dgrads: list[Tensor | None] = [None] * len(grads)
    for k, cotangent in enumerate(cotangents):
        if cotangent is None or not ctx.need[k]:
            continue
        given = [x, g, sh]
        given[k] = plain(cotangent)
        need = [want[q] and q != k for q in range(3)]
        if any(need):
            parts = _gradient(*given, packed, header, ctx.key, ctx.backend, need, grads)
            for q in range(3):
                if need[q]:
                    totals[q] = plus(totals[q], parts[q])
        if want_grads:
            size = grads[0].shape[0]
            sums = _sum(*given, packed, header, size, ctx.key, ctx.backend)
            dgrads = [plus(a, b) for a, b in zip(dgrads, sums, strict=True)]
    return (*totals, None, None, None, None, None, dgrads)


torch.library.register_autograd(_sum, _sum_backward, setup_context=_keep_sum)
torch.library.register_autograd(
    _gradient, _gradient_backward, setup_context=_keep_gradient
)
