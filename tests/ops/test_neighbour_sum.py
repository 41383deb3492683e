from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from torch_cormorant.ops import (
    PathTable,
    build_plan,
    neighbour_sum,
    portable,
    reference,
)

pytestmark = pytest.mark.usefixtures("every_backend")

Tower = Callable[..., list[Tensor]]
Agree = Callable[..., None]
Graph = tuple[Tensor, int, int]
RTOL = 1e-13

DEGREES = [(0, 0, 0), (0, 2, 2), (2, 0, 2), (1, 1, 1), (1, 1, 2), (1, 3, 4), (2, 1, 1)]
LARGE = [(3, 3, 3), (4, 4, 4), (5, 5, 5), (6, 6, 6), (6, 0, 6), (2, 6, 5)]


def inputs_for(
    edges: int,
    sources: int,
    degrees: tuple[int, int, int],
    channels: int,
    *,
    complex_: bool,
    dtype: torch.dtype = torch.float64,
) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    lmax1, lmax2, _ = degrees
    kind = dtype.to_complex() if complex_ else dtype

    def draw(*shape: int, kind: torch.dtype) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=kind)

    x = draw(sources, (lmax2 + 1) ** 2, channels, kind=kind)
    g = draw(edges, lmax1 + 1, channels, kind=kind)
    return [x, g, draw(edges, (lmax1 + 1) ** 2, kind=dtype)]


def both(
    graph: Graph, table: PathTable, chunk_slots: int | None = None
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the fast and the plain form, as functions of x, g and Y."""
    index, sources, targets = graph
    plan = build_plan(index, sources, targets, chunk_slots=chunk_slots)
    return (
        lambda x, g, sh: neighbour_sum(x, g, sh, plan, table),
        lambda x, g, sh: reference.neighbour_sum(x, g, sh, index, targets, table),
    )


@pytest.mark.parametrize("complex_", [True, False])
@pytest.mark.parametrize("degrees", DEGREES)
def test_values_and_two_derivatives_on_every_graph(
    graph: Graph,
    degrees: tuple[int, int, int],
    complex_: bool,
    tower: Tower,
    agree: Agree,
) -> None:
    index, sources, _ = graph
    inputs = inputs_for(index.shape[1], sources, degrees, 2, complex_=complex_)
    fast, plain = both(graph, PathTable(*degrees), chunk_slots=8)
    agree(tower(fast, inputs, 2), tower(plain, inputs, 2), RTOL)


@pytest.mark.parametrize("complex_", [True, False])
@pytest.mark.parametrize("paths", ["all", "even"])
@pytest.mark.parametrize("degrees", LARGE)
def test_values_and_gradients_of_large_degrees(
    degrees: tuple[int, int, int],
    paths: str,
    complex_: bool,
    tower: Tower,
    agree: Agree,
) -> None:
    index = torch.tensor([[0, 1, 2, 2, 0, 1, 1], [1, 2, 0, 1, 1, 1, 0]])
    inputs = inputs_for(7, 3, degrees, 1, complex_=complex_)
    fast, plain = both((index, 3, 4), PathTable(*degrees, parity=paths))
    agree(tower(fast, inputs, 1), tower(plain, inputs, 1), RTOL)


@pytest.mark.parametrize("complex_", [True, False])
@pytest.mark.parametrize("paths", ["all", "even"])
@pytest.mark.parametrize("channels", [1, 7, 16])
def test_three_derivatives(
    channels: int, paths: str, complex_: bool, tower: Tower, agree: Agree
) -> None:
    index = torch.tensor([[0, 1, 2, 2, 0], [1, 2, 0, 1, 1]])
    inputs = inputs_for(5, 3, (1, 2, 2), channels, complex_=complex_)
    fast, plain = both((index, 3, 3), PathTable(1, 2, 2, parity=paths))
    agree(tower(fast, inputs, 3), tower(plain, inputs, 3), RTOL)


@pytest.mark.parametrize("complex_", [True, False])
def test_float32(complex_: bool, agree: Agree) -> None:
    generator = torch.Generator().manual_seed(0)
    index = torch.randint(0, 10, (2, 60), generator=generator)
    inputs = inputs_for(60, 10, (3, 3, 3), 7, complex_=complex_, dtype=torch.float32)
    fast, plain = both((index, 10, 10), PathTable(3, 3, 3))
    agree(fast(*inputs), plain(*inputs), 2e-6)


@pytest.mark.parametrize("complex_", [True, False])
def test_rows_of_pairs_stand_for_both_directions(
    complex_: bool, tower: Tower, agree: Agree
) -> None:
    generator = torch.Generator().manual_seed(2)
    pos = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    index = torch.cartesian_prod(torch.arange(5), torch.arange(5)).t()
    index = index[:, torch.randperm(25, generator=generator)]
    table = PathTable(2, 1, 2)
    vec = pos[index[1]] - pos[index[0]]
    plan = build_plan(index, 5, 5, edge_vec=vec, chunk_slots=6)
    assert plan.pairs is not None
    pairs = plan.pairs
    assert pairs.edge.numel() == 15
    x, g, sh = inputs_for(25, 5, (2, 1, 2), 3, complex_=complex_)
    inputs = [x, g[:15], sh]

    def fast(x: Tensor, g: Tensor, sh: Tensor) -> tuple[Tensor, ...]:
        return neighbour_sum(x, g, sh, plan, table)

    def plain(x: Tensor, g: Tensor, sh: Tensor) -> tuple[Tensor, ...]:
        return reference.neighbour_sum(x, g[pairs.of_edge], sh, index, 5, table)

    agree(tower(fast, inputs, 2), tower(plain, inputs, 2), RTOL)


@pytest.mark.parametrize("complex_", [True, False])
def test_layout_of_the_inputs_does_not_matter(
    complex_: bool, tower: Tower, agree: Agree
) -> None:
    index = torch.tensor([[0, 1, 2, 2, 0, 3], [1, 2, 0, 1, 1, 1]])
    x, g, sh = inputs_for(6, 4, (2, 2, 2), 3, complex_=complex_)
    fast, plain = both((index, 4, 4), PathTable(2, 2, 2))

    def awkward(function: Callable[..., Any]) -> Callable[..., Any]:
        """Non-contiguous x and Y, stride-0 g; leaves stay plain."""

        def call(x: Tensor, g: Tensor, sh: Tensor) -> Any:
            wide = torch.stack([sh, sh], dim=-1)[..., 0]
            flipped = x.transpose(0, 2).contiguous().transpose(0, 2)
            spread = g[:1, :, :1].expand(6, 3, 3)
            assert not wide.is_contiguous()
            assert not flipped.is_contiguous()
            assert 0 in spread.stride()
            return function(flipped, spread, wide)

        return call

    inputs = [x, g, sh]
    agree(tower(awkward(fast), inputs, 2), tower(awkward(plain), inputs, 2), RTOL)


def test_lazy_conjugates(tower: Tower, agree: Agree) -> None:
    """Of inputs, and of gradients that arrive; receivers in order and not."""
    for index in ([[0, 1, 2, 2, 0], [1, 2, 0, 1, 1]], [[1, 2, 0, 1], [0, 0, 1, 2]]):
        edges = torch.tensor(index)
        inputs = inputs_for(edges.shape[1], 3, (1, 1, 1), 2, complex_=True)
        fast, plain = both((edges, 3, 3), PathTable(1, 1, 1))

        def conjugated(
            x: Tensor, g: Tensor, sh: Tensor, f: Callable[..., Any]
        ) -> list[Tensor]:
            return [part.conj() for part in f(x.conj(), g.conj(), sh)]

        found = tower(lambda *a, f=fast: conjugated(*a, f), inputs, 2)
        agree(found, tower(lambda *a, f=plain: conjugated(*a, f), inputs, 2), RTOL)


def test_gradients_that_arrive_with_stride_zero(agree: Agree) -> None:
    index = torch.tensor([[0, 1, 2, 2, 0], [1, 2, 0, 1, 1]])
    inputs = inputs_for(5, 3, (1, 1, 1), 2, complex_=False)
    found = []
    for function in both((index, 3, 3), PathTable(1, 1, 1)):
        leaves = [x.clone().requires_grad_() for x in inputs]
        # the gradient of a plain sum is an expanded scalar
        total = sum(part.sum() for part in function(*leaves))
        found.append(torch.autograd.grad(total, leaves))
    agree(*found, RTOL)


def test_only_the_used_degrees_get_gradients(agree: Agree) -> None:
    """Degrees of the output that nobody reads are no problem."""
    index = torch.tensor([[0, 1, 2, 2, 0], [1, 2, 0, 1, 1]])
    inputs = inputs_for(5, 3, (1, 1, 1), 2, complex_=True)
    found = []
    for function in both((index, 3, 3), PathTable(1, 1, 1)):
        leaves = [x.clone().requires_grad_() for x in inputs]
        loss = function(*leaves)[1].abs().square().sum()
        first = torch.autograd.grad(loss, leaves, create_graph=True)
        second = torch.autograd.grad(first[0].abs().square().sum(), leaves[1:])
        found.append([*(part.detach() for part in first), *second])
    agree(*found, RTOL)


@pytest.mark.parametrize("complex_", [True, False])
@pytest.mark.parametrize("degrees", [(0, 0, 0), (1, 1, 1), (2, 1, 1)])
def test_full_gradcheck_and_gradgradcheck(
    degrees: tuple[int, int, int], complex_: bool
) -> None:
    index = torch.tensor([[0, 1, 1], [1, 0, 1]])
    inputs = inputs_for(3, 2, degrees, 1, complex_=complex_)
    for x in inputs:
        x.requires_grad_()
    fast, _ = both((index, 2, 2), PathTable(*degrees))
    assert torch.autograd.gradcheck(fast, inputs, atol=1e-8, rtol=1e-6)
    assert torch.autograd.gradgradcheck(fast, inputs, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("name", ["empty", "bipartite", "pairs"])
def test_gradcheck_of_special_graphs(name: str) -> None:
    table, sizes, vec = PathTable(1, 1, 1), (2, 2), None
    index = torch.tensor([[0, 1, 1, 0], [1, 0, 1, 0]])
    if name == "empty":
        index = index[:, :0]
    if name == "bipartite":
        index, sizes = torch.tensor([[0, 1, 1, 0], [2, 0, 1, 2]]), (2, 3)
    rows = index.shape[1]
    if name == "pairs":
        vec = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 0, 0], [0, 0, 0]])
        rows = 3
    plan = build_plan(index, *sizes, edge_vec=vec)
    assert (plan.pairs is not None) is (name == "pairs")
    x, g, sh = inputs_for(index.shape[1], 2, (1, 1, 1), 1, complex_=True)
    inputs = [x.requires_grad_(), g[:rows].clone().requires_grad_(), sh]
    sh.requires_grad_()

    def function(x: Tensor, g: Tensor, sh: Tensor) -> tuple[Tensor, ...]:
        return neighbour_sum(x, g, sh, plan, table)

    assert torch.autograd.gradcheck(function, inputs, atol=1e-8, rtol=1e-6)
    assert torch.autograd.gradgradcheck(function, inputs, atol=1e-7, rtol=1e-5)


class Largest(TorchDispatchMode):
    """Remember the size of the largest tensor that any operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        sizes = [t.numel() for t in tree_leaves(out) if isinstance(t, Tensor)]
        self.numel = max([self.numel, *sizes])
        return out


@pytest.mark.parametrize("complex_", [True, False])
def test_no_tensor_of_edges_and_paths_is_ever_made(complex_: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    nodes, edges, channels, table = 50, 6_000, 4, PathTable(3, 3, 3)
    index = torch.randint(0, nodes, (2, edges), generator=generator)
    inputs = inputs_for(edges, nodes, (3, 3, 3), channels, complex_=complex_)
    _, plain = both((index, nodes, nodes), table)
    plan = build_plan(index, nodes, nodes)
    with Largest() as seen:  # it does not look into operators, nor into the kernel
        outs = portable.forward(*inputs, plan, table)
        portable.backward(*inputs, plan, table, (True, True, True), outs)
    # Y itself has 16 numbers an edge and the gradient of g 4 channels times 4 degrees
    # (times two as complex numbers). Paths times channels would be 136 and more.
    assert len(table.paths) == 34
    assert seen.numel <= 2 * 16 * edges
    with torch.no_grad(), Largest() as there:
        plain(*inputs)
    assert there.numel > 34 * channels * edges, "the measure does not see paths"


@pytest.mark.parametrize("chunk_slots", [1, 3, 16, 10**6])
def test_size_of_the_chunks_does_not_matter(
    chunk_slots: int, graph: Graph, agree: Agree
) -> None:
    index, sources, _ = graph
    inputs = inputs_for(index.shape[1], sources, (2, 2, 2), 3, complex_=True)
    table = PathTable(2, 2, 2)
    found = both(graph, table, chunk_slots)[0](*inputs)
    agree(found, both(graph, table)[0](*inputs), 1e-14)


def test_repeated_runs_are_bitwise_equal() -> None:
    generator = torch.Generator().manual_seed(4)
    index = torch.randint(0, 20, (2, 300), generator=generator)
    inputs = inputs_for(300, 20, (3, 3, 3), 5, complex_=True)
    inputs = [x.requires_grad_() for x in inputs]
    fast, _ = both((index, 20, 20), PathTable(3, 3, 3))

    def run() -> list[Tensor]:
        outs = fast(*inputs)
        loss = sum(part.abs().square().sum() for part in outs)
        return [*outs, *torch.autograd.grad(loss, inputs)]

    first = run()
    for _ in range(5):
        assert all(map(torch.equal, run(), first))


@given(seed=st.integers(0, 2**31), edges=st.integers(0, 40), nodes=st.integers(1, 8))
def test_any_graph_gives_the_plain_sum(seed: int, edges: int, nodes: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    index = torch.randint(0, nodes, (2, edges), generator=generator)
    inputs = inputs_for(edges, nodes, (1, 1, 1), 2, complex_=True)
    fast, plain = both((index, nodes, nodes), PathTable(1, 1, 1), chunk_slots=5)
    for found, expected in zip(fast(*inputs), plain(*inputs), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


def test_inputs_are_not_changed() -> None:
    index = torch.tensor([[0, 1, 2, 2, 0], [1, 2, 0, 1, 1]])
    inputs = inputs_for(5, 3, (1, 1, 1), 2, complex_=True)
    kept = [x.clone() for x in inputs]
    leaves = [x.requires_grad_() for x in inputs]
    fast, _ = both((index, 3, 3), PathTable(1, 1, 1))
    sum(part.abs().sum() for part in fast(*leaves)).backward()
    assert all(map(torch.equal, inputs, kept))


def test_third_derivatives_where_operands_depend_on_each_other() -> None:
    """A layer's edge scalars are functions of its features."""
    index = torch.tensor([[0, 1, 2, 1], [1, 0, 0, 2]])
    fast, plain = both((index, 3, 3), PathTable(1, 1, 1))
    x, g, sh = inputs_for(4, 3, (1, 1, 1), 2, complex_=False)
    found = []
    for function in (fast, plain):
        x = x.detach().requires_grad_()
        scalars = g * x.square().sum()
        parts = function(x, scalars, sh * scalars.sum().sin())
        value = sum(part.pow(3).sum() for part in parts)
        for _ in range(3):
            (grad,) = torch.autograd.grad(value, x, create_graph=True)
            value = grad.pow(2).sum()
        found.append(grad.detach())
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-10)
