"""What surrounds a call: modes, tracers, ``torch.func`` transforms, dual numbers.

PyTorch has no public way to ask. Where a release lacks a name of PyTorch's inside, the
answer is the one that is right in every case, if slower.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from torch_cormorant.errors import ConfigError


def _found(names: Sequence[str]) -> tuple[Callable[..., Any], ...] | None:
    try:
        return tuple(attrgetter(name)(torch._C) for name in names)  # noqa: SLF001
    except AttributeError:
        return None


_watchers = _found(("_len_torch_dispatch_stack", "_get_tracing_state"))
_transforms = _found(("_functorch.peek_interpreter_stack",))
_batches = _found(
    (
        "_functorch.is_functorch_wrapped_tensor",
        "_functorch.is_batchedtensor",
        "_functorch.get_unwrapped",
    )
)
_rows = _found(("_functorch.is_legacy_batchedtensor",))
_executes = _found(("_will_engine_execute_node",))


def will_run(node: object) -> bool:
    """Whether a backward pass at work reaches a node of the graph, or might.

    ``needs_input_grad`` says yes to every tensor that requires a gradient; this is
    about those that the pass was asked for.
    """
    if node is None or _executes is None:
        return node is not None
    try:
        found: bool = _executes[0](node)
    except RuntimeError:  # a leaf whose gradient is returned, or no pass
        return True
    return found


def is_watched() -> bool:
    """Whether modes or tracers want to see operators, or might."""
    if _watchers is None or _transforms is None:
        return True
    modes, tracer = _watchers
    return bool(modes() or tracer())


def is_transformed() -> bool:
    """Whether ``torch.func`` transforms or forward differentiation are at work.

    A compiler traces transforms itself: there the answer is no.
    """
    if torch.compiler.is_compiling():
        return False
    level: int = getattr(forward_ad, "_current_level", -1)
    return level >= 0 or (_transforms is not None and _transforms[0]() is not None)


def is_batched(x: Tensor) -> bool:
    """Whether ``torch.func.vmap`` stands behind a tensor; not asked by a compiler."""
    if _batches is None or torch.compiler.is_compiling():
        return False
    wrapped, batched, inside = _batches
    while wrapped(x):
        if batched(x):
            return True
        x = inside(x)
    return False


def refuse_batched(name: str, x: Tensor) -> None:
    """Refuse a tensor that differs from one row of a ``vmap`` to the next.

    Raises:
        ConfigError: If it does.
    """
    if is_batched(x):
        msg = (
            f"{name} is batched by torch.func.vmap, but graphs are sorted and checked "
            "one at a time; make EdgeGeometry outside of vmap and pass it, put all "
            "molecules into one batch, or loop over them"
        )
        raise ConfigError(msg)


def refuse_rows(grads: Sequence[Tensor | None]) -> None:
    """Refuse gradients that are many at once, of ``is_grads_batched=True``.

    Raises:
        ConfigError: If one is.
    """
    if _rows is None or torch.compiler.is_compiling():
        return
    for grad in grads:
        if grad is not None and _rows[0](grad):
            msg = (
                "is_grads_batched=True: the operators of the layers take one gradient "
                "at a time; call torch.autograd.grad for each of them, or use "
                "torch.func.jacrev, or torch.func.vmap around torch.func.vjp"
            )
            raise ConfigError(msg)


def refuse_transforms(what: str) -> None:
    """Refuse to work inside of a transform of ``torch.func``.

    Raises:
        ConfigError: If there is one.
    """
    if is_transformed():
        msg = (
            f"{what} differentiates inside and cannot be transformed by torch.func or "
            "forward differentiation; transform the model itself, "
            "torch.func.grad(lambda pos: model(z, pos).sum()) for example"
        )
        raise ConfigError(msg)
