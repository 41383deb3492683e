r"""Functions of a distance that end smoothly at a cutoff."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from torch_cormorant.errors import ConfigError
from torch_cormorant.ops.autocast import weights_precision
from torch_cormorant.ops.radial_basis import check_cutoff

__all__ = ["ENVELOPES", "Envelope", "cosine_cutoff", "mollifier", "polynomial_cutoff"]


def polynomial_cutoff(x: Tensor, power: float = 6.0) -> Tensor:
    r"""Polynomial that is 1 at x = 0 and 0 from x = 1 on, with two smooth derivatives.

    Eq. (8) of Gasteiger et al. 2020 (DimeNet):

    .. math::
        f(x) = 1 - \tfrac{(p + 1)(p + 2)}{2} x^p + p (p + 2) x^{p + 1}
        - \tfrac{p (p + 1)}{2} x^{p + 2}

    Args:
        x: Distances as parts of the cutoff.
        power: p, at least 2. Default 6.

    Example:
        >>> import torch
        >>> polynomial_cutoff(torch.tensor([0.0, 0.5, 1.0, 2.0]), power=3)
        tensor([1.0000, 0.5000, 0.0000, 0.0000])
    """
    p = power
    near = x < 1
    t = torch.where(near, x, 1.0)  # far powers overflow
    terms = (p + 1) * (p + 2) / 2 - p * (p + 2) * t + p * (p + 1) / 2 * t * t
    return torch.where(near, 1 - terms * t**p, 0.0)


def cosine_cutoff(length: Tensor, cutoff: float) -> Tensor:
    r"""Half a period of a cosine, :math:`\frac12 (\cos(\pi r / r_c) + 1)`.

    Behler and Parrinello 2007; its second derivative jumps at the cutoff.

    Args:
        length: Distances in Angstrom.
        cutoff: :math:`r_c` in Angstrom.

    Example:
        >>> import torch
        >>> cosine_cutoff(torch.tensor([0.0, 1.0, 2.0, 3.0]), 2.0)
        tensor([1.0000, 0.5000, 0.0000, 0.0000])
    """
    wave = 0.5 * (torch.cos(length * (math.pi / cutoff)) + 1)
    return torch.where(length < cutoff, wave, 0.0)


def mollifier(length: Tensor, cutoff: float, eps: float = 1e-7) -> Tensor:
    r"""All derivatives are continuous: :math:`\exp(1 - 1 / (1 - (r / r_c)^2))`.

    Args:
        length: Distances in Angstrom.
        cutoff: :math:`r_c` in Angstrom.
        eps: Zero from :math:`r_c - \epsilon` on. Default 1e-7.

    Example:
        >>> import torch
        >>> mollifier(torch.tensor([0.0, 2.0, 3.0]), 2.0)
        tensor([1., 0., 0.])
    """
    near = length + eps < cutoff
    t = torch.where(near, length, 0.0) / cutoff
    return torch.where(near, torch.exp(1 - 1 / (1 - t * t)), 0.0)


ENVELOPES = ("polynomial", "cosine", "mollifier")
"""Names of all envelopes."""


class Envelope(nn.Module):
    """One of the functions above by its name, without weights.

    Args:
        kind: ``"polynomial"``, ``"cosine"`` or ``"mollifier"``.
        cutoff: In Angstrom.
        power: Of the polynomial. Default 6.
        eps: Of the mollifier, in Angstrom. Default 1e-7.

    Shapes:
        ``[...]`` to ``[...]``.

    Raises:
        ConfigError: The name is not known, or a number is out of range.

    Example:
        >>> import torch
        >>> Envelope("cosine", 2.0)(torch.tensor([1.0]))
        tensor([0.5000])
    """

    def __init__(
        self, kind: str, cutoff: float, *, power: float = 6.0, eps: float = 1e-7
    ) -> None:
        super().__init__()
        if kind not in ENVELOPES:
            msg = f"an envelope must be one of {ENVELOPES}, got {kind!r}"
            raise ConfigError(msg)
        if power < 2 or eps < 0:
            msg = f"power must be at least 2 and eps not negative, got {power}, {eps}"
            raise ConfigError(msg)
        self.kind, self.cutoff = kind, check_cutoff(cutoff)
        self.power, self.eps = power, eps

    @weights_precision
    def forward(self, length: Tensor) -> Tensor:
        """Shapes as above."""
        if self.kind == "polynomial":
            return polynomial_cutoff(length / self.cutoff, self.power)
        if self.kind == "cosine":
            return cosine_cutoff(length, self.cutoff)
        return mollifier(length, self.cutoff, self.eps)

    def extra_repr(self) -> str:
        """Name and cutoff."""
        return f"{self.kind!r}, cutoff={self.cutoff:g}"
