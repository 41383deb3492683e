"""What a step does to weights, in few calls: optimiser, clipping, averages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from torch_cormorant.train.adamw import OneCallAdamW
from torch_cormorant.train.muon import Muon

__all__ = ["OPTIMIZERS", "adamw", "clip_to", "gradient_norm", "move_averages"]

OPTIMIZERS: dict[str, type[OneCallAdamW]] = {"adam": OneCallAdamW, "muon": Muon}
"""By the names that trainings take."""


def adamw(
    parameters: Iterable[Tensor] | Iterable[dict[str, Any]],
    kind: type[OneCallAdamW] = OneCallAdamW,
    **settings: Any,
) -> OneCallAdamW:
    """AdamW, on CPUs as one operator for all weights.

    Its state is that of the plain one, so either goes on from the other's checkpoint;
    a loaded state goes on as it was made.

    Args:
        parameters: The weights, or groups of them as torch takes them.
        kind: The class, such as :class:`~torch_cormorant.train.Muon`. Default AdamW.
        **settings: Of the class.

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
    return kind(given, fused=fused or None, **settings)


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
