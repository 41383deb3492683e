"""The inputs: all-pair molecules, a sparse ring, random clusters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from torch_cormorant.errors import DataError
from torch_cormorant.graph import radius_graph

DENSITY = 0.1
"""Atoms per cubic Angstrom, as in water or a protein."""
MIN_DISTANCE = 1.0
"""Smallest distance of two atoms in Angstrom."""
ELEMENTS = (1, 6, 7, 8, 9)
RING_DEGREE = 16
RING_REACH = 64
RING_SPACING = 0.05
RING_WIDTH = 4.0


@dataclass(frozen=True)
class Graph:
    """Positions and edges.

    ``molecules`` and ``atoms`` are given where all pairs of equal molecules are meant,
    else ``molecules`` is 0.
    """

    name: str
    pos: Tensor
    edge_index: Tensor
    molecules: int = 0
    atoms: int = 0

    @property
    def num_nodes(self) -> int:
        """Number of nodes."""
        return self.pos.shape[0]

    @property
    def num_edges(self) -> int:
        """Number of directed edges."""
        return self.edge_index.shape[1]

    @property
    def edge_vec(self) -> Tensor:
        """``pos[target] - pos[source]``."""
        return self.pos[self.edge_index[1]] - self.pos[self.edge_index[0]]


@dataclass(frozen=True)
class Molecules:
    """Elements and positions of a batch of molecules."""

    z: Tensor
    pos: Tensor
    batch: Tensor
    count: int


def make(name: str) -> Graph:
    """A graph by name.

    Args:
        name: ``"25x18"``: 25 molecules of 18 atoms, all pairs without self edges;
            ``"20000"``: about that many edges on a ring, 16 per node on average.

    Example:
        >>> make("25x18").num_edges, make("20000").num_edges
        (7650, 20000)
    """
    generator = torch.Generator().manual_seed(0)
    if "x" not in name:
        return _ring(name, int(name) // RING_DEGREE, generator)
    molecules, atoms = map(int, name.split("x"))
    target, source = (~torch.eye(atoms, dtype=torch.bool)).nonzero().unbind(1)
    offset = (torch.arange(molecules) * atoms)[:, None]
    edge_index = torch.stack([(source + offset).flatten(), (target + offset).flatten()])
    pos = 2 * torch.randn(molecules * atoms, 3, generator=generator)
    return Graph(name, pos, edge_index, molecules, atoms)


def _ring(name: str, nodes: int, generator: torch.Generator) -> Graph:
    """Every node is bound to 8 random ones among those that follow, both ways."""
    angle = torch.arange(nodes) * (2 * math.pi / nodes)
    radius = RING_SPACING * nodes / (2 * math.pi)
    ring = radius * torch.stack([angle.cos(), angle.sin(), torch.zeros(nodes)], dim=1)
    pos = ring + RING_WIDTH * torch.rand(nodes, 3, generator=generator)
    half = RING_DEGREE // 2
    reach = min(RING_REACH, nodes // 2)
    step = torch.randint(1, reach, (nodes, half), generator=generator)
    target = torch.arange(nodes).repeat_interleave(half)
    source = (target + step.flatten()) % nodes
    both = torch.stack([torch.cat([source, target]), torch.cat([target, source])])
    return Graph(name, pos, both[:, both[1].argsort(stable=True)])


def cluster(atoms: int, seed: int = 0) -> Tensor:
    """Random positions in a ball: 0.1 atoms per cubic Angstrom, at least 1 A apart.

    Atoms too close to an earlier one are drawn again until none is left.

    Args:
        atoms: Number of atoms.
        seed: Of the random numbers.

    Returns:
        ``[atoms, 3]`` float32, Angstrom.

    Example:
        >>> pos = cluster(50)
        >>> bool((torch.pdist(pos) >= 1.0).all())
        True
    """
    generator = torch.Generator().manual_seed(seed)
    radius = (3 * atoms / (4 * math.pi * DENSITY)) ** (1 / 3)
    pos = _in_ball(atoms, radius, generator)
    while True:
        source, target = radius_graph(pos, MIN_DISTANCE)
        again = target[source < target].unique()
        if not again.numel():
            return pos
        pos[again] = _in_ball(again.numel(), radius, generator)


def _in_ball(count: int, radius: float, generator: torch.Generator) -> Tensor:
    direction = torch.randn(count, 3, generator=generator)
    direction /= direction.norm(dim=1, keepdim=True)
    return radius * torch.rand(count, 1, generator=generator) ** (1 / 3) * direction


def radius_cluster(atoms: int, cutoff: float) -> Graph:
    """A random cluster with all neighbours within the cutoff, no self edges."""
    pos = cluster(atoms)
    return Graph(f"{atoms} atoms", pos, radius_graph(pos, cutoff))


def elements(atoms: int, seed: int = 0) -> Tensor:
    """Random atomic numbers among H C N O F."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(len(ELEMENTS), (atoms,), generator=generator)
    return torch.tensor(ELEMENTS)[chosen]


def molecules(name: str, inputs: Path | None) -> Molecules:
    """A batch of clusters, generated or read.

    Args:
        name: ``"25x18"``: 25 molecules of 18 atoms.
        inputs: ``speed_inputs.npz``, or None.

    Raises:
        DataError: The file cannot be read or lacks the arrays.
    """
    count, atoms = map(int, name.split("x"))
    if inputs is None:
        parts = [cluster(atoms, seed) for seed in range(count)]
        pos, z = torch.cat(parts), elements(count * atoms)
    else:
        pos, z = _read(inputs, f"n{atoms}" if count == 1 else f"batch{name}")
    batch = torch.arange(count).repeat_interleave(atoms)
    return Molecules(z, pos, batch, count)


def _read(inputs: Path, key: str) -> tuple[Tensor, Tensor]:
    try:
        with np.load(inputs) as arrays:
            pos, z = arrays[f"{key}_pos"], arrays[f"{key}_charges"]
    except (OSError, ValueError, KeyError) as error:
        msg = f"{inputs} does not hold {key}_pos and {key}_charges ({error})"
        raise DataError(msg) from error
    return (
        torch.from_numpy(pos.reshape(-1, 3)).float(),
        torch.from_numpy(z.reshape(-1)).long(),
    )
