"""How Lightning's loop takes captured steps: with the optimisation in our hands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from typing_extensions import Self

from torch_cormorant.errors import ConfigError
from torch_cormorant.train.captured import CapturedAdamW, CapturedStep, check_capturable
from torch_cormorant.train.padding import PaddedSizes

if TYPE_CHECKING:
    from torch_cormorant.train.base import Regression

__all__ = ["CapturedLoop"]

READ_EVERY = 50
"""Steps after which the sums are read, which waits for the device."""


class CapturedLoop(LightningModule):
    """What a training module needs to be trained by captured steps.

    Attributes:
        captured: The step, from the start of the training on; None: ordinary steps.
    """

    def __init__(self) -> None:
        super().__init__()
        self.captured: CapturedStep | None = None
        self._wished: tuple[PaddedSizes, float] | None = None
        self._sums: list[list[float]] | None = None

    def capture(self, sizes: PaddedSizes, clip: float = 0.0) -> Self:
        """Train by :class:`~torch_cormorant.train.CapturedStep` in Lightning's loop.

        Validation, tests, schedules, averages and checkpoints are as always; a run
        goes on from a checkpoint of its own kind. Not possible: several processes,
        a :class:`~torch_cormorant.train.SpikeGuard`, gradient clipping by the trainer
        (that is ``clip`` here), accumulation of gradients.

        Args:
            sizes: What the batches are filled up to.
            clip: Largest norm of the gradient; 0 (default): no limit.

        Returns:
            The module itself.

        Raises:
            ConfigError: See :class:`~torch_cormorant.train.CapturedStep`.
        """
        check_capturable(self._own(), clip)
        self._wished, self.automatic_optimization = (sizes, clip), False
        return self

    def _own(self) -> Regression:
        return cast("Regression", self)

    def _captured_optimizer(self, total_steps: int) -> CapturedAdamW | None:
        """The optimiser of captured steps, or None where they are ordinary ones."""
        if self._wished is None:
            return None
        from torch_cormorant.train.guard import SpikeGuard

        callbacks: list[Any] = getattr(self.trainer, "callbacks", [])
        if any(isinstance(callback, SpikeGuard) for callback in callbacks):
            raise ConfigError(
                "captured: a SpikeGuard looks at every step, and would make the GPU "
                "wait; leave it out (training.guard: off)"
            )
        if getattr(self.trainer, "precision", None) == "16-mixed":
            raise ConfigError(
                'captured: precision="16-mixed" scales losses, which captured steps do '
                "not see; networks compute in the type of their weights, so leave "
                "precision out"
            )
        sizes, clip = self._wished
        check_capturable(self._own(), clip)
        optimizer = CapturedAdamW(self._own())
        self.captured = CapturedStep(
            self._own(), sizes, clip=clip, total_steps=total_steps, optimizer=optimizer
        )
        if self._sums is not None:
            sums = torch.tensor(self._sums, dtype=torch.float64)
            self.captured.totals.copy_(sums)
            self._sums = None
        return optimizer

    def captured_step(self, batch: Any) -> Tensor:
        """Take a step, move the rate, and read the sums now and then.

        Args:
            batch: Molecules with their labels, on the CPU.

        Returns:
            The loss, without a gradient.
        """
        step, trainer = cast("CapturedStep", self.captured), self.trainer
        step.taken = trainer.global_step
        step.load(batch)
        # Lightning counts the steps that are taken through its own objects.
        optimizer: Any = self.optimizers()
        scheduler: Any = self.lr_schedulers()
        optimizer.step()
        scheduler.step()
        for name in step.names:
            self.log(
                f"train_{name}",
                getattr(self, f"train_{name}"),
                on_step=False,
                on_epoch=True,
                batch_size=batch.num_graphs,
                metric_attribute=f"train_{name}",
            )
        if trainer.is_last_batch or trainer.global_step % READ_EVERY == 0:
            self._read(step)
        return step.loss

    def _read(self, step: CapturedStep) -> None:
        found = step.read()
        for name, (mean, count) in found.items():
            getattr(self, f"train_{name}").update(mean, count)
        self._own().last_loss = found["loss"][0]
        size = int(found["loss"][1])
        self.log("loss", found["loss"][0], prog_bar=True, logger=False, batch_size=size)
