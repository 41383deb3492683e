"""One line per epoch, kept for the plots and through a resume."""

from __future__ import annotations

import sys
import time
from typing import Any, TypedDict

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, TQDMProgressBar

from torch_cormorant.data import Target

__all__ = ["EpochLog", "EpochRow", "energy_target", "force_target"]


class EpochRow(TypedDict):
    """What is kept of an epoch; errors in the unit of the data."""

    epoch: int
    train_loss: float
    train_mae: float
    valid_mae: float
    lr: float
    seconds: float
    rate: float
    metrics: dict[str, float]


def energy_target(unit: str, name: str = "energy") -> Target:
    """How energies in a unit are shown: eV as meV, others as they are.

    Args:
        unit: Unit of the data.
        name: What to call the energy.

    Example:
        >>> energy_target("eV").shown(0.02), energy_target("kcal/mol").shown(0.02)
        ('20 meV', '0.02 kcal/mol')
    """
    if unit == "eV":
        return Target(name, name, unit, unit, shown_unit="meV", shown_factor=1000.0)
    return Target(name, name, unit, unit)


def force_target(energy: Target) -> Target:
    """What forces are shown as, beside an energy.

    Args:
        energy: The energy.

    Returns:
        The same units per Angstrom.

    Example:
        >>> force_target(energy_target("eV")).shown(0.02)
        '20 meV/Å'
    """
    return Target(
        "forces",
        "forces",
        f"{energy.file_unit}/Å",
        f"{energy.unit}/Å",
        shown_unit=f"{energy.shown_unit}/Å",
        shown_factor=energy.shown_factor,
    )


class EpochLog(Callback):
    """Prints and keeps loss, errors in real units, rate and time of every epoch.

    Args:
        target: Tells unit and format of the errors.

    Attributes:
        rows: One entry per finished epoch, also those before a resume; ``rate`` is in
            molecules per second, ``metrics`` holds everything else that was logged.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.rows: list[EpochRow] = []
        self._started, self._elapsed = time.perf_counter(), 0.0

    @property
    def seconds(self) -> float:
        """Time of all epochs so far, training and validation."""
        return sum(row["seconds"] for row in self.rows)

    def on_train_start(
        self,
        trainer: Trainer,  # noqa: ARG002
        pl_module: LightningModule,  # noqa: ARG002
    ) -> None:
        """Go on with the clock of an epoch that was interrupted."""
        self._started = time.perf_counter() - self._elapsed

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
        found = {name: float(v) for name, v in trainer.callback_metrics.items()}
        seconds = time.perf_counter() - self._started
        loader: Any = trainer.train_dataloader
        shown = ("train_loss", "train_mae", "valid_mae")
        row = EpochRow(
            epoch=trainer.current_epoch + 1,
            train_loss=found["train_loss"],
            train_mae=found["train_mae"],
            valid_mae=found["valid_mae"],
            lr=float(trainer.optimizers[0].param_groups[0]["lr"]),
            seconds=seconds,
            rate=len(loader.dataset) / max(seconds, 1e-9),
            metrics={k: v for k, v in found.items() if k not in (*shown, "loss")},
        )
        self.rows.append(row)
        self._started = time.perf_counter()
        self._print(trainer, self.line(row, trainer.max_epochs))

    def line(self, row: EpochRow, epochs: int | None) -> str:
        """The line printed for an epoch.

        Args:
            row: The epoch.
            epochs: Length of the run, where it is known.
        """
        of, left = "", ""
        if epochs and epochs > 0:
            of = f"/{epochs}"
            rest = (epochs - row["epoch"]) * self.seconds / max(1, len(self.rows))
            left = f", {duration(rest)} left" if rest else ""
        text = (
            f"epoch {row['epoch']:3d}{of}  loss {row['train_loss']:.4f}  "
            f"train MAE {self.target.shown(row['train_mae'])}  "
            f"valid MAE {self.target.shown(row['valid_mae'])}"
        )
        force = row["metrics"].get("valid_force_mae")
        if force is not None:
            text += f", forces {force_target(self.target).shown(force)}"
        return (
            f"{text}  lr {row['lr']:.1e}  {row['rate']:.0f}/s  "
            f"{row['seconds']:.1f} s{left}"
        )

    def state_dict(self) -> dict[str, Any]:
        """Rows for the checkpoint, and the time within the epoch."""
        elapsed = time.perf_counter() - self._started
        return {"rows": list(self.rows), "elapsed": elapsed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Rows from a checkpoint."""
        self.rows = list(state_dict["rows"])
        self._elapsed = float(state_dict["elapsed"])

    @staticmethod
    def _print(trainer: Trainer, line: str) -> None:
        if not trainer.is_global_zero:
            return
        # The bar knows how to write a line without breaking itself.
        bar = trainer.progress_bar_callback
        if isinstance(bar, TQDMProgressBar) and bar.is_enabled:
            bar.print(line)
        else:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


def duration(seconds: float) -> str:
    """A time that is easy to read.

    Example:
        >>> duration(75), duration(7300)
        ('1 min 15 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
