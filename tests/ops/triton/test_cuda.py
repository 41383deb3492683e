"""The kernels on a CUDA device: complete, and skipped where there is none."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from benchmarks.kernels import check
from torch_cormorant.ops import PathTable, build_plan, neighbour_sum, portable
from torch_cormorant.ops import triton as kernels
from torch_cormorant.ops.triton import launch

pytestmark = [
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="the kernels run on CUDA devices only"
    ),
    pytest.mark.skipif(
        not kernels.is_available(), reason="the kernels need the package triton"
    ),
]

ALL = (True, True, True)


@pytest.mark.parametrize("channels", [1, 7, 16, 64, 128])
@pytest.mark.parametrize("lmax", [1, 2, 3])
def test_every_result_agrees_in_double_precision(lmax: int, channels: int) -> None:
    found = check.errors(lmax, channels)
    assert max(found.values()) < 1e-12, found


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 7, 16, 64, 128])
@pytest.mark.parametrize("lmax", [4, 5, 6])
def test_high_degrees_agree_in_single_precision(lmax: int, channels: int) -> None:
    data = check.inputs(lmax, channels, 30, 7, torch.complex64)
    expected = portable.forward(*data)
    grads = [torch.randn_like(t) for t in expected]
    pairs = [
        *zip(kernels.forward(*data), expected, strict=True),
        *zip(
            kernels.backward(*data, ALL, grads),
            portable.backward(*data, ALL, grads),
            strict=True,
        ),
    ]
    for found, right in pairs:
        assert found is not None
        assert right is not None
        assert float((found - right).abs().max() / right.abs().max()) < 1e-5


@pytest.mark.parametrize("channels", [7, 16, 64])
def test_single_precision_agrees(channels: int) -> None:
    data = check.inputs(3, channels, 50, 9, torch.complex64)
    for found, right in zip(
        kernels.forward(*data), portable.forward(*data), strict=True
    ):
        assert float((found - right).abs().max() / right.abs().max()) < 2e-6


def test_a_hundred_runs_have_the_same_bits() -> None:
    data = check.inputs(3, 16, 300, 20, torch.complex64)
    grads = [torch.randn_like(t) for t in kernels.forward(*data)]
    cotangents = [torch.randn_like(t) for t in data[:3]]

    def run() -> list[Tensor]:
        second = kernels.double_backward(*data, ALL, True, grads, cotangents)
        found = [*kernels.forward(*data), *kernels.backward(*data, ALL, grads)]
        found += [*second[:3], *(second[3] or [])]
        assert all(t is not None for t in found)
        return [t for t in found if t is not None]

    first = run()
    for _ in range(100):
        assert all(torch.equal(a, b) for a, b in zip(run(), first, strict=True))


@pytest.mark.parametrize("dtype", [torch.complex128, torch.float64])
def test_the_operator_is_differentiable_twice(dtype: torch.dtype) -> None:
    index = torch.tensor([[0, 1, 2, 2, 0], [1, 1, 0, 1, 2]], device="cuda")
    plan, table = build_plan(index, 3, 3), PathTable(1, 1, 1)

    def random(*shape: int, like: torch.dtype) -> Tensor:
        return torch.randn(*shape, dtype=like, device="cuda").requires_grad_()

    x, g = random(3, 4, 2, like=dtype), random(5, 2, 2, like=dtype)
    sh = random(5, 4, like=torch.float64)

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        return neighbour_sum(*inputs, plan, table, backend="triton")

    # Gradients are sums in a fixed order: no tolerance for atomics.
    assert torch.autograd.gradcheck(run, (x, g, sh), nondet_tol=0.0)
    assert torch.autograd.gradgradcheck(run, (x, g, sh), nondet_tol=0.0)


def test_nothing_waits_for_the_device() -> None:
    data = check.inputs(2, 16, 200, 12, torch.complex64)
    grads = [torch.randn_like(t) for t in kernels.forward(*data)]
    cotangents = [torch.randn_like(t) for t in data[:3]]
    kernels.backward(*data, ALL, grads)
    kernels.double_backward(*data, ALL, True, grads, cotangents)
    # A plan of its own: what is sorted once per plan must not wait either.
    fresh = check.inputs(2, 16, 100, 12, torch.complex64)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for case, given in ((data, grads), (fresh, None)):
            outs = kernels.forward(*case)
            kernels.backward(*case, ALL, given or [torch.ones_like(t) for t in outs])
        kernels.double_backward(*data, ALL, True, grads, cotangents)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("edges", [0, 1, 3000])
def test_empty_single_and_hub_graphs(edges: int) -> None:
    source = torch.arange(edges, device="cuda") % 5
    target = torch.full((edges,), 2, device="cuda")
    plan, table = build_plan(torch.stack([source, target]), 5, 4), PathTable(2, 2, 2)
    x = torch.randn(5, 9, 16, dtype=torch.complex128, device="cuda")
    g = torch.randn(edges, 3, 16, dtype=torch.complex128, device="cuda")
    sh = torch.randn(edges, 9, dtype=torch.float64, device="cuda")
    args = (x, g, sh, plan, table)
    found, expected = kernels.forward(*args), portable.forward(*args)
    grads = [torch.randn_like(t) for t in expected]
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(
        kernels.backward(*args, ALL, grads),
        portable.backward(*args, ALL, grads),
        rtol=1e-11,
        atol=1e-11,
    )


def test_the_step_can_be_captured_in_a_graph() -> None:
    data = check.inputs(2, 16, 100, 12, torch.complex64)
    grads = [torch.randn_like(t) for t in kernels.forward(*data)]
    kernels.backward(*data, ALL, grads)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outs = kernels.forward(*data)
        parts = kernels.backward(*data, ALL, grads)
    graph.replay()
    torch.cuda.synchronize()
    again = [*kernels.forward(*data), *kernels.backward(*data, ALL, grads)]
    for captured, eager in zip([*outs, *parts], again, strict=True):
        assert captured is not None
        assert eager is not None
        assert torch.equal(captured, eager)


def test_what_a_capture_sorts_is_not_used_outside_of_it() -> None:
    data = check.inputs(2, 16, 100, 12, torch.complex64)
    expected = kernels.forward(*data)
    grads = [torch.randn_like(t) for t in expected]
    gradients = kernels.backward(*data, ALL, grads)
    fresh = check.inputs(2, 16, 100, 12, torch.complex64)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outs = kernels.forward(*fresh)
        parts = kernels.backward(*fresh, ALL, grads)
    # Never replayed so far: rows kept from the capture would hold nothing.
    again = [*kernels.forward(*fresh), *kernels.backward(*fresh, ALL, grads)]
    graph.replay()
    torch.cuda.synchronize()
    right = [*expected, *gradients]
    for found in (again, [*outs, *parts]):
        for one, two in zip(found, right, strict=True):
            assert one is not None
            assert two is not None
            assert torch.equal(one, two)


def test_graphs_of_other_sizes_and_misplaced_inputs_compile_nothing() -> None:
    built = launch.built

    def variants() -> int:
        spec = launch.make_spec(
            data[4], 16, launch.PLAIN, (False,) * 3, is_complex=True, sums=True
        )
        return sum(
            len(cache[0]) if isinstance(cache, tuple) else len(cache)
            for kernel in built(spec)
            for cache in kernel.device_caches.values()
        )

    data = check.inputs(2, 16, 100, 12, torch.complex64)
    kernels.forward(*data)
    before = variants()
    for nodes in (31, 64, 77, 90):
        other = check.inputs(2, 16, nodes, 9, torch.complex64)
        kernels.forward(*other)
        x = torch.cat([other[0].flatten()[:1], other[0].flatten()])[1:]
        kernels.forward(x.view(other[0].shape), *other[1:])
    assert variants() == before


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_a_device_that_is_not_the_current_one_agrees() -> None:
    data = check.inputs(2, 16, 100, 12, torch.complex64, "cuda:1")
    for found, right in zip(
        kernels.forward(*data), portable.forward(*data), strict=True
    ):
        assert found.device == torch.device("cuda:1")
        assert float((found - right).abs().max() / right.abs().max()) < 2e-6
