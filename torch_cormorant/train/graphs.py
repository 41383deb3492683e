"""Graphs of training batches, joined from those of their molecules.

Molecules of a data set stay as they are from epoch to epoch, and so do their edges.
What a search, the checks and the matching of pairs find is kept for each molecule, in
few bytes, and the graph of a batch is put together before the step. It is the one that
the step would make, bit by bit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_geometric.data import Batch

from torch_cormorant.errors import CormorantError
from torch_cormorant.graph.lattice import as_cells, edge_vectors
from torch_cormorant.models import Potential, Predictor
from torch_cormorant.models.evaluation import Structures, find_edges
from torch_cormorant.networks import Network
from torch_cormorant.networks.checks import check_structures
from torch_cormorant.ops import EdgeGeometry
from torch_cormorant.ops.autocast import check_weights
from torch_cormorant.ops.edges import check_edges
from torch_cormorant.ops.plan import GraphPlan, make_plan, match_pairs

__all__ = ["BatchGraph", "GraphStore", "edge_dtype", "graph_of", "joins_graphs"]

BUDGET = 1 << 30
"""Bytes that a store keeps; what does not fit is found anew in every epoch."""
GRAPH = "batch_graph"
"""Attribute of a batch that holds its graph."""
INPUTS = ("z", "pos", "batch", "cell", "pbc")
SMALL = np.iinfo(np.int16).max
OVERHEAD = 500
"""Bytes of the objects around the numbers of one molecule."""


@dataclass(frozen=True)
class BatchGraph:
    """Edges and plan of one batch.

    Attributes:
        z: ``[N]`` int64 atomic numbers.
        pos: ``[N, 3]`` in the type that the step forms edge vectors in.
        batch: ``[N]`` int64 molecule of each atom.
        num_graphs: Number of molecules.
        edge_index: ``[2, E]``, self edges included, sorted by target.
        plan: Their plan.
        shift: ``[E, 3]`` whole numbers of cell vectors; None: nothing repeats.
        cells: ``[B, 3, 3]`` the cells; None: nothing repeats.
        made_of: The tensors of the batch that this was made of, as they were then.
    """

    z: Tensor
    pos: Tensor
    batch: Tensor
    num_graphs: int
    edge_index: Tensor
    plan: GraphPlan
    shift: Tensor | None
    cells: Tensor | None
    made_of: tuple[tuple[str, Tensor | None, int], ...]

    def belongs_to(self, batch: Any) -> bool:
        """Whether a batch is still what this was made of."""
        return batch.num_graphs == self.num_graphs and all(
            getattr(batch, name, None) is value and _version(value) == version
            for name, value, version in self.made_of
        )

    def vectors(self) -> Tensor:
        """``edge_vec`` ``[E, 3]`` in the type of the positions."""
        return edge_vectors(
            self.pos, self.edge_index, self.shift, self.cells, self.batch
        )

    def geometry(self, edge_vec: Tensor, harmonics: str) -> EdgeGeometry:
        """Geometry of the edges around the plan.

        Args:
            edge_vec: The vectors in the type of the network.
            harmonics: As :class:`~torch_cormorant.EdgeGeometry`.
        """
        return EdgeGeometry.from_plan(
            self.edge_index, edge_vec, self.plan, harmonics=harmonics
        )


def _version(value: Tensor | None) -> int:
    """How often a tensor was changed in place."""
    return 0 if value is None or value.is_inference() else value._version  # noqa: SLF001


def graph_of(batch: Any) -> BatchGraph | None:
    """The graph that a batch brings; None where it has none, or was changed since."""
    graph: BatchGraph | None = getattr(batch, GRAPH, None)
    if graph is None or not graph.belongs_to(batch):
        return None
    return graph


def joins_graphs(model: nn.Module) -> bool:
    """Whether the step of a network is that on a graph: nothing of it is replaced."""
    network = getattr(model, "network", model)
    if not isinstance(network, Network):
        return False
    ways = ("forward", "make_edges", "geometry", "read_out")
    if not _as_it_was(network, Network, ways):
        return False
    if isinstance(model, Potential):
        return _as_it_was(model, Potential, ("forward", "evaluate"))
    return model is network or _as_it_was(model, Predictor, ("forward",))


def _as_it_was(module: nn.Module, base: type, names: Sequence[str]) -> bool:
    """Whether methods are those of a class, without hooks before and behind."""
    if module._forward_hooks or module._forward_pre_hooks:  # noqa: SLF001
        return False
    return all(
        name not in vars(module) and getattr(type(module), name) is getattr(base, name)
        for name in names
    )


class _Molecule(NamedTuple):
    """What is kept of one molecule: numbers count its own atoms, edges and pairs.

    ``rows`` ``[3, e]``: source, target and pair of every edge; ``pairs`` ``[p]``: the
    edge that stands for each pair; ``shift`` ``[e, 3]`` in a cell.
    """

    atoms: int
    rows: NDArray[Any]
    pairs: NDArray[Any]
    shift: NDArray[Any] | None

    @property
    def size(self) -> int:
        shift = 0 if self.shift is None else self.shift.nbytes
        return self.rows.nbytes + self.pairs.nbytes + shift + OVERHEAD


class GraphStore:
    """Edges of the molecules of one data set, found when they are first asked for.

    Args:
        model: Tells which atoms are connected.
        cells: Whether molecules may lie in cells; with False those that do get no
            graph.
        budget: Bytes to keep at most. Default 1 GiB: 400,000 molecules of QM9.

    Attributes:
        used: Bytes kept.
    """

    def __init__(
        self, model: nn.Module, *, cells: bool = True, budget: int = BUDGET
    ) -> None:
        self.network = cast("Network", getattr(model, "network", model))
        self._weight = next(self.network.parameters())  # it moves with the network
        self.cells, self.budget, self.used = cells, budget, 0
        self._known: dict[int, _Molecule] = {}

    def add_to(self, batch: Batch, numbers: Sequence[int]) -> Batch:
        """Give a batch its graph, where that is possible.

        Args:
            batch: Molecules on the CPU. Without a graph the step finds the edges, or
                says what is wrong with the molecules.
            numbers: Which molecules of the data set they are.

        Returns:
            The batch.
        """
        boxed = getattr(batch, "cell", None) is not None
        if self._weight.device.type != "cpu" or boxed > self.cells:
            return batch
        with contextlib.suppress(CormorantError):
            setattr(batch, GRAPH, self.graph(batch, numbers))
        return batch

    def graph(self, batch: Batch, numbers: Sequence[int]) -> BatchGraph | None:
        """The graph of a batch, or None where edges cannot be shared by pairs.

        Args:
            batch: As for :meth:`add_to`.
            numbers: As for :meth:`add_to`.
        """
        known = [self._known.get(number) for number in numbers]
        if any(molecule is None for molecule in known):
            found = self._find(batch)
            if found is None:
                return None
            for number, molecule in zip(numbers, found, strict=True):
                if number not in self._known and self.used < self.budget:
                    self._known[number] = molecule
                    self.used += molecule.size
            known = list(found)
        return self._join(batch, [m for m in known if m is not None])

    def _find(self, batch: Batch) -> list[_Molecule] | None:
        """Edges of every molecule of a batch."""
        network = self.network
        check_weights(network.dtype)
        pos = batch.pos.to(edge_dtype(network, batch))
        z, graph = check_structures(batch.z, pos, batch.batch)
        network.features.check(z)
        cell, pbc = getattr(batch, "cell", None), getattr(batch, "pbc", None)
        given = Structures(z, pos, graph, cell, pbc)
        index, shift, cells = find_edges(network, given, batch.num_graphs)
        vec = edge_vectors(pos, index, shift, cells, graph).to(network.dtype)
        check_edges(index, vec, (len(z), len(z)), bipartite=False)
        pairs = match_pairs(index, vec, len(z), index.new_zeros(0))
        if pairs is None or graph is None:
            return None
        graphs = batch.num_graphs
        atoms = torch.bincount(graph, minlength=graphs)
        edges = torch.bincount(graph[index[1]], minlength=graphs)
        whole = torch.bincount(graph[index[1][pairs.edge]], minlength=graphs)
        starts = [count.cumsum(0) - count for count in (atoms, edges, whole)]
        own = torch.stack([starts[0], starts[0], starts[2]])
        rows = torch.cat([index, pairs.of_edge.unsqueeze(0)])
        rows = rows - own.repeat_interleave(edges, dim=1)
        stands = pairs.edge - starts[1].repeat_interleave(whole)
        parts = zip(
            atoms.tolist(),
            rows.split(edges.tolist(), dim=1),
            stands.split(whole.tolist()),
            [None] * graphs if shift is None else shift.split(edges.tolist()),
            strict=True,
        )
        return [
            _Molecule(
                count,
                _small(own_rows),
                _small(own_pairs),
                None if own_shift is None else _small(own_shift.long()),
            )
            for count, own_rows, own_pairs, own_shift in parts
        ]

    def _join(self, batch: Batch, parts: Sequence[_Molecule]) -> BatchGraph:
        """One graph out of those of the molecules."""
        counts = np.array([[m.atoms, m.rows.shape[1], len(m.pairs)] for m in parts]).T
        atoms, edges, pairs = counts
        first = np.cumsum(counts, axis=1) - counts
        rows = np.concatenate([m.rows for m in parts], axis=1, dtype=np.int64)
        rows += np.repeat(first[[0, 0, 2]], edges, axis=1)
        stands = np.concatenate([m.pairs for m in parts], dtype=np.int64)
        stands += np.repeat(first[1], pairs)
        index, of_edge = torch.from_numpy(rows[:2]), torch.from_numpy(rows[2])
        sizes = (int(atoms.sum()),) * 2
        plan = make_plan(index, *sizes, pairs=(of_edge, torch.from_numpy(stands)))
        pos = batch.pos.to(edge_dtype(self.network, batch))
        given = [getattr(batch, name, None) for name in INPUTS]
        boxed = given[3] is not None or given[4] is not None
        cells = None
        if boxed:
            cells = as_cells(given[3], given[4], batch.num_graphs, pos)
        shift = None if cells is None else _shifts(parts).to(pos.dtype)
        return BatchGraph(
            z=batch.z.long(),
            pos=pos,
            batch=batch.batch.long(),
            num_graphs=batch.num_graphs,
            edge_index=index,
            plan=plan,
            shift=shift,
            cells=None if cells is None else cells[0],
            made_of=tuple(zip(INPUTS, given, map(_version, given), strict=True)),
        )


def _shifts(parts: Sequence[_Molecule]) -> Tensor:
    """The shifts of all molecules, zeros where none were found."""
    rows = [
        np.zeros((m.rows.shape[1], 3), np.int16) if m.shift is None else m.shift
        for m in parts
    ]
    return torch.from_numpy(np.concatenate(rows))


def edge_dtype(model: Any, batch: Any) -> torch.dtype:
    """The type that a training step forms edge vectors in.

    Args:
        model: The network.
        batch: Molecules; with labels ``y`` properties are learned.
    """
    learned: torch.dtype = batch.pos.dtype
    return model.dtype if getattr(batch, "y", None) is not None else learned


def _small(values: Tensor) -> NDArray[Any]:
    """The same numbers in as few bytes as they need."""
    small = not values.numel() or int(values.abs().max()) <= SMALL
    kept = values.to(torch.int16 if small else torch.int64)
    return np.array(kept.numpy())
