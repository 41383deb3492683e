"""Flat rows of irreps: views both ways, and the layout of e3nn."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from torch_cormorant import spherical_harmonics, wigner_D
from torch_cormorant.errors import DegreeError, ShapeError
from torch_cormorant.irreps import Irreps
from torch_cormorant.so3 import (
    as_irreps,
    as_packed,
    degree_slices,
    flat_blocks,
    from_e3nn,
    random_rotation,
    split_degrees,
    to_e3nn,
)

IRREPS = "3x0e + 2x1o + 4x2e + 1x1e + 2x3o"


def draw(irreps: str, rows: int = 5) -> Tensor:
    return torch.randn(rows, Irreps(irreps).dim, dtype=torch.float64)


@pytest.mark.parametrize("planes", [1, 2])
def test_packed_features_are_flat_rows_already(planes: int) -> None:
    x = torch.randn(5, 9, planes, 6)
    rows, irreps = as_irreps(x, parity=True)
    assert rows.data_ptr() == x.data_ptr()
    assert irreps == Irreps([(6 * planes, (l, (-1) ** l)) for l in range(3)])
    back = as_packed(rows, irreps, planes)
    assert back.data_ptr() == x.data_ptr()
    assert torch.equal(back, x)
    for block, part in zip(flat_blocks(rows, irreps), split_degrees(x, 2), strict=True):
        assert torch.equal(block, part.flatten(2))


@pytest.mark.parametrize(
    ("irreps", "planes", "error"),
    [
        ("2x0 + 3x1", 1, DegreeError),
        ("2x1 + 2x0", 1, DegreeError),
        ("2x0 + 2x2", 1, DegreeError),
        ("3x0 + 3x1", 2, ShapeError),
        ("2x0", 3, ShapeError),
    ],
)
def test_other_rows_are_not_packed_features(
    irreps: str, planes: int, error: type[Exception]
) -> None:
    with pytest.raises(error):
        as_packed(draw(irreps), irreps, planes)


def test_rows_of_another_length_are_refused() -> None:
    for function in (flat_blocks, to_e3nn, from_e3nn, as_packed):
        with pytest.raises(ShapeError, match="rows of 4 numbers"):
            function(torch.zeros(2, 5), "1x0e + 1x1o")


def test_there_and_back() -> None:
    x = draw(IRREPS)
    assert torch.allclose(from_e3nn(to_e3nn(x, IRREPS), IRREPS), x, atol=1e-14, rtol=0)
    assert to_e3nn(torch.zeros(3, 0), "").shape == (3, 0)


@pytest.mark.filterwarnings("ignore")
def test_harmonics_become_those_of_e3nn() -> None:
    o3 = pytest.importorskip("e3nn.o3", reason="e3nn is not installed")
    vec = torch.randn(7, 3, dtype=torch.float64)
    theirs = o3.spherical_harmonics([0, 1, 2, 3], vec, True, "norm")
    ours = spherical_harmonics(vec, 3)
    irreps = Irreps.harmonics(3)
    assert torch.allclose(to_e3nn(ours, irreps), theirs, atol=1e-14)
    assert torch.allclose(from_e3nn(theirs, irreps), ours, atol=1e-14)


@pytest.mark.filterwarnings("ignore")
def test_rotations_go_over_to_e3nn() -> None:
    """Turn in our layout, then go over, or go over and let e3nn turn."""
    o3 = pytest.importorskip("e3nn.o3", reason="e3nn is not installed")
    x, R = draw(IRREPS), random_rotation(dtype=torch.float64)
    D, at = wigner_D(R, 3), degree_slices(3)
    parts = [
        (D[at[block.ir.l], at[block.ir.l]] @ part).flatten(1)
        for block, part in zip(Irreps(IRREPS), flat_blocks(x, IRREPS), strict=True)
    ]
    turned = to_e3nn(torch.cat(parts, 1), IRREPS)
    # e3nn's own matrices carry float32 constants
    theirs = o3.Irreps(IRREPS.replace(" ", "")).D_from_matrix(R)
    assert torch.allclose(turned, to_e3nn(x, IRREPS) @ theirs.T, atol=1e-5)
