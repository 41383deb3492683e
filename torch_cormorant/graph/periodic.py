"""Neighbour search in periodic cells of any shape.

Atoms are wrapped into their cells, images of them are added in a margin of one cutoff
around the cell, and the open search with cells runs on all of these points: cost is
linear in the points, and a cutoff larger than the cell only adds images.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from torch_cormorant.errors import DtypeError, EdgeBudgetError
from torch_cormorant.graph.cells import pairs_from, sort_into_cells
from torch_cormorant.graph.lattice import edge_vectors, lattice_vectors, reciprocal
from torch_cormorant.graph.pairs import pair_ranges

__all__ = ["MAX_IMAGES", "Wrapped", "exact_edges", "periodic_candidates", "wrap"]

MAX_IMAGES = 50_000_000
"""Points, images included, that one search makes; beyond, the cell is too flat."""
RESOLUTION = 1e-3
"""Coarsest spacing of coordinates, as a share of the cutoff, that is accepted."""

MAX_CODE = 1 << 62
"""Largest number that edges are sorted by."""

Edges = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Wrapped:
    """Atoms moved into their cells.

    Attributes:
        pos: ``[N, 3]`` float64, inside the cell along every periodic direction.
        fraction: ``[N, 3]`` float64, in [0, 1), zero where nothing repeats.
        cells_away: ``[N, 3]`` int64, ``pos = original - cells_away @ cell``.
        cells: ``[B, 3, 3]`` float64.
        batch: ``[N]``.
        margin: Length in Angstrom by which distances here may be wrong.
    """

    pos: Tensor
    fraction: Tensor
    cells_away: Tensor
    cells: Tensor
    batch: Tensor
    margin: float


def wrap(pos: Tensor, cells: Tensor, batch: Tensor, cutoff: float) -> Wrapped:
    """Move atoms into their cells.

    Args:
        pos: Positions in Angstrom.
        cells: From :func:`~torch_cormorant.graph.lattice.as_cells`.
        batch: Cell of each atom.
        cutoff: Cutoff in Angstrom, to judge whether the positions are fine enough.

    Shapes:
        ``pos``: ``[N, 3]``; ``cells``: ``[B, 3, 3]``; ``batch``: ``[N]``.

    Returns:
        The atoms inside their cells.

    Raises:
        DtypeError: Atoms are so far outside that their type cannot resolve them.
    """
    largest = float(pos.abs().max()) if pos.numel() else 0.0
    step = largest * torch.finfo(pos.dtype).eps
    if step > RESOLUTION * cutoff:
        msg = (
            f"pos reaches {largest:.3g} Angstrom, where {pos.dtype} resolves only "
            f"{step:.2g} Angstrom; move the atoms into the cell or use float64"
        )
        raise DtypeError(msg)
    points, exact = pos.double(), cells.double()
    inverse = reciprocal(cells)
    # a second round removes what rounding leaves far outside the cell
    away = torch.zeros_like(points)
    for _ in range(2):
        inside = points - lattice_vectors(away, exact, batch, _each(batch))
        fraction = torch.einsum("ni,nij->nj", inside, inverse[batch])
        away = away + fraction.floor()
    inside = points - lattice_vectors(away, exact, batch, _each(batch))
    fraction = torch.einsum("ni,nij->nj", inside, inverse[batch])
    spread = largest + float(exact.abs().sum(1).max()) if cells.numel() else largest
    margin = 64 * torch.finfo(pos.dtype).eps * (spread + cutoff)
    return Wrapped(inside, fraction, away.long(), exact, batch, margin)


def _each(batch: Tensor) -> Tensor:
    return torch.arange(batch.shape[0], device=batch.device)


def _images(atoms: Wrapped, reach: float) -> tuple[Tensor, Tensor]:
    """Atom and shift of every point in the cells and a margin of ``reach`` around."""
    atom = _each(atoms.batch)
    shift = torch.zeros(atom.shape[0], 3, dtype=torch.int64, device=atom.device)
    inverse = reciprocal(atoms.cells)
    for axis in range(3):
        # zero where nothing repeats, and then only the shift zero is found
        share = (reach * inverse[:, :, axis].norm(dim=1))[atoms.batch]
        repeats = (share > 0)[atom]
        fraction = atoms.fraction[atom, axis]
        low = torch.where(repeats, (-share[atom] - fraction).ceil(), 0).long()
        high = torch.where(repeats, (1 + share[atom] - fraction).floor(), 0).long()
        count = high - low + 1
        total = int(count.sum())
        if total > MAX_IMAGES:
            msg = (
                f"a reach of {reach:g} Angstrom needs {total} periodic images of "
                f"{atoms.batch.shape[0]} atoms, more than {MAX_IMAGES}; is the cell in "
                "Angstrom, and is it meant to be so flat?"
            )
            raise EdgeBudgetError(msg)
        row, number = pair_ranges(low, count)
        atom, shift = atom[row], shift[row]
        shift[:, axis] = number
    return atom, shift


def periodic_candidates(atoms: Wrapped, cutoff: float) -> Edges:
    """All edges up to a little beyond the cutoff, with shifts of the wrapped atoms.

    Args:
        atoms: From :func:`wrap`.
        cutoff: Cutoff in Angstrom.

    Returns:
        ``(source [E], target [E], shift [E, 3])``, in no particular order; an atom and
        itself with the shift zero are no edge.
    """
    reach = cutoff + atoms.margin
    atom, shift = _images(atoms, reach)
    points = atoms.pos[atom] + lattice_vectors(shift, atoms.cells, atoms.batch, atom)
    own = (shift == 0).all(1)
    grid = sort_into_cells(points, reach, atoms.batch[atom])
    sources, targets = [], []
    for source, target in pairs_from(grid, points, reach, own):
        other = source != target
        sources.append(source[other])
        targets.append(target[other])
    if not sources:
        none = atom[:0]
        return none, none, shift[:0]
    source, target = torch.cat(sources), torch.cat(targets)
    # the image j + shift is the source: r_i - (r_j + shift), so the edge counts -shift
    return atom[source], atom[target], -shift[source]


def exact_edges(
    edges: Edges,
    atoms: Wrapped,
    pos: Tensor,
    cells: Tensor,
    cutoff: float,
) -> tuple[Tensor, Tensor]:
    """Keep the candidates that the one rule accepts, in the order of the package.

    Args:
        edges: Candidates, shifts for wrapped atoms.
        atoms: From :func:`wrap`.
        pos: Positions as the user gave them.
        cells: ``[B, 3, 3]`` in the type of ``pos``.
        cutoff: Cutoff in Angstrom, rounded to the type of ``pos``.

    Returns:
        ``edge_index`` ``[2, E]`` and ``edge_shift`` ``[E, 3]`` in the type of ``pos``.
    """
    source, target, shift = edges
    # wrapped_i - wrapped_j + s = r_i - r_j + (s - away_i + away_j)
    shift = shift - atoms.cells_away[target] + atoms.cells_away[source]
    index = torch.stack([source, target])
    vec = edge_vectors(pos, index, shift.to(pos.dtype), cells, atoms.batch)
    keep = shorter(vec, cutoff)
    index, shift = index[:, keep], shift[keep]
    order = edge_order(index, shift, pos.shape[0])
    return index[:, order], shift[order].to(pos.dtype)


def shorter(vec: Tensor, cutoff: float) -> Tensor:
    """Apply the rule of the cutoff to edge vectors ``[E, 3]``."""
    square = vec.square()
    total = (square[:, 0] + square[:, 1]) + square[:, 2]
    return total.sqrt() < cutoff


def edge_order(index: Tensor, shift: Tensor, num_nodes: int) -> Tensor:
    """Order of edges by target, source, shift along the three vectors."""
    low = shift.amin(0) if shift.numel() else shift.new_zeros(3)
    size = (shift.amax(0) - low + 1) if shift.numel() else shift.new_ones(3)
    sizes = size.tolist()
    code = ((shift[:, 0] - low[0]) * sizes[1] + (shift[:, 1] - low[1])) * sizes[2]
    code = code + (shift[:, 2] - low[2])
    key = index[1] * num_nodes + index[0]
    images = sizes[0] * sizes[1] * sizes[2]
    if num_nodes * num_nodes * images < MAX_CODE:
        return torch.argsort(key * images + code, stable=True)
    # one number would not hold it: atoms far outside of a small cell
    order = torch.arange(key.shape[0], device=key.device)
    for column in (*shift.unbind(1)[::-1], key):
        order = order[torch.argsort(column[order], stable=True)]
    return order
