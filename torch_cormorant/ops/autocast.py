"""Autocast left out: networks compute in the type of their weights.

Rounded to 16 bits, Clebsch-Gordan products lose their symmetry at 1e-2 and forces are
no longer the derivative of the energy. What a module is given in half precision is
computed, and returned, in the type of its weights; weights of half precision are
refused.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from torch_cormorant.errors import DtypeError

__all__ = ["HALF", "check_weights", "full_precision", "raised", "weights_precision"]

F = TypeVar("F", bound=Callable[..., Any])
HALF = (torch.float16, torch.bfloat16)
DEVICES = ("cpu", "cuda")
_enabled = torch.is_autocast_enabled


def check_weights(dtype: torch.dtype) -> None:
    """Refuse weights of a precision in which a network cannot compute.

    Raises:
        DtypeError: They are neither float32 nor float64.
    """
    if dtype not in (torch.float32, torch.float64):
        msg = (
            f"the weights are {dtype}; the network computes in float32 or float64: "
            "call model.float() or model.double()"
        )
        raise DtypeError(msg)


def full_precision(function: F) -> F:
    """Run a function without autocast, and its derivatives too.

    Args:
        function: Any function of tensors.

    Returns:
        The same function. Without autocast it costs a third of a microsecond more.
    """

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        if _enabled("cpu") or _enabled("cuda"):
            return _without(function, args, kwargs)
        return function(*args, **kwargs)

    return cast("F", run)


def weights_precision(forward: F) -> F:
    """Run the ``forward`` of a module in the type of its weights.

    Args:
        forward: The method. Half precision tensors among its arguments are raised to
            the type of the module's weights, or to float32 where it has none.

    Returns:
        The same method, without autocast.
    """

    @functools.wraps(forward)
    def run(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        dtype = dtype_of(self)
        if dtype in HALF:
            check_weights(dtype)
        if _any_half(args):
            args = raised(args, dtype or torch.float32)
        if _enabled("cpu") or _enabled("cuda"):
            return _without(forward, (self, *args), kwargs)
        return forward(self, *args, **kwargs)

    return cast("F", run)


def dtype_of(module: nn.Module) -> torch.dtype | None:
    """Type of the first weight of a module, or None; fast, unlike ``parameters()``.

    The mask that torch_geometric.explain gives a layer is no weight.
    """
    for name, weight in module._parameters.items():  # noqa: SLF001
        if weight is not None and name != "_edge_mask":
            return weight.dtype
    for part in module._modules.values():  # noqa: SLF001
        found = None if part is None else dtype_of(part)
        if found is not None:
            return found
    return None


def _without(function: F, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    with _no_autocast():
        found = function(*args, **kwargs)
    if not torch.compiler.is_compiling():
        _guard(_tensors(found), _tensors((args, kwargs)))
    return found


@contextmanager
def _no_autocast() -> Iterator[None]:
    with ExitStack() as stack:
        for device in filter(_enabled, DEVICES):
            stack.enter_context(torch.autocast(device, enabled=False))
        yield


def _tensors(value: Any) -> list[Tensor]:
    """All tensors in nested tuples, lists, mappings and records."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    elif hasattr(value, "__dataclass_fields__"):
        value = vars(value).values()
    elif not isinstance(value, (tuple, list)):
        return []
    return [tensor for part in value for tensor in _tensors(part)]


def _any_half(values: Iterable[Any]) -> bool:
    for value in values:
        if isinstance(value, Tensor):
            if value.dtype in HALF:
                return True
        elif isinstance(value, (tuple, list)) and _any_half(value):
            return True
    return False


def raised(value: Any, dtype: torch.dtype) -> Any:
    """The same, tensors of half precision in another type."""
    if isinstance(value, Tensor):
        return value.to(dtype) if value.dtype in HALF else value
    if isinstance(value, (tuple, list)):
        parts = [raised(part, dtype) for part in value]
        kind = type(value)
        return kind(*parts) if hasattr(value, "_fields") else kind(parts)
    return value


def _guard(outputs: Iterable[Tensor], inputs: Iterable[Tensor]) -> None:
    """Switch autocast off in the derivatives of some outputs, down to the inputs.

    ``loss.backward()`` inside of an autocast region would round them: PyTorch runs
    every node of the graph with the state at the call, so every node is told.
    """
    seen = {tensor.grad_fn for tensor in inputs}
    todo = [tensor.grad_fn for tensor in outputs]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        node.register_prehook(_leave)
        todo.extend(parent for parent, _ in node.next_functions)


def _leave(*_: Any) -> None:
    """Before a node runs; PyTorch puts the state back when the node is done."""
    for device in filter(_enabled, DEVICES):
        torch.set_autocast_enabled(device, enabled=False)
