"""Operators of ``torch.library``, and the short way around its dispatcher.

A call of an operator written in Python costs up to 200 microseconds in PyTorch's
dispatcher, more than the work itself in a small molecule. Where nothing can see the
difference (plain tensors on a CPU, nothing traced or transformed) the same function
runs inside one ``torch.autograd.Function``, with the same formulas for its gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

NAMESPACE = "torch_cormorant"
_PLAIN = (Tensor, torch.nn.Parameter)
# Names of PyTorch's inside: where a release lacks one, every call is the operator's.
_WATCHERS = (
    attrgetter("_len_torch_dispatch_stack"),
    attrgetter("_functorch.peek_interpreter_stack"),
    attrgetter("_get_tracing_state"),
)


class Operator:
    """A function of tensors, numbers and lists of tensors, with its gradient.

    Args:
        name: In the namespace ``torch_cormorant``.
        schema: As for :func:`torch.library.custom_op`.
        run: The function. Results are new tensors: one, a list or a tuple.
        fake: The same for tensors without values.
        keep: ``setup_context`` of :func:`torch.library.register_autograd`.
        backward: Its ``backward``.

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
    ) -> None:
        self.run, self.keep, self.backward = run, keep, backward
        self.op = torch.library.custom_op(
            f"{NAMESPACE}::{name}", run, mutates_args=(), schema=schema
        )
        self.op.register_fake(fake)
        torch.library.register_autograd(self.op, backward, setup_context=keep)

    def __call__(self, *args: Any) -> Any:
        """Compute it, by the shortest way that is allowed."""
        if torch.compiler.is_compiling() or _watched():
            return self.op(*args)
        sizes, leaves = _flat(args)
        if not all(map(_is_plain, leaves)):
            return self.op(*args)
        found = _Direct.apply(self, sizes, *leaves)  # type: ignore[no-untyped-call]
        return list(found) if isinstance(found, tuple) else found


class _Direct(torch.autograd.Function):
    """Run an operator without the dispatcher, with the operator's own formulas."""

    @staticmethod
    def forward(ctx: Any, operator: Operator, sizes: list[int], *leaves: Any) -> Any:
        args = _nested(sizes, leaves)
        found = operator.run(*args)
        operator.keep(ctx, tuple(args), found)
        ctx.operator, ctx.sizes = operator, sizes
        ctx.listed = isinstance(found, list)
        return tuple(found) if ctx.listed else found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        flat = ctx.needs_input_grad
        ctx.needs_input_grad = tuple(_nested(ctx.sizes, flat[2:]))
        try:
            given = (list(grads),) if ctx.listed else grads
            parts = ctx.operator.backward(ctx, *given)
        finally:
            ctx.needs_input_grad = flat
        spread = [
            part if size >= 0 else (part,)
            for size, part in zip(ctx.sizes, parts, strict=True)
        ]
        return (None, None, *(part for some in spread for part in some))


def _watchers() -> tuple[Callable[[], Any], ...]:
    try:
        return tuple(find(torch._C) for find in _WATCHERS)  # noqa: SLF001
    except AttributeError:
        return (lambda: True,)


_found = _watchers()


def _watched() -> bool:
    """Whether modes, transforms or tracers want to see operators."""
    return any(ask() for ask in _found)


def _is_plain(value: Any) -> bool:
    if not isinstance(value, Tensor):
        return True
    return type(value) in _PLAIN and value.device.type == "cpu"


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
