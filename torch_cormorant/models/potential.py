"""Energies, forces and stresses of a network with one energy as its output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from torch_cormorant.errors import (
    ConfigError,
    EdgeIndexError,
    NonFiniteError,
)
from torch_cormorant.graph.lattice import as_cells, edge_vectors
from torch_cormorant.graph.neighbour_list import graphs_of, neighbour_list
from torch_cormorant.models.chunked import evaluate_in_chunks
from torch_cormorant.models.energy import (
    EnergyNetwork,
    Result,
    atom_energies,
    stress_of,
    with_constant,
)
from torch_cormorant.networks.building import with_self_edges
from torch_cormorant.networks.checks import (
    check_edge_tensors,
    check_given_edges,
    check_molecules,
    check_output,
    count_graphs,
)
from torch_cormorant.nn.heads import HeadInput
from torch_cormorant.nn.readout import scalars
from torch_cormorant.ops import EdgeGeometry
from torch_cormorant.ops.autocast import check_weights, full_precision
from torch_cormorant.ops.edges import check_edge_index
from torch_cormorant.ops.segment import scatter_sum
from torch_cormorant.ops.transforms import refuse_transforms

__all__ = [
    "Edges",
    "PotentialMethods",
    "Structures",
    "find_edges",
    "run",
    "run_on",
]


@dataclass(frozen=True)
class Edges:
    """The graph of a batch with vectors that gradients can be taken by."""

    index: Tensor
    vec: Tensor


class PotentialMethods(EnergyNetwork):
    """Energy, forces and stress, for a network to inherit."""

    def energy_and_forces(
        self,
        z: Tensor,
        pos: Tensor,
        batch: Tensor | None = None,
        cell: Tensor | None = None,
        pbc: Tensor | bool | None = None,
        *,
        edge_index: Tensor | None = None,
        edge_shift: Tensor | None = None,
        num_graphs: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        r"""Energies and forces :math:`-\partial E / \partial r`.

        Arguments and errors as in :meth:`evaluate`.

        Returns:
            Energies ``[B]`` float64 and forces ``[N, 3]``, in the unit of the model and
            that per Angstrom.
        """
        out = self.evaluate(
            z,
            pos,
            batch,
            cell,
            pbc,
            edge_index=edge_index,
            edge_shift=edge_shift,
            num_graphs=num_graphs,
        )
        return out.energy, cast("Tensor", out.forces)

    def evaluate(
        self,
        z: Tensor,
        pos: Tensor,
        batch: Tensor | None = None,
        cell: Tensor | None = None,
        pbc: Tensor | bool | None = None,
        *,
        forces: bool = True,
        stress: bool = False,
        edge_index: Tensor | None = None,
        edge_shift: Tensor | None = None,
        num_graphs: int | None = None,
        memory: float | str | None = None,
    ) -> Result:
        r"""Energies, atomic energies, forces and stress.

        .. math::
            E = \sigma f(z, r) + \mu + \sum_i w_{z_i}, \quad
            F_i = -\frac{\partial E}{\partial r_i}, \quad
            \sigma_{ab} = \frac{1}{V} \frac{\partial E}{\partial \varepsilon_{ab}}

        with scale, constant and atomic values of ``model.info.normalisation`` (those
        of a new network change nothing); everything is in the unit of the model.

        Args:
            z: Atomic numbers ``[N]``.
            pos: Positions ``[N, 3]`` in Angstrom; not changed. May have a higher
                precision than the weights.
            batch: Graph of each atom ``[N]``; None: one graph.
            cell: Cell vectors in rows, ``[3, 3]`` or ``[B, 3, 3]``, Angstrom.
            pbc: Which of them repeat, ``[3]`` or ``[B, 3]``; default: all.
            forces: Compute forces. Default True.
            stress: Compute the stress, which needs a cell. Default False.
            edge_index: Edges ``[2, E]`` to use instead of a search, as
                :func:`~torch_cormorant.graph.neighbour_list` gives them. Edges beyond
                the cutoff add nothing to a model with an envelope.
            edge_shift: Whole numbers of cell vectors ``[E, 3]`` of these edges.
            num_graphs: Number of graphs B. Default: the largest of ``batch`` plus 1.
            memory: Bytes that the evaluation of one large system may use, ``"4GiB"``
                for example; needs a cutoff and a sum over atoms. See
                :func:`~torch_cormorant.models.chunked.evaluate_in_chunks`, which
                cuts it into chunks. Results are detached. Default: no limit, at once.

        Returns:
            The results. In training mode with gradients enabled they can be
            differentiated further; otherwise nothing keeps the computation alive.

        Raises:
            ConfigError: The model has more than one target, a network of all pairs
                gets a cell, cached geometry is passed, or stress has no cell.
            CellError: A cell is zero, flat, or has no volume.
            EdgeIndexError: ``edge_shift`` has no ``edge_index``, is missing in a
                periodic cell, holds no whole numbers or counts a vector that does not
                repeat; or an edge connects two graphs.
            ShapeError, DtypeError, DeviceError, NonFiniteError, SpeciesError,
            CoincidentAtomsError, EdgeBudgetError: An input does not fit.

        Example:
            >>> import torch
            >>> from torch_cormorant import Cormorant
            >>> model = Cormorant(head="extensive", channels=4, num_levels=1).eval()
            >>> z, pos = torch.tensor([8, 1]), torch.tensor([[0.0, 0, 0], [0, 0, 1]])
            >>> out = model.evaluate(z, pos, cell=4 * torch.eye(3), stress=True)
            >>> tuple(out.forces.shape), tuple(out.stress.shape)
            ((2, 3), (1, 3, 3))
        """
        if memory is not None:
            given = {"batch": batch, "edge_index": edge_index, "num_graphs": num_graphs}
            several = [name for name, value in given.items() if value is not None]
            if several:
                msg = (
                    "memory= is for one structure whose edges are searched for: leave "
                    f"out {several[0]}, or leave out memory"
                )
                raise ConfigError(msg)
            return evaluate_in_chunks(
                self, z, pos, cell, pbc, memory=memory, stress=stress
            )
        return run(
            self,
            Structures(z, pos, batch, cell, pbc, edge_index, edge_shift, num_graphs),
            forces=forces,
            stress=stress,
            train=self.training and torch.is_grad_enabled(),
        )


class Structures(NamedTuple):
    """The input of a potential, as in :meth:`PotentialMethods.evaluate`."""

    z: Tensor
    pos: Tensor
    batch: Tensor | None = None
    cell: Tensor | None = None
    pbc: Tensor | bool | None = None
    edge_index: Tensor | None = None
    edge_shift: Tensor | None = None
    num_graphs: int | None = None


@full_precision
def run(
    model: EnergyNetwork,
    given: Structures,
    *,
    forces: bool,
    stress: bool,
    train: bool,
) -> Result:
    """Evaluate a potential; with ``train`` the results can be differentiated."""
    refuse_transforms("evaluate (and energy_and_forces)")
    with torch.inference_mode(mode=False), torch.enable_grad():
        given = Structures(*map(_ordinary, given))
        z, pos, batch, cell = given[:4]
        _check_model(model, given.edge_index, given.edge_shift)
        check_weights(model.dtype)
        z, batch = check_molecules(z, pos, batch)
        given = given._replace(z=z, batch=batch)
        model.features.check(z)
        count = _count(batch, pos, cell, given.num_graphs)
        edges = _edges(model, given, count, train=train)
        geometry = _geometry(model, edges, pos.shape[0])
        energy, energies = _energies(model, z, pos, batch, count, edges, geometry)
        check_output(energy.unsqueeze(1), geometry)
        slope = None
        if forces or stress:
            slope = _slope(energy, edges, train=train)
        if not train:
            energy = energy.detach()
            energies = None if energies is None else energies.detach()
        force = None
        if forces and slope is not None:
            force = _forces(slope, edges, pos)
            _check_forces(force)
        strained = None
        if stress and slope is not None:
            strained = _stress(slope, edges, cell, batch, count)
        return Result(energy, energies, force, strained, model.info.units[0])


@full_precision
def run_on(
    model: EnergyNetwork,
    z: Tensor,
    pos: Tensor,
    batch: Tensor,
    count: int,
    edges: Edges,
    geometry: EdgeGeometry,
    *,
    forces: bool,
) -> Result:
    """Energies and forces for training on a given graph: no checks, no waiting.

    Args:
        model: The potential.
        z: Atomic numbers ``[N]``.
        pos: Positions ``[N, 3]`` in Angstrom.
        batch: Graph of each atom ``[N]``.
        count: Number of graphs.
        edges: The edges, self edges included; the vectors require a gradient.
        geometry: What was made of these vectors in the dtype of the model.
        forces: Compute forces.
    """
    energy, energies = _energies(model, z, pos, batch, count, edges, geometry)
    force = None
    if forces:
        force = _forces(_slope(energy, edges, train=True), edges, pos)
    return Result(energy, energies, force, unit=model.info.units[0])


def _geometry(model: EnergyNetwork, edges: Edges, num_nodes: int) -> EdgeGeometry:
    return EdgeGeometry(
        edges.index, edges.vec.to(model.dtype), num_nodes, harmonics=model.harmonics
    )


def _slope(energy: Tensor, edges: Edges, *, train: bool) -> Tensor:
    """Derivative of all energies with respect to the vectors of the edges."""
    if not energy.requires_grad:
        return torch.zeros_like(edges.vec)
    (slope,) = torch.autograd.grad(
        energy.sum(), edges.vec, create_graph=train, materialize_grads=True
    )
    return slope


def _ordinary(value: Any) -> Any:
    """Tensors made in inference mode as ones that gradients can pass."""
    inference = isinstance(value, Tensor) and value.is_inference()
    return value.clone() if inference else value


def _check_model(model: EnergyNetwork, edge_index: Any, edge_shift: Any) -> None:
    """Refuse models without one energy, and edges that know no positions."""
    shape = tuple(model.head.shape)
    if model.num_targets != 1 or model.head.per_atom or shape not in ((), (1,)):
        msg = (
            f"forces need one target per molecule, this model has {model.num_targets} "
            f"of shape {list(shape)} (head {model.head.kind!r})"
        )
        raise ConfigError(msg)
    if isinstance(edge_index, EdgeGeometry):
        msg = (
            "edge_index is an EdgeGeometry, whose cached vectors know no positions, so "
            "no forces follow from them; give edge_index [2, E] and edge_shift [E, 3]"
        )
        raise ConfigError(msg)
    if edge_shift is not None and edge_index is None:
        msg = "edge_shift belongs to edge_index, which is missing; give both or neither"
        raise EdgeIndexError(msg)


def _count(
    batch: Tensor | None, pos: Tensor, cell: Tensor | None, num_graphs: int | None
) -> int:
    """Number of graphs; every cell is one."""
    if num_graphs is None and isinstance(cell, Tensor) and cell.ndim == 3:
        num_graphs = graphs_of(batch, cell)
    return count_graphs(batch, pos.shape[0], num_graphs)


def _edges(
    model: EnergyNetwork, structures: Structures, count: int, *, train: bool
) -> Edges:
    """Edges, self edges included, and their vectors as the variable of the slopes."""
    pos, batch, given = structures.pos, structures.batch, structures.edge_index
    index, shift, cell = find_edges(model, structures, count)
    source = pos if train and pos.requires_grad else pos.detach()
    vec = edge_vectors(source, index, shift, cell, batch)
    if given is not None:
        check_edge_tensors(index, vec)
        index, vec = with_self_edges(index, vec, pos.shape[0])
    if not vec.requires_grad:
        vec = vec.detach().requires_grad_()
    return Edges(index, vec)


def find_edges(
    model: EnergyNetwork, structures: Structures, count: int
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The edges that were given, or those of a search with self edges.

    Args:
        model: Tells the cutoff.
        structures: The input.
        count: Number of graphs B.

    Returns:
        ``edge_index`` ``[2, E]``, the shifts of the edges ``[E, 3]`` and the cells
        ``[B, 3, 3]`` they count; both None where nothing repeats.
    """
    _, pos, batch, cell, pbc, index, shift, _ = structures
    cells = as_cells(cell, pbc, count, pos)
    boxed = cell is not None
    cell, pbc = (None, None) if cells is None else cells
    if index is not None:
        check_edge_index(index, (pos.shape[0], pos.shape[0]), pos.device)
        check_given_edges(index, shift, batch, pbc, boxed=boxed)
        shift = None if cell is None else shift  # zeros where nothing repeats
    elif cell is None:
        index = model.make_edges(pos, batch)
    else:
        if model.cutoff is None:
            msg = (
                "a model of all pairs (cutoff=None) knows no periodic cells; make it "
                "with cutoff= in Angstrom"
            )
            raise ConfigError(msg)
        index, shift = neighbour_list(
            pos.detach(), model.cutoff, batch, cell, pbc, loop=True
        )
    return index, shift, cell


def _energies(
    model: EnergyNetwork,
    z: Tensor,
    pos: Tensor,
    batch: Tensor | None,
    count: int,
    edges: Edges,
    geometry: EdgeGeometry,
) -> tuple[Tensor, Tensor | None]:
    """Energies of graphs and atoms in float64, in the unit of the model."""
    levels = model.run_levels(z, geometry)
    if batch is None:
        batch = torch.zeros_like(z, dtype=torch.int64)
    units = model.info.normalisation
    values = scalars(levels, model.backend)
    extra = model.pair_energies(z, edges.index, edges.vec)
    given = HeadInput(values, levels, batch, count, z, pos)
    if not model.head.additive:
        out = model.head(given)
        energy = units.restore(out.view(count, 1), z, batch).squeeze(1)
        if extra is not None:
            energy = energy + scatter_sum(extra, batch, count, validate=False)
        return energy, None
    raw = model.head(given, summed=False).squeeze(1)
    energies = atom_energies(raw, units.atoms(z)[:, 0], units, extra)
    energy = scatter_sum(energies, batch, count, validate=False)
    size = scatter_sum(torch.ones_like(energies), batch, count, validate=False)
    return with_constant(energy, energies, size[batch], units)


def _forces(slope: Tensor, edges: Edges, pos: Tensor) -> Tensor:
    """Every edge pulls its target one way and its source the other."""
    source, target = edges.index
    pull = scatter_sum(slope, source, pos.shape[0], validate=False)
    return pull - scatter_sum(slope, target, pos.shape[0], validate=False)


def _check_forces(forces: Tensor) -> None:
    if not bool(forces.detach().isfinite().all()):
        atom = int((~forces.detach().isfinite()).any(1).nonzero()[0])
        msg = f"the force on atom {atom} is not finite; its energy is too steep there"
        raise NonFiniteError(msg)


def _stress(
    slope: Tensor,
    edges: Edges,
    cell: Tensor | None,
    batch: Tensor | None,
    count: int,
) -> Tensor:
    r"""Strain derivative over volume: an edge becomes (1 + strain) times itself."""
    vec = edges.vec if slope.requires_grad else edges.vec.detach()
    products = (slope.unsqueeze(2) * vec.unsqueeze(1)).flatten(1)
    target = edges.index[1]
    graphs = torch.zeros_like(target) if batch is None else batch[target]
    strain = scatter_sum(products, graphs, count, validate=False).view(count, 3, 3)
    return stress_of(strain, cell)
