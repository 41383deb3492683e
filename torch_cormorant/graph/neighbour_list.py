"""Neighbour lists of molecules, surfaces and crystals, by several backends."""

from __future__ import annotations

import torch
from torch import Tensor

from torch_cormorant.backends import NEIGHBOUR_LIST, choose_backend
from torch_cormorant.errors import BackendError
from torch_cormorant.graph.checks import check_batch, check_positions, rounded_cutoff
from torch_cormorant.graph.lattice import as_cells
from torch_cormorant.graph.list_backends import SEARCHES
from torch_cormorant.graph.periodic import (
    edge_order,
    exact_edges,
    periodic_candidates,
    wrap,
)
from torch_cormorant.graph.radius_graph import radius_graph

__all__ = ["neighbour_list"]


@torch.no_grad()
def neighbour_list(
    pos: Tensor,
    cutoff: float,
    batch: Tensor | None = None,
    cell: Tensor | None = None,
    pbc: Tensor | bool | None = None,
    loop: bool = False,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    r"""Connect all atoms, and periodic images of atoms, closer than a cutoff.

    .. math:: \{(j, i, s) : |r_{ij}| < r_c\}, \quad
        r_{ij} = (r_i - r_j) + ((s_1 a_1 + s_2 a_2) + s_3 a_3)

    The rule is exact and the same for every backend: computed in the type of ``pos``,
    every operation rounded on its own, from left to right; strictly smaller. Cells may
    have any shape and be smaller than the cutoff, and atoms may lie outside. Both
    directions of a pair are always present, with opposite shifts and exactly opposite
    vectors. Nothing is ever truncated. An image of an atom is a neighbour of that atom
    like any other; only the atom itself (shift zero) is not.

    Args:
        pos: Positions in Angstrom, ``float32`` or ``float64``.
        cutoff: Cutoff in Angstrom.
        batch: Graph of each atom, in any order. Default: one graph.
        cell: Cell vectors in rows, in Angstrom: one cell, or one for each graph
            (graphs are then numbered 0, 1, ...). Default: nothing repeats.
        pbc: Which vectors repeat; True: all three (default with a cell). The other
            vectors of the cell are not read and may be zero.
        loop: Connect each atom with itself (shift zero) too. Default False.
        backend: ``"cells"`` (own search, linear in the atoms), ``"vesin"``,
            ``"matscipy"``, ``"nvalchemi"``, ``"torch_cluster"`` (nothing periodic), or
            ``"auto"`` (default): the own search.

    Shapes:
        ``pos``: ``[N, 3]``; ``batch``: ``[N]``; ``cell``: ``[3, 3]`` or ``[B, 3, 3]``;
        ``pbc``: ``[3]`` or ``[B, 3]``.

    Returns:
        ``edge_index`` ``[2, E]`` ``int64``, row 0 = source j, row 1 = target i, and
        ``edge_shift`` ``[E, 3]``, whole numbers s in the type of ``pos``; sorted by
        target, source and shift. ``edge_vec = pos[target] - pos[source] +
        edge_shift @ cell``: see :func:`~torch_cormorant.graph.edge_vectors`.

    Raises:
        CellError: A periodic cell is zero, flat or not finite.
        ConfigError, ShapeError, DtypeError, DeviceError, NonFiniteError: An argument is
            not as above.
        EdgeBudgetError: The cell is so flat that far too many images are needed.
        BackendError: The backend is unknown, missing or cannot do this.

    Note:
        Deterministic, memory linear in atoms and edges. No gradient flows through the
        result; compute edge vectors from it.

    Example:
        >>> import torch
        >>> pos = torch.tensor([[0.5, 0, 0], [3.5, 0, 0]])
        >>> edge_index, edge_shift = neighbour_list(pos, 1.5, cell=4 * torch.eye(3))
        >>> edge_index.tolist(), edge_shift.tolist()
        ([[1, 0], [0, 1]], [[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])
    """
    check_positions(pos)
    cutoff = rounded_cutoff(cutoff, pos.dtype)
    choose_backend(NEIGHBOUR_LIST, backend)
    num_nodes = pos.shape[0]
    if batch is not None:
        batch = check_batch(batch, num_nodes, pos.device)
    periodic = as_cells(cell, pbc, graphs_of(batch, cell), pos)
    if backend == "torch_cluster" and periodic is not None:
        msg = 'backend="torch_cluster" knows no periodic cells; use backend="cells"'
        raise BackendError(msg)
    if backend in ("auto", "cells", "torch_cluster") and periodic is None:
        index = radius_graph(pos, cutoff, batch, loop=loop, backend=backend)
        return index, pos.new_zeros(index.shape[1], 3)
    index, shift = _search(pos, cutoff, batch, periodic, backend)
    return _with_loops(index, shift, num_nodes) if loop else (index, shift)


def graphs_of(batch: Tensor | None, cell: Tensor | None) -> int:
    """Number of graphs: at least as many as the batch numbers, as many as cells."""
    numbered = 1
    if batch is not None:
        numbered = int(batch.max()) + 1 if batch.numel() else 0
    if isinstance(cell, Tensor) and cell.ndim == 3:
        return max(numbered, cell.shape[0])
    return numbered


def _search(
    pos: Tensor,
    cutoff: float,
    batch: Tensor | None,
    periodic: tuple[Tensor, Tensor] | None,
    backend: str,
) -> tuple[Tensor, Tensor]:
    if batch is None:
        batch = torch.zeros(pos.shape[0], dtype=torch.int64, device=pos.device)
    if periodic is None:
        # numbers of molecules may be anything; every one needs a row of its own
        batch = torch.unique(batch, return_inverse=True)[1]
        count = int(batch.max()) + 1 if batch.numel() else 0
        cells = pos.new_zeros(count, 3, 3)
        pbc = torch.zeros(count, 3, dtype=torch.bool, device=pos.device)
    else:
        cells, pbc = periodic
    if pos.shape[0] == 0:
        none = torch.empty(2, 0, dtype=torch.int64, device=pos.device)
        return none, pos.new_zeros(0, 3)
    atoms = wrap(pos, cells, batch, cutoff)
    if backend in SEARCHES:
        found = SEARCHES[backend](atoms, pbc, cutoff + atoms.margin)
    else:
        found = periodic_candidates(atoms, cutoff)
    return exact_edges(found, atoms, pos, cells, cutoff)


def _with_loops(index: Tensor, shift: Tensor, num_nodes: int) -> tuple[Tensor, Tensor]:
    """Add every atom itself, with the shift zero, in its place."""
    own = torch.arange(num_nodes, device=index.device)
    index = torch.cat([index, torch.stack([own, own])], dim=1)
    shift = torch.cat([shift, shift.new_zeros(num_nodes, 3)])
    order = edge_order(index, shift.long(), num_nodes)
    return index[:, order], shift[order]
