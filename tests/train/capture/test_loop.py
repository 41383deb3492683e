"""Captured steps in Lightning's loop: the ordinary training, resumed exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from trainings import ALL, agree, potential_module, property_module

from torch_cormorant.data import MiniEthanol, MiniQM9, split_indices
from torch_cormorant.errors import ConfigError
from torch_cormorant.train import (
    AtomicCheckpointIO,
    EpochLog,
    FrameDataModule,
    MoleculeDataModule,
    PaddedSizes,
    SpikeGuard,
    best_and_last,
    energy_target,
    quiet_lightning,
)


def fit(
    folder: Path,
    epochs: int,
    *,
    captured: bool = True,
    frames: bool = False,
    resume: bool = False,
    schedule: str = "cosine",
    callbacks: Any = (),
    every_steps: int | None = None,
) -> tuple[Any, EpochLog]:
    loaders: Any
    module: Any
    data: Any
    if frames:
        data = MiniEthanol()
        loaders = FrameDataModule(data, split_indices(2000, 22, 8, 8), batch_size=5)
        module, target = potential_module(schedule="cosine"), energy_target("eV")
    else:
        data = MiniQM9("gap")
        loaders = MoleculeDataModule(data, split_indices(310, 44, 10, 10), batch_size=8)
        module, target = property_module(schedule=schedule), data.target
    if captured:
        size = loaders.batch_size
        module.capture(PaddedSizes.of(module.model, loaders.train, size, ALL), 1.0)
    log = EpochLog(target)
    with quiet_lightning():
        trainer = Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            gradient_clip_val=None if captured else 1.0,
            callbacks=[
                log,
                *best_and_last(folder, every_steps=every_steps),
                *callbacks,
            ],
            plugins=[AtomicCheckpointIO()],
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(module, loaders, ckpt_path=folder / "last.ckpt" if resume else None)
    return module, log


@pytest.mark.parametrize("frames", [False, True])
def test_lightning_trains_by_captured_steps_as_by_ordinary_ones(
    tmp_path: Path, frames: bool
) -> None:
    plain, expected = fit(tmp_path / "a", 3, captured=False, frames=frames)
    module, log = fit(tmp_path / "b", 3, frames=frames)
    assert module.steps.captured.unfit == 0
    assert module.steps.captured.taken == module.trainer.global_step
    assert module.trainer.global_step == plain.trainer.global_step
    agree(module, plain, 1e-10)
    for ours, theirs in zip(log.rows, expected.rows, strict=True):
        shown = ("train_loss", "train_mae", "valid_mae", "lr")
        right = {name: theirs[name] for name in shown}  # type: ignore[literal-required]
        assert {n: ours[n] for n in shown} == pytest.approx(right, rel=1e-9)  # type: ignore[literal-required]
        assert ours["metrics"] == pytest.approx(theirs["metrics"], rel=1e-9)


def test_a_resumed_captured_run_is_bitwise_the_uninterrupted_one(
    tmp_path: Path,
) -> None:
    straight, whole = fit(tmp_path / "a", 4, schedule="constant")
    fit(tmp_path / "b", 2, schedule="constant")
    torch.manual_seed(99)
    resumed, log = fit(tmp_path / "b", 4, resume=True, schedule="constant")
    for left, right in zip(
        straight.state_dict().values(), resumed.state_dict().values(), strict=True
    ):
        assert torch.equal(left, right)
    timeless = {"seconds": 0.0, "rate": 0.0}
    for ours, expected in zip(log.rows, whole.rows, strict=True):
        assert {**ours, **timeless} == {**expected, **timeless}


class Stop(Callback):
    """Ends the run in the middle of an epoch."""

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        if trainer.global_step == 9:
            raise EndOfRunError


class EndOfRunError(Exception):
    pass


def test_a_run_that_stops_within_an_epoch_loses_no_sums(tmp_path: Path) -> None:
    options: dict[str, Any] = {"schedule": "constant", "every_steps": 4}
    straight, whole = fit(tmp_path / "a", 2, **options)
    with pytest.raises(EndOfRunError):
        fit(tmp_path / "b", 2, callbacks=[Stop()], **options)
    resumed, log = fit(tmp_path / "b", 2, resume=True, **options)
    agree(resumed, straight, 0.0)
    for ours, expected in zip(log.rows, whole.rows, strict=True):
        assert ours["train_loss"] == expected["train_loss"]
        assert ours["train_mae"] == expected["train_mae"]


def test_a_guard_is_refused_beside_captured_steps(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="SpikeGuard"):
        fit(tmp_path, 1, callbacks=[SpikeGuard()])


def test_scaled_losses_are_refused_beside_captured_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # on a CPU Lightning turns this precision into another one
    monkeypatch.setattr(Trainer, "precision", property(lambda _: "16-mixed"))
    with pytest.raises(ConfigError, match=r"16-mixed.* leave precision out"):
        fit(tmp_path, 1)


def test_only_sizes_of_batches_tell_how_to_capture() -> None:
    with pytest.raises(ConfigError, match=r"dict, expected sizes.* PaddedSizes\.of"):
        property_module().capture({"atoms": 8})
