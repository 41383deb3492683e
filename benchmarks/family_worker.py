"""Networks of this package and plain PyTorch, as :mod:`benchmarks.peer_worker` does it.

    python -m benchmarks.family_worker FOLDER exact

``exact`` and ``tables`` are ours, with the weights of ``FOLDER/weights.pt``; ``plain``
and ``pyg`` make those weights.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.painn import PaiNNPeer
from benchmarks.peer_worker import Energy, serve
from torch_cormorant.graph import edge_vectors
from torch_cormorant.models import Potential
from torch_cormorant.networks import Allegro, NequIP, Network, PaiNN, SchNet
from torch_cormorant.ops import EdgeGeometry, build_plan

Given = dict[str, Any]
KINDS: dict[str, Any] = {
    "allegro": Allegro,
    "nequip": NequIP,
    "painn": PaiNN,
    "schnet": SchNet,
}


def vectors(given: Given, pos: Tensor) -> Tensor:
    """Of all edges, target minus source."""
    return edge_vectors(
        pos, given["edges"], given["shift"], given["cell"], given["batch"]
    )


def ours(network: Network, given: Given) -> Energy:
    """Sum of the energies, from positions; the plan of the edges is made before."""
    z, edges, batch = given["z"], given["edges"], given["batch"]
    plan = build_plan(edges, len(z), len(z), vectors(given, given["pos"]))
    count = int(batch.max()) + 1

    def energy(pos: Tensor) -> Tensor:
        geometry = EdgeGeometry.from_plan(edges, vectors(given, pos), plan)
        levels = network.run_levels(z, geometry)
        out = network.read_out(levels, geometry, batch, count, z=z, check=False)
        return out.sum()

    return energy


def plain(given: Given) -> tuple[nn.Module, Energy, dict[str, Tensor]]:
    """PaiNN from its equations, with rows for every edge."""
    settings = given["settings"]
    peer = PaiNNPeer(
        settings["cutoff"], settings["channels"], settings["levels"], settings["n_rbf"]
    )

    def energy(pos: Tensor) -> Tensor:
        rows = peer.energies(given["z"], given["edges"], vectors(given, pos))
        return rows.sum()

    return peer, energy, peer.to_original()


def pyg(given: Given) -> tuple[nn.Module, Energy, dict[str, Tensor]]:
    """SchNet of torch-geometric."""
    from torch_geometric.nn.models import SchNet as Theirs

    settings = given["settings"]
    size, rc = settings["channels"], settings["cutoff"]

    def graph(pos: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
        del batch
        return given["edges"], vectors(given, pos).norm(dim=1)

    peer = Theirs(size, size, settings["levels"], settings["n_rbf"], rc, graph)
    return (
        peer,
        lambda pos: peer(given["z"], pos, given["batch"]).sum(),
        peer.state_dict(),
    )


def main() -> None:
    """Compute what is asked for."""
    folder, side = Path(sys.argv[1]), sys.argv[2]
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    given = torch.load(folder / "given.pt", weights_only=True)
    if side in {"plain", "pyg"}:
        peer, energy, weights = {"plain": plain, "pyg": pyg}[side](given)
        peer.eval().requires_grad_(requires_grad=False)
        serve(folder, given, energy, weights)
        return
    weights = torch.load(folder / "weights.pt", weights_only=True)
    kind = KINDS[given["kind"]]
    config = given["settings"] if kind in {Allegro, NequIP} else {}
    potential = Potential(kind.from_original(weights, config)).requires_grad_(
        requires_grad=False
    )
    if side == "tables":
        potential = potential.tabulate()
    serve(folder, given, ours(potential.network, given), {})


if __name__ == "__main__":
    main()
