r"""Multipoles of charges by the tables of the networks: moments, tensors, energies.

Anderson, Hy and Kondor 2019, sections 2 and 3: the interaction of two clouds of charges
is a sum of Clebsch-Gordan products of their moments with the vector between them, which
is what a covariant layer computes.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from torch_cormorant.cg import clebsch_gordan
from torch_cormorant.errors import ConfigError, DegreeError, DtypeError, ShapeError
from torch_cormorant.ops.segment import scatter_sum
from torch_cormorant.so3 import spherical_harmonics
from torch_cormorant.so3.layout import check_degree, lmax_of

__all__ = [
    "cartesian_to_spherical",
    "dipole_dipole_energy",
    "multipole_energy",
    "multipole_moments",
    "spherical_to_cartesian",
]

HIGHEST = 8
"""Largest degree of the tables."""


def multipole_moments(
    charges: Tensor,
    pos: Tensor,
    lmax: int,
    batch: Tensor | None = None,
    num_graphs: int | None = None,
) -> Tensor:
    r"""Spherical multipole moments of point charges about the origin.

    .. math:: Q_{lm} = \sum_i q_i \, r_i^l \, Y_{lm}(r_i / |r_i|), \qquad
        \sum_m Y_{lm}^2 = 1

    Degree 0 is the charge, degree 1 the dipole moment, as (y, z, x). Anderson et al.
    2019, eq. (3), with these harmonics.

    Args:
        charges: :math:`q_i` ``[N]``.
        pos: Positions from the origin ``[N, 3]``.
        lmax: Largest degree.
        batch: Cloud of each charge ``[N]``; None: one cloud.
        num_graphs: Number of clouds B. Default: the largest of ``batch`` plus 1.

    Returns:
        ``[B, (lmax + 1)^2]``.

    Raises:
        ShapeError, DtypeError, DegreeError: If an argument does not fit.

    Example:
        >>> import torch
        >>> pos = torch.tensor([[0.0, 0, 0.5], [0, 0, -0.5]])
        >>> multipole_moments(torch.tensor([1.0, -1.0]), pos, 1).tolist()
        [[0.0, 0.0, 1.0, 0.0]]
    """
    check_degree(lmax, "lmax")
    if pos.ndim != 2 or pos.shape[1] != 3 or charges.shape != pos.shape[:1]:
        msg = (
            "charges and pos must have shapes [N] and [N, 3], got "
            f"{list(charges.shape)} and {list(pos.shape)}"
        )
        raise ShapeError(msg)
    if charges.dtype != pos.dtype:
        raise DtypeError(f"charges are {charges.dtype}, pos {pos.dtype}; convert one")
    rows = charges.unsqueeze(1) * spherical_harmonics(pos, lmax, normalize=False)
    if batch is None:
        return rows.sum(0, keepdim=True)
    count = int(batch.max()) + 1 if num_graphs is None else num_graphs
    return scatter_sum(rows, batch, count)


def cartesian_to_spherical(tensor: Tensor, l: int) -> Tensor:
    r"""Components of degree l of Cartesian tensors of rank l.

    .. math:: Q_{lm} = \sum_{i_1 \ldots i_l} E^{lm}_{i_1 \ldots i_l}
        T_{i_1 \ldots i_l}, \qquad
        \sum E^{lm}_{i_1 \ldots i_l} r_{i_1} \cdots r_{i_l} = r^l \, Y_{lm}(r)

    so that :math:`\sum_i q_i \, r_i \otimes \cdots \otimes r_i` becomes
    :func:`multipole_moments`. Only the symmetric traceless part is read.

    Args:
        tensor: ``[..., 3, ..., 3]``, l axes of x, y, z behind all others.
        l: The degree.

    Returns:
        ``[..., 2l + 1]``.

    Raises:
        ShapeError, DegreeError: If an argument does not fit.

    Example:
        >>> import torch
        >>> cartesian_to_spherical(torch.tensor([1.0, 2.0, 3.0]), 1)
        tensor([2., 3., 1.])
    """
    check_degree(l, "l")
    if tensor.ndim < l or any(size != 3 for size in tensor.shape[tensor.ndim - l :]):
        msg = f"a tensor of rank {l} ends in {l} axes of 3, got {list(tensor.shape)}"
        raise ShapeError(msg)
    flat = tensor.reshape(*tensor.shape[: tensor.ndim - l], 3**l)
    return flat @ _basis(l).to(flat)


def spherical_to_cartesian(q: Tensor, l: int) -> Tensor:
    r"""Symmetric traceless Cartesian tensors from their components of degree l.

    The inverse of :func:`cartesian_to_spherical` there: :math:`T = \frac{l!}
    {(2l - 1)!!} \sum_m Q_{lm} E^{lm}`. Of moments of charges it is the traceless part
    of :math:`\sum_i q_i \, r_i \otimes \cdots \otimes r_i`.

    Args:
        q: ``[..., 2l + 1]``.
        l: The degree.

    Returns:
        ``[..., 3, ..., 3]`` with l axes.

    Raises:
        ShapeError, DegreeError: If an argument does not fit.

    Example:
        >>> import torch
        >>> spherical_to_cartesian(torch.tensor([2.0, 3.0, 1.0]), 1)
        tensor([1., 2., 3.])
    """
    check_degree(l, "l")
    if q.ndim < 1 or q.shape[-1] != 2 * l + 1:
        raise ShapeError(f"q must end in {2 * l + 1} components, got {list(q.shape)}")
    factor = math.factorial(l) / math.prod(range(1, 2 * l, 2))
    return (q @ _basis(l).T.to(q) * factor).reshape((*q.shape[:-1], *[3] * l))


def multipole_energy(
    a: Tensor, b: Tensor, vector: Tensor, max_degree: int = HIGHEST
) -> Tensor:
    r"""Energy of two clouds of charges by their moments.

    With :math:`R = r_A - r_B` from the origin of B to that of A,

    .. math::
        V = \sum_{l, l'} (-1)^l \sqrt{\tbinom{2l + 2l'}{2l}} \, R^{-l - l' - 1} \;
        Y_{l + l'}(R) \cdot \big( Q^A_l \otimes Q^B_{l'} \big)_{l + l'}

    Anderson et al. 2019, eq. (6), where the sign :math:`(-1)^l` is missing. It
    converges where the clouds do not touch; charges and lengths in units in which two
    charges of one at distance one have the energy one.

    Args:
        a: Moments of A about its origin ``[N, (L + 1)^2]``.
        b: Moments of B about its origin ``[N, (L' + 1)^2]``.
        vector: R ``[N, 3]``.
        max_degree: Largest :math:`l + l'`, at most 8. Default 8.

    Returns:
        ``[N]``.

    Raises:
        ShapeError: The numbers of rows differ, or rows are no moments.
        DegreeError: ``max_degree`` is beyond the tables.

    Example:
        >>> import torch
        >>> one = torch.tensor([[2.0]])
        >>> multipole_energy(one, 3 * one, torch.tensor([[0.0, 0.0, 4.0]]))
        tensor([3.])
    """
    if not 0 <= max_degree <= HIGHEST:
        msg = f"max_degree must be 0 to {HIGHEST}, got {max_degree}"
        raise DegreeError(msg)
    sizes = {a.shape[0], b.shape[0], vector.shape[0]}
    if a.ndim != 2 or b.ndim != 2 or vector.shape[1:] != (3,) or len(sizes) != 1:
        msg = (
            "a, b and vector must have shapes [N, M], [N, M'] and [N, 3], got "
            f"{list(a.shape)}, {list(b.shape)}, {list(vector.shape)}"
        )
        raise ShapeError(msg)
    tops = lmax_of(a.shape[1]), lmax_of(b.shape[1])
    highest = min(sum(tops), max_degree)
    # r^l Y_l / r^(2l + 1): no division by zero hides behind a direction
    solid = spherical_harmonics(vector, highest, normalize=False)
    inverse = vector.square().sum(1).rsqrt()
    energy = vector.new_zeros(vector.shape[0])
    for l in range(tops[0] + 1):
        for k in range(min(tops[1], highest - l) + 1):
            top = l + k
            table = clebsch_gordan(l, k, top, dtype=a.dtype, device=a.device)
            coupled = torch.einsum("abm,na,nb->nm", table, _degree(a, l), _degree(b, k))
            factor = (-1) ** l * math.sqrt(math.comb(2 * top, 2 * l))
            dot = (_degree(solid, top) * coupled).sum(1)
            energy = energy + factor * inverse ** (2 * top + 1) * dot
    return energy


def dipole_dipole_energy(a: Tensor, b: Tensor, vector: Tensor) -> Tensor:
    r"""Energy of two dipoles: the case l = l' = 1 of :func:`multipole_energy`.

    .. math:: V = \frac{a \cdot b}{R^3} - \frac{3 \, (a \cdot R)(b \cdot R)}{R^5}

    Anderson et al. 2019, eq. (2).

    Args:
        a: Dipole moments ``[N, 3]``, (x, y, z).
        b: The others ``[N, 3]``.
        vector: From one to the other, R ``[N, 3]``.

    Returns:
        ``[N]``.

    Raises:
        ConfigError: A vector is zero.

    Example:
        >>> import torch
        >>> z = torch.tensor([[0.0, 0.0, 1.0]])
        >>> dipole_dipole_energy(z, z, 2 * z)
        tensor([-0.2500])
    """
    squared = vector.square().sum(-1)
    if bool((squared == 0).any()):
        raise ConfigError("dipoles at the same place have no energy")
    dots = (a * vector).sum(-1) * (b * vector).sum(-1)
    return (a * b).sum(-1) * squared**-1.5 - 3 * dots * squared**-2.5


def _degree(x: Tensor, l: int) -> Tensor:
    return x[:, l * l : (l + 1) ** 2]


@cache
def _basis(l: int) -> Tensor:
    """E: the tensors of ``r^l Y_lm``, ``[3^l, 2l + 1]``, float64."""
    if l == 0:
        return torch.ones(1, 1, dtype=torch.float64)
    axes = torch.eye(3, dtype=torch.float64)[[1, 2, 0]].T  # x, y, z by (y, z, x)
    below = _basis(l - 1)
    table = clebsch_gordan(l - 1, 1, l, device="cpu")
    made = torch.einsum("ia,jb,abm->ijm", below, axes, table).flatten(0, 1)
    return made / float(table[l - 1, 1, l])
