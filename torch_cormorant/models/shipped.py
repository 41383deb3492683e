"""Weights that come with the package: which there are, and their files by name."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from torch_cormorant.errors import ModelFileError, nearest

__all__ = ["Shipped", "model_path", "pretrained_models", "shipped"]

FOLDERS = [Path(__file__).parents[1] / "weights"]
"""Where weights lie: a folder for each name, with ``about.json`` and model files."""
ABOUT = "about.json"


@dataclass(frozen=True)
class Shipped:
    """Weights with a name.

    Attributes:
        name: What they are asked for by.
        folder: Where their files lie.
        description: What they predict, in a line.
        level_of_theory: How their training data were computed.
        elements: Symbols of the elements that they know.
        charge: Lowest and highest total charge of what they were trained on.
        unpaired: Most unpaired electrons of that.
        errors: Mean absolute errors on molecules that none of them has seen, as text
            with units, by what they are of.
        data: Name and digest of the training data.
    """

    name: str
    folder: Path
    description: str
    level_of_theory: str
    elements: tuple[str, ...]
    charge: tuple[int, int] = (0, 0)
    unpaired: int = 0
    errors: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def files(self) -> list[Path]:
        """The model files, one for each member of an ensemble."""
        return sorted(self.folder.glob("*.safetensors"))

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.folder.iterdir())

    def member(self, number: int) -> Path:
        """One of the model files.

        Args:
            number: Which, from 0.

        Raises:
            ModelFileError: There are not so many.
        """
        if not 0 <= number < len(self.files):
            msg = (
                f"{self.name}: has {len(self.files)} members, so there is no member "
                f"{number}; they are counted from 0"
            )
            raise ModelFileError(msg)
        return self.files[number]


def pretrained_models() -> dict[str, Shipped]:
    """All weights that come with the package, by name.

    Raises:
        ModelFileError: What is written beside some of them is damaged.

    Example:
        >>> from torch_cormorant.models import pretrained_models
        >>> isinstance(pretrained_models(), dict)
        True
    """
    found = [
        _read(path) for place in FOLDERS for path in sorted(place.glob(f"*/{ABOUT}"))
    ]
    return {one.name: one for one in sorted(found, key=lambda one: one.name)}


def _read(path: Path) -> Shipped:
    known = {entry.name for entry in fields(Shipped)} - {"name", "folder"}
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        given = {name: value for name, value in held.items() if name in known}
        given["elements"] = tuple(given["elements"])
        low, high = given.get("charge", (0, 0))
        given["charge"] = (int(low), int(high))
        return Shipped(path.parent.name, path.parent, **given)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        msg = f"{path}: damaged, install the package again ({error})"
        raise ModelFileError(msg) from error


def model_path(where: str | os.PathLike[str]) -> Path:
    """The file or folder that a path or a name of weights means.

    Args:
        where: A path, if it exists (a folder: and holds model files); else a name of
            :func:`pretrained_models`, or a name with the number of a member,
            ``"organic-gfn2/0"``.

    Returns:
        The path; of what is neither the one that was given, where it can only be meant
        as a path.

    Raises:
        ModelFileError: There is neither such a file nor such a name.
    """
    path = Path(where)
    name, _, rest = path.as_posix().partition("/")
    if path.is_file() or path.is_absolute() or (path.suffix and not rest):
        return path
    known = pretrained_models().get(name)
    if path.exists() and (known is None or next(path.rglob("*.safetensors"), None)):
        return path
    if rest:
        return known.member(int(rest)) if known and rest.isdecimal() else path
    return shipped(name).folder


def shipped(name: str) -> Shipped:
    """Weights by their name.

    Args:
        name: One of :func:`pretrained_models`.

    Raises:
        ModelFileError: There are none of that name.
    """
    known = pretrained_models()
    if name in known:
        return known[name]
    there = f"there are {', '.join(known)}" if known else "this version has none"
    msg = (
        f"{name}: no such file or folder, and no weights that come with the package "
        f"have this name; {there}{nearest(name, known)}"
    )
    raise ModelFileError(msg)
