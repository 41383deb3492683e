"""What a model file says is held against itself before anything is built."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from torch_cormorant.errors import ConfigError
from torch_cormorant.models.compositions import KEY as COMPOSITIONS
from torch_cormorant.models.domain import check_record
from torch_cormorant.models.normalisation import Normalisation
from torch_cormorant.nn.facts import EXTRA

__all__ = [
    "check_content",
    "check_network",
    "check_outputs",
    "strict_json",
    "tensors_of",
]

_KINDS: dict[str, type] = {
    "format": str,
    "format_version": int,
    "digest": str,
    "class": str,
    "config": dict,
    "dtype": str,
    "convention": str,
    "length_unit": str,
    "targets": list,
    "units": list,
    "normalisation": dict,
    "training": dict,
    "package_version": str,
}
_WORDS = {dict: "a mapping", list: "a list", str: "a text", int: "a number"}
LENGTH_UNIT = "Angstrom"
_SMALL = 10_000
"""Counts up to this cost no time, however few weights there are."""


def strict_json(text: str | bytes) -> Any:
    """JSON in which nothing is said twice and every number is finite.

    Args:
        text: The text.

    Raises:
        ValueError: It is something else; of two equal keys either might be meant.

    Example:
        >>> strict_json('{"lmax": 2, "lmax": 3}')
        Traceback (most recent call last):
        ValueError: the key 'lmax' stands there twice
    """
    return json.loads(
        text,
        object_pairs_hook=_no_key_twice,
        parse_constant=_no_constant,
        parse_float=_finite,
    )


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key[:100]!r} stands there twice")
        found[key] = value
    return found


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:100]} is too large")
    return number


def check_content(content: Mapping[str, Any]) -> None:
    """Refuse a header whose entries are missing, unknown or of another kind.

    Args:
        content: The header.

    Raises:
        ValueError, TypeError: The message names the entry.
    """
    for name in sorted(set(_KINDS) ^ set(content)):
        there = "is not known" if name in content else "is missing"
        raise ValueError(f"header: {name[:100]!r} {there}")
    for name, kind in _KINDS.items():
        _check_kind(name, content[name], kind)
    for name in ("targets", "units"):
        for entry in content[name]:
            _check_kind(name, entry, str)
    if content["length_unit"] != LENGTH_UNIT:
        raise ValueError(
            f"length_unit: {_short(content['length_unit'])}, expected {LENGTH_UNIT!r}"
        )
    if content["dtype"] not in ("float32", "float64"):
        raise ValueError(
            f"dtype: {_short(content['dtype'])}, expected float32 or float64"
        )
    _check_compositions(content["training"].get(COMPOSITIONS, []))
    check_record(content["training"])


def _check_compositions(given: Any) -> None:
    entries = given if isinstance(given, list) else [given]
    for entry in entries:
        if not isinstance(entry, dict) or not all(
            name.isdecimal() and type(number) is int and number >= 0
            for name, number in entry.items()
        ):
            raise ValueError(
                f"training: {COMPOSITIONS}: {_short(entry)}, expected numbers of atoms "
                "by atomic number"
            )


def _short(value: Any) -> str:
    return repr(value)[:100]


def _check_kind(name: str, value: Any, kind: type) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{name}: {_short(value)}, expected {_WORDS[kind]}")


def check_network(
    kind: type[Any],
    content: Mapping[str, Any],
    normalisation: Normalisation,
    tensors: Mapping[str, Tensor],
) -> None:
    """Refuse tensors and outputs that are not those of the network of a header.

    The network is built without memory, on the meta device, and no further than to
    about as many weights as the file holds: what a header may cost is bounded by the
    length of the file.

    Args:
        kind: Class of the model.
        content: The header.
        normalisation: Of the outputs.
        tensors: Of the file.

    Raises:
        ConfigError: The message names what differs.
    """
    config, weights = content["config"], sum(t.numel() for t in tensors.values())
    _check_counts(config, max(weights, _SMALL))
    with torch.device("meta"), _at_most(len(tensors), weights):
        model = kind(**config).to(getattr(torch, content["dtype"]))
    _check_config(config, json.loads(json.dumps(model.config)))
    _check_tensors(tensors_of(model), tensors)
    check_outputs(model, len(content["targets"]), len(content["units"]), normalisation)


def tensors_of(model: Any) -> dict[str, Tensor]:
    """The tensors of a network; what is said beside them stands in the header."""
    state = model.state_dict()
    return {name: state[name] for name in state if not name.endswith(EXTRA)}


def check_outputs(
    model: Any, targets: int, units: int, normalisation: Normalisation
) -> None:
    """Refuse names, units or references that are not those of the outputs.

    Args:
        model: The network.
        targets: Number of names.
        units: Number of units.
        normalisation: Of the outputs.

    Raises:
        ConfigError: Their numbers differ, or an element has no reference where others
            have one.
    """
    lengths = {targets, units, normalisation.num_targets}
    if lengths != {model.num_targets}:
        raise ConfigError(
            f"info: targets, units and normalisation are for {sorted(lengths)} "
            f"targets, the model has {model.num_targets}"
        )
    missing = set(model.features.known) - set(normalisation.atom_values)
    if normalisation.atom_values and missing:
        raise ConfigError(
            f"atom_values: element {min(missing)} of the model has none, while others "
            "have; give one for each, 0 where nothing is to be added"
        )


def _check_counts(value: Any, limit: int, name: str = "config") -> None:
    """Refuse whole numbers that no network with so few weights can have."""
    if isinstance(value, dict):
        for key, entry in value.items():
            if key != "max_edges":  # says what is refused, not what is built
                _check_counts(entry, limit, key)
    elif isinstance(value, list):
        for entry in value:
            _check_counts(entry, limit, name)
    elif isinstance(value, int) and abs(value) > limit:
        raise ConfigError(
            f"{name[:100]}: {_short(value)}, too many for the weights of the file"
        )


class _TooMany(Exception):  # noqa: N818
    """More weights than the file holds."""


@contextmanager
def _at_most(tensors: int, numbers: int) -> Iterator[None]:
    """Stop the building of a network that has far more weights than a file.

    With room for parts that are made and thrown away; the exact comparison follows.
    """
    left, thread = [2 * tensors + 64, 2 * numbers + 2**20], threading.get_ident()

    def count(module: nn.Module, name: str, weight: Any) -> None:
        del module, name
        if weight is None or threading.get_ident() != thread:
            return
        left[0] -= 1
        left[1] -= weight.numel()
        if min(left) < 0:
            raise _TooMany

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    except _TooMany:
        raise ConfigError(
            f"config: asks for more weights than the file holds, {numbers:,} numbers "
            f"in {tensors:,} tensors"
        ) from None
    finally:
        handle.remove()


def _check_config(given: Mapping[str, Any], full: Mapping[str, Any]) -> None:
    # A default may change from one version to the next, so that none is taken.
    for name in sorted(set(given) ^ set(full)):
        there = "is not known" if name in given else "is missing"
        raise ConfigError(f"config: {name[:100]!r} {there}")
    for name, value in full.items():
        ours, theirs = (json.dumps(v, sort_keys=True) for v in (value, given[name]))
        if ours != theirs:
            raise ConfigError(
                f"config: {name}: {theirs[:100]}, is read as {ours[:100]}"
            )


def _check_tensors(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    if set(expected) != set(given):
        odd = min(set(expected) ^ set(given))
        raise ConfigError(f"{odd}: missing, or not expected")
    for name in sorted(given):
        tensor, wanted = given[name], expected[name]
        if tensor.shape != wanted.shape or tensor.dtype != wanted.dtype:
            raise ConfigError(
                f"{name}: {tensor.dtype} {tuple(tensor.shape)}, expected "
                f"{wanted.dtype} {tuple(wanted.shape)}"
            )
