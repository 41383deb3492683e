r"""The radial bases of e3nn, for networks that were made of its layers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from torch_cormorant.errors import ConfigError
from torch_cormorant.nn.radial import RADIAL_PARTS, Radial
from torch_cormorant.ops.autocast import weights_precision
from torch_cormorant.ops.radial_basis import check_cutoff

__all__ = ["E3NNBasis"]

SHAPES = ("gaussian", "cosine", "smooth_finite", "bessel", "fourier")


class E3NNBasis(Radial):
    r"""Bumps or waves between 0 and the cutoff, as ``soft_one_hot_linspace`` has them.

    With :math:`t_b = (r - \mu_b) / \Delta`, x the length as a part of the cutoff R, and
    :math:`s(t) = e^{-1/t}` for t > 0, else 0:

    =================  ==============================================================
    gaussian           :math:`e^{-t^2} / 1.12`
    cosine             :math:`\cos(\pi t / 2)` where :math:`|t| < 1`
    smooth_finite      :math:`1.14136 \, e^2 s(t + 1) \, s(1 - t)`
    bessel             :math:`\sqrt{2 / R} \, \sin(b \pi x) / r`, b = 1, 2, ...
    fourier            :math:`\cos(b \pi x)`, b = 0, 1, ...; without the ends
                       :math:`\sin(b \pi x)`, b = 1, 2, ...; over
                       :math:`\sqrt{1/4 + n/2}`
    =================  ==============================================================

    Args:
        num_basis: Number n of functions. Default 10.
        cutoff: R in Angstrom. Default 5.
        shape: A name of the table. Default ``"gaussian"``.
        ends: Centres at 0 and R; False (default): all of them lie between, and waves
            end at R (``cutoff=True`` there).
        complex: Pair the functions to complex channels. Default False.

    Raises:
        ConfigError: The shape is not known.

    Example:
        >>> import torch
        >>> E3NNBasis(3, cutoff=2.0, shape="cosine")(torch.tensor([1.0]))
        tensor([[0., 1., 0.]])
    """

    kind = "e3nn_basis"
    bounded = True

    def __init__(
        self,
        num_basis: int = 10,
        cutoff: float = 5.0,
        *,
        shape: str = "gaussian",
        ends: bool = False,
        complex: bool = False,
    ) -> None:
        super().__init__(num_basis, complex=complex)
        if shape not in SHAPES:
            raise ConfigError(f"shape must be one of {SHAPES}, got {shape!r}")
        self.num_basis, self.cutoff = num_basis, check_cutoff(cutoff)
        self.shape, self.ends = shape, ends
        self.smooth = shape in {"gaussian", "smooth_finite"} or (
            ends and shape != "cosine"
        )

    @weights_precision
    def forward(self, length: Tensor) -> Tensor:
        """``[E]`` in Angstrom to ``[E, num_basis]``."""
        apart = (length != 0).unsqueeze(-1)
        r = torch.where(apart, length.unsqueeze(-1), 1.0)
        waves = self.shape in {"bessel", "fourier"}
        values = self._waves(r) if waves else self._bumps(r)
        return torch.where(apart, values, 0.0)

    def _bumps(self, r: Tensor) -> Tensor:
        count = torch.arange(self.num_basis, dtype=r.dtype, device=r.device)
        if self.ends:
            t = r * (max(self.num_basis - 1, 1) / self.cutoff) - count
        else:
            t = r * ((self.num_basis + 1) / self.cutoff) - (count + 1)
        if self.shape == "gaussian":
            return torch.exp(-t.square()) / 1.12
        if self.shape == "cosine":
            return torch.where(t.abs() < 1, torch.cos(t * (math.pi / 2)), 0.0)
        return 1.14136 * math.e**2 * _rise(t + 1) * _rise(1 - t)

    def _waves(self, r: Tensor) -> Tensor:
        count = torch.arange(self.num_basis, dtype=r.dtype, device=r.device)
        phase = r * (math.pi / self.cutoff)
        if self.shape == "bessel":
            wave = math.sqrt(2 / self.cutoff) * torch.sin(phase * (count + 1)) / r
        else:
            sines = torch.sin(phase * (count + 1))
            wave = torch.cos(phase * count) if self.ends else sines
            wave = wave / math.sqrt(0.25 + self.num_basis / 2)
        return wave if self.ends else torch.where(r < self.cutoff, wave, 0.0)


def _rise(t: Tensor) -> Tensor:
    """:math:`e^{-1/t}` for t > 0, smooth everywhere."""
    above = t > 0
    return torch.where(above, torch.exp(-1 / torch.where(above, t, 1.0)), 0.0)


RADIAL_PARTS.register(E3NNBasis.kind)(E3NNBasis)
