"""Networks of the family against the public ones, with the same weights, in turns.

    python -m benchmarks.family [--rounds 7] [--only painn] [--json FILE]

Energies and forces of 25 random molecules of 18 atoms (cutoff 5 A) in float32 on one
thread, from positions and given edges. SchNet against the class of torch-geometric,
PaiNN against its formulas in plain PyTorch with rows for every edge, NequIP and Allegro
against the packages nequip and nequip-allegro where they are installed. Forces are
compared too. Times are CPU times of the process; every round runs each side, medians
are compared.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.machine import cpu_model
from benchmarks.peers import version_of
from torch_cormorant import radius_graph
from torch_cormorant.networks import Allegro, NequIP, Network, PaiNN, SchNet
from torch_cormorant.ops import EdgeGeometry, build_plan
from torch_cormorant.testing import random_molecule

CUTOFF = 5.0
Energy = Callable[[Tensor], Tensor]


class Molecules(NamedTuple):
    """A batch and its edges."""

    z: Tensor
    pos: Tensor
    batch: Tensor
    edges: Tensor


def molecules(count: int = 25, atoms: int = 18) -> Molecules:
    """Random molecules in float32.

    Example:
        >>> molecules(2, 3).z.shape
        torch.Size([6])
    """
    generator = torch.Generator().manual_seed(0)
    parts = [random_molecule(atoms, generator, torch.float32) for _ in range(count)]
    z, pos = (torch.cat(list(values)) for values in zip(*parts, strict=True))
    batch = torch.arange(count).repeat_interleave(atoms)
    return Molecules(z, pos, batch, radius_graph(pos, CUTOFF, batch))


def ours(network: Network, given: Molecules) -> Energy:
    """Sum of the energies, from positions; the plan of the edges is made before."""
    vec = given.pos[given.edges[1]] - given.pos[given.edges[0]]
    plan = build_plan(given.edges, len(given.z), len(given.z), vec)
    count = int(given.batch.max()) + 1

    def energy(pos: Tensor) -> Tensor:
        vec = pos[given.edges[1]] - pos[given.edges[0]]
        geometry = EdgeGeometry.from_plan(given.edges, vec, plan)
        levels = network.run_levels(given.z, geometry)
        out = network.read_out(
            levels, geometry, given.batch, count, z=given.z, check=False
        )
        return out.sum()

    return energy


class PlainPaiNN(nn.Module):
    """The formulas of SchNetPack's PaiNN, with rows for every edge.

    Args:
        weights: A ``state_dict`` with SchNetPack's names.
        cutoff: In Angstrom.

    Example:
        >>> given = molecules(1, 4)
        >>> network = PaiNN(channels=4, num_levels=1, cutoff=CUTOFF)
        >>> plain = PlainPaiNN(network.to_original(), CUTOFF)
        >>> bool((plain(given, given.pos) - network(*given[:3])).abs() < 1e-5)
        True
    """

    def __init__(self, weights: dict[str, Tensor], cutoff: float) -> None:
        super().__init__()
        self.w, self.cutoff = weights, cutoff
        self.levels = sum("mu_channel_mix" in name for name in weights)

    def linear(self, x: Tensor, name: str) -> Tensor:
        """A linear layer by its name."""
        bias = self.w.get(f"{name}.bias")
        return nn.functional.linear(x, self.w[f"{name}.weight"], bias)

    def dense(self, x: Tensor, name: str) -> Tensor:
        """Two linear layers with a SiLU between them."""
        return self.linear(nn.functional.silu(self.linear(x, f"{name}.0")), f"{name}.1")

    def forward(self, given: Molecules, pos: Tensor) -> Tensor:
        """Sum of the energies."""
        source, target = given.edges
        vec = pos[source] - pos[target]
        r = vec.norm(dim=1, keepdim=True)
        basis = "representation.radial_basis"
        scaled = (r - self.w[f"{basis}.offsets"]) / self.w[f"{basis}.widths"]
        rows = self.linear((-0.5 * scaled**2).exp(), "representation.filter_net")
        rows = rows * 0.5 * (torch.cos(r * (torch.pi / self.cutoff)) + 1)
        q = self.w["representation.embedding.weight"][given.z]
        mu = q.new_zeros(len(q), 3, q.shape[1])
        for k, filters in enumerate(rows.chunk(self.levels, dim=1)):
            name = f"representation.interactions.{k}.interatomic_context_net"
            dq, dr, dm = (self.dense(q, name)[source] * filters).chunk(3, dim=1)
            step = dr[:, None] * (vec / r)[..., None] + dm[:, None] * mu[source]
            q = q.index_add(0, target, dq)
            mu = mu.index_add(0, target, step)
            name = f"representation.mixing.{k}"
            v, u = self.linear(mu, f"{name}.mu_channel_mix").chunk(2, dim=2)
            norm = (v.square().sum(1) + 1e-8).sqrt()
            both = torch.cat([q, norm], dim=1)
            a, b, d = self.dense(both, f"{name}.intraatomic_context_net").chunk(
                3, dim=1
            )
            q, mu = q + a + d * (v * u).sum(1), mu + b[:, None] * u
        return self.dense(q, "output_modules.0.outnet").sum()


def schnet(given: Molecules) -> tuple[Energy, Energy]:
    """128 channels, 6 levels, 50 Gaussians: the published size."""
    from torch_geometric.nn.models import SchNet as Theirs

    def graph(pos: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
        del batch
        vec = pos[given.edges[0]] - pos[given.edges[1]]
        return given.edges, vec.norm(dim=1)

    peer = Theirs(128, 128, 6, 50, CUTOFF, graph).eval().requires_grad_(False)
    network = SchNet.from_original(peer.state_dict()).requires_grad_(False)
    return ours(network, given), lambda pos: peer(given.z, pos, given.batch).sum()


def painn(given: Molecules) -> tuple[Energy, Energy]:
    """128 channels, 3 levels, 20 Gaussians."""
    network = PaiNN(channels=128, num_levels=3, cutoff=CUTOFF).requires_grad_(False)
    plain = PlainPaiNN(network.to_original(), CUTOFF)
    return ours(network, given), lambda pos: plain(given, pos)


def nequip(given: Molecules) -> tuple[Energy, Energy] | None:
    """32 channels to degree 2, one parity, 4 levels; None without the package."""
    try:
        import_module("nequip.utils.global_state").set_global_state()
        NequIPGNNModel = import_module("nequip.model").NequIPGNNModel
    except ImportError:
        return None
    settings: dict[str, Any] = {
        "r_max": CUTOFF,
        "type_names": ["H", "C", "N", "O", "F"],
        "l_max": 2,
        "parity": False,
        "num_features": 32,
        "avg_num_neighbors": 15.0,
    }
    peer = NequIPGNNModel(seed=0, model_dtype="float32", **settings)
    network = NequIP.from_original(peer.state_dict(), settings).requires_grad_(False)
    return ours(network, given), theirs(peer, network.index(given.z), given)


def allegro(given: Molecules) -> tuple[Energy, Energy] | None:
    """32 tensors to degree 2, one parity, 64 scalars, 2 layers; None without it."""
    try:
        import_module("nequip.utils.global_state").set_global_state()
        AllegroModel = import_module("allegro.model").AllegroModel
    except ImportError:
        return None
    settings: dict[str, Any] = {
        "r_max": CUTOFF,
        "type_names": ["H", "C", "N", "O", "F"],
        "l_max": 2,
        "parity": False,
        "num_tensor_features": 32,
        "avg_num_neighbors": 15.0,
        "radial_chemical_embed": {
            "_target_": "allegro.nn.TwoBodyBesselScalarEmbed",
            "num_bessels": 8,
        },
    }
    peer = AllegroModel(seed=0, model_dtype="float32", **settings).requires_grad_(False)
    network = Allegro.from_original(peer.state_dict(), settings).requires_grad_(False)
    return ours(network, given), theirs(peer, network.index(given.z), given)


def theirs(peer: Any, types: Tensor, given: Molecules) -> Energy:
    """Sum of the energies by a network of the nequip family of packages."""
    keys = import_module("nequip.data").AtomicDataDict
    flipped = given.edges.flip(0)  # there the receiver is row 0

    def energy(pos: Tensor) -> Tensor:
        data = {
            keys.POSITIONS_KEY: pos,
            keys.EDGE_INDEX_KEY: flipped,
            keys.ATOM_TYPE_KEY: types,
            keys.BATCH_KEY: given.batch,
            keys.NUM_NODES_KEY: given.batch.bincount(),
        }
        out: Tensor = peer.model.func(data)[keys.TOTAL_ENERGY_KEY].sum()
        return out

    return energy


PAIRS = {"schnet": schnet, "painn": painn, "nequip": nequip, "allegro": allegro}


def forces(energy: Energy, pos: Tensor) -> tuple[Tensor, Tensor]:
    """Energy and forces, the job that is timed."""
    pos = pos.detach().requires_grad_()
    total = energy(pos)
    (slope,) = torch.autograd.grad(total, pos)
    return total.detach(), -slope


def compare(name: str, given: Molecules, rounds: int) -> dict[str, Any] | None:
    """Medians of both sides, and how far their forces are apart."""
    pair = PAIRS[name](given)
    if pair is None:
        return None
    results = [forces(energy, given.pos) for energy in pair]
    (_, f), (_, g) = results
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for energy, own in zip(pair, times, strict=True):
            start = time.process_time()
            forces(energy, given.pos)
            own.append(time.process_time() - start)
    here, there = map(statistics.median, times)
    return {
        "network": name,
        "edges": given.edges.shape[1],
        "ours_ms": 1e3 * here,
        "theirs_ms": 1e3 * there,
        "ratio": there / here,
        "force_difference": float((f - g).abs().max() / g.abs().max()),
    }


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=list(PAIRS))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    given, rows = molecules(), []
    for name in PAIRS if args.only is None else [args.only]:
        row = compare(name, given, args.rounds)
        if row is None:
            print(f"{name}: the package is not installed")
            continue
        rows.append(row)
        print(
            f"{name:8} {row['edges']} edges: {row['ours_ms']:.1f} ms, theirs "
            f"{row['theirs_ms']:.1f} ms, ratio {row['ratio']:.2f}; forces differ by "
            f"{row['force_difference']:.1e}"
        )
    if args.json is not None:
        names = ("torch", "torch_geometric", "nequip", "nequip-allegro")
        versions = {package: version_of(package) for package in names}
        record = {"cpu": cpu_model(), "versions": versions, "rows": rows}
        args.json.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
