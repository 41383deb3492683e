"""Spikes and dead levels are noticed and answered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from torch_geometric.data import Batch

from torch_cormorant import Cormorant
from torch_cormorant.data import MiniQM9, split_indices
from torch_cormorant.errors import ConfigError, NonFiniteError
from torch_cormorant.train import (
    ActivationLog,
    MoleculeDataModule,
    PropertyRegression,
    SpikeGuard,
    level_activations,
    quiet_lightning,
)

Tiny = Callable[[], nn.Module]
SPIKE = 25


class Spoil(Callback):
    """Makes the labels of one batch wrong."""

    def __init__(self, value: float) -> None:
        self.value = value
        self.weights: list[torch.Tensor] = []

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        del batch_idx
        if trainer.global_step == SPIKE:
            batch.y = batch.y + self.value
        weights = [p.detach().flatten() for p in pl_module.parameters()]
        self.weights.append(torch.cat(weights).clone())


def fit(model: nn.Module, guard: SpikeGuard, value: float) -> tuple[Any, list[Any]]:
    data = MiniQM9("energy_atom")
    loaders = MoleculeDataModule(data, split_indices(310, 50, 10, 10), batch_size=10)
    module = PropertyRegression(model, loaders.mean, loaders.std, lr=1e-3)
    spoil = Spoil(value)
    with quiet_lightning():
        trainer = Trainer(
            max_epochs=8,
            accelerator="cpu",
            callbacks=[guard, spoil],
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            logger=False,
        )
        trainer.fit(module, loaders)
    return module, spoil.weights


@pytest.mark.parametrize("value", [1e4, float("nan"), float("inf")])
def test_a_skipped_step_changes_nothing(tiny: Tiny, value: float) -> None:
    guard = SpikeGuard("skip")
    module, weights = fit(tiny(), guard, value)
    assert [event["step"] for event in guard.events] == [SPIKE]
    assert guard.events[0]["answer"] == "skip"
    assert torch.equal(weights[SPIKE + 1], weights[SPIKE])
    assert not torch.equal(weights[SPIKE + 2], weights[SPIKE + 1])
    assert module.rate_factor == 1.0
    assert torch.isfinite(weights[-1]).all()


def test_the_rate_is_lowered(tiny: Tiny) -> None:
    module, _ = fit(tiny(), SpikeGuard("lower"), 1e4)
    assert module.rate_factor == 0.5
    (group,) = module.optimizers().param_groups
    assert group["lr"] == pytest.approx(5e-4)


def test_the_last_good_weights_come_back(tiny: Tiny) -> None:
    module, weights = fit(tiny(), SpikeGuard("rollback", keep_every=10), 1e4)
    # Copies are kept before steps 0, 10 and 20.
    assert torch.equal(weights[SPIKE + 1], weights[20])
    assert module.rate_factor == 0.5


def test_a_stop_says_where(tiny: Tiny) -> None:
    with pytest.raises(NonFiniteError, match="in epoch 6, the median of the steps"):
        fit(tiny(), SpikeGuard("stop"), 1e4)


def test_patience_has_an_end(tiny: Tiny) -> None:
    model = tiny()
    nn.init.constant_(next(model.parameters()), float("nan"))
    with pytest.raises(NonFiniteError, match="2 such steps in a row"):
        fit(model, SpikeGuard("skip", patience=2), 0.0)


@pytest.mark.parametrize(
    "changed", [{"answer": "pray"}, {"factor": 1.0}, {"window": 0}, {"patience": 0}]
)
def test_guards_out_of_range(changed: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        SpikeGuard(**changed)


def test_dead_levels_are_reported_once(tmp_path: Path) -> None:
    del tmp_path
    data = MiniQM9("gap")
    loaders = MoleculeDataModule(data, split_indices(310, 12, 6, 6), batch_size=6)
    model = Cormorant(channels=3, num_levels=2, lmax=1, hidden=4, middle=4)
    with torch.no_grad():
        for parameter in model.conv_layers()[1].vertex.parameters():
            parameter.zero_()
    batch = Batch.from_data_list([data[3], data[7]])
    sizes = level_activations(model, batch)
    assert [len(level) for level in sizes] == [2, 2]
    assert min(sizes[0]) > 0
    assert max(sizes[1]) == 0.0
    log = ActivationLog()
    module = PropertyRegression(model, loaders.mean, loaders.std, lr=1e-30)
    with quiet_lightning(), pytest.warns(UserWarning, match="level 2 is dead"):
        Trainer(
            max_epochs=2,
            accelerator="cpu",
            callbacks=[log],
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            logger=False,
        ).fit(module, loaders)
    assert len(log.rows) == 2
    assert log.dead == ["level 2"]
