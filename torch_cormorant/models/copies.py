"""Networks whose weights are computed from others: pruned, normed, parametrised."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TypeVar

from torch import Tensor, nn
from torch.nn.utils import parametrize

from torch_cormorant.errors import ConfigError

__all__ = ["check_weights_are_plain", "copied"]

M = TypeVar("M", bound=nn.Module)


def copied(model: M) -> M:
    """A deep copy, also where PyTorch keeps computed weights beside the others.

    Pruning leaves a weight that is the product of two others on the module, which
    Python's ``deepcopy`` refuses; the next forward makes it anew.

    Args:
        model: The network; it is left as it is.

    Returns:
        The copy, with hooks and prunings of its own.
    """
    kept = list(_computed(model))
    try:
        for _, module, name, value in kept:
            vars(module)[name] = value.detach()
        return copy.deepcopy(model)
    finally:
        for _, module, name, value in kept:
            vars(module)[name] = value


def check_weights_are_plain(model: nn.Module) -> None:
    """Refuse weights that are computed from others, before they are written.

    Raises:
        ConfigError: Names the first one.
    """
    found = [f"{path}.{name}" for path, _, name, _ in _computed(model)]
    for path, module in model.named_modules():
        if parametrize.is_parametrized(module):
            names = getattr(module, "parametrizations", {})
            found += [f"{path}.{name}" for name in names]
    if found:
        msg = (
            f"model: {min(found)} is pruned or parametrised, and a file holds plain "
            "weights; make it permanent first, with torch.nn.utils.prune.remove or "
            "parametrize.remove_parametrizations"
        )
        raise ConfigError(msg)


def _computed(model: nn.Module) -> Iterator[tuple[str, nn.Module, str, Tensor]]:
    """Weights that lie on a module without being its parameters or buffers."""
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor):
                yield path, module, name, value
