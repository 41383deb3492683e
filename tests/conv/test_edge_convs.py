"""Layers with messages of edges: SEGNN, SEConv, SE(3)-Transformer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.nn import GATConv, Sequential
from torch_geometric.testing import assert_module

from torch_cormorant import EdgeGeometry, radius_graph
from torch_cormorant.conv import (
    SE3KernelConv,
    SE3TransformerConv,
    SEConv,
    SEGNNConv,
    TensorFieldConv,
)
from torch_cormorant.conv.irreps_conv import IrrepsConv
from torch_cormorant.errors import ConfigError, ShapeError
from torch_cormorant.irreps import Irreps
from torch_cormorant.ops import use_backend
from torch_cormorant.so3 import random_rotation

Make = Callable[..., Any]
CUTOFF = 2.2
EXACT = {"rtol": 1e-12, "atol": 1e-12}
SOLID = "4x0e + 2x1o + 2x2e"
LAYERS: dict[str, tuple[Callable[..., IrrepsConv], str, str]] = {
    "segnn": (lambda **o: SEGNNConv(SOLID, lmax_attr=3, **o), SOLID, SOLID),
    "seconv": (lambda **o: SEConv(SOLID, **o), SOLID, SOLID),
    "seconv_linear": (
        lambda **o: SEConv("3x0 + 2x1", nonlinear=False, **o),
        "3x0 + 2x1",
        "3x0 + 2x1",
    ),
    "se3": (
        lambda **o: SE3TransformerConv("3x0 + 2x1", "4x0 + 4x1 + 4x2", heads=2, **o),
        "3x0 + 2x1",
        "4x0 + 4x1 + 4x2",
    ),
    "se3_attentive": (
        lambda **o: SE3TransformerConv(
            "3x0 + 2x1", "2x0 + 2x1", mixing="attentive", relative="cat", **o
        ),
        "3x0 + 2x1",
        "2x0 + 2x1",
    ),
    "se3_add": (
        lambda **o: SE3TransformerConv("2x1", "2x0 + 2x1", relative="add", **o),
        "2x1",
        "2x0 + 2x1",
    ),
    "se3_kernel": (
        lambda **o: SE3KernelConv("3x0 + 2x1", "4x0 + 2x1", **o),
        "3x0 + 2x1",
        "4x0 + 2x1",
    ),
}
pytestmark = [
    pytest.mark.filterwarnings("ignore:Sparse"),
    pytest.mark.filterwarnings("ignore:.*to CSR format"),
]


class Given:
    """A layer with random weights, and what it acts on."""

    def __init__(self, name: str, sample: Any, **options: Any) -> None:
        make, irreps_in, irreps_out = LAYERS[name]
        self.conv = make(cutoff=CUTOFF, **options).double()
        self.irreps_in, self.irreps_out = Irreps(irreps_in), Irreps(irreps_out)
        self.pos = sample.pos
        self.index = radius_graph(sample.pos, CUTOFF)
        self.x = sample.randn(len(sample.pos), self.irreps_in.dim)

    def __call__(self, **changes: Any) -> Tensor:
        given = {"x": self.x, "edge_index": self.index, "pos": self.pos, **changes}
        out: Tensor = self.conv(**given)
        return out


@pytest.fixture(params=list(LAYERS))
def given(request: pytest.FixtureRequest, example: Make) -> Given:
    return Given(request.param, example())


def test_torch_geometric_accepts_the_layer(given: Given) -> None:
    size = (len(given.pos), given.irreps_out.dim)
    common = {"expected_size": size, **EXACT}
    assert_module(given.conv, given.x, given.index, pos=given.pos, **common)


def test_results_turn_with_their_input(given: Given, turned: Make) -> None:
    out, R = given(), random_rotation()
    for turn in [R, -R] if given.irreps_in.has_parity else [R]:
        x = turned(given.x, given.irreps_in, turn)
        found = given(x=x, pos=given.pos @ turn.T + 1.0)
        error = (found - turned(out, given.irreps_out, turn)).abs().max()
        assert error < 1e-11 * out.abs().max()


def test_the_reference_gives_the_same(given: Given) -> None:
    out = given()
    with use_backend("portable"):
        assert torch.allclose(given(), out, **EXACT)


def test_bipartite_graphs(given: Given) -> None:
    """Two receivers that are no sources get what they get on the whole graph."""
    kept = torch.tensor([1, 4])
    rows = [(given.index[1] == k).nonzero().flatten() for k in kept]
    source = torch.cat([given.index[0][r] for r in rows])
    target = torch.arange(2).repeat_interleave(torch.tensor([len(r) for r in rows]))
    found = given(
        x=(given.x, given.x[kept]),
        edge_index=torch.stack([source, target]),
        pos=(given.pos, given.pos[kept]),
    )
    assert torch.allclose(found, given()[kept], **EXACT)


def test_hooks_see_the_same_sum(given: Given) -> None:
    out, seen = given(), []
    given.conv.register_message_forward_hook(lambda *args: seen.append(args[-1]))
    assert torch.allclose(given(), out, **EXACT)
    assert seen[0].shape[0] == given.index.shape[1]


def test_derivatives(given: Given) -> None:
    pos = given.pos.clone().requires_grad_()
    x = given.x.clone().requires_grad_()

    def total(x: Tensor, pos: Tensor) -> Tensor:
        return given(x=x, pos=pos).square().sum()

    assert torch.autograd.gradcheck(total, (x, pos), fast_mode=True)
    (slope,) = torch.autograd.grad(total(x, pos), pos, create_graph=True)
    slope.square().sum().backward()
    for parameter in given.conv.parameters():
        assert parameter.grad is not None


def test_repr_weights_and_reset(given: Given) -> None:
    twin = eval(repr(given.conv)).double()  # noqa: S307
    assert repr(twin) == repr(given.conv)
    twin.load_state_dict(given.conv.state_dict())
    before = given()
    assert torch.equal(twin(given.x, given.index, pos=given.pos), before)
    given.conv.reset_parameters()
    assert not torch.allclose(given(), before)


def test_scalars_of_edges(given: Given, example: Make) -> None:
    name = next(
        name
        for name, (_, i, o) in LAYERS.items()
        if (Irreps(i), Irreps(o)) == (given.irreps_in, given.irreps_out)
    )
    more = Given(name, example(), edge_dim=2)
    rows = torch.randn(more.index.shape[1], 2, dtype=torch.float64)
    assert not torch.allclose(more(edge_attr=rows), more(edge_attr=2 * rows))
    with pytest.raises(ConfigError, match="edge_dim=2, but edge_attr is missing"):
        more()
    with pytest.raises(ShapeError, match="edge_attr must have shape"):
        more(edge_attr=rows[:, :1])


def test_equal_scores_are_the_mean(example: Make) -> None:
    sample = example()
    conv = SE3TransformerConv("4x0", "4x0 + 4x1", cutoff=None, envelope=None).double()
    for weight in conv.queries.parameters():
        nn.init.zeros_(weight)
    index = radius_graph(sample.pos, CUTOFF)
    geometry = EdgeGeometry.from_pos(sample.pos, index)
    x = sample.randn(7, 4)
    keys = torch.randn(index.shape[1], conv.keys.paths.out.dim, dtype=torch.float64)
    alpha = conv.attention(conv.queries(x), keys, geometry)
    counts = index[1].bincount(minlength=7)[index[1]]
    assert torch.allclose(alpha[:, 0], 1 / counts.double(), **EXACT)


def test_attention_survives_scores_of_any_size(example: Make) -> None:
    given = Given("se3", example())
    for weight in given.conv.queries.parameters():
        nn.init.constant_(weight, 1e4)
    assert given().isfinite().all()


def test_layers_stand_beside_those_of_torch_geometric(example: Make) -> None:
    sample = example()
    index = radius_graph(sample.pos, CUTOFF)
    vec = sample.pos[index[1]] - sample.pos[index[0]]
    model = Sequential(
        "x, edge_index, vec",
        [
            (GATConv(3, 4), "x, edge_index -> x"),
            (TensorFieldConv("4x0", "4x0 + 2x1"), "x, edge_index, vec -> x"),
            (SE3TransformerConv("4x0 + 2x1", "4x0 + 4x1"), "x, edge_index, vec -> x"),
            (SE3KernelConv("4x0 + 4x1", "4x0 + 2x1"), "x, edge_index, vec -> x"),
            (SEConv("4x0 + 2x1"), "x, edge_index, vec -> x"),
            (SEGNNConv("4x0 + 2x1"), "x, edge_index, vec -> x"),
            nn.Linear(10, 1),
        ],
    ).double()
    assert model(sample.randn(7, 3), index, vec).shape == (7, 1)


def test_what_cannot_be_is_refused(example: Make) -> None:
    with pytest.raises(ConfigError, match="one block of each degree and no"):
        SE3TransformerConv("4x0e", "4x0e + 4x1o")
    with pytest.raises(ConfigError, match="every degree needs a multiple of"):
        SE3TransformerConv("4x0", "4x0 + 3x1", heads=2)
    with pytest.raises(ConfigError, match="an envelope needs a cutoff"):
        SEGNNConv("4x0e", cutoff=None)
    with pytest.raises(ConfigError, match="normalisation must be one of"):
        SEConv("4x0e", normalisation="norm")
    given = Given("segnn", example())
    with pytest.raises(ShapeError, match=r"node_attr must have shape \[7, 16\]"):
        given(node_attr=torch.ones(7, 4, dtype=torch.float64))
