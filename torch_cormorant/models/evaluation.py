"""Energies, forces and stresses of a potential, as functions of structures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from torch_cormorant.errors import (
    ConfigError,
    EdgeIndexError,
    NonFiniteError,
)
from torch_cormorant.graph.lattice import as_cells, edge_vectors
from torch_cormorant.graph.neighbour_list import graphs_of, neighbour_list
from torch_cormorant.models.energy import EnergyModel, Result, stress_of
from torch_cormorant.networks.base import Network
from torch_cormorant.networks.checks import (
    check_edge_tensors,
    check_given_edges,
    check_output,
    check_structures,
    count_graphs,
)
from torch_cormorant.networks.edges import own_edges
from torch_cormorant.ops import EdgeGeometry
from torch_cormorant.ops.autocast import check_weights, full_precision
from torch_cormorant.ops.edges import check_edge_index
from torch_cormorant.ops.segment import scatter_sum
from torch_cormorant.ops.transforms import refuse_transforms

__all__ = ["Edges", "Structures", "find_edges", "run", "run_on"]


@dataclass(frozen=True)
class Edges:
    """The graph of a batch with vectors that gradients can be taken by."""

    index: Tensor
    vec: Tensor


class Structures(NamedTuple):
    """The input of a potential, as in :meth:`.Potential.evaluate`."""

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
    model: EnergyModel,
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
        network = model.network
        _check_edges(given.edge_index, given.edge_shift)
        check_weights(network.dtype)
        z, batch = check_structures(z, pos, batch)
        given = given._replace(z=z, batch=batch)
        network.features.check(z)
        count = _count(batch, pos, cell, given.num_graphs)
        edges = make_edges(network, given, count, train=train)
        geometry = network.geometry(edges.index, edges.vec, pos.shape[0])
        energy, energies = model.energy_of(
            z, pos, batch, count, edges.index, edges.vec, geometry
        )
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
    model: nn.Module,
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
        model: The potential, or a network with one energy.
        z: Atomic numbers ``[N]``.
        pos: Positions ``[N, 3]`` in Angstrom.
        batch: Graph of each atom ``[N]``.
        count: Number of graphs.
        edges: The edges that the network wants; the vectors require a gradient.
        geometry: What was made of these vectors in the dtype of the model.
        forces: Compute forces.
    """
    model = EnergyModel.of(model)
    energy, energies = model.energy_of(
        z, pos, batch, count, edges.index, edges.vec, geometry
    )
    force = None
    if forces:
        force = _forces(_slope(energy, edges, train=True), edges, pos)
    return Result(energy, energies, force, unit=model.info.units[0])


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


def _check_edges(edge_index: Any, edge_shift: Any) -> None:
    """Refuse edges that know no positions, and shifts without edges."""
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


def make_edges(
    network: Network, structures: Structures, count: int, *, train: bool
) -> Edges:
    """Edges as a network wants them, with vectors that slopes are taken by."""
    pos, batch, given = structures.pos, structures.batch, structures.edge_index
    index, shift, cell = find_edges(network, structures, count)
    source = pos if train and pos.requires_grad else pos.detach()
    vec = edge_vectors(source, index, shift, cell, batch)
    if given is not None:
        check_edge_tensors(index, vec)
        index, vec = own_edges(index, vec, pos.shape[0], loop=network.self_edges)
    if not vec.requires_grad:
        vec = vec.detach().requires_grad_()
    return Edges(index, vec)


def find_edges(
    network: Network, structures: Structures, count: int
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The edges that were given, or those of a search.

    Args:
        network: Tells the cutoff.
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
        index = network.make_edges(pos, batch)
    else:
        if network.cutoff is None:
            msg = (
                "a model of all pairs (cutoff=None) knows no periodic cells; make it "
                "with cutoff= in Angstrom"
            )
            raise ConfigError(msg)
        index, shift = neighbour_list(
            pos.detach(), network.cutoff, batch, cell, pbc, loop=network.self_edges
        )
    return index, shift, cell


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
