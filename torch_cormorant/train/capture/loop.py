"""Captured steps in Lightning's loop."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from torch_cormorant.errors import ConfigError
from torch_cormorant.train.base import Regression
from torch_cormorant.train.capture.optimizer import CapturedAdamW
from torch_cormorant.train.capture.padding import PaddedSizes
from torch_cormorant.train.capture.step import CapturedStep, check_capturable
from torch_cormorant.train.guard import SpikeGuard
from torch_cormorant.train.steps import steps_for

__all__ = ["CapturedLoop"]

READ_EVERY = 50
"""Steps after which the sums are read, which waits for the device."""
SUMS = "captured_sums"


class CapturedLoop:
    """The :class:`.Steps` of a training by :class:`CapturedStep`.

    Args:
        module: What is trained.
        sizes: What the batches are filled up to.
        clip: Largest norm of the gradient; 0: no limit.

    Attributes:
        captured: The step, from the start of the training on.

    Raises:
        ConfigError: See :class:`CapturedStep`.
    """

    def __init__(self, module: Regression, sizes: PaddedSizes, clip: float) -> None:
        check_capturable(module, clip)
        self.module, self.sizes, self.clip = module, sizes, clip
        self.captured: CapturedStep | None = None
        self._sums: list[list[float]] | None = None

    def optimizer(self, total_steps: int) -> CapturedAdamW:
        """The optimiser, with the step on which it runs; see :class:`.Steps`.

        Raises:
            ConfigError: The trainer has something that captured steps cannot do.
        """
        module = self.module
        callbacks: list[Any] = getattr(module.trainer, "callbacks", [])
        if any(isinstance(callback, SpikeGuard) for callback in callbacks):
            raise ConfigError(
                "captured: a SpikeGuard looks at every step, and would make the GPU "
                "wait; leave it out (training.guard: off)"
            )
        if getattr(module.trainer, "precision", None) == "16-mixed":
            raise ConfigError(
                'captured: precision="16-mixed" scales losses, which captured steps do '
                "not see; networks compute in the type of their weights, so leave "
                "precision out"
            )
        optimizer = CapturedAdamW(module)
        self.captured = CapturedStep(
            module,
            self.sizes,
            clip=self.clip,
            total_steps=total_steps,
            optimizer=optimizer,
        )
        if self._sums is not None:
            sums = torch.tensor(self._sums, dtype=torch.float64)
            self.captured.totals.copy_(sums)
            self._sums = None
        return optimizer

    def step(self, batch: Any) -> Tensor:
        """Take a step, move the rate, and read the sums now and then.

        Args:
            batch: Molecules with their labels, on the CPU.

        Returns:
            The loss, without a gradient.
        """
        step, module = cast("CapturedStep", self.captured), self.module
        trainer = module.trainer
        step.taken = trainer.global_step
        step.load(batch)
        # Lightning counts the steps that are taken through its own objects.
        optimizer: Any = module.optimizers()
        scheduler: Any = module.lr_schedulers()
        optimizer.step()
        scheduler.step()
        for name in step.names:
            module.log_metric(f"train_{name}", batch.num_graphs)
        if trainer.is_last_batch or trainer.global_step % READ_EVERY == 0:
            self._read(step)
        return step.loss

    def _read(self, step: CapturedStep) -> None:
        module, found = self.module, step.read()
        for name, (mean, count) in found.items():
            metric: Any = module.get_submodule(f"train_{name}")
            metric.update(mean, count)
        module.last_loss, count = found["loss"]
        module.log(
            "loss", module.last_loss, prog_bar=True, logger=False, batch_size=int(count)
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the sums since they were last read."""
        if self.captured is not None:
            checkpoint[SUMS] = self.captured.totals.tolist()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The reverse."""
        self._sums = checkpoint.get(SUMS)


@steps_for.register
def _(plan: PaddedSizes, module: Any, clip: float) -> CapturedLoop:
    return CapturedLoop(module, plan, clip)
