"""Values as QM9 prints them, for ``cormorant predict --totals``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_cormorant.data import QM9_TARGETS, atom_reference_sums, unit_factor
from torch_cormorant.errors import ConfigError
from torch_cormorant.models.loading import Loaded

__all__ = ["with_references"]


def with_references(model: Loaded, frames: Sequence[Data], values: Tensor) -> Tensor:
    """Predictions ``[n, T]`` with what the labels of the training had subtracted.

    Those are the free atoms' ``zpve``, ``U0``, ``U``, ``H``, ``G`` and ``Cv``.

    Args:
        model: Tells what it was trained on, names and units.
        frames: The structures.
        values: What is predicted for them.

    Raises:
        ConfigError: The model was trained on something else.
    """
    info = model.info
    data = info.training.get("data", {})
    known = [QM9_TARGETS.get(name) for name in info.targets]
    if data.get("name") != "QM9" or not any(one and one.reference for one in known):
        raise ConfigError(
            f"--totals: {', '.join(info.targets)} of {data.get('name', 'its training')}"
            " had no references of QM9's atoms subtracted; leave it out"
        )
    z = np.concatenate([np.asarray(frame.z) for frame in frames])
    offset = np.cumsum([0, *(len(frame.z) for frame in frames)])
    columns = values.double().unbind(1)
    whole = [
        column
        if one is None or one.reference is None
        else column
        + one.factor
        * (1.0 if unit == one.unit else unit_factor(one.unit, unit))
        * torch.from_numpy(atom_reference_sums(z, offset, one.reference))
        for one, unit, column in zip(known, info.units, columns, strict=True)
    ]
    return torch.stack(whole, dim=1)
