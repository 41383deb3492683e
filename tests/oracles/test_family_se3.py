"""The SE(3)-Transformer against numbers of its authors' code."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from tests.oracles.public_files import files
from tests.oracles.steerable import Held, listen
from torch_cormorant.errors import ConfigError
from torch_cormorant.irreps import Irreps
from torch_cormorant.networks import SE3Transformer, SE3TransformerBodies
from torch_cormorant.ops import EdgeGeometry, use_backend
from torch_cormorant.so3 import flat_blocks, to_e3nn


class Case(Held):
    """A file and its network."""

    @property
    def bodies(self) -> bool:
        return bool(self.cfg("model").startswith("nbody"))

    @property
    def kind(self) -> Any:
        return SE3TransformerBodies if self.bodies else SE3Transformer

    @property
    def config(self) -> dict[str, Any]:
        names = ["q_signs", "n_heads", "div", "x_ij" if self.bodies else "pooling"]
        return {k: self.cfg(k) for k in names if f"cfg_{k}" in self.held}

    def run(self, network: Any) -> Tensor:
        charges = self.tensor("charges")
        if self.bodies:
            out = network(self.leaves["pos"], self.leaves["vel"], charges, self.batch)
        else:
            vec = self.leaves["pos"][self.index[1]] - self.leaves["pos"][self.index[0]]
            geometry = EdgeGeometry(self.index, vec, len(charges))
            levels = network.run_levels(charges, geometry, self.tensor("edge_w"))
            count = int(self.batch.max()) + 1
            out = network.read_out(levels, geometry, self.batch, count, z=charges)
        return out  # type: ignore[no-any-return]

    def blocks(self, name: str, found: Tensor, irreps: Any) -> None:
        """One array for each degree, ``[rows, channels, 2l + 1]``."""
        for part, (mul, ir) in zip(flat_blocks(found, irreps), irreps, strict=True):
            rows = to_e3nn(part.flatten(1), [(mul, ir)])
            self.compare(f"{name}_l{ir.l}", rows.unflatten(1, (mul, ir.dim)))


class Run(torch.nn.Module):
    """A network as ``functional_call`` wants it."""

    def __init__(self, case: Case, network: Any) -> None:
        super().__init__()
        self.case, self.network = case, network

    def forward(self) -> Tensor:
        return self.case.run(self.network)


@pytest.fixture(params=files("se3t"))
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


@pytest.mark.parametrize("backend", ["auto", "portable"])
def test_result_and_gradients(case: Case, backend: str) -> None:
    network, state = case.kind.read_original(case.weights, case.config)
    state = {f"network.{name}": value for name, value in state.items()}
    with use_backend(backend):
        out = functional_call(Run(case, network), state, ())
        case.compare("out", out)
        case.compare_gradients(out)


def test_activations(case: Case) -> None:
    network = case.kind.from_original(case.weights, case.config)
    seen, out = listen(network), case.run(network)
    case.compare("out", out)
    trunk, block = network.trunk, "block0" if case.cfg("model") == "TFN" else "Gblock"
    whole = [f"trunk.convs.{s}" for s in range(len(trunk.convs))] + ["trunk.last"]
    for s, place in enumerate(whole):
        conv, name = network.get_submodule(place), f"{block}{2 * s}"
        case.blocks(name, seen[place][0], conv.irreps_out)
        if hasattr(conv, "values"):
            for theirs, part, irreps in (
                ("v", "values", conv.values.paths.out),
                ("k", "keys", conv.keys.paths.out),
                ("q", "queries", conv.keys.paths.out),
                ("project", "project", conv.irreps_out),
            ):
                case.blocks(f"{name}_{theirs}", seen[f"{place}.{part}"][0], irreps)
            values = conv.values.paths.out
            summed = seen[f"{place}.project<"][0][:, : values.dim]
            case.blocks(f"{name}_attn", summed, values)
        if place != "trunk.last":
            rows = seen[f"trunk.norms.{s}"][0]
            case.blocks(f"{block}{2 * s + 1}", rows, conv.irreps_out)
    index, pos = case.index, case.leaves["pos"]
    geometry = EdgeGeometry.from_pos(pos, index)
    case.compare("edge_len", geometry.edge_length[:, None])
    _compare_basis(case, geometry)
    if not case.bodies:
        case.compare("f", network.start(case.tensor("charges"))[..., None])
        end = "block2" if block == "block0" else "FCblock"
        pooled = f"Gblock{2 * len(trunk.convs) + 1}"
        pooled = "block10" if block == "block0" else pooled
        case.compare(pooled, seen["head.mlp.0<"][0])
        for k in range(3):
            case.compare(f"{end}{k}", seen[f"head.mlp.{k}"][0])
    assert {name for name in case.left() if not name.startswith("grad")} == set()


def _compare_basis(case: Case, geometry: EdgeGeometry) -> None:
    """Their kernels of degree 1 to 1 by a layer whose radial network is theirs."""
    from torch_cormorant.networks.original_se3 import _factors, _signs
    from torch_cormorant.nn import EdgeKernel

    kernel = EdgeKernel("1x1", "1x1", 1).double()
    factors, last = _factors(kernel, "1,1", _signs(case.config)), kernel.radial["1,1"]
    sh, scalars = geometry.sh(2), geometry.edge_length[:, None]
    columns = []
    for J in range(3):
        with torch.no_grad():
            last[6].weight.zero_()
            last[6].bias.copy_(factors * (torch.arange(3) == J))
        rows = torch.eye(3, dtype=torch.float64)
        made = [kernel(row.expand(len(sh), 3), sh, scalars) for row in rows]
        columns.append(torch.stack(made, dim=2))  # [E, out, in]
    turn = to_e3nn(torch.eye(3, dtype=torch.float64), Irreps("1x1")).T
    basis = torch.stack([turn @ part @ turn.T for part in columns], dim=3)
    case.compare("basis_1_1", basis)


def test_weights_go_back_to_where_they_came_from(case: Case) -> None:
    network = case.kind.from_original(case.weights, case.config)
    found = network.to_original()
    assert found.keys() == case.weights.keys()
    rows = [(*row[:3], 1.0) for row in case.config["q_signs"]]
    again = case.kind.from_original(found, {**case.config, "q_signs": rows})
    case.compare("out", case.run(again))


def test_signs_are_asked_for(case: Case) -> None:
    config = {name: value for name, value in case.config.items() if name != "q_signs"}
    with pytest.raises(ConfigError, match="config needs q_signs"):
        case.kind.from_original(case.weights, config)
    config["q_signs"] = case.config["q_signs"][:1]
    with pytest.raises(ConfigError, match="q_signs has no row for"):
        case.kind.from_original(case.weights, config)
