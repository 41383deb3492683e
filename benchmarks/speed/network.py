"""Energies and forces of whole networks beside their peers, at equal size.

All networks have about 300,000 parameters, a cutoff of 5 Angstrom and the edges of our
own search, periodic where the structure is. Weights are random, so results are not
compared, only that forces are finite and sum to zero.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.peers import (
    InCell,
    MACEPeer,
    NequIPPeer,
    PeerMissingError,
    SchNetPeer,
    ViSNetPeer,
)
from benchmarks.speed import graphs
from benchmarks.speed.aggregation import BACKENDS, not_compiled
from benchmarks.speed.formulations import SHOWN, problem_with
from benchmarks.speed.measure import Step, interleaved, memory_of
from benchmarks.speed.results import Row
from benchmarks.speed.settings import Settings
from torch_cormorant.errors import ConfigError, DataError
from torch_cormorant.graph import neighbour_list, radius_graph
from torch_cormorant.graph.lattice import edge_vectors
from torch_cormorant.models import Cormorant
from torch_cormorant.ops import EdgeGeometry
from torch_cormorant.ops.dispatch import use_backend

MEASURED = "energy + forces"
OURS, COMPILED = "Cormorant", "compiled"
NET_FORCE = 1e-3
"""Largest sum of all forces over the largest force that is taken for a rounding."""


@dataclass(frozen=True)
class Structure:
    """Elements, positions and, if it is periodic, cell vectors of one structure."""

    name: str
    z: Tensor
    pos: Tensor
    cell: Tensor | None = None

    @property
    def species(self) -> tuple[int, ...]:
        """Atomic numbers that occur."""
        return tuple(self.z.unique().tolist())


Core = Callable[..., tuple[Tensor, list[Tensor]]]
Sizes = Callable[[tuple[int, ...], float], nn.Module]
"""A constructor that is given the elements and the cutoff."""

PEERS: dict[str, Sizes] = {
    "SchNet": lambda _, cutoff: SchNetPeer(
        cutoff, hidden_channels=104, num_filters=104
    ),
    "ViSNet": lambda _, cutoff: ViSNetPeer(cutoff, hidden_channels=52, num_heads=4),
    "NequIP": lambda species, cutoff: NequIPPeer(species, cutoff, num_features=25),
    "MACE": lambda species, cutoff: MACEPeer(species, cutoff, channels=80),
}
"""Each at its usual number of layers, as wide as 300,000 parameters allow."""


def structure(name: str, settings: Settings) -> Structure:
    """A random cluster (``"100 atoms"``) or a file of the folder of structures.

    Raises:
        DataError: The file cannot be read or lacks ``z`` and ``pos``.
    """
    if name.endswith(" atoms"):
        count = int(name.split(maxsplit=1)[0])
        return Structure(name, graphs.elements(count), graphs.cluster(count))
    path = (settings.structures or Path()) / f"{name}.npz"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            z, pos = arrays["z"], arrays["pos"].astype(np.float32)
            cell = arrays["cell"].astype(np.float32) if "cell" in arrays else None
            ends = arrays["offset"][:2] if "offset" in arrays else (0, len(z))
    except (OSError, ValueError, KeyError) as error:
        msg = f"{path} does not hold z and pos ({error})"
        raise DataError(msg) from error
    frame = pos[0] if pos.ndim == 3 else pos
    first = slice(int(ends[0]), int(ends[1]))
    if cell is not None:
        cell = cell[0] if cell.ndim == 3 else cell
    return Structure(
        name,
        torch.from_numpy(z[first]).long(),
        torch.from_numpy(frame[first]),
        torch.from_numpy(cell) if cell is not None and cell.any() else None,
    )


class Potential:
    """A network on one structure: energy, then forces, nothing else.

    Args:
        net: The network.
        given: The structure.
        backend: Of our operations.
        compiled: Our network under ``torch.compile``.
    """

    def __init__(
        self,
        net: nn.Module,
        given: Structure,
        backend: str = "auto",
        *,
        compiled: bool = False,
    ) -> None:
        self.net, self.given, self.backend = net.eval(), given, backend
        self.batch = torch.zeros_like(given.z)
        self.core: Core | None = None
        if compiled and isinstance(net, Cormorant):
            self.core = torch.compile(net.forward_features, dynamic=False)
        for weight in net.parameters():
            weight.requires_grad_(False)

    def __call__(self) -> Tensor:
        """Forces ``[N, 3]``."""
        pos = self.given.pos.detach().requires_grad_()
        with use_backend(self.backend):
            if self.core is not None and isinstance(self.net, Cormorant):
                energy = self._compiled(self.net, self.core, pos)
            elif isinstance(self.net, Cormorant) and self.given.cell is not None:
                return self.net.energy_and_forces(
                    self.given.z, pos, cell=self.given.cell, num_graphs=1
                )[1]
            elif isinstance(self.net, Cormorant):
                energy = self.net(self.given.z, pos, self.batch, num_graphs=1)
            else:
                cell = (self.given.cell,) if isinstance(self.net, InCell) else ()
                energy = self.net(self.given.z, pos, self.batch, 1, *cell)
            return -torch.autograd.grad(energy.sum(), pos)[0]

    def _compiled(self, net: Cormorant, core: Core, pos: Tensor) -> Tensor:
        """Search and geometry as ever; one graph from there to the energy."""
        z = self.given.z
        cell, shift = self.given.cell, None
        if cell is None:
            index = net.make_edges(pos, None)
        else:
            cutoff = float(net.cutoff or 0)
            index, shift = neighbour_list(pos.detach(), cutoff, None, cell, loop=True)
        vec = edge_vectors(pos, index, shift, cell)
        geometry = EdgeGeometry(index, vec, len(z), harmonics=net.harmonics)
        return core(net.features(z, net.dtype), geometry, self.batch, 1)[0]

    def problem(self) -> str:
        """What is wrong with the forces, or nothing."""
        forces = self()
        largest = float(forces.abs().max())
        net = float(forces.sum(0).abs().max())
        if not bool(forces.isfinite().all()):
            return "forces are not finite"
        return "" if net <= NET_FORCE * max(largest, 1e-12) else "net force"


def potential(kind: str, given: Structure, settings: Settings) -> Potential | str:
    """A network by the name of its row, or why it cannot be run."""
    torch.manual_seed(0)
    if kind in PEERS:
        return _peer(kind, given, settings)
    if kind == COMPILED and not settings.compiled:
        return "not asked for: --compiled"
    wrong = "" if kind == COMPILED else problem_with(kind)
    if wrong:
        return wrong
    net = Cormorant(
        given.species,
        channels=settings.channels,
        lmax=settings.lmax,
        cutoff=settings.cutoff,
        paths="even",
        norm="norm",
        activation="silu",
        head="extensive",
    )
    if kind == COMPILED:
        return Potential(net, given, compiled=True)
    return Potential(net, given, kind)


def _peer(kind: str, given: Structure, settings: Settings) -> Potential | str:
    if given.cell is not None and kind == "ViSNet":
        return "not run: PyG's ViSNet takes no periodic cells"
    try:
        with warnings.catch_warnings():
            # Notices about the peers' own use of torch.
            warnings.simplefilter("ignore")
            return Potential(PEERS[kind](given.species, settings.cutoff), given)
    except PeerMissingError as error:
        return f"not run: {error}"
    except Exception as error:  # noqa: BLE001 - whatever a foreign package raises
        return f"not run: {type(error).__name__}: {str(error).splitlines()[0]}"


def step_of(case: str, settings: Settings) -> Step:
    """``"dhfr/NequIP"`` or ``"dhfr/portable"``."""
    name, kind = case.split("/")
    found = potential(kind, structure(name, settings), settings)
    if isinstance(found, str):
        raise ConfigError(found)
    return found


def run(settings: Settings) -> Iterator[Row]:
    """All rows of this section.

    Raises:
        ConfigError: A peer that is asked for is unknown.
    """
    unknown = [name for name in settings.peers if name not in PEERS]
    if unknown:
        msg = f"no network {unknown[0]!r}; expected some of {', '.join(PEERS)}"
        raise ConfigError(msg)
    for name in settings.network_structures:
        yield from _run_structure(structure(name, settings), settings)


def _run_structure(given: Structure, settings: Settings) -> Iterator[Row]:
    kinds = itertools.chain(BACKENDS, [COMPILED], settings.peers or PEERS)
    found = {kind: potential(kind, given, settings) for kind in kinds}
    problems: dict[str, str] = {}
    for kind, made in found.items():
        if isinstance(made, Potential):
            try:
                problems[kind] = made.problem()
            except Exception as error:
                if kind != COMPILED:
                    raise
                found[kind] = not_compiled(error)
    steps = {kind: made for kind, made in found.items() if isinstance(made, Potential)}
    times = interleaved(steps, settings.repeat)
    ours = next(iter(times.values()))
    edges = _edges(given, settings.cutoff)
    base = Row("network", given.name, MEASURED, edges, atoms=len(given.z))
    for kind, made in found.items():
        row = replace(base, formulation=_shown(kind))
        if isinstance(made, str):
            yield replace(row, note=made)
            continue
        memory, note = memory_of(f"network/{given.name}/{kind}", settings)
        yield row.timed(
            times[kind],
            ours,
            parameters=sum(weight.numel() for weight in made.net.parameters()),
            memory_mb=memory,
            note="; ".join(filter(None, (problems[kind], note))),
        )


def _edges(given: Structure, cutoff: float) -> int:
    if given.cell is None:
        return radius_graph(given.pos, cutoff).shape[1]
    return neighbour_list(given.pos, cutoff, None, given.cell)[0].shape[1]


def _shown(kind: str) -> str:
    if kind == COMPILED:
        return f"{OURS}, compiled"
    return f"{OURS}{SHOWN[kind]}" if kind in BACKENDS else kind
