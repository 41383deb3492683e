"""Means over the rows of batches, and the weights of the rows."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch import Tensor
from torchmetrics import MeanMetric

__all__ = ["Rows", "mean_metric", "row_means", "weights_of"]

Rows: TypeAlias = dict[str, tuple[Tensor, Tensor]]
"""Errors of molecules or atoms ``[n]`` by name, each with their weights ``[n]``."""


def row_means(values: Tensor) -> Tensor:
    """Mean over all components of every row ``[n]``."""
    return values[:, None].flatten(1).mean(dim=1)


def weights_of(batch: Any) -> Tensor:
    """Weight of every molecule ``[B]``: zero for one that only fills up a batch."""
    weights: Tensor | None = getattr(batch, "weight", None)
    if weights is None:
        return torch.ones(batch.num_graphs, dtype=torch.float64, device=batch.z.device)
    return weights.view(-1)


class _Mean(MeanMetric):
    """Stays in double precision when it is moved to a device, and adds in few calls."""

    def update(self, value: Any, weight: Any = 1.0) -> None:
        """Add values with their weights; those that are NaN are left out."""
        like = self.mean_value
        value, weight = (
            torch.as_tensor(x, dtype=like.dtype, device=like.device)
            for x in (value, weight)
        )
        weight = weight.expand(value.shape)
        kept = ~(value.isnan() | weight.isnan())
        self.mean_value += torch.where(kept, value * weight, 0.0).sum()
        self.weight += torch.where(kept, weight, 0.0).sum()

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        moved: Any = super()._apply(*args, **kwargs)
        # torchmetrics 1.9 falls back to the default type, in which it then adds.
        moved._dtype = moved.mean_value.dtype  # noqa: SLF001
        return moved


def mean_metric() -> MeanMetric:
    """A weighted mean in float64 that a checkpoint in mid-epoch keeps."""
    # Not "disable": torchmetrics 1.9 then leaves the weights out.
    metric = _Mean(nan_strategy="ignore")
    metric.set_dtype(torch.float64)
    metric.persistent(True)
    return metric
