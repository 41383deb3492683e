"""Weights of other packages, whichever it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch_cormorant.errors import WeightsError
from torch_cormorant.networks.allegro import Allegro
from torch_cormorant.networks.kernel_net import KernelNet
from torch_cormorant.networks.nequip import NequIP
from torch_cormorant.networks.original import WithOriginal
from torch_cormorant.networks.painn import PaiNN
from torch_cormorant.networks.schnet import SchNet
from torch_cormorant.networks.se3_transformer import SE3Transformer
from torch_cormorant.networks.segnn import SEGNN
from torch_cormorant.networks.so3net import SO3Net
from torch_cormorant.networks.tfn import TFN
from torch_cormorant.networks.weight_files import Weights, unpacked

__all__ = ["kind_of_weights", "network_from_original"]

KINDS: tuple[type[WithOriginal], ...] = (
    Allegro,
    NequIP,
    PaiNN,
    SE3Transformer,
    SEGNN,
    TFN,
    KernelNet,
    SO3Net,
    SchNet,
)


def kind_of_weights(weights: Mapping[str, Any]) -> type[WithOriginal] | None:
    """The class of networks whose names these are, or None.

    Args:
        weights: Tensors by the names of a ``state_dict``.
    """
    return next((kind for kind in KINDS if kind.original.prefixes(weights)), None)


def network_from_original(
    weights: Weights,
    config: Mapping[str, Any] | None = None,
    **options: Any,
) -> WithOriginal:
    """The network of a ``state_dict`` of another package, known by its names.

    Args:
        weights: Tensors by their original names (what trainers put before them plays no
            part), a checkpoint that holds them, or a file of either.
        config: What the ``state_dict`` does not hold, by the names of that package.
        **options: Arguments of our constructor, such as ``species``.

    Returns:
        One of the networks that have ``from_original``, :class:`NequIP` for example.

    Raises:
        WeightsError: The names are of none of them, or something does not fit.
        ConfigError: A setting has no counterpart, or one is missing.

    Example:
        >>> network = SchNet(channels=8, num_levels=1)
        >>> type(network_from_original(network.to_original())).__name__
        'SchNet'
    """
    weights, told = unpacked(weights)
    kind = kind_of_weights(weights)
    if kind is None:
        known = ", ".join(f"{k.__name__} of {k.original.package}" for k in KINDS)
        some = ", ".join(sorted(weights)[:3]) or "none"
        msg = f"the names of the weights ({some}, ...) are of none of {known}"
        raise WeightsError(msg)
    return kind.from_original(weights, {**told, **(config or {})}, **options)
