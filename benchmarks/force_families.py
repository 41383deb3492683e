"""The potentials that are compared, all trained by the package's own loss and loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.family_networks import MEMBERS, with_neighbours
from benchmarks.force_data import CUTOFF, Task
from benchmarks.peers import MACEPeer, ViSNetPeer
from torch_cormorant import Cormorant
from torch_cormorant.errors import ConfigError
from torch_cormorant.models import ModelInfo, Normalisation, Potential
from torch_cormorant.models.energy import Result
from torch_cormorant.networks import NBodyNetwork, Network


class PeerPotential(nn.Module):
    """Another network behind our contract, so that one training code serves all.

    Args:
        net: Called as ``net(z, pos, batch, num_graphs)``, periodic ones with
            ``cell, pbc`` too, for ``[num_graphs, 1]``.
        periodic: Whether it is.
    """

    def __init__(self, net: nn.Module, *, periodic: bool) -> None:
        super().__init__()
        self.net, self.periodic = net, periodic
        self.info = ModelInfo(("energy",), ("eV",), Normalisation.none())

    def evaluate(
        self,
        z: Tensor,
        pos: Tensor,
        batch: Tensor,
        cell: Tensor | None = None,
        pbc: Tensor | None = None,
        *,
        forces: bool = True,
        stress: bool = False,
        num_graphs: int = 1,
    ) -> Result:
        """As ``Cormorant.evaluate``: references in float64, forces by autograd."""
        if stress or (cell is not None and not self.periodic):
            raise ConfigError("stress, cell: not offered by this peer")
        train = self.training and torch.is_grad_enabled()
        extra = (cell, pbc) if self.periodic else ()
        units = self.info.normalisation
        with torch.enable_grad():
            place = pos.detach().to(torch.float32).requires_grad_()
            rest = self.net(z, place, batch, num_graphs, *extra)
            energy = units.restore(rest.double(), z, batch)[:, 0]
            slope = None
            if forces:
                (slope,) = torch.autograd.grad(energy.sum(), place, create_graph=train)
        force = None if slope is None else -slope.double()
        if not train:
            energy = energy.detach()
        return Result(energy, None, force, None)


@dataclass(frozen=True)
class Family:
    """A network and how it is trained.

    Attributes:
        make: Builds the network for a task; keywords change its sizes.
        lr: Largest learning rate.
        note: The network in words.
        source: Where the settings come from.
        periodic: Whether it knows cells.
        ours: Whether its weights make a model file.
        sizes: Keywords of ``make``.
        training: Keywords of ``PotentialRegression`` that differ from the defaults.
        batch_factor: Batch size over that of the task, for molecules: they are so
            small that ten cost hardly more than five.
        packages: What else decides the result.
    """

    make: Callable[..., Any]
    lr: float
    note: str
    source: str
    periodic: bool = True
    ours: bool = False
    sizes: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    batch_factor: float = 1.0
    packages: tuple[str, ...] = ()

    def settings(self) -> dict[str, Any]:
        """What a record keeps."""
        names = ("lr", "note", "source", "sizes", "training", "batch_factor")
        return {name: getattr(self, name) for name in names}


def cormorant(task: Task, **sizes: Any) -> nn.Module:
    """``Cormorant.potential`` for the elements of the task."""
    return Cormorant.potential(task.train.species, **sizes)


def nbody(task: Task, **sizes: Any) -> nn.Module:
    """An N-body network for the elements of the task."""
    return Potential(NBodyNetwork(task.train.species, **sizes))


def member(network: Callable[..., Network], task: Task, **sizes: Any) -> nn.Module:
    """A network of the family with its own head."""
    given = with_neighbours(network, sizes, task.mean_neighbours())
    return Potential(network(task.train.species, **given))


def visnet(task: Task, **sizes: Any) -> nn.Module:
    """PyG's ViSNet."""
    del task
    return PeerPotential(ViSNetPeer(CUTOFF, **sizes), periodic=False)


def mace(task: Task, **sizes: Any) -> nn.Module:
    """MACE, its sums divided by the mean number of neighbours of the task."""
    net = MACEPeer(task.train.species, CUTOFF, **sizes)
    neighbours = task.mean_neighbours()
    for block in net.net.interactions:
        block.avg_num_neighbors = neighbours
    return PeerPotential(net, periodic=True)


MUON: dict[str, Any] = {"optimizer": "muon", "huber": 0.1}
"""Training of potentials as the examples do it."""
FAMILIES: dict[str, Family] = {
    "cormorant": Family(
        cormorant,
        lr=1e-2,
        note="Cormorant.potential, 2 levels, 16 complex channels, lmax 2, 5 A",
        source="the defaults of examples/md17.py",
        ours=True,
        sizes={"size": "complex", "num_levels": 2},
    ),
    "cormorant-tuned": Family(
        cormorant,
        lr=1e-2,
        note="the same, in batches of 10 molecules in place of 5",
        source="the best of short trials",
        ours=True,
        sizes={"size": "complex", "num_levels": 2},
        batch_factor=2.0,
    ),
    "cormorant-muon": Family(
        cormorant,
        lr=5e-3,
        note="Cormorant.potential, 2 levels, 32 real channels, lmax 2, 5 A, by Muon",
        source="the search at equal time",
        ours=True,
        training=MUON,
        batch_factor=2.0,
    ),
    "nbody-muon": Family(
        nbody,
        lr=5e-3,
        note="N-body network of balls, gates (10), (11), 16 channels, 4 A, by Muon",
        source="the best of short trials; the optimiser of Cormorant",
        ours=True,
        sizes={"num_levels": 2},
        training=MUON,
    ),
    "nbody": Family(
        nbody,
        lr=1e-2,
        note="N-body network of balls, gates (10), (11), 16 channels, cutoff 4 A",
        source="the best of short trials",
        ours=True,
        sizes={"num_levels": 2},
    ),
    "nbody-hydrogens": Family(
        nbody,
        lr=1e-2,
        note="N-body network: heavy atoms with their hydrogens, then the molecule",
        source="the parts of the paper; all options of the network on",
        periodic=False,
        ours=True,
        sizes={"scheme": "hydrogens"},
    ),
    **{
        f"ours-{name}": Family(
            partial(member, given.network),
            lr=given.lr,
            note=given.note,
            source="as for properties of QM9",
            ours=True,
            sizes={**given.sizes, **given.forces},
            batch_factor=2.0,
        )
        for name, given in MEMBERS.items()
    },
    "visnet": Family(
        visnet,
        lr=3e-3,
        note="PyG's ViSNet, 4 layers, 64 channels, lmax 1, cutoff 5 A",
        source="the best of short trials; its own files have 2e-4 for runs of days",
        periodic=False,
        sizes={"num_layers": 4, "hidden_channels": 64},
        packages=("torch-geometric",),
    ),
    "mace": Family(
        mace,
        lr=1e-2,
        note="MACE, 2 layers, 32x0e+32x1o, correlation 3, cutoff 5 A, not compiled",
        source="its paper's for molecules, and the best of short trials",
        sizes={"channels": 32, "lmax": 1},
        packages=("mace-torch", "e3nn"),
    ),
}


def batch_size(family: Family, task: Task) -> int:
    """Frames per batch."""
    factor = 1.0 if task.periodic else family.batch_factor
    return max(1, round(task.batch * factor))


def build(family: Family, task: Task, seed: int) -> Any:
    """A freshly initialised network, the same for the same seed."""
    if task.periodic and not family.periodic:
        raise ConfigError(f"{task.name}: {family.note}: knows no periodic cells")
    torch.manual_seed(seed)
    return family.make(task, **family.sizes)
