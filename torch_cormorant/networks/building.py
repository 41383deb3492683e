"""From the arguments of a network to its parts."""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any

from torch import nn

from torch_cormorant.conv import CormorantConv
from torch_cormorant.conv.masks import PUBLISHED
from torch_cormorant.errors import ConfigError, check_keywords
from torch_cormorant.nn.cutoff import is_smooth
from torch_cormorant.nn.heads import LevelSizes
from torch_cormorant.nn.inputs import LinearInput, MPNNInput
from torch_cormorant.nn.norm import NORM_PARTS, Gate, NormSpec
from torch_cormorant.nn.radial import RADIAL_PARTS, Radial, RadialSpec
from torch_cormorant.nn.species_scale import SpeciesScale
from torch_cormorant.ops.radial_basis import check_cutoff

logger = logging.getLogger(__name__)

MPNN_CUTOFF = 1.73
"""Published hard radius of the message-passing input, in Angstrom."""
INPUTS = ("mpnn", "mpnn_learned")
"""Message-passing inputs: as in the published code, and as in the supplement."""
_OF_THE_MODEL = (
    "in_channels",
    "out_channels",
    "lmax_in",
    "edge_dim",
    "edge_state_channels",
    "edge_state_lmax",
    "cutoff",
    "species",
)
"""Arguments of a layer that the network sets itself."""


def conv_arguments(
    conv: dict[str, Any], cutoff: float | None, own: Sequence[str]
) -> dict[str, Any]:
    """Arguments of every level: checked names, cutoff, radials, clamped soft radii.

    Args:
        conv: The keywords that the network does not know.
        cutoff: Cutoff of the network in Angstrom.
        own: Keywords that the network knows, for the message.

    Returns:
        The arguments.

    Raises:
        ArgumentError: If a keyword belongs to neither.
    """
    layer = [
        name
        for name, parameter in inspect.signature(CormorantConv).parameters.items()
        if name not in _OF_THE_MODEL and parameter.kind is not parameter.VAR_KEYWORD
    ]
    check_keywords(conv, [*own, *layer], "Cormorant", allowed=layer)
    conv = dict(conv, cutoff=cutoff)
    conv.setdefault("radial", "power_trig" if cutoff is None else "bessel")
    if conv.get("soft_radius") is None:
        conv["soft_radius"] = PUBLISHED
    soft = conv["soft_radius"]
    if cutoff is not None and soft > cutoff:
        logger.warning("soft_radius %g A is clamped to the cutoff %g A", soft, cutoff)
        conv["soft_radius"] = cutoff
    return conv


def radial_species(radial: RadialSpec, count: int) -> int:
    """How many elements a radial basis is told of: all, if it asks for them, or none.

    Args:
        radial: As layers take it.
        count: Number of elements of the network.
    """
    if isinstance(radial, Radial):
        return 0
    return count if "species" in RADIAL_PARTS.resolve(radial)[1].from_network else 0


def has_envelope(conv: Mapping[str, Any]) -> bool:
    """Whether the levels multiply by the envelope, as CormorantConv decides it."""
    chosen = conv.get("envelope")
    if chosen is not None:
        return bool(chosen)
    return conv["cutoff"] is not None and is_smooth(conv.get("cutoff_type", ()))


def per_level(value: int | Sequence[int], count: int, name: str) -> list[int]:
    """One whole number for each level.

    Raises:
        ConfigError: It is none, or there are too few or too many.
    """
    if isinstance(value, int):
        return [value] * count
    entries: object = value  # users pass fractions and words too
    if isinstance(entries, Iterable):
        entries = list(entries)
    if not isinstance(entries, list) or any(
        not isinstance(entry, Integral) for entry in entries
    ):
        msg = f"{name} must be a whole number, or {count} of them, got {value!r}"
        raise ConfigError(msg)
    given = [int(v) for v in entries]
    if len(given) != count:
        msg = f"{name} must be one number or {count}, got {len(given)}"
        raise ConfigError(msg)
    return given


def input_radius(
    given: float | None, cutoff: float | None, *, smooth: bool
) -> tuple[float, bool]:
    """Hard radius of the ``"mpnn"`` input, and whether it ends smoothly there."""
    smooth = given is None and smooth
    hard = MPNN_CUTOFF if given is None else check_cutoff(given)
    if cutoff is not None:
        hard = cutoff if smooth else min(hard, cutoff)
    return hard, smooth


def make_norms(spec: NormSpec | None, sizes: LevelSizes) -> list[nn.Module]:
    """The norms after the levels, each of its own, or nothing."""
    if spec is None:
        return [nn.Identity() for _ in sizes.channels]
    levels = zip(sizes.channels, sizes.lmax, strict=True)
    return [
        NORM_PARTS.make(copy.deepcopy(spec), {}, {"channels": c, "lmax": l})
        for c, l in levels
    ]


def make_gates(sizes: LevelSizes, *, wanted: bool) -> list[nn.Module]:
    """The gates after the levels, or nothing."""
    paired = sizes.planes == 2
    levels = zip(sizes.channels, sizes.lmax, strict=True)
    return [
        Gate(*level, complex=paired) if wanted else nn.Identity() for level in levels
    ]


def make_scales(sizes: LevelSizes, species: int, *, wanted: bool) -> list[nn.Module]:
    """The factors of elements after the levels, or an empty list."""
    levels = zip(sizes.channels, sizes.lmax, strict=True)
    return [SpeciesScale(*level, species) for level in levels] if wanted else []


def check_residual(channels: Sequence[int], *, wanted: bool) -> None:
    """Refuse residual levels between different numbers of channels.

    Raises:
        ConfigError: Input and levels are not equally wide.
    """
    if wanted and len(set(channels)) > 1:
        msg = (
            "residual=True adds the input of a level to its result, which needs equal "
            f"channels everywhere, got {list(channels)}"
        )
        raise ConfigError(msg)


def reached_degrees(lmax: Sequence[int], lmax_sh: Sequence[int]) -> list[int]:
    """Largest degree of every level, as far as any product of its inputs reaches.

    As in the published code, degrees that no product reaches are absent from a level,
    and so from what the next one multiplies.

    Args:
        lmax: Largest degree that is asked for, for each level.
        lmax_sh: Largest degree of the harmonics of each level.

    Returns:
        ``lmax``, lowered where nothing reaches it.

    Example:
        >>> reached_degrees([3, 2], [2, 3])
        [2, 2]
    """
    found: list[int] = []
    below = 0  # the first level gets scalars
    for wanted, harmonics in zip(lmax, lmax_sh, strict=True):
        below = min(wanted, below + max(below, harmonics))
        found.append(below)
    return found


def make_input(
    kind: str,
    inputs: int,
    channels: int,
    planes: int,
    *,
    num_layers: int,
    hidden: int,
    act: str,
    hard_radius: float,
    smooth: bool,
) -> LinearInput | MPNNInput:
    """The input layer."""
    if kind == "linear":
        return LinearInput(inputs, planes * channels)
    if kind not in INPUTS:
        msg = f"input must be one of {(*INPUTS, 'linear')}, got {kind!r}"
        raise ConfigError(msg)
    return MPNNInput(
        inputs,
        planes * channels,
        num_layers=num_layers,
        hidden=hidden,
        inner=max(inputs, channels),
        hard_radius=hard_radius,
        learn_mask=kind == "mpnn_learned",
        smooth=smooth,
        act=act,
    )
