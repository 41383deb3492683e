"""SEGNN and SEConv against numbers of the published code."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from tests.oracles.public_files import files
from tests.oracles.steerable import Held, listen
from torch_cormorant import radius_graph
from torch_cormorant.conv.steerable_conv import node_attributes
from torch_cormorant.irreps import Irreps
from torch_cormorant.networks import SEGNN, SEGNNBodies
from torch_cormorant.ops import EdgeGeometry, use_backend


class Case(Held):
    """A file and its network."""

    @property
    def config(self) -> dict[str, Any]:
        names = ("hidden", "lmax_attr", "pool", "radius", "species", "published_mean")
        return {k: self.cfg(k) for k in names if f"cfg_{k}" in self.held}

    @property
    def kind(self) -> Any:
        return SEGNN if self.cfg("task") == "graph" else SEGNNBodies

    def inputs(self) -> tuple[Tensor, ...]:
        charges = self.tensor("charges")
        if self.kind is SEGNN:
            return charges, self.leaves["pos"], self.batch
        return self.leaves["pos"], self.leaves["vel"], charges, self.batch


@pytest.fixture(params=files("segnn", "seconv"))
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


@pytest.mark.parametrize("backend", ["auto", "portable"])
def test_result_and_gradients(case: Case, backend: str) -> None:
    network, state = case.kind.read_original(case.weights, case.config)
    with use_backend(backend):
        out = functional_call(network, state, case.inputs())
        case.compare("out", out)
        case.compare_gradients(out)


def test_activations(case: Case) -> None:
    network = case.kind.from_original(case.weights, case.config)
    seen = listen(network)
    out = network(*case.inputs())
    trunk, h = network.trunk, network.irreps
    where = {
        "embedding": ("trunk.embedding", h),
        "x": ("trunk<", trunk.embedding.paths.first),
        "pre_pool1": ("trunk.read_1", h),
        "pre_pool2": ("trunk.read_2", trunk.read_2.linear.irreps_out),
    }
    for s, conv in enumerate(trunk.convs):
        here = {"message1": "message_1", "update1": "update_1", "update2": "update_2"}
        for theirs, ours in here.items():
            where[f"layer{s}_{theirs}"] = (f"trunk.convs.{s}.{ours}", h)
        sent = conv.message_2
        irreps = h if trunk.layer == "segnn" else sent.linear.irreps_out
        theirs = "message" if trunk.layer == "linear" else "message2"
        where[f"layer{s}_{theirs}"] = (f"trunk.convs.{s}.message_2", irreps)
        if trunk.layer == "segnn":
            rows = seen[f"trunk.convs.{s}.update_1<"][0][:, h.dim :]
        else:
            rows = seen[f"trunk.convs.{s}.gate<"][0]
            where[f"layer{s}_update"] = (f"trunk.convs.{s}.gate", h)
        case.compare(f"layer{s}_agg", rows, irreps)
        last = "convs" if trunk.norm is None else "norms"
        where[f"layer{s}_out"] = (f"trunk.{last}.{s}", h)
    for name, (place, irreps) in where.items():
        if name in case.held:
            case.compare(name, seen[place][0], irreps)
    if case.kind is SEGNN:
        case.compare("pooled", seen["head.mlp.0<"][0])
        case.compare("post_pool1", seen["head.mlp.1"][0])
    case.compare("out", out)
    _compare_edges(case, network)
    assert {name for name in case.left() if not name.startswith("grad")} == set()


def _compare_edges(case: Case, network: Any) -> None:
    geometry = EdgeGeometry.from_pos(case.leaves["pos"], case.index)
    attr, u = network.trunk.attributes(geometry)
    assert u is None
    harmonics = Irreps.harmonics(network.trunk.convs[0].lmax_attr)
    case.compare("edge_attr", attr, harmonics)
    if case.kind is SEGNN:
        found = radius_graph(case.leaves["pos"].detach(), network.cutoff, case.batch)
        assert torch.equal(found, case.index)
        rows = node_attributes(attr, geometry)
        more = network.trunk.convs[0].edge_scalars(geometry, None)
    else:
        rows = network.node_attributes(attr, case.leaves["vel"], geometry)
        more = network.edge_rows(geometry, case.tensor("charges").flatten())
    case.compare("node_attr", rows, harmonics)
    case.compare("additional", more)


def test_weights_go_back_to_where_they_came_from(case: Case) -> None:
    network = case.kind.from_original(case.weights, case.config)
    found = network.to_original()
    assert found.keys() == case.weights.keys()
    for name, value in found.items():
        assert torch.allclose(value, case.weights[name], rtol=1e-14, atol=0), name
