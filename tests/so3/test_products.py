from __future__ import annotations

import pytest
import torch
from torch import Tensor

from torch_cormorant.errors import DtypeError, ShapeError
from torch_cormorant.so3 import (
    degree_slice,
    dot,
    norm_squared,
    random_rotation,
    spherical_harmonics,
    wigner_D,
)


def random_pair(planes: int) -> tuple[Tensor, Tensor]:
    shape = (6, 16, planes, 5)
    return torch.randn(shape).double(), torch.randn(shape).double()


def as_complex(x: Tensor) -> Tensor:
    return torch.complex(x[:, :, 0], x[:, :, -1] if x.size(2) == 2 else 0 * x[:, :, 0])


@pytest.mark.parametrize("planes", [1, 2])
def test_dot_is_the_bilinear_sum_of_each_degree(planes: int) -> None:
    a, b = random_pair(planes)
    found = dot(a, b)
    assert found.shape == (6, 4, planes, 5)
    for l in range(4):
        part = degree_slice(l)
        expected = (as_complex(a)[:, part] * as_complex(b)[:, part]).sum(1)
        assert (as_complex(found)[:, l] - expected).abs().max() < 1e-14
    assert torch.equal(found, dot(b, a))


@pytest.mark.parametrize("planes", [1, 2])
def test_norm_is_the_hermitian_sum_of_each_degree(planes: int) -> None:
    a, _ = random_pair(planes)
    found = norm_squared(a)
    assert found.shape == (6, 4, 5)
    for l in range(4):
        expected = as_complex(a)[:, degree_slice(l)].abs().square().sum(1)
        assert (found[:, l] - expected).abs().max() < 1e-13


def test_rotations_change_neither() -> None:
    a, b = random_pair(2)
    D = wigner_D(random_rotation(generator=torch.Generator().manual_seed(0)), 3)
    turned_a, turned_b = (torch.einsum("mk,nkpc->nmpc", D, x) for x in (a, b))
    assert (dot(turned_a, turned_b) - dot(a, b)).abs().max() < 1e-13
    assert (norm_squared(turned_a) - norm_squared(a)).abs().max() < 1e-13


def test_dots_of_harmonics_are_legendre_polynomials() -> None:
    u, v = torch.randn(2, 10, 3, dtype=torch.float64)
    cosine = (u * v).sum(1) / (u.norm(dim=1) * v.norm(dim=1))
    found = dot(*(spherical_harmonics(w, 3)[:, :, None, None] for w in (u, v)))
    expected = [1 + 0 * cosine, cosine, 1.5 * cosine**2 - 0.5]
    expected.append(2.5 * cosine**3 - 1.5 * cosine)
    assert (found[:, :, 0, 0] - torch.stack(expected, 1)).abs().max() < 1e-14


def test_no_atoms_and_no_channels_are_fine() -> None:
    assert dot(torch.zeros(0, 9, 2, 4), torch.zeros(0, 9, 2, 4)).shape == (0, 3, 2, 4)
    assert norm_squared(torch.zeros(3, 9, 1, 0)).shape == (3, 3, 0)


def test_operands_that_do_not_fit_are_refused() -> None:
    a, b = random_pair(2)
    with pytest.raises(ShapeError, match="same shape"):
        dot(a, b[:, :9])
    with pytest.raises(DtypeError, match="same dtype"):
        dot(a, b.float())
    with pytest.raises(ShapeError, match="a must be"):
        norm_squared(a[0])
