"""Files of a run: written whole or not at all, and never over another run's."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typing_extensions import Self

from torch_cormorant.data.files import write_atomically
from torch_cormorant.errors import ConfigError, DataError
from torch_cormorant.train.lock import FolderLock

EPOCHS = "planned_epochs"

__all__ = ["RunFolder", "write_atomically", "write_json"]


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write a mapping as indented JSON with :func:`write_atomically`.

    Args:
        path: The file.
        content: Plain values only; NaN and infinity are refused, JSON has neither.

    Raises:
        ValueError: A number is not finite.
        OSError: The file cannot be written.
    """
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    write_atomically(path, lambda stream: stream.write(text.encode()))


class RunFolder:
    """The folder that holds everything of one training run.

    One run writes into it at a time: :meth:`prepare` takes a lock, which is given back
    by :meth:`release`, at the end of a ``with`` block, or when the process ends in any
    way.

    Args:
        path: The folder; nothing is touched before :meth:`prepare`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.last = self.path / "last.ckpt"
        self.best = self.path / "best.ckpt"
        self.settings = self.path / "settings.json"
        self.results = self.path / "results.json"
        self.model = self.path / "model.safetensors"
        self.report = self.path / "report.html"
        self.learning_curve = self.path / "learning_curve.png"
        self.parity = self.path / "parity.png"
        self._lock = FolderLock(self.path)

    def __enter__(self) -> Self:
        """Nothing yet; the lock is taken by :meth:`prepare` or :meth:`lock`."""
        return self

    def __exit__(self, *error: object) -> None:
        """Give the lock back."""
        self.release()

    def lock(self) -> str:
        """Make the folder and take its lock.

        Returns:
            A remark where the file system knows no locks, or nothing.

        Raises:
            ConfigError: Another run holds it.
            DataError: The folder cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
            return self._lock.acquire()
        except OSError as error:
            raise DataError(
                f"{self.path}: cannot be written ({error.strerror})"
            ) from error

    def release(self) -> None:
        """Give the lock back, if it is held."""
        self._lock.release()

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that a run writes."""
        return (
            self.settings,
            self.last,
            self.best,
            self.results,
            self.model,
            self.report,
            self.learning_curve,
            self.parity,
        )

    @classmethod
    def fresh(cls, stem: str | os.PathLike[str]) -> RunFolder:
        """The first of ``stem-1``, ``stem-2``, ... that does not exist yet."""
        number = 1
        while Path(f"{stem}-{number}").exists():
            number += 1
        return cls(f"{stem}-{number}")

    def prepare(
        self,
        settings: Mapping[str, object],
        *,
        resume: bool,
        overwrite: bool,
        epochs: int | None = None,
    ) -> str:
        """Make the folder ready, or raise and leave it as it is.

        A folder whose run was interrupted before its first checkpoint counts as empty.

        Args:
            settings: What must be the same when a run is resumed; stored in the folder.
            resume: Go on with the run that is there.
            overwrite: Delete the files of the run that is there.
            epochs: Length of the run, which may change when it is resumed.

        Returns:
            A remark for the user, or nothing.

        Raises:
            ConfigError: There is a run and neither option is given, there is none to
                resume, its settings differ, or another run writes here.
            DataError: The folder cannot be written, or its settings cannot be read.
        """
        if resume:
            self._check_there()
        remarks = [self.lock()]
        try:
            if resume:
                remarks.append(self._check_same(settings, epochs))
            else:
                self._start(settings, epochs, overwrite=overwrite)
        except BaseException:
            self.release()
            raise
        return "\n".join(filter(None, remarks))

    def _start(
        self, settings: Mapping[str, object], epochs: int | None, *, overwrite: bool
    ) -> None:
        present = [file for file in self.files if file.exists()]
        if present and present != [self.settings] and not overwrite:
            found = next(file for file in present if file != self.settings)
            raise ConfigError(
                f"{self.path}: already holds a run ({found.name}); choose another "
                "--out, or add --resume or --overwrite"
            )
        for file in present:
            file.unlink(missing_ok=True)  # by another process of the same run
        planned = {} if epochs is None else {EPOCHS: epochs}
        write_json(self.settings, {**settings, **planned})

    @property
    def resumable(self) -> bool:
        """Whether there is a checkpoint, and the settings that it belongs to."""
        kept = self.last.exists() or self.best.exists()
        return kept and self.settings.exists()

    def _check_there(self) -> None:
        if not self.resumable:
            raise ConfigError(f"{self.path}: holds no checkpoint to resume from")

    def _check_same(self, settings: Mapping[str, object], epochs: int | None) -> str:
        try:
            stored = json.loads(self.settings.read_text())
            differing = _differing(stored, settings)
            planned = stored.get(EPOCHS)
        except (AttributeError, OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self.settings}: damaged ({error!r})") from error
        if differing:
            name = differing[0]
            raise ConfigError(
                f"{self.path}: was started with {name} = {stored[name]}, cannot be "
                f"resumed with {name} = {settings[name]}"
            )
        if epochs is None or planned is None or planned == epochs:
            return ""
        return (
            f"{self.path}: started for {planned} epochs, goes on to {epochs}: a "
            "schedule that depends on the length changes from here on"
        )


def _differing(stored: Mapping[str, Any], settings: Mapping[str, object]) -> list[str]:
    """Names of settings that are not as they were; those not kept are left out.

    Raises:
        KeyError: None of them is there, so that it is no file of settings.
    """
    # A run of an earlier version may not have kept all of them.
    kept = [name for name in settings if name in stored]
    if settings and not kept:
        raise KeyError(next(iter(settings)))
    return [name for name in kept if stored[name] != settings[name]]
