"""The pairs of the expressivity tests, and what is known of some networks."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from benchmarks import expressivity as tests
from torch_cormorant.so3 import random_rotation

Graphs = tuple[tests.Graph, tests.Graph]


def distances(graph: tests.Graph) -> Tensor:
    return torch.cdist(graph.pos, graph.pos)


def congruent(pair: Graphs) -> bool:
    """Whether any order of the neighbours gives equal distances; mirrors allowed."""
    one, two = (distances(graph) for graph in pair)
    orders = itertools.permutations(range(1, len(one)))
    found = ([0, *order] for order in orders)
    return any(torch.allclose(one, two[o][:, o], atol=1e-9) for o in found)


def test_environments_are_alike_as_far_as_they_say() -> None:
    for pair in (tests.two_body(1.5), tests.three_body(1.5)):
        assert torch.allclose(*(distances(graph)[0] for graph in pair))
        assert not congruent(pair)
    one, two = (
        distances(graph).flatten().sort().values for graph in tests.three_body(1.5)
    )
    assert torch.allclose(one, two)  # equal distances are equal angles on a circle
    assert congruent((tests.two_body(1.5)[0], tests.two_body(1.5)[0]))


def test_chains_differ_at_their_ends_only() -> None:
    one, two = tests.chains(4, 1.5)
    assert torch.equal(one.edge_index, two.edge_index)
    assert torch.equal(one.pos[:5], two.pos[:5])
    lengths = [
        (g.pos[g.edge_index[0]] - g.pos[g.edge_index[1]]).norm(dim=1)
        for g in (one, two)
    ]
    assert torch.allclose(lengths[0], torch.full_like(lengths[0], 1.5))
    assert torch.allclose(lengths[1], lengths[0])


@pytest.mark.parametrize("name", list(tests.NETWORKS))
def test_a_turned_graph_is_the_same(name: str) -> None:
    one, _ = tests.three_body(1.5)
    R = random_rotation()
    pair = (one, one._replace(pos=one.pos @ R.T))
    make = tests.NETWORKS[name].make
    assert tests.apart(lambda: tests.built(make, 2, 1, 1.5), pair, tests.answer) == 0


def test_what_theory_says_is_measured() -> None:
    blind = ("SchNet", "Allegro")  # no angles; no neighbours of neighbours
    seeing = ("PaiNN", "Cormorant", "SEGNN", "SE(3)-Transformer", "SO3net")
    chain = tests.chain_rows(1.5, (*blind, *seeing))
    for name in blind:
        assert not any(chain[name])
    for name in seeing:
        assert [bool(x) for x in chain[name]] == [False] * 2 + [True] * 4
    assert tests.mark(chain["PaiNN"][2]).startswith("1e")


@pytest.mark.parametrize("name", list(tests.NETWORKS))
def test_a_mirror_is_seen_without_parities_only(name: str) -> None:
    make, pair = tests.NETWORKS[name].make, tests.mirrored(1.5)
    seen = {"Thesis", "SE(3)-Transformer", "Cormorant, all paths"}
    degree = tests.degree_of(tests.NETWORKS[name], 2)
    found = tests.apart(lambda: tests.built(make, 3, degree, 1.5), pair, tests.answer)
    assert bool(found) is (name in seen)


@pytest.mark.parametrize("name", ["Cormorant", "Allegro", "SEGNN"])
@pytest.mark.parametrize(("lmax", "seen"), [(1, []), (2, [2]), (3, [2, 3])])
def test_axes_need_their_degree(name: str, lmax: int, seen: list[int]) -> None:
    make, last = tests.NETWORKS[name].make, tests.NETWORKS[name].last
    found = [
        fold
        for fold in (2, 3, 5)
        if tests.apart(
            lambda: tests.built(make, 1 + last, lmax, 1.5),
            tests.folded(fold, 1.5),
            tests.first_features,
        )
    ]
    assert found == seen
