"""Steps in few calls are those of PyTorch's own."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from torch_cormorant.train.updates import (
    adamw,
    clip_to,
    gradient_norm,
    move_averages,
)

SETTINGS = {"lr": 1e-2, "amsgrad": True, "weight_decay": 0.1}


def weights(dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    torch.manual_seed(0)
    shapes = [(3,), (17, 5), (), (1, 2, 33), (0, 4)]
    return [nn.Parameter(torch.randn(shape, dtype=dtype)) for shape in shapes]


def give_gradients(ours: list[nn.Parameter], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for weight in ours:
        grad = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        weight.grad = grad.to(weight.dtype)


def stepped(optimizer: torch.optim.Optimizer, ours: list[nn.Parameter]) -> None:
    for seed in range(5):
        give_gradients(ours, seed)
        if seed == 2:
            ours[1].grad = None
        optimizer.step()


def flat(values: list[nn.Parameter]) -> Tensor:
    return torch.cat([value.detach().flatten() for value in values])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_optimiser_is_adamw(dtype: torch.dtype) -> None:
    ours, plain, again = weights(dtype), weights(dtype), weights(dtype)
    for kept, optimizer in (
        (ours, adamw(ours, **SETTINGS)),
        (again, adamw(again, **SETTINGS)),
        (plain, torch.optim.AdamW(plain, **SETTINGS)),
    ):
        stepped(optimizer, kept)
    tolerance = 20 * torch.finfo(dtype).eps
    torch.testing.assert_close(flat(ours), flat(plain), rtol=tolerance, atol=tolerance)
    assert torch.equal(flat(ours), flat(again))


@pytest.mark.parametrize("first", ["fused", "plain"])
@pytest.mark.parametrize("then", ["fused", "plain"])
def test_either_optimiser_goes_on_from_the_other(first: str, then: str) -> None:
    makers = {"fused": adamw, "plain": torch.optim.AdamW}
    ours = weights()
    whole = makers[first](ours, **SETTINGS)
    stepped(whole, ours)
    state = copy.deepcopy(whole.state_dict())
    theirs = [nn.Parameter(weight.detach().clone()) for weight in ours]
    stepped(whole, ours)
    resumed = makers[then](theirs, **SETTINGS)
    resumed.load_state_dict(state)
    stepped(resumed, theirs)
    # as it was made, so bit by bit
    assert torch.equal(flat(ours), flat(theirs))
    assert state["state"].keys() == resumed.state_dict()["state"].keys()


@pytest.mark.parametrize("amsgrad", [True, False])
def test_one_call_is_the_operator_of_torch_bit_by_bit(amsgrad: bool) -> None:
    kept = []
    for make in (adamw, torch.optim.AdamW):
        ours = [*weights(), *weights(torch.float64)]
        groups = [{"params": ours[:3], "lr": 0.1}, {"params": ours[3:]}]
        settings = {**SETTINGS, "amsgrad": amsgrad}
        options = {} if make is adamw else {"fused": True}
        optimizer = make(groups, **settings, **options)
        seen: list[int] = []
        optimizer.register_step_post_hook(lambda *_, seen=seen: seen.append(1))
        stepped(optimizer, ours)
        give_gradients(ours, 7)
        assert optimizer.step(torch.is_grad_enabled) is True
        assert len(seen) == 6
        optimizer.zero_grad(set_to_none=False)
        assert not gradient_norm(ours)
        optimizer.zero_grad()
        assert all(weight.grad is None for weight in ours)
        state = optimizer.state_dict()["state"]
        kept.append([*ours, *(v for one in state.values() for v in one.values())])
        assert (
            list(state[0])
            == ["step", "exp_avg", "exp_avg_sq"] + ["max_exp_avg_sq"] * amsgrad
        )
    assert all(map(torch.equal, *kept))


def test_complex_weights_have_the_plain_optimiser() -> None:
    weight = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    assert not adamw([weight], lr=1e-3).defaults["fused"]


@pytest.mark.parametrize("limit", [1e-3, 1e3])
def test_clipping_is_that_of_torch(limit: float) -> None:
    ours, plain = weights(), weights()
    give_gradients(ours, 0)
    give_gradients(plain, 0)
    norm = gradient_norm(ours)
    expected = nn.utils.clip_grad_norm_(plain, limit)
    torch.testing.assert_close(norm.float(), expected)
    before = [weight.grad.clone() for weight in ours if weight.grad is not None]
    clip_to(ours, limit)
    for weight, other, old in zip(ours, plain, before, strict=True):
        torch.testing.assert_close(weight.grad, other.grad)
        assert limit < 1 or torch.equal(weight.grad, old)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_norm_sees_what_is_not_finite(bad: float) -> None:
    ours = weights()
    give_gradients(ours, 0)
    assert gradient_norm(ours).isfinite()
    assert ours[3].grad is not None
    ours[3].grad[0, 1, 7] = bad
    assert not gradient_norm(ours).isfinite()
    assert gradient_norm(weights()) == 0


def test_large_gradients_are_clipped_and_not_lost() -> None:
    weight = nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([3e30, 4e30])
    clip_to([weight], 1.0)
    torch.testing.assert_close(weight.grad, torch.tensor([0.6, 0.8]))


def test_averages_are_those_of_every_tensor() -> None:
    means, ours = weights(), weights()
    give_gradients(ours, 3)
    moved = [weight.grad for weight in ours if weight.grad is not None]
    expected = [
        torch.lerp(mean.detach(), new, 0.3)
        for mean, new in zip(means, moved, strict=True)
    ]
    move_averages([mean.detach() for mean in means], moved, 0.3)
    assert all(map(torch.equal, [mean.detach() for mean in means], expected))
