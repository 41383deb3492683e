"""A list with a skin is the list without one, at every step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torch_cormorant.errors import BackendError, ConfigError, NonFiniteError
from torch_cormorant.graph import NeighbourCache, neighbour_list


@given(
    seed=st.integers(0, 2**31),
    skin=st.sampled_from([0.0, 0.3, 1.0]),
    periodic=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
@settings(max_examples=40)
def test_the_cache_equals_a_search_at_every_step(
    seed: int, skin: float, periodic: bool, dtype: torch.dtype
) -> None:
    rng = np.random.default_rng(seed)
    pos = torch.from_numpy(rng.random((12, 3)) * 5).to(dtype)
    cell = torch.from_numpy(rng.normal(size=(3, 3)) + 4 * np.eye(3))
    cell = cell if periodic else None
    batch = torch.arange(12) // 7 if seed % 2 else None
    cache = NeighbourCache(2.0, skin)
    for step in range(12):
        pos = pos + torch.from_numpy(rng.normal(size=(12, 3)) * 0.04).to(dtype)
        if step == 7:  # a jump, as of an atom that is wrapped into the cell
            pos[3] += 4.0
        if step == 9 and cell is not None:
            cell = cell * 1.01
        found = cache(pos, batch, cell, loop=bool(seed % 3))
        expected = neighbour_list(pos, 2.0, batch, cell, loop=bool(seed % 3))
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])
    assert cache.calls == 12
    assert cache.searches <= 12
    if skin == 1.0:
        assert cache.searches < 8
    if skin == 0.0:
        assert cache.searches == 12


def test_atoms_that_stay_need_one_search_and_changes_another() -> None:
    pos = torch.rand(20, 3, dtype=torch.float64) * 4
    cell = 5 * torch.eye(3).double()
    cache = NeighbourCache(2.0, 0.5)
    for _ in range(3):
        cache(pos, cell=cell)
    assert cache.searches == 1
    cache(pos + 0.1, cell=cell)
    assert cache.searches == 1
    cache(pos, cell=1.1 * cell)
    cache(pos, cell=1.1 * cell, pbc=torch.tensor([True, False, True]))
    cache(pos)
    cache(pos.float())
    cache(pos[:10])
    assert cache.searches == 6
    cache.reset()
    cache(pos[:10])
    assert cache.searches == 7


@pytest.mark.parametrize("unused", [0.0, 7.0, np.nan, np.inf])
def test_vectors_that_do_not_repeat_are_not_read(unused: float) -> None:
    pos = torch.rand(20, 3, dtype=torch.float64) * 4
    cell = 4 * torch.eye(3).double()
    cell[2] = unused
    slab = torch.tensor([True, True, False])
    cache = NeighbourCache(2.0, 0.5)
    expected = neighbour_list(pos, 2.0, cell=4 * torch.eye(3).double(), pbc=slab)
    found = cache(pos, cell=cell, pbc=slab)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    both = torch.cat([pos, pos])
    batch = torch.arange(2).repeat_interleave(20)
    cells = torch.stack([cell, cell])
    flags = torch.stack([slab, torch.zeros(3, dtype=torch.bool)])
    found = cache(both, batch, cells, flags)
    wanted = neighbour_list(both, 2.0, batch, cells, flags)
    assert torch.equal(found[0], wanted[0])
    assert torch.equal(found[1], wanted[1])
    assert cache.searches == 2


def test_the_cache_does_not_hold_on_to_the_tensors_of_its_caller() -> None:
    """Integrators move atoms in place."""
    pos = torch.tensor([[0.0, 0, 0], [3.5, 0, 0]])
    cache = NeighbourCache(2.0, 1.0)
    assert cache(pos)[0].shape[1] == 0
    pos[1, 0] = 1.0
    assert cache(pos)[0].shape[1] == 2


def test_bad_input_is_refused() -> None:
    for skin in (-1.0, torch.nan, "1"):
        with pytest.raises(ConfigError, match="skin"):
            NeighbourCache(2.0, skin)
    with pytest.raises(BackendError, match="'brute'"):
        NeighbourCache(2.0, backend="brute")
    with pytest.raises(ConfigError, match="cutoff"):
        NeighbourCache(0.0)
    cache = NeighbourCache(2.0)
    cache(torch.zeros(1, 3))
    with pytest.raises(NonFiniteError, match="row 0"):
        cache(torch.full((1, 3), float("inf")))
