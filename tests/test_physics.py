"""Multipoles against direct Coulomb sums, Cartesian formulas and sympy."""

from __future__ import annotations

import itertools
import math

import pytest
import sympy
import torch
from torch import Tensor

from torch_cormorant.errors import ConfigError, DegreeError, ShapeError
from torch_cormorant.physics import (
    cartesian_to_spherical,
    dipole_dipole_energy,
    multipole_energy,
    multipole_moments,
    spherical_to_cartesian,
)
from torch_cormorant.so3 import spherical_harmonics, wigner_D
from torch_cormorant.so3.rotations import random_rotation

AWAY = torch.tensor([[2.0, -5.0, 4.0]], dtype=torch.float64)


def cloud(n: int = 6) -> tuple[Tensor, Tensor]:
    q = torch.randn(n, dtype=torch.float64)
    return q, 0.25 * torch.randn(n, 3, dtype=torch.float64)


def direct(qa: Tensor, ra: Tensor, qb: Tensor, rb: Tensor, vector: Tensor) -> Tensor:
    """Coulomb's sum, A at the vector from B."""
    apart = ra[:, None] + vector - rb[None]
    return (qa[:, None] * qb[None] / apart.norm(dim=-1)).sum()


def test_the_expansion_is_the_coulomb_sum() -> None:
    (qa, ra), (qb, rb) = cloud(), cloud()
    a, b = multipole_moments(qa, ra, 8), multipole_moments(qb, rb, 8)
    expected = direct(qa, ra, qb, rb, AWAY[0])
    errors = [
        abs(float(multipole_energy(a, b, AWAY, top)[0] / expected) - 1)
        for top in range(9)
    ]
    assert errors[8] < 1e-8
    assert errors[8] < 1e-2 * errors[4] < 1e-4 * errors[0]


def test_without_the_sign_it_is_not() -> None:
    """Eq. (6) as printed: odd moments of A would change their sign."""
    (qa, ra), (qb, rb) = cloud(), cloud()
    a, b = multipole_moments(qa, ra, 4), multipole_moments(qb, rb, 4)
    printed = torch.cat([(-1) ** l * a[:, l * l : (l + 1) ** 2] for l in range(5)], 1)
    expected = direct(qa, ra, qb, rb, AWAY[0])
    assert abs(float(multipole_energy(printed, b, AWAY)[0] / expected) - 1) > 1e-2


def test_two_dipoles_and_two_quadrupoles() -> None:
    mu = torch.randn(2, 1, 3, dtype=torch.float64)
    a, b = (torch.nn.functional.pad(cartesian_to_spherical(m, 1), (1, 0)) for m in mu)
    expected = dipole_dipole_energy(mu[0], mu[1], AWAY)
    assert torch.allclose(multipole_energy(a, b, AWAY), expected, rtol=1e-13)
    tensors = torch.randn(2, 3, 3, dtype=torch.float64)
    q = [cartesian_to_spherical(t, 2)[None] for t in tensors]
    rows = [torch.nn.functional.pad(part, (4, 0)) for part in q]
    # -T1_ij T2_kl d_i d_j d_k d_l / 4 of 1/R, by automatic derivatives
    first, second = (spherical_to_cartesian(part[0], 2) for part in q)

    def contracted(r: Tensor) -> Tensor:
        slopes = torch.autograd.functional.hessian(
            lambda s: 1 / s.norm(), r, create_graph=True
        )
        return (first * slopes).sum() / 2

    outer = torch.autograd.functional.hessian(contracted, AWAY[0])
    found = multipole_energy(rows[0], rows[1], AWAY)[0]
    assert torch.allclose(found, (second * outer).sum() / 2, rtol=1e-10)


@pytest.mark.parametrize("l", range(5))
def test_cartesian_tensors_there_and_back(l: int) -> None:
    q, r = cloud()
    power = torch.ones(len(q), dtype=torch.float64)
    for _ in range(l):
        power = power[..., None] * r.view(len(q), *[1] * (power.ndim - 1), 3)
    moment = torch.tensordot(q, power, 1)
    expected = multipole_moments(q, r, l)[0, l * l :]
    found = cartesian_to_spherical(moment, l)
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-15)
    tensor = spherical_to_cartesian(found, l)
    assert torch.allclose(cartesian_to_spherical(tensor, l), found, rtol=1e-12)
    for order in itertools.permutations(range(l)):
        assert torch.allclose(tensor.permute(order), tensor, atol=1e-14)
    if l > 1:
        assert float(tensor.diagonal(dim1=0, dim2=1).sum(-1).abs().max()) < 1e-13
    if l == 2:
        trace = torch.eye(3) * moment.diagonal().sum() / 3
        assert torch.allclose(tensor, moment - trace, atol=1e-14)


def test_tensors_are_those_of_sympy() -> None:
    """Real harmonics of sympy, Condon-Shortley sign taken away, as polynomials."""
    r = torch.tensor([0.3, -0.5, 0.7], dtype=torch.float64)
    x, y, z = (float(v) for v in r)
    theta, phi = math.acos(z / float(r.norm())), math.atan2(y, x)
    for l in range(5):
        power = torch.ones((), dtype=torch.float64)
        for _ in range(l):
            power = power[..., None] * r
        found = cartesian_to_spherical(power, l) / float(r.norm()) ** l
        for m in range(-l, l + 1):
            value = sympy.Znm(l, m, theta, phi).expand(func=True).evalf()
            sign = -1 if m < 0 else (-1) ** m  # Im Y_(l,-|m|) there
            expected = sign * float(sympy.re(value))
            expected *= math.sqrt(4 * math.pi / (2 * l + 1))
            number = float(found[l + m])
            assert math.isclose(number, expected, rel_tol=1e-9, abs_tol=1e-12), (l, m)


def test_one_charge_is_the_series_of_legendre() -> None:
    """1 / |R - r| = sum r^l / R^(l + 1) P_l(cos), term by term, by sympy."""
    r = torch.tensor([[0.2, 0.1, -0.3]], dtype=torch.float64)
    one = torch.ones(1, dtype=torch.float64)
    b = multipole_moments(one, r, 8)
    cosine = float((AWAY * r).sum() / AWAY.norm() / r.norm())
    for l in range(9):
        single = torch.zeros_like(b)
        single[:, l * l : (l + 1) ** 2] = b[:, l * l : (l + 1) ** 2]
        found = float(multipole_energy(one[:, None], single, AWAY)[0])
        size = float(r.norm()) ** l / float(AWAY.norm()) ** (l + 1)
        expected = size * float(sympy.legendre(l, cosine))
        assert math.isclose(found, expected, rel_tol=1e-10)


def test_moments_turn_and_clouds_are_apart() -> None:
    q, r = cloud(7)
    batch = torch.tensor([0, 0, 1, 1, 1, 0, 1])
    both = multipole_moments(q, r, 3, batch)
    for k in (0, 1):
        alone = multipole_moments(q[batch == k], r[batch == k], 3)
        assert torch.allclose(both[k], alone[0])
    R = random_rotation()
    turned = multipole_moments(q, r @ R.T, 3, batch)
    assert torch.allclose(turned, both @ wigner_D(R, 3).T, atol=1e-13)
    a, b = both[:1], both[1:]
    energy = multipole_energy(a, b, AWAY)
    moved = multipole_energy(turned[:1], turned[1:], AWAY @ R.T)
    assert torch.allclose(moved, energy, rtol=1e-12)
    assert torch.allclose(multipole_energy(b, a, -AWAY), energy, rtol=1e-12)
    assert spherical_harmonics(r, 3).shape == (7, 16)


def test_what_does_not_fit_is_refused() -> None:
    q, r = cloud()
    with pytest.raises(ShapeError, match="charges and pos"):
        multipole_moments(q[1:], r, 2)
    with pytest.raises(ShapeError, match="ends in 2 axes of 3"):
        cartesian_to_spherical(torch.ones(3, 2), 2)
    with pytest.raises(ShapeError, match="must end in 5"):
        spherical_to_cartesian(torch.ones(3), 2)
    a = multipole_moments(q, r, 2)
    with pytest.raises(DegreeError, match="0 to 8"):
        multipole_energy(a, a, AWAY, 9)
    with pytest.raises(ShapeError, match="a, b and vector"):
        multipole_energy(a, a, r)
    with pytest.raises(ConfigError, match="same place"):
        dipole_dipole_energy(r, r, 0 * r)
