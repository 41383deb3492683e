"""One line per epoch, kept for the plots and through a resume."""

from __future__ import annotations

import sys
import time
from typing import Any, TypedDict

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, TQDMProgressBar

from torch_cormorant.data import Target

__all__ = ["EpochLog", "EpochRow"]


class EpochRow(TypedDict):
    """What is kept of an epoch; errors in the unit of the data."""

    epoch: int
    train_loss: float
    train_mae: float
    valid_mae: float
    lr: float
    seconds: float


class EpochLog(Callback):
    """Prints and keeps loss, errors in real units, rate and time of every epoch.

    Args:
        target: Tells unit and format of the errors.

    Attributes:
        rows: One entry per finished epoch, also those before a resume.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.rows: list[EpochRow] = []
        self._started = 0.0

    @property
    def seconds(self) -> float:
        """Time of all epochs so far, training and validation."""
        return sum(row["seconds"] for row in self.rows)

    def on_train_epoch_start(
        self,
        trainer: Trainer,  # noqa: ARG002
        pl_module: LightningModule,  # noqa: ARG002
    ) -> None:
        """Start the clock."""
        self._started = time.perf_counter()

    def on_train_epoch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,  # noqa: ARG002
    ) -> None:
        """Keep and print the epoch; validation has already run."""
        metrics = {name: float(value) for name, value in _metrics(trainer).items()}
        row = EpochRow(
            epoch=trainer.current_epoch + 1,
            train_loss=metrics["train_loss"],
            train_mae=metrics["train_mae"],
            valid_mae=metrics["valid_mae"],
            lr=float(trainer.optimizers[0].param_groups[0]["lr"]),
            seconds=time.perf_counter() - self._started,
        )
        self.rows.append(row)
        self._print(trainer, self.line(row, trainer.max_epochs))

    def line(self, row: EpochRow, epochs: int | None) -> str:
        """The line printed for an epoch.

        Args:
            row: The epoch.
            epochs: Length of the run, where it is known.
        """
        of = f"/{epochs}" if epochs and epochs > 0 else ""
        return (
            f"epoch {row['epoch']:3d}{of}  loss {row['train_loss']:.4f}  "
            f"train MAE {self.target.shown(row['train_mae'])}  "
            f"valid MAE {self.target.shown(row['valid_mae'])}  "
            f"lr {row['lr']:.1e}  {row['seconds']:.1f} s"
        )

    def state_dict(self) -> dict[str, Any]:
        """Rows for the checkpoint."""
        return {"rows": list(self.rows)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Rows from a checkpoint."""
        self.rows = list(state_dict["rows"])

    @staticmethod
    def _print(trainer: Trainer, line: str) -> None:
        # The bar knows how to write a line without breaking itself.
        bar = trainer.progress_bar_callback
        if isinstance(bar, TQDMProgressBar) and bar.is_enabled:
            bar.print(line)
        else:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


def _metrics(trainer: Trainer) -> dict[str, Any]:
    # The epoch's mean, not the last step's value, where both were logged.
    logged = dict(trainer.callback_metrics)
    logged["train_loss"] = logged.get("train_loss_epoch", logged["train_loss"])
    return {name: logged[name] for name in ("train_loss", "train_mae", "valid_mae")}
