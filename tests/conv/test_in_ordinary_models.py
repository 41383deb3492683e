"""The layer among ordinary layers of torch-geometric."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GATConv, Sequential, global_add_pool

from torch_cormorant import CormorantConv, EdgeGeometry, Gate, Invariants, SO3Norm
from torch_cormorant.so3 import random_rotation

Make = Callable[..., Any]


def test_stock_sequential(example: Make) -> None:
    sample = example()
    convs = [CormorantConv(3, 4, lmax=2), CormorantConv(4, 4, lmax=2, lmax_in=2)]
    norm, gate = SO3Norm(4, lmax=2), Gate(4, lmax=2)
    invariants, linear = Invariants(4, lmax=2), nn.Linear(32, 1)
    model = Sequential(
        "x, edge_index, edge_vec, batch",
        [
            (convs[0], "x, edge_index, edge_vec -> x"),
            (norm, "x -> x"),
            (convs[1], "x, edge_index, edge_vec -> x"),
            (gate, "x -> x"),
            (invariants, "x -> x"),
            linear,
            (global_add_pool, "x, batch -> x"),
        ],
    ).double()
    x, batch = sample.features(3), torch.tensor([0, 0, 0, 1, 1, 1, 1])
    keep = batch[sample.edge_index[0]] == batch[sample.edge_index[1]]
    index, vec = sample.edge_index[:, keep], sample.edge_vec[keep]
    found = model(x, index, vec, batch)
    y = convs[1](norm(convs[0](x, index, vec)), index, vec)
    expected = global_add_pool(linear(invariants(gate(y))), batch)
    assert torch.equal(found, expected)
    found.sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters())


def test_sequential_with_one_geometry_for_all_layers(example: Make) -> None:
    sample = example()
    model = Sequential(
        "x, geometry",
        [
            (CormorantConv(3, 4, lmax=2), "x, geometry -> x"),
            (CormorantConv(4, 4, lmax=2, lmax_in=2), "x, geometry -> x"),
        ],
    ).double()
    geometry = EdgeGeometry.from_pos(sample.pos, sample.edge_index)
    x = sample.features(3)
    expected = model[1](
        model[0](x, sample.edge_index, sample.edge_vec),
        sample.edge_index,
        sample.edge_vec,
    )
    assert torch.equal(model(x, geometry), expected)


class BondNetwork(nn.Module):
    """Covariant layer, its invariants, attention over the same bonds, pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = CormorantConv(4, 5, lmax=2, edge_dim=3)
        self.invariants = Invariants(5, lmax=2)
        self.gat = GATConv(self.invariants.out_channels, 6, edge_dim=3)
        self.linear = nn.Linear(6, 1)

    def forward(self, data: Data) -> Tensor:
        x = self.conv(data.x, data.edge_index, pos=data.pos, edge_attr=data.edge_attr)
        x = self.gat(self.invariants(x), data.edge_index, data.edge_attr).tanh()
        pooled = global_add_pool(self.linear(x), data.batch)
        assert isinstance(pooled, Tensor)
        return pooled


@pytest.fixture
def batch(example: Make) -> Batch:
    graphs = []
    for nodes in (3, 7, 5):
        sample = example(nodes=nodes)
        apart = sample.edge_index[0] != sample.edge_index[1]
        graphs.append(
            Data(
                x=sample.features(4),
                pos=sample.pos,
                edge_index=sample.edge_index[:, apart],
                edge_attr=sample.randn(int(apart.sum()), 3),
            )
        )
    return Batch.from_data_list(graphs)


def test_attention_over_invariants_with_bond_features(batch: Batch) -> None:
    model = BondNetwork().double()
    expected = model(batch)
    assert expected.shape == (3, 1)
    turned = batch.clone()
    turned.pos = batch.pos @ random_rotation().T + 2.0
    torch.testing.assert_close(model(turned), expected, rtol=1e-11, atol=1e-12)
    plain = batch.clone()
    plain.edge_attr = torch.zeros_like(batch.edge_attr)
    assert float((model(plain) - expected).detach().abs().max()) > 1e-3
    expected.sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name


def test_attention_over_invariants_can_be_trained(batch: Batch) -> None:
    torch.manual_seed(0)
    model, target = BondNetwork().double(), torch.tensor([[1.0], [-1], [0.5]])
    adam = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        loss = (model(batch) - target).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.1 * losses[0]
