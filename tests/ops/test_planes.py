"""Planes as complex numbers and back, with derivatives of any order."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from torch_cormorant.ops import planes
from torch_cormorant.ops.planes import complex_of, planes_of


def features(*, turned: bool = False) -> Tensor:
    x = torch.randn(3, 4, 2, 5, dtype=torch.float64)
    return x.transpose(0, 1) if turned else x


@pytest.mark.parametrize("turned", [False, True])
def test_both_ways_are_the_same(turned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    x = features(turned=turned).requires_grad_()
    z = complex_of(x)
    assert torch.equal(z.real, x[:, :, 0])
    assert torch.equal(z.imag, x[:, :, 1])
    assert torch.equal(planes_of(z), x)
    assert torch.equal(planes_of(z.conj())[:, :, 1], -x[:, :, 1])
    (grad,) = torch.autograd.grad(z.square().imag.sum(), x)
    monkeypatch.setattr(planes, "is_direct", lambda _: False)
    assert torch.equal(complex_of(x), z)
    assert torch.equal(planes_of(z), x)
    (other,) = torch.autograd.grad(complex_of(x).square().imag.sum(), x)
    assert torch.equal(grad, other)


def test_derivatives() -> None:
    x = features().requires_grad_()
    z = complex_of(features()).requires_grad_()
    for function, given in ((complex_of, x), (planes_of, z)):
        assert torch.autograd.gradcheck(function, given)
        assert torch.autograd.gradgradcheck(function, given)


def test_transforms_go_through() -> None:
    x = features()
    rows = torch.stack([x, 2 * x])
    assert torch.equal(torch.func.vmap(complex_of)(rows)[1], complex_of(2 * x))
    z = complex_of(x.requires_grad_())
    given = torch.stack([z.detach(), 2 * z.detach()])
    (many,) = torch.autograd.grad(z, x, given, is_grads_batched=True)
    assert torch.equal(many[1], 2 * x)
