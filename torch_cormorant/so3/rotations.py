"""Rotation matrices."""

from __future__ import annotations

from itertools import permutations, product

import torch
from torch import Tensor

from torch_cormorant.errors import ConfigError, DtypeError, ShapeError


def random_rotation(
    n: int | None = None,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str | None = None,
) -> Tensor:
    """Random rotations, uniform over SO(3) (from normally distributed quaternions).

    Args:
        n: How many; ``None`` gives a single matrix.
        generator: Source of the random numbers, on ``device``; torch's own if
            ``None``.
        dtype: Type of the result; the numbers are computed in float64.
        device: Device of the result.

    Shapes:
        - returns: ``[3, 3]``, or ``[n, 3, 3]``.

    Returns:
        Rotation matrices, orthogonal to the last digits of ``dtype``.

    Raises:
        ConfigError: If ``n`` is negative.
        DtypeError: If ``dtype`` is not a real floating-point type.

    Example:
        >>> R = random_rotation(generator=torch.Generator().manual_seed(0))
        >>> bool(torch.allclose(R @ R.T, torch.eye(3, dtype=R.dtype)))
        True
    """
    if n is not None and n < 0:
        raise ConfigError(f"n must be at least 0, got {n}")
    if not dtype.is_floating_point:
        raise DtypeError(f"dtype must be a real floating-point type, got {dtype}")
    q = torch.randn(
        (1 if n is None else n, 4),
        generator=generator,
        dtype=torch.float64,
        device=device,
    )
    w, x, y, z = (q / q.norm(dim=-1, keepdim=True)).unbind(-1)
    entries = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    matrices = torch.stack(entries, dim=-1).reshape(-1, 3, 3).to(dtype)
    return matrices[0] if n is None else matrices


def rotation_from_axis_angle(axis: Tensor, angle: Tensor) -> Tensor:
    r"""Rotation by an angle about an axis, counter-clockwise seen from its tip.

    Rodrigues' formula with the unit vector a along the axis,

    .. math::
        R = \cos\theta\,1 + \sin\theta\,[a]_\times + (1 - \cos\theta)\,a a^T.

    Args:
        axis: Axes, of any length but zero.
        angle: Angles in radians.

    Shapes:
        - axis: ``[..., 3]``, components x, y, z.
        - angle: ``[...]``, broadcast against the leading axes of ``axis``.
        - returns: ``[..., 3, 3]``.

    Returns:
        Rotation matrices, differentiable in both arguments.

    Raises:
        ShapeError: If the last axis of ``axis`` does not have three components.
        DtypeError: If ``axis`` is not a real floating-point tensor.
        ConfigError: If an axis has length zero.

    Example:
        >>> z = torch.tensor([0.0, 0.0, 1.0])
        >>> quarter_turn = rotation_from_axis_angle(z, torch.tensor(torch.pi / 2))
        >>> (quarter_turn @ torch.tensor([1.0, 0.0, 0.0])).round().tolist()
        [-0.0, 1.0, 0.0]
    """
    if not axis.is_floating_point():
        raise DtypeError(f"axis must be a real floating-point tensor, got {axis.dtype}")
    if axis.dim() == 0 or axis.size(-1) != 3:
        raise ShapeError(f"axis must have shape [..., 3], got {tuple(axis.shape)}")
    length = axis.norm(dim=-1, keepdim=True)
    if bool((length == 0).any()):
        raise ConfigError("axis must not be the zero vector: it has no direction")
    x, y, z = (axis / length).unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1)
    unit = torch.stack([x, y, z], dim=-1)
    outer = unit.unsqueeze(-1) * unit.unsqueeze(-2)
    identity = torch.eye(3, dtype=axis.dtype, device=axis.device)
    cosine = angle.cos()[..., None, None]
    sine = angle.sin()[..., None, None]
    skew = cross.reshape(*cross.shape[:-1], 3, 3)
    return cosine * identity + sine * skew + (1 - cosine) * outer


def cube_rotations(
    dtype: torch.dtype = torch.float64, device: torch.device | str | None = None
) -> Tensor:
    """The 24 rotations of the cube, entries exactly -1, 0 or 1.

    They map axes onto axes, which random rotations never do.

    Args:
        dtype: Type of the result.
        device: Device of the result.

    Shapes:
        - returns: ``[24, 3, 3]``, the identity first.

    Returns:
        The rotation matrices.

    Example:
        >>> cube_rotations().shape
        torch.Size([24, 3, 3])
    """
    matrices = []
    for order in permutations(range(3)):
        inversions = sum(order[i] > order[j] for i in range(3) for j in range(i + 1, 3))
        for signs in product((1, -1), repeat=3):
            if (-1) ** inversions * signs[0] * signs[1] * signs[2] == 1:
                rows = [[0, 0, 0] for _ in range(3)]
                for row in range(3):
                    rows[row][order[row]] = signs[row]
                matrices.append(rows)
    return torch.tensor(matrices, dtype=dtype, device=device)
