"""A progress bar that leaves the lines of the epochs alone."""

from __future__ import annotations

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

__all__ = ["EpochBar"]


class EpochBar(TQDMProgressBar):
    """One bar over the batches of the epoch, gone when the run ends.

    Epochs are counted from 1, as :class:`~torch_cormorant.train.EpochLog` does;
    validation and prediction show no bar of their own.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> trainer = Trainer(callbacks=[EpochBar()], logger=False, accelerator="cpu")
    """

    def init_train_tqdm(self) -> Tqdm:
        """The bar of the training batches."""
        bar = super().init_train_tqdm()
        bar.leave = False
        return bar

    def init_validation_tqdm(self) -> Tqdm:
        """No bar."""
        return Tqdm(disable=True)

    def init_predict_tqdm(self) -> Tqdm:
        """No bar."""
        return Tqdm(disable=True)

    def on_train_epoch_start(self, trainer: Trainer, *args: LightningModule) -> None:
        """Name the epoch."""
        super().on_train_epoch_start(trainer, *args)
        self.train_progress_bar.set_description(f"epoch {trainer.current_epoch + 1}")
