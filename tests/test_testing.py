from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from torch_cormorant.errors import ConfigError, DtypeError, ShapeError
from torch_cormorant.so3 import dot, random_rotation, spherical_harmonics
from torch_cormorant.testing import (
    assert_equivariant,
    assert_invariant,
    equivariance_error,
    random_molecule,
)


@pytest.fixture(params=[torch.float64, torch.float32])
def arguments(request: pytest.FixtureRequest) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(7, 9, 2, 3, generator=generator, dtype=torch.float64)
    vec = torch.randn(7, 3, generator=generator, dtype=torch.float64)
    return x.to(request.param), vec.to(request.param)


def good(x: Tensor, vec: Tensor) -> Tensor:
    return x + spherical_harmonics(vec, 2)[:, :, None, None]


def test_equivariant_function_passes(arguments: tuple[Tensor, Tensor]) -> None:
    assert_equivariant(good, *arguments)
    error = equivariance_error(good, *arguments)
    assert 0 < error < 20 * torch.finfo(arguments[0].dtype).eps


def test_invariant_function_passes(arguments: tuple[Tensor, Tensor]) -> None:
    assert_invariant(lambda x, vec: dot(x, good(x, vec)), *arguments)


def test_vector_function_passes(arguments: tuple[Tensor, Tensor]) -> None:
    def force(x: Tensor, vec: Tensor) -> Tensor:
        return x[:, 0, 0, :1] * vec

    assert_equivariant(force, *arguments, output="vector")
    with pytest.raises(AssertionError, match="'scalar'"):
        assert_equivariant(force, *arguments, output="scalar")


def test_wrong_functions_fail(arguments: tuple[Tensor, Tensor]) -> None:
    def in_order_x_y_z(x: Tensor, vec: Tensor) -> Tensor:
        first = vec[:, :, None, None].expand(7, 3, 2, 3)
        return x + torch.cat([x[:, :1], first, x[:, 4:]], dim=1)

    def slightly_off(x: Tensor, vec: Tensor) -> Tensor:
        result = good(x, vec)
        return torch.cat([result[:, :8], 1.001 * result[:, 8:]], dim=1)

    for function in (in_order_x_y_z, slightly_off):
        with pytest.raises(AssertionError, match="not equivariant"):
            assert_equivariant(function, *arguments)
    with pytest.raises(AssertionError, match="not equivariant"):
        assert_invariant(good, *arguments)


def test_tolerance_and_rotations_are_used(arguments: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(AssertionError, match="tolerance"):
        assert_equivariant(good, *arguments, tolerance=0.0)

    def turned_about_z_only(x: Tensor, vec: Tensor) -> Tensor:
        return x[:, 0] * vec[:, 2, None, None]

    half_turn = torch.diag(torch.tensor([-1.0, -1.0, 1.0])).double()
    assert_invariant(turned_about_z_only, *arguments, rotations=half_turn[None])
    with pytest.raises(AssertionError, match="not equivariant"):
        assert_invariant(turned_about_z_only, *arguments)


def test_check_that_tests_nothing_fails(arguments: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(AssertionError, match="zero"):
        assert_equivariant(lambda x, vec: 0 * good(x, vec), *arguments)
    with pytest.raises(AssertionError, match="nothing"):
        assert_invariant(lambda _, vec: vec[:0], *arguments)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_not_a_number_is_an_error(value: float) -> None:
    vec = torch.eye(3, dtype=torch.float64)
    assert equivariance_error(lambda x, _: x * value, vec, vec, "scalar") == math.inf


def test_zero_that_becomes_something_is_an_error() -> None:
    vec = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)
    error = equivariance_error(lambda _, v: v[:, 0], vec, vec, "scalar")
    assert error == math.inf


def test_arguments_are_left_alone(arguments: tuple[Tensor, Tensor]) -> None:
    copies = [argument.clone() for argument in arguments]
    assert_equivariant(good, *arguments)
    for argument, copy in zip(arguments, copies, strict=True):
        assert torch.equal(argument, copy)


def test_bad_arguments_are_refused() -> None:
    x, vec = torch.ones(4, 1, 2, 3), torch.ones(4, 3)
    with pytest.raises(ConfigError, match="output"):
        equivariance_error(good, x, vec, "tensor")  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="vec"):
        equivariance_error(good, x, vec[:, :2])
    with pytest.raises(ShapeError, match="rotations"):
        equivariance_error(good, x, vec, rotations=random_rotation())
    with pytest.raises(ShapeError, match="result"):
        equivariance_error(lambda *_: torch.ones(4, 2), x, vec, "so3")
    with pytest.raises(ShapeError, match="result"):
        equivariance_error(lambda *_: torch.ones(4, 2), x, vec, "vector")
    with pytest.raises(DtypeError, match="int64"):
        equivariance_error(lambda *_: torch.ones(4, dtype=torch.long), x, vec, "scalar")
    shapes = iter([3, 4])
    with pytest.raises(ShapeError, match="before"):
        equivariance_error(lambda *_: torch.ones(next(shapes)), x, vec, "scalar")


@pytest.mark.parametrize("n", [0, 1, 2, 8, 9, 100])
def test_random_molecule_has_sensible_distances(n: int) -> None:
    z, pos = random_molecule(n, torch.Generator().manual_seed(n))
    assert z.shape == (n,)
    assert pos.shape == (n, 3)
    assert set(z.tolist()) <= {1, 6, 7, 8, 9}
    if n > 1:
        distances = torch.cdist(pos, pos) + 1e3 * torch.eye(n)
        assert distances.min() > 1.0
    assert pos.sum(0).abs().max() < 1e-12


def test_random_molecule_repeats() -> None:
    first, again = random_molecule(9), random_molecule(9)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    other = random_molecule(9, torch.Generator().manual_seed(3), torch.float32)
    assert other[1].dtype == torch.float32
    assert not torch.equal(first[1].float(), other[1])
    with pytest.raises(ConfigError, match="-1"):
        random_molecule(-1)
