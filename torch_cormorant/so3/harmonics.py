"""Real spherical harmonics as polynomials in x, y, z."""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from torch import Tensor

from torch_cormorant.errors import DtypeError, ShapeError
from torch_cormorant.so3.layout import check_degree

_HAND_WRITTEN_DEGREE = 3


def spherical_harmonics(vec: Tensor, lmax: int, normalize: bool = True) -> Tensor:
    r"""Real spherical harmonics of all degrees ``0..lmax``.

    Components ``m = -l..l``, standard real harmonics without Condon-Shortley phase,
    unit-normalised, so that :math:`Y_0 = 1` and :math:`Y_1 = (y, z, x) / r`:

    .. math::
        Y_{l,\pm m}(\mathbf r) = \sqrt{2 - \delta_{m0}}
        \sqrt{\frac{(l - m)!}{(l + m)!}}\, P_l^m(z / r)
        \begin{cases}\cos m\varphi\\ \sin m\varphi\end{cases}, \qquad
        \sum_m Y_{lm}^2 = 1.

    Everything is a polynomial in the components, so there is no special case at the
    poles, and derivatives exist to any order. At ``vec = 0`` the value is
    ``(1, 0, 0, ...)``; with ``normalize=True`` all derivatives there are zero by
    construction.

    Args:
        vec: Vectors, any unit; they need not be normalised.
        lmax: Largest degree, at most 8.
        normalize: ``False`` gives solid harmonics, :math:`r^l\,Y_{lm}`, the
            convention of the published code.

    Shapes:
        - vec: ``[..., 3]``, components x, y, z.
        - returns: ``[..., M]``, ``M = (lmax + 1)**2``, index ``l * l + l + m``.

    Returns:
        The harmonics, in the dtype of ``vec``. NaN and infinity are not looked for
        here (graphs are validated where they are built): they give NaN for
        ``l >= 1``.

    Raises:
        ShapeError: If the last axis of ``vec`` does not have three components.
        DtypeError: If ``vec`` is not a real floating-point tensor.
        DegreeError: If ``lmax`` is not an integer between 0 and 8.

    Note:
        Absolute error below 16 unit round-offs for every degree, float32 and
        float64. Lengths from the smallest to the largest number of the dtype are
        fine with ``normalize=True``. float16 and bfloat16 are computed in float32.

    Example:
        >>> spherical_harmonics(torch.tensor([[0.0, 0.0, 2.0]]), lmax=2)
        tensor([[1., 0., 1., 0., 0., 0., 1., 0., 0.]])
    """
    check_degree(lmax)
    _check_vectors(vec)
    if vec.dtype in (torch.float16, torch.bfloat16):
        return spherical_harmonics(vec.float(), lmax, normalize).to(vec.dtype)
    if lmax == 0:
        # The empty sum keeps the result in the autograd graph, with gradient zero.
        return vec[..., :0].sum(-1, keepdim=True) + 1.0
    x, y, z = vec.unbind(-1)
    if normalize:
        x, y, z = _unit_components(x, y, z)
    if lmax <= _HAND_WRITTEN_DEGREE:
        components = _low_degrees(x, y, z, lmax)
    else:
        components = _by_recursion(x, y, z, lmax)
    return torch.stack(components, dim=-1)


def _check_vectors(vec: Tensor) -> None:
    """Check dtype and shape of ``vec``."""
    if not vec.is_floating_point():
        raise DtypeError(
            f"vec must be a real floating-point tensor, got {vec.dtype}; "
            "convert it with vec.to(torch.get_default_dtype())"
        )
    if vec.dim() == 0 or vec.size(-1) != 3:
        raise ShapeError(f"vec must have shape [..., 3], got {tuple(vec.shape)}")


def _unit_components(x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Components of the unit vectors; zero with zero derivatives at zero.

    The vector is first divided by a power of two near its largest component, which
    is exact and keeps the squares in range. The unit vector does not depend on that
    factor, so detaching it leaves derivatives of every order exact.
    """
    with torch.no_grad():
        largest = torch.maximum(torch.maximum(x.abs(), y.abs()), z.abs())
        mantissa, _ = torch.frexp(largest)
        is_zero = largest == 0
        # Dividing by infinity gives zero for the value and for every derivative.
        scale = (largest / (2.0 * mantissa)).masked_fill(is_zero, math.inf)
    x, y, z = x / scale, y / scale, z / scale
    length = (x * x + y * y + z * z + is_zero).sqrt()
    return x / length, y / length, z / length


def _low_degrees(x: Tensor, y: Tensor, z: Tensor, lmax: int) -> list[Tensor]:
    """Components of degrees up to 3 with few operations."""
    components = [torch.ones_like(x), y, z, x]
    if lmax == 1:
        return components
    xx, yy, zz = x * x, y * y, z * z
    rho = xx + yy
    root3z = _sqrt(3, 1) * z
    xy = _sqrt(3, 1) * (x * y)
    xx_yy = _sqrt(3, 4) * (xx - yy)
    components += [xy, y * root3z, torch.sub(zz, rho, alpha=0.5), x * root3z, xx_yy]
    if lmax == 2:
        return components
    root5z = _sqrt(5, 1) * z
    edge = torch.sub(_sqrt(6, 1) * zz, rho, alpha=_sqrt(3, 8))
    return components + [
        y * torch.sub(_sqrt(45, 8) * xx, yy, alpha=_sqrt(5, 8)),
        xy * root5z,
        y * edge,
        z * torch.sub(zz, rho, alpha=1.5),
        x * edge,
        xx_yy * root5z,
        x * torch.sub(_sqrt(5, 8) * xx, yy, alpha=_sqrt(45, 8)),
    ]


def _by_recursion(x: Tensor, y: Tensor, z: Tensor, lmax: int) -> list[Tensor]:
    """Components of any degree by recursion over l for each m."""
    squared = x * x + y * y + z * z
    components: list[Tensor] = [x] * (lmax + 1) ** 2
    cosine, sine = torch.ones_like(x), torch.zeros_like(x)
    for m in range(lmax + 1):
        if m:
            cosine, sine = x * cosine - y * sine, x * sine + y * cosine
        for l, legendre in enumerate(_legendre(z, squared, m, lmax), start=m):
            components[l * l + l + m] = legendre * cosine
            if m:
                components[l * l + l - m] = legendre * sine
    return components


def _legendre(z: Tensor, squared: Tensor, m: int, lmax: int) -> list[Tensor]:
    r"""Homogeneous associated Legendre functions of order m, degrees m..lmax.

    :math:`\sqrt{l^2 - m^2}\,Q_l = (2l - 1)\,z\,Q_{l-1}
    - \sqrt{(l - 1)^2 - m^2}\,r^2\,Q_{l-2}`, unit-normalised.
    """
    odd, even = math.prod(range(1, 2 * m, 2)), math.prod(range(2, 2 * m + 1, 2))
    start = _sqrt((2 if m else 1) * odd, even)
    values = [torch.full_like(z, start)]
    for l in range(m + 1, lmax + 1):
        remainder = l * l - m * m
        upper = _sqrt((2 * l - 1) ** 2, remainder) * z * values[-1]
        if l > m + 1:
            lower = _sqrt((l - 1) ** 2 - m * m, remainder)
            upper = torch.sub(upper, squared * values[-2], alpha=lower)
        values.append(upper)
    return values


def _sqrt(numerator: int, denominator: int) -> float:
    """Square root of a fraction, rounded once."""
    digits = 2**200
    root = math.isqrt(numerator * digits**2 // denominator)
    return float(Fraction(root, digits))
