"""SO3Linear, SO3Norm, Gate, Invariants and the weights by degree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torch_cormorant import CormorantConv, Gate, Invariants, SO3Linear, SO3Norm
from torch_cormorant.errors import ConfigError, DegreeError, ShapeError
from torch_cormorant.nn import (
    DegreeWeights,
    EdgeNetwork,
    PowerTrig,
    SoftCutoff,
    VertexMixing,
    scalars,
)
from torch_cormorant.nn.mixing import as_real, interleave_columns
from torch_cormorant.ops import to_complex
from torch_cormorant.so3 import degree_slice, dot, norm_squared
from torch_cormorant.testing import assert_equivariant, assert_invariant

LMAX, CHANNELS = 3, 4


def vectors(planes: int, nodes: int = 5, channels: int = CHANNELS) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (nodes, (LMAX + 1) ** 2, planes, channels)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def woken(module: nn.Module) -> nn.Module:
    """Random weights everywhere, so that nothing is the identity."""
    torch.manual_seed(2)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module.double()


MODULES: dict[str, Any] = {
    "linear": lambda complex_: SO3Linear(CHANNELS, 6, LMAX, complex=complex_),
    "norm": lambda _: SO3Norm(CHANNELS, LMAX),
    "gate": lambda complex_: Gate(CHANNELS, LMAX, complex=complex_),
}


@pytest.mark.parametrize("complex_", [True, False])
@pytest.mark.parametrize("name", list(MODULES))
def test_layers_are_equivariant(name: str, complex_: bool) -> None:
    module, x = woken(MODULES[name](complex_)), vectors(2 if complex_ else 1)
    anything = torch.zeros(1, 3, dtype=torch.float64)
    assert_equivariant(lambda x, _: module(x), x, anything, tolerance=1e-13)


@pytest.mark.parametrize("complex_", [True, False])
def test_invariants_are_invariant(complex_: bool) -> None:
    invariants = Invariants(CHANNELS, LMAX, complex=complex_)
    x = vectors(2 if complex_ else 1)
    assert invariants(x).shape == (5, invariants.out_channels)
    anything = torch.zeros(1, 3, dtype=torch.float64)
    assert_invariant(lambda x, _: invariants(x), x, anything, tolerance=1e-13)


@pytest.mark.parametrize("complex_", [True, False])
@pytest.mark.parametrize("name", list(MODULES))
def test_derivatives(name: str, complex_: bool) -> None:
    module = woken(MODULES[name](complex_))
    x = vectors(2 if complex_ else 1, nodes=1).requires_grad_()
    assert torch.autograd.gradcheck(module, x, atol=1e-8, rtol=1e-6)
    assert torch.autograd.gradgradcheck(
        module, x, atol=1e-7, rtol=1e-5, gen_non_contig_grad_outputs=True
    )


@pytest.mark.parametrize("name", [*MODULES, "invariants"])
@pytest.mark.parametrize("shape", [(5, 9, 2, 4), (5, 16, 2, 3), (5, 16, 3, 4), (5, 16)])
def test_other_shapes_are_refused(name: str, shape: tuple[int, ...]) -> None:
    module = Invariants(CHANNELS, LMAX) if name == "invariants" else MODULES[name](True)
    with pytest.raises(ShapeError, match="x must have shape"):
        module(torch.zeros(shape))


@pytest.mark.parametrize("name", ["linear", "gate", "invariants"])
def test_other_number_of_planes_is_refused(name: str) -> None:
    module = Invariants(CHANNELS, LMAX) if name == "invariants" else MODULES[name](True)
    with pytest.raises(ShapeError, match="x must have shape"):
        module(torch.zeros(5, 16, 1, 4))


# ------------------------------------------------------------------ linear


@pytest.mark.parametrize("complex_", [True, False])
def test_linear_is_one_matrix_for_each_degree(complex_: bool) -> None:
    linear, x = woken(MODULES["linear"](complex_)), vectors(2 if complex_ else 1)
    found = to_complex(linear(x))
    for l in range(LMAX + 1):
        weight = to_complex(linear.weights[l].transpose(0, 1))
        part = to_complex(x)[:, degree_slice(l)]
        expected = torch.einsum("oc,nmc->nmo", weight, part)
        torch.testing.assert_close(found[:, degree_slice(l)], expected)


@pytest.mark.parametrize("complex_", [True, False])
def test_linear_keeps_the_size_at_the_start(complex_: bool) -> None:
    torch.manual_seed(0)
    linear = SO3Linear(64, 64, LMAX, complex=complex_).double()
    x = vectors(2 if complex_ else 1, nodes=200, channels=64)
    for l in range(LMAX + 1):
        before, after = x[:, degree_slice(l)], linear(x)[:, degree_slice(l)]
        ratio = float((after.square().mean() / before.square().mean()).detach())
        assert 0.7 < ratio < 1.4
    start = linear.weights[0].clone()
    linear.reset_parameters()
    assert not torch.equal(linear.weights[0], start)


# ------------------------------------------------------------------ norm and gate


def test_norm_is_its_formula() -> None:
    norm, x = woken(SO3Norm(CHANNELS, LMAX, eps=0.3)), vectors(2)
    found = norm(x)
    for l in range(LMAX + 1):
        part = x[:, degree_slice(l)]
        power = part.square().sum((1, 2, 3)) / (CHANNELS * (2 * l + 1))
        expected = part * norm.weight[l] / (0.3 + power).sqrt()[:, None, None, None]
        torch.testing.assert_close(found[:, degree_slice(l)], expected)


def test_norm_makes_large_features_order_one() -> None:
    norm = SO3Norm(CHANNELS, LMAX).double()
    y = norm(1e6 * vectors(2, nodes=50))
    for l in range(LMAX + 1):
        part = y[:, degree_slice(l)]
        assert float(part.square().sum(2).mean().detach()) == pytest.approx(1, rel=1e-6)


def test_norm_is_smooth_at_zero() -> None:
    norm = SO3Norm(CHANNELS, LMAX).double()
    x = torch.zeros(2, 16, 2, CHANNELS, dtype=torch.float64, requires_grad=True)
    y = norm(x)
    assert not y.any()
    (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    torch.testing.assert_close(first, torch.full_like(x, norm.eps**-0.5))
    (second,) = torch.autograd.grad(first.square().sum(), x)
    assert bool(second.isfinite().all())
    assert torch.autograd.gradgradcheck(norm, x[:1].detach().requires_grad_())


def test_degrees_are_normalised_separately() -> None:
    norm, x = SO3Norm(CHANNELS, LMAX).double(), vectors(2)
    louder = x.clone()
    louder[:, degree_slice(2)] *= 100
    same = [0, 1, 2, 3, *range(9, 16)]
    assert torch.equal(norm(louder)[:, same], norm(x)[:, same])


def test_norm_resets_and_refuses_no_eps() -> None:
    norm = woken(SO3Norm(CHANNELS, LMAX))
    norm.reset_parameters()
    assert bool((norm.weight == 1).all())
    for eps in (0.0, -1.0):
        with pytest.raises(ConfigError, match="eps"):
            SO3Norm(CHANNELS, LMAX, eps=eps)
    with pytest.raises(DegreeError):
        SO3Norm(CHANNELS, 9)


def test_gate_is_its_formula() -> None:
    gate, x = woken(Gate(CHANNELS, LMAX)), vectors(2)
    values = 2 * torch.sigmoid(gate.linear(x[:, 0].flatten(1)))
    values = values.view(5, LMAX + 1, CHANNELS)
    found = gate(x)
    for l in range(LMAX + 1):
        expected = x[:, degree_slice(l)] * values[:, l, None, None]
        torch.testing.assert_close(found[:, degree_slice(l)], expected)


@pytest.mark.parametrize("complex_", [True, False])
def test_gate_starts_as_the_identity(complex_: bool) -> None:
    gate, x = Gate(CHANNELS, LMAX, complex=complex_), vectors(2 if complex_ else 1)
    gate.double()
    assert torch.equal(gate(x), x)
    assert "lmax=3" in repr(gate)


# ------------------------------------------------------------------ invariants


def test_scalars_are_dots_and_norms() -> None:
    x = vectors(2)
    found = Invariants(CHANNELS, LMAX)(x)
    zero, rest = found[:, : 2 * CHANNELS], found[:, 2 * CHANNELS :]
    assert torch.equal(zero.view(5, CHANNELS, 2), x[:, 0].transpose(1, 2))
    rest = rest.view(5, LMAX + 1, CHANNELS, 2)
    torch.testing.assert_close(rest[..., 0], dot(x, x)[:, :, 0])
    torch.testing.assert_close(rest[..., 1], norm_squared(x))


def test_scalars_of_real_vectors() -> None:
    x = vectors(1)
    found = Invariants(CHANNELS, LMAX, complex=False)(x)
    assert torch.equal(found[:, :CHANNELS], x[:, 0, 0])
    rest = found[:, CHANNELS:].view(5, LMAX + 1, CHANNELS)
    torch.testing.assert_close(rest, norm_squared(x))


def test_scalars_of_levels_of_different_sizes() -> None:
    levels = [vectors(2), vectors(2)[:, :4, :, :2], vectors(2)[:, :1]]
    found = scalars(levels)
    assert found.shape == (5, 2 * (4 + 2 + 4 + (4 + 2 + 4) + (4 + 2) + 4 + 4))
    assert torch.equal(found[:, :8], levels[0][:, 0].transpose(1, 2).flatten(1))


def test_numbers_of_outputs() -> None:
    assert Invariants(4, 2).out_channels == 32
    assert Invariants(4, 2, complex=False).out_channels == 16
    assert "out_channels=32" in repr(Invariants(4, 2))


# ------------------------------------------------------------------ weights by degree


@pytest.mark.parametrize("layout", ["interleaved", "planar"])
@pytest.mark.parametrize("planes", [1, 2])
def test_real_matrices_act_like_complex_ones(planes: int, layout: str) -> None:
    weight, x = torch.randn(planes, 3, 4), torch.randn(6, 4, 2)[..., :planes]
    full = torch.view_as_complex(torch.stack([x[..., 0], x[..., -1]], -1).contiguous())
    value = full if planes == 2 else x[..., 0]
    expected = value @ to_complex(weight.transpose(0, 1)).t()
    rows = x.flatten(1) if layout == "interleaved" else x.transpose(1, 2).flatten(1)
    matrix = as_real(weight, layout)
    found = (rows @ matrix).view(6, planes, 3)
    if planes == 1:
        torch.testing.assert_close(found[:, 0], expected)
        assert interleave_columns(matrix, 1) is matrix
    else:
        torch.testing.assert_close(found[:, 0], expected.real)
        torch.testing.assert_close(found[:, 1], expected.imag)
        pairs = (rows @ interleave_columns(matrix, 2)).view(6, 3, 2)
        torch.testing.assert_close(torch.view_as_complex(pairs), expected)


def test_weights_wait_for_their_columns() -> None:
    lazy = DegreeWeights(3, None, 1)
    assert lazy.lazy
    lazy.materialize((4, 5), 3)
    assert not lazy.lazy
    assert [tuple(w.shape) for w in lazy.parameters()] == [(2, 3, 4), (2, 3, 5)]
    other = DegreeWeights(3, None, 1)
    other.load_state_dict(lazy.state_dict())
    assert not other.lazy
    assert torch.equal(other[1], lazy[1])


MIXERS: dict[str, Callable[[], nn.Module]] = {
    "weights": lambda: DegreeWeights(6, (40, 80), 1),
    "vertex": lambda: VertexMixing(40, 4, lmax=1, lmax_in=1, lmax_sh=1),
    "edges": lambda: EdgeNetwork(
        40,
        lmax=1,
        dots_lmax=1,
        state_channels=40,
        state_lmax=1,
        radial=PowerTrig(),
        cutoff=SoftCutoff(40),
    ),
}


@pytest.mark.parametrize("name", list(MIXERS))
def test_public_modules_start_with_random_weights_of_sensible_size(name: str) -> None:
    torch.manual_seed(0)
    first, second = MIXERS[name](), MIXERS[name]()
    again = [p.clone() for p in first.parameters()]
    torch.manual_seed(0)
    same = MIXERS[name]()
    for weight, kept, other in zip(
        same.parameters(), again, second.parameters(), strict=True
    ):
        assert torch.equal(weight, kept)  # nothing comes from what memory held
        if weight.ndim == 3:
            assert not torch.equal(weight, other)
            per_row = weight.detach().square().sum((0, 2)).mean()
            assert 0.2 < float(per_row) < 5


def test_a_layer_draws_its_random_numbers_once() -> None:
    torch.manual_seed(0)
    layer = CormorantConv(4, 4, lmax=1, lmax_in=1)
    after = torch.rand(3)
    other = CormorantConv(4, 4, lmax=1, lmax_in=1)
    torch.manual_seed(0)
    other.reset_parameters()
    assert torch.equal(torch.rand(3), after)
    for weight, expected in zip(other.parameters(), layer.parameters(), strict=True):
        assert torch.equal(weight, expected)
