"""Neighbour search: every backend against NumPy, pair by pair."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from torch_cormorant.backends import available_backends
from torch_cormorant.errors import (
    BackendError,
    ConfigError,
    DeviceError,
    DtypeError,
    NonFiniteError,
    ShapeError,
)
from torch_cormorant.graph import radius_graph

NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
EXAMPLES = 3000 if NIGHTLY else 100
# With torch-cluster installed its backend takes part in every comparison.
BACKENDS = ["auto", *available_backends()["neighbour search"]]
KINDS = ["cube", "lattice", "line", "plane", "clusters", "point", "huge", "shells"]


def expected_edges(
    pos: Tensor, cutoff: float, batch: Tensor | None, *, loop: bool
) -> Tensor:
    """Apply the rule of the docstring to an N x N matrix, in NumPy."""
    points = pos.numpy()
    with np.errstate(over="ignore", under="ignore"):
        d = points[:, None] - points[None, :]
        r = np.sqrt(d[..., 0] * d[..., 0] + d[..., 1] * d[..., 1] + d[..., 2] ** 2)
        inside = r < points.dtype.type(cutoff)
    if batch is not None:
        inside &= batch.numpy()[:, None] == batch.numpy()[None, :]
    if not loop:
        np.fill_diagonal(inside, val=False)
    target, source = inside.nonzero()
    return torch.from_numpy(np.stack([source, target]))


def points_of(kind: str, n: int, cutoff: float, rng: np.random.Generator) -> np.ndarray:
    """Draw points whose pairs test one corner of the search each."""
    points = rng.random((n, 3)) * cutoff * rng.choice([0.3, 2.0, 6.0])
    if kind == "lattice":  # most neighbours at exactly the cutoff
        points = rng.integers(0, 4, (n, 3)) * cutoff
    elif kind == "line":
        points *= [20.0, 0.0, 0.0]
    elif kind == "plane":
        points *= [1.0, 0.0, 1.0]
    elif kind == "clusters":  # an empty box of 1e6 cutoffs between them
        points += rng.integers(0, 2, (n, 3)) * cutoff * 1e6
    elif kind == "point":
        points[:] = points[0]
    elif kind == "huge":
        points = (points - 0.5) * 10.0 ** rng.integers(10, 35)
    elif kind == "shells":  # within a few units in the last place of the cutoff
        axis = np.eye(3)[rng.integers(0, 3, n)] * rng.choice([-1, 1], (n, 1))
        wobble = 1 + rng.integers(-2, 3, (n, 1)) * 2.0 ** -rng.choice([23, 52])
        points = axis * cutoff * wobble
        points[0] = 0
    return points


@st.composite
def systems(draw: st.DrawFn) -> tuple[Tensor, float, Tensor | None]:
    """Draw positions, a cutoff, and the molecules: sorted or not, numbers left out."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(1, 40))
    cutoff = draw(st.sampled_from([1.0, 3.0, 1.1, 5.2, 0.1, 1e-3]))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    points = points_of(draw(st.sampled_from(KINDS)), n, cutoff, rng)
    pos = torch.from_numpy(np.ascontiguousarray(points)).to(dtype)
    numbers = draw(st.sampled_from([None, [0], [0, 1], [1, 4, 5], [0, 2, 10**12]]))
    if numbers is None:
        return pos, cutoff, None
    batch = torch.from_numpy(rng.choice(numbers, n))
    return pos, cutoff, batch if draw(st.booleans()) else batch.sort().values


@given(system=systems(), loop=st.booleans())
@settings(max_examples=EXAMPLES)
def test_every_backend_finds_exactly_the_pairs_of_the_rule_in_order(
    system: tuple[Tensor, float, Tensor | None], loop: bool
) -> None:
    pos, cutoff, batch = system
    before = pos.clone()
    expected = expected_edges(pos, cutoff, batch, loop=loop)
    for backend in BACKENDS:
        found = radius_graph(pos, cutoff, batch, loop=loop, backend=backend)
        assert found.dtype == torch.int64
        assert torch.equal(found, expected), backend
    assert torch.equal(pos, before)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("cutoff", [1.0, 1.1, 2.3, 5.0, 7.7])
def test_cutoff_is_strict_to_the_last_bit(
    backend: str, dtype: torch.dtype, cutoff: float
) -> None:
    exact = torch.tensor(cutoff, dtype=dtype)
    for axis in range(3):
        for towards, edges in [(0.0, 2), (cutoff, 0), (math.inf, 0)]:
            pos = torch.zeros(2, 3, dtype=dtype)
            pos[1, axis] = torch.nextafter(exact, torch.tensor(towards, dtype=dtype))
            found = radius_graph(pos, cutoff, backend=backend)
            assert found.shape == (2, edges), (axis, towards)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_length_decides_and_not_its_square(backend: str) -> None:
    cutoff = torch.tensor(5.0)
    pos = torch.zeros(2, 3)
    pos[1, 0] = torch.nextafter(cutoff, torch.tensor(0.0))
    pos[1, 1] = 2.0**-9.5
    assert bool(pos[1].square().sum() < cutoff.square())
    assert bool(pos[1].square().sum().sqrt() == cutoff)
    assert radius_graph(pos, 5.0, backend=backend).shape == (2, 0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_dense_point_keeps_every_neighbour(backend: str) -> None:
    n = 150  # far above the 32 neighbours that torch-cluster keeps unless asked
    pos = torch.rand(n, 3, dtype=torch.float64)
    assert radius_graph(pos, 10.0, backend=backend).shape == (2, n * (n - 1))


@pytest.mark.parametrize("backend", BACKENDS)
def test_several_chunks_give_what_one_gives(backend: str) -> None:
    pos = torch.rand(1200, 3) * 9  # 1.4 million pairs
    batch = torch.arange(1200) // 700
    expected = expected_edges(pos, 2.5, batch, loop=False)
    assert torch.equal(radius_graph(pos, 2.5, batch, backend=backend), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_long_thin_system_needs_no_table_of_cells(backend: str) -> None:
    pos = torch.zeros(400, 3, dtype=torch.float64)
    pos[:, 0] = torch.arange(400) * 1.0
    pos[200:] += 1e9
    found = radius_graph(pos, 1.5, backend=backend)
    assert found.shape == (2, 2 * 398)
    assert bool(((found[0] - found[1]).abs() == 1).all())


@pytest.mark.parametrize("backend", BACKENDS)
def test_coordinates_near_the_largest_number_do_not_overflow(backend: str) -> None:
    pos = torch.zeros(4, 3, dtype=torch.float64)
    pos[0], pos[1], pos[2] = 1.7e308, -1.7e308, -1.7e308
    found = radius_graph(pos, 3.0, backend=backend)
    assert found.tolist() == [[2, 1], [1, 2]]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("loop", [False, True])
def test_empty_and_single_atoms(backend: str, loop: bool) -> None:
    empty = torch.empty(0, dtype=torch.int64)
    for batch in (None, empty):
        found = radius_graph(torch.empty(0, 3), 2.0, batch, loop=loop, backend=backend)
        assert found.shape == (2, 0)
        assert found.dtype == torch.int64
    found = radius_graph(torch.ones(1, 3), 2.0, loop=loop, backend=backend)
    assert found.tolist() == ([[0], [0]] if loop else [[], []])


@pytest.mark.parametrize("backend", BACKENDS)
def test_atoms_of_different_molecules_at_one_place_do_not_meet(backend: str) -> None:
    batch = torch.arange(6) * 7
    found = radius_graph(torch.zeros(6, 3), 2.0, batch, backend=backend)
    assert found.shape == (2, 0)


def test_positions_with_a_gradient_and_odd_strides_are_accepted() -> None:
    pos = torch.rand(3, 50, dtype=torch.float64).T.requires_grad_()
    found = radius_graph(pos, 0.4)
    expected = expected_edges(pos.detach(), 0.4, None, loop=False)
    assert torch.equal(found, expected)
    assert not found.requires_grad


def test_all_backends_agree_on_a_protein_in_water(shared: Path) -> None:
    with np.load(shared / "data" / "structures" / "dhfr.npz") as archive:
        pos = torch.from_numpy(archive["pos"])
    expected = expected_edges(pos, 5.0, None, loop=False)
    for backend in BACKENDS:
        assert torch.equal(radius_graph(pos, 5.0, backend=backend), expected), backend


BAD_POSITIONS = [
    ([[0.0, 0.0, 0.0]], DtypeError, "torch.as_tensor"),
    (torch.zeros(4, 3, dtype=torch.int64), DtypeError, "int64"),
    (torch.zeros(4, 3, dtype=torch.float16), DtypeError, "float16"),
    (torch.zeros(4, 2), ShapeError, r"\(4, 2\)"),
    (torch.zeros(3), ShapeError, r"\(3,\)"),
    (torch.tensor([[0.0] * 3, [0, math.nan, 0], [math.inf] * 3]), NonFiniteError, "1"),
]


@pytest.mark.parametrize(("pos", "error", "words"), BAD_POSITIONS)
def test_bad_positions_are_refused_by_name(
    pos: Tensor, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=f"pos .*{words}"):
        radius_graph(pos, 2.0)


def test_the_message_names_the_first_bad_row() -> None:
    pos = torch.zeros(9, 3)
    pos[7, 1], pos[4, 2] = math.nan, -math.inf
    with pytest.raises(NonFiniteError, match="row 4"):
        radius_graph(pos, 2.0)


BAD_CUTOFFS = [
    (0.0, ConfigError),
    (-1.0, ConfigError),
    (math.inf, ConfigError),
    (math.nan, ConfigError),
    (1e39, ConfigError),  # infinite in float32
    (1e-60, ConfigError),  # zero in float32
    ("5", DtypeError),
    (True, DtypeError),
    (None, DtypeError),
    (torch.tensor(5.0), DtypeError),
]


@pytest.mark.parametrize(("cutoff", "error"), BAD_CUTOFFS)
def test_bad_cutoffs_are_refused(cutoff: float, error: type[Exception]) -> None:
    with pytest.raises(error, match="cutoff"):
        radius_graph(torch.zeros(4, 3), cutoff)


@pytest.mark.parametrize("cutoff", [5, np.float32(5), np.int64(5)])
def test_any_real_number_is_a_cutoff(cutoff: float) -> None:
    assert radius_graph(torch.zeros(2, 3), cutoff).shape == (2, 2)


BAD_BATCHES = [
    ([0, 0, 0, 0], DtypeError, "list"),
    (torch.zeros(4), DtypeError, "float32"),
    (torch.zeros(4, dtype=torch.bool), DtypeError, "bool"),
    (torch.zeros(3, dtype=torch.int64), ShapeError, "3 entries, expected 4"),
    (torch.zeros(4, 1, dtype=torch.int64), ShapeError, r"\[4, 1\]"),
    (torch.tensor([0, 0, -2, 1]), ConfigError, "row 2: -2"),
    (torch.zeros(4, dtype=torch.int64, device="meta"), DeviceError, "meta"),
]


@pytest.mark.parametrize(("batch", "error", "words"), BAD_BATCHES)
def test_bad_batches_are_refused_by_name(
    batch: Tensor, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=f"batch .*{words}"):
        radius_graph(torch.zeros(4, 3), 2.0, batch)


def test_an_unknown_backend_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BackendError, match="brute_force, cells, torch_cluster"):
        radius_graph(torch.zeros(4, 3), 2.0, backend="kdtree")
