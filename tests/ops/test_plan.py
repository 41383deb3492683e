from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from torch_cormorant.ops import GraphPlan, build_plan

Graph = tuple[Tensor, int, int]


def check_slots(plan: GraphPlan, index: Tensor) -> None:
    """Every edge lies in exactly one slot that belongs to its receiver."""
    edges = index.shape[1]
    weight = plan.slot_weight
    if weight is None:
        weight = torch.ones(plan.slot_edge.numel())
    seen = torch.zeros(edges).index_add(0, plan.slot_edge, weight.to(torch.float32))
    assert torch.equal(seen, torch.ones(edges))
    assert set(weight.tolist()) <= {0.0, 1.0}
    assert torch.equal(index[0][plan.slot_edge], plan.slot_source)
    slot = 0
    for chunk in plan.chunks:
        assert chunk.slot == slot
        for node in plan.order[chunk.first : chunk.last].tolist():
            span = slice(slot, slot + chunk.width)
            real = plan.slot_edge[span][weight[span] > 0]
            expected = (index[1] == node).nonzero().flatten()
            # in the order in which they were given
            assert torch.equal(real, expected)
            slot += chunk.width
    assert slot == plan.slot_edge.numel()


def test_slots_of_special_graphs(graph: Graph) -> None:
    index, sources, targets = graph
    for chunk_slots in (None, 1, 4, 10**6):
        plan = build_plan(index, sources, targets, chunk_slots=chunk_slots)
        check_slots(plan, index)
        degree = torch.bincount(index[1], minlength=targets)[plan.order]
        assert torch.equal(degree, degree.sort(descending=True).values)
        assert plan.order.numel() == int((torch.bincount(index[1]) > 0).sum())
        assert plan.all_receive is (plan.order.numel() == targets)
        assert (plan.num_sources, plan.num_targets) == (sources, targets)
        assert plan.num_edges == index.shape[1]


@given(
    seed=st.integers(0, 2**31),
    nodes=st.integers(1, 12),
    edges=st.integers(0, 60),
    chunk_slots=st.integers(1, 40),
)
def test_slots_of_any_graph(
    seed: int, nodes: int, edges: int, chunk_slots: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    index = torch.randint(0, nodes, (2, edges), generator=generator)
    plan = build_plan(index, nodes, nodes, chunk_slots=chunk_slots)
    check_slots(plan, index)
    for chunk in plan.chunks:
        rows = chunk.last - chunk.first
        assert rows == 1 or rows * chunk.width <= chunk_slots


def test_edges_that_come_in_order_need_no_permutation() -> None:
    index = torch.tensor([[1, 2, 0, 2, 0, 1], [0, 0, 1, 1, 2, 2]])
    plan = build_plan(index, 3, 3)
    assert plan.in_order
    assert plan.slot_weight is None
    assert plan.slot_edge.tolist() == list(range(6))
    assert not build_plan(index[:, 1:], 3, 3).in_order


def test_nothing_remains_of_many_equal_receivers_without_padding() -> None:
    index = torch.stack([torch.arange(8) % 4, torch.arange(8) // 2])
    assert build_plan(index, 4, 4).slot_weight is None


# --------------------------------------------------------------------------- pairs


def vectors(index: Tensor, pos: Tensor) -> Tensor:
    return pos[index[1]] - pos[index[0]]


def check_pairs(plan: GraphPlan, index: Tensor, edge_vec: Tensor) -> None:
    """Edge and reverse share a number; edge_vec changes its sign between them."""
    pairs = plan.pairs
    assert pairs is not None
    count = pairs.edge.numel()
    assert torch.equal(pairs.of_edge[pairs.edge], torch.arange(count))
    assert torch.equal(pairs.of_slot, pairs.of_edge[plan.slot_edge])
    for number in range(count):
        members = (pairs.of_edge == number).nonzero().flatten().tolist()
        if len(members) == 1:
            (edge,) = members
            assert index[0, edge] == index[1, edge]
            assert not edge_vec[edge].any()
        else:
            first, second = members
            assert torch.equal(index[:, first], index[:, second].flip(0))
            assert torch.equal(edge_vec[first], -edge_vec[second])
        assert members[0] == pairs.edge[number]


@given(seed=st.integers(0, 2**31), nodes=st.integers(1, 7))
def test_all_pairs_of_a_molecule_are_matched_in_any_order(
    seed: int, nodes: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    pos = torch.randn(nodes, 3, generator=generator, dtype=torch.float64)
    index = torch.cartesian_prod(torch.arange(nodes), torch.arange(nodes)).t()
    index = index[:, torch.randperm(nodes**2, generator=generator)]
    vec = vectors(index, pos)
    plan = build_plan(index, nodes, nodes, edge_vec=vec)
    check_pairs(plan, index, vec)
    assert plan.pairs is not None
    assert plan.pairs.edge.numel() == nodes * (nodes + 1) // 2


def test_duplicate_edges_are_matched_in_order() -> None:
    index = torch.tensor([[0, 1, 0, 1, 0, 1], [1, 0, 1, 0, 1, 0]])
    # three images of one neighbour in a periodic cell
    vec = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 2, 0], [0, -2, 0], [0, 0, 3]])
    vec = torch.cat([vec, -vec[-1:]])
    plan = build_plan(index, 2, 2, edge_vec=vec)
    check_pairs(plan, index, vec)
    assert plan.pairs is not None
    assert plan.pairs.of_edge.tolist() == [0, 0, 1, 1, 2, 2]
    swapped = vec[[0, 3, 2, 1, 4, 5]]
    plan = build_plan(index, 2, 2, edge_vec=swapped)
    check_pairs(plan, index, swapped)
    assert plan.pairs is not None
    assert plan.pairs.of_edge.tolist() == [0, 1, 1, 0, 2, 2]
    twice = vec[[0, 3, 0, 1, 4, 5]]
    assert build_plan(index, 2, 2, edge_vec=twice).pairs is None


def test_periodic_images_of_an_atom_pair_with_each_other() -> None:
    index = torch.zeros(2, 3, dtype=torch.long)
    vec = torch.tensor([[0.0, 0, 0], [4, 0, 0], [-4, 0, 0]])
    plan = build_plan(index, 1, 1, edge_vec=vec)
    assert plan.pairs is not None
    assert plan.pairs.of_edge.tolist() == [0, 1, 1]
    unlike = torch.tensor([[0.0, 0, 0], [4, 0, 0], [0, -4, 0]])
    assert build_plan(index, 1, 1, edge_vec=unlike).pairs is None


def test_graphs_without_all_reverses_stay_directed() -> None:
    pos = torch.randn(3, 3)
    index = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    vec = vectors(index, pos)
    assert build_plan(index, 3, 3, edge_vec=vec).pairs is not None
    assert build_plan(index, 3, 3).pairs is None
    assert build_plan(index[:, :3], 3, 3, edge_vec=vec[:3]).pairs is None
    once = torch.cat([index, index[:, :1]], dim=1)
    assert build_plan(once, 3, 3, edge_vec=vectors(once, pos)).pairs is None
    moved = vec.clone()
    moved[0, 0] = torch.nextafter(moved[0, 0], torch.tensor(9.0))
    assert build_plan(index, 3, 3, edge_vec=moved).pairs is None
    assert build_plan(index, 3, 4, edge_vec=vec).pairs is None


def test_no_edges_have_no_pairs_to_tell() -> None:
    empty = torch.zeros(2, 0, dtype=torch.long)
    plan = build_plan(empty, 3, 3, edge_vec=torch.zeros(0, 3))
    assert plan.chunks == ()
    assert plan.pairs is None or plan.pairs.edge.numel() == 0
