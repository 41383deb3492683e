r"""Radial functions of the edge network.

Every class derives from :class:`Radial` and maps lengths ``[E]`` to
``[E, P * out_channels]``: for complex networks channel n is (re, im) side by side.
Values at r = 0 (self edges) are zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from numbers import Integral
from typing import Any, TypeAlias, TypeVar, cast

import torch
from torch import Tensor, nn

from torch_cormorant.errors import ConfigError
from torch_cormorant.nn.parts import Part, Registry, text_of
from torch_cormorant.ops.autocast import weights_precision
from torch_cormorant.ops.composed import power_trig
from torch_cormorant.ops.radial_basis import bessel, check_cutoff, gaussian


class Radial(Part):
    """Base class of radial functions.

    ``forward`` maps lengths ``[E]`` in Angstrom to ``[E, num_basis]``; self edges have
    length zero, where values and slopes must be finite. A constructor may take
    ``num_basis``, ``basis_set``, ``cutoff`` and ``complex``: they are those of the
    layer.

    Args:
        num_basis: Number of real functions.
        complex: Pair the functions to complex channels, (re, im). Default True.

    Attributes:
        bounded: Values and slopes stay finite for every length, short ones too, so
            that potentials may use it. Default False.
        smooth: Two derivatives are continuous. Default True.
        out_channels: Number of channels.
        planes: 2 for complex channels, 1 for real ones.
    """

    bounded: bool = False
    smooth: bool = True

    def __init__(self, num_basis: int, *, complex: bool = True) -> None:
        super().__init__()
        self.planes = _check_basis(num_basis, paired=complex)
        self.out_channels = num_basis // self.planes

    def reset_parameters(self) -> None:
        """Start what is learned again. Default: nothing is."""

    def forward(self, length: Tensor) -> Tensor:
        """``[E]`` in Angstrom to ``[E, num_basis]``."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward(length)")

    def extra_repr(self) -> str:
        """The arguments it was made with; weights of another are refused."""
        return text_of(self)


class PowerTrig(Radial):
    r"""Learnable powers times trigonometric functions, as published.

    .. math::
        \rho_{t,p}(r) = [r \neq 0] \sin(2 \pi \kappa_t r + \phi_t) \, r^{-p}

    for t = 0..2T+1 and p = 0..R; two consecutive powers make one complex channel.
    Supplement 1.4.2 of Anderson et al. 2019 (the formula has no number), as the
    published code computes it.

    Args:
        basis_set: (T, R). Default (3, 3), which gives 16 complex channels.
        complex: Pair the functions to complex channels. Default True.

    Note:
        Unbounded for r -> 0; kappa and phi are learned.
    """

    kind = "power_trig"

    def __init__(
        self, basis_set: tuple[int, int] = (3, 3), *, complex: bool = True
    ) -> None:
        trig, power = basis_set
        if trig < 0 or power < 0:
            msg = f"basis_set must be two numbers >= 0, got {basis_set}"
            raise ConfigError(msg)
        super().__init__(2 * (trig + 1) * (power + 1), complex=complex)
        self.basis_set = (trig, power)
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
        powers = self.basis_set[1] + 1
        return power_trig(length, self.scales, self.phases, powers)

    def extra_repr(self) -> str:
        """T, R and the number of channels."""
        return f"basis_set={self.basis_set}, out_channels={self.out_channels}"


class Bessel(Radial):
    r"""Bounded radial functions :math:`\sqrt{2 / r_c} \sin(n \pi r / r_c) / r`.

    The basis of DimeNet (Gasteiger et al. 2020) in the form of :math:`j_0`, finite for
    every r. Fixed.

    Args:
        num_basis: Number of real functions. Default 16.
        cutoff: r_c in Angstrom.
        complex: Pair the functions to complex channels. Default True.
    """

    kind = "bessel"
    bounded = True

    def __init__(self, num_basis: int, cutoff: float, *, complex: bool = True) -> None:
        super().__init__(num_basis, complex=complex)
        self.num_basis, self.cutoff = num_basis, check_cutoff(cutoff)

    @weights_precision
    def forward(self, length: Tensor) -> Tensor:
        """``[E]`` in Angstrom to ``[E, num_basis]``."""
        return bessel(length, self.num_basis, self.cutoff)

    def extra_repr(self) -> str:
        """Number of functions and cutoff."""
        return f"num_basis={self.num_basis}, cutoff={self.cutoff:g}"


class Gaussian(Radial):
    r"""Bounded radial functions :math:`\exp(-(r - \mu_n)^2 / 2 \sigma^2)`.

    Centres spread evenly from 0 to the cutoff, sigma their spacing. Fixed.

    Args:
        num_basis: Number of real functions. Default 16.
        cutoff: Largest centre in Angstrom.
        complex: Pair the functions to complex channels. Default True.
    """

    kind = "gaussian"
    bounded = True

    def __init__(self, num_basis: int, cutoff: float, *, complex: bool = True) -> None:
        super().__init__(num_basis, complex=complex)
        self.num_basis, self.cutoff = num_basis, check_cutoff(cutoff)

    @weights_precision
    def forward(self, length: Tensor) -> Tensor:
        """``[E]`` in Angstrom to ``[E, num_basis]``."""
        return gaussian(length, self.num_basis, self.cutoff)

    def extra_repr(self) -> str:
        """Number of functions and cutoff."""
        return f"num_basis={self.num_basis}, cutoff={self.cutoff:g}"


RadialSpec: TypeAlias = str | Mapping[str, Any] | Radial | type[Radial]
"""A name; a mapping with ``kind`` or ``class`` and options; an instance; a class."""
RADIAL_PARTS: Registry[Radial] = Registry(
    "radial", Radial, {kind.kind: kind for kind in (PowerTrig, Bessel, Gaussian)}
)
R = TypeVar("R", bound=Radial)


def register_radial(name: str) -> Callable[[type[R]], type[R]]:
    """Give an own radial basis a name, as a decorator.

    Args:
        name: What ``radial=`` of layers and networks is then told.

    Raises:
        ConfigError: Another basis has that name.

    Example:
        >>> @register_radial("narrow")
        ... class Narrow(Gaussian):
        ...     def forward(self, length: Tensor) -> Tensor:
        ...         return super().forward(length) ** 2
        >>> make_radial("narrow", cutoff=5.0)
        Narrow(num_basis=16, cutoff=5)
    """
    add: Any = RADIAL_PARTS.register(name)
    return cast("Callable[[type[R]], type[R]]", add)


def make_radial(
    kind: RadialSpec,
    *,
    basis_set: tuple[int, int] = (3, 3),
    num_basis: int = 16,
    cutoff: float | None = None,
    complex: bool = True,
    species: int = 0,
) -> Radial:
    """A radial basis by name: ``"power_trig"``, ``"bessel"``, ``"gaussian"``; or own.

    Args:
        kind: A name; a mapping with ``kind`` or ``class`` and options; the class of an
            own :class:`Radial`, or an instance, which is taken as it is.
        basis_set: (T, R), for those that take it.
        num_basis: Number of functions, for those that take it.
        cutoff: In Angstrom, for those that take it.
        complex: Whether the network is complex.
        species: Number of elements, for those that take it.

    Raises:
        ConfigError: A name or an option is unknown, or what is made does not fit.
    """
    shared = {"basis_set": basis_set, "num_basis": num_basis, "complex": complex}
    if cutoff is not None:
        shared["cutoff"] = cutoff
    radial = RADIAL_PARTS.make(kind, shared, {"species": species})
    if radial.planes != (2 if complex else 1):
        msg = (
            f"the radial {radial.kind!r} was made with complex={radial.planes == 2}, "
            f"the layer has complex={complex}"
        )
        raise ConfigError(msg)
    if type(radial) not in {PowerTrig, Bessel, Gaussian}:
        _check_values(radial)
    return radial


@torch.no_grad()
def _check_values(radial: Radial) -> None:
    """Refuse an own basis whose values no layer can use."""
    weight = next(radial.parameters(), None)
    length = torch.tensor([0.0, 1.0]) if weight is None else weight.new_tensor([0, 1])
    found = radial(length)
    expected = (2, radial.planes * radial.out_channels)
    if tuple(found.shape) != expected:
        msg = (
            f"the radial {radial.kind!r} turns 2 lengths into {tuple(found.shape)}, "
            f"expected {expected}"
        )
        raise ConfigError(msg)
    if not found.is_meta and not bool(found.isfinite().all()):
        msg = (
            f"the radial {radial.kind!r} is not finite at lengths 0 and 1; self edges "
            "have length 0, return zero there"
        )
        raise ConfigError(msg)


def _check_basis(num_basis: int, *, paired: bool) -> int:
    planes = 2 if paired else 1
    given: object = num_basis  # users pass fractions too
    if not isinstance(given, Integral) or num_basis < 1 or num_basis % planes:
        msg = (
            "num_basis must be positive and whole (and even in a complex network), "
            f"got {num_basis!r}"
        )
        raise ConfigError(msg)
    return planes
