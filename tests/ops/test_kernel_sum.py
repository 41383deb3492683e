"""The full convolution: the last layer behind the sum, or on every edge."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from torch_cormorant import EdgeGeometry
from torch_cormorant.errors import ConfigError, DtypeError, ShapeError
from torch_cormorant.ops import (
    ProductPaths,
    build_plan,
    kernel_neighbour_sum,
    kernel_sum,
    tensor_product,
)
from torch_cormorant.so3 import flat_blocks

Agree = Callable[..., None]
Tower = Callable[..., list[Tensor]]
PATHS = {
    "l1net": ProductPaths("6x0 + 3x1", "0 + 1", "4x0 + 5x1", mode="uvw"),
    "parities": ProductPaths(
        "3x0e + 2x1o + 1x2e", "0e + 1o + 2e", "2x0e + 2x1o + 3x1e + 4x0e", mode="uvw"
    ),
}


def inputs_of(paths: ProductPaths, nodes: int, edges: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(nodes + edges)
    sizes = ((nodes, paths.first.dim), (edges, paths.second.dim), (edges, 4))
    return [
        torch.randn(size, generator=generator, dtype=torch.float64)
        for size in (*sizes, (4, paths.weight_numel))
    ]


@pytest.mark.parametrize("name", list(PATHS))
def test_both_orders_on_every_graph(
    name: str, graph: tuple[Tensor, int, int], tower: Tower, agree: Agree
) -> None:
    """Values and two derivatives, against products with weights per edge."""
    index, sources, targets = graph
    plan, paths = build_plan(index, sources, targets), PATHS[name]
    inputs = inputs_of(paths, sources, index.shape[1])

    def plain_way(x: Tensor, sh: Tensor, h: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        messages = tensor_product(x[index[0]], sh, "", "", paths=paths, weights=h @ v)
        total = x.new_zeros(targets, paths.out.dim).index_add(0, index[1], messages)
        return flat_blocks(total, paths.out)

    expected = tower(plain_way, inputs, 2)
    for order in kernel_sum.ORDERS:
        found = tower(
            lambda x, sh, h, v: kernel_neighbour_sum(x, (plan, sh), h, v, paths, order),  # noqa: B023
            inputs,
            2,
        )
        agree(found, expected, 1e-12)


@pytest.mark.parametrize("order", ["edges", "nodes"])
def test_gradcheck_and_gradgradcheck(order: str) -> None:
    paths = PATHS["l1net"]
    index = torch.tensor([[1, 2, 0, 0, 3], [0, 0, 1, 2, 2]])
    inputs = [part.requires_grad_() for part in inputs_of(paths, 4, 5)]

    def function(x: Tensor, sh: Tensor, h: Tensor, v: Tensor) -> tuple[Tensor, ...]:
        return kernel_neighbour_sum(x, (index, sh), h, v, paths, order)

    assert gradcheck(function, inputs, fast_mode=True)
    assert gradgradcheck(function, inputs, fast_mode=True)


@pytest.mark.parametrize("order", ["edges", "nodes"])
def test_rows_of_pairs_stand_for_both_directions(order: str) -> None:
    paths = PATHS["l1net"]
    index = torch.cartesian_prod(torch.arange(5), torch.arange(5)).t().contiguous()
    index = index[:, index[0] != index[1]]
    pos = torch.randn(5, 3, dtype=torch.float64)
    geometry = EdgeGeometry.from_pos(pos, index)
    assert geometry.plan.pairs is not None
    x, _, h, v = inputs_of(paths, 5, 20)
    rows = h[:10]
    found = kernel_neighbour_sum(x, geometry, rows, v, paths, order)
    whole = rows[geometry.plan.pairs.of_edge]
    expected = kernel_neighbour_sum(x, geometry, whole, v, paths, order)
    assert all(map(torch.allclose, found, expected))


class Largest(TorchDispatchMode):
    """The largest tensor that any operation makes."""

    size = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: object,
        args: object = (),
        kwargs: object = None,
    ) -> object:
        found = func(*args, **(kwargs or {}))
        for part in found if isinstance(found, (tuple, list)) else (found,):
            if isinstance(part, Tensor):
                self.size = max(self.size, part.numel())
        return found


def test_no_tensor_of_edges_and_weights_is_ever_made() -> None:
    paths = PATHS["l1net"]
    index = torch.randint(0, 40, (2, 4000))
    x, sh, h, v = (part.requires_grad_() for part in inputs_of(paths, 40, 4000))
    plan = build_plan(index, 40, 40)
    sizes = []
    for order in ("nodes", "edges"):
        with Largest() as seen:
            out = kernel_neighbour_sum(x, (plan, sh), h, v, paths, order)
            torch.autograd.grad([part.sum() for part in out], (x, sh, h, v))
        sizes.append(seen.size)
    assert sizes[0] < 4000 * paths.weight_numel / 4
    assert sizes[1] >= 4000 * paths.weight_numel


def test_the_cheaper_order_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """One neighbour each: weights per edge; many: the last layer behind the sum."""
    taken = []
    for name in ("_by_edges", "_by_nodes"):
        made = getattr(kernel_sum, name)
        monkeypatch.setattr(
            kernel_sum,
            name,
            lambda *a, made=made, name=name: (taken.append(name), made(*a))[1],
        )
    paths = PATHS["l1net"]
    for edges in (3, 60):
        index = torch.stack([torch.arange(edges) % 4, torch.arange(edges) % 3])
        x, sh, h, v = inputs_of(paths, 4, edges)
        kernel_neighbour_sum(x, (index, sh), h, v, paths)
    assert taken == ["_by_edges", "_by_nodes"]


def test_operands_that_do_not_fit() -> None:
    paths = PATHS["l1net"]
    index = torch.tensor([[1, 2, 0], [0, 0, 1]])
    x, sh, h, v = inputs_of(paths, 3, 3)
    run = kernel_neighbour_sum
    with pytest.raises(ConfigError, match="order must be"):
        run(x, (index, sh), h, v, paths, "both")
    with pytest.raises(ShapeError, match="last must have shape"):
        run(x, (index, sh), h, v[1:], paths)
    with pytest.raises(ShapeError, match="hidden must have shape"):
        run(x, (index, sh), h[1:], v, paths)
    with pytest.raises(ShapeError, match="x must have shape"):
        run(x[:, 1:], (index, sh), h, v, paths)
    with pytest.raises(DtypeError, match="last must be"):
        run(x, (index, sh), h, v.float(), paths)
    with pytest.raises(ConfigError, match='mode "uvw"'):
        run(x, (index, sh), h, v, ProductPaths("6x0 + 3x1", "0 + 1"))
