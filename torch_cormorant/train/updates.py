"""What a step does to weights, in few calls: optimiser, clipping, averages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW

__all__ = ["adamw", "clip_to", "gradient_norm", "move_averages"]


MOMENTS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
"""Names of AdamW's averages; the last one is AMSGrad's."""


def adamw(
    parameters: Iterable[Tensor] | Iterable[dict[str, Any]], **settings: Any
) -> AdamW:
    """AdamW, on CPUs as one operator for all weights.

    Its state is that of the plain one, so either goes on from the other's checkpoint;
    a loaded state goes on as it was made.

    Args:
        parameters: The weights, or groups of them as torch takes them.
        **settings: As :class:`torch.optim.AdamW`.

    Example:
        >>> adamw([torch.zeros(2, requires_grad=True)], lr=1e-3).defaults["fused"]
        True
    """
    given: list[Any] = list(parameters)
    groups = [one["params"] if isinstance(one, dict) else [one] for one in given]
    # On a GPU torch chooses; one operator there excludes clipping in mixed precision.
    fused = all(
        w.device.type == "cpu" and w.is_floating_point()
        for group in groups
        for w in group
    )
    return (
        _OneCall(given, fused=True, **settings) if fused else AdamW(given, **settings)
    )


class _OneCall(AdamW):
    """AdamW that hands its tensors to the one operator as they are.

    PyTorch's own sorts them by type and device in every step. Numbers are the same.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        scaled = getattr(self, "found_inf", None) is not None
        if scaled or not all(group["fused"] for group in self.param_groups):
            return super().step(closure)  # of mixed precision, or of a loaded state
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [w for w in group["params"] if w.grad is not None]
            moments = [*MOMENTS[: 2 + group["amsgrad"]]]
            states = [self._state_of(weight, moments) for weight in weights]
            for dtype in {w.dtype for w in weights}:
                rows = zip(weights, states, strict=True)
                self._move([row for row in rows if row[0].dtype == dtype], group)
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        if not set_to_none:
            super().zero_grad(set_to_none=False)
            return
        for group in self.param_groups:
            for weight in group["params"]:
                weight.grad = None

    def _move(self, rows: Any, group: dict[str, Any]) -> None:
        """Move weights of one type, given with their states."""
        weights, states = zip(*rows, strict=True)
        steps = [state["step"] for state in states]
        first, second, largest = (
            [state[name] for state in states if name in state] for name in MOMENTS
        )
        torch._foreach_add_(steps, 1)
        torch._fused_adamw_(
            weights,
            [weight.grad for weight in weights],
            first,
            second,
            largest,
            steps,
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=group["amsgrad"],
            maximize=group["maximize"],
        )

    def _state_of(self, weight: Tensor, moments: Sequence[str]) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[weight]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            for name in moments:
                state[name] = torch.zeros_like(weight)
        return state


def gradients(parameters: Iterable[Tensor]) -> list[Tensor]:
    """The gradients that are there."""
    return [p.grad for p in parameters if p.grad is not None]


@torch.no_grad()
def gradient_norm(parameters: Iterable[Tensor]) -> Tensor:
    """Length of all gradients together, float64; finite where all of them are.

    Args:
        parameters: The weights; those without a gradient are left out.

    Returns:
        A scalar; 0 without gradients.

    Example:
        >>> weight = torch.zeros(2, requires_grad=True)
        >>> weight.grad = torch.tensor([3.0, 4.0])
        >>> gradient_norm([weight])
        tensor(5., dtype=torch.float64)
    """
    return _length(gradients(parameters))


def _length(vectors: Sequence[Tensor]) -> Tensor:
    if not vectors:
        return torch.zeros((), dtype=torch.float64)
    rows = [torch.view_as_real(v) if v.is_complex() else v for v in vectors]
    whole = torch.cat([row.flatten() for row in rows])
    norm: Tensor = torch.linalg.vector_norm(whole, dtype=torch.float64)
    return norm


@torch.no_grad()
def clip_to(parameters: Iterable[Tensor], limit: float) -> None:
    """Scale gradients in place so that their norm is at most a limit.

    Args:
        parameters: The weights.
        limit: Largest norm.

    Example:
        >>> weight = torch.zeros(2, requires_grad=True)
        >>> weight.grad = torch.tensor([3.0, 4.0])
        >>> clip_to([weight], 1.0)
        >>> weight.grad
        tensor([0.6000, 0.8000])
    """
    found = gradients(parameters)
    if found:
        # The small number is that of torch.nn.utils.clip_grad_norm_.
        factor = (limit / (_length(found) + 1e-6)).clamp(max=1.0)
        if factor.is_cpu and factor == 1:  # elsewhere multiplied by 1: nobody waits
            return
        for dtype in {x.dtype for x in found}:  # of one type: one pass
            same = [x for x in found if x.dtype == dtype]
            torch._foreach_mul_(same, factor.to(dtype))


@torch.no_grad()
def move_averages(
    means: Iterable[Tensor], weights: Iterable[Tensor], share: float
) -> None:
    """Move averages in place towards weights.

    Args:
        means: The averages.
        weights: As many, each of the same shape.
        share: Of the weights in the new average.

    Example:
        >>> mean = torch.zeros(2)
        >>> move_averages([mean], [torch.ones(2)], 0.25)
        >>> mean
        tensor([0.2500, 0.2500])
    """
    torch._foreach_lerp_(list(means), list(weights), share)
