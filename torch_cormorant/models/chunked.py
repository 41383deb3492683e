r"""Energies and forces of large systems within a memory budget.

A network of s levels needs, for its gradient, the outputs of every level. Everything
between two levels is recomputed: receivers are taken in chunks, a chunk reads the
features of its neighbours, and its part of the graph of operations is thrown away
before the next one. Nothing is cut off, so energies and forces are those of the whole
graph up to rounding. What remains grows with the atoms only, or, where it fits, with
the edges once per level (edge scalars are then kept instead of computed again).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from torch_cormorant.conv import CormorantConv
from torch_cormorant.conv.inputs import as_internal
from torch_cormorant.errors import (
    CoincidentAtomsError,
    ConfigError,
    NonFiniteError,
)
from torch_cormorant.graph import edge_vectors, neighbour_list
from torch_cormorant.graph.cells import sort_into_cells
from torch_cormorant.graph.lattice import as_cells
from torch_cormorant.models.chunked_levels import LevelSweep
from torch_cormorant.models.domain import check_batch
from torch_cormorant.models.energy import (
    EnergyModel,
    Result,
    atom_energies,
    stress_of,
    with_constant,
)
from torch_cormorant.models.memory_plan import MemoryPlan, as_bytes, plan_memory, widths
from torch_cormorant.networks import CormorantNetwork, Network
from torch_cormorant.networks.checks import check_structures
from torch_cormorant.networks.level import run_level
from torch_cormorant.networks.radial_weights import WithRadialWeights
from torch_cormorant.ops import EdgeGeometry
from torch_cormorant.ops.autocast import check_weights, full_precision
from torch_cormorant.ops.edges import MIN_LENGTH
from torch_cormorant.ops.transforms import refuse_transforms

__all__ = ["ChunkedResult", "MemoryPlan", "evaluate_in_chunks", "plan_memory"]


@dataclass(frozen=True)
class ChunkedResult(Result):
    r"""What a large system evaluated in chunks has beside its :class:`.Result`.

    Attributes:
        virial: ``[1, 3, 3]``, minus the volume times the stress, :math:`-V \sigma =
            -\partial E / \partial \varepsilon`; defined for molecules too.
        num_edges: Edges within the cutoff, both directions, without self edges.
        plan: How it was evaluated.
    """

    virial: Tensor = field(kw_only=True)
    num_edges: int = field(kw_only=True)
    plan: MemoryPlan = field(kw_only=True)


@full_precision
def evaluate_in_chunks(
    model: nn.Module,
    z: Tensor,
    pos: Tensor,
    cell: Tensor | None = None,
    pbc: Tensor | bool | None = None,
    *,
    memory: float | str | None = None,
    plan: MemoryPlan | None = None,
    stress: bool = False,
) -> ChunkedResult:
    """Energy and forces of one large system within a memory budget.

    Equal to :meth:`~torch_cormorant.Cormorant.evaluate` up to rounding. Time and memory
    grow linearly with the atoms.

    Args:
        model: A Cormorant network, NequIP, PaiNN or SchNet, or a potential around it,
            with a cutoff and a sum over atoms as head, as ``Cormorant.potential`` makes
            it.
        z: Atomic numbers ``[N]``.
        pos: Positions ``[N, 3]`` in Angstrom.
        cell: Cell vectors ``[3, 3]``; None: nothing repeats.
        pbc: Which of them repeat ``[3]``.
        memory: Bytes that the evaluation may use beside what the process holds
            already, a number or a text such as ``"4GiB"``; None: no limit. An estimate
            decides on the chunks, see :func:`plan_memory`.
        plan: Chunks chosen by you instead.
        stress: Compute the stress, which needs a cell. Default False.

    Returns:
        The results, in the order of the atoms that you gave.

    Raises:
        ConfigError: The model has no cutoff, is not a sum of atomic contributions, or
            is none of these networks.
        MemoryBudgetError: The budget is too small.
        SpeciesError, ShapeError, DtypeError, NonFiniteError, CellError,
        CoincidentAtomsError: As for ``evaluate``.

    Example:
        >>> import torch
        >>> from torch_cormorant import Cormorant
        >>> model = Cormorant.potential(species=[1, 8], channels=4, num_levels=2)
        >>> z = torch.tensor([8, 1, 1])
        >>> pos = torch.tensor([[0.0, 0, 0], [0, 0, 0.96], [0, 0.93, -0.24]])
        >>> tuple(evaluate_in_chunks(model, z, pos, memory=2**30).forces.shape)
        (3, 3)
    """
    refuse_transforms("evaluate (within a memory budget)")
    model = EnergyModel.of(model)
    network = _checked(model.network)
    units = model.info.normalisation
    z, _ = check_structures(z, pos, None)
    network.features.check(z)
    check_batch(model, z, None, 1)
    budget = None if memory is None else as_bytes(memory)
    with torch.inference_mode(mode=False), torch.enable_grad():
        # copies of what inference mode made, which gradients could not pass
        order = _spatial_order(pos.detach(), network.cutoff or 0.0).clone()
        inverse = torch.empty_like(order)
        inverse[order] = torch.arange(order.numel(), device=order.device)
        z, pos = z.clone()[order], pos.detach().clone()[order]
        index, shift = neighbour_list(pos, network.cutoff or 0.0, None, cell, pbc)
        if plan is None:
            plan = plan_memory(network, pos.shape[0], index.shape[1], budget)
        periodic = as_cells(cell, pbc, 1, pos)
        rows = None if periodic is None else periodic[0].clone()
        edges = _Edges(network, pos, (index, shift), rows, order, plan)
        if isinstance(network, CormorantNetwork):
            energies = _Sweep(model, network, z, edges, plan).run()
        else:
            sweep = LevelSweep(model, network, z, edges.chunks, edges.made)
            energies = sweep.run()
        gradient, strain = edges.gradient, edges.strain
    _check_finite(energies[inverse], gradient[inverse])
    energy, energies = with_constant(
        energies.sum().view(1), energies[inverse], max(len(z), 1), units
    )
    return ChunkedResult(
        energy,
        energies,
        -gradient[inverse],
        stress_of(strain.unsqueeze(0), cell) if stress else None,
        model.info.units[0],
        virial=-strain.unsqueeze(0),
        num_edges=index.shape[1],
        plan=plan,
    )


def _check_finite(energies: Tensor, gradient: Tensor) -> None:
    """Refuse results without meaning, as ``evaluate`` does."""
    finite = energies.isfinite() & gradient.isfinite().all(1)
    if not bool(finite.all()):
        atom = int((~finite).nonzero()[0])
        msg = (
            f"the energy of atom {atom} or the force on it is not finite; the weights "
            "may have grown too large, or atoms are far too close"
        )
        raise NonFiniteError(msg)


def _checked(network: Network) -> CormorantNetwork | WithRadialWeights:
    """The network, if it can be evaluated level by level, chunk by chunk."""
    if not isinstance(network, (CormorantNetwork, WithRadialWeights)):
        msg = (
            f"memory: {type(network).__name__} cannot be cut into levels, as "
            "Cormorant networks, NequIP, PaiNN and SchNet can; leave out memory"
        )
        raise ConfigError(msg)
    check_weights(network.dtype)
    if network.cutoff is None:
        msg = "evaluate_in_chunks needs a model with a cutoff, this one has none"
        raise ConfigError(msg)
    if not network.head.additive:
        msg = (
            "evaluate_in_chunks needs a sum of atomic contributions with one target: "
            'make the model with head="extensive" or Cormorant.potential'
        )
        raise ConfigError(msg)
    if isinstance(network, WithRadialWeights):
        return network
    layers = len(getattr(network.input, "filters", ()))
    if layers > 1:
        msg = f"evaluate_in_chunks needs one input layer, the model has {layers}"
        raise ConfigError(msg)
    return network


def _spatial_order(pos: Tensor, cutoff: float) -> Tensor:
    """Atoms cell by cell, so that a chunk's receivers share their neighbours."""
    if pos.shape[0] == 0:
        return torch.empty(0, dtype=torch.int64, device=pos.device)
    return sort_into_cells(pos, cutoff, None).order


class _Edges:
    """Edges sorted by receiver, in chunks of whole receivers, and their vectors."""

    def __init__(
        self,
        network: Network,
        pos: Tensor,
        found: tuple[Tensor, Tensor],
        cell: Tensor | None,
        order: Tensor,
        plan: MemoryPlan,
    ) -> None:
        index, shift = found
        self.dtype, self.harmonics = network.dtype, network.harmonics
        self.own = int(network.self_edges)
        self.pos, self.source, self.cell = pos, index[0], cell
        self.shift = None if cell is None else shift
        self.order = order  # the user's number of every atom
        self.degree = torch.bincount(index[1], minlength=pos.shape[0])
        self.gradient = pos.new_zeros(pos.shape)
        self.strain = pos.new_zeros(3, 3)
        self.chunks = list(self._cut(plan.chunk_edges))

    def _cut(self, chunk_edges: int) -> Iterator[tuple[int, int, int, int]]:
        """First and last receiver, first and last edge of every chunk."""
        # with self edges one more for each receiver
        ends = (self.degree + self.own).cumsum(0).cpu()
        total, begin, done = self.degree.shape[0], 0, 0
        while begin < total:
            limit = torch.tensor(done + chunk_edges)
            end = max(int(torch.searchsorted(ends, limit, right=True)), begin + 1)
            last = int(ends[end - 1])
            yield begin, end, done - self.own * begin, last - self.own * end
            done, begin = last, end

    def made(self) -> Iterator[_Chunk]:
        """The chunks, one after the other."""
        for bounds in self.chunks:
            yield _Chunk(self, bounds)


class _Chunk:
    """Receivers ``first:last``, the atoms they see, and their edges, self edges last.

    Attributes:
        nodes: Atoms that the chunk reads, its receivers first.
        vec: Edge vectors, a leaf of the graph of operations.
        geometry: From all of ``nodes`` to the receivers.
    """

    def __init__(self, edges: _Edges, bounds: tuple[int, int, int, int]) -> None:
        self.first, self.last, low, high = bounds
        self.edges, count = edges, self.last - self.first
        source = edges.source[low:high]
        own = torch.arange(self.first, self.last, device=source.device)
        degree = edges.degree[self.first : self.last]
        local = torch.repeat_interleave(
            own - self.first, degree, output_size=high - low
        )
        self._pairs = (source, local + self.first)
        self.shift = None if edges.shift is None else edges.shift[low:high]
        outside = (source < self.first) | (source >= self.last)
        others = torch.unique(source[outside])
        self.nodes = torch.cat([own, others])
        place = torch.searchsorted(others, source) if others.numel() else source
        place = torch.where(outside, place + count, source - self.first)
        vec = edge_vectors(
            edges.pos, torch.stack(self._pairs), self.shift, edges.cell, None
        )
        itself = (own - self.first)[: count * edges.own]
        self.vec = torch.cat([vec, vec.new_zeros(len(itself), 3)]).requires_grad_()
        index = torch.stack([torch.cat([place, itself]), torch.cat([local, itself])])
        self.geometry = EdgeGeometry(
            index,
            self.vec.to(edges.dtype),
            (self.nodes.shape[0], count),
            harmonics=edges.harmonics,
            validate=False,
        )
        # rows of this chunk where edge scalars of all edges are kept
        self.rows = slice(low + self.first, high + self.last)

    def check_distances(self) -> None:
        """Refuse atoms at one place, by the numbers that the user gave them."""
        vec = self.vec.detach()[: self._pairs[0].shape[0]]
        near = vec.square().sum(1) < MIN_LENGTH**2
        if bool(near.any()):
            edge = int(near.nonzero()[0])
            first, second = (int(self.edges.order[part[edge]]) for part in self._pairs)
            msg = (
                f"atoms {first} and {second} (or an image) are less than "
                f"{MIN_LENGTH:g} Angstrom apart, where directions have no meaning; "
                "remove the duplicate atom"
            )
            raise CoincidentAtomsError(msg)

    def add_forces(self, gradient: Tensor | None) -> None:
        """Hand the gradient of the vectors to the atoms and to the strain."""
        if gradient is None:
            return
        edges, number = self.edges, self._pairs[0].shape[0]
        vec, part = self.vec.detach()[:number], gradient[:number]
        edges.strain += vec.t() @ part
        edges.gradient.index_add_(0, self._pairs[1], part)
        edges.gradient.index_add_(0, self._pairs[0], part, alpha=-1)


class _Sweep:
    """Forward through the levels and back again, chunk by chunk."""

    def __init__(
        self,
        model: EnergyModel,
        network: CormorantNetwork,
        z: Tensor,
        edges: _Edges,
        plan: MemoryPlan,
    ) -> None:
        self.model, self.network, self.z = model, network, z
        self.edges, self.keep = edges, plan.keep_edges
        self.features = network.features(z, network.dtype)
        self.types = network.features.types_of(self.features)
        self.levels: list[Tensor] = []
        self.gradients: list[Tensor] = []
        self.states: list[Tensor | None] = []

    def run(self) -> Tensor:
        """Energies of the atoms; edges collect gradients by positions and strain."""
        with torch.no_grad():
            self._forward()
        energies = self._readout()
        self._backward(energies)
        return energies

    # ------------------------------------------------------------------- forward

    def _forward(self) -> None:
        num_nodes = self.z.shape[0]
        convs = self.network.conv_layers()
        total = self.edges.source.shape[0] + num_nodes
        for s in range(len(convs) + 1):
            rows: Tensor | None = None
            state: Tensor | None = None
            for chunk in self._chunks():
                if s == 0:
                    chunk.check_distances()
                    out = self._input(chunk)
                else:
                    out, g = self._level(s - 1, chunk, *self._read(s - 1, chunk))
                    if self.keep and s < len(convs):
                        if state is None:
                            state = g.new_empty(total, *g.shape[1:])
                        state[chunk.rows] = g
                if rows is None:
                    rows = out.new_empty(num_nodes, *out.shape[1:])
                rows[chunk.first : chunk.last] = out
            if rows is None:  # no atoms at all
                rows = self.features.new_zeros(0, *self._shape(s))
            self.levels.append(rows)
            if s:
                self.states.append(state)

    def _shape(self, s: int) -> tuple[int, int, int]:
        degree, channels = widths(self.network)[s]
        return (degree + 1) ** 2, self.network.planes, channels

    def _chunks(self) -> Iterator[_Chunk]:
        for chunk in self.edges.made():
            chunk.geometry = self.network.with_types(
                chunk.geometry, self.types[chunk.nodes]
            )
            yield chunk

    def _read(self, s: int, chunk: _Chunk) -> tuple[list[Tensor], Tensor | None]:
        """Features that level s reads in a chunk, and its kept edge scalars."""
        if self.keep:
            state = self.states[s - 1] if s else None
            kept = None if state is None else state[chunk.rows]
            return [self.levels[s].index_select(0, chunk.nodes)], kept
        every = [level.index_select(0, chunk.nodes) for level in self.levels[: s + 1]]
        return every, None

    def _input(self, chunk: _Chunk) -> Tensor:
        features = self.features.index_select(0, chunk.nodes)
        h: Tensor = self.network.input(features, chunk.geometry)
        return self.network.first_level(h[: chunk.last - chunk.first])

    def _level(
        self, s: int, chunk: _Chunk, x: Sequence[Tensor], state: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Output and edge scalars of level s; ``x`` ends with its input."""
        count, planes = chunk.last - chunk.first, self.network.planes
        if not self.keep:
            for conv, below in zip(self.network.conv_layers(), x[:s], strict=False):
                inner = as_internal(below, planes)
                state = _edge_scalars(conv, inner, count, chunk, state)
        return run_level(self.network, s, (x[-1], x[-1][:count]), chunk.geometry, state)

    # ------------------------------------------------------------------ backward

    def _readout(self) -> Tensor:
        """Energies of the atoms, and the first part of every level's gradient."""
        units = self.model.info.normalisation
        self.gradients = [torch.zeros_like(level) for level in self.levels]
        references = units.atoms(self.z)[:, 0]
        energies = torch.empty_like(references)
        for first, last, *_ in self.edges.chunks:
            part = slice(first, last)
            levels = [level[part].detach().requires_grad_() for level in self.levels]
            raw = self.network.atomwise(levels[1:]).squeeze(-1)
            atoms = atom_energies(raw, references[part], units)
            found = torch.autograd.grad(atoms.sum(), levels[1:])
            for total, gradient in zip(self.gradients[1:], found, strict=True):
                total[part] = gradient
            energies[part] = atoms.detach()
        return energies

    def _add_pair_energies(self, chunk: _Chunk, energies: Tensor) -> None:
        """Energies that the model adds to the network's, and their forces."""
        z, index = self.z[chunk.nodes], chunk.geometry.edge_index
        extra = self.model.pair_energies(z, index, chunk.vec)
        if extra is None:
            return
        energies[chunk.first : chunk.last] += extra.detach()[: chunk.last - chunk.first]
        (gradient,) = torch.autograd.grad(extra.sum(), chunk.vec)
        chunk.add_forces(gradient)

    def _backward(self, energies: Tensor) -> None:
        convs = self.network.conv_layers()
        above: Tensor | None = None
        for s in reversed(range(len(convs))):
            state = self.states[s - 1] if s else None
            below = None if state is None else torch.zeros_like(state)
            for chunk in self._chunks():
                self._backward_chunk(s, chunk, above, below)
            above = below
            # what a level wrote is not read by the levels below it
            self.levels[s + 1] = self.gradients[s + 1] = self.features.new_empty(0)
            self.states[s] = None
        for chunk in self._chunks():
            self._add_pair_energies(chunk, energies)
            out = self._input(chunk)
            if out.requires_grad:
                given = self.gradients[0][chunk.first : chunk.last]
                (gradient,) = torch.autograd.grad(
                    out, chunk.vec, given, allow_unused=True
                )
                chunk.add_forces(gradient)

    def _backward_chunk(
        self, s: int, chunk: _Chunk, above: Tensor | None, below: Tensor | None
    ) -> None:
        """Gradients of one level in one chunk.

        Args:
            s: The level.
            chunk: The chunk.
            above: Gradient of the edge scalars that this level made, all edges.
            below: Where that of the edge scalars it read is written.
        """
        x, state = self._read(s, chunk)
        x = [level.requires_grad_() for level in x]
        inputs = [chunk.vec, *x]
        if state is not None:
            state = state.clone().requires_grad_()
            inputs.append(state)
        out, g = self._level(s, chunk, x, state)
        outputs, given = [out], [self.gradients[s + 1][chunk.first : chunk.last]]
        if above is not None:
            outputs.append(g)
            given.append(above[chunk.rows])
        found = torch.autograd.grad(outputs, inputs, given, allow_unused=True)
        chunk.add_forces(found[0])
        lowest = s + 1 - len(x)
        for t, gradient in enumerate(found[1 : 1 + len(x)], start=lowest):
            if gradient is not None:
                self.gradients[t].index_add_(0, chunk.nodes, gradient)
        if below is not None and found[-1] is not None:
            below[chunk.rows] = found[-1]


def _edge_scalars(
    conv: CormorantConv,
    x: Tensor,
    count: int,
    chunk: _Chunk,
    state: Tensor | None,
) -> Tensor:
    """Edge scalars of a level without its neighbour sum."""
    g: Tensor = conv.edge_network(x[:count], x, chunk.geometry, state, None)
    return g
