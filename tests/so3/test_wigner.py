from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from torch_cormorant.cg import clebsch_gordan, paths
from torch_cormorant.errors import ConfigError, DegreeError, DtypeError, ShapeError
from torch_cormorant.so3 import (
    cube_rotations,
    degree_slice,
    random_rotation,
    rotation_from_axis_angle,
    spherical_harmonics,
    wigner_D,
)

LMAX = 8


@pytest.fixture
def rotations() -> Tensor:
    return random_rotation(100, torch.Generator().manual_seed(0))


@pytest.fixture
def vectors() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(100, 3, generator=generator, dtype=torch.float64)


def apply(matrices: Tensor, vectors: Tensor) -> Tensor:
    return torch.einsum("nij,nj->ni", matrices, vectors)


def test_harmonics_of_rotated_vectors(rotations: Tensor, vectors: Tensor) -> None:
    rotated = spherical_harmonics(apply(rotations, vectors), LMAX)
    expected = apply(wigner_D(rotations, LMAX), spherical_harmonics(vectors, LMAX))
    assert (rotated - expected).abs().max() < 1e-13


def test_harmonics_under_the_rotations_of_the_cube(vectors: Tensor) -> None:
    rotations, vectors = cube_rotations(), vectors[:24]
    D = wigner_D(rotations, LMAX)
    rotated = spherical_harmonics(apply(rotations, vectors), LMAX)
    assert (rotated - apply(D, spherical_harmonics(vectors, LMAX))).abs().max() < 1e-13
    # A quarter turn about z only exchanges the components m and -m.
    about_z = D[(rotations[:, 2, 2] == 1).nonzero()[:, 0]]
    assert len(about_z) == 4
    assert (about_z.abs() - about_z.abs().round()).abs().max() < 1e-13


def test_matrices_are_orthogonal(rotations: Tensor) -> None:
    D = wigner_D(rotations, LMAX)
    identity = torch.eye((LMAX + 1) ** 2, dtype=torch.float64)
    assert (D @ D.mT - identity).abs().max() < 1e-13
    assert (torch.linalg.det(D) - 1).abs().max() < 1e-12


def test_matrices_follow_the_group_law(rotations: Tensor) -> None:
    first, second = rotations[:50], rotations[50:]
    product = wigner_D(first, LMAX) @ wigner_D(second, LMAX)
    assert (product - wigner_D(first @ second, LMAX)).abs().max() < 1e-13
    inverse = wigner_D(first.mT.contiguous(), LMAX)
    assert (inverse - wigner_D(first, LMAX).mT).abs().max() < 1e-13


def test_identity_gives_the_identity() -> None:
    D = wigner_D(torch.eye(3, dtype=torch.float64), LMAX)
    assert (D - torch.eye((LMAX + 1) ** 2, dtype=torch.float64)).abs().max() < 1e-14


def test_degree_one_is_the_rotation_in_the_order_y_z_x(rotations: Tensor) -> None:
    order = torch.tensor([1, 2, 0])
    expected = rotations[:, order][:, :, order]
    D = wigner_D(rotations, 1)
    assert torch.equal(D[:, 1:, 1:], expected)
    assert torch.equal(D[:, 0], torch.eye(4, dtype=torch.float64)[0].expand(100, 4))


def test_degrees_do_not_mix(rotations: Tensor) -> None:
    D = wigner_D(rotations, 4)
    for l in range(5):
        block = degree_slice(l)
        assert not D[:, block, : block.start].any()
        assert not D[:, block, block.stop :].any()


def test_tables_couple_rotated_operands(rotations: Tensor) -> None:
    D = wigner_D(rotations[:3], 4)
    for l1, l2, l in paths(4, 4, 4):
        C = clebsch_gordan(l1, l2, l)
        D1, D2, D3 = (D[:, degree_slice(k), degree_slice(k)] for k in (l1, l2, l))
        left = torch.einsum("abm,nax,nby->nxym", C, D1, D2)
        right = torch.einsum("xyk,nmk->nxym", C, D3)
        assert (left - right).abs().max() < 1e-13


def test_gradients_through_axis_and_angle() -> None:
    generator = torch.Generator().manual_seed(2)
    axis = torch.randn(2, 3, generator=generator, dtype=torch.float64)
    axis[0] = torch.tensor([0.0, 0.0, 1.0])
    angle = torch.tensor([0.0, 2.5], dtype=torch.float64)
    fixed = torch.randn(16, generator=generator, dtype=torch.float64)

    def function(axis: Tensor, angle: Tensor) -> Tensor:
        # One fixed vector, as a full matrix of outputs makes the check slow.
        return wigner_D(rotation_from_axis_angle(axis, angle), 3) @ fixed

    inputs = (axis.requires_grad_(), angle.requires_grad_())
    assert gradcheck(function, inputs, atol=1e-8, rtol=1e-6)
    assert gradgradcheck(function, inputs, atol=1e-7, rtol=1e-5)


def test_float32_is_rounded_only_at_the_end(rotations: Tensor) -> None:
    R = rotations.float()
    D = wigner_D(R, LMAX)
    assert D.dtype == torch.float32
    assert torch.equal(D, wigner_D(R.double(), LMAX).float())


@pytest.mark.parametrize("shape", [(), (0,), (4,), (2, 3)])
def test_leading_axes_are_kept(shape: tuple[int, ...]) -> None:
    R = random_rotation(math.prod(shape)).reshape(*shape, 3, 3)
    D = wigner_D(R, 3)
    assert D.shape == (*shape, 16, 16)
    for found, rotation in zip(D.reshape(-1, 16, 16), R.reshape(-1, 3, 3), strict=True):
        assert (found - wigner_D(rotation, 3)).abs().max() < 1e-15


def test_reflection_has_no_matrix() -> None:
    with pytest.raises(ConfigError, match=r"reflection.*parity"):
        wigner_D(torch.diag(torch.tensor([1.0, 1.0, -1.0])), 2)


@pytest.mark.parametrize("value", [1.001, 0.0, math.nan])
def test_matrix_that_is_no_rotation_is_refused(value: float) -> None:
    with pytest.raises(ConfigError, match="orthogonal"):
        wigner_D(value * torch.eye(3), 2)


@pytest.mark.parametrize("shape", [(3,), (3, 4), (2, 3), (3, 3, 2)])
def test_wrong_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="R must"):
        wigner_D(torch.ones(shape), 2)


def test_wrong_type_and_degree_are_refused() -> None:
    with pytest.raises(DtypeError, match="R must"):
        wigner_D(torch.eye(3, dtype=torch.int64), 2)
    with pytest.raises(DegreeError, match="lmax"):
        wigner_D(torch.eye(3), 9)
