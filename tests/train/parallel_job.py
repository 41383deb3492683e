"""Trains with 1, 2 and 4 processes and writes what each found; run by a test."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from torch_cormorant import Cormorant
from torch_cormorant.data import FrameArrays, Frames, split_indices
from torch_cormorant.train import (
    EpochLog,
    FrameDataModule,
    PotentialRegression,
    RunCheckpoints,
    SpikeGuard,
    energy_target,
    potential_normalisation,
    quiet_lightning,
)

WATER = np.array([[0.0, 0, 0], [0, 0, 0.96], [0, 0.93, -0.24]])


def structures() -> Frames:
    """Water in many forms, single atoms, and pairs too far apart for an edge."""
    rng = np.random.default_rng(0)
    z, pos, offset = [], [], [0]
    for k in range(18):
        if k % 3 == 2:
            atoms, places = [8], np.zeros((1, 3))
        elif k % 6 == 1:
            atoms, places = [1, 1], np.array([[0.0, 0, 0], [9, 0, 0]])
        else:
            atoms, places = [8, 1, 1], WATER + 0.1 * rng.standard_normal((3, 3))
        z += atoms
        pos.append(places)
        offset.append(len(z))
    arrays = FrameArrays(
        z=np.array(z),
        pos=np.concatenate(pos),
        offset=np.array(offset),
        energy=rng.standard_normal(18),
        forces=rng.standard_normal((len(z), 3)),
    )
    return Frames(arrays, name="water", energy_unit="eV")


class Gradients(Callback):
    """Keeps the gradient of every step."""

    def __init__(self) -> None:
        self.kept: list[torch.Tensor] = []

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Any
    ) -> None:
        del trainer, optimizer
        parts = [p.grad for p in pl_module.parameters() if p.grad is not None]
        self.kept.append(torch.cat([part.flatten() for part in parts]).clone())


class Keep(Callback):
    """Writes the findings of the first process at the end."""

    def __init__(self, path: Path, gradients: Gradients) -> None:
        self.path, self.gradients = path, gradients

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            metrics = {k: float(v) for k, v in trainer.callback_metrics.items()}
            weights = [p.detach().flatten() for p in pl_module.parameters()]
            found = {
                "gradients": torch.stack(self.gradients.kept),
                "weights": torch.cat(weights),
                "metrics": metrics,
            }
            torch.save(found, self.path)


def run(folder: Path, world: int) -> None:
    """Train with so many processes."""
    torch.manual_seed(0)
    data = structures()
    loaders = FrameDataModule(
        data, split_indices(18, 10, 5, 3), batch_size=3, cutoff=3.0
    )
    model = Cormorant.potential((1, 8), channels=3, num_levels=1, lmax=1, cutoff=3.0)
    module = PotentialRegression(
        model.double(),
        potential_normalisation(loaders.train),
        lr=1e-2,
        ema_decay=0.9,
    )
    gradients = Gradients()
    with quiet_lightning():
        trainer = Trainer(
            max_epochs=2,
            accelerator="cpu",
            devices=world,
            strategy="ddp_fork" if world > 1 else "auto",
            use_distributed_sampler=False,
            callbacks=[
                EpochLog(energy_target("eV")),
                SpikeGuard("skip"),
                gradients,
                RunCheckpoints(folder / str(world), "valid_loss"),
                Keep(folder / f"{world}.pt", gradients),
            ],
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(module, loaders)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for processes in (4, 2, 1):
        run(Path(sys.argv[1]), processes)
