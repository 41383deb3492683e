"""``cormorant evaluate``: errors on labelled structures."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from torch_cormorant.cli.prediction import (
    is_potential,
    potential_outputs,
    property_values,
)
from torch_cormorant.cli.schema import source_name
from torch_cormorant.cli.structures import read_npz_frames, warn_of_units
from torch_cormorant.data import (
    QM9,
    QM9_TARGETS,
    ExtXYZDataset,
    FrameDataset,
    MiniEthanol,
    MiniQM9,
    MoleculeDataset,
    Split,
    Target,
    unit_factor,
)
from torch_cormorant.data.arrays import NpzFile, npz_names
from torch_cormorant.data.extxyz_format import numbers_of
from torch_cormorant.errors import ConfigError, CormorantError, DataError
from torch_cormorant.models import Cormorant, load_model

__all__ = ["evaluate"]

Labelled = MoleculeDataset | FrameDataset
_EMBEDDED = ("mini_qm9", "mini_ethanol")
# Without the training molecules the baselines are fitted to what they are shown for.
# Of the same lengths, since they stand in a column.
_OWN_FRAMES = ("mean of the training frames", "mean of these structures   ")
_OWN_MOLECULES = ("mean of the training molecules", "mean of these molecules       ")


def evaluate(args: argparse.Namespace) -> None:
    """Print the errors on labelled structures.

    Args:
        args: ``model``, ``input``, ``batch_size``, ``device``, ``part`` and ``unit``.

    Raises:
        CormorantError: A file, a property or a structure does not fit.
    """
    model = load_model(args.model, args.device)
    if model.head.per_atom or tuple(model.head.shape) != (len(model.info.targets),):
        raise ConfigError(
            f"{args.model}: the head {model.head.kind!r} predicts vectors or tensors, "
            "and errors are printed of numbers only; write predictions with cormorant "
            "predict and compare them"
        )
    data = read_labels(args.input, model, _units(args.unit, model))
    warn_of_units(data, args.input)
    split = trained_split(model, data)
    part = args.part or ("all" if split is None else "test")
    if args.part not in (None, "all") and split is None:
        raise ConfigError(
            f"--part {part}: {args.input} is not what {args.model} was trained on, or "
            "its record does not tell the parts; use --part all"
        )
    everything: Any = data
    known = everything if split is None else everything[torch.tensor(split.train)]
    if split is not None and part != "all":
        everything = everything[torch.tensor(getattr(split, part))]
    if isinstance(data, FrameDataset):
        print(_frame_table(args, model, known, everything))
    else:
        print(_property_tables(args, model, known, everything))
    if split is not None and part in ("all", "train"):
        print("among them are the molecules that the model was trained on")


def read_labels(path: Path, model: Cormorant, units: Mapping[str, str]) -> Labelled:
    """Labelled structures for a model.

    Args:
        path: A file, the folder of QM9, or the name of an embedded set. Frames may be
            those of MD17 or revised MD17 (kcal/mol).
        model: Tells what is looked for.
        units: Of the labels of an extxyz file, by name.

    Returns:
        Frames for a potential, molecules for properties.

    Raises:
        DataError: What the model predicts is not there; property and file are named.
        ConfigError: A unit does not fit, or stands where the file tells it itself.
    """
    suffix, targets = path.suffix.lower(), list(model.info.targets)
    embedded = not path.exists() and source_name(str(path)) in _EMBEDDED
    if units and suffix not in (".extxyz", ".xyz"):
        raise ConfigError(f"--unit: {path} tells its units; only extxyz files need it")
    if embedded and source_name(str(path)) == "mini_qm9":
        return MiniQM9(targets)
    if path.is_dir():
        return QM9(path, target=targets, download=False)
    if suffix == ".npz" and "y_names" in npz_names(path):
        return QM9(npz=path, target=targets)
    if suffix in (".extxyz", ".xyz") and not is_potential(model):
        return _from_extxyz(path, model, units)
    if not (embedded or suffix in (".npz", ".extxyz", ".xyz")):
        raise DataError(
            f"{path}: labels are read from .extxyz, .npz, the folder of QM9, "
            f"{' and '.join(_EMBEDDED)}"
        )
    return _frames(path, model, units, embedded=embedded)


def _frames(
    path: Path, model: Cormorant, units: Mapping[str, str], *, embedded: bool
) -> FrameDataset:
    if not is_potential(model):
        raise DataError(
            f"{path}: holds no property {model.info.targets[0]!r}, only frames with "
            "energies; give molecules with it, as QM9's arrays or an extxyz file"
        )
    unit = model.info.units[0] or "eV"
    if embedded:
        return MiniEthanol(unit)
    if path.suffix.lower() == ".npz":
        return read_npz_frames(path, unit)
    return ExtXYZDataset(path, unit=unit, units=units).in_memory()


def _units(given: Sequence[str], model: Cormorant) -> dict[str, str]:
    """What ``--unit`` says.

    Raises:
        ConfigError: An entry is no pair, or names nothing that the model predicts.
    """
    units = {}
    for entry in given:
        name, sign, unit = entry.partition("=")
        if not (name and sign and unit):
            raise ConfigError(f"--unit {entry}: expected NAME=UNIT, such as gap=eV")
        if name not in model.info.targets:
            raise ConfigError(
                f"--unit {entry}: the model predicts {', '.join(model.info.targets)}"
            )
        units[name] = unit
    return units


def _from_extxyz(
    path: Path, model: Cormorant, units: Mapping[str, str]
) -> MoleculeDataset:
    """Molecules whose properties stand in the second lines of an extxyz file."""
    file = ExtXYZDataset(path, energy=None, forces=None)
    targets = [
        _target(name, unit)
        for name, unit in zip(model.info.targets, model.info.units, strict=True)
    ]
    rows = [[_label(file, row, t) for t in targets] for row in range(len(file))]
    whole = file.in_memory()
    factors = [_factor(units.get(t.name, t.unit), t) for t in targets]
    frames: list[Any] = [whole[row] for row in range(len(whole))]
    sizes = [frame.z.numel() for frame in frames]
    arrays: dict[str, Any] = {
        "z": torch.cat([frame.z for frame in frames]).numpy(),
        "pos": torch.cat([frame.pos for frame in frames]).numpy(),
        "offset": np.cumsum([0, *sizes]),
    }
    return MoleculeDataset(
        NpzFile(path, file.digest, arrays),
        targets,
        np.array(rows) * np.array(factors),
        np.arange(len(frames)),
        [""] * len(frames),
        name=path.name,
        level_of_theory="unknown",
        is_qm9=False,
    )


def _target(name: str, unit: str) -> Target:
    """A property in the unit of the model; errors are shown as QM9's are."""
    known = QM9_TARGETS.get(name)
    if known is not None and known.unit == unit:
        return replace(known, paper_mae=None)
    if unit == "eV":
        return Target(name, name, unit, unit, shown_unit="meV", shown_factor=1000.0)
    return Target(name, name, unit, unit)


def _label(file: ExtXYZDataset, row: int, target: Target) -> float:
    info = file.info(row)
    # As `cormorant predict` writes it: a name in the file has no spaces.
    key = target.name.replace(" ", "_")
    where = f"{file.path}: frame {row}"
    if key not in info:
        there = ", ".join(info) or "nothing of the kind"
        raise DataError(f"{where}: property {key!r} is missing, there is {there}")
    try:
        values = numbers_of(info[key], key)
    except ValueError as error:
        raise DataError(f"{where}: {error}") from None
    if values.shape != (1,) or not np.isfinite(values).all():
        raise DataError(f"{where}: {key!r} is {info[key]!r}, expected one number")
    return float(values[0])


def trained_split(model: Cormorant, data: Labelled) -> Split | None:
    """The parts of the training, if the data are those that the model has seen.

    Args:
        model: With the record of its training.
        data: Any labelled structures.

    Returns:
        The split, or ``None`` for other data or without a record.
    """
    record = model.info.training
    try:
        if not data.digest or record["data"]["sha256"] != data.digest:
            return None
        from torch_cormorant.cli.building import divided

        split = divided(data, record["config"]["data"])
        return split if split.digest == record["data"]["split_sha256"] else None
    except (KeyError, TypeError, CormorantError):  # another kind of record
        return None


def _frame_table(args: argparse.Namespace, model: Any, known: Any, data: Any) -> str:
    from torch_cormorant.train import energy_target, frame_errors, join_outputs

    frames = [data[row] for row in range(len(data))]
    forces = "forces" in data.fields
    outputs = potential_outputs(model, frames, args.batch_size, forces=forces)
    target = energy_target(data.energy_unit)
    table = frame_errors(known, data, join_outputs(outputs)).table(
        args.model.name,
        f"{data.title}: {len(data):,} structures",
        factor=target.shown_factor,
        unit=target.shown_unit,
    )
    return table if known is not data else table.replace(*_OWN_FRAMES)


def _property_tables(
    args: argparse.Namespace, model: Cormorant, known: Any, data: Any
) -> str:
    from torch_cormorant.train import compare

    units = zip(data.targets, model.info.units, strict=True)
    factors = [_factor(unit, target) for target, unit in units]
    frames = [data[row] for row in range(len(data))]
    predicted = property_values(model, frames, args.batch_size).double()
    predicted = predicted * torch.tensor(factors, dtype=torch.float64)
    tables = []
    for number, target in enumerate(data.targets):
        found = compare(known, data, predicted, number)
        title = f"{data.title}: {target.name} of {len(data):,} molecules"
        table = replace(found, title=title).table(args.model.name)
        tables.append(table if known is not data else table.replace(*_OWN_MOLECULES))
    return "\n".join(tables)


def _factor(unit: str, target: Target) -> float:
    """From a unit to that of the data.

    Raises:
        ConfigError: There is none, or it measures something else.
    """
    if unit == target.unit:
        return 1.0
    if not unit:
        raise ConfigError(
            f"units: the model file tells none for {target.name!r}, the data are in "
            f"{target.unit}; write the file with a unit (cormorant convert --unit)"
        )
    return unit_factor(unit, target.unit)
