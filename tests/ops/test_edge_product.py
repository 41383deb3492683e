"""Products of edges with their receivers: the fast order against row by row."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from torch_cormorant.errors import BackendError, ConfigError, ShapeError
from torch_cormorant.ops import EdgePaths, build_plan, edge_product
from torch_cormorant.ops.plan import GraphPlan

NODES = 6
CASES = {
    "all": ("3x0e + 3x1o + 3x2e", "3x0e + 3x1o + 3x2e", "3x0e + 3x1o + 3x1e + 3x2e"),
    "scalars": ("3x0e + 3x1o", "3x0e + 3x1o", "3x0e"),
    "no parity": ("3x1 + 3x0", "3x0 + 3x1 + 3x3", "3x2 + 3x1"),
}


class Given:
    """Edges in no order, nodes with 0 to 5 of them, and features."""

    def __init__(self, name: str, *, shared: bool = False) -> None:
        self.paths = EdgePaths(*CASES[name])
        target = torch.tensor([4, 1, 4, 2, 1, 4, 5, 4, 4, 2])
        source = torch.tensor([1, 2, 3, 4, 5, 0, 2, 2, 5, 0])
        self.plan: GraphPlan = build_plan(torch.stack([source, target]), NODES, NODES)
        rows = [
            (len(target), self.paths.first.dim),
            (NODES, self.paths.second.dim),
            (self.paths.num_paths, 1 if shared else 3),
        ]
        self.tensors = [
            torch.randn(*row, dtype=torch.float64, requires_grad=True) for row in rows
        ]

    def __call__(self, *tensors: Tensor, backend: str = "auto") -> Tensor:
        v, x, w = tensors or self.tensors
        return edge_product(v, x, self.plan, w, self.paths, backend)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("name", list(CASES))
def test_values_and_gradients_are_those_of_the_reference(
    name: str, *, shared: bool
) -> None:
    given = Given(name, shared=shared)
    out, expected = given(), given(backend="portable")
    assert out.shape == (10, given.paths.out.dim)
    assert torch.allclose(out, expected, rtol=1e-13, atol=1e-13)
    d = torch.randn_like(out)
    for a, b in zip(
        torch.autograd.grad(out, given.tensors, d),
        torch.autograd.grad(expected, given.tensors, d),
        strict=True,
    ):
        assert torch.allclose(a, b, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", ["all", "scalars"])
def test_second_derivatives(name: str) -> None:
    given = Given(name)
    assert torch.autograd.gradgradcheck(given, given.tensors, fast_mode=True)


def test_no_edges() -> None:
    given = Given("all")
    plan = build_plan(torch.empty(2, 0, dtype=torch.int64), NODES, NODES)
    _, x, w = given.tensors
    v = x.new_zeros(0, given.paths.first.dim)
    for backend in ("auto", "portable"):
        out = edge_product(v, x, plan, w, given.paths, backend)
        assert out.shape == (0, given.paths.out.dim)


@pytest.mark.parametrize(
    ("place", "change", "error", "match"),
    [
        (0, lambda v: v[1:], ShapeError, "v must have 10 rows"),
        (0, lambda v: v[:, 1:], ShapeError, "v must have rows of 27"),
        (1, lambda x: x[1:], ShapeError, r"x 6 \(receivers\)"),
        (2, lambda w: w[:, :2], ShapeError, "weights must have one of the shapes"),
    ],
)
def test_what_does_not_fit_is_named(
    place: int, change: Any, error: type[Exception], match: str
) -> None:
    given = Given("all")
    given.tensors[place] = change(given.tensors[place])
    with pytest.raises(error, match=match):
        given()


def test_paths_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="equal multiplicities"):
        EdgePaths("3x0e", "2x0e", "3x0e")
    with pytest.raises(ConfigError, match="make no 3x1e: leave it out"):
        EdgePaths("3x0e", "3x1o", "3x1o + 3x1e")
    with pytest.raises(BackendError, match="backend must be one of"):
        Given("all")(backend="fast")
