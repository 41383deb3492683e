"""Neighbour lists that are kept while atoms move little, as in molecular dynamics."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real

import torch
from torch import Tensor

from torch_cormorant.backends import NEIGHBOUR_LIST, choose_backend
from torch_cormorant.errors import ConfigError
from torch_cormorant.graph.checks import check_positions, rounded_cutoff
from torch_cormorant.graph.lattice import as_cells, edge_vectors
from torch_cormorant.graph.neighbour_list import graphs_of, neighbour_list
from torch_cormorant.graph.periodic import shorter

__all__ = ["NeighbourCache"]

ROUNDING = 64
"""Units in the last place of a coordinate by which a distance may be wrong."""


@dataclass(frozen=True)
class _Kept:
    """The last search: its input and all edges up to the cutoff plus the skin."""

    pos: Tensor
    batch: Tensor | None
    cell: Tensor | None
    pbc: Tensor | bool | None
    loop: bool
    rows: Tensor | None  # cell vectors [B, 3, 3], zero where nothing repeats
    index: Tensor
    shift: Tensor


class NeighbourCache:
    r"""A neighbour list with a skin: exact at every step, searched anew when needed.

    The search goes to ``cutoff + skin``; every call keeps the edges shorter than the
    cutoff, so the result equals :func:`~torch_cormorant.graph.neighbour_list` edge by
    edge, in the same order. Pairs beyond the skin cannot come into reach before an atom
    has moved by half of it: then, or when the cell, the batch or the type changes, the
    search runs again.

    Args:
        cutoff: Cutoff in Angstrom.
        skin: Extra reach in Angstrom. Default 1.
        backend: As in :func:`~torch_cormorant.graph.neighbour_list`.

    Attributes:
        calls: Number of calls.
        searches: Number of searches among them.

    Raises:
        ConfigError: The skin is negative or not finite.
        BackendError: The backend is unknown or missing.

    Example:
        >>> import torch
        >>> cache = NeighbourCache(cutoff=2.0, skin=1.0)
        >>> pos = torch.tensor([[0.0, 0, 0], [1.5, 0, 0]])
        >>> for _ in range(5):
        ...     pos = pos + torch.tensor([[0.0, 0, 0], [0.05, 0, 0]])
        ...     edge_index, edge_shift = cache(pos)
        >>> cache.calls, cache.searches, edge_index.shape[1]
        (5, 1, 2)

    Note:
        The skin trades the cost of a search against that of more candidates: 1 Angstrom
        lasts 20 to 50 steps of 0.5 fs at room temperature. A cell that changes at every
        step needs a search at every step.
    """

    def __init__(self, cutoff: float, skin: float = 1.0, backend: str = "auto") -> None:
        number: object = skin  # users pass texts too
        if not isinstance(number, Real) or not 0 <= skin < float("inf"):
            msg = f"skin must be a length in Angstrom, at least 0, got {skin!r}"
            raise ConfigError(msg)
        choose_backend(NEIGHBOUR_LIST, backend)
        self.cutoff = rounded_cutoff(cutoff, torch.float64)
        self.skin, self.backend = float(skin), backend
        self.calls = self.searches = 0
        self._kept: _Kept | None = None

    @torch.no_grad()
    def __call__(
        self,
        pos: Tensor,
        batch: Tensor | None = None,
        cell: Tensor | None = None,
        pbc: Tensor | bool | None = None,
        loop: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Edges within the cutoff.

        Args:
            pos: Positions ``[N, 3]`` in Angstrom. Atoms must not be wrapped into the
                cell between calls: that is a jump, and costs a search.
            batch: As in :func:`~torch_cormorant.graph.neighbour_list`, as are the rest.
            cell: Cell vectors.
            pbc: Which of them repeat.
            loop: Connect each atom with itself too.

        Returns:
            ``edge_index`` ``[2, E]`` and ``edge_shift`` ``[E, 3]``.
        """
        check_positions(pos)
        self.calls += 1
        kept = self._kept
        if kept is None or not self._holds(kept, pos, batch, cell, pbc, loop):
            kept = self._search(pos, batch, cell, pbc, loop)
        shift = None if kept.rows is None else kept.shift
        vec = edge_vectors(pos, kept.index, shift, kept.rows, kept.batch)
        keep = shorter(vec, rounded_cutoff(self.cutoff, pos.dtype))
        return kept.index[:, keep], kept.shift[keep]

    def reset(self) -> None:
        """Forget the last search."""
        self._kept = None

    def _search(
        self,
        pos: Tensor,
        batch: Tensor | None,
        cell: Tensor | None,
        pbc: Tensor | bool | None,
        loop: bool,
    ) -> _Kept:
        reach = self.cutoff + self.skin
        index, shift = neighbour_list(pos, reach, batch, cell, pbc, loop, self.backend)
        self.searches += 1
        periodic = as_cells(cell, pbc, graphs_of(batch, cell), pos)
        kept = _Kept(
            pos.clone(),
            None if batch is None else batch.clone(),
            None if cell is None else cell.clone(),
            pbc.clone() if isinstance(pbc, Tensor) else pbc,
            loop,
            None if periodic is None else periodic[0].clone(),
            index,
            shift,
        )
        self._kept = kept
        return kept

    def _holds(
        self,
        kept: _Kept,
        pos: Tensor,
        batch: Tensor | None,
        cell: Tensor | None,
        pbc: Tensor | bool | None,
        loop: bool,
    ) -> bool:
        """Whether no pair can have come into reach since the last search."""
        same = (
            kept.pos.shape == pos.shape
            and kept.pos.dtype == pos.dtype
            and kept.pos.device == pos.device
            and kept.loop == loop
            and _same(kept.batch, batch)
            and _same(kept.cell, cell)
            and _same(kept.pbc, pbc)
        )
        if not same or not pos.numel():
            return same
        moved = (pos - kept.pos).norm(dim=1).max()
        size = float(pos.abs().max()) + self.cutoff
        if kept.rows is not None and kept.shift.numel():
            size += 3 * float(kept.rows.abs().max()) * float(kept.shift.abs().max())
        slack = ROUNDING * torch.finfo(pos.dtype).eps * size
        return float(moved) < self.skin / 2 - slack


def _same(old: Tensor | bool | None, new: Tensor | bool | None) -> bool:
    if isinstance(old, Tensor) and isinstance(new, Tensor):
        return old.shape == new.shape and bool(torch.equal(old, new))
    return old is new or (isinstance(old, bool) and old == new)
