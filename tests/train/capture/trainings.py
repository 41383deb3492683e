"""Small trainings for captured steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torch_cormorant import Cormorant
from torch_cormorant.data import MiniEthanol
from torch_cormorant.train import (
    PotentialRegression,
    PropertyRegression,
    potential_normalisation,
)

ALL = float("inf")
SMALL: dict[str, Any] = {"channels": 4, "num_levels": 2, "lmax": 2, "hidden": 8}


def property_module(**training: Any) -> PropertyRegression:
    torch.manual_seed(3)
    model = Cormorant((1, 6, 7, 8, 9), **SMALL).double()
    options = {"lr": 5e-3, "schedule": "cosine", "warmup_steps": 3, "ema_decay": 0.9}
    units = {"atom_values": {1: 0.5, 6: -1.0}}
    return PropertyRegression(model, -1.0, 2.0, **units, **{**options, **training})


def potential_module(**training: Any) -> PotentialRegression:
    torch.manual_seed(3)
    model = Cormorant.potential((1, 6, 8), **SMALL).double()
    units = potential_normalisation(MiniEthanol()[:40])
    return PotentialRegression(model, units, lr=5e-3, **training)


def weights(module: Any) -> list[Tensor]:
    found = [p.detach().cpu() for p in module.model.parameters()]
    if module.averaged is not None:
        found += [p.detach().cpu() for p in module.averaged.parameters()]
    return found


def agree(one: Any, two: Any, tolerance: float) -> None:
    for left, right in zip(weights(one), weights(two), strict=True):
        torch.testing.assert_close(left, right, rtol=tolerance, atol=tolerance)
