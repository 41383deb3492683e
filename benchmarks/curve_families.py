"""The networks that the learning curves compare, each at its usual settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.family_networks import MEMBERS, Member
from benchmarks.peers import MACEPeer, NequIPPeer, SchNetPeer, ViSNetPeer
from torch_cormorant import Cormorant, CormorantQM9
from torch_cormorant.models import RECIPE_SIZES, head_for_target
from torch_cormorant.models import recipe as documented
from torch_cormorant.networks import NBodyNetwork

INTENSIVE = {"gap", "homo", "lumo", "mu"}
"""Targets that do not grow with the molecule: atoms are averaged, not summed."""
HEADS = {"gap": "mean", "homo": "mean", "lumo": "mean", "mu": "dipole_norm"}
"""Heads of the recipe; every other target is a sum over atoms."""

REAL = {"": "medium", "-16": "small", "-64": "large"}
"""Sizes of the recipe with real channels."""


class Ours(nn.Module):
    """A Cormorant network behind the signature of the peers."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, z: Tensor, pos: Tensor, batch: Tensor, num_graphs: int) -> Tensor:
        """One number per molecule ``[num_graphs, 1]``."""
        out: Tensor = self.net(z, pos, batch, num_graphs=num_graphs)
        return out


@dataclass(frozen=True)
class Family:
    """A network and how it is trained.

    Attributes:
        make: Builds the network for a target.
        lr: Largest learning rate: 1e-3, for NequIP and MACE the 5e-3 of their guides.
        loss: ``"l1"`` or ``"mse"`` of the normalised target.
        amsgrad: The variant of Adam.
        optimizer: ``"adam"`` or ``"muon"``.
        packages: What else decides the result.
        note: The settings in words.
        timed_as: Family whose measured time of a step is taken where this one's is not
            measured: the same network but for its last layers.
    """

    make: Callable[[str], nn.Module]
    lr: float
    note: str
    loss: str = "l1"
    amsgrad: bool = False
    optimizer: str = "adam"
    packages: tuple[str, ...] = ()
    timed_as: str = ""

    def settings(self) -> dict[str, Any]:
        """What a record keeps."""
        kept = asdict(self)
        del kept["make"], kept["timed_as"]
        return kept


def published(target: str) -> nn.Module:
    """The network of the paper, for every target."""
    del target
    return Ours(CormorantQM9())


def recipe(target: str, **changes: Any) -> nn.Module:
    """Even paths, a norm after every level, Bessel functions, the target's head."""
    head = HEADS.get(target, "extensive")
    net = Cormorant(paths="even", norm="norm", activation="silu", head=head, **changes)
    if head != "dipole_norm":  # a norm of zero has no gradient
        last = [part for part in net.head.modules() if isinstance(part, nn.Linear)][-1]
        with torch.no_grad():  # start at the composition fit, not 50 sigma away
            last.weight.mul_(0.01)
            last.bias.zero_()
    return Ours(net)


def recipe_head(target: str) -> nn.Module:
    """The documented recipe, with the head that the package chooses for the target."""
    return Ours(documented(head=head_for_target(target)))


def nbody(target: str) -> nn.Module:
    """An N-body network of balls with the head that the package chooses."""
    sizes: dict[str, Any] = {"channels": 8, "product": "full", "num_radial": 8}
    return Ours(NBodyNetwork(num_levels=2, head=head_for_target(target), **sizes))


def member(given: Member, target: str) -> nn.Module:
    """A network of the family behind the signature of the peers."""
    return Ours(given.make(target))


def schnet(target: str) -> nn.Module:
    """PyG's SchNet; for mu its norm of a dipole moment."""
    return SchNetPeer(mean=target in INTENSIVE - {"mu"}, dipole=target == "mu")


def averaged(peer: Callable[..., nn.Module]) -> Callable[[str], nn.Module]:
    """A peer that averages over atoms where a target does not grow with them."""
    return lambda target: peer(mean=target in INTENSIVE)


FAMILIES: dict[str, Family] = {
    "published": Family(
        published,
        lr=1e-3,
        note="Cormorant as published: all pairs, mean squared error, AMSGrad",
        loss="mse",
        amsgrad=True,
    ),
    "recipe": Family(
        recipe,
        lr=1e-3,
        note="Cormorant, even paths, SO3Norm, Bessel functions, SiLU, cutoff 5 A",
    ),
    "recipe-head": Family(
        recipe_head,
        lr=1e-3,
        note="the recipe with the head that head_for_target chooses (gap: published)",
        timed_as="recipe",
    ),
    "recipe-muon": Family(
        recipe,
        lr=1e-3,
        note="the recipe, trained by Muon",
        optimizer="muon",
    ),
    **{
        f"real{name}": Family(
            partial(recipe, **RECIPE_SIZES[size]),
            lr=1e-3,
            note=f"the recipe in its size {size!r}: real channels",
        )
        for name, size in REAL.items()
    },
    **{
        f"real{name}-muon": Family(
            partial(recipe, **RECIPE_SIZES[size]),
            lr=3e-3,
            note=f"the same, size {size!r}, trained by Muon",
            optimizer="muon",
            timed_as=f"real{name}",
        )
        for name, size in REAL.items()
    },
    "recipe-soft-3": Family(
        partial(recipe, soft_radius=3.0),
        lr=1e-3,
        note="the recipe with initial soft radii of 3 A instead of 1.73 A",
        timed_as="recipe",
    ),
    "nbody": Family(
        nbody,
        lr=5e-3,
        note="N-body network of balls, gates (10), (11), 8 channels, cutoff 4 A",
    ),
    **{
        f"ours-{name}": Family(partial(member, given), lr=given.lr, note=given.note)
        for name, given in MEMBERS.items()
    },
    "schnet": Family(
        schnet,
        lr=1e-3,
        note="torch_geometric SchNet, its defaults (cutoff 10 A)",
    ),
    "visnet": Family(
        averaged(ViSNetPeer),
        lr=1e-3,
        note="torch_geometric ViSNet, its defaults (cutoff 5 A)",
    ),
    "nequip": Family(
        averaged(NequIPPeer),
        lr=5e-3,
        note="NequIP, 4 layers, degree 2, 32 channels, cutoff 5 A, not compiled",
        packages=("nequip", "e3nn"),
    ),
    "mace": Family(
        averaged(MACEPeer),
        lr=5e-3,
        note="MACE, 2 layers, 64x0e+64x1o, correlation 3, cutoff 5 A, not compiled",
        packages=("mace-torch", "e3nn"),
    ),
}


def build(name: str, target: str, seed: int) -> nn.Module:
    """A freshly initialised network, the same for the same seed."""
    torch.manual_seed(seed)
    return FAMILIES[name].make(target)
