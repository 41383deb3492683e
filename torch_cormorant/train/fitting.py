"""From a configuration to a trained network, its errors and its files."""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.strategies import DDPStrategy

from torch_cormorant.errors import ConfigError
from torch_cormorant.models.files import as_device
from torch_cormorant.train.activations import ActivationLog
from torch_cormorant.train.callbacks import EpochLog
from torch_cormorant.train.checkpoint import AtomicCheckpointIO, RunCheckpoints
from torch_cormorant.train.config import RunConfig, TrainingConfig
from torch_cormorant.train.files import RunFolder
from torch_cormorant.train.guard import SpikeGuard
from torch_cormorant.train.html_report import RunReport
from torch_cormorant.train.job import Job
from torch_cormorant.train.outcome import (
    measured,
    report_of,
    summarise,
    write_outcome,
)
from torch_cormorant.train.progress import EpochBar
from torch_cormorant.train.quiet import quiet_lightning
from torch_cormorant.train.record import hardware, versions
from torch_cormorant.train.resume import resume_point
from torch_cormorant.train.sources import divided, load_data
from torch_cormorant.train.threads import raised_from_threads

__all__ = ["Fitted", "fit", "fit_seeds"]

MOST_THREADS = 1024
"""More than any machine gains from."""
LARGEST_SEED = 2**32 - 1
"""Of NumPy's generator."""
_FREE = ("epochs", "devices", "threads", "checkpoint_minutes", "seeds", "device")


@dataclass(frozen=True)
class Fitted:
    """A finished training.

    Args:
        module: Network and loss, with the weights of the best epoch;
            ``module.network`` is the network.
        folder: Where everything was written.
        record: Settings, data, errors, epochs, versions: what ``results.json`` holds.
        report: Values, predictions and errors of the test molecules.
    """

    module: Any
    folder: RunFolder
    record: dict[str, Any]
    report: RunReport


def fit(
    config: RunConfig,
    folder: str | os.PathLike[str],
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> Fitted:
    """Train, test the best epoch, and write everything into a folder.

    What ``cormorant train`` and ``examples/qm9.py`` do: read and divide the data,
    choose head, references and scale, train with checkpoints, print the errors beside
    simple baselines. Written are ``model.safetensors``, ``results.json``, checkpoints,
    and what the section ``output`` asks for.

    Args:
        config: As :func:`~torch_cormorant.train.make_config` makes it.
        folder: Where to; one run at a time writes there.
        resume: Go on with the run that is there.
        overwrite: Replace the run that is there.

    Returns:
        The network, and everything that was found.

    Raises:
        CormorantError: Something does not fit; nothing has been written then.
        KeyboardInterrupt: The training was stopped; what was written is whole, and it
            goes on with ``resume``.

    Example:
        >>> import tempfile
        >>> from torch_cormorant.train import fit, make_config
        >>> config = make_config({
        ...     "data": {"target": "gap", "train": 8, "valid": 4, "test": 4},
        ...     "model": {"options": {"channels": 4, "num_levels": 1, "lmax": 1}},
        ...     "training": {"epochs": 1, "batch_size": 4},
        ...     "output": {"report": False},
        ... })
        >>> fitted = fit(config, tempfile.mkdtemp())  # doctest: +ELLIPSIS
        MiniQM9 (not QM9), B3LYP/6-31G(2df,p)//GFN2-xTB: gap, 8 / 4 / 4 train/valid/test
        ...
        >>> fitted.folder.model.name, len(fitted.report.predicted)
        ('model.safetensors', 4)
    """
    seeds = config.training.seeds or [config.training.seed]
    if len(seeds) > 1:
        raise ConfigError(
            f"training.seeds: {len(seeds)} of them, expected one; train.fit_seeds "
            "trains with several"
        )
    _check_machine(config.training, seeds)
    return _fit(config, Path(folder), seeds[0], resume=resume, overwrite=overwrite)


def fit_seeds(
    config: RunConfig,
    folder: str | os.PathLike[str],
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> list[Fitted]:
    """Train with every seed of ``training.seeds``, and compare spread and errors.

    The folder is a model: :meth:`.Ensemble.load`, the commands and the calculators take
    it, with spreads multiplied by factors that the validation data ask for.

    Args:
        config: The configuration.
        folder: Gets a folder ``seed-N`` for each, ``ensemble.json`` and a picture.
        resume: Go on with the runs that are there.
        overwrite: Replace the runs that are there.

    Returns:
        One for each seed.

    Raises:
        ConfigError: Fewer than two seeds, or the same one twice.
        CormorantError: As :func:`fit`.
    """
    seeds = config.training.seeds
    if len(seeds) < 2:
        raise ConfigError(f"training.seeds: {seeds}, expected at least two")
    _check_machine(config.training, seeds)
    found = []
    with RunFolder(folder) as whole:
        whole.lock()
        for seed in seeds:
            print(f"--- seed {seed}")
            here = whole.path / f"seed-{seed}"
            there = resume and RunFolder(here).resumable
            found.append(_fit(config, here, seed, resume=there, overwrite=overwrite))
        data = load_data(config.data)
        held_out = data[divided(data, vars(config.data)).valid]
        files = [one.folder.model for one in found]
        measures = measured(files, list(held_out))
        summarise(whole.path, seeds, [one.report for one in found], *measures)
    return found


def _check_machine(training: TrainingConfig, seeds: Sequence[int]) -> None:
    """Refuse what this machine, or any random generator, has not.

    Raises:
        ConfigError: The message names the key.
    """
    if training.device == "cuda":
        as_device("cuda", "training.device")
    if training.threads > MOST_THREADS:  # the process would be ended by the system
        raise ConfigError(
            f"training.threads: {training.threads}, at most {MOST_THREADS} are taken"
        )
    for seed in seeds:
        if not 0 <= seed <= LARGEST_SEED:
            raise ConfigError(f"training.seed: {seed}, expected 0 to {LARGEST_SEED}")
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"training.seeds: {list(seeds)} names one of them twice")


def _fit(
    config: RunConfig, path: Path, seed: int, *, resume: bool, overwrite: bool
) -> Fitted:
    torch.set_num_threads(config.training.threads)
    seed_everything(seed, verbose=False)
    job = Job(config, seed)
    with RunFolder(path) as folder:
        return _fit_in(folder, job, resume=resume, overwrite=overwrite)


def _fit_in(folder: RunFolder, job: Job, *, resume: bool, overwrite: bool) -> Fitted:
    config, chosen = job.config, _settings(job)
    log, activations = EpochLog(job.shown_target), ActivationLog()
    guard = config.training.guard
    guards = [] if guard == "off" else [SpikeGuard(guard)]
    # First, as it may refuse the devices: nothing is touched then.
    trainer = _make_trainer(job, folder, [log, activations, *guards])
    epochs = config.training.epochs
    notes = [folder.prepare(chosen, resume=resume, overwrite=overwrite, epochs=epochs)]
    start = None
    if resume:
        start, note = resume_point(folder, epochs)
        notes.append(note)
    print(job.describe(), *filter(None, notes), f"to {folder.path}", sep="\n")
    with quiet_lightning(), raised_from_threads():
        try:
            trainer.fit(job.module, job.loaders, ckpt_path=start)
        except SystemExit:  # what Lightning makes of Ctrl-C
            raise KeyboardInterrupt(folder.path) from None
        best = AtomicCheckpointIO().load_checkpoint(folder.best)
        job.module.load_state_dict(best["state_dict"])
        outputs: Any = trainer.predict(job.module, job.loaders)
    best_epoch = best["epoch"] + 1
    report = report_of(job, log, outputs, best_epoch)
    report.activations = activations.rows
    report.remarks = [*activations.dead, *_spikes(guards)]
    record = {
        "command": _command_line(),
        "config": dataclasses.asdict(config),
        "settings": {**chosen, "epochs": epochs},
        "data": {
            "name": job.data.title,
            "sha256": job.data.digest,
            "level_of_theory": job.data.level_of_theory,
            "sizes": [len(part) for part in job.split.parts],
            "split_sha256": job.split.digest,
        },
        "compositions": job.compositions(),
        **({} if job.start is None else {"start": job.start.record}),
        "seed": job.seed,
        "parameters": job.parameters,
        "best_epoch": best_epoch,
        "test": report.errors,
        "epochs": log.rows,
        "seconds": log.seconds,
        "versions": versions(),
        "hardware": hardware(trainer.strategy.root_device),
    }
    if trainer.is_global_zero:
        write_outcome(job, folder, report, record)
    return Fitted(job.module, folder, record, report)


def _command_line() -> str:
    """The command that this process was started with."""
    program, *rest = sys.argv
    name = Path(program).name
    if name.endswith(".py") and "__main__" not in name:
        return shlex.join([Path(sys.executable).name, program, *rest])
    return shlex.join(["cormorant" if "__main__" in name else name, *rest])


def _settings(job: Job) -> dict[str, object]:
    """What must be the same when a run is resumed."""
    plain = dataclasses.asdict(job.config)
    data = plain["data"]
    labels = ("units", "energy", "forces", "stress", "virial")
    training = {k: v for k, v in plain["training"].items() if k not in _FREE}
    return {
        "data_sha256": job.data.digest,
        **({} if job.start is None else {"start_sha256": job.start.old.digest}),
        "split_sha256": job.split.digest,
        "targets": job.targets,
        "target_units": job.units,
        **{f"data_{name}": data[name] for name in labels},
        **plain["model"],
        **plain["loss"],
        **training,
        "seed": job.seed,
    }


def _accelerator(device: str) -> str:
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return "gpu" if device == "cuda" else device


def _strategy(devices: int) -> Any:
    """How processes share gradients: in place, without copies to and fro."""
    if devices < 2:
        return "auto"
    return DDPStrategy(gradient_as_bucket_view=True)


def _make_trainer(job: Job, folder: RunFolder, callbacks: list[Any]) -> Trainer:
    """Lightning's trainer for a configuration.

    Raises:
        ConfigError: This machine has not the devices that are asked for.
    """
    training = job.config.training
    bar = [EpochBar()] if sys.stdout.isatty() else []
    monitor = "valid_loss" if job.frames else "valid_mae"
    minutes = training.checkpoint_minutes
    keep = training.keep
    saver = RunCheckpoints(folder.path, monitor, every_minutes=minutes, keep=keep)
    logger: Any = False
    if job.config.output.tensorboard:
        from lightning.pytorch.loggers import TensorBoardLogger

        logger = TensorBoardLogger(folder.path, name="tensorboard", version="")
    with quiet_lightning():
        try:
            return Trainer(
                max_epochs=training.epochs,
                accelerator=_accelerator(training.device),
                devices=training.devices,
                strategy=_strategy(training.devices),
                use_distributed_sampler=False,
                # Captured steps clip by themselves.
                gradient_clip_val=None if training.captured else training.clip or None,
                callbacks=[*callbacks, saver, *bar],
                plugins=[AtomicCheckpointIO()],
                enable_progress_bar=bool(bar),
                enable_model_summary=False,
                logger=logger,
                num_sanity_val_steps=0,
            )
        except MisconfigurationException as error:
            reason = " ".join(str(error).split())
            raise ConfigError(
                f"training.device, devices: {training.device}, {training.devices}: "
                f"{reason}"
            ) from error


def _spikes(guards: list[SpikeGuard]) -> list[str]:
    return [
        f"spike in epoch {event['epoch']}, step {event['step']}: loss {event['loss']}, "
        f"median {event['median']}, answer: {event['answer']}"
        for guard in guards
        for event in guard.events
    ]
