"""Checkpoints that survive a crash during the save, and load without pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import CheckpointIO

from torch_cormorant.errors import DataError
from torch_cormorant.train.files import write_atomically

__all__ = ["AtomicCheckpointIO", "best_and_last"]


class AtomicCheckpointIO(CheckpointIO):
    """Writes to a temporary file and renames it; reads tensors and plain values only.

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
        write_atomically(Path(path), lambda stream: torch.save(checkpoint, stream))

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
        """
        try:
            content: dict[str, Any] = torch.load(
                path,
                map_location=cast("str", map_location or "cpu"),
                weights_only=True,
            )
        except FileNotFoundError:
            raise DataError(f"{path}: no such checkpoint") from None
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


def best_and_last(folder: str | Path) -> list[ModelCheckpoint]:
    """Lightning's callbacks set to keep ``best.ckpt`` (validation) and ``last.ckpt``.

    Args:
        folder: Where they are kept.

    Returns:
        Two callbacks. Both look at the end of every epoch; the second one always saves
        (``save_last`` of a single one would save new best epochs only).
    """
    # After the training epoch has ended, so that its metrics are complete.
    best = ModelCheckpoint(
        dirpath=folder,
        filename="best",
        monitor="valid_mae",
        mode="min",
        save_top_k=1,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    last = ModelCheckpoint(
        dirpath=folder,
        filename="last",
        save_top_k=1,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    return [best, last]
