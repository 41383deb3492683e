from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from torch_cormorant.ops import edge_dots, from_complex, reference
from torch_cormorant.ops.dots import CHUNK
from torch_cormorant.so3 import dot

pytestmark = pytest.mark.usefixtures("every_backend")

Tower = Callable[..., list[Tensor]]
Agree = Callable[..., None]


def operands(
    nodes: int, lmax: int, channels: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (nodes, (lmax + 1) ** 2, channels)
    a = torch.randn(shape, generator=generator, dtype=dtype)
    return a, torch.randn(shape, generator=generator, dtype=dtype)


def indices(edges: int, nodes: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    index = torch.randint(0, nodes, (2, edges), generator=generator)
    return index[0], index[1]


@pytest.mark.parametrize("dtype", [torch.complex128, torch.float64])
@pytest.mark.parametrize("edges", [0, 1, 9])
@pytest.mark.parametrize(("lmax", "channels"), [(0, 1), (1, 7), (3, 2)])
def test_values_and_three_derivatives(
    lmax: int,
    channels: int,
    edges: int,
    dtype: torch.dtype,
    tower: Tower,
    agree: Agree,
) -> None:
    ab, (ia, ib) = operands(5, lmax, channels, dtype), indices(edges, 5)
    found = tower(lambda a, b: [edge_dots(a, b, ia, ib)], ab, 3)
    expected = tower(lambda a, b: [reference.edge_dots(a, b, ia, ib)], ab, 3)
    agree(found, expected, 1e-13)


@pytest.mark.parametrize("dtype", [torch.complex128, torch.float64])
def test_same_tensor_twice(dtype: torch.dtype, tower: Tower, agree: Agree) -> None:
    a, (ia, ib) = operands(5, 2, 3, dtype)[:1], indices(12, 5)
    found = tower(lambda a: [edge_dots(a, a, ia, ib)], a, 2)
    agree(found, tower(lambda a: [reference.edge_dots(a, a, ia, ib)], a, 2), 1e-13)


def test_more_edges_than_one_chunk(tower: Tower, agree: Agree) -> None:
    ab, (ia, ib) = operands(30, 2, 3, torch.complex128), indices(2 * CHUNK + 7, 30)
    found = tower(lambda a, b: [edge_dots(a, b, ia, ib)], ab, 2)
    expected = tower(lambda a, b: [reference.edge_dots(a, b, ia, ib)], ab, 2)
    agree(found, expected, 1e-13)


@pytest.mark.parametrize("dtype", [torch.complex128, torch.float64])
def test_gradcheck_and_gradgradcheck(dtype: torch.dtype) -> None:
    ia, ib = indices(4, 2)
    inputs = [x.requires_grad_() for x in operands(2, 1, 2, dtype)]

    def function(a: Tensor, b: Tensor) -> Tensor:
        return edge_dots(a, b, ia, ib)

    assert torch.autograd.gradcheck(function, inputs, atol=1e-8, rtol=1e-6)
    assert torch.autograd.gradgradcheck(function, inputs, atol=1e-7, rtol=1e-5)


def test_layout_of_the_operands_does_not_matter(agree: Agree) -> None:
    (a, b), (ia, ib) = operands(5, 2, 3, torch.complex128), indices(12, 5)
    flipped = a.transpose(0, 2).contiguous().transpose(0, 2)
    spread = b[:1].expand(5, -1, -1)
    found = edge_dots(flipped, spread, ia, ib)
    agree([found], [edge_dots(a, spread.contiguous(), ia, ib)], 0.0)


def test_lazy_conjugates(tower: Tower, agree: Agree) -> None:
    ab, (ia, ib) = operands(5, 2, 3, torch.complex128), indices(12, 5)
    found, expected = (
        tower(lambda a, b, f=f: [f(a.conj(), b, ia, ib).conj()], ab, 2)
        for f in (edge_dots, reference.edge_dots)
    )
    agree(found, expected, 1e-13)


def test_dots_are_symmetric_and_equal_those_of_so3() -> None:
    (a, b), (ia, ib) = operands(5, 3, 2, torch.complex128), indices(12, 5)
    found = edge_dots(a, b, ia, ib)
    torch.testing.assert_close(found, edge_dots(b, a, ib, ia), rtol=0, atol=1e-14)
    expected = dot(from_complex(a[ia]), from_complex(b[ib]))
    torch.testing.assert_close(from_complex(found), expected, rtol=0, atol=1e-13)
