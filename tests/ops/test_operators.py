"""The operators as PyTorch sees them: opcheck, and one graph under torch.compile."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.fx.experimental.proxy_tensor import make_fx

from torch_cormorant import Cormorant, CormorantConv, EdgeGeometry
from torch_cormorant.ops import (
    PathTable,
    ProductPaths,
    build_plan,
    dots,
    square,
    use_backend,
    weighted_linear,
    weighted_operators,
    weighted_splines,
)

sums = importlib.import_module("torch_cormorant.ops.neighbour_sum")
ops = torch.ops.torch_cormorant
SIZES = 50


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    """Forget what other tests have compiled."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def draw(*shape: int, dtype: torch.dtype = torch.complex128) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()


def calls(dtype: torch.dtype) -> dict[str, tuple[Any, ...]]:
    """Arguments of every operator; a graph with padding and with shared pairs."""
    index = torch.tensor([[0, 1, 2, 1, 0, 0], [1, 0, 1, 2, 0, 2]])
    index = torch.cat([index, torch.tensor([[2], [0]])], dim=1)
    pos = torch.randn(3, 3, dtype=torch.float64)
    vec = pos[index[1]] - pos[index[0]]
    plan = build_plan(index, 3, 3, edge_vec=vec)
    assert plan.pairs is not None
    assert plan.slot_weight is not None
    table, folded = PathTable(1, 1, 1), PathTable(1, 1, 1, folded=True)
    x, g = draw(3, 4, 2, dtype=dtype), draw(4, 2, 2, dtype=dtype)
    sh = draw(7, 4, dtype=torch.float64)
    grads = [draw(3, 2 * l + 1, n, 2, dtype=dtype) for l, n in enumerate(table.counts)]
    others = [
        draw(3, 2 * l + 1, n, 2, dtype=dtype) for l, n in enumerate(folded.counts)
    ]
    whole, key = (x, g, sh, plan.packed, plan.header), table.key
    need, ends = [True, True, True], (index[1], index[0])
    u = draw(7, 2, 2, dtype=dtype)
    return {
        "neighbour_sum": (*whole, 3, key, "auto"),
        "neighbour_sum_backward": (*whole, key, "auto", need, grads),
        "neighbour_sum_double_backward": (
            *whole,
            key,
            "auto",
            [True] * 4,
            grads,
            [draw(*part.shape, dtype=part.dtype) for part in (x, g, sh)],
            [True, False, True],
        ),
        "edge_dots": (x, x, *ends, "auto"),
        "edge_dots_backward": (x, x, *ends, u, [True, True], "auto"),
        "node_product": (x, x, folded.key, "auto"),
        "node_product_backward": (x, x, folded.key, "auto", others),
    }


@pytest.mark.parametrize("dtype", [torch.complex128, torch.float64])
@pytest.mark.parametrize("name", list(calls(torch.float64)))
def test_opcheck(name: str, dtype: torch.dtype) -> None:
    arguments = calls(dtype)[name]
    with use_backend("portable"):
        torch.library.opcheck(getattr(ops, name), arguments)


def weighted_calls(dtype: torch.dtype) -> dict[str, tuple[Any, ...]]:
    """The same for the weighted sum."""
    index = torch.tensor([[0, 1, 2, 1, 0, 0], [1, 0, 1, 2, 0, 2]])
    plan, paths = build_plan(index, 3, 3), ProductPaths("2x0e + 1x1o", "0e + 1o")
    x, sh = draw(3, paths.first.dim, dtype=dtype), draw(6, 4, dtype=dtype)
    w, hidden = draw(6, paths.weight_numel, dtype=dtype), draw(6, 2, dtype=dtype)
    last = draw(2, paths.weight_numel, dtype=dtype)
    grads = [draw(3, ir.dim, mul, dtype=dtype) for mul, ir in paths.out]
    us = [draw(*part.shape, dtype=dtype) for part in (x, sh, w)]
    place, table = 4 * draw(6, dtype=dtype).abs(), draw(9, w.shape[1], dtype=dtype)
    place, table = place.detach(), table.detach()
    ends, key = (plan.packed, plan.header), paths.key
    need = [True] * 4
    return {
        "weighted_sum": (x, sh, w, *ends, 3, key, "auto"),
        "weighted_sum_backward": (x, sh, w, *ends, key, "auto", need[:3], grads),
        "weighted_sum_double_backward": (
            *(x, sh, w, *ends, key, "auto", need, grads, us),
            [True, False, True],
        ),
        "weighted_sum_linear": (x, sh, hidden, last, *ends, 3, key, "auto"),
        "weighted_sum_linear_backward": (
            *(x, sh, hidden, last, *ends, key, "auto", need, grads),
        ),
        "weighted_sum_splines": (x, sh, place, table, *ends, 3, key, "auto"),
        "weighted_sum_splines_backward": (
            *(x, sh, place, table, *ends, key, "auto"),
            *([True, True, True, False], grads),
        ),
    }


@pytest.mark.parametrize("name", list(weighted_calls(torch.float64)))
def test_opcheck_of_the_weighted_sum(name: str) -> None:
    torch.library.opcheck(getattr(ops, name), weighted_calls(torch.float64)[name])


WEIGHTED = {
    "weighted_sum": weighted_operators.sum_operator,
    "weighted_sum_backward": weighted_operators.sum_gradient,
    "weighted_sum_double_backward": weighted_operators._double,
    "weighted_sum_linear": weighted_linear.linear_sum,
    "weighted_sum_linear_backward": weighted_linear.linear_sum.gradient,
    "weighted_sum_splines": weighted_splines.spline_sum,
    "weighted_sum_splines_backward": weighted_splines.spline_sum.gradient,
}
OPERATORS = {
    "neighbour_sum": sums._sum,
    "neighbour_sum_backward": sums._gradient,
    "neighbour_sum_double_backward": sums._double,
    "edge_dots": dots._dots,
    "edge_dots_backward": dots._spread,
    "node_product": square._square,
    "node_product_backward": square._gradient,
}


@pytest.mark.parametrize("dtype", [torch.complex128, torch.float64])
@pytest.mark.parametrize("name", [*OPERATORS, *WEIGHTED])
def test_the_way_around_the_dispatcher_gives_equal_bits(
    name: str, dtype: torch.dtype
) -> None:
    """Values, gradients and their gradients."""
    found = []
    if name in WEIGHTED and dtype.is_complex:
        pytest.skip("the weighted sum is real")
    for function in ((OPERATORS | WEIGHTED)[name], getattr(ops, name)):
        arguments = (weighted_calls if name in WEIGHTED else calls)(dtype)[name]
        flat = [q for a in arguments for q in (a if isinstance(a, list) else [a])]
        leaves = [q for q in flat if isinstance(q, Tensor) and q.requires_grad]
        out = function(*arguments)
        parts = [out] if isinstance(out, Tensor) else list(out)
        values = [part.detach() for part in parts]
        for _ in range(2):
            loss = torch.stack([part.abs().square().sum() for part in parts]).sum()
            parts = list(
                torch.autograd.grad(
                    loss, leaves, create_graph=True, materialize_grads=True
                )
            )
            values += [part.detach() for part in parts]
        found.append(values)
    assert len(found[0]) == len(found[1])
    assert all(map(torch.equal, *found))


def test_who_watches_sees_operators() -> None:
    """Tracers get the registered operator, not the short way."""
    arguments = calls(torch.float64)["edge_dots"]
    a, b, *rest = arguments

    def function(x: Tensor) -> Tensor:
        result: Tensor = dots._dots(x, b, *rest)
        return result.square().sum()

    traced = make_fx(function)(a.detach())
    targets = [str(node.target) for node in traced.graph.nodes]
    assert "torch_cormorant.edge_dots.default" in targets


@pytest.mark.parametrize("given", [(0,), (1, 2), (0, 1, 2)])
def test_the_fused_double_backward_is_the_composed_one(given: tuple[int, ...]) -> None:
    """Values and their derivatives, which are third derivatives of the sum."""
    arguments = calls(torch.complex128)["neighbour_sum_backward"]
    x, g, sh, packed, header, key, _, _, grads = arguments
    us = [draw(*part.shape, dtype=part.dtype) for part in (x, g, sh)]
    there = [k in given for k in range(3)]
    leaves = [x, g, sh, *grads, *us]
    found = []
    with use_backend("portable"):
        fused = ops.neighbour_sum_double_backward(
            x, g, sh, packed, header, key, "portable", [True] * 4, grads, us, there
        )
        first = ops.neighbour_sum_backward(
            x, g, sh, packed, header, key, "portable", [True] * 3, grads
        )
        chosen = [(first[k], us[k]) for k in given]
        composed = torch.autograd.grad(
            [part for part, _ in chosen],
            leaves[:-3],
            [u for _, u in chosen],
            create_graph=True,
            materialize_grads=True,
        )
        for parts in (fused, composed):
            loss = sum(part.abs().square().sum() for part in parts)
            third = torch.autograd.grad(loss, leaves, materialize_grads=True)
            found.append([part.detach() for part in (*parts, *third)])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-11)


def cloud(nodes: int, dtype: torch.dtype = torch.float64) -> EdgeGeometry:
    """A symmetric radius graph with self edges; receivers differ in degree."""
    generator = torch.Generator().manual_seed(nodes)
    pos = 4 * torch.rand(nodes, 3, generator=generator, dtype=dtype)
    index = (torch.cdist(pos, pos) < 2.5).nonzero().t().flip(0).contiguous()
    return EdgeGeometry.from_pos(pos, index)


def test_a_layer_is_one_graph_for_all_sizes() -> None:
    """Values and gradients as in eager mode; compiled three times at the most."""
    conv = CormorantConv(3, 3, lmax=1, lmax_in=1).double()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(conv, fullgraph=True, backend=counter)
    for size in range(SIZES):
        geometry = cloud(5 + size)
        x = draw(5 + size, 4, 2, 3, dtype=torch.float64)
        leaves = [x, *conv.parameters()]
        found = []
        for function in (compiled, conv):
            out = function(x, geometry)
            grads = torch.autograd.grad(
                out.square().sum(), leaves, materialize_grads=True
            )
            found.append([out.detach(), *grads])
        for a, b in zip(*found, strict=True):
            scale = float(b.abs().max())
            assert float((a - b).abs().max()) <= 1e-13 * scale
    assert counter.frame_count <= 3


@pytest.mark.slow
def test_a_model_is_one_graph_for_all_sizes() -> None:
    model = Cormorant(
        species=[1, 8], channels=2, num_levels=1, lmax=1, hidden=4, middle=2
    ).double()
    counter = CompileCounterWithBackend("aot_eager")

    def core(features: Tensor, geometry: EdgeGeometry, batch: Tensor, n: int) -> Tensor:
        return model.forward_features(features, geometry, batch, n)[0]

    compiled = torch.compile(core, fullgraph=True, backend=counter)
    parameters = list(model.parameters())
    for size in range(SIZES):
        nodes, molecules = 8 + size, 2 + size % 4
        z = torch.tensor([1, 8])[torch.arange(nodes) % 2]
        batch = torch.arange(nodes) * molecules // nodes
        features, geometry = model.features(z, torch.float64), cloud(nodes)
        found = []
        for function in (compiled, core):
            out = function(features, geometry, batch, molecules)
            grads = torch.autograd.grad(out.sum(), parameters, materialize_grads=True)
            found.append([out.detach(), *grads])
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)
    assert counter.frame_count <= 3
