"""Laws and PyG's conventions for every convolution on irreps, by one list."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch_geometric import EdgeIndex

from torch_cormorant import EdgeGeometry, wigner_D
from torch_cormorant.conv import NequIPConv, PaiNNConv, TensorFieldConv
from torch_cormorant.errors import (
    ArgumentError,
    ConfigError,
    DtypeError,
    NonFiniteError,
    ShapeError,
)
from torch_cormorant.irreps import Irreps
from torch_cormorant.so3 import degree_slices, flat_blocks, random_rotation

N, RADIAL, LABEL = 6, 5, 3
HIDDEN = "3x0e + 2x0o + 2x1o + 2x1e + 1x2e"


class Case(NamedTuple):
    make: Callable[..., torch.nn.Module]
    first: str
    out: str
    text: str
    label: int = 0
    weight: bool = False


CASES = {
    "depthwise": Case(
        lambda **kw: TensorFieldConv(HIDDEN, "4x0e + 2x1o", 2, edge_dim=RADIAL, **kw),
        HIDDEN,
        "4x0e + 2x1o",
        f"TensorFieldConv({HIDDEN} -> 4x0e + 2x1o, lmax_sh=2, depthwise)",
    ),
    "full": Case(
        lambda **kw: TensorFieldConv(
            "3x0 + 2x1", "4x0 + 2x1 + 1x0", edge_dim=RADIAL, kind="full", **kw
        ),
        "3x0 + 2x1",
        "4x0 + 2x1 + 1x0",
        "TensorFieldConv(3x0 + 2x1 -> 4x0 + 2x1 + 1x0, lmax_sh=1, full)",
    ),
    "nequip": Case(
        lambda **kw: NequIPConv(
            HIDDEN, HIDDEN, 2, edge_dim=RADIAL, attr_dim=LABEL, hidden=[7], **kw
        ),
        HIDDEN,
        HIDDEN,
        f"NequIPConv({HIDDEN} -> {HIDDEN}, lmax_sh=2)",
        label=LABEL,
    ),
    "painn": Case(
        lambda **kw: PaiNNConv(4, edge_dim=RADIAL, **kw),
        "4x0e + 4x1o",
        "4x0e + 4x1o",
        f"PaiNNConv(4, edge_dim={RADIAL})",
        weight=True,
    ),
}


class Graph:
    """A case with everything that it is called with."""

    def __init__(self, name: str, **kwargs: object) -> None:
        generator = torch.Generator().manual_seed(3)

        def draw(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        torch.manual_seed(0)
        self.case = CASES[name]
        self.conv = self.case.make(**kwargs).double()
        self.first, self.out = Irreps(self.case.first), Irreps(self.case.out)
        self.x, self.pos = draw(N, self.first.dim), 2 * draw(N, 3)
        index = (torch.cdist(self.pos, self.pos) < 3.5).nonzero().t().flip(0)
        self.index = index[:, index[0] != index[1]]
        self.index = self.index[:, self.index[1] != 4]  # node 4 receives nothing
        self.label = torch.eye(3).double()[torch.arange(N) % 3]

    def radial(self, index: Tensor, pos: Tensor) -> Tensor:
        r = (pos[index[1]] - pos[index[0]]).norm(dim=1, keepdim=True)
        return torch.exp(-((r - torch.arange(RADIAL)) ** 2))

    def rest(self, index: Tensor, pos: Tensor, label: Tensor) -> list[Tensor]:
        """Arguments behind the vectors."""
        radial = self.radial(index, pos)
        extra = [label] if self.case.label else []
        extra += [radial[:, 0]] if self.case.weight else []
        return [radial, *extra]

    def __call__(
        self,
        x: Tensor | None = None,
        pos: Tensor | None = None,
        index: Tensor | None = None,
        label: Tensor | None = None,
    ) -> Tensor:
        x = self.x if x is None else x
        pos = self.pos if pos is None else pos
        index = self.index if index is None else index
        label = self.label if label is None else label
        vec = pos[index[1]] - pos[index[0]]
        found: Tensor = self.conv(x, index, vec, *self.rest(index, pos, label))
        return found


@pytest.fixture(params=list(CASES))
def graph(request: pytest.FixtureRequest) -> Graph:
    return Graph(request.param)


def turn(x: Tensor, irreps: Irreps, D: Tensor, det: int) -> Tensor:
    at = degree_slices(4)
    parts = [
        (D[at[ir.l], at[ir.l]] @ block).flatten(1) * (ir.p if det < 0 else 1)
        for (_, ir), block in zip(irreps, flat_blocks(x, irreps), strict=True)
    ]
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize("det", [1, -1])
def test_rotation_and_inversion(graph: Graph, det: int) -> None:
    """Under O(3) where irreps have a parity, else under SO(3)."""
    if det < 0 and not graph.first.has_parity:
        pytest.skip("no parity")
    R = random_rotation(dtype=torch.float64)
    D = wigner_D(R, 4)
    found = graph(turn(graph.x, graph.first, D, det), det * graph.pos @ R.T)
    expected = turn(graph(), graph.out, D, det)
    assert torch.allclose(found, expected, atol=1e-12)


def test_permutation_and_order_of_edges(graph: Graph) -> None:
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    place = torch.argsort(order)
    index = place[graph.index][:, torch.randperm(graph.index.shape[1])]
    found = graph(graph.x[order], graph.pos[order], index, graph.label[order])
    assert torch.allclose(found, graph()[order], atol=1e-13)


def test_a_node_without_edges_and_a_graph_without_edges(graph: Graph) -> None:
    """Both are the same to a node, and finite."""
    alone = graph(index=graph.index[:, :0])
    assert alone.isfinite().all()
    assert torch.allclose(alone[4], graph()[4])
    empty = graph(graph.x[:0], graph.pos[:0], graph.index[:, :0], graph.label[:0])
    assert empty.shape == (0, graph.out.dim)


def test_derivatives(graph: Graph) -> None:
    def function(x: Tensor, pos: Tensor) -> Tensor:
        return graph(x, pos)

    inputs = [value.requires_grad_() for value in (graph.x, graph.pos)]
    assert gradcheck(function, inputs, fast_mode=True)
    assert gradgradcheck(function, inputs, fast_mode=True)


def test_the_same_from_everything_that_a_graph_can_be(graph: Graph) -> None:
    expected = graph()
    rest = graph.rest(graph.index, graph.pos, graph.label)
    geometry = EdgeGeometry.from_pos(graph.pos, graph.index)
    index = EdgeIndex(graph.index, sparse_size=(N, N))
    vec = graph.pos[graph.index[1]] - graph.pos[graph.index[0]]
    for found in (
        graph.conv(graph.x, geometry, None, *rest),
        graph.conv(graph.x, index, vec, *rest),
        graph.conv(graph.x, graph.index, None, *rest, pos=graph.pos),
    ):
        assert torch.equal(found, expected)


def test_bipartite_graphs(graph: Graph) -> None:
    """Two receivers of their own: as rows of a graph that holds all."""
    keep = graph.index[1] < 2
    index = graph.index[:, keep]
    vec = graph.pos[index[1]] - graph.pos[index[0]]
    rest = graph.rest(index, graph.pos, graph.label[:2])
    found = graph.conv((graph.x, graph.x[:2]), index, vec, *rest)
    assert torch.allclose(found, graph()[:2], atol=1e-13)


def test_hooks_of_pyg_see_messages_and_change_nothing(graph: Graph) -> None:
    expected, seen = graph(), []
    hook = graph.conv.register_message_forward_hook(
        lambda _, __, message: seen.append(message)
    )
    found = graph()
    hook.remove()
    assert len(seen) == 1
    assert seen[0].shape[0] == graph.index.shape[1]
    assert torch.allclose(found, expected, atol=1e-13)


def test_an_explainers_mask_takes_edges_away(graph: Graph) -> None:
    edges = graph.index.shape[1]
    kept = torch.arange(edges) % 3 > 0
    mask = torch.where(kept, 50.0, -50.0).double()
    conv = graph.conv
    conv.explain, conv._edge_mask, conv._apply_sigmoid = True, mask, True
    conv._loop_mask = None
    found = graph()
    conv.explain = False
    expected = graph(index=graph.index[:, kept])
    assert torch.allclose(found, expected, atol=1e-10)


@pytest.mark.parametrize("name", ["full", "nequip"])
def test_one_graph_for_a_compiler(name: str) -> None:
    graph = Graph(name)
    torch._dynamo.reset()
    geometry = EdgeGeometry.from_pos(graph.pos, graph.index)
    rest = graph.rest(graph.index, graph.pos, graph.label)

    def run(x: Tensor) -> Tensor:
        found: Tensor = graph.conv(x, geometry, None, *rest)
        return found.sin().sum()

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    results = []
    for function in (compiled, run):
        x = graph.x.clone().requires_grad_()
        value = function(x)
        results.append([value.detach(), torch.autograd.grad(value, x)[0]])
    for a, b in zip(*results, strict=True):
        assert torch.allclose(a, b, rtol=1e-12)
    torch._dynamo.reset()


def test_repr_and_weights(graph: Graph) -> None:
    assert repr(graph.conv) == graph.case.text
    before = [weight.detach().clone() for weight in graph.conv.parameters()]
    graph.conv.reset_parameters()
    after = list(graph.conv.parameters())
    changed = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert any(changed)
    total = graph().square().sum()
    grads = torch.autograd.grad(total, after)
    assert all(bool(grad.any()) for grad in grads)


@pytest.mark.parametrize("backend", ["portable", "auto"])
@pytest.mark.parametrize("name", list(CASES))
def test_backends_agree(name: str, backend: str) -> None:
    assert torch.allclose(Graph(name, backend=backend)(), Graph(name)(), atol=1e-12)


def test_what_does_not_fit_is_refused(graph: Graph) -> None:
    vec = graph.pos[graph.index[1]] - graph.pos[graph.index[0]]
    rest = graph.rest(graph.index, graph.pos, graph.label)
    conv = graph.conv
    with pytest.raises(ShapeError, match="x must have rows"):
        conv(graph.x[:, 1:], graph.index, vec, *rest)
    with pytest.raises(ConfigError, match="edge_attr is missing"):
        conv(graph.x, graph.index, vec)
    with pytest.raises(ShapeError, match="edge_attr must have shape"):
        conv(graph.x, graph.index, vec, rest[0][:, 1:], *rest[1:])
    with pytest.raises(DtypeError, match="edge_attr is"):
        conv(graph.x, graph.index, vec, rest[0].float(), *rest[1:])
    with pytest.raises(NonFiniteError, match="x is not finite"):
        conv(graph.x * float("nan"), graph.index, vec, *rest)
    with pytest.raises(ArgumentError, match="no argument"):
        graph.case.make(no_such_argument=1)
    with pytest.raises(ConfigError, match="aggr must be"):
        graph.case.make(aggr="max")


def test_labels_are_asked_for() -> None:
    graph = Graph("nequip")
    vec = graph.pos[graph.index[1]] - graph.pos[graph.index[0]]
    with pytest.raises(ConfigError, match="node_attr is missing"):
        graph.conv(graph.x, graph.index, vec, graph.radial(graph.index, graph.pos))
    painn = Graph("painn")
    radial = painn.radial(painn.index, painn.pos)
    with pytest.raises(ShapeError, match="edge_weight must have shape"):
        painn.conv(painn.x, painn.index, None, radial, radial, pos=painn.pos)
