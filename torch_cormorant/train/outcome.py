"""What a finished training has found, and the files that it leaves."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib import rc_context

from torch_cormorant.data.describe import symbol
from torch_cormorant.errors import ConfigError
from torch_cormorant.models import Ensemble
from torch_cormorant.models.measures import RECORD
from torch_cormorant.networks import CormorantNetwork
from torch_cormorant.train.callbacks import EpochLog
from torch_cormorant.train.ensemble import calibration, plot_calibration
from torch_cormorant.train.files import RunFolder, write_json
from torch_cormorant.train.frame_errors import frame_errors, join_outputs
from torch_cormorant.train.html_report import RunReport, write_report
from torch_cormorant.train.job import Job
from torch_cormorant.train.plots import plot_learning_curve, plot_parity
from torch_cormorant.train.report import compare

__all__ = ["measured", "report_of", "summarise", "write_outcome"]


def report_of(job: Job, log: EpochLog, outputs: Any, best_epoch: int) -> RunReport:
    """Errors on the test molecules, beside those of simple baselines.

    Args:
        job: What was trained.
        log: The epochs.
        outputs: Predictions for the test part, batch by batch.
        best_epoch: The epoch that is tested.
    """
    part = job.loaders.test
    model = job.module.network
    ours = isinstance(getattr(model, "network", model), CormorantNetwork)
    found = RunReport(
        title=f"{job.title}, seed {job.seed}",
        targets=[log.target] if job.frames else list(job.data.targets),
        rows=log.rows,
        log_target=log.target,
        table="",
        errors={},
        values=part.values,
        predicted=part.values,
        counts=part.element_counts() if job.frames else part.row_counts(),
        species=part.species,
        names=[],
        frames=job.frames,
        network=model if ours else None,
    )
    network = job.network_name.removesuffix(" network")
    name = f"{'Cormorant, ' * ours}{network} (epoch {best_epoch})"
    add = _add_frames if job.frames else _add_properties
    add(found, job, outputs, name)
    return found


def _add_frames(found: RunReport, job: Job, outputs: Any, name: str) -> None:
    loaders, part = job.loaders, job.loaders.test
    output = join_outputs(outputs)
    molecule = job.config.data.molecule or None
    errors = frame_errors(loaders.train, part, output, molecule)
    target = found.log_target
    found.table = errors.table(
        name,
        f"{job.data.title}: {len(part)} test frames, {len(loaders.train)} training "
        "frames",
        factor=target.shown_factor,
        unit=target.shown_unit,
    )
    found.errors, found.predicted = errors.record(), output.energy[:, None]
    found.names = [f"frame {row}" for row in job.split.test.tolist()]
    if output.forces is not None:
        truth, z = (torch.cat([frame[k] for frame in part]) for k in ("forces", "z"))
        found.forces = (truth, output.forces, z)


def _add_properties(found: RunReport, job: Job, outputs: Any, name: str) -> None:
    loaders, part = job.loaders, job.loaders.test
    found.predicted = torch.cat(outputs)
    several = [
        compare(loaders.train, part, found.predicted, k)
        for k in range(len(found.targets))
    ]
    found.table = "\n".join(one.table(name) for one in several)
    found.errors = {
        target.name: one.record()
        for target, one in zip(found.targets, several, strict=True)
    }
    found.names = _row_names(part)
    if len(several) == 1:
        guess = compare(loaders.train, loaders.valid, loaders.valid.values)
        found.baseline = guess.zero if guess.composition is None else guess.composition


def _row_names(part: Any) -> list[str]:
    """What to call the rows of the labels: molecules, or their atoms."""
    names = [str(m.smiles) or f"molecule {int(m.idx)}" for m in part]
    if not part.per_atom:
        return names
    return [
        f"{name}, atom {k} ({symbol(int(number))})"
        for name, molecule in zip(names, part, strict=True)
        for k, number in enumerate(molecule.z)
    ]


def write_outcome(
    job: Job, folder: RunFolder, report: RunReport, record: dict[str, Any]
) -> None:
    """Write everything that a finished run leaves, and print its table.

    Args:
        job: What was trained.
        folder: Where to.
        report: Values, predictions and errors.
        record: All of it as plain values.
    """
    write_json(folder.results, record)
    kept = {name: value for name, value in record.items() if name != "epochs"}
    job.module.save_network(folder.model, job.targets, job.units, kept)
    if job.config.output.report:
        write_report(folder.report, report, record)
    if job.config.output.plots:
        _write_plots(job, folder, report)
    print(f"\n{report.table}")
    print(f"{record['seconds']:.0f} s of training; model and results in {folder.path}")


@rc_context({"text.parse_math": False})  # names and units are the user's own text
def _write_plots(job: Job, folder: RunFolder, report: RunReport) -> None:
    plot_learning_curve(
        folder.learning_curve,
        report.rows,
        report.log_target,
        title=job.title,
        levels=report.levels,
    )
    for k, target in enumerate(report.targets):
        truth, ours = report.columns(k)
        what = f"test {'frame' if job.frames else target.owner}s"
        path = _path(folder.parity, target.name, len(report.targets))
        plot_parity(path, truth, ours, target, title=job.title, what=what)


def _path(path: Path, name: str, count: int) -> Path:
    """A file of its own for each of several targets."""
    if count == 1:
        return path
    safe = re.sub(r"[^\w.+-]", "_", name)
    return path.with_name(f"{path.stem}_{safe}{path.suffix}")


def measured(
    files: Sequence[Path], held_out: Sequence[Any]
) -> tuple[dict[str, float], dict[str, float]]:
    """By how much the spread of an ensemble is too small, and how large it may be.

    Args:
        files: Its model files.
        held_out: The validation structures.

    Returns:
        Factors and limits, as :class:`.Ensemble` has them; none if they are unknown.
    """
    team = Ensemble.load(files)
    try:
        team.calibrate(held_out)
    except ConfigError as error:
        print(f"the spread is not calibrated: {error}")
    return team.factors, team.limits


def summarise(
    out: Path,
    seeds: Sequence[int],
    reports: Sequence[RunReport],
    factors: Mapping[str, float],
    limits: Mapping[str, float],
) -> None:
    """Mean and spread over the seeds, and how far the spread tells the error.

    Args:
        out: Folder of the ensemble.
        seeds: The seeds.
        reports: What each of them has found.
        factors: What spreads are multiplied by.
        limits: Spreads beyond which structures are warned of.
    """
    stacked = torch.stack([report.predicted for report in reports])
    values, targets = reports[0].values, reports[0].targets
    records = {}
    print()
    # Targets have units of their own: nothing is averaged over them.
    for k, target in enumerate(targets):
        own, truth = stacked[:, :, k : k + 1], values[:, k : k + 1]
        if target.shape:  # one vector or tensor: every component counts
            own, truth = stacked.reshape(len(seeds), -1, 1), values.reshape(-1, 1)
        result = calibration(own, truth, factor=factors.get(target.name, 1.0))
        maes = [(one - truth).abs().mean().item() for one in own]
        mean, spread = statistics.fmean(maes), statistics.stdev(maes)
        records[target.name] = {
            "unit": target.unit,
            "mae": maes,
            "mae_mean": mean,
            "mae_spread": spread,
            **result.record(),
        }
        path = _path(out / "calibration.png", target.name, len(targets))
        plot_calibration(path, result, target.unit)
        print(
            f"{target.name}, {len(seeds)} seeds: MAE {target.shown(mean)} +- "
            f"{target.shown(spread)}, of their mean {target.shown(result.mae)}; {out}"
        )
    only = records[targets[0].name] if len(targets) == 1 else {"targets": records}
    known = ", ".join(f"{name} {value:.3g}" for name, value in factors.items())
    if known:
        print(f"spreads are multiplied by {known}, as the validation data ask for")
    measures = {"factors": dict(factors), "limits": dict(limits)}
    write_json(out / RECORD, {"seeds": list(seeds), **measures, **only})
