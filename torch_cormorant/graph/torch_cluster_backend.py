"""Neighbour search by the extension torch-cluster, made exact.

``torch_cluster.radius_graph`` keeps at most ``max_num_neighbors`` neighbours and
compares squared distances with a squared radius. Here it is asked for a slightly larger
radius, with a limit that no atom can reach, and the rule of the package decides about
every pair that it returns.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from torch_cormorant.backends import load_extension
from torch_cormorant.errors import BackendError
from torch_cormorant.graph.cells import candidate_counts, sort_into_cells
from torch_cormorant.graph.pairs import sort_edges, within_cutoff

__all__ = ["torch_cluster_graph"]

# Far more than its rounding errors (1e-7 in float32 for each level of its tree).
MARGIN = 1e-4


def _query_radius(cutoff: float, dtype: torch.dtype) -> float:
    """Give a radius whose pairs include all below the cutoff.

    Its square must not underflow either: atoms at the same place are pairs.
    """
    smallest = float(torch.finfo(dtype).tiny)
    return max(cutoff * (1 + MARGIN), 2 * math.sqrt(smallest))


def _limit(pos: Tensor, radius: float, batch: Tensor | None) -> int:
    """Count candidates: a number of neighbours, itself included, never exceeded."""
    if pos.is_cuda:
        # It allocates this many edges for every atom, so a tight bound pays off.
        return int(candidate_counts(sort_into_cells(pos, radius, batch)).max())
    return pos.shape[0]


def torch_cluster_graph(
    pos: Tensor, cutoff: float, batch: Tensor | None, *, loop: bool
) -> Tensor:
    """Find all pairs closer than the cutoff with ``torch_cluster.radius_graph``.

    Args:
        pos: Positions in Angstrom, checked.
        cutoff: Cutoff in Angstrom, checked and rounded to the type of ``pos``.
        batch: Sorted molecule numbers, or None for one molecule.
        loop: Keep the pairs of an atom with itself.

    Shapes:
        ``pos``: ``[N, 3]``; ``batch``: ``[N]``.

    Returns:
        ``edge_index`` ``[2, E]``, sorted by target, then by source.

    Raises:
        BackendError: torch-cluster is missing, broken, or cannot work on this device.

    Example:
        >>> import pytest, torch
        >>> _ = pytest.importorskip("torch_cluster")
        >>> pos = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [3.0, 0, 0]])
        >>> torch_cluster_graph(pos, 1.5, None, loop=False).tolist()
        [[1, 0], [0, 1]]
    """
    cluster = load_extension("torch_cluster")
    if pos.shape[0] == 0:
        return torch.empty(2, 0, dtype=torch.int64, device=pos.device)
    if batch is not None:
        # It makes one entry for every number up to the largest one.
        batch = torch.unique_consecutive(batch, return_inverse=True)[1]
    radius = _query_radius(cutoff, pos.dtype)
    limit = _limit(pos, radius, batch)
    try:
        source, target = cluster.radius_graph(
            pos.contiguous(), radius, batch, loop=True, max_num_neighbors=limit
        )
    except RuntimeError as error:
        message = (
            f"torch_cluster failed on {pos.device}: {error}; use "
            'backend="cells", which works on every device'
        )
        raise BackendError(message) from error
    columns = pos.T.contiguous()
    keep = within_cutoff(columns[:, source], columns[:, target], cutoff)
    if not loop:
        keep &= source != target
    return sort_edges(source[keep], target[keep], pos.shape[0])
