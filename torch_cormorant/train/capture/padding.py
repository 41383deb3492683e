"""Batches filled up to fixed sizes, so that one captured step serves them all."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self

from torch_cormorant.errors import ConfigError, ShapeError
from torch_cormorant.graph.lattice import edge_vectors, lattice_vectors
from torch_cormorant.models import Cormorant
from torch_cormorant.models.evaluation import Structures, find_edges
from torch_cormorant.networks.checks import check_structures, count_graphs
from torch_cormorant.ops import EdgeGeometry
from torch_cormorant.ops.edges import check_edges
from torch_cormorant.ops.padded import fixed_plan
from torch_cormorant.ops.plan import match_pairs, unpack_plan
from torch_cormorant.ops.triton.layout import of_one_capture
from torch_cormorant.train.batches import in_order

__all__ = ["PaddedBatch", "PaddedSizes", "graph_counts", "pad_batch"]

FAR = 500.0
"""Length of the edges of padding atoms in Angstrom, or twice a larger cutoff: every
mask is zero there, so that nothing grows, however many edges an atom has to hold."""
LABELS = {"y": "molecule", "energy": "molecule", "forces": "atom"}


@dataclass(frozen=True)
class PaddedSizes:
    """Fixed sizes of batches: molecules, atoms, edges, and edges of one atom.

    What a batch leaves free is filled with atoms of one padding molecule, each with
    its self edge and with edges to its own image 500 Angstrom away. They take part in
    every operation and in no result.

    Args:
        molecules: Molecules of a full batch; the padding molecule comes on top.
        atoms: Atoms N, those of the padding included.
        edges: Edges E, self edges and those of the padding included; E - N is even.
        width: Edges that one atom may receive.

    Raises:
        ConfigError: The numbers contradict each other.

    Example:
        >>> sizes = PaddedSizes(molecules=2, atoms=8, edges=28, width=4)
        >>> sizes.pairs, sizes.fit(6, 22, 4), sizes.fit(9, 40, 5)
        (18, True, False)
    """

    molecules: int
    atoms: int
    edges: int
    width: int

    def __post_init__(self) -> None:
        """Refuse sizes that no batch has."""
        even = (self.edges - self.atoms) % 2 == 0
        room = 1 <= self.atoms <= self.edges <= self.atoms * self.width
        if not (even and room and self.molecules >= 1 and self.width >= 2):
            raise ConfigError(
                f"sizes: {self}; expected at least one molecule, width at least 2, "
                "atoms <= edges <= atoms * width, and edges - atoms even"
            )

    @property
    def pairs(self) -> int:
        """Number of undirected pairs; a self edge is one, two opposite ones are one."""
        return (self.atoms + self.edges) // 2

    def fit(self, atoms: int, edges: int, width: int) -> bool:
        """Whether a batch can be filled up to these sizes.

        Args:
            atoms: Its atoms.
            edges: Its edges, self edges included.
            width: The largest number of edges of one of its atoms.
        """
        free, rest = self.atoms - atoms, self.edges - edges
        return free >= 0 and free <= rest <= free * self.width and width <= self.width

    @classmethod
    def of(
        cls,
        model: Cormorant,
        dataset: Any,
        batch_size: int,
        deviations: float = 3.0,
    ) -> Self:
        r"""Sizes for random batches of a data set.

        Edges that are no self edges, :math:`q = e - n`, and free places of atoms,
        :math:`f = K n - e`, add up over the molecules of a batch, and a batch fits if
        both sums do. Room is made for the mean of a batch and ``deviations`` standard
        deviations, at most for the ``batch_size`` largest molecules: no more can come.

        Args:
            model: Tells which atoms are connected.
            dataset: Molecules or structures, as the loaders have them.
            batch_size: Molecules of a batch.
            deviations: How many standard deviations. Default 3: about one batch in
                some hundred is too large, and takes an ordinary step;
                ``float("inf")``: none.

        Returns:
            The sizes.

        Raises:
            ConfigError: There are no molecules, or ``batch_size`` is not positive.

        Example:
            >>> from torch_cormorant import CormorantQM9
            >>> from torch_cormorant.data import MiniQM9
            >>> PaddedSizes.of(CormorantQM9(), MiniQM9("gap")[:100], batch_size=10)
            PaddedSizes(molecules=10, atoms=83, edges=479, width=7)
        """
        atoms, edges, widths = graph_counts(model, dataset)
        if batch_size < 1 or not len(atoms) or not deviations >= 0:
            raise ConfigError(
                f"batch_size, deviations: {batch_size}, {deviations} for {len(atoms)} "
                "molecules; expected at least 1, at least 0, and some molecules"
            )
        width = max(2, int(widths.max()))
        joined = _room(edges - atoms, batch_size, deviations)
        joined += joined % 2
        free = _room(width * atoms - edges, batch_size, deviations)
        count = max(1, -(-(joined + free) // (width - 1)))
        return cls(batch_size, count, count + joined, width)


def _room(counts: Tensor, size: int, deviations: float) -> int:
    """What random batches of a size need, at most what the largest rows do."""
    values = counts.double()
    most = int(values.sort(descending=True).values[:size].sum())
    if deviations == math.inf:
        return most
    spread = float(values.std(correction=0)) * math.sqrt(size)
    return min(most, math.ceil(float(values.mean()) * size + deviations * spread))


def graph_counts(model: Cormorant, dataset: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Atoms and edges of every molecule, and the most edges of one of its atoms.

    Args:
        model: Tells which atoms are connected.
        dataset: Molecules.

    Returns:
        Three tensors ``[n]`` of whole numbers; self edges are counted.
    """
    columns: list[list[Tensor]] = [[], [], []]
    for batch in in_order(dataset, 256):
        graphs = batch.num_graphs
        index, _ = _edges(model, batch, batch.pos.to(_dtype(model, batch)))
        degree = torch.bincount(index[1], minlength=batch.num_nodes)
        widest = degree.new_zeros(graphs)
        columns[0].append(torch.bincount(batch.batch, minlength=graphs))
        columns[1].append(torch.bincount(batch.batch[index[1]], minlength=graphs))
        columns[2].append(widest.scatter_reduce(0, batch.batch, degree, "amax"))
    if not columns[0]:
        none = torch.zeros(0, dtype=torch.int64)
        return none, none, none
    atoms, edges, widths = (torch.cat(column) for column in columns)
    return atoms, edges, widths


@dataclass
class PaddedBatch:
    """A batch of fixed sizes with everything that a step reads.

    Attributes:
        z: ``[N]`` atomic numbers.
        pos: ``[N, 3]`` positions in Angstrom.
        batch: ``[N]`` molecule of each atom, the last one is the padding.
        weight: ``[B]`` weight of each molecule, zero for the padding.
        edge_index: ``[2, E]``, sorted by target.
        offset: ``[E, 3]`` in Angstrom: what ``edge_vec`` adds to the difference of
            the positions, from cells and in the padding.
        packed: The plan's numbers.
        header: The plan's header, the same for all batches, on the CPU.
        num_graphs: Number of molecules B.
        y: ``[B, T]`` properties, where they are learned.
        energy: ``[B]`` energies, where they are.
        forces: ``[N, 3]`` forces, where they are.
    """

    z: Tensor
    pos: Tensor
    batch: Tensor
    weight: Tensor
    edge_index: Tensor
    offset: Tensor
    packed: Tensor
    header: Tensor
    num_graphs: int
    y: Tensor | None = None
    energy: Tensor | None = None
    forces: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """The tensors that differ from batch to batch, by name."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: value
            for name, value in named.items()
            if isinstance(value, Tensor) and name != "header"
        }

    def empty(self, device: torch.device) -> PaddedBatch:
        """A batch of the same shapes on a device, to be filled by :meth:`fill`."""
        made: dict[str, Any] = {
            name: torch.empty_like(value, device=device)
            for name, value in self.tensors().items()
        }
        return replace(self, **made)

    def fill(self, other: PaddedBatch) -> None:
        """Take over the numbers of another batch without waiting for a device.

        Args:
            other: A batch of the same sizes, on the CPU.

        Raises:
            ShapeError: Its sizes, types or labels are others.
        """
        mine, given = self.tensors(), other.tensors()
        for name in {**mine, **given}:
            one, two = mine.get(name), given.get(name)
            if one is None or two is None or _kind(one) != _kind(two):
                raise ShapeError(
                    f"{name}: {_kind(two)}, the first batch had {_kind(one)}; all "
                    "batches of a captured step need the same sizes, types and labels"
                )
        for name, value in mine.items():
            # Memory that the device can read by itself; freed when it has.
            source = given[name].pin_memory() if value.is_cuda else given[name]
            value.copy_(source, non_blocking=True)

    def vectors(self) -> Tensor:
        """``edge_vec`` ``[E, 3]`` in the type of the positions."""
        return edge_vectors(self.pos, self.edge_index) + self.offset

    def geometry(self, edge_vec: Tensor, harmonics: str) -> EdgeGeometry:
        """Geometry of the edges around a plan that is read from ``packed``.

        Args:
            edge_vec: The vectors in the type of the network.
            harmonics: As :class:`~torch_cormorant.EdgeGeometry`.
        """
        # What kernels work out from a plan is kept on it, and must not outlive the
        # numbers.
        plan = unpack_plan(of_one_capture(self.packed), self.header)
        return EdgeGeometry.from_plan(
            self.edge_index, edge_vec, plan, harmonics=harmonics
        )


def _kind(value: Tensor | None) -> str:
    return "missing" if value is None else f"{list(value.shape)} {value.dtype}"


def pad_batch(
    model: Cormorant, batch: Any, sizes: PaddedSizes, labels: Iterable[str]
) -> PaddedBatch | None:
    """Find the edges of a batch and fill it up.

    Args:
        model: Tells which atoms are connected.
        batch: Molecules with ``z``, ``pos``, ``batch``, ``num_graphs``, and perhaps
            ``cell``, ``pbc`` and ``weight``.
        sizes: What to fill it up to.
        labels: Names of the labels: ``y``, ``energy``, ``forces``.

    Returns:
        The batch on the CPU, or None where it does not fit.

    Raises:
        ShapeError, DtypeError, NonFiniteError, SpeciesError, CoincidentAtomsError:
            The molecules are not as a network wants them.
        ConfigError: A label is missing.

    Example:
        >>> from torch_cormorant import CormorantQM9
        >>> from torch_cormorant.data import MiniQM9
        >>> from torch_geometric.loader import DataLoader
        >>> model, data = CormorantQM9(), MiniQM9("gap")[:20]
        >>> sizes = PaddedSizes.of(model, data, batch_size=5)
        >>> batch = next(iter(DataLoader(data, batch_size=5)))
        >>> padded = pad_batch(model, batch, sizes, ["y"])
        >>> batch.num_nodes, padded.z.numel() == sizes.atoms
        (14, True)
    """
    pos = batch.pos.detach().cpu().to(_dtype(model, batch))
    z, _ = check_structures(batch.z.cpu(), pos, batch.batch.cpu())
    graph = batch.batch.cpu().long()
    model.features.check(z)
    atoms, graphs = z.numel(), count_graphs(graph, z.numel(), batch.num_graphs)
    index, offset = _edges(model, batch, pos)
    degree = torch.bincount(index[1], minlength=1)
    if graphs > sizes.molecules or not sizes.fit(
        atoms, index.shape[1], int(degree.max())
    ):
        return None
    vec = edge_vectors(pos, index) + offset
    check_edges(index, vec, (atoms, atoms), bipartite=False)
    pairs = match_pairs(index, vec, atoms, index.new_zeros(0))
    if pairs is None or 2 * pairs.edge.numel() != atoms + index.shape[1]:
        return None
    far = max(FAR, 2 * (model.cutoff or 0.0))
    plan = _Filling(atoms, index.shape[1], pairs.edge.numel(), sizes, far)
    full_index = torch.cat([index, plan.index], dim=1)
    packed = fixed_plan(
        full_index,
        torch.cat([pairs.edge, plan.pair_edge]),
        torch.cat([pairs.of_edge, plan.of_edge]),
        sizes.atoms,
        sizes.width,
    )
    weight = getattr(batch, "weight", None)
    ones = torch.ones(graphs, dtype=torch.float64)
    weight = ones if weight is None else weight.cpu().view(-1)
    free, known = sizes.atoms - atoms, model.features.known[0]
    return PaddedBatch(
        z=torch.cat([z, z.new_full((free,), known)]),
        pos=torch.cat([pos, pos.new_zeros(free, 3)]),
        batch=torch.cat([graph, graph.new_full((free,), sizes.molecules)]),
        weight=_filled(weight, sizes.molecules + 1),
        edge_index=full_index,
        offset=torch.cat([offset, plan.offset.to(pos.dtype)]),
        packed=packed.packed,
        header=packed.header,
        num_graphs=sizes.molecules + 1,
        **_padded_labels(batch, labels, sizes),
    )


def _dtype(model: Cormorant, batch: Any) -> torch.dtype:
    """The type that the ordinary step forms edge vectors in."""
    learned: torch.dtype = batch.pos.dtype
    return model.dtype if getattr(batch, "y", None) is not None else learned


def _edges(model: Cormorant, batch: Any, pos: Tensor) -> tuple[Tensor, Tensor]:
    """Edges with self edges, sorted by target, and what cells add to their vectors."""
    graph = batch.batch.cpu()
    cell, pbc = (getattr(batch, name, None) for name in ("cell", "pbc"))
    cell, pbc = (v.cpu() if isinstance(v, Tensor) else v for v in (cell, pbc))
    given = Structures(batch.z.cpu(), pos, graph, cell, pbc)
    index, shift, cells = find_edges(model, given, batch.num_graphs)
    if shift is None or cells is None:
        return index, pos.new_zeros(index.shape[1], 3)
    return index, lattice_vectors(shift, cells.to(pos.dtype), graph, index[1])


class _Filling:
    """Edges of the padding: a self edge for each atom, and images two by two."""

    def __init__(
        self, atoms: int, edges: int, pairs: int, sizes: PaddedSizes, far: float
    ) -> None:
        free = sizes.atoms - atoms
        images = sizes.edges - edges - free
        counts = torch.full((free,), 1 + images // max(1, free))
        counts[: images % max(1, free)] += 1
        atom = torch.repeat_interleave(torch.arange(free), counts)
        itself = torch.zeros(len(atom), dtype=torch.bool)
        itself[counts.cumsum(0) - counts] = True
        number = torch.arange(images)
        self.index = (atom + atoms).expand(2, -1)
        self.of_edge = torch.empty(len(atom), dtype=torch.int64)
        self.of_edge[itself] = pairs + torch.arange(free)
        self.of_edge[~itself] = pairs + free + number // 2
        first = (~itself).nonzero().flatten()[::2]
        self.pair_edge = edges + torch.cat([itself.nonzero().flatten(), first])
        self.offset = torch.zeros(len(atom), 3, dtype=torch.float64)
        self.offset[~itself, 0] = far - 2 * far * (number % 2).double()


def _filled(value: Tensor, rows: int) -> Tensor:
    """Zero rows behind a tensor."""
    return torch.cat([value, value.new_zeros(rows - value.shape[0], *value.shape[1:])])


def _padded_labels(
    batch: Any, names: Iterable[str], sizes: PaddedSizes
) -> dict[str, Any]:
    found = {}
    for name in names:
        label = getattr(batch, name, None)
        if label is None:
            raise ConfigError(f"{name}: the batch has no such label")
        rows = sizes.atoms if LABELS[name] == "atom" else sizes.molecules + 1
        found[name] = _filled(label.cpu(), rows)
    return found
