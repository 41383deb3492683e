"""Fixed, bounded radial functions of the edge length; zero at zero, NaN at NaN."""

from __future__ import annotations

import math
from numbers import Real

import torch
from torch import Tensor

from torch_cormorant.errors import ConfigError


def bessel(length: Tensor, num_basis: int, cutoff: float) -> Tensor:
    r"""Spherical Bessel functions :math:`\sqrt{2 / r_c} \sin(n \pi r / r_c) / r`.

    The basis of DimeNet (Gasteiger et al. 2020), n = 1..num_basis.

    Args:
        length: Lengths ``[E]`` in Angstrom.
        num_basis: Number of functions.
        cutoff: r_c in Angstrom.

    Returns:
        ``[E, num_basis]``.

    Raises:
        ConfigError: If ``num_basis`` or ``cutoff`` is not positive.

    Example:
        >>> tuple(bessel(torch.rand(7) + 0.5, 8, 5.0).shape)
        (7, 8)
    """
    _check(num_basis, cutoff)
    apart = length != 0
    safe = torch.where(apart, length, 1.0).unsqueeze(-1)
    order = torch.arange(1, num_basis + 1, dtype=length.dtype, device=length.device)
    scale = apart.to(length.dtype).unsqueeze(-1) * math.sqrt(2 / cutoff)
    return scale * torch.sin(order * (math.pi / cutoff) * safe) / safe


def gaussian(length: Tensor, num_basis: int, cutoff: float) -> Tensor:
    r"""Gaussians :math:`\exp(-(r - \mu_n)^2 / 2 \sigma^2)`.

    Centres spread evenly from 0 to the cutoff; sigma is their spacing.

    Args:
        length: Lengths ``[E]`` in Angstrom.
        num_basis: Number of functions.
        cutoff: Largest centre in Angstrom.

    Returns:
        ``[E, num_basis]``.

    Raises:
        ConfigError: If ``num_basis`` or ``cutoff`` is not positive.

    Example:
        >>> tuple(gaussian(torch.rand(7) + 0.5, 8, 5.0).shape)
        (7, 8)
    """
    _check(num_basis, cutoff)
    step = cutoff / max(num_basis - 1, 1)
    centres = torch.arange(num_basis, dtype=length.dtype, device=length.device)
    scaled = length.unsqueeze(-1) / step - centres
    apart = (length != 0).to(length.dtype).unsqueeze(-1)
    return apart * torch.exp(-0.5 * scaled.square())


def check_cutoff(cutoff: float) -> float:
    """Refuse a cutoff that is not a positive, finite number of Angstrom."""
    given: object = cutoff  # users pass strings too
    if not isinstance(given, Real) or not 0 < cutoff < math.inf:
        msg = (
            f"cutoff must be a positive number of Angstrom, got {cutoff!r}; for every "
            "pair of a molecule there is all_pairs(), in networks cutoff=None"
        )
        raise ConfigError(msg)
    return cutoff


def _check(num_basis: int, cutoff: float) -> None:
    if num_basis < 1:
        msg = f"num_basis must be at least 1, got {num_basis}"
        raise ConfigError(msg)
    check_cutoff(cutoff)
