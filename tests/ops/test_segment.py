"""Segment sums: values, gradients of two orders, and every backend."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from torch_cormorant.backends import available_backends
from torch_cormorant.errors import (
    BackendError,
    DeviceError,
    DtypeError,
    EdgeIndexError,
    ShapeError,
)
from torch_cormorant.ops import segment
from torch_cormorant.ops.segment import scatter_sum, segment_sum

BACKENDS = ["auto", *available_backends()["segment sum"]]
COUNTS = [0, 3, 1, 0, 0, 4, 2, 0]


def pointer(counts: list[int]) -> Tensor:
    return torch.tensor([0, *counts]).cumsum(0)


@given(
    counts=st.lists(st.integers(0, 6), max_size=8),
    shape=st.sampled_from([(), (1,), (5,), (2, 3), (0,)]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_every_backend_sums_consecutive_rows(
    counts: list[int], shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    src = torch.randn(sum(counts), *shape, dtype=dtype)
    expected = [part.sum(dim=0) for part in src.split(counts)] if counts else []
    for backend in BACKENDS:
        out = segment_sum(src, pointer(counts), backend)
        assert out.shape == (len(counts), *shape)
        assert out.dtype == dtype
        for row, wanted in zip(out, expected, strict=True):
            torch.testing.assert_close(row, wanted)


@pytest.mark.parametrize("backend", BACKENDS)
def test_first_and_second_derivatives(backend: str) -> None:
    ptr = pointer(COUNTS)
    src = torch.randn(10, 2, dtype=torch.float64, requires_grad=True)

    def cubes(values: Tensor) -> Tensor:
        return segment_sum(values**3, ptr, backend) ** 2

    assert torch.autograd.gradcheck(cubes, src)
    assert torch.autograd.gradgradcheck(cubes, src)


@pytest.mark.parametrize("use_torch_scatter", [False, True])
def test_own_derivative_rule_holds_to_third_order(use_torch_scatter: bool) -> None:
    if use_torch_scatter and "torch_scatter" not in BACKENDS:
        pytest.skip("torch-scatter is not installed: make extensions")
    ptr = pointer(COUNTS)
    src = torch.randn(10, dtype=torch.float64, requires_grad=True)

    def derivatives(function: object) -> list[Tensor]:
        value = (function(src**2) ** 2).sum()  # type: ignore[operator]
        found = []
        for _ in range(3):
            (grad,) = torch.autograd.grad(value, src, create_graph=True)
            value = (grad**2).sum()
            found.append(grad.detach())
        return found

    ours = derivatives(lambda x: segment._SegmentSum.apply(x, ptr, use_torch_scatter))
    plain = derivatives(lambda x: segment_sum(x, ptr, "torch"))
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_strided_rows_and_expanded_gradients(backend: str) -> None:
    src = torch.randn(4, 10).T.requires_grad_()
    out = segment_sum(src, pointer(COUNTS), backend)
    out.sum().backward()
    assert src.grad is not None
    assert torch.equal(src.grad, torch.ones(10, 4))


@pytest.mark.parametrize("backend", BACKENDS)
def test_repeated_sums_are_bitwise_equal(backend: str) -> None:
    counts = torch.randint(0, 200, (100,))
    ptr = pointer(counts.tolist())
    src = torch.randn(int(counts.sum()), 16)
    first = segment_sum(src, ptr, backend)
    assert all(torch.equal(segment_sum(src, ptr, backend), first) for _ in range(5))


@given(st.lists(st.integers(0, 4), max_size=30))
def test_scatter_sum_adds_rows_in_any_order(numbers: list[int]) -> None:
    index = torch.tensor(numbers, dtype=torch.int64)
    src = torch.randn(len(numbers), 3, dtype=torch.float64)
    expected = torch.stack([src[index == k].sum(dim=0) for k in range(5)])
    torch.testing.assert_close(scatter_sum(src, index, 5), expected)


def test_scatter_sum_has_two_derivatives() -> None:
    index = torch.tensor([3, 0, 3, 1, 0])
    src = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)

    def squares(values: Tensor) -> Tensor:
        return scatter_sum(values**2, index, 5) ** 2

    assert torch.autograd.gradcheck(squares, src)
    assert torch.autograd.gradgradcheck(squares, src)


BAD_POINTERS = [
    (torch.tensor([0.0, 4.0]), DtypeError, "int64"),
    (torch.tensor([[0, 4]]), ShapeError, r"\[1, 2\]"),
    (torch.tensor([], dtype=torch.int64), ShapeError, "at least one entry"),
    (torch.tensor([1, 4]), EdgeIndexError, "first entry 1"),
    (torch.tensor([0, 3]), EdgeIndexError, "last entry 3"),
    (torch.tensor([0, 3, 1, 4]), EdgeIndexError, "descent"),
    (torch.zeros(2, dtype=torch.int64, device="meta"), DeviceError, "meta"),
]


@pytest.mark.parametrize(("ptr", "error", "words"), BAD_POINTERS)
def test_bad_pointers_are_refused(
    ptr: Tensor, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        segment_sum(torch.zeros(4, 2), ptr)


def test_bad_sources_and_indices_are_refused() -> None:
    index = torch.tensor([0, 1])
    with pytest.raises(DtypeError, match=r"src .*int64"):
        scatter_sum(index, index, 2)
    with pytest.raises(ShapeError, match="src"):
        scatter_sum(torch.tensor(1.0), index, 2)
    with pytest.raises(ShapeError, match="2 entries, expected 3"):
        scatter_sum(torch.zeros(3), index, 2)
    for wrong in (torch.tensor([0, 2]), torch.tensor([-1, 0])):
        with pytest.raises(EdgeIndexError, match="0 to dim_size - 1 = 1"):
            scatter_sum(torch.zeros(2), wrong, 2)
    with pytest.raises(BackendError, match="torch, torch_scatter"):
        segment_sum(torch.zeros(4), torch.tensor([0, 4]), "numba")
