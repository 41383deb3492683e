from __future__ import annotations

import math

import pytest
import torch

from torch_cormorant.errors import ConfigError, DtypeError, ShapeError
from torch_cormorant.so3 import (
    cube_rotations,
    random_rotation,
    rotation_from_axis_angle,
)

IDENTITY = torch.eye(3, dtype=torch.float64)


def test_random_rotations_are_proper_rotations() -> None:
    R = random_rotation(1000)
    assert (R @ R.mT - IDENTITY).abs().max() < 1e-14
    assert (torch.linalg.det(R) - 1).abs().max() < 1e-14


def test_random_rotations_are_uniform() -> None:
    R = random_rotation(40000, torch.Generator().manual_seed(0))
    # Moments of the uniform measure: E[R] = 0, E[R_ij R_kl] = delta delta / 3.
    rows = R.reshape(-1, 9)
    assert rows.mean(0).abs().max() < 0.02
    second = rows.T @ rows / len(rows)
    assert (second - torch.eye(9, dtype=torch.float64) / 3).abs().max() < 0.02


def test_random_rotations_repeat_with_their_generator() -> None:
    first = random_rotation(5, torch.Generator().manual_seed(7))
    assert torch.equal(first, random_rotation(5, torch.Generator().manual_seed(7)))
    assert not torch.equal(first, random_rotation(5, torch.Generator().manual_seed(8)))
    single = random_rotation(generator=torch.Generator().manual_seed(7))
    assert single.shape == (3, 3)
    assert random_rotation(0).shape == (0, 3, 3)
    assert random_rotation(2, dtype=torch.float32).dtype == torch.float32


def test_random_rotation_refuses_bad_arguments() -> None:
    with pytest.raises(ConfigError, match="-1"):
        random_rotation(-1)
    with pytest.raises(DtypeError, match="int64"):
        random_rotation(dtype=torch.int64)


@pytest.mark.parametrize(("axis", "start", "end"), [(0, 1, 2), (1, 2, 0), (2, 0, 1)])
def test_quarter_turn_is_counter_clockwise(axis: int, start: int, end: int) -> None:
    angle = torch.tensor(math.pi / 2, dtype=torch.float64)
    R = rotation_from_axis_angle(3.0 * IDENTITY[axis], angle)
    assert (R @ IDENTITY[start] - IDENTITY[end]).abs().max() < 1e-15
    assert (R @ IDENTITY[axis] - IDENTITY[axis]).abs().max() < 1e-15


def test_axis_and_angle_broadcast_and_agree_with_the_exponential() -> None:
    axes = torch.randn(4, 3, dtype=torch.float64)
    angles = torch.linspace(-4, 4, 5, dtype=torch.float64)
    R = rotation_from_axis_angle(axes[:, None], angles)
    assert R.shape == (4, 5, 3, 3)
    for axis, row in zip(axes / axes.norm(dim=1, keepdim=True), R, strict=True):
        generator = torch.linalg.cross(axis.expand(3, 3), IDENTITY, dim=1).T
        for angle, matrix in zip(angles, row, strict=True):
            assert (torch.linalg.matrix_exp(angle * generator) - matrix).abs().max() < (
                1e-13
            )


def test_axis_without_direction_is_refused() -> None:
    with pytest.raises(ConfigError, match="zero vector"):
        rotation_from_axis_angle(torch.zeros(3), torch.tensor(1.0))
    with pytest.raises(ShapeError, match="axis"):
        rotation_from_axis_angle(torch.ones(2), torch.tensor(1.0))
    with pytest.raises(DtypeError, match="axis"):
        rotation_from_axis_angle(torch.ones(3, dtype=torch.int64), torch.tensor(1.0))


def test_cube_rotations_are_the_group_of_24() -> None:
    R = cube_rotations()
    assert torch.equal(R[0], IDENTITY)
    assert torch.equal(torch.linalg.det(R), torch.ones(24, dtype=torch.float64))
    assert torch.equal(R @ R.mT, IDENTITY.expand(24, 3, 3))
    codes = {tuple(matrix.flatten().tolist()) for matrix in R}
    assert len(codes) == 24
    products = (R[:, None] @ R).reshape(-1, 9)
    assert {tuple(row) for row in products.tolist()} == codes
