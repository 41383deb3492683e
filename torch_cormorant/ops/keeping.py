"""Operators whose gradient reads what the value computed on its way.

First derivatives come from kernels, those of them from the composed form: for stages
that are differentiated twice only now and then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import linear, silu

from torch_cormorant.ops.operands import check_count, check_shape
from torch_cormorant.ops.operator import Operator, is_direct
from torch_cormorant.ops.pullback import pulled_back
from torch_cormorant.ops.tensors import fakes, plain

Some = list[Tensor | None]


class Stage(Protocol):
    """What computes an operator; ``rest`` are its arguments without a derivative."""

    def check(self, operands: Sequence[Tensor], *rest: Any) -> None:
        """Refuse operands that do not fit."""

    def shapes(self, operands: Sequence[Tensor], *rest: Any) -> list[tuple[int, ...]]:
        """Shapes of the result and of what is kept."""

    def composed(self, operands: Sequence[Tensor], *rest: Any) -> Tensor:
        """The result by operations that have derivatives of any order."""

    def value(self, operands: Sequence[Tensor], *rest: Any) -> list[Tensor]:
        """The result and what is kept, by kernels."""

    def slopes(
        self,
        operands: Sequence[Tensor],
        kept: Sequence[Tensor],
        grad: Tensor,
        need: Sequence[bool],
        *rest: Any,
    ) -> Some:
        """Gradients of the operands that need one, by kernels."""


class KeepingOperator(Operator):
    """The operator of a stage; that of its gradient is registered with it.

    Args:
        name: ``name`` and ``name_backward`` in the namespace of the package.
        rest: Schema of the arguments behind the operands.
        stage: What computes it.
    """

    def __init__(self, name: str, rest: str, stage: Stage) -> None:
        self.stage = stage
        given = f"Tensor[] operands, {rest}"
        self.gradient = Operator(
            f"{name}_backward",
            f"({given}, Tensor[] kept, Tensor grad, bool[] need) -> Tensor[]",
            run=self._run_gradient,
            fake=lambda operands, *others: fakes(operands, others[-1]),
            keep=self._keep_gradient,
            backward=self._second,
        )
        super().__init__(
            name,
            f"({given}) -> Tensor[]",
            run=self._run,
            fake=self._fake,
            keep=self._keep,
            backward=self._first,
        )

    def _run(self, operands: Sequence[Tensor], *rest: Any) -> list[Tensor]:
        given = [*map(plain, operands)]
        self.stage.check(given, *rest)
        return self.stage.value(given, *rest)

    def _fake(self, operands: Sequence[Tensor], *rest: Any) -> list[Tensor]:
        shapes = self.stage.shapes(operands, *rest)
        return [operands[0].new_empty(shape) for shape in shapes]

    def _run_gradient(self, operands: Sequence[Tensor], *others: Any) -> list[Tensor]:
        *rest, kept, grad, need = others
        given, last = [*map(plain, operands)], [*map(plain, (grad, *kept))]
        self.stage.check(given, *rest)
        shapes = self.stage.shapes(given, *rest)
        check_count("need", need, len(given))
        check_count("kept", kept, len(shapes) - 1)
        for k, (part, shape) in enumerate(zip(last, shapes, strict=True)):
            check_shape(f"kept[{k - 1}]" if k else "grad", part, shape, given[0])
        found = self.stage.slopes(given, last[1:], last[0], need, *rest)
        return [
            like.new_empty(0) if part is None else part
            for part, like in zip(found, operands, strict=True)
        ]

    def _keep(self, ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
        operands, *rest = inputs
        _save(ctx, rest, operands, output[1:])

    def _first(self, ctx: Any, grads: Sequence[Tensor | None]) -> tuple[Any, ...]:
        (operands, kept), rest = _saved(ctx)
        need = list(ctx.needs_input_grad[0])
        parts: Some = [None] * len(operands)
        if grads[0] is not None:
            direct = hasattr(ctx, "operator") and is_direct([*operands, grads[0]])
            alone = direct and not torch.is_grad_enabled()
            run = self._run_gradient if alone else self.gradient
            found = run(operands, *rest, kept, grads[0], need)
            parts = [p if q else None for p, q in zip(found, need, strict=True)]
        return (parts, *[None] * len(rest))

    def _keep_gradient(self, ctx: Any, inputs: tuple[Any, ...], output: object) -> None:  # noqa: ARG002
        operands, *rest, kept, grad, need = inputs
        _save(ctx, rest, operands, [grad])
        ctx.need, ctx.kept = need, len(kept)

    def _second(self, ctx: Any, cotangents: Sequence[Tensor | None]) -> tuple[Any, ...]:
        """Gradient of the gradient, by way of the composed form."""
        (operands, (grad,)), rest = _saved(ctx)

        def value(*x: Tensor) -> list[Tensor]:
            return [self.stage.composed(x, *rest)]

        def first(*x: Tensor) -> Some:
            parts = pulled_back(value, x[:-1], [x[-1]])
            return [p if q else None for p, q in zip(parts, ctx.need, strict=True)]

        *parts, last = pulled_back(first, [*operands, grad], cotangents)
        return (parts, *[None] * len(rest), [None] * ctx.kept, last, None)


def _save(ctx: Any, rest: Sequence[Any], *lists: Sequence[Tensor]) -> None:
    """Keep lists of tensors and other arguments, some of which are tensors."""
    tensors = [part for part in rest if isinstance(part, Tensor)]
    ctx.save_for_backward(*(part for some in (*lists, tensors) for part in some))
    ctx.counts = [*map(len, lists)]
    ctx.rest = [None if isinstance(part, Tensor) else part for part in rest]
    ctx.set_materialize_grads(False)


def _saved(ctx: Any) -> tuple[list[list[Tensor]], list[Any]]:
    """The inverse of :func:`_save`."""
    tensors = iter(ctx.saved_tensors)
    lists = [[next(tensors) for _ in range(count)] for count in ctx.counts]
    return lists, [next(tensors) if part is None else part for part in ctx.rest]


def two_layers(x: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Two linear layers with SiLU between them, from their weights and biases."""
    first, bias, second, other = weights
    return linear(silu(linear(x, first, bias)), second, other)


def silu_slope(grad: Tensor, x: Tensor) -> Tensor:
    """Gradient of SiLU."""
    found: Tensor = torch.ops.aten.silu_backward(grad, x)
    return found
