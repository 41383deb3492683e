"""The helpers that the neighbour searches share."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from torch_cormorant.graph.pairs import chunk_bounds, pair_ranges, sort_edges


@given(counts=st.lists(st.integers(0, 9), max_size=30), limit=st.integers(1, 12))
def test_chunks_cover_all_rows_and_respect_the_limit(
    counts: list[int], limit: int
) -> None:
    bounds = list(chunk_bounds(torch.tensor(counts, dtype=torch.int64), limit))
    rows = [row for begin, end in bounds for row in range(begin, end)]
    assert rows == list(range(len(counts)))
    for begin, end in bounds:
        assert sum(counts[begin:end]) <= limit or end == begin + 1


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), max_size=12))
def test_ranges_are_listed_row_by_row(ranges: list[tuple[int, int]]) -> None:
    first = torch.tensor([start for start, _ in ranges], dtype=torch.int64)
    counts = torch.tensor([count for _, count in ranges], dtype=torch.int64)
    row, member = pair_ranges(first, counts)
    expected = [
        (k, start + offset)
        for k, (start, count) in enumerate(ranges)
        for offset in range(count)
    ]
    assert list(zip(row.tolist(), member.tolist(), strict=True)) == expected


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=20))
def test_edges_are_sorted_by_target_then_source(edges: list[tuple[int, int]]) -> None:
    pairs = torch.tensor(edges, dtype=torch.int64).reshape(-1, 2)
    found = sort_edges(pairs[:, 0], pairs[:, 1], 7)
    expected = sorted(edges, key=lambda edge: (edge[1], edge[0]))
    assert list(map(tuple, found.T.tolist())) == expected
