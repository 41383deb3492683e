"""torch-geometric's own test of a layer: shape, order of edges, sparse layouts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.testing import assert_module

from torch_cormorant import CormorantConv, EdgeGeometry, Gate, Invariants, SO3Linear
from torch_cormorant.nn import MPNNInput, SO3Norm

Make = Callable[..., Any]
EXACT = {"rtol": 1e-12, "atol": 1e-12}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "degrees": {"lmax": 2, "lmax_in": 1, "lmax_sh": 3},
    "real": {"complex": False, "lmax_in": 2},
    "even": {"paths": "even", "lmax_in": 1},
    "cutoff": {"cutoff": 2.0, "radial": "bessel"},
    "solid": {"harmonics": "solid", "init": "published"},
    "reference": {"backend": "reference", "lmax_in": 1, "lmax": 1},
    "portable": {"backend": "portable", "lmax_in": 1},
}
pytestmark = [
    # torch and torch-geometric say so of every sparse tensor
    pytest.mark.filterwarnings("ignore:Sparse"),
    pytest.mark.filterwarnings("ignore:.*to CSR format"),
]


def features(sample: Any, conv: CormorantConv) -> Tensor:
    shape = ((conv.lmax_in + 1) ** 2, conv.planes, conv.in_channels)
    return sample.randn(len(sample.pos), *shape)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", list(OPTIONS))
def test_layers_pass_with_positions_and_every_layout(example: Make, name: str) -> None:
    sample = example()
    conv = CormorantConv(2, 3, **OPTIONS[name]).double()
    size = (len(sample.pos), (conv.lmax + 1) ** 2, conv.planes, 3)
    x = features(sample, conv)
    assert_module(
        conv, x, sample.edge_index, expected_size=size, pos=sample.pos, **EXACT
    )


@pytest.mark.parametrize("name", list(OPTIONS))
def test_layers_pass_with_vectors_of_the_edges(example: Make, name: str) -> None:
    sample = example()
    conv = CormorantConv(2, 3, edge_dim=2, **OPTIONS[name]).double()
    size = (len(sample.pos), (conv.lmax + 1) ** 2, conv.planes, 3)
    assert_module(
        conv,
        features(sample, conv),
        sample.edge_index,
        expected_size=size,
        # vectors are in the order of the edges, which a sparse layout changes
        test_sparse_layouts=[],
        edge_vec=sample.edge_vec,
        edge_attr=sample.randn(sample.num_edges, 2),
        **EXACT,
    )


def test_bipartite_graphs_pass(example: Make) -> None:
    sample = example(nodes=7)
    conv = CormorantConv(2, 3, lmax=1).double()
    source, target = sample.pos, sample.pos[:3] + 0.1
    index = torch.cartesian_prod(torch.arange(7), torch.arange(3)).T
    x = (sample.randn(7, 2), sample.randn(3, 2))
    assert_module(
        conv, x, index, expected_size=(3, 4, 2, 3), pos=(source, target), **EXACT
    )


class Stack(nn.Module):
    """All other layers behind a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first = CormorantConv(2, 4, lmax=2)
        self.norm, self.gate = SO3Norm(4, 2), Gate(4, 2)
        self.linear = SO3Linear(4, 3, 2)
        self.second = CormorantConv(3, 4, lmax=1, lmax_in=2)
        self.invariants = Invariants(4, 1)

    def forward(self, x: Tensor, edge_index: Any, pos: Tensor) -> Tensor:
        x = self.linear(self.gate(self.norm(self.first(x, edge_index, pos=pos))))
        out: Tensor = self.invariants(self.second(x, edge_index, pos=pos))
        return out


class Input(nn.Module):
    """The message-passing input, which takes edges with their vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = MPNNInput(2, 5, hidden=8, inner=4, hard_radius=2.0)

    def forward(self, x: Tensor, edge_index: Tensor, pos: Tensor) -> Tensor:
        out: Tensor = self.layer(x, EdgeGeometry.from_pos(pos, edge_index))
        return out


@pytest.mark.parametrize("kind", [Stack, Input])
def test_the_other_layers_pass(example: Make, kind: type[nn.Module]) -> None:
    sample = example()
    module, x = kind().double(), sample.randn(7, 2)
    given = {"pos": sample.pos, **EXACT}
    expected = module(x, sample.edge_index, sample.pos)
    layouts = {} if kind is Stack else {"test_sparse_layouts": []}
    assert_module(
        module, x, sample.edge_index, expected_size=expected.shape, **layouts, **given
    )
