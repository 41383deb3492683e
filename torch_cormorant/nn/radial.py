r"""Radial functions of the edge network.

Every class maps lengths ``[E]`` to ``[E, P * out_channels]``: for complex networks
channel n is (re, im) side by side. Values at r = 0 (self edges) are zero.
"""

from __future__ import annotations

import math
from numbers import Integral

import torch
from torch import Tensor, nn

from torch_cormorant.errors import ConfigError
from torch_cormorant.ops.autocast import weights_precision
from torch_cormorant.ops.radial_basis import bessel, check_cutoff, gaussian

RADIALS = ("power_trig", "bessel", "gaussian")


class PowerTrig(nn.Module):
    r"""Learnable powers times trigonometric functions, as published.

    .. math::
        \rho_{t,p}(r) = [r \neq 0] \sin(2 \pi \kappa_t r + \phi_t) \, r^{-p}

    for t = 0..2T+1 and p = 0..R; two consecutive powers make one complex channel.
    Eq. (S3) of Anderson et al. 2019 as the published code computes it.

    Args:
        basis_set: (T, R). Default (3, 3), which gives 16 complex channels.
        complex: Pair the functions to complex channels. Default True.

    Note:
        Unbounded for r -> 0; kappa and phi are learned.
    """

    def __init__(
        self, basis_set: tuple[int, int] = (3, 3), *, complex: bool = True
    ) -> None:
        super().__init__()
        trig, power = basis_set
        if trig < 0 or power < 0:
            msg = f"basis_set must be two numbers >= 0, got {basis_set}"
            raise ConfigError(msg)
        self.basis_set = (trig, power)
        count = 2 * (trig + 1) * (power + 1)
        self.planes = 2 if complex else 1
        self.out_channels = count // self.planes
        self.scales = nn.Parameter(torch.empty(2 * (trig + 1)))
        self.phases = nn.Parameter(torch.empty(2 * (trig + 1)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Frequencies 0..T twice; phases pi/2, 0, ..., 0, then pi/2 throughout."""
        half = self.basis_set[0] + 1
        with torch.no_grad():
            self.scales.copy_(torch.arange(half).repeat(2))
            self.phases.zero_()
            self.phases[0] = math.pi / 2
            self.phases[half:] = math.pi / 2

    @weights_precision
    def forward(self, length: Tensor) -> Tensor:
        """``[E]`` in Angstrom to ``[E, 2 (T + 1) (R + 1)]``."""
        apart = length != 0
        safe = torch.where(apart, length, 1.0).unsqueeze(-1)
        wave = torch.sin(2 * math.pi * safe * self.scales + self.phases)
        inverse = apart.to(length.dtype).unsqueeze(-1)
        powers = [inverse]
        for _ in range(self.basis_set[1]):
            powers.append(powers[-1] / safe)
        return (wave.unsqueeze(-1) * torch.stack(powers, dim=-1)).flatten(1)

    def extra_repr(self) -> str:
        """T, R and the number of channels."""
        return f"basis_set={self.basis_set}, out_channels={self.out_channels}"


class Bessel(nn.Module):
    r"""Bounded radial functions :math:`\sqrt{2 / r_c} \sin(n \pi r / r_c) / r`.

    The basis of DimeNet (Gasteiger et al. 2020) in the form of :math:`j_0`, finite for
    every r. Fixed.

    Args:
        num_basis: Number of real functions. Default 16.
        cutoff: r_c in Angstrom.
        complex: Pair the functions to complex channels. Default True.
    """

    def __init__(self, num_basis: int, cutoff: float, *, complex: bool = True) -> None:
        super().__init__()
        self.planes = _check_basis(num_basis, cutoff, complex)
        self.num_basis, self.cutoff = num_basis, cutoff
        self.out_channels = num_basis // self.planes

    @weights_precision
    def forward(self, length: Tensor) -> Tensor:
        """``[E]`` in Angstrom to ``[E, num_basis]``."""
        return bessel(length, self.num_basis, self.cutoff)

    def extra_repr(self) -> str:
        """Number of functions and cutoff."""
        return f"num_basis={self.num_basis}, cutoff={self.cutoff:g}"


class Gaussian(nn.Module):
    r"""Bounded radial functions :math:`\exp(-(r - \mu_n)^2 / 2 \sigma^2)`.

    Centres spread evenly from 0 to the cutoff, sigma their spacing. Fixed.

    Args:
        num_basis: Number of real functions. Default 16.
        cutoff: Largest centre in Angstrom.
        complex: Pair the functions to complex channels. Default True.
    """

    def __init__(self, num_basis: int, cutoff: float, *, complex: bool = True) -> None:
        super().__init__()
        self.planes = _check_basis(num_basis, cutoff, complex)
        self.num_basis, self.cutoff = num_basis, cutoff
        self.out_channels = num_basis // self.planes

    @weights_precision
    def forward(self, length: Tensor) -> Tensor:
        """``[E]`` in Angstrom to ``[E, num_basis]``."""
        return gaussian(length, self.num_basis, self.cutoff)

    def extra_repr(self) -> str:
        """Number of functions and cutoff."""
        return f"num_basis={self.num_basis}, cutoff={self.cutoff:g}"


Radial = PowerTrig | Bessel | Gaussian


def make_radial(
    kind: str,
    *,
    basis_set: tuple[int, int] = (3, 3),
    num_basis: int = 16,
    cutoff: float | None = None,
    complex: bool = True,
) -> Radial:
    """A radial basis by name: ``"power_trig"``, ``"bessel"`` or ``"gaussian"``."""
    if kind == "power_trig":
        return PowerTrig(basis_set, complex=complex)
    if kind not in RADIALS:
        msg = f"radial must be one of {RADIALS}, got {kind!r}"
        raise ConfigError(msg)
    if cutoff is None:
        msg = f'radial="{kind}" needs a cutoff in Angstrom (cutoff=5.0, for example)'
        raise ConfigError(msg)
    basis = Bessel if kind == "bessel" else Gaussian
    return basis(num_basis, cutoff, complex=complex)


def _check_basis(num_basis: int, cutoff: float, paired: bool) -> int:
    planes = 2 if paired else 1
    given: object = num_basis  # users pass fractions too
    if not isinstance(given, Integral) or num_basis < 1 or num_basis % planes:
        msg = (
            "num_basis must be positive and whole (and even in a complex network), "
            f"got {num_basis!r}"
        )
        raise ConfigError(msg)
    check_cutoff(cutoff)
    return planes
