from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from torch_cormorant.errors import ConfigError
from torch_cormorant.nn import SoftCutoff, envelope

R = torch.tensor([0.0, 0.5, 1.73, 2.0, 6.0], dtype=torch.float64)


def set_values(mask: SoftCutoff, radius: list[float], width: list[float]) -> None:
    with torch.no_grad():
        mask.radius.copy_(torch.tensor(radius))
        mask.width.copy_(torch.tensor(width))


def test_soft_mask_is_its_formula() -> None:
    mask = SoftCutoff(2).double()
    set_values(mask, [1.5, -2.0], [0.25, -0.5])
    found = mask(R)
    for channel, (radius, width) in enumerate([(1.5, 0.25), (2.0, 0.5)]):
        expected = 1 / (1 + torch.exp((R - radius) / width))
        torch.testing.assert_close(found[:, channel], expected)


def test_gaussian_mask_is_its_formula() -> None:
    mask = SoftCutoff(1, gaussian=True).double()
    set_values(mask, [1.5], [0.25])
    torch.testing.assert_close(mask(R)[:, 0], torch.exp(-((R / 1.5) ** 2)))


def test_values_below_the_clamp_act_like_the_clamp_and_get_no_gradient() -> None:
    mask = SoftCutoff(3).double()
    set_values(mask, [1e-5, 0.0, 1.0], [0.5, 0.5, -1e-9])
    found = mask(R[1:3])
    expected = torch.sigmoid((1e-3 - R[1:3]) / 0.5)
    torch.testing.assert_close(found[:, 0], expected)
    torch.testing.assert_close(found[:, 1], expected)
    found.sum().backward()
    assert mask.radius.grad is not None
    assert mask.width.grad is not None
    assert mask.radius.grad[:2].tolist() == [0, 0]
    assert mask.width.grad[2] == 0
    assert bool((mask.width.grad[:2] != 0).all())


def test_hard_cutoff_is_strict() -> None:
    mask = SoftCutoff(2, ("hard",), hard_radius=2.0).double()
    assert mask(R).tolist() == [[1, 1]] * 3 + [[0, 0]] * 2
    both = SoftCutoff(2, ("hard", "learn"), hard_radius=2.0).double()
    soft = SoftCutoff(2).double()
    assert torch.equal(both(R), soft(R) * mask(R))


@pytest.mark.parametrize(
    ("kind", "learned"),
    [
        ("soft", []),
        (("soft", "hard"), []),
        ("learn", ["radius", "width"]),
        ("learn_rad", ["radius"]),
        (("learn_width", "hard"), ["width"]),
        ("hard", []),
    ],
)
def test_kind_says_what_is_learned(kind: Any, learned: list[str]) -> None:
    mask = SoftCutoff(2, kind, hard_radius=3.0)
    found = [name for name, p in mask.named_parameters() if p.requires_grad]
    assert found == learned


def test_reset_gives_the_start_values() -> None:
    mask = SoftCutoff(2, soft_radius=2.0, soft_width=0.3)
    set_values(mask, [9.0, 9.0], [9.0, 9.0])
    mask.reset_parameters()
    assert mask.radius.tolist() == [2, 2]
    assert mask.width.tolist() == pytest.approx([0.3, 0.3])
    mask.set_channels(3)
    assert mask.radius.tolist() == [2, 2, 2]


@pytest.mark.parametrize("kind", [("no",), ("hard",), "soften"])
def test_impossible_masks_are_refused(kind: Any) -> None:
    with pytest.raises(ConfigError):
        SoftCutoff(2, kind)


# ------------------------------------------------------------------ envelope


def derivatives(length: Tensor, cutoff: float) -> tuple[Tensor, Tensor, Tensor]:
    length = length.clone().requires_grad_()
    value = envelope(length, cutoff)
    (first,) = torch.autograd.grad(value.sum(), length, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), length)
    return value.detach(), first.detach(), second


def test_envelope_is_its_polynomial() -> None:
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    expected = 1 - 10 * t**3 + 15 * t**4 - 6 * t**5
    torch.testing.assert_close(envelope(5 * t, 5.0), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("cutoff", [1.0, 5.0, 6.3])
def test_envelope_vanishes_with_two_derivatives_at_the_cutoff(
    cutoff: float, dtype: torch.dtype
) -> None:
    """One constant K bounds value, slope and curvature by K h^3, K h^2, K h."""
    wanted = torch.tensor([10.0**-k for k in range(3, 10)], dtype=torch.float64)
    length = (cutoff - wanted).to(dtype)
    # the step that the type can hold
    h = (torch.tensor(cutoff).to(dtype).double() - length.double()).clamp_min(0)
    value, first, second = derivatives(length, cutoff)
    scale = 60 / cutoff
    K = max(scale, scale / cutoff, scale / cutoff**2)
    slack = 1 + 10 * torch.finfo(dtype).eps
    # of the argument r / r_c, which rounding moves by half an ulp
    h = h + cutoff * torch.finfo(dtype).eps
    assert bool((value.double().abs() <= slack * K * h**3).all())
    assert bool((first.double().abs() <= slack * K * h**2).all())
    assert bool((second.double().abs() <= slack * K * h).all())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_envelope_is_exactly_zero_from_the_cutoff_on(dtype: torch.dtype) -> None:
    for cutoff in (1.0, 3.7, 5.0):
        edge = torch.tensor(cutoff, dtype=dtype)
        after = torch.nextafter(edge, torch.tensor(math.inf, dtype=dtype))
        length = torch.stack([edge, after, 2 * edge, 1e6 * edge])
        for part in derivatives(length, cutoff):
            assert not part.any()


def test_envelope_is_flat_at_zero() -> None:
    value, first, second = derivatives(torch.zeros(1, dtype=torch.float64), 5.0)
    found = [value.item(), first.item(), second.item()]
    assert found == pytest.approx([1, 0, 0], abs=1e-14)


@pytest.mark.parametrize("cutoff", [0.0, -1.0, math.inf, math.nan])
def test_impossible_envelopes_are_refused(cutoff: float) -> None:
    with pytest.raises(ConfigError, match="cutoff"):
        envelope(torch.ones(1), cutoff)
