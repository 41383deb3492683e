from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from torch_cormorant.errors import ConfigError
from torch_cormorant.nn import Bessel, Gaussian, PowerTrig, make_radial

R = torch.tensor([0.3, 0.9, 1.5, 2.7, 4.9], dtype=torch.float64)


@pytest.mark.parametrize("complex_", [True, False])
@pytest.mark.parametrize("basis", [(3, 3), (0, 0), (1, 4)])
def test_power_trig_is_its_formula(basis: tuple[int, int], complex_: bool) -> None:
    radial = PowerTrig(basis, complex=complex_).double()
    torch.nn.init.normal_(radial.scales)
    torch.nn.init.normal_(radial.phases)
    found = radial(R)
    count = 2 * (basis[0] + 1) * (basis[1] + 1)
    assert found.shape == (5, count)
    assert radial.out_channels == count // (2 if complex_ else 1)
    for t in range(2 * (basis[0] + 1)):
        kappa, phi = radial.scales[t], radial.phases[t]
        for p in range(basis[1] + 1):
            expected = torch.sin(2 * math.pi * kappa * R + phi) * R**-p
            column = found[:, t * (basis[1] + 1) + p]
            torch.testing.assert_close(column, expected, rtol=1e-13, atol=1e-13)


def test_power_trig_starts_as_published() -> None:
    radial = PowerTrig((3, 3))
    assert radial.scales.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    half_pi = pytest.approx(math.pi / 2)
    assert radial.phases.tolist() == [half_pi, 0, 0, 0, *[half_pi] * 4]


def test_bessel_is_its_formula() -> None:
    cutoff = 5.0
    found = Bessel(6, cutoff)(R)
    assert found.shape == (5, 6)
    for n in range(1, 7):
        expected = math.sqrt(2 / cutoff) * torch.sin(n * math.pi * R / cutoff) / R
        torch.testing.assert_close(found[:, n - 1], expected, rtol=1e-13, atol=1e-14)
    edge = Bessel(6, cutoff)(torch.tensor([cutoff], dtype=torch.float64))
    assert float(edge.abs().max()) < 1e-14


def test_gaussian_is_its_formula() -> None:
    cutoff, count = 5.0, 6
    found = Gaussian(count, cutoff)(R)
    for n, centre in enumerate(torch.linspace(0, cutoff, count, dtype=torch.float64)):
        expected = torch.exp(-((R - centre) ** 2) / 2 / (cutoff / (count - 1)) ** 2)
        torch.testing.assert_close(found[:, n], expected, rtol=1e-13, atol=1e-14)


RADIALS: dict[str, Any] = {
    "power_trig": lambda: PowerTrig((3, 3)).double(),
    "bessel": lambda: Bessel(8, 5.0),
    "gaussian": lambda: Gaussian(8, 5.0),
}


@pytest.mark.parametrize("name", list(RADIALS))
def test_zero_length_gives_zero_with_finite_derivatives(name: str) -> None:
    radial = RADIALS[name]()
    r = torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=True)
    values = radial(r)
    assert not values[0].any()
    assert values[1].any()
    (first,) = torch.autograd.grad(values.sum(), r, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), r)
    assert bool(first.isfinite().all() and second.isfinite().all())


@pytest.mark.parametrize("name", list(RADIALS))
def test_derivatives(name: str) -> None:
    radial, r = RADIALS[name](), R.clone().requires_grad_()
    assert torch.autograd.gradcheck(radial, r, atol=1e-7, rtol=1e-6)
    assert torch.autograd.gradgradcheck(radial, r, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["bessel", "gaussian"])
def test_fixed_bases_stay_bounded_at_short_range(name: str) -> None:
    r = torch.tensor([1e-8, 1e-4, 0.1], dtype=torch.float64)
    assert float(RADIALS[name]()(r).abs().max()) < 4.0
    assert not list(RADIALS[name]().parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["bessel", "gaussian"])
def test_type_of_the_result_is_that_of_the_length(
    name: str, dtype: torch.dtype
) -> None:
    assert RADIALS[name]()(R.to(dtype)).dtype == dtype


def test_bases_by_name() -> None:
    assert isinstance(make_radial("power_trig"), PowerTrig)
    assert isinstance(make_radial("bessel", cutoff=3.0), Bessel)
    gaussian = make_radial("gaussian", cutoff=3.0, num_basis=5, complex=False)
    assert isinstance(gaussian, Gaussian)
    assert gaussian.out_channels == 5
    assert "cutoff=3" in repr(gaussian)


@pytest.mark.parametrize(
    "make",
    [
        lambda: make_radial("sine"),
        lambda: make_radial("bessel"),
        lambda: Bessel(0, 5.0),
        lambda: Bessel(3, 5.0),
        lambda: Bessel(4, 0.0),
        lambda: Gaussian(4, float("inf")),
        lambda: Gaussian(-2, 5.0),
        lambda: PowerTrig((-1, 3)),
        lambda: PowerTrig((3, -1)),
    ],
)
def test_impossible_bases_are_refused(make: Any) -> None:
    with pytest.raises(ConfigError):
        make()
