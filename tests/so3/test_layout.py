from __future__ import annotations

import pytest
import torch

from torch_cormorant.errors import DegreeError, DtypeError, ShapeError
from torch_cormorant.so3 import (
    MAX_DEGREE,
    basis_matrix,
    cat_degrees,
    check_degree,
    check_vector,
    degree_index,
    degree_slice,
    degree_slices,
    dim,
    dot,
    from_complex_basis,
    lmax_of,
    norm_squared,
    split_degrees,
    to_complex_basis,
)


def random_vector(lmax: int, planes: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(lmax)
    shape = (5, dim(lmax), planes, 3)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("lmax", range(MAX_DEGREE + 1))
def test_packed_axis_lists_the_degrees_in_order(lmax: int) -> None:
    expected = [l for l in range(lmax + 1) for _ in range(-l, l + 1)]
    assert dim(lmax) == len(expected)
    assert lmax_of(len(expected)) == lmax
    assert degree_index(lmax).tolist() == expected
    assert [s.start for s in degree_slices(lmax)] == [l * l for l in range(lmax + 1)]
    for l in range(lmax + 1):
        assert expected[degree_slice(l)] == [l] * (2 * l + 1)


@pytest.mark.parametrize("M", [-4, 0, 2, 3, 5, 15])
def test_length_that_is_no_square_is_refused(M: int) -> None:
    with pytest.raises(ShapeError, match=str(M)):
        lmax_of(M)


@pytest.mark.parametrize("l", [-1, 9, 2.0, "3", True, None])
def test_bad_degree_is_refused_by_name(l: object) -> None:
    with pytest.raises(DegreeError, match="lmax_sh"):
        check_degree(l, "lmax_sh")  # type: ignore[arg-type]


def test_axis_beyond_the_tables_is_refused() -> None:
    with pytest.raises(DegreeError, match="9"):
        lmax_of(100)


@pytest.mark.parametrize("axis", [1, -3])
def test_split_and_cat_are_inverse(axis: int) -> None:
    x = random_vector(3)
    parts = split_degrees(x, 3, axis)
    assert [part.size(axis) for part in parts] == [1, 3, 5, 7]
    assert torch.equal(cat_degrees(parts, axis), x)


def test_split_returns_views() -> None:
    x = random_vector(1)
    assert split_degrees(x, 1)[1].data_ptr() == x[:, 1:].data_ptr()


@pytest.mark.parametrize("axis", [0, 2, 4, -5])
def test_split_of_a_wrong_axis_is_refused(axis: int) -> None:
    with pytest.raises(ShapeError, match="16"):
        split_degrees(random_vector(3), 3, axis)


def test_cat_with_a_missing_degree_is_refused() -> None:
    with pytest.raises(ShapeError, match="part 1"):
        cat_degrees([torch.zeros(2, 1), torch.zeros(2, 5)])
    with pytest.raises(DegreeError):
        cat_degrees([])


@pytest.mark.parametrize("l", range(MAX_DEGREE + 1))
def test_basis_matrix_is_unitary(l: int) -> None:
    U = basis_matrix(l)
    identity = torch.eye(2 * l + 1, dtype=U.dtype)
    assert (U @ U.mH - identity).abs().max() < 1e-15


def test_basis_matrix_must_be_complex() -> None:
    with pytest.raises(DtypeError, match="float64"):
        basis_matrix(1, torch.float64)


@pytest.mark.parametrize("planes", [1, 2])
def test_complex_basis_round_trip(planes: int) -> None:
    x = random_vector(4, planes)
    parts = to_complex_basis(x)
    assert [tuple(part.shape) for part in parts] == [
        (5, 3, 2 * l + 1) for l in range(5)
    ]
    back = from_complex_basis(parts)
    assert back.shape == (5, 25, 2, 3)
    assert (back[:, :, :planes] - x).abs().max() < 1e-15
    if planes == 1:
        assert back[:, :, 1].abs().max() < 1e-15


def test_dot_and_norm_keep_their_meaning_in_the_complex_basis() -> None:
    a, b = random_vector(3), random_vector(3).flip(0)
    A, B = to_complex_basis(a), to_complex_basis(b)
    for l in range(4):
        sign = torch.tensor([(-1.0) ** m for m in range(-l, l + 1)])
        product = (sign * A[l] * B[l].flip(-1)).sum(-1)
        found = torch.complex(*dot(a, b)[:, l].unbind(1))
        assert (found - product).abs().max() < 1e-14
        norm = A[l].abs().square().sum(-1)
        assert (norm_squared(a)[:, l] - norm).abs().max() < 1e-13


def test_complex_basis_keeps_the_precision() -> None:
    parts = to_complex_basis(random_vector(2).float())
    assert {part.dtype for part in parts} == {torch.complex64}
    assert from_complex_basis(parts).dtype == torch.float32


def test_complex_basis_refuses_what_it_cannot_read() -> None:
    with pytest.raises(DtypeError, match="bfloat16"):
        to_complex_basis(random_vector(1).bfloat16())
    with pytest.raises(DtypeError, match="part 0"):
        from_complex_basis([torch.zeros(1, 1, 1)])
    with pytest.raises(ShapeError, match="part 0"):
        from_complex_basis([torch.zeros(1, 1, dtype=torch.complex128)])
    with pytest.raises(ShapeError, match="part 1"):
        from_complex_basis(
            [torch.zeros(2, 4, n, dtype=torch.complex64) for n in (1, 5)]
        )


@pytest.mark.parametrize("shape", [(5, 16), (5, 16, 3, 4), (5, 15, 2, 4)])
def test_tensor_that_is_no_vector_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError):
        check_vector(torch.zeros(shape), "x")
