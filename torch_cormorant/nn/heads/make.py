"""Heads by name, with options."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar, cast

from torch_cormorant.errors import ConfigError
from torch_cormorant.nn.heads.atomwise import AtomwiseHead
from torch_cormorant.nn.heads.base import Head, LevelSizes, targets_of
from torch_cormorant.nn.heads.pooled import PooledHead
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
from torch_cormorant.nn.parts import Registry

H = TypeVar("H", bound=Head)

HeadSpec: TypeAlias = str | Mapping[str, Any] | Head | type[Head]
"""A name; a mapping with ``kind`` or ``class`` and options; an instance; a class."""

HEAD_PARTS: Registry[Head] = Registry(
    "head",
    Head,
    {
        "published": PublishedHead,
        "linear": LinearHead,
        "extensive": ExtensiveHead,
        "atomwise": AtomwiseHead,
        "mean": MeanHead,
        "attention": AttentionHead,
        "pooled": PooledHead,
        "dipole": DipoleHead,
        "dipole_norm": (DipoleHead, {"norm": True}),
        "spatial_extent": SpatialExtentHead,
        "polarizability": PolarizabilityHead,
        "polarizability_trace": (PolarizabilityHead, {"trace": True}),
        "vector": SO3Head,
        "atom_vector": (SO3Head, {"per_atom": True}),
        "so3": SO3Head,
    },
)
HEADS = HEAD_PARTS.names
"""Names of all heads."""


def register_head(name: str) -> Callable[[type[H]], type[H]]:
    """Give an own head a name, as a decorator.

    Args:
        name: What ``head=`` of networks is then told.

    Raises:
        ConfigError: Another head has that name.

    Example:
        >>> from torch_cormorant.nn import ExtensiveHead
        >>> @register_head("charge")
        ... class ChargeHead(ExtensiveHead):
        ...     reference = "none"
        >>> make_head("charge", LevelSizes((4,), (2,), 2)).kind
        'charge'
    """
    add: Any = HEAD_PARTS.register(name)
    return cast("Callable[[type[H]], type[H]]", add)


def make_head(
    spec: HeadSpec | Sequence[HeadSpec],
    sizes: LevelSizes,
    num_targets: int = 1,
    **defaults: Any,
) -> Head:
    """Make the head that a name, a mapping or a list of them describes.

    Args:
        spec: One of :data:`~torch_cormorant.nn.HEADS`; a mapping with options, such as
            ``{"kind": "so3", "degree": 2}`` or ``{"class": MyHead, "width": 8}``; the
            class of an own :class:`Head` or an instance of it, which is taken as it
            is; or a list of those, whose results are joined.
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
    if isinstance(spec, Sequence) and not isinstance(spec, str):
        heads = [_make_one(one, sizes, num_targets, defaults) for one in spec]
        return HeadList(heads)
    return _make_one(spec, sizes, num_targets, defaults)


def _make_one(
    spec: HeadSpec, sizes: LevelSizes, num_targets: int, defaults: dict[str, Any]
) -> Head:
    shared = {"num_targets": num_targets, **defaults}
    head = HEAD_PARTS.make(spec, shared, {"sizes": sizes, "inputs": sizes.scalars})
    if num_targets not in {1, targets_of(head)}:
        msg = (
            f"num_targets is {num_targets}, the head {head.kind!r} predicts "
            f"{targets_of(head)}; give it num_targets too"
        )
        raise ConfigError(msg)
    return head
