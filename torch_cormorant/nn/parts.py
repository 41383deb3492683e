"""Parts of networks: ours by their names, those of users beside them."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from torch import nn

from torch_cormorant.errors import ConfigError, nearest

__all__ = [
    "Part",
    "Registry",
    "UnknownPartError",
    "import_part",
    "know",
    "known",
    "plain_part",
]


class UnknownPartError(ConfigError):
    """A part is named that this process does not know."""


class Part(nn.Module):
    """What a network takes by name, by class or as an instance.

    A class of its own becomes usable by deriving from :class:`.Head`, :class:`.Radial`
    or another of these bases. What it was made with is kept, so that a model file can
    say how to make it again; these arguments must be plain values.

    Attributes:
        kind: Name of the part. Default: that of its class.
        made_with: All arguments of the constructor by name, without ``from_network``.
        from_network: Arguments that only the network knows.
    """

    kind: str = ""
    from_network: tuple[str, ...] = ()
    made_with: Mapping[str, Any] = MappingProxyType({})

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Give a class its name, and let its constructor keep the arguments."""
        super().__init_subclass__(**kwargs)
        if "kind" not in vars(cls):
            cls.kind = cls.__name__
        if "__init__" in vars(cls):
            cls.__init__ = _keeping(cls.__init__)  # type: ignore[method-assign]


def text_of(part: Part) -> str:
    """The arguments that a part was made with."""
    shown = {name: _shown(value) for name, value in part.made_with.items()}
    return ", ".join(f"{name}={value}" for name, value in shown.items())


def _shown(value: Any) -> Any:
    """The same for what a file gives back a little differently."""
    if isinstance(value, (list, tuple)):
        return [_shown(entry) for entry in value]
    whole = isinstance(value, float) and value.is_integer()
    return int(value) if whole else value


def _keeping(start: Callable[..., None]) -> Callable[..., None]:
    _, *parameters = inspect.signature(start).parameters.values()
    names = [parameter.name for parameter in parameters]
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}

    @functools.wraps(start)
    def init(self: Part, *args: Any, **kwargs: Any) -> None:
        if "made_with" not in vars(
            self
        ):  # the class itself, not the one it derives from
            given = {**defaults, **dict(zip(names, args, strict=False)), **kwargs}
            order = [*dict.fromkeys(name for name in [*names, *given] if name in given)]
            vars(self)["made_with"] = {
                name: given[name] for name in order if name not in self.from_network
            }
        start(self, *args, **kwargs)

    return init


P = TypeVar("P", bound=Part)


class Registry(Generic[P]):
    """The parts of one kind: classes by name, with options that the name fixes.

    Args:
        word: What the argument of networks is called.
        base: What every class of the kind derives from.
        entries: Class, or class and fixed options, of every name.
    """

    def __init__(
        self,
        word: str,
        base: type[P],
        entries: Mapping[str, type[P] | tuple[type[P], dict[str, Any]]],
    ) -> None:
        self.word, self.base = word, base
        self.entries: dict[str, tuple[type[P], dict[str, Any]]] = {}
        self.classes: dict[str, type[P]] = {}
        for name, entry in entries.items():
            part, fixed = entry if isinstance(entry, tuple) else (entry, {})
            self.register(name, **fixed)(part)
        REGISTRIES.append(self)

    @property
    def names(self) -> tuple[str, ...]:
        """All names, in the order of their registration."""
        return tuple(self.entries)

    def register(self, name: str, **fixed: Any) -> Callable[[type[P]], type[P]]:
        """Give a class a name, as a decorator.

        Args:
            name: The name.
            **fixed: Options of the constructor that the name stands for.

        Raises:
            ConfigError: Another class has that name, or it is no part of this kind.
        """

        def add(part: type[P]) -> type[P]:
            self.remember(part)
            older = self.entries.get(name)
            if older is not None and path_of(older[0]) != path_of(part):
                msg = (
                    f"the {self.word} {name!r} is {path_of(older[0])} already; give "
                    f"{path_of(part)} another name"
                )
                raise ConfigError(msg)
            self.entries[name] = (part, fixed)
            if part.kind == part.__name__:
                part.kind = name
            return part

        return add

    def remember(self, part: type[P], name: str | None = None) -> None:
        """Make a class known by its module and name.

        Raises:
            ConfigError: It is no part of this kind.
        """
        if not (isinstance(part, type) and issubclass(part, self.base)):
            msg = (
                f"{self.word} must be a class that derives from {self.base.__name__}, "
                f"got {part!r}"
            )
            raise ConfigError(msg)
        self.classes[path_of(part) if name is None else name] = part

    def make(
        self, spec: Any, shared: Mapping[str, Any], network: Mapping[str, Any]
    ) -> P:
        """Make a part; an instance is taken as it is.

        Args:
            spec: A name, a class, a mapping with ``kind`` (a name) or ``class`` and
                options, or an instance.
            shared: Options for those that have them.
            network: What only the network knows, for those that take it.

        Raises:
            ConfigError: A name, a class or an option is unknown, or one is missing.
        """
        if isinstance(spec, self.base):
            self.remember(type(spec))
            return spec
        name, part, fixed, options = self.resolve(spec)
        parameters = _parameters(part)
        if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            allowed = {**parameters, **options}.keys() - fixed.keys()
        else:
            allowed = parameters.keys() - fixed.keys()
        unknown = sorted(set(options) - (allowed - set(part.from_network)))
        if unknown:
            msg = f"the {self.word} {name!r} has no option {unknown[0]!r}"
            raise ConfigError(msg + nearest(unknown[0], sorted(allowed)))
        common = {n: v for n, v in {**shared, **network}.items() if n in parameters}
        given = {**common, **fixed, **options}
        missing = [
            n
            for n, p in parameters.items()
            if n not in given and p.default is p.empty and p.kind not in _VARIABLE
        ]
        if missing:
            text = "a cutoff in Angstrom" if missing[0] == "cutoff" else missing[0]
            msg = f"the {self.word} {name!r} needs {text}: give {missing[0]}="
            raise ConfigError(msg)
        return part(**given)

    def resolve(self, spec: Any) -> tuple[str, type[P], dict[str, Any], dict[str, Any]]:
        """Name, class, fixed options and further options that are asked for."""
        if isinstance(spec, type):
            self.remember(spec)
            spec = {"class": spec}
        options = {"kind": spec} if isinstance(spec, str) else spec
        if not isinstance(options, Mapping):
            msg = (
                f"{self.word} must be a name, a mapping, a {self.base.__name__} or its "
                f"class, got {spec!r}"
            )
            raise ConfigError(msg)
        options = dict(options)
        if len({"kind", "class"} & options.keys()) != 1:
            msg = (
                f"a {self.word} given as a mapping needs its name as 'kind', or its "
                f"'class', got {options}"
            )
            raise ConfigError(msg)
        if "class" in options:
            part = self._class(options.pop("class"))
            return part.kind, part, {}, options
        kind = str(options.pop("kind"))
        if kind not in self.entries:
            msg = f"{self.word} must be one of {self.names}, got {kind!r}"
            raise UnknownPartError(msg + nearest(kind, self.names))
        part, fixed = self.entries[kind]
        return kind, part, fixed, options

    def _class(self, given: Any) -> type[P]:
        if isinstance(given, type):
            self.remember(given)
            return given
        found = self.classes.get(given) if isinstance(given, str) else None
        if found is None and str(given).startswith("__main__."):
            found = self._moved(str(given).removeprefix("__main__."))
        if found is None:
            msg = (
                f"{self.word}: no class {given!r} is known here; import it and give it"
            )
            raise UnknownPartError(msg)
        return found

    def _moved(self, name: str) -> type[P] | None:
        """The one class of a name: what a script defined may be imported from it."""
        alike = {part for part in self.classes.values() if part.__qualname__ == name}
        return alike.pop() if len(alike) == 1 else None

    def describe(self, part: P) -> dict[str, Any]:
        """What makes an instance again: its name or class, and all its arguments."""
        kind = type(part)
        names = [
            name
            for name, (other, fixed) in self.entries.items()
            if other is kind and not fixed
        ]
        which = {"kind": names[0]} if names else {"class": path_of(kind)}
        return {**which, **part.made_with}


REGISTRIES: list[Registry[Any]] = []
_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _parameters(part: type[Part]) -> dict[str, inspect.Parameter]:
    return dict(list(inspect.signature(part.__init__).parameters.items())[1:])


def path_of(part: type) -> str:
    """Module and name of a class."""
    return f"{part.__module__}.{part.__qualname__}"


def registry_of(part: Any) -> Registry[Any] | None:
    """The registry of an instance or a class, or None."""
    kind = part if isinstance(part, type) else type(part)
    return next((r for r in REGISTRIES if issubclass(kind, r.base)), None)


def know(parts: Iterable[type[Part]]) -> None:
    """Make own classes known, so that model files may name them.

    Args:
        parts: Classes that derive from :class:`.Head`, :class:`.Radial`, ...

    Raises:
        ConfigError: Something else is among them.
    """
    for part in parts:
        registry = registry_of(part) if isinstance(part, type) else None
        if registry is None:
            bases = " or ".join(r.base.__name__ for r in REGISTRIES)
            msg = f"parts must be classes that derive from {bases}, got {part!r}"
            raise ConfigError(msg)
        registry.remember(part)


def parts_in(module: nn.Module) -> list[type[Part]]:
    """The classes of all parts of a network, itself included, each once."""
    parts = [part for part in module.modules() if isinstance(part, Part)]
    kinds = dict.fromkeys(type(part) for part in parts)
    return [kind for kind in kinds if registry_of(kind) is not None]


@contextmanager
def known(parts: Iterable[type[Part]]) -> Iterator[None]:
    """As :func:`know`, until the end of a ``with`` block."""
    before = [(registry, dict(registry.classes)) for registry in REGISTRIES]
    try:
        know(parts)
        yield
    finally:
        for registry, classes in before:
            registry.classes = classes


def import_part(name: str) -> type[Part]:
    """Import a class that a person named, and make it known.

    The current folder counts as a place to import from, after all others.

    Args:
        name: ``module:Name`` or ``module.Name``.

    Raises:
        ConfigError: There is no such module or class, or it is no part.
    """
    module, _, attribute = name.replace(":", ".").rpartition(".")
    before = list(sys.path)
    try:
        sys.path.append(str(Path.cwd()))
        part = getattr(import_module(module), attribute)
    except Exception as error:  # whatever a module does while it is imported
        msg = (
            f"{name}: cannot be imported ({type(error).__name__}: {error}); expected "
            "module.Name of an installed module, or of one in the current folder"
        )
        raise ConfigError(msg) from error
    finally:
        sys.path[:] = before
    know([part])
    registry = registry_of(part)
    if registry is not None:
        registry.remember(part, f"{module}.{attribute}")
    found: type[Part] = part
    return found


def plain_part(value: Any) -> Any:
    """An instance, a class or a mapping with a class as names and values."""
    if isinstance(value, Part):
        registry = registry_of(value)
        return value if registry is None else registry.describe(value)
    if isinstance(value, type) and issubclass(value, Part):
        return {"class": path_of(value)}
    if isinstance(value, Mapping) and "class" in value:
        given = value["class"]
        found = [r.classes[given] for r in REGISTRIES if given in r.classes]
        kind = found[0] if found else given
        return {**value, "class": path_of(kind) if isinstance(kind, type) else kind}
    return value
