"""Checks of the arguments of a layer."""

from __future__ import annotations

import inspect
from typing import Any

from torch_geometric.nn import MessagePassing

from torch_cormorant.errors import ConfigError, check_keywords
from torch_cormorant.nn.edge_network import HOOKS


def check_channels(value: int, name: str, *, lazy: bool = False) -> int:
    """A number of channels; -1 for a lazy layer."""
    if not isinstance(value, int) or (value < 1 and not (lazy and value == -1)):
        msg = (
            f"{name} must be a positive number{' or -1' if lazy else ''}, got {value!r}"
        )
        raise ConfigError(msg)
    return value


def check_count(value: int, name: str) -> int:
    """A whole number of at least 0."""
    if not isinstance(value, int) or value < 0:
        msg = f"{name} must be a number >= 0, got {value!r}"
        raise ConfigError(msg)
    return value


def one_of(value: str, allowed: tuple[str, ...], name: str) -> str:
    """One of the words that are allowed."""
    if value not in allowed:
        msg = f"{name} must be one of {allowed}, got {value!r}"
        raise ConfigError(msg)
    return value


def changed_options(kind: type, given: dict[str, Any]) -> dict[str, Any]:
    """Keyword-only arguments that differ from their defaults."""
    parameters = inspect.signature(kind).parameters
    return {
        name: given[name]
        for name, parameter in parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and given[name] != parameter.default
    }


def check_message_passing(own_kind: type, kwargs: dict[str, Any]) -> None:
    """Refuse what the layer cannot mean."""
    name = own_kind.__name__
    own, passed_on = (
        [
            name
            for name, parameter in inspect.signature(kind).parameters.items()
            if parameter.kind is not parameter.VAR_KEYWORD
        ]
        for kind in (own_kind, MessagePassing)
    )
    check_keywords(kwargs, [*own, *passed_on], name, allowed=passed_on)
    if kwargs.pop("aggr", "sum") not in ("sum", "add"):
        msg = f'{name} sums over neighbours: aggr must be "sum"'
        raise ConfigError(msg)
    if kwargs.pop("node_dim", 0) != 0:
        msg = f"{name} has its nodes on axis 0: node_dim must be 0"
        raise ConfigError(msg)
    if kwargs.get("decomposed_layers", 1) != 1:
        msg = (
            f"{name} couples degrees and cannot be decomposed along its last axis: "
            "decomposed_layers must be 1"
        )
        raise ConfigError(msg)
    if kwargs.get("flow", "source_to_target") != "source_to_target":
        msg = (
            'flow must be "source_to_target"; flip edge_index (and edge_vec) instead '
            "of the flow"
        )
        raise ConfigError(msg)


LISTENERS = tuple(
    f"_{name}_forward{kind}_hooks"
    for name in ("propagate", "message", "aggregate")
    for kind in ("_pre", "")
)
"""Attributes of a layer that hold hooks of PyG's."""


def has_hooks(layer: MessagePassing) -> bool:
    """Whether someone listens to what only ``propagate`` calls."""
    own, sums = vars(layer), vars(layer.aggr_module)
    return any(map(own.get, LISTENERS)) or any(map(sums.get, HOOKS))
