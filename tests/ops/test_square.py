from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from torch_cormorant.ops import PathTable, fold_columns, folded_square
from torch_cormorant.ops.cg_product import product
from torch_cormorant.ops.square import CHUNK_NODES

pytestmark = pytest.mark.usefixtures("every_backend")

Tower = Callable[..., list[torch.Tensor]]
Agree = Callable[..., None]


@pytest.mark.parametrize("dtype", [torch.complex128, torch.float64])
@pytest.mark.parametrize("paths", ["all", "even"])
@pytest.mark.parametrize(("lmax_in", "lmax"), [(0, 0), (1, 1), (1, 2), (3, 3), (6, 6)])
def test_folded_square_with_folded_weights_equals_the_full_one(
    lmax_in: int, lmax: int, paths: str, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(lmax)
    channels, nodes = 2, 5
    full = PathTable(lmax_in, lmax_in, lmax, paths)
    folded = PathTable(lmax_in, lmax_in, lmax, paths, folded=True)
    x = torch.randn(
        nodes, (lmax_in + 1) ** 2, channels, generator=generator, dtype=dtype
    )
    few, many = folded_square(x, folded), product(x, x, full)
    for l, count in enumerate(full.counts):
        weight = torch.randn(3, count * channels, generator=generator, dtype=dtype)
        columns = fold_columns(weight, full, folded, l, channels)
        found = few[l].flatten(2) @ columns.t()
        expected = many[l].flatten(2) @ weight.t()
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


def test_number_of_paths_at_lmax_3() -> None:
    assert len(PathTable(3, 3, 3).paths) == 34
    assert len(PathTable(3, 3, 3, "even").paths) == 23
    assert len(PathTable(3, 3, 3, folded=True).paths) == 18


@pytest.mark.parametrize("lmax", [1, 3, 4])
def test_folded_paths_are_those_that_differ(lmax: int) -> None:
    """What folding leaves out vanishes or repeats another path up to a sign."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, (lmax + 1) ** 2, 2, generator=generator, dtype=torch.float64)
    full = PathTable(lmax, lmax, lmax)
    kept = set(PathTable(lmax, lmax, lmax, folded=True).paths)
    position = [0] * (lmax + 1)
    values = {}
    for path in full.paths:
        values[path] = product(x, x, full)[path[2]][:, :, position[path[2]]]
        position[path[2]] += 1
    for (l1, l2, l), value in values.items():
        if (l1, l2, l) in kept:
            assert value.abs().max() > 1e-3
        elif l1 == l2:
            assert value.abs().max() < 1e-14
        else:
            sign = -1 if (l1 + l2 - l) % 2 else 1
            torch.testing.assert_close(
                value, sign * values[l2, l1, l], rtol=1e-13, atol=1e-13
            )


@pytest.mark.parametrize("dtype", [torch.complex128, torch.float64])
def test_gradcheck_and_gradgradcheck(dtype: torch.dtype) -> None:
    table = PathTable(2, 2, 2, folded=True)
    x = torch.randn(2, 9, 1, dtype=dtype, requires_grad=True)

    def function(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return folded_square(x, table)

    assert torch.autograd.gradcheck(function, x, atol=1e-8, rtol=1e-6)
    assert torch.autograd.gradgradcheck(function, x, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.complex128, torch.float64])
@pytest.mark.parametrize(("nodes", "lmax"), [(3, 3), (2 * CHUNK_NODES + 5, 1)])
def test_three_derivatives_equal_those_of_the_plain_product(
    nodes: int, lmax: int, dtype: torch.dtype, tower: Tower, agree: Agree
) -> None:
    generator = torch.Generator().manual_seed(1)
    full = PathTable(lmax, lmax, lmax)
    folded = PathTable(lmax, lmax, lmax, folded=True)
    kept = [
        [[p for p in full.paths if p[2] == l].index(path) for path in folded.paths
         if path[2] == l]
        for l in range(lmax + 1)
    ]  # fmt: skip
    x = torch.randn(nodes, (lmax + 1) ** 2, 2, generator=generator, dtype=dtype)

    def plain(x: torch.Tensor) -> list[torch.Tensor]:
        parts = product(x, x, full)
        return [part[:, :, rows] for part, rows in zip(parts, kept, strict=True)]

    found = tower(lambda x: folded_square(x, folded), [x], 3)
    agree(found, tower(plain, [x], 3), 1e-13)


def test_layout_of_the_features_does_not_matter(tower: Tower, agree: Agree) -> None:
    table = PathTable(2, 2, 2, folded=True)
    x = torch.randn(4, 9, 3, dtype=torch.complex128)

    def awkward(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        flipped = x.transpose(0, 2).contiguous().transpose(0, 2)
        return (
            *folded_square(flipped, table),
            *folded_square(x[:1].expand(4, 9, 3), table),
            *folded_square(x.conj(), table),
        )

    def plain(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (
            *folded_square(x, table),
            *folded_square(x[[0, 0, 0, 0]], table),
            *folded_square(x.conj().resolve_conj(), table),
        )

    agree(tower(awkward, [x], 2), tower(plain, [x], 2), 1e-13)


def test_no_nodes() -> None:
    table = PathTable(2, 2, 2, folded=True)
    parts = folded_square(torch.zeros(0, 9, 3), table)
    assert [part.shape for part in parts] == [
        (0, 2 * l + 1, count, 3) for l, count in enumerate(table.counts)
    ]
