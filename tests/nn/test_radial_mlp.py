"""Bases, envelopes and MLPs of distances."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from torch_cormorant import CormorantConv, radius_graph
from torch_cormorant.errors import ConfigError
from torch_cormorant.nn import (
    MLP,
    BesselBasis,
    Envelope,
    GaussianBasis,
    RadialMLP,
    Softplus,
    activation,
    make_radial,
    moment_factor,
)
from torch_cormorant.nn import envelope as c2_envelope
from torch_cormorant.nn.envelopes import ENVELOPES
from torch_cormorant.ops.radial_basis import bessel, gaussian
from torch_cormorant.testing import random_molecule

R = torch.linspace(0, 4, 41, dtype=torch.float64)


def test_bases_start_as_the_fixed_ones() -> None:
    found = BesselBasis(6, 3.0).double()(R) * math.sqrt(2 / 3.0)
    assert torch.allclose(found, bessel(R, 6, 3.0), atol=1e-6)
    found = GaussianBasis(7, 3.0).double()(R)
    assert torch.allclose(found, gaussian(R, 7, 3.0), atol=1e-6)


@pytest.mark.parametrize("kind", [BesselBasis, GaussianBasis])
def test_bases_are_weights_or_buffers(kind: type) -> None:
    fixed, learned = kind(5, 3.0), kind(5, 3.0, trainable=True)
    assert not list(fixed.parameters())
    assert [*fixed.state_dict()] == [*dict(learned.named_parameters())]
    length = torch.rand(4, dtype=torch.float64) + 0.5
    learned.double()(length).sum().backward()
    assert all(bool(p.grad.abs().max() > 0) for p in learned.parameters())
    with torch.no_grad():
        for p in learned.parameters():
            p.fill_(9.0)
    learned.reset_parameters()
    assert torch.equal(learned.float()(length.float()), fixed(length.float()))


def test_a_trainable_basis_goes_into_cormorant() -> None:
    radial = {"kind": "bessel_basis", "trainable": True}
    conv = CormorantConv(3, 3, lmax=1, radial=radial, cutoff=3.0)
    assert "edge_network.radial.frequencies" in dict(conv.named_parameters())
    _, pos = random_molecule(5, dtype=torch.float32)
    conv(torch.randn(5, 3), radius_graph(pos, 3.0, loop=True), pos=pos).sum().backward()
    assert make_radial("gaussian_basis", complex=False, cutoff=2.0).cutoff == 2.0


@pytest.mark.parametrize("kind", ENVELOPES)
def test_envelopes_fall_from_one_to_zero(kind: str) -> None:
    u = Envelope(kind, 3.0).double()
    values = u(R)
    assert abs(values[0] - 1) < 1e-15
    assert bool((values.diff()[R[1:] < 3] < 0).all())
    assert not values[R >= 3].any()
    near = torch.tensor([3 - 1e-4], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(u, R[(R > 0) & (R != 3)].clone().requires_grad_())
    (slope,) = torch.autograd.grad(u(near).sum(), near)
    assert abs(float(slope)) < 1e-3


def test_the_polynomial_of_power_three_is_the_envelope_of_cormorant() -> None:
    found = Envelope("polynomial", 3.0, power=3)(R)
    assert torch.allclose(found, c2_envelope(R, 3.0), atol=1e-14)


@pytest.mark.parametrize("kind", ENVELOPES)
def test_far_edges_have_finite_slopes(kind: str) -> None:
    r = torch.tensor([3.0, 50.0], requires_grad=True)
    (slope,) = torch.autograd.grad(Envelope(kind, 3.0, power=60)(r).sum(), r)
    assert not slope.any()


def test_wrong_envelopes_are_refused() -> None:
    with pytest.raises(ConfigError, match="must be one of"):
        Envelope("gaussian", 3.0)
    with pytest.raises(ConfigError, match="power must be at least 2"):
        Envelope("polynomial", 3.0, power=1)
    with pytest.raises(ConfigError, match="positive number of Angstrom"):
        Envelope("cosine", -3.0)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("basis", [BesselBasis(5, 3.0), GaussianBasis(5, 3.0)])
def test_weights_of_edges_vanish_at_the_cutoff(
    inside: bool, basis: BesselBasis | GaussianBasis
) -> None:
    envelope = Envelope("cosine", 3.0)
    radial = RadialMLP(
        basis, [6], 4, envelope=envelope, inside=inside, bias=not inside
    ).double()
    values = radial(R)
    assert tuple(values.shape) == (41, 4)
    assert not values[R >= 3].any()
    assert bool(values[R < 2.9][1:].abs().min(1).values.gt(0).all())
    assert torch.autograd.gradgradcheck(radial, R[5:8].clone().requires_grad_())


def test_an_envelope_that_biases_would_undo_is_refused() -> None:
    envelope = Envelope("cosine", 3.0)
    with pytest.raises(ConfigError, match="does not reach its result"):
        RadialMLP(BesselBasis(), [4], 3, bias=True, envelope=envelope, inside=True)


def test_mlps_keep_the_size_of_what_passes() -> None:
    for act in ("silu", "tanh", "relu"):
        y: Tensor = MLP([64, 64, 64, 64], act)(torch.randn(2000, 64))
        assert 0.1 < float(y.detach().square().mean()) < 3
    assert MLP([3, 4, 2])(torch.zeros(1, 3)).abs().max() == 0
    assert isinstance(MLP([3, 4, 2], "ssp", bias=True)[0], nn.Linear)
    with pytest.raises(ConfigError, match="two or more"):
        MLP([3])


@pytest.mark.parametrize("name", ["silu", "tanh", "sigmoid", "relu", "ssp"])
def test_constants_keep_the_second_moment(name: str) -> None:
    z = torch.linspace(-12, 12, 20001, dtype=torch.float64)
    weights = torch.exp(-0.5 * z.square())
    values = activation(name)(z).square()
    expected = (weights.sum() / (weights * values).sum()).sqrt()
    assert moment_factor(name) == pytest.approx(float(expected), rel=1e-7)
    assert moment_factor(name, "e3nn") == pytest.approx(float(expected), rel=2e-3)


@pytest.mark.parametrize("shifted", [False, True])
def test_softplus_of_any_sharpness(shifted: bool) -> None:
    act, x = Softplus(5.0, shifted=shifted), torch.linspace(-3, 9, 25).double()
    bend = torch.log1p(torch.exp(-5 * x.abs())) / 5 + x.clamp_min(0)
    expected = act.factor * (bend - shifted * math.log(2) / 5)
    assert torch.allclose(act(x), expected, atol=1e-8)
    z = torch.randn(400000, dtype=torch.float64)
    assert float(act(z).square().mean()) == pytest.approx(1, abs=0.02)
    with pytest.raises(ConfigError, match="beta must be positive"):
        Softplus(0.0)


@pytest.mark.parametrize("basis", ["cosine_basis", "cut_bessel_basis", "e3nn_basis"])
def test_bases_of_other_networks_are_zero_at_zero(basis: str) -> None:
    made = make_radial(basis, num_basis=6, cutoff=3.0, complex=False)
    r = R.clone().requires_grad_()
    values = made(r)
    (slope,) = torch.autograd.grad(values.square().sum(), r)
    assert not values[0].any()
    assert bool(slope.isfinite().all())
    assert bool(values[1:25].abs().amax(1).gt(0.1).all())


def test_the_cosine_basis_is_a_partition_of_one() -> None:
    inside = R[(R > 0) & (R <= 3)]
    values = make_radial("cosine_basis", num_basis=5, cutoff=3.0, complex=False)(inside)
    assert torch.allclose(values.sum(1), torch.ones_like(inside), atol=1e-15)
    with pytest.raises(ConfigError, match="num_basis must be at least 2"):
        make_radial("cosine_basis", num_basis=1, cutoff=3.0, complex=False)
    with pytest.raises(ConfigError, match="shape must be one of"):
        make_radial({"kind": "e3nn_basis", "shape": "box"}, cutoff=3.0, complex=False)


def test_a_bias_is_one_more_column_of_the_halves() -> None:
    envelope, basis = Envelope("cosine", 3.0), GaussianBasis(5, 3.0)
    radial = RadialMLP(basis, [6], 4, envelope=envelope, bias=True).double()
    nn.init.normal_(radial.mlp.linears[-1].bias)
    hidden, last = radial.halves(R)
    assert tuple(last.shape) == (7, 4)
    assert torch.allclose(hidden @ last, radial(R), atol=1e-14)
