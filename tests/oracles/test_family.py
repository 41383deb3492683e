"""Allegro, NequIP, PaiNN and SO3Net against the public packages.

The numbers lie in a folder beside the repository, or in the one that the environment
variable CORMORANT_FAMILY names; every file says what it is by its name and settings.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from torch_cormorant.irreps import Irreps
from torch_cormorant.models import Potential
from torch_cormorant.networks import Allegro, NequIP, PaiNN, SO3Net
from torch_cormorant.ops import use_backend
from torch_cormorant.so3 import flat_blocks, to_e3nn

SHARED = Path(__file__).resolve().parents[3] / "shared" / "family"
FOLDER = Path(os.environ.get("CORMORANT_FAMILY", SHARED))
KINDS = {"allegro": Allegro, "nequip": NequIP, "painn": PaiNN, "so3net": SO3Net}
FILES = [
    path for path in sorted(FOLDER.rglob("*.npz")) if path.stem.split("_")[0] in KINDS
]
RTOL = 1e-10
SKIP = pytest.mark.skip(reason=f"no files of public packages in {FOLDER}")
CASES = [pytest.param(path, id=path.stem) for path in FILES] or [
    pytest.param(None, marks=SKIP)
]


class Case:
    """A file, its weights and its network."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as file:
            self.held = {name: file[name] for name in file.files}
        self.kind = KINDS[path.stem.split("_")[0]]
        self.config = json.loads(str(self.held["cfg_json"]))
        self.weights = {
            name[3:]: torch.tensor(value)
            for name, value in self.held.items()
            if name.startswith("sd.")
        }
        self.z, self.batch, self.edge_index = (
            torch.tensor(self.held[name]) for name in ("z", "batch", "edge_index")
        )
        self.pos = torch.tensor(self.held["pos"], requires_grad=True)

    def network(self) -> Any:
        return self.kind.from_original(self.weights, self.config)

    def compare(self, name: str, found: Tensor) -> None:
        expected = self.held[name]
        value = found.detach().numpy()
        assert value.shape == expected.shape, name
        if expected.size:
            scale = max(float(np.abs(expected).max()), 1e-300)
            assert float(np.abs(value - expected).max()) <= RTOL * scale, name


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


@pytest.mark.parametrize("backend", ["auto", "portable"])
def test_energies_forces_and_gradients_of_weights(case: Case, backend: str) -> None:
    names = [str(name) for name in case.held["param_names"]]
    for name in names:
        case.weights[name].requires_grad_()
    network, state = case.kind.read_original(case.weights, case.config)
    wanted = [case.pos, *(case.weights[name] for name in names)]
    with use_backend(backend):
        given = (case.z, case.pos, case.batch)
        energy = functional_call(network, state, given)[:, 0]
        slopes = torch.autograd.grad(energy.sum(), wanted, materialize_grads=True)
    case.compare("energy", energy)
    case.compare("forces", -slopes[0])
    for name, slope in zip(names, slopes[1:], strict=True):
        case.compare(f"grad.{name}", slope)


def test_a_potential_gives_energies_and_forces(case: Case) -> None:
    potential = Potential(case.network())
    out = potential.evaluate(case.z, case.pos.detach(), case.batch)
    case.compare("energy", out.energy)
    case.compare("forces", out.forces)


def test_weights_go_back_to_where_they_came_from(case: Case) -> None:
    found = case.network().to_original()
    for name, value in found.items():
        expected = case.weights[name]
        assert value.shape == expected.shape, name
        assert torch.allclose(value, expected, rtol=1e-14, atol=0), name
    params = {str(name) for name in case.held["param_names"]}
    assert params <= found.keys()
    again = case.kind.from_original(found, case.config)
    energy = again(case.z, case.pos, case.batch)[:, 0]
    case.compare("energy", energy)


def test_activations(case: Case) -> None:
    network = case.network()
    seen: dict[str, list[Tensor]] = defaultdict(list)
    for name, module in network.named_modules():
        module.register_forward_hook(_keep(seen, name))
    vec = case.pos[case.edge_index[1]] - case.pos[case.edge_index[0]]
    geometry = network.geometry(case.edge_index, vec, len(case.z))
    network.read_out(
        network.run_levels(case.z, geometry), geometry, case.batch, 3, z=case.z
    )
    checks = {
        Allegro: allegro_activations,
        NequIP: nequip_activations,
        PaiNN: painn_activations,
        SO3Net: so3net_activations,
    }
    checked = checks[case.kind](case, network, geometry, seen)
    others = ("sd.", "grad.", "cfg_", "irreps.", "cst_")
    inputs = {"z", "pos", "batch", "edge_index", "edge_vec", "atom_types"}
    words = {"versions", "mol_names", "type_names", "sd_names", "param_names"}
    whole = {"energy", "forces", "virial", "energy_float32_tables"}
    left = {name for name in case.held if not name.startswith(others)}
    assert left - inputs - words - whole == checked


def _keep(seen: dict[str, list[Tensor]], name: str) -> Any:
    def hook(module: nn.Module, given: Any, out: Tensor) -> None:
        del module
        seen[name].append(out)
        seen[f"{name}<"].append(given[0])

    return hook


def nequip_activations(
    case: Case, network: NequIP, geometry: Any, seen: dict[str, list[Tensor]]
) -> set[str]:
    checked = set()

    def compare(name: str, found: Tensor, irreps: Any = None) -> None:
        if irreps is not None:  # edges point the other way there
            signs = [ir.p for mul, ir in irreps for _ in range(mul * ir.dim)]
            found = to_e3nn(found, irreps) * torch.tensor(signs)
        case.compare(name, found)
        checked.add(name)

    types = network.index(case.z)
    assert np.array_equal(types, case.held["atom_types"])
    compare("node_attrs", network.embedding.weight[types])
    x = network.to_edges(network.coordinate(case.z, geometry), geometry)
    compare("normed_length", x[:, None])
    rows = network.to_edges(
        network.basis_rows(network.coordinate(case.z, geometry)), geometry
    )
    compare("radial", rows)
    bessel = network.basis(x) * 2 / network.cutoff**2
    compare("cutoff", (rows / bessel)[:, :1].nan_to_num())
    sh = network.convs[0].paths.second
    roots = [(2 * ir.l + 1) ** 0.5 for _, ir in sh for _ in range(ir.dim)]
    compare("sph", geometry.sh(sh.lmax) * torch.tensor(roots, dtype=rows.dtype), sh)
    for s, conv in enumerate(network.convs):
        own = f"convs.{s}."
        weights = network.to_edges(seen[f"radials.{s}"][0], geometry)
        compare(f"layer{s}.edge_weight", weights / conv.path_factors(signs=True))
        compare(f"layer{s}.linear_1", seen[f"{own}linear_1"][0], conv.irreps_in)
        compare(f"layer{s}.tp", seen[f"{own}linear_2<"][0], conv.paths.out)
        compare(f"layer{s}.linear_2", seen[f"{own}linear_2"][0], conv.gate.irreps_in)
        if conv.connection is not None:
            compare(f"layer{s}.sc", seen[f"{own}connection"][0], conv.gate.irreps_in)
        compare(f"layer{s}.pre_gate", seen[f"{own}gate<"][0], conv.gate.irreps_in)
        compare(f"layer{s}.out", seen[own[:-1]][0], conv.irreps_out)
        assert Irreps(str(case.held[f"irreps.layer{s}.out"])) == conv.irreps_out
    raw = seen["head.mlp"][0]
    compare("atom_energy_raw", raw)
    for name, start in (("scale", 1.0), ("shift", 0.0)):
        table = getattr(network.head, name)
        row = start if table is None else table if len(table) == 1 else table[types]
        raw = raw * row if name == "scale" else raw + row
    compare("atom_energy_scaled", raw)
    if network.zbl:
        raw = raw + network.edge_terms(case.z, geometry)
    compare("atom_energy", raw[:, 0])
    return checked


def strided(x: Tensor, irreps: Any, channels: int) -> Tensor:
    """Rows of ours as theirs: channels outside, signs of edges the other way."""
    parts = []
    for part, (mul, ir) in zip(flat_blocks(x, irreps), irreps, strict=True):
        turned = to_e3nn(part.flatten(1), [(mul, ir)]) * ir.p
        parts.append(turned.unflatten(1, (channels, ir.dim)))
    return torch.cat(parts, dim=2)


def allegro_activations(
    case: Case, network: Allegro, geometry: Any, seen: dict[str, list[Tensor]]
) -> set[str]:
    checked, C = set(), network.channels

    def compare(name: str, found: Tensor, irreps: Any = None) -> None:
        case.compare(name, found if irreps is None else strided(found, irreps, C))
        checked.add(name)

    types = network.index(case.z)
    x, row = network._parts(types, geometry)
    radial = network.embedding.radial(x)
    if row is not None:
        x, radial = x[row], radial[row]
    compare("normed_length", x[:, None])
    if "radial" in case.held:
        compare("radial", radial / torch.pi)
        envelope = radial[:, :1] / network.embedding.basis(x)[:, :1]
        compare("cutoff", envelope.nan_to_num())
    else:
        compare("spline_basis", radial)
    compare("edge_embedding0", seen["embedding"][0])
    compare("edge_embedding", seen["two_body"][0])
    sh = Irreps.harmonics(network.lmax)
    roots = [(2 * ir.l + 1) ** 0.5 for _, ir in sh for _ in range(ir.dim)]
    rows = geometry.sh(network.lmax) * torch.tensor(roots, dtype=x.dtype)
    signs = torch.tensor([ir.p for _, ir in sh for _ in range(ir.dim)])
    compare("sph", to_e3nn(rows, sh) * signs)
    whole = Irreps([(C, ir) for _, ir in sh])
    network.start = whole  # theirs keeps what no product needs
    compare(
        "tensor_features", network.first_tensors(seen["tensors"][0], geometry), whole
    )
    S, made = network.scalars, seen["projection"][0]
    for s, block in enumerate(network.blocks):
        if s == 0:
            compare("projection", _rows_of(made, S, network))
        weights = made[:, S:]
        compare(f"layer{s}.env_edges", network.first_tensors(weights, geometry), whole)
        nodes = block.environment(weights, geometry, types)
        compare(f"layer{s}.env_nodes", nodes, whole)
        out = seen[f"blocks.{s}"][0][1]
        compare(f"layer{s}.tensor_out", out, block.irreps_out)
        made = seen[f"blocks.{s}.latent"][0]
        compare(f"layer{s}.latent", _rows_of(made, S, network))
    compare("scalar_out", seen["readout<"][0])
    last = network.head.mlp[0].weight.T
    energies = seen["readout"][0] @ last
    compare("edge_energy", energies * 2**0.5)
    raw = seen["head.mlp"][0]
    compare("atom_energy_raw", raw)
    scaled = network.head(
        network.head_input([seen["head.mlp<"][0]], None, 1, case.z), summed=False
    )
    compare("atom_energy_scaled", scaled)
    compare("atom_energy", scaled[:, 0])
    return checked


def _rows_of(made: Tensor, skip: int, network: Allegro) -> Tensor:
    """Scalars, and weights (u, l) without the roots that are folded in."""
    rest = made[:, skip:].unflatten(1, (-1, network.channels))
    degrees = torch.arange(rest.shape[1]).to(made)
    roots = (2 * degrees + 1).sqrt()[:, None]
    rest = (rest / roots).transpose(1, 2).flatten(1)
    return torch.cat([made[:, :skip], rest], dim=1)


def painn_activations(
    case: Case, network: PaiNN, geometry: Any, seen: dict[str, list[Tensor]]
) -> set[str]:
    checked = set()

    def compare(name: str, found: Tensor) -> None:
        case.compare(name, found)
        checked.add(name)

    def vectors(x: Tensor) -> Tensor:  # x, y, z of edges that point the other way
        return -x[:, network.channels :].unflatten(1, (3, -1))[:, [2, 0, 1]]

    compare("radial", geometry.to_edges(seen["basis"][0]))
    compare("cutoff", geometry.to_edges(seen["envelope"][0])[:, None])
    raw = [seen[f"filters.{k}"][0] for k in range(len(network.filters))]
    compare("filter_raw", geometry.to_edges(torch.cat(raw, dim=1)))
    compare("embedding", seen["embedding"][0])
    convs = range(len(network.convs))
    calls = [seen[f"convs.{k}.mixing{end}"] for k in convs for end in ("<", "")]
    steps = zip(*calls, strict=True)
    flat = [x for row in steps for x in row]
    for k in range(network.num_levels):
        for name, x in zip(("interaction", "mixing"), flat[2 * k :], strict=False):
            compare(f"layer{k}.{name}.q", x[:, : network.channels])
            compare(f"layer{k}.{name}.mu", vectors(x))
    compare("scalar_representation", flat[-1][:, : network.channels])
    compare("vector_representation", vectors(flat[-1]))
    compare("atom_energy", seen["head.mlp"][0][:, 0])
    return checked


def so3net_activations(
    case: Case, network: SO3Net, geometry: Any, seen: dict[str, list[Tensor]]
) -> set[str]:
    checked, irreps = set(), network.convs[0].irreps

    def compare(name: str, found: Tensor) -> None:
        case.compare(name, found)
        checked.add(name)

    def moved(x: Tensor) -> Tensor:  # edges point the other way there
        signs = [ir.p for _, ir in irreps for _ in range(ir.dim)]
        return x.view(len(x), -1, network.channels) * torch.tensor(signs)[:, None]

    L = network.lmax
    roots = [
        (-1) ** l * ((2 * l + 1) / (4 * torch.pi)) ** 0.5
        for l in range(L + 1)
        for _ in range(2 * l + 1)
    ]
    compare("sph", geometry.sh(L) * torch.tensor(roots, dtype=torch.float64))
    compare("radial", geometry.to_edges(seen["basis"][0]))
    compare("cutoff", geometry.to_edges(seen["envelope"][0])[:, None])
    compare("embedding", seen["embedding"][0])
    calls: dict[str, int] = defaultdict(int)
    for k in range(network.num_levels):
        own = f"convs.{min(k, len(network.convs) - 1)}"
        at = calls[own]
        calls[own] += 1
        found = {
            "conv": seen[f"{own}.mixing<"],
            "mixing1": seen[f"{own}.mixing.first"],
            "mixing2": seen[f"{own}.mixing.second"],
            "gate": seen[f"{own}.mixing.third<"],
            "mixing3": seen[f"{own}.mixing.third"],
        }
        for name, values in found.items():
            compare(f"layer{k}.{name}", moved(values[at].reshape(len(case.z), -1)))
    last = seen[own][-1]
    compare("multipole_representation", moved(last))
    compare("vector_representation", moved(last)[:, [3, 1, 2]])
    compare("scalar_representation", last[:, : network.channels])
    compare("atom_energy", seen["head.mlp"][0][:, 0])
    return checked
