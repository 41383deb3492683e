"""Muon: orthogonal steps of matrices, AdamW elsewhere."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torch_cormorant import Cormorant
from torch_cormorant.errors import ConfigError, NonFiniteError
from torch_cormorant.train import Muon, PropertyRegression
from torch_cormorant.train.muon import LENGTH, orthogonal
from torch_cormorant.train.updates import adamw

SHAPES = [(16, 40), (1, 32, 17), (2, 16, 20), (64, 16), (3,), (4, 32), (), (16, 8)]
MATRICES = 4
SETTINGS = {"lr": 1e-2, "weight_decay": 0.1}


def weights(dtype: torch.dtype = torch.float64) -> list[nn.Parameter]:
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(shape, dtype=dtype)) for shape in SHAPES]


def give_gradients(ours: list[nn.Parameter], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for weight in ours:
        grad = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        weight.grad = grad.to(weight.dtype)


def steps(
    optimizer: torch.optim.Optimizer, ours: list[nn.Parameter], *seeds: int
) -> None:
    for seed in seeds:
        give_gradients(ours, seed)
        optimizer.step()


def matrix(weight: Tensor) -> Tensor:
    """Rows of the outputs; planes side by side."""
    return weight if weight.ndim == 2 else torch.cat(list(weight), 1)


def by_hand(ours: list[nn.Parameter], seeds: range) -> list[Tensor]:
    """The formula, by singular vectors."""
    made = [weight.detach().clone() for weight in ours[:MATRICES]]
    means = [torch.zeros_like(weight) for weight in made]
    for seed in seeds:
        give_gradients(ours, seed)
        for weight, mean, source in zip(made, means, ours, strict=False):
            grad = source.grad
            assert grad is not None
            mean.copy_(0.9 * mean + 0.1 * grad)
            left, _, right = torch.linalg.svd(
                matrix(0.9 * mean + 0.1 * grad), full_matrices=False
            )
            move = left @ right
            longest = max(move.shape) ** 0.5
            if weight.ndim == 3:
                move = torch.stack(move.split(weight.shape[2], 1))
            weight.mul_(1 - 1e-3).sub_(move, alpha=LENGTH * 1e-2 * longest)
    return made


def test_steps_are_those_of_the_formula() -> None:
    ours = weights()
    right = by_hand(weights(), range(4))
    steps(Muon(ours, momentum=0.9, **SETTINGS), ours, *range(4))
    for found, wanted in zip(ours, right, strict=False):
        torch.testing.assert_close(found.detach(), wanted, rtol=1e-11, atol=1e-11)


def test_the_rest_is_adamw() -> None:
    ours, plain = weights(), weights()
    steps(adamw(ours, Muon, **SETTINGS), ours, *range(4))
    steps(torch.optim.AdamW(plain, **SETTINGS), plain, *range(4))
    for found, wanted in zip(ours[MATRICES:], plain[MATRICES:], strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-13, atol=1e-13)
    assert all(
        not torch.allclose(a, b)
        for a, b in zip(ours[:MATRICES], plain[:MATRICES], strict=True)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_loaded_state_goes_on_bit_by_bit(dtype: torch.dtype) -> None:
    ours, again = weights(dtype), weights(dtype)
    first = adamw(ours, Muon, **SETTINGS)
    steps(first, ours, 0, 1, 2, 3)
    half = adamw(again, Muon, **SETTINGS)
    steps(half, again, 0, 1)
    rest = adamw(again, Muon, **SETTINGS)
    rest.load_state_dict(copy.deepcopy(half.state_dict()))
    steps(rest, again, 2, 3)
    assert all(torch.equal(a, b) for a, b in zip(ours, again, strict=True))


def test_size_of_gradients_does_not_count() -> None:
    torch.manual_seed(0)
    given = torch.randn(2, 16, 33)
    small = orthogonal([given, 1e-12 * given])
    torch.testing.assert_close(small[1], small[0], rtol=1e-3, atol=1e-5)


def test_zero_and_missing_gradients_move_nothing() -> None:
    ours = weights()
    before = [weight.detach().clone() for weight in ours]
    optimizer = Muon(ours, lr=1e-2, weight_decay=0.0)
    optimizer.step()
    for weight in ours:
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, ours, strict=True))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_gradients_that_are_not_finite_are_refused(value: float) -> None:
    ours = weights(torch.float32)
    give_gradients(ours, 0)
    assert ours[0].grad is not None
    ours[0].grad[3, 3] = value
    with pytest.raises(NonFiniteError, match="gradient of a weight"):
        Muon(ours, lr=1e-2).step()


def test_a_closure_sees_all_weights() -> None:
    ours, again = weights(), weights()
    optimizer, other = Muon(ours, lr=1e-2), Muon(again, lr=1e-2)
    for seed in range(3):

        def closure(seed: int = seed) -> int:
            optimizer.zero_grad()
            assert torch.is_grad_enabled()
            assert all(weight.grad is None for weight in ours)
            give_gradients(ours, seed)
            return seed

        assert optimizer.step(closure) == seed
    steps(other, again, 0, 1, 2)
    assert all(torch.equal(a, b) for a, b in zip(ours, again, strict=True))


def module(**options: Any) -> PropertyRegression:
    torch.manual_seed(0)
    model = Cormorant(species=(1, 6), channels=16, num_levels=1)
    return PropertyRegression(model, 0.0, 1.0, **options)


def test_rates_of_parts_hold_for_both_kinds() -> None:
    made = module(optimizer="muon", rates={"convs": 0.1}, lr=1e-2)
    optimizer: Any = made.configure_optimizers()
    found = {
        (group["matrices"], round(group["lr"], 6))
        for group in optimizer["optimizer"].param_groups
    }
    assert found == {(True, 1e-3), (False, 1e-3), (True, 1e-2), (False, 1e-2)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "sgd"}, r"optimizer: 'sgd' is not one of"),
        ({"momentum": 1.0}, r"momentum, weight_decay: 0.0, 1.0, 0.0; expected 0 to"),
    ],
)
def test_what_is_unknown_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        module(**options)
    with pytest.raises(ConfigError, match="is not captured"):
        module(optimizer="muon").capture(object())
