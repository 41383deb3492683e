"""The fused vertex step and norm against the compositions that they replace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from torch_cormorant.errors import BackendError, DtypeError, ShapeError
from torch_cormorant.nn import SO3Norm, VertexMixing
from torch_cormorant.ops import cpu_kernel, fused
from torch_cormorant.ops.norm import so3_norm
from torch_cormorant.ops.vertex import vertex_step

pytestmark = pytest.mark.skipif(
    bool(cpu_kernel.problem()), reason="the CPU kernel is not there"
)

Tower = Callable[..., list[Tensor]]
Agree = Callable[..., None]
EXACT = {torch.float64: 1e-12, torch.float32: 2e-5}
# lmax, lmax_in, lmax_sh, channels, outputs
SIZES = [
    (0, 0, 0, 1, 1),
    (2, 0, 2, 16, 3),
    (2, 2, 2, 5, 16),
    (3, 3, 3, 3, 5),
    (1, 3, 2, 24, 1),
    (4, 1, 3, 1, 24),
    (4, 4, 4, 2, 2),
    (0, 2, 1, 33, 33),
]


def step_of(
    sizes: Sequence[int], dtype: torch.dtype, *, complex_: bool, paths: str, nodes: int
) -> tuple[VertexMixing, list[Tensor]]:
    """A module and its operands: aggregates, x, weights."""
    lmax, lmax_in, lmax_sh, channels, outputs = sizes
    mixing = VertexMixing(
        channels,
        outputs,
        lmax=lmax,
        lmax_in=lmax_in,
        lmax_sh=lmax_sh,
        paths=paths,
        complex=complex_,
    )
    generator = torch.Generator().manual_seed(nodes)
    rows = dtype.to_complex() if complex_ else dtype

    def draw(*shape: int, kind: torch.dtype = rows) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.complex128 if kind.is_complex else torch.float64).to(kind)

    operands = [
        draw(nodes, 2 * l + 1, count, channels)
        for l, count in enumerate(mixing.sum_paths.counts)
    ]
    operands.append(draw(nodes, (lmax_in + 1) ** 2, channels))
    operands += [draw(*weight.shape, kind=dtype) for weight in mixing.weights()]
    return mixing, operands


def function_of(mixing: VertexMixing) -> Callable[..., list[Tensor]]:
    """The forward pass as a function of all operands."""
    sums = len(mixing.sum_paths.counts)

    def run(*operands: Tensor) -> list[Tensor]:
        names = [f"weights.weight_l{l}" for l in range(mixing.lmax + 1)]
        weights = dict(zip(names, operands[sums + 1 :], strict=True))
        given = (operands[:sums], operands[sums])
        return [torch.func.functional_call(mixing, weights, given)]

    return run


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("complex_", "paths"), [(True, "all"), (False, "even")])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_values_and_gradients_of_both_orders(
    sizes: tuple[int, ...],
    complex_: bool,
    paths: str,
    dtype: torch.dtype,
    tower: Tower,
    agree: Agree,
) -> None:
    mixing, operands = step_of(sizes, dtype, complex_=complex_, paths=paths, nodes=11)
    function = function_of(mixing)
    found = tower(function, operands, 2)
    with fused.enabled(False):
        expected = tower(function, operands, 2)
    agree(found, expected, EXACT[dtype])
