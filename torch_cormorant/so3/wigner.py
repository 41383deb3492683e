"""Wigner matrices in the real basis."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from torch_cormorant.cg import clebsch_gordan
from torch_cormorant.errors import ConfigError, DtypeError, ShapeError
from torch_cormorant.so3.layout import check_degree, dim

_TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-4}
_LOW_PRECISION_TOLERANCE = 5e-2


def wigner_D(R: Tensor, lmax: int) -> Tensor:
    r"""Wigner matrices of rotations, all degrees ``0..lmax`` as one block diagonal.

    They rotate the packed axis of SO(3)-vectors: :math:`Y(R\mathbf v) = D(R)\,
    Y(\mathbf v)`. Degree one is R itself in the order (y, z, x); every further degree
    comes from the one before by the real Clebsch-Gordan tables,

    .. math::
        D^l_{mm'} = \sum_{aba'b'} C_{abm}\,D^{l-1}_{aa'}\,D^1_{bb'}\,C_{a'b'm'},
        \qquad C = C[l - 1, 1, l],

    a polynomial in the entries of R, differentiable to any order. There are no
    angles, hence no special orientation.

    Args:
        R: Proper rotations.
        lmax: Largest degree, at most 8.

    Shapes:
        - R: ``[..., 3, 3]``, acting on columns (x, y, z).
        - returns: ``[..., M, M]``, ``M = (lmax + 1)**2``.

    Returns:
        Orthogonal matrices in the dtype of ``R``, computed in float64.

    Raises:
        ShapeError: If the last two axes of ``R`` are not 3 x 3.
        DtypeError: If ``R`` is not a real floating-point tensor.
        DegreeError: If ``lmax`` is not an integer between 0 and 8.
        ConfigError: If ``R`` is not orthogonal within 1e-5 (float64) or 1e-4
            (float32), or is a reflection. Not checked under ``torch.compile``.

    Note:
        Made for tests, for turning data and for frames, not for a network's inner
        loop: the cost grows as lmax to the fourth power.

    Example:
        >>> quarter_turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
        >>> wigner_D(quarter_turn, 1)[1:, 1:]
        tensor([[ 0.,  0.,  1.],
                [ 0.,  1.,  0.],
                [-1.,  0.,  0.]])
    """
    check_degree(lmax)
    _check_rotations(R)
    rotation = R.to(torch.float64)
    # Y_1 = (y, z, x); a list of places would be copied to a GPU in every call.
    first = rotation.roll((-1, -1), (-2, -1))
    blocks = [torch.ones_like(first[..., :1, :1]), first][: lmax + 1]
    for l in range(2, lmax + 1):
        blocks.append(_next_degree(blocks[-1], first, l))
    return _block_diagonal(blocks, dim(lmax)).to(R.dtype)


def _next_degree(previous: Tensor, first: Tensor, l: int) -> Tensor:
    """Matrices of degree l from those of degree l - 1 and of degree 1."""
    table = clebsch_gordan(l - 1, 1, l, dtype=first.dtype, device=first.device)
    half = torch.einsum("abm,...ac,...bd->...cdm", table, previous, first)
    return torch.einsum("...cdm,cdn->...mn", half, table)


def _block_diagonal(blocks: list[Tensor], size: int) -> Tensor:
    """Put blocks on the diagonal, by padding: no write in place."""
    rows, offset = [], 0
    for block in blocks:
        width = block.size(-1)
        rows.append(pad(block, (offset, size - offset - width)))
        offset += width
    return torch.cat(rows, dim=-2)


def _check_rotations(R: Tensor) -> None:
    """Check that ``R`` holds proper rotations."""
    if not R.is_floating_point():
        raise DtypeError(f"R must be a real floating-point tensor, got {R.dtype}")
    if R.dim() < 2 or R.shape[-2:] != (3, 3):
        raise ShapeError(f"R must have shape [..., 3, 3], got {tuple(R.shape)}")
    if torch.compiler.is_compiling() or R.numel() == 0:
        return
    matrices = R.detach().to(torch.float64)
    identity = torch.eye(3, dtype=torch.float64, device=R.device)
    deviation = float((matrices @ matrices.mT - identity).abs().max())
    tolerance = _TOLERANCE.get(R.dtype, _LOW_PRECISION_TOLERANCE)
    if not deviation <= tolerance:
        raise ConfigError(
            f"R must be orthogonal within {tolerance:g}, but R R^T differs from the "
            f"identity by {deviation:.1e}; make rotations with random_rotation or "
            "rotation_from_axis_angle"
        )
    if float(torch.linalg.det(matrices).min()) < 0:
        raise ConfigError(
            "R contains a reflection (determinant -1). SO(3)-vectors carry no parity, "
            "so reflections have no matrix D; give proper rotations only"
        )
