"""A configuration out of plain values, every one of them checked."""

from __future__ import annotations

import difflib
import inspect
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from torch_cormorant.conv import CormorantConv
from torch_cormorant.data.registry import source_name
from torch_cormorant.errors import ConfigError
from torch_cormorant.models import Cormorant
from torch_cormorant.models.cormorant_potential import SIZES
from torch_cormorant.networks.base import NETWORK_PARTS
from torch_cormorant.nn.parts import import_part
from torch_cormorant.train.config import (
    CHOICES,
    FAMILY,
    LIMITS,
    SECTIONS,
    DataConfig,
    LossConfig,
    ModelConfig,
    RunConfig,
)

__all__ = ["make_config", "unknown_word"]

Fail: TypeAlias = Callable[[str, str], ConfigError]
"""From a key and what is wrong with its value to the error to be raised."""


def _plain_error(key: str, problem: str) -> ConfigError:
    return ConfigError(f"{key}: {problem}")


def make_config(
    values: Mapping[str, Any], fail: Callable[[str, str], ConfigError] = _plain_error
) -> RunConfig:
    """Make a configuration of a training.

    Args:
        values: The sections ``data``, ``model``, ``loss``, ``training`` and ``output``,
            all optional, each a mapping of keys to values; what is left out has its
            default. ``cormorant train --keys`` prints all of them.
        fail: Makes the error out of a key and what is wrong with it; by default both
            are the message.

    Returns:
        The configuration, every value checked.

    Raises:
        ConfigError: A key is unknown, or a value is not what it should be; the key and
            the nearest right one are named.

    Example:
        >>> make_config({"data": {"target": "gap"}}).training.epochs
        30
    """
    config = RunConfig()
    for section, content in values.items():
        if section not in SECTIONS:
            raise fail(section, unknown_word("section", str(section), SECTIONS))
        if content is None:
            continue
        if not isinstance(content, Mapping):
            raise fail(section, f"expected keys and values, found {content!r}")
        _fill(getattr(config, section), section, content, fail)
    _check_together(config, fail)
    return config


def _fill(section: Any, name: str, values: Mapping[Any, Any], fail: Fail) -> None:
    hints = typing.get_type_hints(type(section))
    for key, value in values.items():
        full = f"{name}.{key}"
        if key not in hints:
            raise fail(full, unknown_word("key", str(key), hints))
        if value is False and "off" in CHOICES.get(full, ()):
            value = "off"  # noqa: PLW2901 - a word, which YAML takes for no
        try:
            found = _converted(value, hints[key])
        except (TypeError, ValueError):
            expected = _type_name(hints[key])
            raise fail(full, f"expected {expected}, found {value!r}") from None
        if full == "data.source":
            found = source_name(found)
        _check_value(full, found, fail)
        setattr(section, key, found)


def _converted(value: Any, hint: Any) -> Any:
    """The value as the type that is asked for, or an error."""
    if isinstance(hint, types.UnionType):
        for option in typing.get_args(hint):
            try:
                return _converted(value, option)
            except (TypeError, ValueError):
                continue
        raise TypeError
    origin = typing.get_origin(hint) or hint
    if hint is type(None) and value is None:
        return None
    if origin is float and isinstance(value, (int, float, str)):
        # YAML takes 1e-3 for a word; a person does not.
        number = math.nan if isinstance(value, bool) else float(value)
        if math.isfinite(number):
            return number
    elif origin is list and isinstance(value, list):
        (entry,) = typing.get_args(hint)
        return [_converted(v, entry) for v in value]
    elif origin is int and isinstance(value, bool):
        raise TypeError
    elif isinstance(origin, type) and isinstance(value, origin):
        return value
    raise TypeError


def _check_value(key: str, value: Any, fail: Fail) -> None:
    choices = CHOICES.get(key)
    if choices is not None and value not in choices:
        raise fail(key, unknown_word("value", str(value), choices))
    limit = LIMITS.get(key)
    if limit is not None and value is not None:
        smallest, included = limit
        if value < smallest or (value == smallest and not included):
            expected = "at least" if included else "more than"
            raise fail(key, f"{value} is not {expected} {smallest:g}")
    if key == "data.units" and not all(isinstance(v, str) for v in value.values()):
        raise fail(
            key,
            f"expected names of units, found {value!r}; for a plain number write '1' "
            "in quotes",
        )
    if key == "model.options":
        for name, entry in value.items():
            try:
                _import_classes(entry)
            except ConfigError as error:
                raise fail(f"{key}.{name}", str(error)) from None


def _import_classes(entry: Any) -> None:
    """Own classes are imported by the names that the configuration's author wrote."""
    if isinstance(entry, list):
        for one in entry:
            _import_classes(one)
    elif isinstance(entry, dict) and isinstance(entry.get("class"), str):
        import_part(entry["class"])


def network_options(network: str) -> list[str]:
    """Names that ``model.options`` may hold."""
    if network in FAMILY:
        return list(inspect.signature(NETWORK_PARTS.entries[network][0]).parameters)
    names = []
    for kind in (Cormorant, CormorantConv):
        for name, parameter in inspect.signature(kind.__init__).parameters.items():
            if parameter.kind is not parameter.VAR_KEYWORD and name != "self":
                names.append(name)
    own = {"in_channels", "out_channels", "lmax_in", "edge_state_channels"}
    more = {"potential": ["repulsion", "size"], "recipe": ["size"]}.get(network, [])
    return [*dict.fromkeys(n for n in names if n not in own), *more]


def _check_together(config: RunConfig, fail: Fail) -> None:
    data = config.data
    _check_options(config.model, fail)
    own = data.source == "extxyz" and bool(data.target)
    frames = data.source not in ("mini_qm9", "qm9") and not own
    if data.source in ("frames", "extxyz", "qm9", "md17") and not data.path:
        raise fail("data.path", f"missing; source {data.source!r} needs it")
    if data.target == []:
        raise fail("data.target", "an empty list; name at least one property")
    if not frames and not data.target:
        raise fail("data.target", "missing; which property is to be learned?")
    if frames and data.target:
        raise fail("data.target", f"source {data.source!r} has energies only")
    if own:
        _check_properties(data, fail)
    _check_own(data, fail)
    if config.model.network == "potential" and not frames:
        raise fail(
            "model.network", f"a potential needs frames, source is {data.source!r}"
        )
    _check_start(config, fail)
    reference = config.training.reference
    kept = bool(config.training.start) and reference == "none"
    if reference != "auto" and not kept and frames != (reference == "isolated"):
        what = "frames" if frames else "property sets"
        raise fail("training.reference", f"{reference!r} is not for {what}")
    for name in ("ema", "momentum"):
        value = getattr(config.training, name)
        if value >= 1:
            raise fail(f"training.{name}", f"{value} is not below 1")
    _check_loss(config.loss, fail, frames=frames)


def _check_start(config: RunConfig, fail: Fail) -> None:
    """What goes with a model to start from, and what does not go without one."""
    training, model = config.training, config.model
    if not training.start:
        for name in ("freeze", "rates", "replay"):
            if getattr(training, name):
                raise fail(f"training.{name}", "needs training.start: MODEL")
        return
    own = {name for name in model.options if name != "head"}
    if own or model.network != ModelConfig().network:
        what = f"options.{min(own)}" if own else "network"
        raise fail(f"model.{what}", "the network is that of training.start")
    if training.calibrate or training.captured:
        what = "calibrate" if training.calibrate else "captured"
        raise fail(f"training.{what}", "is not for a training with training.start")
    for name, factor in training.rates.items():
        number = isinstance(factor, (int, float)) and not isinstance(factor, bool)
        if not (number and factor > 0):
            raise fail(f"training.rates.{name}", f"{factor!r} is not more than 0")


def _check_options(model: ModelConfig, fail: Fail) -> None:
    """Options that the network has."""
    known = network_options(model.network)
    for name in model.options:
        if name not in known:
            full = f"model.options.{name}"
            raise fail(full, unknown_word("key", str(name), known))
    size, sizes = model.options.get("size"), [*SIZES]
    if size is not None and size not in sizes:
        raise fail("model.options.size", unknown_word("value", str(size), sizes))


def _check_loss(loss: LossConfig, fail: Fail, *, frames: bool) -> None:
    """The loss of frames, which properties have not."""
    if not frames and loss != LossConfig():
        raise fail("loss", "is for energies and forces; properties have one loss")
    if frames and not (loss.energy or loss.forces):
        raise fail("loss", "energy and forces are both 0: nothing to learn")


def _check_properties(data: DataConfig, fail: Fail) -> None:
    """A unit for every property of an own file, and nothing about energies."""
    for key in ("energy", "forces", "stress", "virial", "molecule", "part"):
        if getattr(data, key) != getattr(DataConfig(), key):
            raise fail(f"data.{key}", "is for energies and forces; leave it out")
    for name in data.units:
        if name not in (*data.names, "pos"):
            known = ", ".join([*map(repr, data.names), "'pos'"])
            raise fail(
                f"data.units.{name}", f"what is read is {known}; there is no {name!r}"
            )
    for name in data.names:
        if name not in data.units:
            raise fail(
                "data.units",
                f"none is given for {name!r}; name that of the file, such as "
                f"{{{name}: eV}}, or '1' for a plain number",
            )


def _check_own(data: DataConfig, fail: Fail) -> None:
    """Keys of ``data`` that belong to some sources only."""
    if data.molecule and data.source not in ("md17", "frames", "extxyz"):
        raise fail("data.molecule", f"source {data.source!r} holds none of MD17")
    if data.by_part and (data.source != "frames" or data.part):
        why = "leave out part" if data.part else f"source {data.source!r} has none"
        raise fail("data.by_part", f"is for files that are divided into parts; {why}")
    official = data.official_split is not None
    if official and data.source != "md17":
        raise fail("data.official_split", f"source {data.source!r} has none")
    if official and (data.train is not None or data.test is not None):
        raise fail(
            "data.official_split",
            "leave out train and test, it has its own; valid is "
            "how many of its training frames choose the checkpoint",
        )
    if data.units and data.source not in ("extxyz", "frames"):
        raise fail("data.units", f"source {data.source!r} knows its units")
    if data.source == "frames" and set(data.units) - {"energy"}:
        raise fail(
            "data.units",
            "of source 'frames' only that of the energy can be named; positions are "
            "in Angstrom, and 'force_unit' in the file names another unit of forces",
        )


def unknown_word(kind: str, found: str, known: Iterable[str]) -> str:
    """What to say of a word that is not known.

    Args:
        kind: Kind of word.
        found: The word.
        known: Those that there are.

    Example:
        >>> unknown_word("key", "epoch", ["epochs", "lr"])
        "no such key: 'epoch'; did you mean 'epochs'?"
    """
    names = list(known)
    near = difflib.get_close_matches(found, names, 1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
    return f"no such {kind}: {found!r}; {hint}"


def _type_name(hint: Any) -> str:
    if isinstance(hint, types.UnionType):
        return " or ".join(_type_name(option) for option in typing.get_args(hint))
    names = {int: "a whole number", float: "a number", str: "a word", bool: "yes or no"}
    if hint is type(None):
        return "nothing"
    return names.get(typing.get_origin(hint) or hint, "a list or mapping")
