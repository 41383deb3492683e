"""Operators of ``torch.library``, and the short way around its dispatcher.

A call of an operator written in Python costs up to 200 microseconds in PyTorch's
dispatcher, more than the work itself in a small molecule. Where nothing can see the
difference (plain tensors on a CPU, nothing traced or transformed) the same function
runs inside one ``torch.autograd.Function``, with the same formulas for its gradient.
Transforms (``torch.func``) and forward differentiation get a function of their own: all
operators are multilinear, so a directional derivative is a sum of the same operator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from torch_cormorant.errors import BackendError
from torch_cormorant.ops.tensors import plus
from torch_cormorant.ops.transforms import (
    is_transformed,
    is_watched,
    refuse_rows,
    will_run,
)

NAMESPACE = "torch_cormorant"
PLAIN = (Tensor, torch.nn.Parameter)
"""Types of tensors without a will of their own."""


class Operator:
    """A function of tensors, numbers and lists of tensors, with its gradient.

    Args:
        name: In the namespace ``torch_cormorant``.
        schema: As for :func:`torch.library.custom_op`.
        run: The function. Results are new tensors: one, a list or a tuple.
        fake: The same for tensors without values.
        keep: ``setup_context`` of :func:`torch.library.register_autograd`.
        backward: Its ``backward``.
        operands: Positions of the arguments that it is linear in, each on its own
            (a list of tensors is one). None: no directional derivative.
        own: For each result the operand that it does not depend on, where there is one.

    Attributes:
        op: The registered operator: what compilers and tracers see.
    """

    def __init__(
        self,
        name: str,
        schema: str,
        *,
        run: Callable[..., Any],
        fake: Callable[..., Any],
        keep: Callable[..., None],
        backward: Callable[..., tuple[Any, ...]],
        operands: Sequence[int] | None = None,
        own: Sequence[int] = (),
    ) -> None:
        self.name, self.run, self.keep, self.backward = name, run, keep, backward
        self.operands, self.own = operands, own
        self.listed = schema.endswith("-> Tensor[]")
        self.op = torch.library.custom_op(
            f"{NAMESPACE}::{name}", run, mutates_args=(), schema=schema
        )
        self.op.register_fake(fake)
        torch.library.register_autograd(self.op, backward, setup_context=keep)

    def __call__(self, *args: Any) -> Any:
        """Compute it, by the shortest way that is allowed."""
        if torch.compiler.is_compiling():
            return self.op(*args)
        transformed = is_transformed()
        if not transformed and is_watched():
            return self.op(*args)
        sizes, leaves = _flat(args)
        if not transformed and not _are_plain(leaves):
            return self.op(*args)
        kind = _Transformed if transformed else _Direct
        found = kind.apply(self, sizes, *leaves)  # type: ignore[no-untyped-call]
        return list(found) if isinstance(found, tuple) else found

    def lowest(self, args: Sequence[Any]) -> Any:
        """Compute it below all transforms, without a record for gradients."""
        if is_watched() or not _are_plain(_flat(args)[1]):
            return self.op(*args)
        return self.run(*args)

    def derivative(self, args: Sequence[Any], tangents: Sequence[Any]) -> Any:
        """Directional derivative: the operator with one operand after the other.

        Args:
            args: Its arguments.
            tangents: What each changes by, None where it does not change.

        Returns:
            One tensor for each result.

        Raises:
            BackendError: If the operator has no such rule.
        """
        if self.operands is None:
            msg = (
                f"{NAMESPACE}::{self.name} has no forward derivative; use "
                'backend="portable", or reverse mode'
            )
            raise BackendError(msg)
        totals: list[Tensor | None] = []
        for k in self.operands:
            changed = _filled(args[k], tangents[k])
            if changed is None:
                continue
            found = self(*args[:k], changed, *args[k + 1 :])
            parts = list(found) if isinstance(found, (list, tuple)) else [found]
            totals = totals or [None] * len(parts)
            for q, part in enumerate(parts):
                apart = q < len(self.own) and self.own[q] == k
                totals[q] = plus(totals[q], torch.zeros_like(part) if apart else part)
        return totals


class _Direct(torch.autograd.Function):
    """Run an operator without the dispatcher, with the operator's own formulas."""

    @staticmethod
    def forward(ctx: Any, operator: Operator, sizes: list[int], *leaves: Any) -> Any:
        args = _nested(sizes, leaves)
        found = operator.run(*args)
        operator.keep(ctx, tuple(args), found)
        ctx.operator, ctx.sizes = operator, sizes
        ctx.tensors = [isinstance(leaf, Tensor) for leaf in leaves]
        ctx.listed = isinstance(found, list)
        return tuple(found) if ctx.listed else found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        refuse_rows(grads)
        flat = ctx.needs_input_grad
        ctx.needs_input_grad = tuple(_nested(ctx.sizes, _asked_for(ctx, flat[2:])))
        try:
            given = (list(grads),) if ctx.listed else grads
            parts = ctx.operator.backward(ctx, *given)
        finally:
            ctx.needs_input_grad = flat
        spread = [
            part if size >= 0 else (None if isinstance(part, list) else part,)
            for size, part in zip(ctx.sizes, parts, strict=True)
        ]
        return (None, None, *(part for some in spread for part in some))


class _Transformed(torch.autograd.Function):
    """The same in the form that transforms understand; rules for all of them."""

    @staticmethod
    def forward(operator: Operator, sizes: list[int], *leaves: Any) -> Any:
        found = operator.lowest(_nested(sizes, leaves))
        return tuple(found) if operator.listed else found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        operator, sizes, *leaves = inputs
        found = list(output) if operator.listed else output
        operator.keep(ctx, tuple(_nested(sizes, leaves)), found)
        ctx.save_for_forward(*(leaf for leaf in leaves if isinstance(leaf, Tensor)))
        ctx.operator, ctx.sizes, ctx.listed = operator, sizes, operator.listed
        ctx.others = [None if isinstance(leaf, Tensor) else leaf for leaf in leaves]

    backward = _Direct.backward

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Any:
        saved = iter(ctx.saved_tensors)
        leaves = [next(saved) if part is None else part for part in ctx.others]
        args, changes = _nested(ctx.sizes, leaves), _nested(ctx.sizes, tangents[2:])
        found = ctx.operator.derivative(args, changes)
        return found[0] if len(found) == 1 and not ctx.listed else tuple(found)

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[Any, ...],
        operator: Operator,
        sizes: list[int],
        *leaves: Any,
    ) -> Any:
        """One after the other: right for every mixture of transforms."""
        rows = []
        for row in range(info.batch_size):
            given = [
                leaf.select(dim, row) if isinstance(dim, int) else leaf
                for leaf, dim in zip(leaves, in_dims[2:], strict=True)
            ]
            found = operator(*_nested(sizes, given))
            rows.append(found if isinstance(found, (list, tuple)) else [found])
        stacks = tuple(torch.stack(parts) for parts in zip(*rows, strict=True))
        one = len(stacks) == 1 and not operator.listed
        return (stacks[0], 0) if one else (stacks, (0,) * len(stacks))


def _asked_for(ctx: Any, needed: Sequence[bool]) -> Sequence[bool]:
    """Needed gradients without those that no one asked this backward pass for."""
    tensors = getattr(ctx, "tensors", None)
    if tensors is None:
        return needed
    nodes = iter(ctx.next_functions)
    ends = [next(nodes)[0] if tensor else None for tensor in tensors]
    return [a and will_run(end) for a, end in zip(needed, ends, strict=True)]


def _filled(operand: Any, tangent: Any) -> Any:
    """The change of an operand, with zeros in a list where some do not change."""
    if not isinstance(operand, list):
        return tangent
    if all(part is None for part in tangent):
        return None
    return [
        torch.zeros_like(part) if change is None else change
        for part, change in zip(operand, tangent, strict=True)
    ]


def is_direct(leaves: Sequence[Any]) -> bool:
    """Whether nothing can see that the dispatcher is left out."""
    if torch.compiler.is_compiling() or is_transformed() or is_watched():
        return False
    return _are_plain(leaves)


def applied(function: type[torch.autograd.Function], *given: Any) -> Any:
    """``function.apply`` within a backward pass, where all tensors are the pass's own.

    PyTorch's own method first looks for tensors that transforms have left behind.
    """
    return super(torch.autograd.Function, function).apply(*given)  # type: ignore[misc]


def asked_for(ctx: Any, needed: Sequence[bool]) -> list[bool]:
    """Needed gradients of tensors without those that this pass was not asked for."""
    nodes = zip(needed, ctx.next_functions, strict=True)
    return [a and will_run(node) for a, (node, _) in nodes]


def _are_plain(leaves: Sequence[Any]) -> bool:
    for value in leaves:  # in as few calls as there can be: there are many
        if isinstance(value, Tensor) and not (type(value) in PLAIN and value.is_cpu):
            return False
    return True


def _flat(args: Sequence[Any]) -> tuple[list[int], list[Any]]:
    """Arguments without lists of tensors; lengths of these, -1 for what is none."""
    sizes: list[int] = []
    leaves: list[Any] = []
    for value in args:
        listed = isinstance(value, list) and value and isinstance(value[0], Tensor)
        sizes.append(len(value) if listed else -1)
        leaves.extend(value if listed else (value,))
    return sizes, leaves


def _nested(sizes: Sequence[int], leaves: Sequence[Any]) -> list[Any]:
    """The inverse of :func:`_flat`."""
    args, at = [], 0
    for size in sizes:
        args.append(leaves[at] if size < 0 else list(leaves[at : at + size]))
        at += 1 if size < 0 else size
    return args
