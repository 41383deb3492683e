"""The layers of the family: products with harmonics, summed over neighbours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.explain.algorithm.utils import set_masks
from torch_geometric.nn import GATConv, Sequential
from torch_geometric.testing import assert_module

from torch_cormorant import EdgeGeometry, radius_graph
from torch_cormorant.conv import (
    KernelConv,
    NequIPConv,
    PaiNNConv,
    SO3Conv,
    TensorFieldConv,
)
from torch_cormorant.conv.irreps_conv import IrrepsConv
from torch_cormorant.errors import ConfigError, DtypeError, ShapeError
from torch_cormorant.irreps import Irreps
from torch_cormorant.so3 import random_rotation

Make = Callable[..., Any]
CUTOFF = 2.2
EXACT = {"rtol": 1e-12, "atol": 1e-12}
MIXED = "3x0e + 2x1o + 2x1e + 2x2e"
LAYERS: dict[str, tuple[Callable[..., IrrepsConv], str, str]] = {
    "painn": (lambda **o: PaiNNConv(3, **o), "3x0e + 3x1o", "3x0e + 3x1o"),
    "nequip": (
        lambda **o: NequIPConv(MIXED, "3x0e + 2x0o + 2x1o + 1x2o", **o),
        MIXED,
        "3x0e + 2x0o + 2x1o + 1x2o",
    ),
    "so3": (lambda **o: SO3Conv(3, **o), "3x0e + 3x1o + 3x2e", "3x0e + 3x1o + 3x2e"),
    "tfn": (lambda **o: TensorFieldConv(MIXED, MIXED, **o), MIXED, MIXED),
    "tfn_so3": (
        lambda **o: TensorFieldConv("3x0 + 2x1", "4x0 + 2x1 + 1x2", bias=True, **o),
        "3x0 + 2x1",
        "4x0 + 2x1 + 1x2",
    ),
    "kernel": (
        lambda **o: KernelConv("3x0 + 2x1", "4x0 + 2x2", hidden=[5], radius=2.0, **o),
        "3x0 + 2x1",
        "4x0 + 2x2",
    ),
    "full": (
        lambda **o: TensorFieldConv(MIXED, "2x0e + 2x1o", mode="full", **o),
        MIXED,
        "2x0e + 2x1o",
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
        for parameter in self.conv.parameters():
            nn.init.normal_(parameter, std=0.5)
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
    vec = given.pos[given.index[1]] - given.pos[given.index[0]]
    given_vec = {"edge_vec": vec, "test_sparse_layouts": []}
    assert_module(given.conv, given.x, given.index, **given_vec, **common)


def test_results_turn_with_their_input(given: Given, turned: Make) -> None:
    out, R = given(), random_rotation()
    for turn in [R, -R] if given.irreps_in.has_parity else [R]:
        x = turned(given.x, given.irreps_in, turn)
        found = given(x=x, pos=given.pos @ turn.T + 1.0)
        error = (found - turned(out, given.irreps_out, turn)).abs().max()
        assert error < 1e-12 * out.abs().max()


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


def test_geometry_and_weights_may_be_given(given: Given) -> None:
    geometry = EdgeGeometry.from_pos(given.pos, given.index)
    found = given(edge_index=geometry, pos=None)
    assert torch.equal(found, given())
    assert given.conv.radial is not None
    weights = given.conv.radial(geometry.edge_length)
    assert torch.allclose(given(edge_weight=weights), found, **EXACT)
    assert not torch.allclose(given(edge_weight=2 * weights), found)
    with pytest.raises(ShapeError, match="edge_weight must have shape"):
        given(edge_weight=weights[:, 1:])


def test_hooks_see_the_same_sum(given: Given) -> None:
    out, seen = given(), []
    given.conv.register_message_forward_hook(lambda *args: seen.append(args[-1]))
    assert torch.allclose(given(), out, **EXACT)
    assert tuple(seen[0].shape) == (given.index.shape[1], given.conv.paths.out.dim)


def test_a_closed_mask_equals_leaving_the_edge_out(given: Given) -> None:
    """What torch_geometric.explain sets is exact."""
    kept = torch.arange(given.index.shape[1]) % 3 > 0
    expected = given(edge_index=given.index[:, kept])
    set_masks(given.conv, kept.double(), given.index, apply_sigmoid=False)
    assert torch.allclose(given(), expected, **EXACT)


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


def test_repr_and_reset(given: Given) -> None:
    text = repr(given.conv)
    again = eval(text)  # noqa: S307
    assert repr(again) == text
    before = given()
    given.conv.reset_parameters()
    assert not torch.allclose(given(), before)


def test_weights_are_loaded_into_the_same_layer_only(given: Given) -> None:
    state = given.conv.state_dict()
    twin = eval(repr(given.conv)).double()  # noqa: S307
    twin.load_state_dict(state)
    assert torch.equal(twin(given.x, given.index, pos=given.pos), given())


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"x": torch.ones(7, 5, dtype=torch.float64)}, ShapeError, "rows of"),
        ({"x": torch.ones(7, 12)}, DtypeError, "x is torch.float32"),
        ({"pos": None}, ConfigError, "exactly one of edge_vec"),
    ],
)
def test_wrong_inputs_are_named(
    example: Make, changes: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        Given("painn", example())(**changes)


@pytest.mark.parametrize("kind", [PaiNNConv, lambda n, **o: SO3Conv(n, 1, **o)])
def test_scalars_start_a_layer(example: Make, kind: Callable[..., IrrepsConv]) -> None:
    sample = example()
    conv, x = kind(3, cutoff=CUTOFF).double(), sample.randn(7, 3)
    whole = torch.cat([x, x.new_zeros(7, 9)], dim=1)
    found = conv(x, sample.edge_index[:, :-7], pos=sample.pos)
    assert torch.equal(found, conv(whole, sample.edge_index[:, :-7], pos=sample.pos))
    assert found.shape == (7, 12)


def test_layers_go_into_a_sequential(example: Make) -> None:
    sample = example()
    hidden = "4x0e + 2x1o"
    model = Sequential(
        "x, edge_index, vec",
        [
            (PaiNNConv(3, cutoff=CUTOFF), "x, edge_index, vec -> x"),
            (NequIPConv("3x0e + 3x1o", hidden), "x, edge_index, vec -> x"),
            (TensorFieldConv(hidden, "5x0e"), "x, edge_index, vec -> x"),
            (GATConv(5, 3), "x, edge_index -> x"),
            (SO3Conv(3, 1), "x, edge_index, vec -> x"),
            (KernelConv("3x0e + 3x1o", "4x0e"), "x, edge_index, vec -> x"),
            nn.Linear(4, 1),
        ],
    ).double()
    index = radius_graph(sample.pos, CUTOFF)
    vec = sample.pos[index[1]] - sample.pos[index[0]]
    assert model(sample.randn(7, 3), index, vec).shape == (7, 1)


def test_scalars_alone_are_the_filters_of_schnet(example: Make) -> None:
    sample, index = example(), radius_graph(example().pos, CUTOFF)
    conv = TensorFieldConv("4x0", "4x0", cutoff=CUTOFF, bias=False).double()
    x, length = sample.randn(7, 4), EdgeGeometry.from_pos(sample.pos, index).edge_length
    filters = conv.radial(length)
    expected = torch.zeros(7, 4, dtype=torch.float64)
    expected.index_add_(0, index[1], x[index[0]] * filters)
    found = conv(x, index, pos=sample.pos)
    assert torch.allclose(found, expected @ conv.linear.weights["0"], **EXACT)


def test_species_and_counts_of_a_nequip(example: Make) -> None:
    sample = example()
    index = radius_graph(sample.pos, CUTOFF)
    options = {"num_attr": 2, "cutoff": CUTOFF}
    conv = NequIPConv("3x0e", "3x0e", avg_num_neighbors=[4.0, 9.0], **options).double()
    one = NequIPConv("3x0e", "3x0e", avg_num_neighbors=4.0, **options).double()
    one.load_state_dict(dict(conv.named_parameters()), strict=False)
    x, table = sample.randn(7, 3), sample.randn(2, 2)
    types = torch.tensor([0, 1, 0, 0, 1, 1, 0])
    given = {"pos": sample.pos, "node_attr": table}
    found = conv(x, index, node_type=types, **given)
    # features of the second type are divided by 3 instead of 2 where they are sent
    factor = torch.tensor([1.0, 2 / 3], dtype=x.dtype)[types].unsqueeze(1)
    plain = one(x, index, node_type=types, **given)
    assert not torch.allclose(found, plain)
    one.connection = conv.connection = None
    del given["node_attr"]
    found = conv(x, index, node_type=types, **given)
    assert torch.allclose(found, one(x * factor, index, **given), **EXACT)
    with pytest.raises(ConfigError, match="give node_type"):
        conv(x, index, **given)


def test_what_a_layer_needs_is_asked_for(example: Make) -> None:
    sample = example()
    index = radius_graph(sample.pos, CUTOFF)
    conv = NequIPConv("3x0e", "3x0e", num_attr=2).double()
    with pytest.raises(ConfigError, match="num_attr=2, but node_attr is missing"):
        conv(sample.randn(7, 3), index, pos=sample.pos)
    conv = TensorFieldConv("3x0e", "3x0e", cutoff=None).double()
    with pytest.raises(ConfigError, match="give edge_weight"):
        conv(sample.randn(7, 3), index, pos=sample.pos)
    with pytest.raises(ConfigError, match="make no scalars 0e"):
        NequIPConv("3x1e", "3x0o + 2x1o", lmax_sh=1)
    with pytest.raises(ConfigError, match="avg_num_neighbors must be positive"):
        TensorFieldConv("3x0e", "3x0e", avg_num_neighbors=0)
    with pytest.raises(ConfigError, match="PaiNNConv sums over neighbours"):
        PaiNNConv(3, aggr="mean")
