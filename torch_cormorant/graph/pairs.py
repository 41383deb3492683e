"""What all own neighbour searches share: the distance rule and pairs from ranges."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = [
    "MAX_PAIRS",
    "chunk_bounds",
    "molecule_ranges",
    "pair_ranges",
    "sort_edges",
    "within_cutoff",
]

# Candidate pairs looked at in one go. It bounds the memory (about 60 bytes a pair)
# and keeps the temporaries near the size of a last-level cache.
MAX_PAIRS = 1 << 18


def within_cutoff(vec_from: Tensor, vec_to: Tensor, cutoff: float) -> Tensor:
    r"""Tell which pairs of points are closer than the cutoff: the one rule.

    .. math:: r = \sqrt{(d_x^2 + d_y^2) + d_z^2} < r_c, \quad d = r_i - r_j

    in the type of the positions, every operation rounded on its own, from left to
    right, the cutoff rounded to the same type. The root matters: several squares round
    to one root, so ``r^2 < r_c^2`` would keep pairs whose length, as everything after
    the search computes it, equals the cutoff. ``r`` is the same for (i, j) and (j, i).

    Args:
        vec_from: First points, one row per axis, in Angstrom.
        vec_to: Second points, one row per axis, in Angstrom.
        cutoff: Cutoff in Angstrom, already rounded to the type of the points.

    Shapes:
        ``vec_from``, ``vec_to``: ``[3, P]``.

    Returns:
        ``[P]``, boolean.

    Example:
        >>> import torch
        >>> origin = torch.zeros(3, 2)
        >>> within_cutoff(origin, torch.tensor([[0.9, 1.0], [0, 0], [0, 0]]), 1.0)
        tensor([ True, False])
    """
    square = (vec_from - vec_to).square_()
    total = square[0].add_(square[1]).add_(square[2])
    return total.sqrt_() < cutoff


def molecule_ranges(batch: Tensor | None, num_nodes: int) -> tuple[Tensor, Tensor]:
    """First and one-past-last atom of the molecule of each atom.

    Args:
        batch: Sorted molecule numbers, or None for one molecule.
        num_nodes: Number of atoms N.

    Shapes:
        ``batch``: ``[N]``.

    Returns:
        ``(first, last)``, each ``[N]``, on the CPU when ``batch`` is None.

    Example:
        >>> import torch
        >>> first, last = molecule_ranges(torch.tensor([0, 0, 3]), 3)
        >>> first.tolist(), last.tolist()
        ([0, 0, 2], [2, 2, 3])
    """
    if batch is None:
        first = torch.zeros(num_nodes, dtype=torch.int64)
        return first, torch.full_like(first, num_nodes)
    counts = torch.unique_consecutive(batch, return_counts=True)[1]
    last = counts.cumsum(0)
    return (
        torch.repeat_interleave(last - counts, counts, output_size=num_nodes),
        torch.repeat_interleave(last, counts, output_size=num_nodes),
    )


def chunk_bounds(counts: Tensor, limit: int = MAX_PAIRS) -> Iterator[tuple[int, int]]:
    """Cut rows into consecutive chunks of at most ``limit`` pairs each.

    A single row with more pairs makes a chunk of its own.

    Args:
        counts: Number of pairs of each row.
        limit: Largest number of pairs of a chunk of several rows.

    Shapes:
        ``counts``: ``[R]``.

    Yields:
        ``(begin, end)`` of each chunk, which cover ``0 .. R`` in order.

    Example:
        >>> import torch
        >>> list(chunk_bounds(torch.tensor([2, 2, 9, 1]), limit=4))
        [(0, 2), (2, 3), (3, 4)]
    """
    num_rows = counts.shape[0]
    ends = counts.cumsum(0).cpu()
    begin, done = 0, 0
    while begin < num_rows:
        target = torch.tensor(done + limit)
        end = int(torch.searchsorted(ends, target, right=True))
        end = max(end, begin + 1)
        yield begin, end
        done = int(ends[end - 1])
        begin = end


def pair_ranges(first: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """List every member of one range per row.

    Args:
        first: First member of the range of each row.
        counts: Number of members of the range of each row.

    Shapes:
        ``first``, ``counts``: ``[R]``.

    Returns:
        ``(row, member)``, each ``[sum of counts]``, rows ascending, members ascending
        within a row.

    Example:
        >>> import torch
        >>> row, member = pair_ranges(torch.tensor([5, 0]), torch.tensor([2, 1]))
        >>> row.tolist(), member.tolist()
        ([0, 0, 1], [5, 6, 0])
    """
    ends = counts.cumsum(0)
    row = torch.repeat_interleave(counts)
    shift = first - (ends - counts)
    member = torch.arange(row.shape[0], device=first.device) + shift[row]
    return row, member


def sort_edges(source: Tensor, target: Tensor, num_nodes: int) -> Tensor:
    """Put edges in the order of the package: by target, then by source.

    Args:
        source: Source of each edge.
        target: Target of each edge.
        num_nodes: Number of atoms N.

    Shapes:
        ``source``, ``target``: ``[E]``.

    Returns:
        ``edge_index`` ``[2, E]``, row 0 = source, row 1 = target.

    Example:
        >>> import torch
        >>> sort_edges(torch.tensor([0, 2, 1]), torch.tensor([1, 0, 0]), 3).tolist()
        [[1, 2, 0], [0, 0, 1]]
    """
    # One key per edge, below 2^63 for up to 3e9 atoms.
    key = torch.sort(target * num_nodes + source).values
    edge_index = torch.empty(2, key.shape[0], dtype=torch.int64, device=key.device)
    torch.div(key, max(num_nodes, 1), rounding_mode="floor", out=edge_index[1])
    torch.sub(key, edge_index[1] * num_nodes, out=edge_index[0])
    return edge_index
