"""SEGNN and SE(3)-Transformer: sizes as published, weights there and back, refusals."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from torch_cormorant.errors import ConfigError, WeightsError
from torch_cormorant.models import Potential
from torch_cormorant.networks import (
    SEGNN,
    SE3Transformer,
    SE3TransformerBodies,
    SEGNNBodies,
    network_from_original,
)
from torch_cormorant.testing import random_molecule

PUBLISHED: dict[str, Any] = {
    "envelope": None,
    "constants": "e3nn",
    "head": {"kind": "pooled"},
}
SETTINGS: dict[str, Any] = {"hidden": "4x0e+3x1o", "radius": 3.0}
SIGNS = [(J, a, b, 1) for a in range(2) for b in range(2) for J in range(3)]


def size(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_sizes_are_those_of_the_papers() -> None:
    norm = {"norm": "instance", "head": "pooled"}
    qm9 = SEGNN(channels=36, lmax=2, lmax_attr=3, num_levels=7, cutoff=2.0, **norm)
    assert size(qm9) == 1_033_525
    assert size(SEGNNBodies(channels=32)) == 147_424
    head = {"kind": "pooled", "act": "relu"}
    for edge_dim, count in ((4, 9_828_193), (5, 9_834_625)):
        made = SE3Transformer(
            cutoff=None,
            channels=32,
            num_degrees=4,
            num_levels=7,
            heads=8,
            edge_dim=edge_dim,
            head=head,
        )
        assert size(made) == count
    bodies = {"channels": 8, "num_degrees": 4, "num_levels": 4, "div": 4, "heads": 1}
    assert size(SE3TransformerBodies(**bodies, last_mixing="attentive")) == 293_920


def segnn(**options: Any) -> SEGNN:
    options = {**PUBLISHED, "channels": [4, 3], "num_levels": 2, **options}
    return SEGNN(cutoff=3.0, **options).double()


@pytest.mark.parametrize("layer", ["segnn", "linear", "nonlinear"])
def test_segnn_there_and_back(layer: str) -> None:
    network = segnn(layer=layer, norm="instance")
    weights = network.to_original()
    again = network_from_original(weights, SETTINGS)
    assert type(again) is SEGNN
    z, pos = random_molecule(8)
    assert torch.allclose(again(z, pos), network(z, pos), rtol=1e-12)
    for name, value in again.to_original().items():
        assert torch.allclose(value, weights[name], rtol=1e-13), name


def test_transformer_there_and_back() -> None:
    network = SE3Transformer(
        cutoff=None,
        channels=4,
        num_levels=1,
        heads=2,
        eps=0.0,
        norm_linear=True,
        head={"kind": "pooled", "pool": "max", "act": "relu"},
    ).double()
    weights = network.to_original()
    settings = {"q_signs": SIGNS, "n_heads": 2, "div": 2, "pooling": "max"}
    again = network_from_original(weights, settings)
    assert type(again) is SE3Transformer
    z, pos = random_molecule(6)
    assert torch.allclose(again(z, pos), network(z, pos), rtol=1e-12)


def test_what_segnn_weights_do_not_say_is_asked_for() -> None:
    weights = segnn().to_original()
    for settings, match in [
        ({}, "config needs hidden"),
        ({**SETTINGS, "hidden": "4x0e+3x1e"}, "degrees 0e, 1o, 2e"),
        ({**SETTINGS, "pool": "max"}, "pool='max'"),
        ({**SETTINGS, "norm": "batch"}, "'norm' of Steerable-E3-GNN"),
    ]:
        with pytest.raises(ConfigError, match=match):
            SEGNN.from_original(weights, settings)
    with pytest.raises(WeightsError, match="the network needs"):
        SEGNN.from_original(weights, {**SETTINGS, "hidden": "3x0e+3x1o"})
    more = {**weights, "layers.0.feature_norm.running_mean": torch.ones(4)}
    with pytest.raises(WeightsError, match="has no place in this network"):
        SEGNN.from_original(more, SETTINGS)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"envelope": "cosine"}, "an envelope"),
        ({"constants": "exact"}, "exact constants"),
        ({"head": "extensive"}, "the head 'extensive'"),
        ({"head": {"kind": "pooled", "layers": []}}, "other layers"),
        ({"head": {"kind": "pooled", "layers": [3]}}, "another width"),
    ],
)
def test_networks_that_the_code_does_not_know_are_not_written(
    options: dict[str, Any], match: str
) -> None:
    with pytest.raises(ConfigError, match=match):
        segnn(**options).to_original()
    with pytest.raises(ConfigError, match="a cutoff, or norms with eps"):
        SE3Transformer(
            channels=4, num_levels=1, head={"kind": "pooled", "act": "relu"}
        ).to_original()


def test_a_norm_over_molecules_makes_no_potential() -> None:
    network = SEGNN(channels=4, num_levels=1, norm="instance")
    z, pos = random_molecule(5, dtype=torch.float32)
    assert network(z, pos).shape == (1, 1)
    with pytest.raises(ConfigError, match="norm='instance' runs over all atoms"):
        Potential(network).evaluate(z, pos)


def test_molecules_of_a_batch_are_normed_on_their_own() -> None:
    network = segnn(norm="instance")
    (z, pos), (other, more) = random_molecule(6), random_molecule(5)
    batch = torch.tensor([0] * 6 + [1] * 5)
    both = network(torch.cat([z, other]), torch.cat([pos, more]), batch)
    alone = torch.cat([network(z, pos), network(other, more)])
    assert torch.allclose(both, alone, rtol=1e-11)


def test_scalars_of_edges_are_asked_for() -> None:
    network = SE3Transformer(channels=4, num_levels=1, edge_dim=2)
    z, pos = random_molecule(5, dtype=torch.float32)
    with pytest.raises(ConfigError, match="edge_dim=2: give edge_attr"):
        network(z, pos)


@pytest.mark.parametrize("kind", [SEGNNBodies, SE3TransformerBodies])
def test_bodies_turn_and_move(kind: Any) -> None:
    from torch_cormorant.so3 import random_rotation

    network = kind(channels=4, num_levels=1).double()
    pos, vel = torch.randn(2, 7, 3, dtype=torch.float64)
    charges, batch = torch.randn(7).double(), torch.tensor([0, 0, 0, 1, 1, 1, 1])
    out, R = network(pos, vel, charges, batch), random_rotation()
    turned = network(pos @ R.T + 2.0, vel @ R.T, charges, batch)
    assert torch.allclose(turned, out @ R.T, rtol=1e-10, atol=1e-11)
    alone = network(pos[:3], vel[:3], charges[:3])
    assert torch.allclose(alone, out[:3], rtol=1e-11, atol=1e-12)
    with pytest.raises(ConfigError, match="centre must be one of"):
        SEGNNBodies(centre="mean")
