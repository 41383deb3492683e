"""Weighted sums that make their weights out of two tensors, inside and in parts.

The kernel never sees a row of weights for all edges. Gradients of gradients,
transforms and other devices make all of them once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from torch_cormorant.ops import weighted_kernel
from torch_cormorant.ops.operands import check_blocks, check_count
from torch_cormorant.ops.operator import Operator
from torch_cormorant.ops.plan import GraphPlan, plan_of
from torch_cormorant.ops.product_paths import ProductPaths, paths_of
from torch_cormorant.ops.pullback import pulled_back
from torch_cormorant.ops.tensors import fakes, plain
from torch_cormorant.ops.weighted_operators import (
    full_grads,
    implementation,
    sum_gradient,
)
from torch_cormorant.ops.weighted_reference import block_shapes

Some = list[Tensor | None]


class Making(Protocol):
    """How weights are made out of ``a`` and ``b``."""

    def weights(self, a: Tensor, b: Tensor) -> Tensor:
        """All of them, differentiable."""

    def check(
        self,
        x: Tensor,
        sh: Tensor,
        a: Tensor,
        b: Tensor,
        plan: GraphPlan,
        paths: ProductPaths,
    ) -> None:
        """Refuse operands that do not fit."""

    def forward(
        self,
        x: Tensor,
        sh: Tensor,
        a: Tensor,
        b: Tensor,
        plan: GraphPlan,
        paths: ProductPaths,
    ) -> list[Tensor]:
        """The sum by the kernel."""

    def backward(
        self,
        x: Tensor,
        sh: Tensor,
        a: Tensor,
        b: Tensor,
        plan: GraphPlan,
        paths: ProductPaths,
        need: Sequence[bool],
        grads: Sequence[Tensor],
    ) -> Some:
        """Its gradients of the four."""


class InsideSum(Operator):
    """The operator of the sum; that of its gradient is registered with it.

    Args:
        name: ``name`` and ``name_backward`` in the namespace of the package.
        names: What a and b are called.
        making: How weights are made.
    """

    def __init__(self, name: str, names: tuple[str, str], making: Making) -> None:
        self.making = making
        given = f"Tensor x, Tensor sh, Tensor {names[0]}, Tensor {names[1]}, "
        given += "Tensor packed, Tensor header, "
        self.gradient = Operator(
            f"{name}_backward",
            f"({given}int[] key, str backend, bool[] need, Tensor[] grads) -> Tensor[]",
            run=self.run_gradient,
            fake=self.fake_gradient,
            keep=self.keep_gradient,
            backward=self.gradient_backward,
        )
        super().__init__(
            name,
            f"({given}SymInt num_targets, int[] key, str backend) -> Tensor[]",
            run=self.run_sum,
            fake=self.fake_sum,
            keep=self.keep_sum,
            backward=self.sum_backward,
        )

    def run_sum(
        self,
        x: Tensor,
        sh: Tensor,
        a: Tensor,
        b: Tensor,
        packed: Tensor,
        header: Tensor,
        num_targets: int,  # noqa: ARG002
        key: Sequence[int],
        backend: str,
    ) -> list[Tensor]:
        """The sum."""
        paths, plan = paths_of(key), plan_of(packed, header)
        inputs = (plain(x), plain(sh), plain(a), plain(b))
        self.making.check(*inputs, plan, paths)
        made = implementation(backend, x, paths)
        if made is weighted_kernel:
            return self.making.forward(*inputs, plan, paths)
        weights = self.making.weights(*inputs[2:])
        found: list[Tensor] = made.forward(*inputs[:2], weights, plan, paths)
        return found

    def run_gradient(
        self,
        x: Tensor,
        sh: Tensor,
        a: Tensor,
        b: Tensor,
        packed: Tensor,
        header: Tensor,
        key: Sequence[int],
        backend: str,
        need: Sequence[bool],
        grads: Sequence[Tensor],
    ) -> list[Tensor]:
        """Gradients of the four operands, empty where not needed."""
        paths, plan = paths_of(key), plan_of(packed, header)
        inputs = (plain(x), plain(sh), plain(a), plain(b))
        full = [plain(grad) for grad in grads]
        self.making.check(*inputs, plan, paths)
        check_count("need", need, 4)
        check_blocks(full, plan.num_targets, paths, x)
        made = implementation(backend, x, paths)
        if made is weighted_kernel:
            parts = self.making.backward(*inputs, plan, paths, need, full)
        else:
            weights = self.making.weights(*inputs[2:])
            wanted = (need[0], need[1], need[2] or need[3])
            found = made.backward(*inputs[:2], weights, plan, paths, wanted, full)
            parts = [*found[:2], *_through(self.making, inputs[2:], need[2:], found[2])]
        return [
            like.new_empty(0) if part is None else part
            for part, like in zip(parts, inputs, strict=True)
        ]

    def fake_sum(
        self,
        x: Tensor,
        sh: Tensor,  # noqa: ARG002
        a: Tensor,  # noqa: ARG002
        b: Tensor,  # noqa: ARG002
        packed: Tensor,  # noqa: ARG002
        header: Tensor,  # noqa: ARG002
        num_targets: int,
        key: Sequence[int],
        backend: str,  # noqa: ARG002
    ) -> list[Tensor]:
        """Results without values."""
        return [
            x.new_empty(shape) for shape in block_shapes(num_targets, paths_of(key))
        ]

    def fake_gradient(
        self,
        x: Tensor,
        sh: Tensor,
        a: Tensor,
        b: Tensor,
        packed: Tensor,  # noqa: ARG002
        header: Tensor,  # noqa: ARG002
        key: Sequence[int],  # noqa: ARG002
        backend: str,  # noqa: ARG002
        need: Sequence[bool],
        grads: Sequence[Tensor],  # noqa: ARG002
    ) -> list[Tensor]:
        """Gradients without values."""
        return fakes((x, sh, a, b), need)

    def keep_sum(self, ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:  # noqa: ARG002
        """What the gradient needs."""
        ctx.save_for_backward(*inputs[:6])
        ctx.num_targets, ctx.key, ctx.backend = inputs[6:]
        ctx.set_materialize_grads(False)

    def sum_backward(self, ctx: Any, grads: list[Tensor | None]) -> tuple[Any, ...]:
        """Gradient of the sum."""
        saved = ctx.saved_tensors
        full = full_grads(grads, saved[0], ctx.num_targets, paths_of(ctx.key))
        need = list(ctx.needs_input_grad[:4])
        parts = self.gradient(*saved, ctx.key, ctx.backend, need, full)
        given = [part if q else None for part, q in zip(parts, need, strict=True)]
        return (*given, *[None] * 5)

    def keep_gradient(
        self,
        ctx: Any,
        inputs: tuple[Any, ...],
        output: list[Tensor],  # noqa: ARG002
    ) -> None:
        """What its gradient needs."""
        ctx.save_for_backward(*inputs[:6], *inputs[9])
        ctx.key, ctx.backend, ctx.need = inputs[6:9]
        ctx.set_materialize_grads(False)

    def gradient_backward(
        self, ctx: Any, cotangents: list[Tensor | None]
    ) -> tuple[Any, ...]:
        """Gradient of the gradient, by way of all weights at once."""
        x, sh, a, b, packed, header, *grads = ctx.saved_tensors
        need = list(ctx.need)

        def again(x: Tensor, sh: Tensor, a: Tensor, b: Tensor, *grads: Tensor) -> Some:
            rest = (packed, header, ctx.key, ctx.backend)
            wanted = [need[0], need[1], need[2] or need[3]]
            leaves = [_leaf(part, q) for part, q in zip((a, b), need[2:], strict=True)]
            weights = self.making.weights(*leaves)
            found = sum_gradient(x, sh, weights, *rest, wanted, list(grads))
            parts = _pulled(weights, leaves, need[2:], found[2], more=True)
            first = [part if q else None for part, q in zip(found, need, strict=False)]
            return [*first[:2], *parts]

        parts = pulled_back(again, [x, sh, a, b, *grads], cotangents)
        return (*parts[:4], *[None] * 5, parts[4:])


def _leaf(x: Tensor, wanted: bool) -> Tensor:
    """Something that gradients can be taken by."""
    return x.detach().requires_grad_() if wanted and not x.requires_grad else x


def _through(
    making: Making, given: Sequence[Tensor], need: Sequence[bool], dw: Tensor | None
) -> Some:
    """Gradients of a and b from that of the weights."""
    if dw is None:
        return [None, None]
    with torch.enable_grad():
        leaves = [
            part.detach().requires_grad_(q) for part, q in zip(given, need, strict=True)
        ]
        return _pulled(making.weights(*leaves), leaves, need, dw, more=False)


def _pulled(
    weights: Tensor,
    leaves: Sequence[Tensor],
    need: Sequence[bool],
    dw: Tensor,
    *,
    more: bool,
) -> Some:
    wanted = [leaf for leaf, q in zip(leaves, need, strict=True) if q]
    if not wanted:
        return [None, None]
    found = iter(torch.autograd.grad(weights, wanted, dw, create_graph=more))
    return [next(found) if q else None for q in need]
