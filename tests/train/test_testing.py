"""``trainer.test`` of the modules."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from torch_cormorant import Cormorant
from torch_cormorant.data import MiniEthanol, MiniQM9, split_indices
from torch_cormorant.train import (
    FrameDataModule,
    MoleculeDataModule,
    PotentialRegression,
    PropertyRegression,
    frame_errors,
    join_outputs,
    potential_normalisation,
    quiet_lightning,
)

SMALL: dict[str, Any] = {"channels": 2, "num_levels": 1, "lmax": 1}
QUIET: dict[str, Any] = {
    "logger": False,
    "enable_progress_bar": False,
    "accelerator": "cpu",
    "enable_model_summary": False,
    "enable_checkpointing": False,
}


def test_the_test_frames_have_the_errors_of_their_predictions() -> None:
    frames = MiniEthanol()[:30]
    data = FrameDataModule(frames, split_indices(30, 10, 10, 10), 5)
    units = potential_normalisation(data.train)
    module = PotentialRegression(Cormorant.potential([1, 6, 8], **SMALL), units)
    with quiet_lightning():
        trainer = Trainer(max_epochs=1, **QUIET)
        trainer.fit(module, data)
        (found,) = trainer.test(module, data, verbose=False)
        output = join_outputs(trainer.predict(module, data))
    expected = frame_errors(data.train, data.test, output).values
    for name, ours in (
        ("energy_mae", "test_mae"),
        ("energy_rmse", "test_rmse"),
        ("force_mae", "test_force_mae"),
        ("force_rmse", "test_force_rmse"),
    ):
        assert found[ours] == pytest.approx(expected[name], rel=1e-6)
    assert not any(name.startswith("valid") for name in found)


def test_properties_are_tested_each() -> None:
    molecules = MiniQM9(["gap", "mu"])
    data = MoleculeDataModule(molecules, split_indices(310, 12, 6, 10), 6)
    units = data.normalisation
    network = Cormorant(num_targets=2, **SMALL)
    module = PropertyRegression(network, units.mean, units.std)
    with quiet_lightning():
        trainer = Trainer(max_epochs=1, **QUIET)
        (found,) = trainer.test(module, data, verbose=False)
        predicted = torch.cat(trainer.predict(module, data))  # type: ignore[arg-type]
    wrong = (predicted - data.test.values).abs().mean(0)
    assert found["test_mae_1"] == pytest.approx(float(wrong[1]), rel=1e-6)
    assert found["test_mae"] == pytest.approx(
        float((wrong / torch.tensor(units.std)).mean()), rel=1e-5
    )
