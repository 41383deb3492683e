"""Splines in the place of weights: exact polynomials, the kernel by the reference."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from torch_cormorant import EdgeGeometry, radius_graph
from torch_cormorant.errors import ConfigError, ShapeError
from torch_cormorant.irreps import Irreps
from torch_cormorant.ops import (
    ProductPaths,
    Splines,
    build_plan,
    cpu_kernel,
    spline_table,
    weighted_neighbour_sum,
)
from torch_cormorant.testing import random_molecule

Agree = Callable[..., None]
Tower = Callable[..., list[Tensor]]
BACKENDS = ("portable", "cpu_kernel")
PATHS = ProductPaths("5x0e + 3x1o + 18x2e", Irreps.harmonics(2), "0e + 1o + 2e")
kernel = pytest.mark.skipif(
    bool(cpu_kernel.problem()),
    reason=f"the CPU kernel is {cpu_kernel.problem()}: {cpu_kernel.remedy()}",
)


def draw(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=dtype)


def test_polynomials_of_degree_five_are_exact() -> None:
    def quintic(s: Tensor) -> Tensor:
        x = s / 8 - 0.3
        return torch.stack([x**5 - x**3 + 2 * x, 1 - x**4], dim=1)

    table = spline_table(quintic, 8)
    s = torch.linspace(0, 8, 50, dtype=torch.float64)[1:-1].requires_grad_()
    found, expected = Splines(s, table).rows(), quintic(s)
    assert torch.allclose(found, expected, atol=1e-13)
    (slope,) = torch.autograd.grad(found.sum(), s, create_graph=True)
    (exact,) = torch.autograd.grad(expected.sum(), s)
    assert torch.allclose(slope, exact, atol=1e-13)
    assert gradgradcheck(lambda s: Splines(s, table).rows(), s)


def test_outside_is_nothing() -> None:
    table = spline_table(lambda s: torch.ones(len(s), 3, dtype=s.dtype), 5)
    places = torch.tensor([-1e-9, 0.0, 4.999, 5.0, 100.0], dtype=torch.float64)
    expected = torch.tensor([0.0, 1, 1, 0, 0], dtype=torch.float64)
    assert torch.allclose(Splines(places, table).rows()[:, 1], expected)
    with pytest.raises(ConfigError, match="at least 4"):
        spline_table(lambda s: s.unsqueeze(1), 3)


class Given:
    """Operands of a sum whose edges all have a reverse, some of them beyond the end."""

    def __init__(self, dtype: torch.dtype, *, paired: bool) -> None:
        _, pos = random_molecule(9)
        pos = pos.to(dtype)
        index = radius_graph(pos, 4.0)
        vec = pos[index[1]] - pos[index[0]]
        self.plan = build_plan(index, 9, 9, vec if paired else None)
        length = vec.norm(dim=1)
        if paired:
            assert self.plan.pairs is not None
            length = length[self.plan.pairs.edge]
        self.table = draw(12 + 5, PATHS.weight_numel, dtype=dtype)
        self.inputs = [
            draw(9, PATHS.first.dim, dtype=dtype),
            EdgeGeometry.from_pos(pos, index).sh(2),
            length * 3.5,
        ]

    def __call__(self, backend: str) -> Callable[..., tuple[Tensor, ...]]:
        def function(x: Tensor, sh: Tensor, place: Tensor) -> tuple[Tensor, ...]:
            splines = Splines(place, self.table)
            return weighted_neighbour_sum(x, (self.plan, sh), splines, PATHS, backend)

        return function

    def reference(self, x: Tensor, sh: Tensor, place: Tensor) -> tuple[Tensor, ...]:
        rows = Splines(place, self.table).rows()
        return weighted_neighbour_sum(x, (self.plan, sh), rows, PATHS, "portable")


@kernel
@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_kernel_is_the_sum_of_rows(
    dtype: torch.dtype, paired: bool, tower: Tower, agree: Agree
) -> None:
    """Values and two derivatives along random directions of everything."""
    given = Given(dtype, paired=paired)
    assert bool((given.inputs[2] > 12).any())
    found = tower(given("cpu_kernel"), given.inputs, 2)
    expected = tower(given.reference, given.inputs, 2)
    agree(found, expected, 1e-12 if dtype == torch.float64 else 1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients(backend: str) -> None:
    if backend == "cpu_kernel" and cpu_kernel.problem():
        pytest.skip(f"the CPU kernel is {cpu_kernel.problem()}")
    given = Given(torch.float64, paired=True)
    leaves = [part.requires_grad_() for part in given.inputs]
    assert gradcheck(given(backend), leaves, fast_mode=True)
    assert gradgradcheck(given(backend), leaves, fast_mode=True)


@kernel
def test_equal_bits_for_any_number_of_threads() -> None:
    given, found = Given(torch.float32, paired=True), []
    before = torch.get_num_threads()
    for threads in (1, 3):
        torch.set_num_threads(threads)
        leaves = [part.detach().requires_grad_() for part in given.inputs]
        out = given("cpu_kernel")(*leaves)
        found.append([*out, *torch.autograd.grad(sum(o.sum() for o in out), leaves)])
    torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_compiled_and_transformed() -> None:
    given = Given(torch.float64, paired=False)
    expected = given("auto")(*given.inputs)
    made = torch.compile(given("auto"), fullgraph=True, backend="eager")
    for a, b in zip(made(*given.inputs), expected, strict=True):
        assert torch.allclose(a, b)
    x, sh, place = given.inputs

    def total(place: Tensor) -> Tensor:
        return sum((o.square().sum() for o in given("auto")(x, sh, place)), x.sum())

    slope = torch.func.grad(total)(place)
    leaf = place.clone().requires_grad_()
    assert torch.allclose(slope, torch.autograd.grad(total(leaf), leaf)[0])


def test_what_does_not_fit_is_refused() -> None:
    given = Given(torch.float64, paired=True)
    x, sh, place = given.inputs
    with pytest.raises(ShapeError, match="place must have shape"):
        given("auto")(x, sh, place[1:])
    given.table = given.table[:, 1:]
    with pytest.raises(ShapeError, match="table must have shape"):
        given("auto")(x, sh, place)
    given.table = given.table[:3]
    with pytest.raises(ShapeError, match="table must have shape"):
        given("auto")(x, sh, place)
