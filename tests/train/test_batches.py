"""Batches and their shares."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torch_cormorant.data import MiniQM9
from torch_cormorant.errors import ConfigError
from torch_cormorant.graph import radius_graph
from torch_cormorant.train import EpochBatches, edge_counts


@given(
    count=st.integers(1, 60),
    size=st.integers(1, 17),
    world=st.integers(1, 5),
    epoch=st.integers(0, 3),
    balanced=st.booleans(),
    seed=st.one_of(st.none(), st.integers(0, 9)),
)
def test_shares_together_are_every_row_once(
    count: int, size: int, world: int, epoch: int, balanced: bool, seed: int | None
) -> None:
    edges = torch.arange(count).square() % 37
    shares = []
    for rank in range(world):
        batches = EpochBatches(
            count, size, seed, edges, balanced=balanced, rank=rank, world_size=world
        )
        batches.sampler.set_epoch(epoch)
        whole = batches.rows()
        shares.append(list(batches))
        assert len(shares[-1]) == len(batches) == len(whole)
        assert all(share for share in shares[-1]), "no process waits for another"
    for number, rows in enumerate(whole):
        assert 1 <= len(rows) <= size
        counted = [row for share in shares for row, weight in share[number] if weight]
        assert sorted(counted) == sorted(rows)
    assert sorted(row for rows in whole for row in rows) == list(range(count))


def test_balanced_batches_have_even_edges() -> None:
    edges = torch.randint(1, 400, (500,), generator=torch.Generator().manual_seed(0))
    even = EpochBatches(500, 25, 0, edges, balanced=True)
    chance = EpochBatches(500, 25, 0, edges)

    def spread(batches: EpochBatches) -> float:
        sums = torch.tensor([edges[rows].sum() for rows in batches.rows()])
        return (sums.max() / sums.min()).item()

    assert spread(even) < 1.02
    assert spread(chance) > 1.2
    first = even.rows()
    even.sampler.set_epoch(1)
    assert even.rows() != first


def test_skipped_batches_are_those_of_one_epoch() -> None:
    batches = EpochBatches(10, 3, 0)
    whole = list(batches)
    batches.skip(0, 2)
    assert list(batches) == whole[2:]
    assert len(batches) == 4, "the epoch is as long as ever"
    batches.sampler.set_epoch(1)
    assert len(list(batches)) == 4


def test_edges_are_counted_as_the_graph_has_them() -> None:
    data = MiniQM9("gap")[:40]
    for cutoff in (2.0, None):
        counts = edge_counts(data, cutoff)
        for one, count in zip(data, counts.tolist(), strict=True):
            radius = 1e3 if cutoff is None else cutoff
            assert radius_graph(one.pos, radius, loop=True).shape[1] == count


@pytest.mark.parametrize("changed", [{"batch_size": 0}, {"rank": 2}])
def test_batches_out_of_range(changed: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        EpochBatches(**{"count": 5, "batch_size": 2, **changed})
