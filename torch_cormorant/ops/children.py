"""Children side by side: rows of edges that share a node, and pairs of them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["children_of", "pairs_of"]

WASTE = 4
"""Pairs of empty places for each pair of children, at most."""


def children_of(target: Tensor, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Nodes of about equally many children, with the edges of these.

    One group, or one for each power of two where that wastes too much.

    Args:
        target: Node of every edge ``[E]``, in any order.
        count: Number of nodes.

    Returns:
        Nodes ``[T]`` and edges ``[T, K]`` of every group; -1: an empty place. Nodes
        without children are in none.

    Example:
        >>> import torch
        >>> nodes, edges = next(children_of(torch.tensor([2, 0, 2]), 3))
        >>> nodes.tolist(), edges.tolist()
        ([0, 2], [[1, -1], [0, 2]])
    """
    if not target.numel():
        return
    number = torch.bincount(target, minlength=count)
    order = torch.argsort(target, stable=True)
    start = number.cumsum(0) - number
    held = number > 0
    padded = int(held.sum()) * int(number.max()) ** 2
    size = torch.ones_like(number)
    if padded > WASTE * int((number**2).sum()):
        size = torch.frexp(number.double() - 0.5).exponent.long()
    for group in size[held].unique().tolist():
        nodes = (held & (size == group)).nonzero().flatten()
        place = torch.arange(int(number[nodes].max()), device=target.device)
        at = start[nodes].unsqueeze(1) + place
        full = place < number[nodes].unsqueeze(1)
        edges = order[at.clamp_max(len(order) - 1)]
        yield nodes, torch.where(full, edges, -1)


def pairs_of(edges: Tensor) -> Tensor:
    """Which places ``[T, K, K]`` hold two different children of a node.

    Example:
        >>> import torch
        >>> pairs_of(torch.tensor([[1, -1], [0, 2]])).int().tolist()
        [[[0, 0], [0, 0]], [[0, 1], [1, 0]]]
    """
    full = edges >= 0
    both = full.unsqueeze(2) & full.unsqueeze(1)
    same = torch.eye(edges.shape[1], dtype=torch.bool, device=edges.device)
    return both & ~same
