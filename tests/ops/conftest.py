"""Graphs and derivatives that the tests of the operations share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from torch import Tensor

from torch_cormorant.ops import cpu_kernel, use_backend

Function = Callable[..., Sequence[Tensor]]


def _graphs() -> dict[str, tuple[Tensor, int, int]]:
    """Edge index, number of sources, number of targets."""
    generator = torch.Generator().manual_seed(0)

    def draw(high: int, count: int) -> Tensor:
        return torch.randint(0, high, (count,), generator=generator)

    hub = torch.stack([draw(9, 60), torch.cat([torch.full((50,), 4), draw(9, 10)])])
    some = torch.stack([draw(6, 15), draw(6, 15)])
    return {
        "no_nodes": (torch.zeros(2, 0, dtype=torch.long), 0, 0),
        "no_edges": (torch.zeros(2, 0, dtype=torch.long), 4, 4),
        "single_edge": (torch.tensor([[2], [0]]), 3, 3),
        "one_self_edge": (torch.tensor([[0], [0]]), 1, 1),
        "sorted": (some[:, some[1].argsort(stable=True)], 6, 6),
        "unsorted": (some, 6, 6),
        "complete": (torch.stack([torch.arange(16) % 4, torch.arange(16) // 4]), 4, 4),
        "very_uneven": (hub, 9, 9),
        "duplicates": (torch.tensor([[0, 0, 1, 0, 2], [1, 1, 0, 1, 1]]), 3, 3),
        "isolated_receivers": (torch.stack([draw(8, 10), 2 * draw(3, 10) + 1]), 8, 8),
        "bipartite": (torch.stack([draw(3, 12), draw(7, 12)]), 3, 7),
    }


GRAPHS = _graphs()


@pytest.fixture(params=list(GRAPHS))
def graph(request: pytest.FixtureRequest) -> tuple[Tensor, int, int]:
    """Return edge index, number of sources and number of targets."""
    return GRAPHS[request.param]


def _scalar(parts: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    """Real part of a sum of products."""
    total = torch.zeros((), dtype=torch.float64)
    for part, weight in zip(parts, weights, strict=True):
        product = part * weight
        total = total + (product.real if product.is_complex() else product).sum()
    return total


@pytest.fixture(scope="session")
def tower() -> Callable[..., list[Tensor]]:
    """Return a function that gives values and derivatives up to an order.

    Every derivative is taken along random directions, with respect to all inputs and
    to the cotangents of the outputs, and kept.
    """

    def climb(function: Function, inputs: Sequence[Tensor], order: int) -> list[Tensor]:
        generator = torch.Generator().manual_seed(7)

        def like(x: Tensor) -> Tensor:
            return torch.randn(x.shape, generator=generator, dtype=x.dtype)

        inputs = [x.detach().requires_grad_() for x in inputs]
        outs = list(function(*inputs))
        found = [out.detach() for out in outs]
        leaves = list(inputs)
        for _ in range(order):
            weights = [like(out).requires_grad_() for out in outs]
            leaves += weights
            outs = list(
                torch.autograd.grad(
                    _scalar(outs, weights),
                    leaves,
                    create_graph=True,
                    materialize_grads=True,
                )
            )
            found += [out.detach() for out in outs]
        return found

    return climb


@pytest.fixture(scope="session")
def agree() -> Callable[..., None]:
    """Return a comparison of two lists of tensors, each relative to its largest."""

    def check(found: Sequence[Tensor], expected: Sequence[Tensor], rtol: float) -> None:
        for k, (a, b) in enumerate(zip(found, expected, strict=True)):
            assert a.shape == b.shape, k
            assert a.dtype == b.dtype, k
            if b.numel():
                error, scale = float((a - b).abs().max()), float(b.abs().max())
                assert error <= rtol * scale, f"{k}: {error / max(scale, 1e-300):.1e}"

    return check


def needs(backend: str) -> None:
    """Skip a test of a kernel that is not there."""
    if backend == "cpu_kernel" and cpu_kernel.problem():
        pytest.skip(f"the CPU kernel is {cpu_kernel.problem()}: {cpu_kernel.remedy()}")


@pytest.fixture(scope="module", params=["portable", "cpu_kernel"])
def every_backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run a whole file with one implementation, then with the next."""
    needs(request.param)
    with use_backend(request.param):
        yield request.param
