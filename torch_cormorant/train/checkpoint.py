"""Checkpoints that survive a crash during the save, and load without pickle."""

from __future__ import annotations

import io
import math
import random
import time
import warnings
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import CheckpointIO

from torch_cormorant.errors import ConfigError, CormorantWarning, DataError
from torch_cormorant.train.files import write_atomically
from torch_cormorant.train.seal import check_seal, sealed

__all__ = ["AtomicCheckpointIO", "RunCheckpoints", "best_and_last"]


class AtomicCheckpointIO(CheckpointIO):
    """Writes to a temporary file and renames it; reads tensors and plain values only.

    The file ends with a digest, and what does not have it any more is not read.

    Lightning's own writer may move the file across file systems, which a crash can
    interrupt half way.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> trainer = Trainer(
        ...     plugins=[AtomicCheckpointIO()], logger=False, accelerator="cpu"
        ... )
    """

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | Path,
        storage_options: object | None = None,  # noqa: ARG002
    ) -> None:
        """Write a checkpoint; a reader sees the old file or the new one.

        Args:
            checkpoint: What Lightning collected.
            path: The file.
            storage_options: Not used, there is nothing to choose for local files.
        """
        archive = io.BytesIO()
        torch.save(checkpoint, archive)
        raw = sealed(archive.getvalue())
        write_atomically(Path(path), lambda stream: stream.write(raw))

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: object = None,
        weights_only: bool | None = True,  # noqa: ARG002
    ) -> dict[str, Any]:
        """Read a checkpoint without running code that it may hold.

        Args:
            path: The file.
            map_location: Device for the tensors; default the CPU.
            weights_only: Not used, always true.

        Returns:
            The checkpoint.

        Raises:
            DataError: The file is missing or damaged.

        Warns:
            CormorantWarning: It has no digest, as Lightning's own writer leaves it.
        """
        try:
            raw = Path(path).read_bytes()
        except FileNotFoundError:
            raise DataError(f"{path}: no such checkpoint") from None
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from None
        check_seal(raw, str(path))
        try:
            content: dict[str, Any] = torch.load(
                io.BytesIO(raw),
                map_location=cast("str", map_location or "cpu"),
                weights_only=True,
            )
        except Exception as error:  # a damaged file may raise nearly anything
            reason = str(error).splitlines()[0] if str(error) else repr(error)
            raise DataError(f"{path}: damaged, not a checkpoint ({reason})") from error
        return content

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint that Lightning no longer needs.

        Args:
            path: The file.
        """
        Path(path).unlink(missing_ok=True)


class RunCheckpoints(Checkpoint):
    """Keeps ``best.ckpt`` and ``last.ckpt``; the latter is enough for an exact resume.

    The last one is written at the end of every epoch and, where asked for, within it:
    every so many steps, every so many minutes. It holds weights, averaged weights,
    optimiser, schedule, position in the epoch, sums of the metrics and the states of
    all random number generators.

    Args:
        folder: Where they are kept.
        monitor: Metric that the best epoch has the lowest value of.
        every_steps: Steps between two writes within an epoch; default none.
        every_minutes: Minutes between them; default none.
        keep: What ``best.ckpt`` is: ``"best"`` (default), the epoch of the lowest
            value, or ``"last"``, the latest epoch whatever its value, which few odd
            validation molecules cannot decide.

    Attributes:
        best: Value of the kept epoch.
        best_epoch: That epoch, counted from 1.
    """

    def __init__(
        self,
        folder: str | Path,
        monitor: str = "valid_mae",
        every_steps: int | None = None,
        every_minutes: float | None = None,
        keep: str = "best",
    ) -> None:
        if keep not in ("best", "last"):
            raise ConfigError(f"keep: {keep!r} is neither 'best' nor 'last'")
        if every_steps is not None and every_steps < 1:
            raise ConfigError(f"every_steps: {every_steps} is not at least 1")
        if every_minutes is not None and not every_minutes > 0:
            raise ConfigError(f"every_minutes: {every_minutes} is not positive")
        self.folder, self.monitor = Path(folder), monitor
        self.every_steps, self.every_minutes = every_steps, every_minutes
        self.keep = keep
        self.best, self.best_epoch = math.inf, 0
        self._written = time.monotonic()
        self._random: dict[str, Any] | None = None
        self._before: dict[str, str] = {}
        self._surroundings: dict[str, str] = {}

    def on_train_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
    ) -> None:
        """Random numbers go on where the checkpoint left them.

        Warns:
            CormorantWarning: The best checkpoint is gone, or the rest will not be bit
                by bit that of a run without a stop.
        """
        self._written = time.monotonic()
        self._surroundings = surroundings(pl_module.device, trainer.world_size)
        if self._random is None:
            return
        set_random_state(self._random)
        self._random = None
        self._note_changes(trainer)
        gone = math.isfinite(self.best) and not (self.folder / "best.ckpt").exists()
        if trainer.strategy.broadcast(gone):
            self.best, self.best_epoch = math.inf, 0
            text = f"{self.folder}: best.ckpt is gone; the best epoch is that of the "
            _warn(trainer, text + "rest")

    def _note_changes(self, trainer: Trainer) -> None:
        changes = [
            f"{name} {self._before[name]} before, {value} now"
            for name, value in self._surroundings.items()
            if self._before.get(name, value) != value
        ]
        if changes:
            _warn(
                trainer,
                f"{self.folder}: resumed with {', '.join(changes)}: from here on the "
                "last digits, and what follows from them, differ from those of a run "
                "without a stop",
            )

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,  # noqa: ARG002
        outputs: object,  # noqa: ARG002
        batch: object,  # noqa: ARG002
        batch_idx: int,
    ) -> None:
        """Write within the epoch, when it is time."""
        if batch_idx + 1 >= trainer.num_training_batches:
            return  # validation comes next, and then the end of the epoch
        steps, minutes = self.every_steps, self.every_minutes
        due = steps is not None and trainer.global_step % steps == 0
        if minutes is not None and trainer.world_size == 1:
            due |= time.monotonic() - self._written > 60 * minutes
        if due:
            self._write(trainer, "last.ckpt")

    def on_train_epoch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,  # noqa: ARG002
    ) -> None:
        """Write the last one, and the best one where this epoch is it."""
        value = float(trainer.callback_metrics[self.monitor])
        if self.keep == "last" or value < self.best:
            self.best, self.best_epoch = value, trainer.current_epoch
            self._write(trainer, "best.ckpt")
        self._write(trainer, "last.ckpt")

    def state_dict(self) -> dict[str, Any]:
        """The best value, and the random numbers."""
        return {
            "best": self.best,
            "best_epoch": self.best_epoch,
            "random": random_state(),
            "surroundings": dict(self._surroundings),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The reverse."""
        self.best = float(state_dict["best"])
        self.best_epoch = int(state_dict["best_epoch"])
        self._random = state_dict["random"]
        self._before = dict(state_dict.get("surroundings", {}))

    def _write(self, trainer: Trainer, name: str) -> None:
        self._written = time.monotonic()
        trainer.save_checkpoint(self.folder / name)


def _warn(trainer: Trainer, text: str) -> None:
    if trainer.is_global_zero:
        # Lightning formats warnings that seem to be its own in its own way.
        warnings.warn(text, CormorantWarning, stacklevel=2)


def surroundings(device: torch.device, processes: int) -> dict[str, str]:
    """What decides the last bits of a training, beside its settings.

    Args:
        device: Where the network is.
        processes: How many train together.

    Returns:
        Plain words by name.

    Example:
        >>> surroundings(torch.device("cpu"), 1)["device"]
        'cpu'
    """
    return {
        "threads": str(torch.get_num_threads()),
        "device": device.type,
        "processes": str(processes),
        "torch": str(torch.__version__),
    }


def random_state() -> dict[str, Any]:
    """States of the generators of Python, NumPy and torch, as plain values."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": [kind, np.asarray(keys).tolist(), *rest],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Put back what :func:`random_state` returned.

    Args:
        state: The states; those of other numbers of CUDA devices are left out.
    """
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    cuda = state.get("cuda")
    if cuda is not None and len(cuda) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(cuda)


def best_and_last(folder: str | Path, **options: Any) -> list[RunCheckpoints]:
    """A list of one :class:`RunCheckpoints`, for the callbacks of a trainer.

    Args:
        folder: Where the checkpoints are kept.
        **options: As :class:`RunCheckpoints`.

    Returns:
        The list.
    """
    return [RunCheckpoints(folder, **options)]
