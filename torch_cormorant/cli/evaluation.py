"""``cormorant evaluate``: errors on labelled structures."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

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
    ExtXYZDataset,
    ExtXYZProperties,
    FrameDataset,
    MiniEthanol,
    MiniQM9,
    MoleculeDataset,
    Split,
    Target,
    unit_factor,
)
from torch_cormorant.data.arrays import npz_names
from torch_cormorant.errors import ConfigError, CormorantError, DataError
from torch_cormorant.models import Cormorant, load_model

__all__ = ["evaluate"]

Labelled = MoleculeDataset | FrameDataset
_EMBEDDED = ("mini_qm9", "mini_ethanol")
# Without the training molecules the baselines are fitted to what they are shown for.
# Of the same lengths, since they stand in a column.
_OWN_FRAMES = ("mean of the training frames", "mean of these structures   ")


def evaluate(args: argparse.Namespace) -> None:
    """Print the errors on labelled structures.

    Args:
        args: ``model``, ``input``, ``batch_size``, ``device``, ``part`` and ``unit``.

    Raises:
        CormorantError: A file, a property or a structure does not fit.
    """
    model = load_model(args.model, args.device)
    data = read_labels(args.input, model, _units(args.unit, model))
    warn_of_units(data, args.input)
    if isinstance(data, MoleculeDataset):
        _check_rows(args, model, data)
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


def _check_rows(
    args: argparse.Namespace, model: Cormorant, data: MoleculeDataset
) -> None:
    """Refuse labels of another shape than the predictions.

    Raises:
        ConfigError: They are.
    """
    head, row = model.head, tuple(data.values.shape[1:])
    own = data.targets[0].owner
    if (head.rows, tuple(head.shape)) != (own, row):
        raise ConfigError(
            f"{args.input}: {data.targets[0].name!r} has {list(row)} for each {own}, "
            f"the head {head.kind!r} of {args.model} predicts {list(head.shape)} for "
            f"each {head.rows}"
        )


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
    """Molecules whose properties stand in the second lines or columns of a file."""
    targets, own = (
        model.info.targets,
        dict(zip(model.info.targets, model.info.units, strict=True)),
    )
    given = {name: units.get(name) or own[name] or "1" for name in targets}
    # As `cormorant predict` writes it: a name in the file has no spaces.
    names = {name: name.replace(" ", "_") for name in targets}
    unit = {name: own[name] for name in units if own[name]}
    return ExtXYZProperties(path, targets, given, unit=unit, names=names)


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
    scales = torch.tensor(factors, dtype=torch.float64)
    predicted = predicted * scales  # one property with several columns has one unit
    part = "these" if known is data else "the training"
    tables = []
    for number, target in enumerate(data.targets):
        found = compare(known, data, predicted, number)
        title = (
            f"{data.title}: {target.name} of {'the atoms of ' * target.per_atom}"
            f"{len(data):,} molecules{', all components' * bool(target.shape)}"
        )
        tables.append(replace(found, title=title).table(args.model.name, part))
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
