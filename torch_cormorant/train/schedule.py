"""How the learning rate changes during a training."""

from __future__ import annotations

import math

__all__ = ["SCHEDULES", "learning_rate_factor"]

SCHEDULES = ("constant", "cosine")


def learning_rate_factor(
    step: int, total: int, schedule: str, warmup: int, final: float
) -> float:
    r"""Factor on the learning rate before optimiser step ``step``.

    Linear from ``1 / (warmup + 1)`` to 1 during warm-up, then 1 or

    .. math:: f + (1 - f) \tfrac{1}{2} (1 + \cos \pi t), \quad t \in [0, 1].

    Args:
        step: Number of steps already taken.
        total: Number of steps of the whole run.
        schedule: ``"constant"`` or ``"cosine"``.
        warmup: Number of warm-up steps.
        final: Factor ``f`` at the end of the cosine.

    Returns:
        The factor.

    Example:
        >>> [learning_rate_factor(s, 100, "cosine", 0, 0.1) for s in (0, 100)]
        [1.0, 0.1]
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule == "constant":
        return 1.0
    done = min(1.0, (step - warmup) / max(1, total - warmup))
    return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * done))
