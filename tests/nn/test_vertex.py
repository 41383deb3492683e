from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from torch_cormorant.errors import ConfigError
from torch_cormorant.nn import VertexMixing
from torch_cormorant.ops import from_complex

SIZES = [(0, 0, 0), (2, 2, 2), (3, 1, 2), (1, 3, 2), (4, 1, 3), (2, 0, 2), (0, 2, 1)]


def aggregate_of(mixing: VertexMixing, nodes: int, dtype: torch.dtype) -> list[Tensor]:
    return [
        torch.randn(nodes, 2 * l + 1, count, 3, dtype=dtype)
        for l, count in enumerate(mixing.sum_paths.counts)
    ]


@pytest.mark.parametrize("complex_", [True, False])
@pytest.mark.parametrize("paths", ["all", "even"])
@pytest.mark.parametrize(("lmax", "lmax_in", "lmax_sh"), SIZES)
def test_fast_form_equals_the_formula(
    lmax: int, lmax_in: int, lmax_sh: int, paths: str, complex_: bool
) -> None:
    mixing = VertexMixing(
        3, 4, lmax=lmax, lmax_in=lmax_in, lmax_sh=lmax_sh, paths=paths, complex=complex_
    ).double()
    mixing.reset_parameters()
    dtype = torch.complex128 if complex_ else torch.float64
    x = torch.randn(5, (lmax_in + 1) ** 2, 3, dtype=dtype)
    aggregate = aggregate_of(mixing, 5, dtype)
    expected = from_complex(mixing.reference(aggregate, x))
    found = mixing(aggregate, x)
    assert found.shape == (5, (lmax + 1) ** 2, 2 if complex_ else 1, 4)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


def test_columns_are_aggregate_identity_square() -> None:
    mixing = VertexMixing(16, 16, lmax=3, lmax_in=3, lmax_sh=3)
    # published: 9, 19, 23, 21 blocks of 16 columns
    assert mixing.blocks_per_degree == (9, 19, 23, 21)
    weight = mixing.weights[1]
    blocks = [mixing.block(1, which) for which in range(3)]
    assert [block.shape[-1] for block in blocks] == [9 * 16, 16, 9 * 16]
    assert torch.equal(torch.cat(blocks, dim=-1), weight)


def test_no_nodes() -> None:
    mixing = VertexMixing(3, 4, lmax=2, lmax_in=2, lmax_sh=2)
    mixing.reset_parameters()
    parts = aggregate_of(mixing, 0, torch.complex64)
    assert mixing(parts, torch.zeros(0, 9, 3, dtype=torch.complex64)).shape == (
        0,
        9,
        2,
        4,
    )


@pytest.mark.parametrize(
    "sizes",
    [
        {"lmax": 3, "lmax_in": 1, "lmax_sh": 1},
        {"lmax": 1, "lmax_in": 0, "lmax_sh": 0},
    ],
    ids=str,
)
def test_degrees_that_no_path_reaches_are_refused(sizes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="no path reaches degree"):
        VertexMixing(3, 4, **sizes)
