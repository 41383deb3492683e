"""Flat rows of irreps: views of packed features, and the layout of e3nn."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from torch_cormorant.errors import DegreeError, ShapeError
from torch_cormorant.irreps import Irreps
from torch_cormorant.so3.layout import check_vector, degree_slice
from torch_cormorant.so3.wigner import wigner_D

__all__ = ["as_irreps", "as_packed", "flat_blocks", "from_e3nn", "to_e3nn"]


def flat_blocks(x: Tensor, irreps: object) -> tuple[Tensor, ...]:
    """The blocks of flat features, as views.

    Args:
        x: Flat features.
        irreps: What they are made of.

    Shapes:
        ``x`` ``[..., dim]``; block k ``[..., 2l + 1, mul]``.

    Returns:
        One view for each block.

    Raises:
        ShapeError: If the last axis has another length than the irreps.

    Example:
        >>> import torch
        >>> [tuple(b.shape) for b in flat_blocks(torch.zeros(5, 17), "2x0e + 5x1o")]
        [(5, 1, 2), (5, 3, 5)]
    """
    irreps = check_flat(x, irreps)
    return tuple(
        x[..., at].unflatten(-1, (block.ir.dim, block.mul))
        for at, block in zip(irreps.slices, irreps, strict=True)
    )


def check_flat(x: Tensor, irreps: object, name: str = "x") -> Irreps:
    """Refuse rows that have another length than irreps.

    Returns:
        The irreps.

    Raises:
        ShapeError: If they have.

    Example:
        >>> import torch
        >>> check_flat(torch.zeros(5, 3), "1x1o")
        Irreps('1x1o')
    """
    irreps = Irreps(irreps)
    if x.ndim < 1 or x.shape[-1] != irreps.dim:
        msg = (
            f"{name} must have rows of {irreps.dim} numbers for irreps {irreps}, got "
            f"shape {list(x.shape)}"
        )
        raise ShapeError(msg)
    return irreps


def as_irreps(x: Tensor, *, parity: bool = False) -> tuple[Tensor, Irreps]:
    """Packed SO(3)-vectors as flat rows: the same memory.

    Args:
        x: Packed features. Real and imaginary planes become channels side by side.
        parity: Say that degree l has parity ``(-1)^l``. Default False: no parity.

    Shapes:
        ``x`` ``[N, M, P, C]``; result ``[N, M P C]``.

    Returns:
        The rows, a view where x is contiguous, and what they are made of.

    Raises:
        ShapeError: If x is not ``[N, M, P, C]``.

    Example:
        >>> import torch
        >>> rows, irreps = as_irreps(torch.zeros(5, 4, 2, 8))
        >>> tuple(rows.shape), irreps
        ((5, 64), Irreps('16x0 + 16x1'))
    """
    lmax, channels = check_vector(x, "x"), x.size(2) * x.size(3)
    harmonics = Irreps.harmonics(lmax, parity=parity)
    return x.flatten(1), Irreps([(channels, ir) for _, ir in harmonics])


def as_packed(x: Tensor, irreps: object, planes: int = 1) -> Tensor:
    """Flat rows as packed SO(3)-vectors: the same memory.

    Args:
        x: Flat features.
        irreps: Degrees 0, 1, 2, ..., one block each, with equal multiplicities.
        planes: 1, or 2 where the channels are real and imaginary parts. Default 1.

    Shapes:
        ``x`` ``[N, dim]``; result ``[N, M, planes, mul / planes]``.

    Returns:
        The packed features, a view where x is contiguous.

    Raises:
        ShapeError: If x does not have such rows, or channels are no multiple of planes.
        DegreeError: If a degree is missing, out of order or of another multiplicity.

    Example:
        >>> import torch
        >>> tuple(as_packed(torch.zeros(5, 64), "16x0e + 16x1o", planes=2).shape)
        (5, 4, 2, 8)
    """
    irreps = check_flat(x, irreps)
    muls = {block.mul for block in irreps}
    if [block.ir.l for block in irreps] != [*range(len(irreps))] or len(muls) != 1:
        msg = (
            "packed features have the degrees 0, 1, 2, ... once each, with the same "
            f"number of channels, got {irreps}"
        )
        raise DegreeError(msg)
    mul = muls.pop()
    if x.ndim != 2 or planes not in (1, 2) or mul % planes:
        msg = (
            f"rows [N, dim] of {mul} channels do not make {planes} planes, got x of "
            f"shape {list(x.shape)}; give planes=1, or 2 for an even number of channels"
        )
        raise ShapeError(msg)
    return x.reshape(x.shape[0], len(irreps) ** 2, planes, mul // planes)


def to_e3nn(x: Tensor, irreps: object) -> Tensor:
    r"""Flat features in the layout and the axes of e3nn.

    e3nn keeps copies outside and components inside (``[mul, 2l + 1]``) and takes y as
    the polar axis: its components are :math:`D_l(R)` times ours, with R the rotation
    that takes (x, y, z) to (z, x, y).

    Args:
        x: Flat features of ours.
        irreps: What they are made of.

    Shapes:
        ``x`` ``[..., dim]``; result the same.

    Returns:
        The features for e3nn.

    Raises:
        ShapeError: If x does not have such rows.

    Example:
        >>> import torch
        >>> to_e3nn(torch.tensor([2.0, 3.0, 1.0]), "1x1o")  # ours are (y, z, x)
        tensor([1., 2., 3.])
    """
    return _moved(x, irreps, lambda block, D: (D @ block).mT)


def from_e3nn(x: Tensor, irreps: object) -> Tensor:
    """Flat features of e3nn in ours: the inverse of :func:`to_e3nn`.

    Args:
        x: Flat features of e3nn.
        irreps: What they are made of.

    Shapes:
        ``x`` ``[..., dim]``; result the same.

    Returns:
        The features in our layout and axes.

    Raises:
        ShapeError: If x does not have such rows.

    Example:
        >>> import torch
        >>> from_e3nn(torch.tensor([1.0, 2.0, 3.0]), "1x1o")
        tensor([2., 3., 1.])
    """
    return _moved(x, irreps, lambda block, D: (block @ D).mT, turned=True)


def _moved(
    x: Tensor,
    irreps: object,
    move: Callable[[Tensor, Tensor], Tensor],
    *,
    turned: bool = False,
) -> Tensor:
    irreps = check_flat(x, irreps)
    turn = torch.tensor([[0, 0, 1], [1, 0, 0], [0, 1, 0]], device=x.device)
    D = wigner_D(turn.to(x.dtype), irreps.lmax if len(irreps) else 0)
    parts = []
    for at, block in zip(irreps.slices, irreps, strict=True):
        shape, degree = (block.ir.dim, block.mul), degree_slice(block.ir.l)
        part = x[..., at].unflatten(-1, shape[::-1] if turned else shape)
        parts.append(move(part, D[degree, degree]).flatten(-2))
    return torch.cat(parts, dim=-1) if parts else x
