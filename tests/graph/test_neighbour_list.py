"""Neighbour lists with periodic cells: every backend against NumPy, image by image."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from torch_cormorant import EdgeGeometry, radius_graph
from torch_cormorant.backends import available_backends, find_extension
from torch_cormorant.errors import (
    BackendError,
    CellError,
    ConfigError,
    DtypeError,
    EdgeBudgetError,
    NonFiniteError,
    ShapeError,
)
from torch_cormorant.graph import edge_vectors, neighbour_list

NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
EXAMPLES = 5000 if NIGHTLY else 100
BACKENDS = ["auto", *available_backends()["neighbour list"]]
PERIODIC = [name for name in BACKENDS if name != "torch_cluster"]

Case = tuple[Tensor, float, Tensor, Tensor]


def expected_edges(
    pos: Tensor, cutoff: float, cell: Tensor, pbc: Tensor
) -> list[tuple[int, ...]]:
    """Apply the rule of the docstring to every pair and image, in NumPy."""
    points, repeats = pos.numpy(), pbc.numpy()
    rows = cell.numpy().astype(points.dtype) * repeats[:, None]
    inverse = np.linalg.pinv(rows.astype(np.float64))
    spread = np.ptp(points @ inverse, axis=0) + cutoff * np.linalg.norm(inverse, axis=0)
    reach = [
        int(np.ceil(s)) + 1 if on else 0 for s, on in zip(spread, repeats, strict=True)
    ]
    found = []
    difference = points[:, None] - points[None]
    for image in itertools.product(*(range(-n, n + 1) for n in reach)):
        a, b, c = (points.dtype.type(number) for number in image)
        d = difference + ((a * rows[0] + b * rows[1]) + c * rows[2])
        length = np.sqrt((d[..., 0] ** 2 + d[..., 1] ** 2) + d[..., 2] ** 2)
        inside = length < points.dtype.type(cutoff)
        if image == (0, 0, 0):
            np.fill_diagonal(inside, val=False)
        target, source = inside.nonzero()
        pairs = zip(target, source, strict=True)
        found += [(int(i), int(j), *image) for i, j in pairs]
    return sorted(found)


def as_list(edges: tuple[Tensor, Tensor]) -> list[tuple[int, ...]]:
    index, shift = edges
    rows = torch.cat([index.flip(0).T, shift.long()], dim=1)
    return [tuple(row) for row in rows.tolist()]


def cell_of(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Draw cells that test one corner of the search each."""
    size = rng.choice([0.8, 2.0, 5.0])
    cell = np.eye(3) * size
    if kind == "triclinic":
        cell = rng.normal(size=(3, 3)) * size
    elif kind == "sheared":  # as after a long shear: very oblique
        cell[1] += rng.integers(-3, 4) * cell[0]
        cell[2] += rng.integers(-3, 4) * cell[0] + rng.integers(-3, 4) * cell[1]
    elif kind == "flat":
        cell[rng.integers(3)] *= 0.4
    elif kind == "left-handed":
        cell = cell[[1, 0, 2]]
    return cell


@st.composite
def periodic_systems(draw: st.DrawFn) -> Case:
    """Draw atoms inside and outside cells of all shapes and sizes."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kinds = ["cube", "triclinic", "sheared", "flat", "left-handed"]
    cell = cell_of(draw(st.sampled_from(kinds)), rng)
    pbc = np.array(draw(st.sampled_from([*itertools.product([True, False], repeat=3)])))
    sizes = np.linalg.svd(cell[pbc], compute_uv=False) if pbc.any() else np.ones(1)
    if sizes[-1] < 0.3:
        cell = np.eye(3)
    if draw(st.booleans()):
        cell[~pbc] = 0
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    n = draw(st.integers(1, 8))
    pos = rng.normal(size=(n, 3)) * rng.choice([0.5, 2.0, 6.0])
    if draw(st.booleans()):  # on lattice sites: neighbours at exactly the cutoff
        pos = (
            rng.integers(-3, 4, (n, 3)) * 0.5 @ np.where(pbc[:, None], cell, np.eye(3))
        )
    cutoff = draw(st.sampled_from([0.8, 1.0, 1.6, 2.5]))
    return (
        torch.from_numpy(pos).to(dtype),
        cutoff,
        torch.from_numpy(cell),
        torch.from_numpy(pbc),
    )


OTHERS = {"vesin": "vesin", "matscipy": "matscipy", "nvalchemi": "nvalchemiops"}
"""Named backends of other packages, and their modules."""


@pytest.mark.parametrize("backend", OTHERS)
@pytest.mark.parametrize("size", [60, 600])
def test_no_backend_leaves_out_any_of_hundreds_of_neighbours(
    backend: str, size: int
) -> None:
    found = find_extension(OTHERS[backend])
    if found.problem:
        pytest.skip(f"{found.name} is {found.problem}")
    generator = torch.Generator().manual_seed(size)
    cell = 2.2 * torch.eye(3).double() + 0.2
    pos = 3 * torch.rand(size, 3, generator=generator).double()
    batch = (torch.arange(size) % 7 == 0).long()  # two graphs, mixed up
    for where in (cell.expand(2, 3, 3) * torch.tensor([1, 4]).view(2, 1, 1), None):
        expected = neighbour_list(pos, 2.5, batch, where)
        assert torch.bincount(expected[0][1]).max() > 40
        edges = neighbour_list(pos, 2.5, batch, where, backend=backend)
        for ours, theirs in zip(edges, expected, strict=True):
            assert torch.equal(ours, theirs)


@given(system=periodic_systems())
@settings(max_examples=EXAMPLES)
def test_every_backend_finds_exactly_the_images_of_the_rule_in_order(
    system: Case,
) -> None:
    pos, cutoff, cell, pbc = system
    expected = expected_edges(pos, cutoff, cell, pbc)
    before = pos.clone()
    for backend in PERIODIC:
        found = neighbour_list(pos, cutoff, cell=cell, pbc=pbc, backend=backend)
        assert as_list(found) == expected, backend
    assert torch.equal(pos, before)


@given(system=periodic_systems())
@settings(max_examples=EXAMPLES)
def test_every_edge_has_an_exactly_opposite_one(system: Case) -> None:
    pos, cutoff, cell, pbc = system
    index, shift = neighbour_list(pos, cutoff, cell=cell, pbc=pbc, loop=True)
    vec = edge_vectors(pos, index, shift, cell)
    assert bool((vec.norm(dim=1) < cutoff * (1 + 1e-6)).all())
    zero = (vec == 0).all(1)
    if int(zero.sum()) == len(pos):  # no atoms on top of each other
        geometry = EdgeGeometry(index, vec, len(pos), validate=False)
        assert geometry.shared
        assert geometry.pair_length.numel() == (index.shape[1] + len(pos)) // 2


@given(seed=st.integers(0, 2**31))
@settings(max_examples=EXAMPLES // 3)
def test_a_batch_is_what_its_graphs_are(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(0, 5, 3)
    cells = torch.from_numpy(np.stack([cell_of("triclinic", rng) for _ in sizes]))
    cells += 3 * torch.eye(3)
    pbc = torch.from_numpy(rng.random((3, 3)) < 0.6)
    graphs = [torch.from_numpy(rng.normal(size=(n, 3)) * 3) for n in sizes]
    batch = torch.arange(3).repeat_interleave(torch.from_numpy(sizes))
    order = torch.from_numpy(rng.permutation(len(batch)))
    pos = torch.cat(graphs)[order]
    found = neighbour_list(pos, 1.9, batch[order], cells, pbc)
    expected = []
    for number, points in enumerate(graphs):
        mine = (batch[order] == number).nonzero().flatten()
        inside = order[mine] - int(sizes[:number].sum())
        one = neighbour_list(points[inside], 1.9, None, cells[number], pbc[number])
        rows = [(int(mine[i]), int(mine[j]), *s) for i, j, *s in as_list(one)]
        expected += rows
        assert len(points) or not rows
    assert as_list(found) == sorted(expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_a_cell_it_is_the_radius_graph(backend: str) -> None:
    pos = torch.rand(300, 3, dtype=torch.float64) * 8
    batch = torch.arange(300) % 3
    for loop in (False, True):
        index, shift = neighbour_list(pos, 2.0, batch, loop=loop, backend=backend)
        assert torch.equal(index, radius_graph(pos, 2.0, batch, loop=loop))
        assert not shift.any()
        assert shift.shape == (index.shape[1], 3)


@pytest.mark.parametrize("backend", PERIODIC)
def test_a_box_of_water_and_its_images(backend: str, shared: Path) -> None:
    with np.load(shared / "data" / "structures" / "water_6540.npz") as archive:
        pos = torch.from_numpy(archive["pos"])
        cell = torch.from_numpy(archive["cell"])
    found = neighbour_list(pos, 5.0, cell=cell, backend=backend)
    assert found[0].shape == (2, 340274)
    moved = pos + torch.tensor([1.0, -2.0, 3.0]) @ cell.float()
    again = neighbour_list(moved.double(), 5.0, cell=cell, backend=backend)
    assert abs(again[0].shape[1] - 340274) < 20  # pairs at the cutoff, within rounding


def test_thirty_thousand_atoms_need_little_time(shared: Path) -> None:
    """Counted in candidates, not seconds: linear in the atoms."""
    from torch_cormorant.graph.cells import candidate_counts, sort_into_cells

    with np.load(shared / "data" / "structures" / "stmv_part.npz") as archive:
        pos = torch.from_numpy(archive["pos"]).double()
    found, _ = neighbour_list(pos, 5.0, cell=torch.diag(pos.amax(0) - pos.amin(0) + 3))
    assert found.shape[1] > 1_000_000
    looked_at = int(candidate_counts(sort_into_cells(pos, 5.0, None)).sum())
    assert looked_at < 8 * found.shape[1]


def test_an_atom_alone_in_a_small_cell_sees_its_images() -> None:
    pos = torch.full((1, 3), 0.3)
    index, shift = neighbour_list(pos, 1.1, cell=torch.eye(3))
    assert index.tolist() == [[0] * 6, [0] * 6]
    assert shift.abs().sum(1).tolist() == [1] * 6
    _, with_loop = neighbour_list(pos, 1.1, cell=torch.eye(3), loop=True)
    assert len(with_loop) == 7
    assert with_loop[3].tolist() == [0, 0, 0]


def test_vectors_follow_positions_and_cells() -> None:
    cell = (4 * torch.eye(3)).double().requires_grad_()
    pos = torch.rand(5, 3, dtype=torch.float64).requires_grad_()
    index, shift = neighbour_list(pos, 3.5, cell=cell)
    assert not shift.requires_grad
    vec = edge_vectors(pos, index, shift, cell)
    assert bool(torch.isclose(vec, pos[index[1]] - pos[index[0]] + shift @ cell).all())
    slopes = torch.autograd.grad(vec.square().sum(), (pos, cell))
    assert all(bool(slope.any()) for slope in slopes)


def test_edges_stay_in_order_where_atoms_lie_far_outside_of_a_small_cell() -> None:
    cell = torch.eye(3).double()
    rng = np.random.default_rng(0)
    far = torch.from_numpy(rng.integers(-(2**42), 2**42, (5, 3))).double()
    pos = torch.from_numpy(rng.integers(0, 8, (5, 3)) / 8.0) + far
    index, shift = neighbour_list(pos, 1.3, cell=cell)
    rows = as_list((index, shift))
    assert len(rows) > 100
    assert rows == sorted(rows)
    length = edge_vectors(pos, index, shift, cell).norm(dim=1)
    assert bool((length < 1.3).all())
    near = neighbour_list(pos - far, 1.3, cell=cell)
    assert torch.equal(near[0], index)


def test_empty_systems_have_no_edges() -> None:
    index, shift = neighbour_list(torch.empty(0, 3), 2.0, cell=torch.eye(3))
    assert index.shape == (2, 0)
    assert shift.shape == (0, 3)


def cell_with(value: float) -> Tensor:
    cell = 5 * torch.eye(3).repeat(3, 1, 1)
    cell[1, 2] *= value
    return cell


BAD = [
    ({"cell": cell_with(0.0)}, CellError, "graph 1"),
    ({"cell": cell_with(float("nan"))}, CellError, "graph 1"),
    ({"cell": torch.ones(3, 3)}, CellError, "graph 0"),
    ({"cell": torch.eye(2)}, ShapeError, r"cell .*\[2, 2\]"),
    ({"cell": torch.eye(3).long()}, DtypeError, "cell .*int64"),
    ({"cell": [[1, 0, 0]] * 3}, DtypeError, "cell .*list"),
    ({"pbc": True}, ConfigError, "pbc .*cell is None"),
    ({"cell": torch.eye(3), "pbc": torch.ones(2).bool()}, ShapeError, r"pbc .*\[2\]"),
    ({"cell": torch.eye(3), "pbc": [True] * 3}, DtypeError, "pbc .*list"),
    ({"cell": 1e-3 * torch.eye(3)}, EdgeBudgetError, "images"),
    ({"backend": "kdtree"}, BackendError, "kdtree"),
    ({"cell": torch.eye(3), "backend": "torch_cluster"}, BackendError, "cells"),
]


@pytest.mark.parametrize(("options", "error", "words"), BAD)
def test_bad_input_is_refused_by_name(
    options: dict[str, object], error: type[Exception], words: str
) -> None:
    batch = torch.tensor([0, 1, 2, 2])
    with pytest.raises(error, match=words):
        neighbour_list(torch.rand(4, 3), 2.0, batch, **options)  # type: ignore[arg-type]


def test_bad_positions_are_refused_by_name() -> None:
    pos = torch.zeros(3, 3)
    pos[2, 0] = float("nan")
    with pytest.raises(NonFiniteError, match="row 2"):
        neighbour_list(pos, 2.0, cell=torch.eye(3))
    with pytest.raises(DtypeError, match="resolves only"):
        neighbour_list(torch.full((2, 3), 1e6), 2.0, cell=torch.eye(3))


def test_directions_without_a_period_need_no_vector() -> None:
    cell = torch.diag(torch.tensor([2.0, 2.0, 0.0]))
    pbc = torch.tensor([True, True, False])
    _, shift = neighbour_list(torch.zeros(1, 3), 2.5, cell=cell, pbc=pbc)
    assert len(shift) == 4
    assert not shift[:, 2].any()
