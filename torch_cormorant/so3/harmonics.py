"""Real spherical harmonics as polynomials in x, y, z."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from torch_cormorant.cg.exact import MAX_DEGREE
from torch_cormorant.cg.rounding import float_format, rounded_sqrt
from torch_cormorant.errors import DtypeError, ShapeError
from torch_cormorant.so3.layout import check_degree

_HAND_WRITTEN_DEGREE = 3


def _sqrt(numerator: int, denominator: int = 1) -> float:
    """Square root of a fraction, rounded once."""
    return rounded_sqrt(numerator, denominator, float_format(torch.float64))


def _pole_factor(l: int, m: int) -> float:
    r"""Value of :math:`Y_{lm} / (\rho^m \cos m\varphi)` at the pole z = 1."""
    numerator = (2 if m else 1) * math.factorial(l + m)
    return _sqrt(numerator, math.factorial(l - m) * (2**m * math.factorial(m)) ** 2)


# Tables, not cached functions: torch.compile warns about the latter.
_POLE_FACTORS = [
    [_pole_factor(l, m) for m in range(l + 1)] for l in range(MAX_DEGREE + 1)
]
_SQRT_3, _SQRT_3_4, _SQRT_3_8 = _sqrt(3), _sqrt(3, 4), _sqrt(3, 8)
_SQRT_5, _SQRT_5_8, _SQRT_45_8, _SQRT_6 = _sqrt(5), _sqrt(5, 8), _sqrt(45, 8), _sqrt(6)


def pole_factors(lmax: int) -> list[list[float]]:
    r"""Values of :math:`Y_{lm} / (\rho^m \cos m\varphi)` at the pole, 0 for m > l."""
    return [
        [_POLE_FACTORS[l][m] if m <= l else 0.0 for m in range(lmax + 1)]
        for l in range(lmax + 1)
    ]


def solid_derivatives(lmax: int) -> list[tuple[int, int, int, float]]:
    r"""Derivatives of solid harmonics in those of the degree below.

    With :math:`\partial_\pm = \partial_x \pm i \partial_y` and complex harmonics
    :math:`Z_l^m = (Y_{lm} + i Y_{l,-m}) / \sqrt 2`, :math:`Z_l^0 = Y_{l0}`:

    .. math::
        \partial_z Z_l^m &= \sqrt{(l + m)(l - m)}\, Z_{l-1}^m \\
        \partial_+ Z_l^m &= -\sqrt{(l - m)(l - m - 1)}\, Z_{l-1}^{m+1} \\
        \partial_- Z_l^m &= \sqrt{(l + m)(l + m - 1)}\, Z_{l-1}^{m-1}

    Args:
        lmax: Largest degree.

    Returns:
        (k, row, row', c) for every term of
        :math:`\partial_k Y_{row} = \sum c\, Y_{row'}`; k = 0, 1, 2 for x, y, z.

    Example:
        >>> solid_derivatives(1)
        [(2, 2, 0, 1.0), (0, 3, 0, 1.0), (1, 1, 0, 1.0)]
    """
    found = []
    for l in range(1, lmax + 1):
        row, low = l * l + l, (l - 1) * l
        orders = range(-l + 1, l)
        found += [(2, row + m, low + m, _sqrt((l + m) * (l - m))) for m in orders]
        for m in range(l + 1):
            # halves of both; m = 0 is not divided by the root of two
            up = -_sqrt((l - m) * (l - m - 1), 4 if m else 2)
            if m + 1 < l:
                found += [(0, row + m, low + m + 1, up), (1, row + m, low - m - 1, up)]
            if m and m + 1 < l:
                found += [(0, row - m, low - m - 1, up), (1, row - m, low + m + 1, -up)]
            down = _sqrt((l + m) * (l + m - 1), 4 if m > 1 else 2)
            if m:
                found += [(0, row + m, low + m - 1, down)]
                found += [(1, row - m, low + m - 1, down)]
            if m > 1:
                found += [(0, row - m, low - m + 1, down)]
                found += [(1, row + m, low - m + 1, -down)]
    return found


def spherical_harmonics(vec: Tensor, lmax: int, normalize: bool = True) -> Tensor:
    r"""Real spherical harmonics of all degrees ``0..lmax``.

    Components ``m = -l..l``, standard real harmonics without Condon-Shortley phase,
    unit-normalised, so that :math:`Y_0 = 1` and :math:`Y_1 = (y, z, x) / r`:

    .. math::
        Y_{l,\pm m}(\mathbf r) = \sqrt{2 - \delta_{m0}}
        \sqrt{\frac{(l - m)!}{(l + m)!}}\, P_l^m(z / r)
        \begin{cases}\cos m\varphi\ \sin m\varphi\end{cases}, \qquad
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
        here (graphs are validated where they are built): such a vector gives NaN for
        ``l >= 1``.

    Raises:
        ShapeError: If the last axis of ``vec`` does not have three components.
        DtypeError: If ``vec`` is not a real floating-point tensor.
        DegreeError: If ``lmax`` is not an integer between 0 and 8.

    Note:
        Absolute error below 16 unit round-offs for every degree, float32 and
        float64. Lengths from the smallest to the largest number of the dtype are
        fine with ``normalize=True``.
        float16 and bfloat16 are computed in float32.

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
    # Inside, components come first: each is then one contiguous row.
    rows = vec.reshape(-1, 3).t().contiguous()
    if normalize:
        unit, excess = _unit_vectors(rows)
        degrees = torch.arange((lmax + 1) ** 2, device=vec.device).sqrt().floor()
        correction = 1.0 - excess * (0.5 * degrees.to(vec.dtype)).unsqueeze(1)
        harmonics = torch.stack(_solid(unit, lmax)) * correction
    else:
        harmonics = torch.stack(_solid(rows, lmax))
    return harmonics.t().contiguous().reshape(*vec.shape[:-1], (lmax + 1) ** 2)


def _check_vectors(vec: Tensor) -> None:
    """Check dtype and shape of ``vec``."""
    if not vec.is_floating_point():
        raise DtypeError(
            f"vec must be a real floating-point tensor, got {vec.dtype}; "
            "convert it with vec.to(torch.get_default_dtype())"
        )
    if vec.dim() == 0 or vec.size(-1) != 3:
        raise ShapeError(f"vec must have shape [..., 3], got {tuple(vec.shape)}")


def _unit_vectors(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors ``[3, E]``, zero with zero derivatives at zero, and their excess.

    The vector is first divided by a power of two near its largest component, which
    is exact and keeps the squares in range. The unit vector does not depend on that
    factor, so detaching it leaves derivatives of every order exact.

    Returns:
        The unit vectors, and what the rounding errors have made of their squared
        lengths, minus one.
    """
    with torch.no_grad():
        largest = rows.abs().amax(0)
        mantissa, _ = torch.frexp(largest)
        is_zero = largest == 0
        # Dividing by infinity gives zero for the value and for every derivative.
        scale = (largest / (2.0 * mantissa)).masked_fill(is_zero, math.inf)
    scaled = rows / scale
    unit = scaled / ((scaled * scaled).sum(0) + is_zero).sqrt()
    with torch.no_grad():
        excess = _squared_length_minus_one(unit)
    return unit, excess


def _squared_length_minus_one(unit: Tensor) -> Tensor:
    """``|n|**2 - 1`` to full relative accuracy although it is of round-off size.

    Splits n into a head on a fixed grid, whose squares and their sum are exact, and
    a small tail: ``n**2 = head**2 + (n - head) * (n + head)``. A radial error of n
    grows l-fold in degree l, and this is what takes it out again.
    """
    grid = 2.0 ** (24 if unit.dtype == torch.float64 else 10)
    head = (unit * grid).round() / grid
    tail = (unit - head) * (unit + head)
    return ((head * head).sum(0) - 1.0) + tail.sum(0)


def _solid(rows: Tensor, lmax: int) -> list[Tensor]:
    """Solid harmonics of vectors ``[3, E]``, one tensor per component."""
    x, y, z = rows.unbind(0)
    if lmax <= _HAND_WRITTEN_DEGREE:
        return _low_degrees(x, y, z, lmax)
    return _by_recursion(x, y, z, lmax)


def _low_degrees(x: Tensor, y: Tensor, z: Tensor, lmax: int) -> list[Tensor]:
    """Components of degrees up to 3 with few operations."""
    components = [torch.ones_like(x), y, z, x]
    if lmax == 1:
        return components
    xx, yy, zz = x * x, y * y, z * z
    rho = xx + yy
    root3z = _SQRT_3 * z
    xy = _SQRT_3 * (x * y)
    xx_yy = _SQRT_3_4 * (xx - yy)
    components += [xy, y * root3z, torch.sub(zz, rho, alpha=0.5), x * root3z, xx_yy]
    if lmax == 2:
        return components
    root5z = _SQRT_5 * z
    edge = torch.sub(_SQRT_6 * zz, rho, alpha=_SQRT_3_8)
    components += [
        y * torch.sub(_SQRT_45_8 * xx, yy, alpha=_SQRT_5_8),
        xy * root5z,
        y * edge,
        z * torch.sub(zz, rho, alpha=1.5),
        x * edge,
        xx_yy * root5z,
        x * torch.sub(_SQRT_5_8 * xx, yy, alpha=_SQRT_45_8),
    ]
    return components


def _by_recursion(x: Tensor, y: Tensor, z: Tensor, lmax: int) -> list[Tensor]:
    """Components of any degree by recursion over l for each m."""
    rho = x * x + y * y
    components: list[Tensor] = [z] * (lmax + 1) ** 2
    for l, legendre in enumerate(_legendre(z, rho, 0, lmax)):
        components[l * l + l] = legendre
    cosine, sine = x, y
    for m in range(1, lmax + 1):
        for l, legendre in enumerate(_legendre(z, rho, m, lmax), start=m):
            scaled = _POLE_FACTORS[l][m] * legendre
            components[l * l + l - m] = scaled * sine
            components[l * l + l + m] = scaled * cosine
        cosine, sine = x * cosine - y * sine, x * sine + y * cosine
    return components


def _legendre(z: Tensor, rho: Tensor, m: int, lmax: int) -> list[Tensor]:
    r"""Homogeneous associated Legendre functions of order m, degrees m..lmax.

    Scaled to one at the pole, without the factor :math:`\rho^m`; the argument ``rho``
    is :math:`\rho^2 = x^2 + y^2`. With :math:`d_l = p_l - z\,p_{l-1}` the usual
    recursion becomes

    .. math::
        (l + m)\,d_l = (l - m - 1)\,(z\,d_{l-1} - \rho^2\,p_{l-2}),

    which holds no difference of large numbers, neither at the poles nor elsewhere.
    """
    difference = rho * (-0.5 / (m + 1))
    values = [torch.ones_like(z), z, z * z + difference]
    for l in range(m + 3, lmax + 1):
        ratio = (l - m - 1) / (l + m)
        difference = ratio * (z * difference - rho * values[-2])
        values.append(difference + z * values[-1])
    return values[: lmax + 1 - m]
