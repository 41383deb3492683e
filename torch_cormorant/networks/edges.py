"""Self edges, as a network wants them."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["own_edges"]


def own_edges(
    edge_index: Tensor, edge_vec: Tensor, num_nodes: int, *, loop: bool
) -> tuple[Tensor, Tensor]:
    """Edges with exactly one self edge with a zero vector for each atom, or with none.

    Args:
        edge_index: ``[2, E]``; self edges may be there or not.
        edge_vec: ``[E, 3]``; an edge from an atom to its own image is no self edge.
        num_nodes: Number of atoms.
        loop: Whether there are self edges; they stand last.
    """
    itself = (edge_index[0] == edge_index[1]) & (edge_vec.detach() == 0).all(-1)
    if bool(itself.any()):
        edge_index, edge_vec = edge_index[:, ~itself], edge_vec[~itself]
    if not loop:
        return edge_index, edge_vec
    own = torch.arange(num_nodes, device=edge_index.device)
    index = torch.cat([edge_index, torch.stack([own, own])], dim=1)
    return index, torch.cat([edge_vec, edge_vec.new_zeros(num_nodes, 3)])
