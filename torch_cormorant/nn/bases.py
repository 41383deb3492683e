r"""Radial bases whose numbers are part of the weights, and may be learned."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from torch_cormorant.nn.radial import RADIAL_PARTS, Radial
from torch_cormorant.ops.autocast import weights_precision
from torch_cormorant.ops.radial_basis import check_cutoff

__all__ = ["BesselBasis", "GaussianBasis"]


class BesselBasis(Radial):
    r"""Sines :math:`\sin(\omega_n r) / r`, with frequencies that may be learned.

    As NequIP and PaiNN use them; :class:`Bessel` is the same fixed and normalised.

    Args:
        num_basis: Number of functions. Default 8.
        cutoff: :math:`\omega_n = n \pi / r_c` at first, in Angstrom. Default 5.
        trainable: Learn the frequencies. Default False: they are kept in a buffer.
        complex: Pair the functions to complex channels. Default False.

    Example:
        >>> import torch
        >>> BesselBasis(3, cutoff=2.0)(torch.tensor([1.0]))
        tensor([[ 1.0000e+00, -8.7423e-08, -1.0000e+00]])
    """

    kind = "bessel_basis"
    bounded = True
    frequencies: Tensor

    def __init__(
        self,
        num_basis: int = 8,
        cutoff: float = 5.0,
        *,
        trainable: bool = False,
        complex: bool = False,
    ) -> None:
        super().__init__(num_basis, complex=complex)
        step = math.pi / check_cutoff(cutoff)
        self.step, self.num_basis = step, num_basis
        _hold(self, "frequencies", torch.empty(num_basis), trainable=trainable)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Equally spaced frequencies again."""
        count = torch.arange(1, self.num_basis + 1, dtype=torch.float64)
        self.frequencies.copy_(count * self.step)

    @weights_precision
    def forward(self, length: Tensor) -> Tensor:
        """``[E]`` in Angstrom to ``[E, num_basis]``."""
        apart = (length != 0).unsqueeze(-1)
        r = torch.where(apart, length.unsqueeze(-1), 1.0)
        return torch.where(apart, torch.sin(r * self.frequencies) / r, 0.0)


class GaussianBasis(Radial):
    r"""Gaussians :math:`\exp(-(r - \mu_n)^2 / 2 \sigma_n^2)`, which may be learned.

    As SchNet and PaiNN use them; :class:`Gaussian` is the same fixed.

    Args:
        num_basis: Number of functions. Default 20.
        cutoff: Centres lie evenly from 0 to here, in Angstrom; the widths are their
            spacing. Default 5.
        trainable: Learn centres and widths. Default False: they are kept in buffers.
        complex: Pair the functions to complex channels. Default False.

    Example:
        >>> import torch
        >>> GaussianBasis(3, cutoff=2.0)(torch.tensor([1.0]))
        tensor([[0.6065, 1.0000, 0.6065]])
    """

    kind = "gaussian_basis"
    bounded = True
    offsets: Tensor
    widths: Tensor

    def __init__(
        self,
        num_basis: int = 20,
        cutoff: float = 5.0,
        *,
        trainable: bool = False,
        complex: bool = False,
    ) -> None:
        super().__init__(num_basis, complex=complex)
        self.cutoff, self.num_basis = check_cutoff(cutoff), num_basis
        for name in ("offsets", "widths"):
            _hold(self, name, torch.empty(num_basis), trainable=trainable)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Equally spaced centres again."""
        step = self.cutoff / max(self.num_basis - 1, 1)
        self.offsets.copy_(torch.arange(self.num_basis, dtype=torch.float64) * step)
        self.widths.fill_(step)

    @weights_precision
    def forward(self, length: Tensor) -> Tensor:
        """``[E]`` in Angstrom to ``[E, num_basis]``."""
        scaled = (length.unsqueeze(-1) - self.offsets) / self.widths
        values = torch.exp(-0.5 * scaled.square())
        return torch.where((length != 0).unsqueeze(-1), values, 0.0)


def _hold(module: nn.Module, name: str, value: Tensor, *, trainable: bool) -> None:
    """Keep a tensor as a weight, or as a buffer that is saved."""
    if trainable:
        module.register_parameter(name, nn.Parameter(value))
    else:
        module.register_buffer(name, value)


for _kind in (BesselBasis, GaussianBasis):
    RADIAL_PARTS.register(_kind.kind)(_kind)
