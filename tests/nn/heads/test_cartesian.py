from __future__ import annotations

import pytest
import torch

from torch_cormorant import spherical_harmonics, wigner_D
from torch_cormorant.errors import ShapeError
from torch_cormorant.nn.heads import matrix_from_degree_2, vector_from_degree_1
from torch_cormorant.so3 import random_rotation


def test_degree_1_comes_as_x_y_z() -> None:
    vec = torch.randn(5, 3, dtype=torch.float64)
    unit = vec / vec.norm(dim=1, keepdim=True)
    found = vector_from_degree_1(spherical_harmonics(vec, 1)[:, 1:])
    torch.testing.assert_close(found, unit, rtol=1e-14, atol=1e-14)
    copies = vector_from_degree_1(spherical_harmonics(vec, 1)[:, 1:, None])
    assert copies.shape == (5, 3, 1)


def test_degree_2_is_the_quadratic_form_of_its_harmonics() -> None:
    x = torch.randn(4, 5, dtype=torch.float64)
    vec = torch.randn(7, 3, dtype=torch.float64)
    matrix = matrix_from_degree_2(x)
    found = torch.einsum("ka,nab,kb->nk", vec, matrix, vec)
    harmonics = spherical_harmonics(vec, 2)[:, 4:]
    expected = x @ harmonics.T * vec.square().sum(1)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(matrix, matrix.mT, rtol=0, atol=0)
    assert float(matrix.diagonal(dim1=1, dim2=2).sum(1).abs().max()) < 1e-15


def test_matrices_turn_on_both_sides() -> None:
    rotation = random_rotation(3, generator=torch.Generator().manual_seed(1))[0]
    x = torch.randn(4, 5, dtype=torch.float64)
    turned = x @ wigner_D(rotation, 2)[4:, 4:].T
    expected = rotation @ matrix_from_degree_2(x) @ rotation.T
    torch.testing.assert_close(
        matrix_from_degree_2(turned), expected, rtol=1e-13, atol=1e-13
    )


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"\[N, 3, ...\], got \(5, 4\)"):
        vector_from_degree_1(torch.zeros(5, 4))
    with pytest.raises(ShapeError, match=r"\[N, 5, ...\], got \(5,\)"):
        matrix_from_degree_2(torch.zeros(5))
