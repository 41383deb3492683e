"""Reads a configuration and checks all of it before anything runs."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import math
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from torch_cormorant.cli.schema import (
    CHOICES,
    LIMITS,
    SECTIONS,
    DataConfig,
    LossConfig,
    RunConfig,
    source_name,
)
from torch_cormorant.conv import CormorantConv
from torch_cormorant.data.text import read_text
from torch_cormorant.errors import ConfigError, DataError
from torch_cormorant.models import Cormorant
from torch_cormorant.nn.parts import import_part

__all__ = ["as_plain", "load_config", "schema_text"]

SIZE_LIMIT = 1_000_000


class _Place:
    """Where something stands, for messages."""

    def __init__(self, source: str, lines: Mapping[str, int]) -> None:
        self.source, self.lines = source, lines

    def fail(self, key: str, problem: str) -> ConfigError:
        """An error about one key, to be raised by the caller."""
        line = self.lines.get(key)
        where = f"{self.source}, line {line}" if line else self.source
        return ConfigError(f"{where}: {key}: {problem}")


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a configuration.

    Args:
        path: YAML file with the sections ``data``, ``model``, ``loss``, ``training``
            and ``output``, all optional.
        overrides: ``section.key=value``, taken after the file.

    Returns:
        The configuration, every value checked.

    Raises:
        ConfigError: The file is missing or no YAML, a key is unknown, or a value is
            not what it should be; file, line and the nearest right key are named.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "gap.yaml"
        >>> _ = path.write_text("data: {target: gap}")
        >>> load_config(path, ["training.epochs=3"]).training.epochs
        3
    """
    content, lines = _read(Path(path))
    place = _Place(str(path), lines)
    _refuse_two(overrides)
    for override in overrides:
        _override(content, override, lines)
    config = RunConfig()
    for section, values in content.items():
        if section not in SECTIONS:
            raise place.fail(section, unknown_word("section", section, SECTIONS))
        if values is None:
            continue
        if not isinstance(values, dict):
            raise place.fail(section, f"expected keys and values, found {values!r}")
        _fill(getattr(config, section), section, values, place)
    _check_together(config, place)
    return config


def _read(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    lines: dict[str, int] = {}
    try:
        text = read_text(path, SIZE_LIMIT)
    except DataError as error:
        raise ConfigError(str(error)) from None
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            _refuse_aliases(text)
            content = None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or str(error) or repr(error)
        raise ConfigError(f"{path}{where}: not YAML ({reason})") from None
    if content is None:
        return {}, lines
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected sections, found {type(content).__name__}")
    _collect_lines(path, node, "", lines)
    for key in content:
        if not isinstance(key, str):
            raise ConfigError(f"{path}: {key!r}: sections have names")
    return content, lines


def _refuse_aliases(text: str) -> None:
    # A few aliases of aliases can mean billions of entries.
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        if isinstance(token, yaml.AliasToken):
            raise ValueError(f"aliases such as *{token.value} are not read")  # noqa: TRY004


def _collect_lines(path: Path, node: Any, prefix: str, lines: dict[str, int]) -> None:
    """Where every key stands.

    Raises:
        ConfigError: A key stands in two lines; YAML would take the last one.
    """
    if isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            _collect_lines(path, value, f"{prefix}{number}.", lines)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = f"{prefix}{getattr(key, 'value', '')}"
            line = key.start_mark.line + 1
            if name in lines:
                raise ConfigError(
                    f"{path}, lines {lines[name]} and {line}: {name}: is there twice; "
                    "leave one out"
                )
            lines[name] = line
            _collect_lines(path, value, f"{name}.", lines)


def _refuse_two(overrides: Sequence[str]) -> None:
    given: dict[str, str] = {}
    for text in overrides:
        key = text.partition("=")[0].strip()
        if given.setdefault(key, text) != text:
            raise ConfigError(f"--override: {given[key]} and {text}: give one of them")


def _override(content: dict[str, Any], text: str, lines: dict[str, int]) -> None:
    key, sign, value = text.partition("=")
    parts = key.strip().split(".")
    if not sign or len(parts) < 2 or not all(parts):
        raise ConfigError(f"--override {text}: expected section.key=value")
    try:
        found = yaml.safe_load(value)
        _collect_lines(Path(f"--override {text}"), yaml.compose(value), "", {})
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"--override {text}: the value is not YAML") from None
    target = content
    for part in parts[:-1]:
        inner = target.setdefault(part, {})
        if inner is None:
            inner = target[part] = {}
        if not isinstance(inner, dict):
            raise ConfigError(f"--override {text}: {part} holds no keys")
        target = inner
    target[parts[-1]] = found
    lines.pop(".".join(parts), None)


def _fill(section: Any, name: str, values: dict[Any, Any], place: _Place) -> None:
    hints = typing.get_type_hints(type(section))
    for key, value in values.items():
        full = f"{name}.{key}"
        if key not in hints:
            raise place.fail(full, unknown_word("key", str(key), hints))
        if value is False and "off" in CHOICES.get(full, ()):
            value = "off"  # noqa: PLW2901 - a word, which YAML takes for no
        try:
            found = _converted(value, hints[key])
        except (TypeError, ValueError):
            expected = _type_name(hints[key])
            raise place.fail(full, f"expected {expected}, found {value!r}") from None
        if full == "data.source":
            found = source_name(found)
        _check_value(full, found, place)
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


def _check_value(key: str, value: Any, place: _Place) -> None:
    choices = CHOICES.get(key)
    if choices is not None and value not in choices:
        raise place.fail(key, unknown_word("value", str(value), choices))
    limit = LIMITS.get(key)
    if limit is not None and value is not None:
        smallest, included = limit
        if value < smallest or (value == smallest and not included):
            expected = "at least" if included else "more than"
            raise place.fail(key, f"{value} is not {expected} {smallest:g}")
    if key == "data.units" and not all(isinstance(v, str) for v in value.values()):
        raise place.fail(
            key,
            f"expected names of units, found {value!r}; for a plain number write '1' "
            "in quotes",
        )
    if key == "model.options":
        known = network_options()
        for name in value:
            if name not in known:
                full = f"{key}.{name}"
                raise place.fail(full, unknown_word("key", str(name), known))
        for name, entry in value.items():
            try:
                _import_classes(entry)
            except ConfigError as error:
                raise place.fail(f"{key}.{name}", str(error)) from None


def _import_classes(entry: Any) -> None:
    """Own classes are imported by the names that the configuration's author wrote."""
    if isinstance(entry, list):
        for one in entry:
            _import_classes(one)
    elif isinstance(entry, dict) and isinstance(entry.get("class"), str):
        import_part(entry["class"])


def network_options() -> list[str]:
    """Names that ``model.options`` may hold."""
    names = []
    for kind in (Cormorant, CormorantConv):
        for name, parameter in inspect.signature(kind.__init__).parameters.items():
            if parameter.kind is not parameter.VAR_KEYWORD and name != "self":
                names.append(name)
    own = {"in_channels", "out_channels", "lmax_in", "edge_state_channels"}
    return [*dict.fromkeys(n for n in names if n not in own), "repulsion"]


def _check_together(config: RunConfig, place: _Place) -> None:
    data = config.data
    own = data.source == "extxyz" and bool(data.target)
    frames = data.source not in ("mini_qm9", "qm9") and not own
    if data.source in ("frames", "extxyz", "qm9", "md17") and not data.path:
        raise place.fail("data.path", f"missing; source {data.source!r} needs it")
    if data.target == []:
        raise place.fail("data.target", "an empty list; name at least one property")
    if not frames and not data.target:
        raise place.fail("data.target", "missing; which property is to be learned?")
    if frames and data.target:
        raise place.fail("data.target", f"source {data.source!r} has energies only")
    if own:
        _check_properties(data, place)
    _check_own(data, place)
    if config.model.network == "potential" and not frames:
        raise place.fail(
            "model.network", f"a potential needs frames, source is {data.source!r}"
        )
    reference = config.training.reference
    if reference != "auto" and frames != (reference == "isolated"):
        what = "frames" if frames else "property sets"
        raise place.fail("training.reference", f"{reference!r} is not for {what}")
    if config.training.ema >= 1:
        raise place.fail("training.ema", f"{config.training.ema} is not below 1")
    _check_loss(config.loss, place, frames=frames)


def _check_loss(loss: LossConfig, place: _Place, *, frames: bool) -> None:
    """The loss of frames, which properties have not."""
    if not frames and loss != LossConfig():
        raise place.fail("loss", "is for energies and forces; properties have one loss")
    if frames and not (loss.energy or loss.forces):
        raise place.fail("loss", "energy and forces are both 0: nothing to learn")


def _check_properties(data: DataConfig, place: _Place) -> None:
    """A unit for every property of an own file, and nothing about energies."""
    for key in ("energy", "forces", "stress", "virial", "molecule", "part"):
        if getattr(data, key) != getattr(DataConfig(), key):
            raise place.fail(f"data.{key}", "is for energies and forces; leave it out")
    for name in data.units:
        if name not in (*data.names, "pos"):
            known = ", ".join([*map(repr, data.names), "'pos'"])
            raise place.fail(
                f"data.units.{name}", f"what is read is {known}; there is no {name!r}"
            )
    for name in data.names:
        if name not in data.units:
            raise place.fail(
                "data.units",
                f"none is given for {name!r}; name that of the file, such as "
                f"{{{name}: eV}}, or '1' for a plain number",
            )


def _check_own(data: DataConfig, place: _Place) -> None:
    """Keys of ``data`` that belong to some sources only."""
    official = data.official_split is not None
    if official and data.source != "md17":
        raise place.fail("data.official_split", f"source {data.source!r} has none")
    if official and (data.train is not None or data.test is not None):
        raise place.fail(
            "data.official_split",
            "leave out train and test, it has its own; valid is "
            "how many of its training frames choose the checkpoint",
        )
    if data.units and data.source not in ("extxyz", "frames"):
        raise place.fail("data.units", f"source {data.source!r} knows its units")
    if data.source == "frames" and set(data.units) - {"energy"}:
        raise place.fail(
            "data.units",
            "of source 'frames' only that of the energy can be named; positions are "
            "in Angstrom, and 'force_unit' in the file names another unit of forces",
        )


def unknown_word(kind: str, found: str, known: Iterable[str]) -> str:
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


def as_plain(config: RunConfig) -> dict[str, Any]:
    """The configuration as nested plain values.

    Args:
        config: The configuration.
    """
    return dataclasses.asdict(config)


def schema_text() -> str:
    """Every section, key, default and meaning, as commented YAML.

    Example:
        >>> schema_text().splitlines()[0]
        'data:  # Which molecules, and how they are divided.'
    """
    lines = []
    for name, kind in SECTIONS.items():
        lines.append(f"{name}:  # {kind.__doc__}")
        section = kind()
        for entry in dataclasses.fields(kind):
            value = yaml.safe_dump(
                getattr(section, entry.name), default_flow_style=True
            )
            shown = value.replace("...", "").strip()
            lines.append(f"  {entry.name}: {shown}  # {entry.metadata['doc']}")
    return "\n".join(lines)
