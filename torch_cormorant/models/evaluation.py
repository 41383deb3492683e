"""Energies, forces and stresses of a potential, as functions of structures."""

from __future__ import annotations

from collections.abc import Sequence
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
from torch_cormorant.models.domain import check_batch
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
from torch_cormorant.nn.parts import plain_part
from torch_cormorant.ops import EdgeGeometry
from torch_cormorant.ops.autocast import check_weights, full_precision
from torch_cormorant.ops.edges import check_edge_index
from torch_cormorant.ops.segment import scatter_sum
from torch_cormorant.ops.transforms import refuse_transforms

__all__ = ["Edges", "Structures", "find_edges", "run", "run_each", "run_on"]


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
    return run_each([model], given, forces=forces, stress=stress, train=train)[0]


@full_precision
def run_each(
    models: Sequence[EnergyModel],
    given: Structures,
    *,
    forces: bool,
    stress: bool,
    train: bool,
) -> list[Result]:
    """Evaluate potentials on structures that are checked and searched once.

    Args:
        models: Their networks want the same edges, in the same type.
        given: The structures.
        forces: Compute forces.
        stress: Compute the stress.
        train: Whether the results can be differentiated.
    """
    refuse_transforms("evaluate (and energy_and_forces)")
    with torch.inference_mode(mode=False), torch.enable_grad():
        given = Structures(*map(_ordinary, given))
        z, pos, batch, cell = given[:4]
        network = models[0].network
        _check_edges(given.edge_index, given.edge_shift)
        check_weights(network.dtype)
        z, batch = check_structures(z, pos, batch)
        given = given._replace(z=z, batch=batch)
        network.features.check(z)
        count = _count(batch, pos, cell, given.num_graphs)
        check_batch(models[0], z, batch, count)
        edges = make_edges(network, given, count, train=train)
        geometry = network.geometry(edges.index, edges.vec, pos.shape[0])
        several = [edges] if len(models) == 1 else _views(edges, len(models))
        pairs = None if len(models) == 1 else _same_pairs(models, z, edges)
        raw = []
        for model, own in zip(models, several, strict=True):
            if own is not edges:
                geometry = geometry.moved(own.vec.to(network.dtype))
            shared = () if pairs is None else (pairs[1],)
            inputs = (z, pos, batch, count, own.index, own.vec, geometry)
            raw.append(model.energy_of(*inputs, *shared))
        energies = [energy for energy, _ in raw]
        check_output(torch.stack(energies, 1), geometry)
        slopes = None
        if forces or stress:
            extra = None if pairs is None else pairs[0]
            slopes = _slopes(energies, several, train=train, shared=extra)
        found: list[dict[str, Any]] = [
            {"energy": energy, "energies": parts} for energy, parts in raw
        ]
        if not train:
            found = [
                {k: v if v is None else v.detach() for k, v in one.items()}
                for one in found
            ]
        if forces and slopes is not None:
            pulls = _forces(torch.cat([*slopes], dim=1), edges, pos)
            _check_forces(pulls)
            for one, force in zip(found, pulls.split(3, dim=1), strict=True):
                one["forces"] = force.contiguous()
        if stress and slopes is not None:
            for one, slope in zip(found, slopes, strict=True):
                one["stress"] = _stress(slope, edges, cell, batch, count)
        return [
            Result(**one, unit=model.info.units[0])
            for model, one in zip(models, found, strict=True)
        ]


def _views(edges: Edges, count: int) -> list[Edges]:
    """The same vectors several times, each to be differentiated by on its own."""
    return [Edges(edges.index, edges.vec.view_as(edges.vec)) for _ in range(count)]


def _same_pairs(
    models: Sequence[EnergyModel], z: Tensor, edges: Edges
) -> tuple[Edges, Tensor] | None:
    """Energies of pairs that all models add alike, and the vectors they depend on."""
    first = models[0]
    own = [type(model).pair_energies is EnergyModel.pair_energies for model in models]
    parts = [plain_part(model.pair) for model in models]
    if first.pair is None or not all(own) or any(p != parts[0] for p in parts):
        return None
    if next(first.pair.parameters(), None) is not None:
        return None
    (edges,) = _views(edges, 1)
    energies = first.pair_energies(z, edges.index, edges.vec)
    return None if energies is None else (edges, energies)


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
        force = _forces(_slopes([energy], [edges], train=True)[0], edges, pos)
    return Result(energy, energies, force, unit=model.info.units[0])


def _slopes(
    energies: Sequence[Tensor],
    edges: Sequence[Edges],
    *,
    train: bool,
    shared: Edges | None = None,
) -> Sequence[Tensor]:
    """Derivatives of all energies, each with respect to its vectors of the edges.

    Args:
        energies: One sum is differentiated.
        edges: Of each.
        train: Whether the derivatives can be differentiated.
        shared: Further vectors, that all energies depend on alike.
    """
    found = [energy.sum() for energy in energies if energy.requires_grad]
    vectors = [own.vec for own in edges]
    if not found:
        return [torch.zeros_like(vec) for vec in vectors]
    more = [] if shared is None else [shared.vec]
    slopes = torch.autograd.grad(
        found, [*vectors, *more], create_graph=train, materialize_grads=True
    )
    if shared is None:
        return slopes
    common = slopes[-1] / len(energies)
    return [slope + common for slope in slopes[:-1]]


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
