"""Heads by name, with options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from torch_cormorant.errors import ConfigError, nearest
from torch_cormorant.nn.heads.base import Head, LevelSizes
from torch_cormorant.nn.heads.scalar import (
    AttentionHead,
    ExtensiveHead,
    LinearHead,
    MeanHead,
    PublishedHead,
)
from torch_cormorant.nn.heads.tensor import (
    DipoleHead,
    HeadList,
    PolarizabilityHead,
    SO3Head,
    SpatialExtentHead,
)

HeadSpec: TypeAlias = str | Mapping[str, Any]
"""A name, or a mapping with ``kind`` and options of that head."""

_OF_INVARIANTS = ("published", "linear", "extensive", "mean", "attention")
_KINDS: dict[str, tuple[Callable[..., Head], dict[str, Any]]] = {
    "published": (PublishedHead, {}),
    "linear": (LinearHead, {}),
    "extensive": (ExtensiveHead, {}),
    "mean": (MeanHead, {}),
    "attention": (AttentionHead, {}),
    "dipole": (DipoleHead, {}),
    "dipole_norm": (DipoleHead, {"norm": True}),
    "spatial_extent": (SpatialExtentHead, {}),
    "polarizability": (PolarizabilityHead, {}),
    "polarizability_trace": (PolarizabilityHead, {"trace": True}),
    "vector": (SO3Head, {}),
    "atom_vector": (SO3Head, {"per_atom": True}),
    "so3": (SO3Head, {}),
}
HEADS = (
    "published",
    "linear",
    "extensive",
    "mean",
    "attention",
    "dipole",
    "dipole_norm",
    "spatial_extent",
    "polarizability",
    "polarizability_trace",
    "vector",
    "atom_vector",
    "so3",
)
"""Names of all heads."""


def make_head(
    spec: HeadSpec | Sequence[HeadSpec],
    sizes: LevelSizes,
    num_targets: int = 1,
    **defaults: Any,
) -> Head:
    """Make the head that a name, a mapping or a list of them describes.

    Args:
        spec: One of :data:`~torch_cormorant.nn.HEADS`; a mapping with options, such as
            ``{"kind": "so3", "degree": 2}``; or a list of those, whose results are
            joined.
        sizes: Sizes of the levels.
        num_targets: Number of outputs; with a list, of each head.
        **defaults: ``hidden``, ``middle``, ``act``: options of all heads that have
            them.

    Returns:
        The head.

    Raises:
        ConfigError: If a name or an option is unknown; the message names the nearest.

    Example:
        >>> sizes = LevelSizes((4, 4), (2, 2), 2)
        >>> make_head(["extensive", "dipole"], sizes).shape
        (4,)
    """
    if isinstance(spec, (str, Mapping)):
        return _make_one(spec, sizes, num_targets, defaults)
    given: object = spec  # users pass anything
    if not isinstance(given, Sequence):
        msg = f"head must be a name, a mapping or a list of them, got {spec!r}"
        raise ConfigError(msg)
    return HeadList([_make_one(one, sizes, num_targets, defaults) for one in spec])


def _make_one(
    spec: HeadSpec, sizes: LevelSizes, num_targets: int, defaults: dict[str, Any]
) -> Head:
    options = dict(spec) if isinstance(spec, Mapping) else {"kind": spec}
    if "kind" not in options:
        msg = f"a head given as a mapping needs its name as 'kind', got {options}"
        raise ConfigError(msg)
    kind = str(options.pop("kind"))
    make, fixed = _KINDS.get(kind, (None, {}))
    if make is None:
        hint = nearest(kind, HEADS)
        msg = f"head must be one of {HEADS}, got {kind!r}{hint}"
        raise ConfigError(msg)
    first = sizes.scalars if kind in _OF_INVARIANTS else sizes
    allowed = [name for name in inspect.signature(make).parameters if name != "sizes"]
    unknown = sorted({*options} - ({*allowed} - {*fixed, "inputs"}))
    if unknown:
        msg = f"the head {kind!r} has no option {unknown[0]!r}"
        raise ConfigError(msg + nearest(unknown[0], allowed))
    shared = {name: value for name, value in defaults.items() if name in allowed}
    return make(first, **{"num_targets": num_targets, **shared, **fixed, **options})
