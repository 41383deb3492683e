"""``cormorant train``: run, test, record, report."""

from __future__ import annotations

import re
import shlex
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer, seed_everything

from torch_cormorant import train
from torch_cormorant.cli.building import Job, build
from torch_cormorant.cli.config import as_plain
from torch_cormorant.cli.schema import RunConfig, TrainingConfig
from torch_cormorant.data import Target
from torch_cormorant.data.describe import symbol
from torch_cormorant.data.units import unit_is_known
from torch_cormorant.errors import ConfigError
from torch_cormorant.models.files import as_device
from torch_cormorant.train.html_report import RunReport, write_report
from torch_cormorant.train.threads import raised_from_threads

__all__ = ["run_training"]

MOST_THREADS = 1024
"""More than any machine gains from."""
LARGEST_SEED = 2**32 - 1
"""Of NumPy's generator."""
_ACCELERATORS = {"auto": "auto", "cpu": "cpu", "cuda": "gpu"}
_FREE = ("epochs", "devices", "threads", "checkpoint_minutes", "seeds", "device")


@dataclass(frozen=True)
class Options:
    """What stands on the command line beside the configuration.

    Args:
        out: Folder; default that of the configuration.
        resume: Go on with the run that is there.
        overwrite: Replace it.
    """

    out: Path
    resume: bool = False
    overwrite: bool = False


def run_training(config: RunConfig, options: Options) -> list[dict[str, Any]]:
    """Train with one seed or several.

    Args:
        config: The configuration.
        options: Where to, and whether to go on.

    Returns:
        The record of every seed, as ``results.json`` holds it.

    Raises:
        CormorantError: Something does not fit.
    """
    seeds = config.training.seeds or [config.training.seed]
    check_machine(config.training, seeds)
    if len(seeds) == 1:
        return [train_once(config, options, seeds[0])[0]]
    found = []
    with train.RunFolder(options.out) as folder:
        folder.lock()
        for seed in seeds:
            print(f"--- seed {seed}")
            here = options.out / f"seed-{seed}"
            resume = options.resume and train.RunFolder(here).resumable
            own = Options(here, resume, options.overwrite)
            found.append(train_once(config, own, seed))
        summarise(options.out, seeds, found)
    return [record for record, _ in found]


def check_machine(training: TrainingConfig, seeds: Sequence[int]) -> None:
    """Refuse what this machine, or any random generator, has not.

    Args:
        training: The section of the configuration.
        seeds: The seeds.

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


def train_once(
    config: RunConfig, options: Options, seed: int
) -> tuple[dict[str, Any], RunReport]:
    """Train with one seed.

    Args:
        config: The configuration.
        options: Where to, and whether to go on.
        seed: The seed.

    Returns:
        The record, and what the report shows.
    """
    torch.set_num_threads(config.training.threads)
    seed_everything(seed, verbose=False)
    job = build(config, seed)
    with train.RunFolder(options.out) as folder:
        return _train_in(folder, job, options)


def _train_in(
    folder: train.RunFolder, job: Job, options: Options
) -> tuple[dict[str, Any], RunReport]:
    config, chosen = job.config, settings(job)
    log, activations = train.EpochLog(shown_target(job)), train.ActivationLog()
    guard = config.training.guard
    guards = [] if guard == "off" else [train.SpikeGuard(guard)]
    # First, as it may refuse the devices: nothing is touched then.
    trainer = make_trainer(job, folder, [log, activations, *guards])
    epochs = config.training.epochs
    notes = [
        folder.prepare(
            chosen, resume=options.resume, overwrite=options.overwrite, epochs=epochs
        )
    ]
    start = None
    if options.resume:
        start, note = train.resume_point(folder, epochs)
        notes.append(note)
    print(describe(job), *filter(None, notes), f"to {folder.path}", sep="\n")
    checkpoints = train.AtomicCheckpointIO()
    with train.quiet_lightning(), raised_from_threads():
        try:
            trainer.fit(job.module, job.loaders, ckpt_path=start)
        except SystemExit:  # what Lightning makes of Ctrl-C
            raise KeyboardInterrupt(folder.path) from None
        best = checkpoints.load_checkpoint(folder.best)
        job.module.load_state_dict(best["state_dict"])
        outputs: Any = trainer.predict(job.module, job.loaders)
    report = test(job, log, outputs)
    report.activations = activations.rows
    report.remarks = [*activations.dead, *_spikes(guards)]
    record = {
        "command": command_line(),
        "config": as_plain(config),
        "settings": {**chosen, "epochs": epochs},
        "data": {
            "name": job.data.title,
            "sha256": job.data.digest,
            "level_of_theory": job.data.level_of_theory,
            "sizes": [len(part) for part in job.split.parts],
            "split_sha256": job.split.digest,
        },
        "compositions": spanned(job),
        "seed": job.seed,
        "parameters": parameters(job),
        "best_epoch": best["epoch"] + 1,
        "test": report.errors,
        "epochs": log.rows,
        "seconds": log.seconds,
        "versions": train.versions(),
        "hardware": train.hardware(trainer.strategy.root_device),
    }
    if trainer.is_global_zero:
        finish(job, folder, report, record)
    return record, report


def spanned(job: Job) -> list[dict[str, int]]:
    """Compositions whose energies the training frames tell; none where all are known.

    Args:
        job: What is trained.
    """
    if not job.frames or job.config.training.reference == "isolated":
        return []
    found: list[dict[str, int]] = job.loaders.train.compositions()
    return found


def command_line() -> str:
    """The command that this process was started with."""
    name = Path(sys.argv[0]).name
    return shlex.join(["cormorant" if "__main__" in name else name, *sys.argv[1:]])


def settings(job: Job) -> dict[str, object]:
    """What must be the same when a run is resumed."""
    plain = as_plain(job.config)
    data = plain["data"]
    labels = ("units", "energy", "forces", "stress", "virial")
    training = {k: v for k, v in plain["training"].items() if k not in _FREE}
    return {
        "data_sha256": job.data.digest,
        "split_sha256": job.split.digest,
        "targets": job.targets,
        "target_units": job.units,
        **{f"data_{name}": data[name] for name in labels},
        **plain["model"],
        **plain["loss"],
        **training,
        "seed": job.seed,
    }


def describe(job: Job) -> str:
    """What is about to run, and notes on what is probably not meant."""
    sizes = " / ".join(str(len(part)) for part in job.split.parts)
    what = ", ".join(job.targets)
    theory = job.data.level_of_theory
    known = "" if theory == "unknown" else f", {theory}"
    head = job.module.model.head
    kinds = dict.fromkeys(part.kind for part in getattr(head, "heads", [head]))
    network = f"{job.config.model.network} network, head {', '.join(kinds)}"
    lines = [
        f"{job.data.title}{known}: {what}, {sizes} train/valid/test",
        f"{network}, {parameters(job):,} parameters",
        *remarks(job),
    ]
    return "\n".join(lines)


def remarks(job: Job) -> list[str]:
    """What is allowed, but is probably not meant.

    Args:
        job: What is trained.
    """
    found = []
    part = job.loaders.train
    counts = part.element_counts().sum(dim=0).tolist()
    absent = [z for z, count in zip(part.species, counts, strict=True) if count == 0]
    if absent:
        names = ", ".join(symbol(number) for number in absent)
        found.append(
            f"note: no training molecule holds {names}; predictions for it mean nothing"
        )
    target = None if job.frames else job.data.targets[0]
    vector = target is not None and target.shape == (3,) and not target.per_atom
    if target and vector and not unit_is_known(target.unit):
        found.append(
            f"note: the unit {target.unit!r} is not understood, so {target.name!r} is "
            "learned as a vector like any other, not as a dipole moment"
        )
    return found


def parameters(job: Job) -> int:
    """Number of weights that are trained."""
    return sum(p.numel() for p in job.module.model.parameters() if p.requires_grad)


def shown_target(job: Job) -> Target:
    """Unit and format of the errors that the epochs print."""
    if job.frames:
        return train.energy_target(job.units[0])
    if len(job.targets) == 1:
        target: Target = job.data.targets[0]
        return target
    return Target("targets", "targets", "deviations", "deviations")


def make_trainer(job: Job, folder: train.RunFolder, callbacks: list[Any]) -> Trainer:
    """Lightning's trainer for a configuration.

    Args:
        job: What is trained.
        folder: Where checkpoints go.
        callbacks: Log, activations and guard.

    Returns:
        The trainer.

    Raises:
        ConfigError: This machine has not the devices that are asked for.
    """
    training = job.config.training
    bar = [train.EpochBar()] if sys.stdout.isatty() else []
    monitor = "valid_loss" if job.frames else "valid_mae"
    saver = train.RunCheckpoints(
        folder.path, monitor, every_minutes=training.checkpoint_minutes
    )
    logger: Any = False
    if job.config.output.tensorboard:
        from lightning.pytorch.loggers import TensorBoardLogger

        logger = TensorBoardLogger(folder.path, name="tensorboard", version="")
    several = training.devices > 1
    with train.quiet_lightning():
        try:
            return Trainer(
                max_epochs=training.epochs,
                accelerator=_ACCELERATORS[training.device],
                devices=training.devices,
                strategy="ddp" if several else "auto",
                use_distributed_sampler=False,
                # Captured steps clip by themselves.
                gradient_clip_val=None if training.captured else training.clip or None,
                callbacks=[*callbacks, saver, *bar],
                plugins=[train.AtomicCheckpointIO()],
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


def test(job: Job, log: train.EpochLog, outputs: Any) -> RunReport:
    """Errors on the test molecules."""
    loaders, forces, baseline = job.loaders, None, None
    part = loaders.test
    if job.frames:
        output = train.join_outputs(outputs)
        molecule = job.config.data.molecule or None
        found = train.frame_errors(loaders.train, part, output, molecule)
        target = log.target
        table = found.table(
            "Cormorant",
            f"{job.data.title}: {len(part)} test frames",
            factor=target.shown_factor,
            unit=target.shown_unit,
        )
        targets, errors = [target], found.record()
        predicted = output.energy[:, None]
        if output.forces is not None:
            truth, z = (torch.cat([f[k] for f in part]) for k in ("forces", "z"))
            forces = (truth, output.forces, z)
        names = [f"frame {row}" for row in job.split.test.tolist()]
    else:
        targets, predicted = list(job.data.targets), torch.cat(outputs)
        several = [
            train.compare(loaders.train, part, predicted, k)
            for k in range(len(targets))
        ]
        table = "\n".join(one.table("Cormorant") for one in several)
        errors = {t.name: one.record() for t, one in zip(targets, several, strict=True)}
        if len(targets) == 1:
            valid = loaders.valid
            guess = train.compare(loaders.train, valid, valid.values)
            baseline = guess.zero if guess.composition is None else guess.composition
        names = row_names(part)
    network: Any = job.module.network
    return RunReport(
        title=f"{job.data.title}: {', '.join(job.targets)}, "
        f"{job.config.model.network} network, seed {job.seed}",
        targets=targets,
        rows=log.rows,
        log_target=log.target,
        table=table,
        errors=errors,
        values=part.values,
        predicted=predicted,
        counts=part.element_counts() if job.frames else part.row_counts(),
        species=part.species,
        names=names,
        forces=forces,
        network=network,
        baseline=baseline,
    )


def row_names(part: Any) -> list[str]:
    """What to call the rows of the labels: molecules, or their atoms.

    Args:
        part: Molecules with properties.
    """
    names = [str(m.smiles) or f"molecule {int(m.idx)}" for m in part]
    if not part.per_atom:
        return names
    return [
        f"{name}, atom {k} ({symbol(int(number))})"
        for name, molecule in zip(names, part, strict=True)
        for k, number in enumerate(molecule.z)
    ]


def finish(
    job: Job, folder: train.RunFolder, report: RunReport, record: dict[str, Any]
) -> None:
    """Write everything that a finished run leaves."""
    train.write_json(folder.results, record)
    kept = {name: value for name, value in record.items() if name != "epochs"}
    job.module.save_network(folder.model, job.targets, job.units, kept)
    if job.config.output.report:
        write_report(folder.report, report, record)
    print(f"\n{report.table}")
    print(f"{record['seconds']:.0f} s of training; model and report in {folder.path}")


def summarise(
    out: Path, seeds: Sequence[int], found: list[tuple[dict[str, Any], RunReport]]
) -> None:
    """Mean and spread over the seeds, and how far the spread tells the error.

    Args:
        out: Folder of the ensemble.
        seeds: The seeds.
        found: Records and reports.
    """
    from torch_cormorant.train.ensemble import calibration, plot_calibration

    reports = [report for _, report in found]
    stacked = torch.stack([report.predicted for report in reports])
    values, targets = reports[0].values, reports[0].targets
    records = {}
    print()
    # Targets have units of their own: nothing is averaged over them.
    for k, target in enumerate(targets):
        own, truth = stacked[:, :, k : k + 1], values[:, k : k + 1]
        if target.shape:  # one vector or tensor: every component counts
            own, truth = stacked.reshape(len(seeds), -1, 1), values.reshape(-1, 1)
        result = calibration(own, truth)
        maes = [(one - truth).abs().mean().item() for one in own]
        mean, spread = statistics.fmean(maes), statistics.stdev(maes)
        records[target.name] = {
            "unit": target.unit,
            "mae": maes,
            "mae_mean": mean,
            "mae_spread": spread,
            **result.record(),
        }
        safe = re.sub(r"[^\w.+-]", "_", target.name)
        name = "calibration" if len(targets) == 1 else f"calibration_{safe}"
        plot_calibration(out / f"{name}.png", result, target.unit)
        print(
            f"{target.name}, {len(seeds)} seeds: MAE {target.shown(mean)} +- "
            f"{target.shown(spread)}, of their mean {target.shown(result.mae)}; {out}"
        )
    only = records[targets[0].name] if len(targets) == 1 else {"targets": records}
    train.write_json(out / "ensemble.json", {"seeds": list(seeds), **only})


def _spikes(guards: list[train.SpikeGuard]) -> list[str]:
    return [
        f"spike in epoch {event['epoch']}, step {event['step']}: loss {event['loss']}, "
        f"median {event['median']}, answer: {event['answer']}"
        for guard in guards
        for event in guard.events
    ]
