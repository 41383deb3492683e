r"""The channelwise Clebsch-Gordan product, as the paper writes it.

.. math::
    (A \otimes B)^{l}_{m} =
    \sum_{m_1, m_2} C^{l_1 l_2 l}_{m_1 m_2 m} A^{l_1}_{m_1} B^{l_2}_{m_2}
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from torch_cormorant.cg import clebsch_gordan
from torch_cormorant.errors import DtypeError, ShapeError
from torch_cormorant.ops.operands import FEATURES
from torch_cormorant.ops.paths import PathTable, check_paths
from torch_cormorant.so3.layout import check_degree, lmax_of


def cg_product(
    a: Tensor, b: Tensor, lmax: int | None = None, paths: str = "all"
) -> tuple[Tensor, ...]:
    r"""Channelwise CG product of two SO(3)-vectors.

    Eq. (7) of Anderson et al. 2019:

    .. math::
        (A \otimes B)^l =
        \bigoplus_{l_1, l_2} C^{l_1 l_2 l} (A^{l_1} \otimes B^{l_2}) ,

    channel c of A with channel c of B.

    Args:
        a: First operand.
        b: Second operand, same number of planes and channels.
        lmax: Largest degree that is kept; default: the larger one of the operands.
        paths: ``"all"``, or ``"even"`` for even ``l1 + l2 + l`` only.

    Shapes:
        ``a`` ``[N, Ma, P, C]``, ``b`` ``[N, Mb, P, C]`` with P = 2 planes (real and
        imaginary part) or 1.

    Returns:
        One tensor ``[N, 2l + 1, P, paths_l * C]`` per degree, blocks ordered with l1
        outside and l2 inside.

    Raises:
        ShapeError: If the operands do not fit each other.
        DtypeError: If the operands are no floating point tensors of one dtype.
        DegreeError: If a degree is beyond the tables.

    Example:
        >>> import torch
        >>> a, b = torch.randn(5, 4, 2, 3), torch.randn(5, 9, 2, 3)
        >>> [tuple(part.shape) for part in cg_product(a, b)]
        [(5, 1, 2, 6), (5, 3, 2, 12), (5, 5, 2, 9)]

    Note:
        Every path is computed; differentiable to any order.
    """
    _check(a, b)
    lmax1, lmax2 = lmax_of(a.shape[1]), lmax_of(b.shape[1])
    lmax = max(lmax1, lmax2) if lmax is None else check_degree(lmax, "lmax")
    table = PathTable(lmax1, lmax2, min(lmax, lmax1 + lmax2), check_paths(paths))
    left, right = to_complex(a), to_complex(b)
    return tuple(from_complex(part.flatten(2)) for part in product(left, right, table))


def product(a: Tensor, b: Tensor, table: PathTable) -> tuple[Tensor, ...]:
    """CG product of complex (or real) tensors ``[N, M, C]``, path by path.

    Returns:
        One tensor ``[N, 2l + 1, number of paths, C]`` per degree.
    """
    parts: list[list[Tensor]] = [[] for _ in table.counts]
    for l1, l2, l in table.paths:
        cg = clebsch_gordan(l1, l2, l, dtype=_real_dtype(a)).to(a)
        left, right = a[:, l1 * l1 : (l1 + 1) ** 2], b[:, l2 * l2 : (l2 + 1) ** 2]
        parts[l].append(torch.einsum("abm,nac,nbc->nmc", cg, left, right))
    return tuple(
        torch.stack(part, dim=2)
        if part
        else a.new_zeros(a.shape[0], 2 * l + 1, 0, a.shape[2])
        for l, part in enumerate(parts)
    )


def to_complex(x: Tensor) -> Tensor:
    """Planes ``[..., 2, C]`` to complex ``[..., C]``, ``[..., 1, C]`` to real.

    Raises:
        ShapeError: If there are not one or two planes.
        DtypeError: If x is not float32 or float64.

    Example:
        >>> import torch
        >>> to_complex(torch.tensor([[1.0], [2.0]]))
        tensor([1.+2.j])
    """
    if x.ndim < 2 or x.shape[-2] not in (1, 2):
        msg = f"x must have shape [..., planes, channels], got {list(x.shape)}"
        raise ShapeError(msg)
    _check_precision("x", x, (torch.float32, torch.float64))
    if x.shape[-2] == 1:
        return x.squeeze(-2)
    return torch.complex(x[..., 0, :].contiguous(), x[..., 1, :].contiguous())


def from_complex(x: Tensor) -> Tensor:
    """Complex ``[..., C]`` to ``[..., 2, C]``, real ``[..., C]`` to ``[..., 1, C]``.

    Raises:
        ShapeError: If x has no axis.
        DtypeError: If x is not float32, float64, complex64 or complex128.

    Example:
        >>> import torch
        >>> from_complex(torch.tensor([1.0 + 2.0j]))
        tensor([[1.],
                [2.]])
    """
    if not x.ndim:
        msg = "x must have shape [..., channels], got a number"
        raise ShapeError(msg)
    _check_precision("x", x, FEATURES)
    if x.is_complex():
        return torch.stack([x.real, x.imag], dim=-2)
    return x.unsqueeze(-2)


def _real_dtype(x: Tensor) -> torch.dtype:
    return x.dtype.to_real()


def _check_precision(name: str, x: Tensor, known: Sequence[torch.dtype]) -> None:
    if x.dtype not in known:
        kinds = ", ".join(str(dtype).removeprefix("torch.") for dtype in known)
        msg = f"{name} must be {kinds.replace(', ', ' or ')}, got {x.dtype}; convert it"
        raise DtypeError(msg)


def _check(a: Tensor, b: Tensor) -> None:
    for name, x in (("a", a), ("b", b)):
        if x.ndim != 4 or x.shape[2] not in (1, 2):
            msg = (
                f"{name} must have shape [N, M, P, C] with P = 2 planes (or 1), got "
                f"{tuple(x.shape)}"
            )
            raise ShapeError(msg)
        _check_precision(name, x, (torch.float32, torch.float64))
    if a.dtype != b.dtype:
        msg = f"a and b must have one dtype, got {a.dtype} and {b.dtype}"
        raise DtypeError(msg)
    if a.shape[0] != b.shape[0] or a.shape[2:] != b.shape[2:]:
        msg = (
            "a and b must agree in nodes, planes and channels, got "
            f"{tuple(a.shape)} and {tuple(b.shape)}"
        )
        raise ShapeError(msg)
