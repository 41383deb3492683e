"""AdamW without what PyTorch does around its operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW

__all__ = ["OneCallAdamW"]

MOMENTS = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
"""Names of AdamW's averages; the last one is AMSGrad's."""


class OneCallAdamW(AdamW):
    """AdamW that hands its tensors to the one operator as they are.

    PyTorch's own sorts them by type and device in every step. Numbers are the same.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Take one step, as AdamW."""
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
        """Drop all gradients, or fill them by zeros."""
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
