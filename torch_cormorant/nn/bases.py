r"""Radial bases whose numbers are part of the weights, and may be learned."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from torch_cormorant.errors import ConfigError
from torch_cormorant.nn.radial import RADIAL_PARTS, Radial
from torch_cormorant.ops.autocast import weights_precision
from torch_cormorant.ops.radial_basis import check_cutoff

__all__ = ["BesselBasis", "CosineBasis", "CutBesselBasis", "GaussianBasis"]


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
        cutoff: Centres lie evenly from 0 to here, in Angstrom. Default 5.
        width: :math:`\sigma` in Angstrom. Default: the spacing of the centres.
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
        width: float | None = None,
        trainable: bool = False,
        complex: bool = False,
    ) -> None:
        super().__init__(num_basis, complex=complex)
        self.cutoff, self.num_basis = check_cutoff(cutoff), num_basis
        self.width = width
        for name in ("offsets", "widths"):
            _hold(self, name, torch.empty(num_basis), trainable=trainable)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Equally spaced centres again."""
        step = self.cutoff / max(self.num_basis - 1, 1)
        self.offsets.copy_(torch.arange(self.num_basis, dtype=torch.float64) * step)
        self.widths.fill_(step if self.width is None else self.width)

    @weights_precision
    def forward(self, length: Tensor) -> Tensor:
        """``[E]`` in Angstrom to ``[E, num_basis]``."""
        scaled = (length.unsqueeze(-1) - self.offsets) / self.widths
        values = torch.exp(-0.5 * scaled.square())
        return torch.where((length != 0).unsqueeze(-1), values, 0.0)


class CosineBasis(Radial):
    r"""Bumps :math:`\cos^2(\pi t_b / 2)` where :math:`|t_b| < 1`, two at any length.

    With :math:`t_b = (r - \mu_b) / \Delta`, centres evenly from 0 to the cutoff and
    their spacing :math:`\Delta`; the first function behind is zero from
    :math:`r_c + \Delta` on. The basis of the networks of
    :class:`~torch_cormorant.networks.KernelNet`.

    Args:
        num_basis: Number of functions, at least 2. Default 20.
        cutoff: Largest centre in Angstrom. Default 5.
        complex: Pair the functions to complex channels. Default False.

    Note:
        The second derivative jumps at the ends of the bumps.

    Example:
        >>> import torch
        >>> CosineBasis(3, cutoff=2.0)(torch.tensor([0.5]))
        tensor([[0.5000, 0.5000, 0.0000]])
    """

    kind = "cosine_basis"
    bounded = True
    smooth = False

    def __init__(
        self, num_basis: int = 20, cutoff: float = 5.0, *, complex: bool = False
    ) -> None:
        super().__init__(num_basis, complex=complex)
        if num_basis < 2:
            raise ConfigError(f"num_basis must be at least 2, got {num_basis}")
        self.num_basis, self.cutoff = num_basis, check_cutoff(cutoff)

    @weights_precision
    def forward(self, length: Tensor) -> Tensor:
        """``[E]`` in Angstrom to ``[E, num_basis]``."""
        r = length.unsqueeze(-1)
        count = torch.arange(self.num_basis, dtype=r.dtype, device=r.device)
        t = (r - count * (self.cutoff / (self.num_basis - 1))) * (
            (self.num_basis - 1) / self.cutoff
        )
        near = (t.abs() < 1) & (r != 0)
        return torch.where(near, torch.cos(t * (math.pi / 2)).square(), 0.0)


class CutBesselBasis(Radial):
    r"""Sines :math:`\sqrt{2 / r_c} \sin(n \pi r / r_c) / (r + 10^{-8})`, 0 from r_c on.

    As the networks of :class:`~torch_cormorant.networks.KernelNet` use them. The slope
    jumps at the cutoff.

    Args:
        num_basis: Number of functions. Default 8.
        cutoff: :math:`r_c` in Angstrom. Default 5.
        complex: Pair the functions to complex channels. Default False.

    Example:
        >>> import torch
        >>> CutBesselBasis(2, cutoff=2.0)(torch.tensor([1.0, 3.0]))[1]
        tensor([0., 0.])
    """

    kind = "cut_bessel_basis"
    bounded = True
    smooth = False

    def __init__(
        self, num_basis: int = 8, cutoff: float = 5.0, *, complex: bool = False
    ) -> None:
        super().__init__(num_basis, complex=complex)
        self.num_basis, self.cutoff = num_basis, check_cutoff(cutoff)

    @weights_precision
    def forward(self, length: Tensor) -> Tensor:
        """``[E]`` in Angstrom to ``[E, num_basis]``."""
        inside = (length <= self.cutoff).unsqueeze(-1)
        r = torch.where(inside, length.unsqueeze(-1), 0.0)
        count = torch.arange(1, self.num_basis + 1, dtype=r.dtype, device=r.device)
        waves = torch.sin(r * (count * (math.pi / self.cutoff)))
        return math.sqrt(2 / self.cutoff) * waves / (r + 1e-8)


def _hold(module: nn.Module, name: str, value: Tensor, *, trainable: bool) -> None:
    """Keep a tensor as a weight, or as a buffer that is saved."""
    if trainable:
        module.register_parameter(name, nn.Parameter(value))
    else:
        module.register_buffer(name, value)


for _kind in (BesselBasis, CosineBasis, CutBesselBasis, GaussianBasis):
    RADIAL_PARTS.register(_kind.kind)(_kind)
