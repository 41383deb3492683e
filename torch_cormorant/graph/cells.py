"""Neighbour search with cells: time and memory linear in the number of atoms.

Space is cut into cells a little wider than the cutoff, so all neighbours of an atom
lie in its own cell and the 26 around it. Only occupied cells are kept, as a sorted
list of keys in which the cells along z follow each other: the candidates of an atom
are nine contiguous ranges of atoms, five when each pair is looked at once. No table of
cells exists, so the size of the box does not matter.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from torch_cormorant.graph.pairs import (
    chunk_bounds,
    pair_ranges,
    sort_edges,
    within_cutoff,
)

__all__ = [
    "CellGrid",
    "candidate_counts",
    "cell_graph",
    "pairs_from",
    "sort_into_cells",
]

# Cells are wider than the cutoff by this, far more than any rounding of a distance
# (6e-8 in float32) or of a cell coordinate (MAX_CELLS * 2e-16).
MARGIN = 1e-5
MAX_CELLS = 1 << 30
# Cells are merged two by two until their keys stay below this (above 1e6 atoms that lie
# along a diagonal, only).
MAX_KEY = 1 << 62
# Scaling before subtracting keeps the extent of a box around +-1e308 finite.
DOWNSCALE = 0.25

# (x, y) offsets of the columns of cells that come after an atom's own column.
FORWARD_COLUMNS = ((0, 1), (1, -1), (1, 0), (1, 1))


class CellGrid:
    """Atoms sorted by cell.

    Attributes:
        order: ``[N]``, original number of each sorted atom.
        key: ``[N]``, cell of each sorted atom, ascending.
        strides: Difference of the keys of two cells that are neighbours along x and
            along y; along z it is 1.
    """

    def __init__(self, order: Tensor, key: Tensor, strides: tuple[int, int]) -> None:
        """Store the sorted atoms."""
        self.order = order
        self.key = key
        self.strides = strides

    def range_of(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """First sorted atom and number of sorted atoms with ``low <= key <= high``."""
        first = torch.searchsorted(self.key, low)
        return first, torch.searchsorted(self.key, high, right=True) - first


def _compressed(values: Tensor) -> tuple[Tensor, int]:
    """Number sorted-unique values so that neighbours stay neighbours.

    Gaps wider than one become exactly two: at most 2N + 2 numbers for N atoms, however
    far apart they are. Returns the numbers, from 1, and the count with one guard cell
    on either side.
    """
    unique, inverse = torch.unique(values, return_inverse=True)
    number = torch.ones_like(unique)
    number[1:] = unique.diff().clamp(max=2)
    number = number.cumsum(0)
    return number[inverse], int(number[-1]) + 2


def sort_into_cells(pos: Tensor, cutoff: float, batch: Tensor | None) -> CellGrid:
    """Sort atoms by molecule and cell.

    Args:
        pos: Positions in Angstrom, finite, at least one.
        cutoff: Cutoff in Angstrom.
        batch: Molecule numbers in any order, or None for one molecule.

    Shapes:
        ``pos``: ``[N, 3]``; ``batch``: ``[N]``.

    Returns:
        The grid; cells of different molecules are never neighbours.
    """
    scaled = pos.double() * DOWNSCALE
    low = scaled.amin(dim=0)
    extent = scaled.amax(dim=0) - low
    width = (extent / MAX_CELLS).clamp(min=cutoff * DOWNSCALE * (1 + MARGIN))
    cells = ((scaled - low) / width).floor_().long()
    cell_x = cells[:, 0]
    if batch is not None:
        # Two free cells between molecules; ranked, because a number may be anything.
        rank = torch.unique(batch, return_inverse=True)[1]
        cell_x = cell_x + rank * (MAX_CELLS + 4)
    for halvings in range(MAX_CELLS.bit_length()):
        x, num_x = _compressed(cell_x >> halvings)
        y, num_y = _compressed(cells[:, 1] >> halvings)
        z, num_z = _compressed(cells[:, 2] >> halvings)
        if num_x * num_y * num_z < MAX_KEY:
            break
    strides = (num_y * num_z, num_z)
    key, order = torch.sort(x * strides[0] + y * strides[1] + z, stable=True)
    return CellGrid(order, key, strides)


def candidate_counts(grid: CellGrid) -> Tensor:
    """Count the atoms in the 27 cells around each sorted atom, itself included.

    Args:
        grid: Atoms sorted by cell.

    Returns:
        ``[N]``, an upper bound of the number of neighbours within the cutoff, plus 1.
    """
    total = torch.zeros_like(grid.key)
    for dx in (-1, 0, 1):
        for dy in (-1, 0, 1):
            centre = grid.key + (dx * grid.strides[0] + dy * grid.strides[1])
            total += grid.range_of(centre - 1, centre + 1)[1]
    return total


def _forward_ranges(grid: CellGrid) -> tuple[Tensor, Tensor]:
    """Ranges of the candidates that come after each sorted atom, ``[N, 5]`` each."""
    own = torch.arange(1, grid.key.shape[0] + 1, device=grid.key.device)
    firsts = [own]
    counts = [torch.searchsorted(grid.key, grid.key + 1, right=True) - own]
    for dx, dy in FORWARD_COLUMNS:
        centre = grid.key + (dx * grid.strides[0] + dy * grid.strides[1])
        first, count = grid.range_of(centre - 1, centre + 1)
        firsts.append(first)
        counts.append(count)
    return torch.stack(firsts, dim=1), torch.stack(counts, dim=1)


def _pairs_once(grid: CellGrid, pos: Tensor, cutoff: float) -> tuple[Tensor, Tensor]:
    """Find each pair within the cutoff once, as original atom numbers."""
    firsts, counts = _forward_ranges(grid)
    columns = pos[grid.order].T.contiguous()
    totals = counts.sum(dim=1)
    found_a, found_b = [], []
    for begin, end in chunk_bounds(totals):
        _, b = pair_ranges(firsts[begin:end].flatten(), counts[begin:end].flatten())
        a = torch.repeat_interleave(totals[begin:end]).add_(begin)
        keep = within_cutoff(
            columns.index_select(1, a), columns.index_select(1, b), cutoff
        )
        found_a.append(grid.order[a[keep]])
        found_b.append(grid.order[b[keep]])
    return torch.cat(found_a), torch.cat(found_b)


def pairs_from(
    grid: CellGrid, pos: Tensor, cutoff: float, is_target: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Find directed pairs within the cutoff that point to chosen atoms, in chunks.

    Args:
        grid: Points sorted by cell.
        pos: The points, in Angstrom.
        cutoff: Cutoff in Angstrom.
        is_target: Which points are targets.

    Shapes:
        ``pos``: ``[N, 3]``; ``is_target``: ``[N]``, boolean.

    Yields:
        ``(source, target)`` as original numbers of points, pairs of a point with
        itself included.
    """
    targets = is_target[grid.order].nonzero().flatten()
    key = grid.key[targets]
    columns = pos[grid.order].T.contiguous()
    firsts, counts = [], []
    for dx in (-1, 0, 1):
        for dy in (-1, 0, 1):
            centre = key + (dx * grid.strides[0] + dy * grid.strides[1])
            first, count = grid.range_of(centre - 1, centre + 1)
            firsts.append(first)
            counts.append(count)
    first, count = torch.stack(firsts, dim=1), torch.stack(counts, dim=1)
    totals = count.sum(dim=1)
    for begin, end in chunk_bounds(totals):
        _, b = pair_ranges(first[begin:end].flatten(), count[begin:end].flatten())
        a = targets[begin:end].repeat_interleave(totals[begin:end])
        keep = within_cutoff(
            columns.index_select(1, a), columns.index_select(1, b), cutoff
        )
        yield grid.order[b[keep]], grid.order[a[keep]]


def cell_graph(
    pos: Tensor, cutoff: float, batch: Tensor | None, *, loop: bool
) -> Tensor:
    """Find all pairs closer than the cutoff by sorting the atoms into cells.

    Args:
        pos: Positions in Angstrom, checked.
        cutoff: Cutoff in Angstrom, checked and rounded to the type of ``pos``.
        batch: Molecule numbers in any order, or None for one molecule.
        loop: Keep the pairs of an atom with itself.

    Shapes:
        ``pos``: ``[N, 3]``; ``batch``: ``[N]``.

    Returns:
        ``edge_index`` ``[2, E]``, sorted by target, then by source.

    Note:
        Linear in the number of candidate pairs, about 15 times the number of edges
        counted once; deterministic; memory linear in atoms and edges.

    Example:
        >>> import torch
        >>> pos = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [3.0, 0, 0]])
        >>> cell_graph(pos, 1.5, None, loop=False).tolist()
        [[1, 0], [0, 1]]
    """
    num_nodes = pos.shape[0]
    if num_nodes == 0:
        return torch.empty(2, 0, dtype=torch.int64, device=pos.device)
    a, b = _pairs_once(sort_into_cells(pos, cutoff, batch), pos, cutoff)
    sources, targets = [a, b], [b, a]
    if loop:
        own = torch.arange(num_nodes, device=pos.device)
        sources.append(own)
        targets.append(own)
    return sort_edges(torch.cat(sources), torch.cat(targets), num_nodes)
