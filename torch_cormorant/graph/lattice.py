"""Periodic cells: checks, fractional coordinates, and the one formula for edges."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from torch_cormorant.errors import (
    CellError,
    ConfigError,
    DeviceError,
    DtypeError,
    ShapeError,
)

__all__ = [
    "as_cells",
    "edge_vectors",
    "heights",
    "lattice_vectors",
    "reciprocal",
    "volumes",
]

SINGULAR = 1e-6
"""Smallest ratio of the singular values of the periodic cell vectors."""


def as_cells(
    cell: Tensor | None,
    pbc: Tensor | bool | None,
    num_graphs: int,
    like: Tensor,
) -> tuple[Tensor, Tensor] | None:
    """Check cells and directions and give every graph its own.

    Args:
        cell: Cell vectors in rows, in Angstrom; None: no graph is periodic.
        pbc: Which of the three vectors repeat. Default: all three where there is a
            cell.
        num_graphs: Number of graphs B.
        like: The positions: device and type of the result.

    Shapes:
        ``cell``: ``[3, 3]`` or ``[B, 3, 3]``; ``pbc``: ``[3]``, ``[B, 3]`` or one bool.

    Returns:
        ``(cell [B, 3, 3], pbc [B, 3])`` with zeros in place of the vectors that do not
        repeat, or None where nothing is periodic.

    Raises:
        CellError: A periodic cell vector is zero, not finite or linearly dependent; the
            message names the graph.
        ShapeError, DtypeError, DeviceError: A tensor is not as above.
        ConfigError: ``pbc`` asks for a period and there is no cell.

    Example:
        >>> import torch
        >>> cell, pbc = as_cells(torch.eye(3), None, 2, torch.zeros(4, 3))
        >>> tuple(cell.shape), pbc.all().item()
        ((2, 3, 3), True)
    """
    periodic = _as_pbc(pbc, num_graphs, like.device, given=cell is not None)
    if cell is None:
        if bool(periodic.any()):
            msg = "pbc has a periodic direction but cell is None; give cell= [3, 3]"
            raise ConfigError(msg)
        return None
    cells = _as_cell_rows(cell, num_graphs, like)
    if not bool(periodic.any()):
        return None
    cells = torch.where(periodic.unsqueeze(-1), cells, 0.0)
    _check_independent(cells.detach(), periodic)
    return cells, periodic


def _as_pbc(
    pbc: object, num_graphs: int, device: torch.device, *, given: bool
) -> Tensor:
    if pbc is None:
        pbc = given
    if isinstance(pbc, bool):
        return torch.full((num_graphs, 3), pbc, device=device)
    if not isinstance(pbc, Tensor) or pbc.dtype != torch.bool:
        kind = pbc.dtype if isinstance(pbc, Tensor) else type(pbc).__name__
        msg = f"pbc must be a bool or a bool tensor [3] or [B, 3], got {kind}"
        raise DtypeError(msg)
    if pbc.device != device:
        msg = f"pbc lies on {pbc.device}, the positions on {device}"
        raise DeviceError(msg)
    if tuple(pbc.shape) not in ((3,), (num_graphs, 3)):
        msg = (
            f"pbc must have shape [3] or [{num_graphs}, 3], one row for each graph, "
            f"got {list(pbc.shape)}"
        )
        raise ShapeError(msg)
    return pbc.expand(num_graphs, 3)


def _as_cell_rows(cell: object, num_graphs: int, like: Tensor) -> Tensor:
    if not isinstance(cell, Tensor) or not cell.is_floating_point():
        kind = cell.dtype if isinstance(cell, Tensor) else type(cell).__name__
        msg = f"cell must be a floating point tensor (Angstrom), got {kind}"
        raise DtypeError(msg)
    if cell.device != like.device:
        msg = f"cell lies on {cell.device}, the positions on {like.device}"
        raise DeviceError(msg)
    if tuple(cell.shape) not in ((3, 3), (num_graphs, 3, 3)):
        msg = (
            f"cell must have shape [3, 3] or [{num_graphs}, 3, 3], one for each graph "
            f"with its vectors in rows, got {list(cell.shape)}"
        )
        raise ShapeError(msg)
    return cell.to(like.dtype).expand(num_graphs, 3, 3)


def _check_independent(cells: Tensor, periodic: Tensor) -> None:
    """Refuse zero, infinite and linearly dependent periodic cell vectors."""
    finite = cells.isfinite().flatten(1).all(1)
    safe = torch.where(finite[:, None, None], cells, 0.0).double()
    values = torch.linalg.svdvals(safe)  # descending
    rank = (values > SINGULAR * values[:, :1]).sum(1)
    bad = ~finite | (rank < periodic.sum(1))
    if bool(bad.any()):
        graph = int(bad.nonzero()[0])
        axes = periodic[graph].nonzero().flatten().tolist()
        msg = (
            f"cell of graph {graph} does not span its periodic directions {axes}: "
            f"{cells[graph].tolist()}; vectors (rows, Angstrom) must be finite, not "
            "zero and linearly independent; set pbc= to False where nothing repeats"
        )
        raise CellError(msg)


def reciprocal(cells: Tensor) -> Tensor:
    """Vectors in columns that give fractional coordinates: ``pos @ reciprocal``.

    Args:
        cells: From :func:`as_cells`: zeros in place of vectors that do not repeat.

    Shapes:
        ``cells``: ``[B, 3, 3]``.

    Returns:
        ``[B, 3, 3]`` in float64, zero columns where nothing repeats.

    Example:
        >>> import torch
        >>> slab = torch.diag(torch.tensor([2.0, 4.0, 0.0]))
        >>> reciprocal(slab[None])[0].diagonal()
        tensor([0.5000, 0.2500, 0.0000], dtype=torch.float64)
    """
    cells = cells.detach().double()
    repeats = (cells != 0).any(-1)
    # the inverse leaves rounding errors where exact zeros must be
    return torch.where(repeats.unsqueeze(1), torch.linalg.pinv(cells), 0.0)


def heights(cells: Tensor) -> Tensor:
    """Distance of the planes of each cell vector in Angstrom, infinite without period.

    Args:
        cells: From :func:`as_cells`.

    Returns:
        ``[B, 3]`` in float64.

    Example:
        >>> import torch
        >>> heights(torch.diag(torch.tensor([2.0, 4.0, 0.0]))[None]).tolist()
        [[2.0, 4.0, inf]]
    """
    size = reciprocal(cells).norm(dim=1)
    return torch.where(size > 0, 1 / size, math.inf)


def volumes(cells: Tensor) -> Tensor:
    """Volume of every cell, ``[B]`` in cubic Angstrom.

    Args:
        cells: ``[B, 3, 3]``.

    Example:
        >>> import torch
        >>> volumes(2 * torch.eye(3)[None]).tolist()
        [8.0]
    """
    first, second, third = cells.unbind(1)
    triple: Tensor = (first * torch.linalg.cross(second, third)).sum(-1)
    return triple.abs()


def edge_vectors(
    pos: Tensor,
    edge_index: Tensor,
    edge_shift: Tensor | None = None,
    cell: Tensor | None = None,
    batch: Tensor | None = None,
) -> Tensor:
    r"""Vectors of edges between periodic images.

    .. math:: r_{ij} = (r_i - r_j) + ((s_1 a_1 + s_2 a_2) + s_3 a_3)

    in the type of ``pos``, every operation rounded on its own from left to right, so
    that the vector of the reverse edge (negated shift) is exactly the negative one.

    Args:
        pos: Positions in Angstrom.
        edge_index: Row 0 = source j, row 1 = target i.
        edge_shift: Whole numbers of cell vectors; None: no edge crosses a boundary.
        cell: Cell vectors in rows.
        batch: Graph of each atom; None: one graph.

    Shapes:
        ``pos`` ``[N, 3]``, ``edge_index`` ``[2, E]``, ``edge_shift`` ``[E, 3]``,
        ``cell`` ``[3, 3]`` or ``[B, 3, 3]``, ``batch`` ``[N]``.

    Returns:
        ``[E, 3]``; differentiable in ``pos`` and ``cell``.

    Raises:
        ConfigError: Shifts without a cell.
        ShapeError: ``edge_shift`` has another shape.

    Example:
        >>> import torch
        >>> pos = torch.tensor([[0.5, 0, 0], [3.5, 0, 0]])
        >>> index, shift = torch.tensor([[1], [0]]), torch.tensor([[1.0, 0, 0]])
        >>> edge_vectors(pos, index, shift, 4 * torch.eye(3)).tolist()
        [[1.0, 0.0, 0.0]]
    """
    source, target = edge_index[0], edge_index[1]
    vec = pos.index_select(0, target) - pos.index_select(0, source)
    if edge_shift is None:
        return vec
    if cell is None:
        msg = "edge_shift counts cell vectors, but cell is None; give cell= [3, 3]"
        raise ConfigError(msg)
    if tuple(edge_shift.shape) != tuple(vec.shape):
        msg = f"edge_shift must have shape {list(vec.shape)}, one row for each edge, "
        raise ShapeError(msg + f"got {list(edge_shift.shape)}")
    return vec + lattice_vectors(edge_shift, cell.to(pos.dtype), batch, target)


def lattice_vectors(
    shift: Tensor, cell: Tensor, batch: Tensor | None, atom: Tensor
) -> Tensor:
    """Whole numbers of cell vectors as vectors, without a matrix product.

    A matrix product may round differently from row to row, and then an edge and its
    reverse would not be exactly opposite.
    """
    shift = shift.to(cell.dtype)
    if cell.ndim == 2:
        rows = cell.unsqueeze(0)
    elif batch is None or cell.shape[0] == 1:
        rows = cell[:1]
    else:
        rows = cell.index_select(0, batch.index_select(0, atom).long())
    first, second, third = rows.unbind(1)
    total = shift[:, 0:1] * first + shift[:, 1:2] * second
    return total + shift[:, 2:3] * third
