"""What a training step costs, beside the same step of other networks.

    python -m benchmarks.training_step
    python -m benchmarks.training_step --cases force-10 qm9-25 --repeat 50
    python -m benchmarks.training_step --networks cormorant "cormorant before" nequip

A step is all that stands between the rows of a data set and the next weights: joining
the batch and its graph, forward, loss, backward, clipping, AMSGrad. Losses on forces
are differentiated twice. All networks have the package's loss and optimiser and are
given the edges of one search (cutoff 5 Angstrom). One thread, process CPU time, medians
of steps in turns; memory in a process of its own. At the end the losses of 50 steps
with fused operators beside those without.

"unfused" is the same step operator by operator. "before" is the whole step as it was
before training was made faster, as far as today's code has it: operator by operator,
edges searched, checked and matched in every step, batches, AdamW and clipping as PyG
and PyTorch have them by default. Peers that need another environment: run this with its
Python.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from benchmarks.force_families import PeerPotential
from benchmarks.machine import cpu_model, load
from benchmarks.painn import PaiNNPeer
from benchmarks.peers import (
    InCell,
    MACEPeer,
    NequIPPeer,
    PeerMissingError,
    SchNetPeer,
)
from benchmarks.speed.measure import (
    interleaved,
    memory_is_measurable,
    peak_growth_mb,
)
from torch_cormorant import Cormorant, train
from torch_cormorant.data import MiniEthanol, MiniQM9
from torch_cormorant.models import Potential
from torch_cormorant.models.recipe import recipe
from torch_cormorant.networks import NequIP, PaiNN, SchNet
from torch_cormorant.ops import fused
from torch_cormorant.train.joining import join
from torch_cormorant.train.updates import clip_to

CUTOFF, CLIP, LOSSES = 5.0, 10.0, 50
TRAINING: dict[str, Any] = {"lr": 1e-3, "warmup_steps": 100}
"""As examples/qm9.py on QM9: without a warm-up the first losses jump, and roundings
grow to parts in a thousand within 50 steps."""
UNFUSED, BEFORE = " unfused", " before"
"""What names of our networks without fused operators, and of the old step, end with."""
QM9_SPECIES = (1, 6, 7, 8, 9)

OURS: dict[str, dict[str, Any]] = {
    "cormorant": {},
    "cormorant-real": {"complex": False},
    "cormorant-trig": {"radial": "power_trig"},
}
FAMILY: dict[str, Callable[[Any], nn.Module]] = {
    "our-schnet": lambda species: SchNet(
        species, cutoff=CUTOFF, channels=128, num_levels=6
    ),
    "our-painn": lambda species: PaiNN(species, cutoff=CUTOFF, channels=128),
    "our-nequip": lambda species: NequIP(species, cutoff=CUTOFF, lmax=2, parity=False),
}
"""Networks of the package after other papers, in the sizes of the peers."""
PEERS: dict[str, Callable[..., InCell]] = {
    "schnet": lambda species: SchNetPeer(CUTOFF),  # noqa: ARG005
    "painn": lambda species: PaiNNPeer(CUTOFF),  # noqa: ARG005
    "nequip": NequIPPeer,
    "mace": MACEPeer,
}


@dataclass
class Case:
    """Molecules that a step is taken on.

    Args:
        name: ``force-N``: N frames of ethanol, energies and forces, the default of
            ``Cormorant.potential``; ``qm9-N``: N molecules, energies alone, the recipe
            of ``examples/qm9.py``.
    """

    name: str

    @property
    def size(self) -> int:
        """Molecules of a batch."""
        return int(self.name.rpartition("-")[2])

    @property
    def forces(self) -> bool:
        """Whether forces are learned."""
        return self.name.startswith("force")

    @cached_property
    def data(self) -> Any:
        """The data set."""
        return MiniEthanol() if self.forces else MiniQM9("gap")

    def batches(self) -> Iterator[tuple[list[Any], list[int]]]:
        """Rows of a batch and their numbers, the same ones in the same order always."""
        # Not only the small molecules that the set begins with.
        order = torch.randperm(
            len(self.data), generator=torch.Generator().manual_seed(0)
        ).tolist()
        for number in itertools.count():
            start = number * self.size
            rows = [order[(start + k) % len(order)] for k in range(self.size)]
            yield [self.data[row] for row in rows], rows

    def network(self, name: str) -> nn.Module:
        """A new network, the same for the same name.

        Raises:
            PeerMissingError: The package of a peer is not installed.
        """
        torch.manual_seed(0)
        species = self.data.species if self.forces else QM9_SPECIES
        if name in FAMILY:
            made: Any = FAMILY[name](species)
            return Potential(made) if self.forces else made
        if name in PEERS:
            peer = PEERS[name](species)
            return PeerPotential(peer, periodic=False) if self.forces else peer
        if self.forces:
            return Cormorant.potential(species, size="complex", **OURS[name])
        return recipe(species=list(species), size="complex", **OURS[name])

    def module(self, name: str) -> train.Regression:
        """The network with its loss."""
        network: Any = self.network(name)
        if self.forces:
            units = train.potential_normalisation(self.data)
            return train.PotentialRegression(network, units, **TRAINING)
        values = self.data.values
        mean, std = float(values.mean()), float(values.std())
        return train.PropertyRegression(network, mean, std, **TRAINING)


class Step:
    """One way to take steps; called, it takes the next one and returns its loss.

    Args:
        case: The molecules.
        name: The network, perhaps ending with :data:`UNFUSED` or :data:`BEFORE`.
        fixed: Take the first batch always. Default False.
    """

    def __init__(self, case: Case, name: str, *, fixed: bool = False) -> None:
        self.before = name.endswith(BEFORE)
        self.fused = not self.before and not name.endswith(UNFUSED)
        self.module = case.module(bare(name))
        self.module.train()
        self.weights = list(self.module.model.parameters())
        made: Any = self.module.configure_optimizers()
        self.optimizer = made["optimizer"]
        self.schedule = made["lr_scheduler"]["scheduler"]
        self.store = self.module.graph_store()
        if self.before:
            self.store = None
            self.optimizer = torch.optim.AdamW(self.weights, **self.module.settings())
            rate = self.schedule.lr_lambdas[0]
            self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, rate)
        self.batches = case.batches()
        if fixed:
            self.batches = itertools.repeat(next(self.batches))
        peers = (part for part in self.module.modules() if isinstance(part, InCell))
        self.peer = next(peers, None)
        self.edges: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}

    def batch(self) -> Any:
        """The next batch, with its graph."""
        molecules, numbers = next(self.batches)
        batch = (Batch.from_data_list if self.before else join)(molecules)
        if self.store is not None:
            return self.store.add_to(batch, numbers)
        if self.peer is not None:  # peers find nothing either
            key = tuple(numbers)
            if key not in self.edges:
                found = InCell.edges(self.peer, batch.pos, batch.batch, None, None)
                self.edges[key] = found
            setattr(self.peer, "edges", lambda *_: self.edges[key])  # noqa: B010
        return batch

    def __call__(self) -> float:
        """Take a step."""
        self.optimizer.zero_grad(set_to_none=True)
        with fused.enabled(self.fused) if not self.fused else contextlib.nullcontext():
            loss, _ = self.module.terms(self.batch())
            loss.backward()
        if self.before:
            nn.utils.clip_grad_norm_(self.weights, CLIP)
        else:
            clip_to(self.weights, CLIP)
        self.optimizer.step()
        self.schedule.step()
        return float(loss.detach())


def bare(name: str) -> str:
    """The network, without the way that its steps are taken."""
    return name.removesuffix(UNFUSED).removesuffix(BEFORE)


def names_of(wanted: list[str] | None, *, peers: bool) -> list[str]:
    """The networks that can be built here; says which cannot."""
    ours = [f"{name}{way}" for name in OURS for way in ("", UNFUSED, BEFORE)]
    names = [*ours, *FAMILY, *(PEERS if peers else ())] if wanted is None else wanted
    found = []
    for name in names:
        try:
            if name in PEERS:
                PEERS[name]((1, 6, 8))
        except PeerMissingError as error:
            print(f"{name}: left out, {error}")
        else:
            found.append(name)
    return found


def memory_of(case: str, name: str) -> str:
    """Peak growth of a fresh process in one step, in MB."""
    if not memory_is_measurable():
        return "-"
    command = [sys.executable, "-m", "benchmarks.training_step", "--memory-of"]
    done = subprocess.run(  # the arguments are names of this file
        [*command, case, name], capture_output=True, text=True, check=True
    )
    return done.stdout.split()[-1]


def losses(case: Case, name: str) -> list[float]:
    """Losses of the first steps of a training."""
    step = Step(case, name)
    return [step() for _ in range(LOSSES)]


def table(case: Case, names: list[str], *, repeat: int, memory: bool) -> None:
    """Measure the steps of one case and print them."""
    # potentials want radial functions that are bounded
    names = [name for name in names if not (case.forces and "-trig" in name)]
    timing = interleaved({n: Step(case, n, fixed=True) for n in names}, repeat)
    ours = timing[names[0]]
    for name in names:
        weights = sum(p.numel() for p in case.network(bare(name)).parameters())
        grown = memory_of(case.name, name) if memory else "-"
        print(
            f"{case.name:10} {name:24} {weights:9,d} {timing[name].cpu_ms:9.2f} "
            f"{timing[name].over(ours):7.2f} {grown:>9}",
            flush=True,
        )


def difference(case: Case, name: str) -> float:
    """Largest relative difference of losses with and without fused operators."""
    pairs = zip(losses(case, name), losses(case, name + UNFUSED), strict=True)
    return max(abs(one - other) / abs(other) for one, other in pairs)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    cases = ["force-10", "force-1", "force-100", "qm9-25"]
    add("--cases", nargs="+", default=cases, help="force-N, qm9-N")
    add("--networks", nargs="+", help="names, with ' unfused' or ' before' behind ours")
    add("--repeat", type=int, default=30, help="steps of each (of 100: a third)")
    add("--no-peers", action="store_true", help="our own networks alone")
    add("--no-memory", action="store_true", help="no fresh processes")
    add("--no-losses", action="store_true", help="no comparison of losses")
    add("--memory-of", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.memory_of:
        step = Step(Case(args.memory_of[0]), args.memory_of[1], fixed=True)
        step()  # moments of the optimiser, tables
        with contextlib.suppress(AttributeError):  # freed pages would not be counted
            ctypes.CDLL(None).malloc_trim(0)
        print(f"{peak_growth_mb(step):.1f}")
        return
    print(f"{cpu_model()}, load {load()}, torch {torch.__version__}, one thread")
    names = names_of(args.networks, peers=not args.no_peers)
    print(f"{'batch':10} {'network':24} {'weights':>9} {'CPU ms':>9} ratio {'MB':>11}")
    for name in args.cases:
        case = Case(name)
        repeat = args.repeat if case.size < 100 else max(3, args.repeat // 3)
        table(case, names, repeat=repeat, memory=not args.no_memory)
    compared = [name for name in OURS if args.networks is None or name in args.networks]
    for name, ours in itertools.product(args.cases, compared):
        if args.no_losses or (Case(name).forces and "-trig" in ours):
            continue
        found = difference(Case(name), ours)
        print(f"{name}, {ours}: {LOSSES} losses, fused or not, differ by {found:.1e}")


if __name__ == "__main__":
    main()
