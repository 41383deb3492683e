"""Neighbour search that looks at every pair of a molecule."""

from __future__ import annotations

import torch
from torch import Tensor

from torch_cormorant.graph.pairs import (
    chunk_bounds,
    molecule_ranges,
    pair_ranges,
    within_cutoff,
)

__all__ = ["brute_force_graph"]


def brute_force_graph(
    pos: Tensor, cutoff: float, batch: Tensor | None, *, loop: bool
) -> Tensor:
    """Find all pairs closer than the cutoff by looking at every pair of a molecule.

    Vectorised over the molecules, ragged (no padding), in chunks of targets: memory
    does not grow with the number of pairs looked at.

    Args:
        pos: Positions in Angstrom, checked.
        cutoff: Cutoff in Angstrom, checked and rounded to the type of ``pos``.
        batch: Sorted molecule numbers, or None for one molecule.
        loop: Keep the pairs of an atom with itself.

    Shapes:
        ``pos``: ``[N, 3]``; ``batch``: ``[N]``.

    Returns:
        ``edge_index`` ``[2, E]``, sorted by target, then by source.

    Example:
        >>> import torch
        >>> pos = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [3.0, 0, 0]])
        >>> brute_force_graph(pos, 1.5, None, loop=False).tolist()
        [[1, 0], [0, 1]]
    """
    first, last = (bound.to(pos.device) for bound in molecule_ranges(batch, len(pos)))
    counts = last - first
    columns = pos.T.contiguous()
    found = []
    for begin, end in chunk_bounds(counts):
        target, source = pair_ranges(first[begin:end], counts[begin:end])
        target += begin
        keep = within_cutoff(
            columns.index_select(1, target), columns.index_select(1, source), cutoff
        )
        if not loop:
            keep &= source != target
        found.append(torch.stack((source, target))[:, keep])
    if not found:
        return torch.empty(2, 0, dtype=torch.int64, device=pos.device)
    return found[0] if len(found) == 1 else torch.cat(found, dim=1)
