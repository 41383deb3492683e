"""Inputs of the benchmark."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from benchmarks.speed import graphs


def test_all_pairs_have_no_self_edges_and_stay_within_molecules() -> None:
    graph = graphs.make("4x5")
    source, target = graph.edge_index
    assert graph.num_edges == 4 * 5 * 4
    assert not (source == target).any()
    assert torch.equal(source // 5, target // 5)


def test_every_edge_of_the_ring_has_its_reverse() -> None:
    graph = graphs.make("320")
    source, target = graph.edge_index
    assert not (source == target).any()
    forth, back = source * 20 + target, target * 20 + source
    assert torch.equal(forth.sort().values, back.sort().values)
    assert bool((target[1:] >= target[:-1]).all())


@pytest.mark.parametrize("atoms", [1, 18, 500])
def test_clusters_have_the_density_and_the_distances_they_promise(atoms: int) -> None:
    pos = graphs.cluster(atoms)
    radius = (3 * atoms / (4 * math.pi * graphs.DENSITY)) ** (1 / 3)
    assert pos.shape == (atoms, 3)
    assert bool((pos.norm(dim=1) <= radius * 1.0001).all())
    assert bool((torch.pdist(pos) >= graphs.MIN_DISTANCE).all())


def test_clusters_repeat_and_seeds_differ() -> None:
    assert torch.equal(graphs.cluster(30), graphs.cluster(30))
    assert not torch.equal(graphs.cluster(30), graphs.cluster(30, seed=1))


def test_the_files_of_the_training_steps_are_read(shared: Path) -> None:
    inputs = shared / "parity" / "speed_inputs.npz"
    batch = graphs.molecules("25x18", inputs)
    assert batch.pos.shape == (450, 3)
    assert batch.count == 25
    assert set(batch.z.tolist()) <= set(graphs.ELEMENTS)
    single = graphs.molecules("1x50", inputs)
    assert single.pos.shape == (50, 3)
    assert not single.batch.any()
