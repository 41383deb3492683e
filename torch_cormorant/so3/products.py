"""Invariants of SO(3)-vectors: dot products and norms, degree by degree."""

from __future__ import annotations

import torch
from torch import Tensor

from torch_cormorant.errors import DtypeError, ShapeError
from torch_cormorant.so3.layout import check_vector, split_degrees


def dot(a: Tensor, b: Tensor) -> Tensor:
    r"""Bilinear dot products of SO(3)-vectors, one per degree and channel.

    .. math::
        d_{l,c} = \sum_m a_{lm,c}\,b_{lm,c},

    complex numbers without conjugate. In the complex basis of the paper this is
    :math:`\sum_m (-1)^m a_m b_{-m}`.

    Args:
        a: SO(3)-vectors.
        b: SO(3)-vectors of the same shape and type.

    Shapes:
        - a, b: ``[N, M, P, C]``.
        - returns: ``[N, lmax + 1, P, C]``.

    Returns:
        The dot products, unchanged by rotations; ``dot(a, b) == dot(b, a)``.

    Raises:
        ShapeError: If the shapes differ or are not ``[N, M, P, C]``.
        DtypeError: If the types differ.

    Example:
        >>> a = torch.ones(1, 4, 1, 1)
        >>> dot(a, a).flatten().tolist()
        [1.0, 3.0]
    """
    lmax = check_vector(a, "a")
    if a.shape != b.shape:
        raise ShapeError(
            f"a and b must have the same shape, got {tuple(a.shape)} and "
            f"{tuple(b.shape)}"
        )
    if a.dtype != b.dtype:
        raise DtypeError(
            f"a and b must have the same dtype, got {a.dtype} and {b.dtype}"
        )
    if a.size(2) == 1:
        products = a * b
    else:
        (a_re, a_im), (b_re, b_im) = a.unbind(2), b.unbind(2)
        real = a_re * b_re - a_im * b_im
        products = torch.stack([real, a_re * b_im + a_im * b_re], dim=2)
    return _sum_components(products, lmax)


def norm_squared(a: Tensor) -> Tensor:
    r"""Squared Hermitian norms of SO(3)-vectors, one per degree and channel.

    .. math::
        n_{l,c} = \sum_m |a_{lm,c}|^2.

    Args:
        a: SO(3)-vectors.

    Shapes:
        - a: ``[N, M, P, C]``.
        - returns: ``[N, lmax + 1, C]``.

    Returns:
        Real numbers, at least zero, unchanged by rotations.

    Raises:
        ShapeError: If ``a`` is not ``[N, M, P, C]``.

    Example:
        >>> norm_squared(torch.ones(1, 4, 2, 1)).flatten().tolist()
        [2.0, 6.0]
    """
    lmax = check_vector(a, "a")
    return _sum_components((a * a).sum(dim=2), lmax)


def _sum_components(x: Tensor, lmax: int) -> Tensor:
    """Sum the components of each degree on axis 1."""
    parts = [part.sum(dim=1) for part in split_degrees(x, lmax)]
    return torch.stack(parts, dim=1)
