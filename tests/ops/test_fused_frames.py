"""Harmonics, lengths and radial functions as operators, against their formulas."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from torch_cormorant import EdgeGeometry
from torch_cormorant.errors import (
    ConfigError,
    DegreeError,
    DtypeError,
    EdgeIndexError,
    ShapeError,
)
from torch_cormorant.nn.radial import PowerTrig
from torch_cormorant.ops import cpu_kernel, fused
from torch_cormorant.ops.composed import power_trig
from torch_cormorant.ops.frames import edge_frames
from torch_cormorant.ops.radial_basis import bessel, gaussian
from torch_cormorant.ops.radial_rows import (
    bessel_rows,
    gaussian_rows,
    power_trig_rows,
)
from torch_cormorant.ops.tensors import safe_norm
from torch_cormorant.so3 import spherical_harmonics

pytestmark = pytest.mark.skipif(
    bool(cpu_kernel.problem()), reason="the CPU kernel is not there"
)

Tower = Callable[..., list[Tensor]]
Agree = Callable[..., None]
EXACT = {torch.float64: 1e-13, torch.float32: 2e-5}
ops = torch.ops.torch_cormorant


def vectors(count: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Vectors, the last one zero where there are several."""
    generator = torch.Generator().manual_seed(count)
    drawn = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    if count > 1:
        drawn[-1] = 0
    return drawn.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("count", [0, 1, 5, 37])
@pytest.mark.parametrize("lmax", [0, 1, 2, 4, 8])
def test_frames(
    lmax: int, count: int, unit: bool, dtype: torch.dtype, tower: Tower, agree: Agree
) -> None:
    pairs = torch.arange(0, count, 2)

    def composed(vec: Tensor) -> list[Tensor]:
        return [spherical_harmonics(vec, lmax, unit), safe_norm(vec)[pairs]]

    vec = vectors(count, dtype)
    found = tower(lambda v: edge_frames(v, pairs, lmax, normalize=unit), [vec], 2)
    agree(found, tower(composed, [vec], 2), EXACT[dtype])


def test_frames_of_all_edges(tower: Tower, agree: Agree) -> None:
    vec = vectors(9)
    found = tower(lambda v: edge_frames(v, None, 2, normalize=True), [vec], 2)
    everything = torch.arange(9)
    agree(
        found,
        tower(lambda v: edge_frames(v, everything, 2, normalize=True), [vec], 2),
        0.0,
    )


def test_not_a_number_stays_one() -> None:
    vec = vectors(4)
    vec[1, 2] = math.nan
    sh, length = edge_frames(vec, None, 2, normalize=True)
    assert sh[1, 1:].isnan().all()
    assert length.isnan().tolist() == [False, True, False, False]
    assert not sh[[0, 2, 3]].isnan().any()


Rows = Callable[..., Tensor]


def bases(count: int) -> dict[str, tuple[Rows, Rows, int]]:
    """Operator, formula and number of operands."""
    made = PowerTrig((2 * count, 2)).double()

    def trig(length: Tensor, scales: Tensor, phases: Tensor) -> Tensor:
        named = {"scales": scales, "phases": phases}
        found: Tensor = torch.func.functional_call(made, named, (length,))
        return found

    return {
        "bessel": (
            lambda r: bessel_rows(r, count, 5.0),
            lambda r: bessel(r, count, 5.0),
            1,
        ),
        "gaussian": (
            lambda r: gaussian_rows(r, count, 5.0),
            lambda r: gaussian(r, count, 5.0),
            1,
        ),
        "power_trig": (lambda *a: power_trig_rows(*a, 3), trig, 3),
    }


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("count", [1, 8, 19])
@pytest.mark.parametrize("name", list(bases(1)))
def test_radial_rows(
    name: str, count: int, dtype: torch.dtype, tower: Tower, agree: Agree
) -> None:
    fast, formula, number = bases(count)[name]
    generator = torch.Generator().manual_seed(count)
    length = 0.3 + 4 * torch.rand(13, generator=generator, dtype=torch.float64)
    length[4] = 0
    waves = torch.randn(2, 4 * count + 2, generator=generator, dtype=torch.float64)
    operands = [part.to(dtype) for part in (length, *waves)][:number]
    agree(
        tower(lambda *a: [fast(*a)], operands, 2),
        tower(lambda *a: [formula(*a)], operands, 2),
        EXACT[dtype],
    )


def test_waves_of_large_arguments(agree: Agree) -> None:
    """Where the short reduction of the argument would lose digits."""
    length = torch.tensor([1.0, 3.0], dtype=torch.float64)
    scales = torch.tensor([5.0e5, 7.0e8, -3.0e7], dtype=torch.float64)
    found = power_trig_rows(length, scales, torch.zeros_like(scales), 1)
    expected = torch.sin(2 * math.pi * length[:, None] * scales)
    agree([found], [expected], 1e-14)


def leaf(x: Tensor) -> Tensor:
    return x.clone().requires_grad_()


def test_opcheck() -> None:
    frames = ([leaf(vectors(3))], [torch.tensor([0, 1])], [1, 1], [])
    length = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    waves = torch.tensor([0.5, 1.0], dtype=torch.float64)
    rows = ([leaf(length), leaf(waves), leaf(waves)], [], [2, 2, 2], [0.0, 0.0])
    cases: list[tuple[str, Any]] = [("edge_frames", frames), ("radial_rows", rows)]
    for name, given in cases:
        outs = getattr(ops, name)(*given)
        outs = outs if isinstance(outs, list) else [outs]
        torch.library.opcheck(getattr(ops, name), given)
        grads = [torch.randn_like(out).requires_grad_() for out in outs]
        marks, need = [True] * len(outs), [True] * len(given[0])
        first = (*given, grads, marks, need)
        torch.library.opcheck(getattr(ops, f"{name}_backward"), first)
        fixed = [part.detach() for part in given[0]]
        grads = [grad.detach() for grad in grads]
        second = (fixed, *given[1:], grads, marks, fixed, need, need, marks)
        torch.library.opcheck(getattr(ops, f"{name}_double_backward"), second)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: ops.edge_frames([vectors(3)[:, :2]], [], [1, 1], []), ShapeError),
        (lambda: ops.edge_frames([vectors(3).long()], [], [1, 1], []), DtypeError),
        (lambda: ops.edge_frames([vectors(3)], [], [9, 1], []), DegreeError),
        (lambda: ops.edge_frames([vectors(3)], [], [1, 2], []), ConfigError),
        (
            lambda: ops.edge_frames([vectors(3)], [torch.tensor([3])], [1, 1], []),
            EdgeIndexError,
        ),
        (lambda: ops.radial_rows([vectors(3)], [], [0, 1, 1], [1.0, 1.0]), ShapeError),
        (
            lambda: ops.radial_rows([vectors(3)[0]], [], [3, 1, 1], [1.0, 1.0]),
            ConfigError,
        ),
        (
            lambda: ops.radial_rows([vectors(3)[0]], [], [2, 1, 1], [1.0, 1.0]),
            ConfigError,
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    call: Callable[[], Sequence[Tensor]], error: type[Exception]
) -> None:
    with pytest.raises(error):
        call()


def ring() -> tuple[Tensor, Tensor]:
    index = torch.tensor([[0, 1, 1, 2, 2, 0, 0], [1, 0, 2, 1, 0, 2, 0]])
    pos = vectors(3)
    return index, pos[index[1]] - pos[index[0]]


def test_a_prepared_geometry(agree: Agree) -> None:
    index, vec = ring()
    plain, ready = (EdgeGeometry(index, vec, 3) for _ in range(2))
    ready.prepare(2)
    with fused.enabled(False):
        never = EdgeGeometry(index, vec, 3)
        never.prepare(2)
    assert not never._sh
    agree([ready.sh(2), ready.sh(1)], [plain.sh(2), plain.sh(1)], 1e-15)
    agree([ready.pair_length], [plain.pair_length], 1e-15)
    other = ready.moved(2 * vec)
    agree([other.pair_length, other.sh(1)], [2 * plain.pair_length, plain.sh(1)], 1e-15)


def test_what_was_computed_without_gradients_is_not_taken_with_them() -> None:
    index, vec = ring()
    geometry = EdgeGeometry(index, vec.requires_grad_(), 3)
    with torch.no_grad():
        assert not geometry.pair_length.requires_grad
    assert geometry.pair_length.requires_grad


@pytest.mark.parametrize("kind", ["frames", "bessel", "gaussian", "power_trig"])
def test_third_derivatives_are_those_of_the_composition(kind: str) -> None:
    waves = torch.tensor([0.3, 1.2], dtype=torch.float64)

    def fast(vec: Tensor) -> list[Tensor]:
        if kind == "frames":
            return [*edge_frames(vec, None, 3, normalize=True)]
        length = safe_norm(vec)
        if kind == "power_trig":
            return [power_trig_rows(length, waves, waves, 2)]
        rows = bessel_rows if kind == "bessel" else gaussian_rows
        return [rows(length, 3, 4.0)]

    def plain(vec: Tensor) -> list[Tensor]:
        length = safe_norm(vec)
        if kind == "frames":
            return [spherical_harmonics(vec, 3), length]
        if kind == "power_trig":
            return [power_trig(length, waves, waves, 2)]
        return [(bessel if kind == "bessel" else gaussian)(length, 3, 4.0)]

    found = []
    for function in (fast, plain):
        vec = leaf(vectors(4))
        scalar = sum(part.pow(3).sum() for part in function(vec))
        for _ in range(3):
            (grad,) = torch.autograd.grad(scalar, vec, create_graph=True)
            scalar = grad.pow(3).sum()
        found.append(grad.detach())
    torch.testing.assert_close(*found, rtol=1e-8, atol=1e-8)
