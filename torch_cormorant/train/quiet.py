"""Lightning without the remarks that do not help here."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet_lightning"]

# Batches come from memory, so worker processes would only cost time; the folder is
# checked by RunFolder; small sets have few batches per epoch.
_REMARKS = (
    r".*does not have many workers which may be a bottleneck.*",
    r".*[Cc]heckpoint directory .* exists and is not empty.*",
    r".*number of training batches .* is smaller than the logging interval.*",
    r".*GPU available but not used.*",
    r".*dirpath has changed from.*",
    # Of DDP about parameters with one row; costs nothing here.
    r"(?s).*Grad strides do not match bucket view strides.*",
    # Lightning 2.6 with torch >= 2.11; nothing a user could do about it.
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",
)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Hide Lightning's tips and its remarks about workers, folders and devices.

    Other warnings are left alone, and everything is as before on leaving.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> with quiet_lightning():
        ...     trainer = Trainer(logger=False, accelerator="cpu")
    """
    loggers = [
        logging.getLogger(name)
        for name in ("lightning.pytorch", "lightning.fabric", "lightning_fabric")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for remark in _REMARKS:
                warnings.filterwarnings("ignore", message=remark)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
