"""Where a run goes on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from torch_cormorant.errors import ConfigError, DataError
from torch_cormorant.train.checkpoint import AtomicCheckpointIO
from torch_cormorant.train.files import RunFolder

__all__ = ["resume_point"]


def resume_point(folder: RunFolder, epochs: float = math.inf) -> tuple[Path, str]:
    """The checkpoint that a run goes on from, read once and checked.

    That is the last one. Where it is damaged, the best one takes its place: the epochs
    since then are run again and come out as they were, so that nothing is lost.

    Args:
        folder: Of the run.
        epochs: Length of the run that is asked for.

    Returns:
        The file, and a remark for the user or nothing.

    Raises:
        DataError: No whole checkpoint is left, or the best one alone is damaged: what
            it held cannot be had again by going on.
        ConfigError: More epochs are done than asked for.
    """
    path, remark = folder.last, ""
    try:
        content = _read(path)
    except DataError as damage:
        path = folder.best
        content = _instead(path, str(damage))
        remark = (
            f"{damage}; goes on from {path.name}, the end of epoch {_done(content)}: "
            "the epochs since then are run again"
        )
    else:
        _check_best(folder, left=_done(content) < epochs)
    if _done(content) > epochs:
        raise ConfigError(
            f"{path}: {_done(content)} epochs are done, more than the {epochs} asked "
            "for; ask for as many or more, or start anew with --overwrite"
        )
    return path, remark


def _read(path: Path) -> dict[str, Any]:
    content = AtomicCheckpointIO().load_checkpoint(path)
    if "loops" not in content:
        raise DataError(f"{path}: damaged, not a checkpoint of a training")
    return content


def _instead(best: Path, damage: str) -> dict[str, Any]:
    try:
        return _read(best)
    except DataError as error:
        raise DataError(f"{damage}; {error}; start anew with --overwrite") from None


def _check_best(folder: RunFolder, *, left: bool) -> None:
    start = "start anew with --overwrite"
    if not folder.best.exists():
        if left:
            return  # the best of the epochs that are left will be the one
        raise DataError(f"{folder.best}: is gone, and no epoch is left; {start}")
    try:
        _read(folder.best)
    except DataError as error:
        raise DataError(
            f"{error}; restore it, or delete it to go on from {folder.last.name} "
            f"without the best epoch so far, or {start}"
        ) from None


def _done(content: dict[str, Any]) -> int:
    return int(content["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"])
