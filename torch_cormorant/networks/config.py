"""The constructor arguments of a network as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch_cormorant.nn.parts import plain_part

__all__ = ["plain_config"]

_NOT_ARGUMENTS = ("self", "__class__", "conv")


def plain_config(given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments that make the same network again, ready for JSON.

    Args:
        given: ``locals()`` at the very start of ``__init__``; the keywords gathered in
            ``conv`` stand beside the others in the result.

    Returns:
        Arguments by name; sequences become lists, arrays and tensors numbers,
        own parts the name of their class and their arguments.

    Example:
        >>> plain_config({"self": None, "lmax": (3, 0), "conv": {"gain": 5.0}})
        {'lmax': [3, 0], 'gain': 5.0}
    """
    named = {name: v for name, v in given.items() if name not in _NOT_ARGUMENTS}
    return {name: _plain(v) for name, v in {**named, **given.get("conv", {})}.items()}


def _plain(value: Any) -> Any:
    value = plain_part(value)
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (list, tuple, set, frozenset, range)):
        return [_plain(entry) for entry in value]
    return value
