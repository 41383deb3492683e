"""From SO3-vectors to x, y, z and to matrices."""

from __future__ import annotations

import torch
from torch import Tensor

from torch_cormorant.errors import ShapeError

_HALF_ROOT_3 = 3**0.5 / 2


def vector_from_degree_1(x: Tensor) -> Tensor:
    """Components in the order x, y, z: the packed order of degree 1 is y, z, x.

    Args:
        x: SO3-vectors of degree 1.

    Shapes:
        ``[N, 3, ...]`` to the same.

    Returns:
        The vectors.

    Raises:
        ShapeError: If axis 1 does not have three components.

    Example:
        >>> import torch
        >>> from torch_cormorant import spherical_harmonics
        >>> vec = torch.tensor([[0.0, 0.6, 0.8]])
        >>> vector_from_degree_1(spherical_harmonics(vec, 1)[:, 1:])
        tensor([[0.0000, 0.6000, 0.8000]])
    """
    _check(x, 3)
    y, z, first = x.unbind(1)
    return torch.stack([first, y, z], dim=1)


def matrix_from_degree_2(x: Tensor) -> Tensor:
    r"""The symmetric matrix without trace that an SO3-vector of degree 2 stands for.

    .. math:: v^T Q v = |v|^2 \sum_m F_m Y_{2m}(v) \quad \text{for every } v

    Args:
        x: SO3-vectors of degree 2.

    Shapes:
        ``[N, 5, ...]`` to ``[N, 3, 3, ...]``, rows and columns x, y, z.

    Returns:
        The matrices; turned by R, a vector gives :math:`R Q R^T`.

    Raises:
        ShapeError: If axis 1 does not have five components.

    Example:
        >>> import torch
        >>> x = torch.tensor([[0.0, 0.0, 2.0, 0.0, 0.0]])  # m = 0: along z
        >>> matrix_from_degree_2(x)[0].diagonal()
        tensor([-1., -1.,  2.])
    """
    _check(x, 5)
    m0, m1, m2, m3, m4 = x.unbind(1)
    xy, yz, xz = _HALF_ROOT_3 * m0, _HALF_ROOT_3 * m1, _HALF_ROOT_3 * m3
    axial, planar = m2, _HALF_ROOT_3 * m4
    rows = (
        torch.stack([planar - axial / 2, xy, xz], dim=1),
        torch.stack([xy, -planar - axial / 2, yz], dim=1),
        torch.stack([xz, yz, axial], dim=1),
    )
    return torch.stack(rows, dim=1)


def _check(x: Tensor, components: int) -> None:
    if x.ndim < 2 or x.shape[1] != components:
        msg = f"x must have shape [N, {components}, ...], got {tuple(x.shape)}"
        raise ShapeError(msg)
