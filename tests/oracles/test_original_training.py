"""Training runs of the published code, followed step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from torch_cormorant import Cormorant, CormorantMD17, CormorantQM9

RUNS = {"train_qm9_small_unit": CormorantQM9, "train_md17_small_solid": CormorantMD17}


def members(case: dict[str, Any], chosen: Any) -> tuple[torch.Tensor, ...]:
    """Atoms of the chosen molecules: numbers, positions, batch."""
    spans = [(case["offset"][k], case["offset"][k + 1]) for k in chosen]
    rows = np.concatenate([np.arange(*span) for span in spans])
    batch = np.repeat(np.arange(len(spans)), [b - a for a, b in spans])
    z = torch.tensor(case["z"][rows].astype(np.int64))
    return z, torch.tensor(case["pos"][rows]), torch.tensor(batch)


@pytest.mark.parametrize("backend", ["portable", "reference"])
@pytest.mark.parametrize("name", list(RUNS))
def test_training_follows_the_original_step_by_step(
    name: str, backend: str, read: Callable[[str], dict[str, Any]]
) -> None:
    case = read(name)
    config = {
        key[4:]: value.item() if value.ndim == 0 else value.tolist()
        for key, value in case.items()
        if key.startswith("cfg_")
    }
    start = {key[6:]: value for key, value in case.items() if key[:6] == "start_"}
    model = RUNS[name].from_original(start, config)
    model.set_backend(backend)
    adam = torch.optim.Adam(model.parameters(), lr=float(case["lr"]), amsgrad=True)
    target = torch.tensor((case["alpha"] - case["target_mean"]) / case["target_std"])
    losses = []
    for chosen in case["batches"]:
        out = model(*members(case, chosen)).squeeze(1)
        loss = (out - target[chosen]).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(float(loss.detach()))
    np.testing.assert_allclose(losses, case["losses"], rtol=1e-9)
    found = model.to_original()
    end = {key[4:]: value for key, value in case.items() if key[:4] == "end_"}
    fixed = {key for key in end if key.startswith("mpnn0_soft_cut")}
    assert set(found) == set(end) - fixed
    end = {key: end[key] for key in found}
    for key, expected in end.items():
        change = np.abs(expected - start[key])
        assert change.max() > 0
        error = np.abs(found[key] - expected)
        idle = idle_columns(model, key)
        assert error[..., ~idle].max() <= 1e-9 * change.max(), key
        assert error[..., idle].max(initial=0.0) <= 1e-6 * change.max(), key


def idle_columns(model: Cormorant, key: str) -> np.ndarray[Any, Any]:
    """Columns of the square that always multiply zero: (l, l) to an odd degree.

    Their gradient is rounding noise in the original, which Adam magnifies.
    """
    kind, _, rest = key.partition("_weight_l")
    count = model.to_original()[key].shape[-1]
    idle = np.zeros(count, dtype=bool)
    if kind.startswith("atom"):
        conv = model.convs[int(kind[4:])]
        ends = [path for path in conv.vertex.square_paths.paths if path[2] == int(rest)]
        dead = [l1 == l2 and l % 2 == 1 for l1, l2, l in ends]
        square = np.repeat(np.array(dead, dtype=bool), conv.in_channels)
        idle[count - len(square) :] = square
    return idle
