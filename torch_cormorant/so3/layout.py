"""Packed layout of SO(3)-vectors: where each degree lives, and the complex basis.

All degrees ``l = 0..lmax`` of an SO(3)-vector are packed into one axis of length
``M = (lmax + 1)**2``; component ``m = -l..l`` of degree ``l`` has index
``l * l + l + m``. The tensors of this package are real, ``[N, M, P, C]``, with
``P = 2`` planes (real and imaginary part) or ``P = 1``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from torch_cormorant.cg.exact import MAX_DEGREE
from torch_cormorant.errors import DegreeError, DtypeError, ShapeError


def check_degree(l: int, name: str = "lmax") -> int:
    """Check that ``l`` is a degree that the package supports.

    Args:
        l: The degree to check.
        name: What the degree is called in the message.

    Returns:
        The degree itself.

    Raises:
        DegreeError: If ``l`` is not an integer between 0 and ``MAX_DEGREE``.

    Example:
        >>> check_degree(3, "lmax")
        3
    """
    if isinstance(l, bool) or not isinstance(l, int):
        raise DegreeError(
            f"{name} must be an int, got {l!r} of type {type(l).__name__}"
        )
    if not 0 <= l <= MAX_DEGREE:
        raise DegreeError(
            f"{name} must lie between 0 and {MAX_DEGREE}, the largest degree of "
            f"the tables, got {l}"
        )
    return l


def dim(lmax: int) -> int:
    """Length ``M = (lmax + 1)**2`` of the packed axis.

    Args:
        lmax: Largest degree.

    Returns:
        The number of components of all degrees ``0..lmax``.

    Raises:
        DegreeError: If ``lmax`` is no supported degree.

    Example:
        >>> dim(3)
        16
    """
    return (check_degree(lmax) + 1) ** 2


def degree_slice(l: int) -> slice:
    """Where degree ``l`` lives in the packed axis.

    Args:
        l: The degree.

    Returns:
        ``slice(l * l, (l + 1)**2)``.

    Raises:
        DegreeError: If ``l`` is no supported degree.

    Example:
        >>> degree_slice(2)
        slice(4, 9, None)
    """
    check_degree(l, "l")
    return slice(l * l, (l + 1) ** 2)


def degree_slices(lmax: int) -> list[slice]:
    """The slices of all degrees ``0..lmax``.

    Args:
        lmax: Largest degree.

    Returns:
        One slice per degree, in order.

    Raises:
        DegreeError: If ``lmax`` is no supported degree.

    Example:
        >>> degree_slices(1)
        [slice(0, 1, None), slice(1, 4, None)]
    """
    return [degree_slice(l) for l in range(check_degree(lmax) + 1)]


def lmax_of(M: int) -> int:
    """Largest degree of a packed axis of length ``M``.

    Args:
        M: Length of the packed axis.

    Returns:
        ``lmax`` with ``M = (lmax + 1)**2``.

    Raises:
        ShapeError: If ``M`` is no square of a positive integer.
        DegreeError: If the degree is beyond the tables.

    Example:
        >>> lmax_of(16)
        3
    """
    root = math.isqrt(max(M, 0))
    if root == 0 or root * root != M:
        raise ShapeError(
            f"a packed axis has (lmax + 1)**2 components (1, 4, 9, 16, ...), got {M}"
        )
    return check_degree(root - 1)


def degree_index(lmax: int, device: torch.device | str | None = None) -> Tensor:
    """Degree of each component of the packed axis.

    Args:
        lmax: Largest degree.
        device: Device of the result.

    Shapes:
        - returns: ``[M]``, int64.

    Returns:
        ``l`` of each component.

    Raises:
        DegreeError: If ``lmax`` is no supported degree.

    Example:
        >>> degree_index(1)
        tensor([0, 1, 1, 1])
    """
    sizes = [2 * l + 1 for l in range(check_degree(lmax) + 1)]
    degrees = [l for l, size in enumerate(sizes) for _ in range(size)]
    return torch.tensor(degrees, dtype=torch.long, device=device)


def split_degrees(x: Tensor, lmax: int, axis: int = 1) -> list[Tensor]:
    """Split a packed tensor into one view per degree.

    Args:
        x: Tensor with a packed axis.
        lmax: Largest degree of that axis.
        axis: The packed axis.

    Shapes:
        - x: ``[..., M, ...]``.
        - returns: ``lmax + 1`` tensors ``[..., 2l + 1, ...]``.

    Returns:
        Views of ``x``, one per degree.

    Raises:
        ShapeError: If the axis does not have ``(lmax + 1)**2`` components.
        DegreeError: If ``lmax`` is no supported degree.

    Example:
        >>> [tuple(part.shape) for part in split_degrees(torch.zeros(5, 4, 2), 1)]
        [(5, 1, 2), (5, 3, 2)]
    """
    if not -x.dim() <= axis < x.dim() or x.size(axis) != dim(lmax):
        raise ShapeError(
            f"axis {axis} of a tensor of shape {tuple(x.shape)} must hold "
            f"{dim(lmax)} components for lmax={lmax}"
        )
    return list(torch.split(x, [2 * l + 1 for l in range(lmax + 1)], dim=axis))


def cat_degrees(parts: Sequence[Tensor], axis: int = 1) -> Tensor:
    """Pack tensors of degrees ``0, 1, 2, ...`` into one.

    Args:
        parts: One tensor per degree, starting with ``l = 0``, none left out.
        axis: The axis of the components.

    Shapes:
        - parts: ``[..., 2l + 1, ...]`` at position ``l``.
        - returns: ``[..., M, ...]``.

    Returns:
        The packed tensor.

    Raises:
        ShapeError: If a part does not have ``2l + 1`` components.
        DegreeError: If there are more degrees than the tables have.

    Example:
        >>> cat_degrees([torch.zeros(5, 1), torch.zeros(5, 3)]).shape
        torch.Size([5, 4])
    """
    check_degree(len(parts) - 1, "the number of parts minus one")
    for l, part in enumerate(parts):
        if part.size(axis) != 2 * l + 1:
            raise ShapeError(
                f"part {l} must hold {2 * l + 1} components on axis {axis}, got a "
                f"tensor of shape {tuple(part.shape)}; give one part per degree"
            )
    return torch.cat(list(parts), dim=axis)


def basis_matrix(
    l: int,
    dtype: torch.dtype = torch.complex128,
    device: torch.device | str | None = None,
) -> Tensor:
    r"""Unitary matrix between our real basis and the complex one of the paper.

    Rows are ``m`` of the complex basis (conjugated Condon-Shortley harmonics, as in
    the published code), columns ``k`` of the real basis:

    .. math::
        F_m = \sum_k U_{mk} f_k, \qquad
        U_{m,m} = \frac{(-1)^m}{\sqrt2},\;
        U_{m,-m} = \frac{-i(-1)^m}{\sqrt2},\;
        U_{-m,m} = \frac{1}{\sqrt2},\;
        U_{-m,-m} = \frac{i}{\sqrt2}\quad (m > 0).

    Args:
        l: The degree.
        dtype: A complex dtype.
        device: Device of the result.

    Shapes:
        - returns: ``[2l + 1, 2l + 1]``.

    Returns:
        The matrix ``U_l``.

    Raises:
        DegreeError: If ``l`` is no supported degree.
        DtypeError: If ``dtype`` is not complex.

    Example:
        >>> U = basis_matrix(2)
        >>> bool(torch.allclose(U @ U.mH, torch.eye(5, dtype=U.dtype)))
        True
    """
    check_degree(l, "l")
    if not dtype.is_complex:
        raise DtypeError(f"basis_matrix needs a complex dtype, got {dtype}")
    half = math.sqrt(0.5)
    rows = [[0j] * (2 * l + 1) for _ in range(2 * l + 1)]
    rows[l][l] = 1 + 0j
    for m in range(1, l + 1):
        sign = -1.0 if m % 2 else 1.0
        rows[l + m][l + m] = complex(sign * half, 0.0)
        rows[l + m][l - m] = complex(0.0, -sign * half)
        rows[l - m][l + m] = complex(half, 0.0)
        rows[l - m][l - m] = complex(0.0, half)
    return torch.tensor(rows, dtype=dtype, device=device)


def to_complex_basis(x: Tensor) -> list[Tensor]:
    r"""Components of SO(3)-vectors in the complex basis of the published code.

    :math:`F_l = U_l f_l` with :func:`basis_matrix`.

    Args:
        x: SO(3)-vectors in our layout.

    Shapes:
        - x: ``[N, M, P, C]``, ``P = 2`` (real, imaginary) or ``P = 1`` (real only).
        - returns: ``lmax + 1`` complex tensors ``[N, C, 2l + 1]``, ``m = -l..l``.

    Returns:
        One complex tensor per degree.

    Raises:
        ShapeError: If ``x`` is not ``[N, M, P, C]``.
        DtypeError: If ``x`` is not float32 or float64.

    Example:
        >>> [tuple(part.shape) for part in to_complex_basis(torch.zeros(5, 4, 2, 7))]
        [(5, 7, 1), (5, 7, 3)]
    """
    lmax = check_vector(x, "x")
    if x.dtype not in (torch.float32, torch.float64):
        raise DtypeError(f"x must be float32 or float64, got {x.dtype}")
    imaginary = x[:, :, 1] if x.size(2) == 2 else torch.zeros_like(x[:, :, 0])
    values = torch.complex(x[:, :, 0], imaginary)
    return [
        torch.einsum("mk,nkc->ncm", basis_matrix(l, values.dtype, x.device), part)
        for l, part in enumerate(split_degrees(values, lmax))
    ]


def from_complex_basis(parts: Sequence[Tensor]) -> Tensor:
    r"""SO(3)-vectors in our layout from components in the complex basis.

    :math:`f_l = U_l^\dagger F_l`; the inverse of :func:`to_complex_basis`.

    Args:
        parts: One complex tensor per degree, starting with ``l = 0``.

    Shapes:
        - parts: ``[N, C, 2l + 1]`` at position ``l``, ``m = -l..l``.
        - returns: ``[N, M, 2, C]``, real.

    Returns:
        The packed real tensor.

    Raises:
        ShapeError: If a part is not ``[N, C, 2l + 1]``.
        DtypeError: If a part is not complex.

    Example:
        >>> x = torch.randn(5, 9, 2, 3, dtype=torch.float64)
        >>> bool(torch.allclose(from_complex_basis(to_complex_basis(x)), x))
        True
    """
    for l, part in enumerate(parts):
        if not part.is_complex():
            raise DtypeError(f"part {l} must be complex, got {part.dtype}")
        if part.dim() != 3:
            raise ShapeError(
                f"part {l} must have shape [N, C, {2 * l + 1}], got {tuple(part.shape)}"
            )
    packed = cat_degrees(
        [
            torch.einsum(
                "mk,ncm->nkc", basis_matrix(l, part.dtype, part.device).conj(), part
            )
            if part.size(2) == 2 * l + 1
            else part
            for l, part in enumerate(parts)
        ]
    )
    return torch.stack([packed.real, packed.imag], dim=2)


def check_vector(x: Tensor, name: str) -> int:
    """Check that a tensor is a packed SO(3)-vector ``[N, M, P, C]``.

    Args:
        x: The tensor.
        name: What it is called in the message.

    Returns:
        Its largest degree.

    Raises:
        ShapeError: If the shape is not ``[N, (lmax + 1)**2, 1 or 2, C]``.

    Example:
        >>> check_vector(torch.zeros(5, 16, 2, 7), "x")
        3
    """
    if x.dim() != 4 or x.size(2) not in (1, 2):
        raise ShapeError(
            f"{name} must be an SO(3)-vector of shape [N, M, P, C] with P = 1 or 2 "
            f"planes, got {tuple(x.shape)}"
        )
    return lmax_of(x.size(1))
