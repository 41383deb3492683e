"""All pairs of each molecule."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torch_cormorant.errors import ConfigError, DtypeError, EdgeBudgetError, ShapeError
from torch_cormorant.graph import all_pairs


@given(numbers=st.lists(st.sampled_from([0, 1, 4, 9]), max_size=12), loop=st.booleans())
def test_every_pair_of_a_molecule_appears_once_in_order(
    numbers: list[int], loop: bool
) -> None:
    found = all_pairs(torch.tensor(numbers, dtype=torch.int64), loop=loop)
    expected = [
        (j, i)
        for i, molecule in enumerate(numbers)
        for j, other in enumerate(numbers)
        if molecule == other and (loop or i != j)
    ]
    assert list(map(tuple, found.T.tolist())) == expected
    assert found.dtype == torch.int64


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("n", [0, 1, 5])
def test_one_molecule_needs_its_size_only(n: int, loop: bool) -> None:
    expected = all_pairs(torch.zeros(n, dtype=torch.int64), loop=loop)
    assert torch.equal(all_pairs(num_nodes=n, loop=loop), expected)


def test_the_edge_budget_names_the_way_out() -> None:
    with pytest.raises(EdgeBudgetError, match=r"90 edges.*max_edges=89.*cutoff="):
        all_pairs(num_nodes=10, max_edges=89)
    assert all_pairs(num_nodes=10, max_edges=90).shape == (2, 90)
    with pytest.raises(EdgeBudgetError, match="2000000"):
        all_pairs(num_nodes=100_000)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_nodes="):
        all_pairs()
    with pytest.raises(ConfigError, match="-1"):
        all_pairs(num_nodes=-1)
    with pytest.raises(ConfigError, match="row 1"):
        all_pairs(torch.tensor([0, -1]))
    with pytest.raises(ShapeError, match="2 entries, expected 3"):
        all_pairs(torch.tensor([0, 0]), num_nodes=3)
    with pytest.raises(DtypeError, match="float32"):
        all_pairs(torch.zeros(3))
