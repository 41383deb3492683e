"""Reads a configuration and checks all of it before anything runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from torch_cormorant.data.text import read_text
from torch_cormorant.errors import ConfigError, DataError
from torch_cormorant.train.config import SECTIONS, RunConfig
from torch_cormorant.train.config_checks import make_config

__all__ = ["load_config", "schema_text"]

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
    return make_config(content, place.fail)


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
