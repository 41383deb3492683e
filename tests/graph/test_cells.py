"""Cells: keys stay small, candidates are never too few."""

from __future__ import annotations

import pytest
import torch

from torch_cormorant.graph import cells, radius_graph


def test_keys_depend_on_the_number_of_atoms_and_not_on_the_box() -> None:
    pos = torch.rand(60, 3, dtype=torch.float64) * 1e12
    grid = cells.sort_into_cells(pos, 1.0, None)
    assert int(grid.key.max()) < (2 * 60 + 4) ** 3
    assert bool((grid.key.diff() >= 0).all())


def test_molecules_are_never_in_neighbouring_cells() -> None:
    batch = torch.arange(5) * 10**9
    grid = cells.sort_into_cells(torch.zeros(5, 3), 1.0, batch)
    assert cells.candidate_counts(grid).tolist() == [1] * 5


def test_candidates_bound_the_number_of_neighbours() -> None:
    pos = torch.rand(500, 3) * 12
    grid = cells.sort_into_cells(pos, 2.5, None)
    bound = cells.candidate_counts(grid)
    edge_index = radius_graph(pos, 2.5, loop=True, backend="brute_force")
    neighbours = torch.bincount(edge_index[1], minlength=500)
    assert bool((neighbours[grid.order] <= bound).all())
    assert int(bound.max()) < 500


def test_cells_are_merged_when_their_keys_would_overflow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pos = torch.rand(300, 3, dtype=torch.float64) * 40
    batch = torch.randint(0, 3, (300,))
    fine = cells.sort_into_cells(pos, 3.0, batch)
    monkeypatch.setattr(cells, "MAX_KEY", int(fine.key.max()) // 10)
    coarse = cells.sort_into_cells(pos, 3.0, batch)
    assert int(coarse.key.max()) < cells.MAX_KEY
    found = cells.cell_graph(pos, 3.0, batch, loop=False)
    assert found.shape[1] > 0
    expected = radius_graph(pos, 3.0, batch, backend="brute_force")
    assert torch.equal(found, expected)


def test_work_grows_linearly_with_the_system() -> None:
    def candidates(side: float) -> int:
        n = int(0.1 * side**3)
        grid = cells.sort_into_cells(torch.rand(n, 3) * side, 5.0, None)
        return int(cells.candidate_counts(grid).sum()) // n

    # Surfaces count less in the larger box; the density bounds it: 0.1 * 15^3.
    assert candidates(30.0) < candidates(60.0) < 0.1 * 15**3 * 1.2
