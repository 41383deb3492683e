"""torch-cluster behind our rule; what it does alone shows why that is needed."""

from __future__ import annotations

import pytest
import torch

from torch_cormorant.backends import find_extension, load_extension
from torch_cormorant.errors import BackendError
from torch_cormorant.graph import radius_graph

STATE = find_extension("torch_cluster")
with_torch_cluster = pytest.mark.skipif(
    bool(STATE.problem), reason=f"torch-cluster is {STATE.problem}: make extensions"
)
without_torch_cluster = pytest.mark.skipif(
    not STATE.problem, reason="torch-cluster is installed"
)


@with_torch_cluster
def test_alone_it_truncates_and_behind_us_it_does_not() -> None:
    pos = torch.rand(100, 3)
    cluster = load_extension("torch_cluster")
    assert cluster.radius_graph(pos, 5.0).shape[1] < 100 * 99
    assert radius_graph(pos, 5.0, backend="torch_cluster").shape[1] == 100 * 99


@with_torch_cluster
def test_alone_it_compares_squares_and_behind_us_it_does_not() -> None:
    cutoff = torch.tensor(5.0)
    pos = torch.zeros(2, 3)
    pos[1, 0] = torch.nextafter(cutoff, torch.tensor(0.0))
    pos[1, 1] = 2.0**-9.5  # now the length rounds to the cutoff, the square is below
    cluster = load_extension("torch_cluster")
    assert cluster.radius_graph(pos, float(cutoff)).shape[1] == 2
    assert radius_graph(pos, 5.0, backend="torch_cluster").shape[1] == 0


@with_torch_cluster
def test_molecule_numbers_may_be_large() -> None:
    batch = torch.tensor([3, 3, 10**12, 10**12])
    found = radius_graph(torch.zeros(4, 3), 1.0, batch, backend="torch_cluster")
    assert found.tolist() == [[1, 0, 3, 2], [0, 1, 2, 3]]


@without_torch_cluster
def test_a_missing_extension_is_an_error_that_holds_the_command() -> None:
    with pytest.raises(BackendError, match=r"torch_cluster is .*(make|pip) "):
        radius_graph(torch.zeros(2, 3), 1.0, backend="torch_cluster")
