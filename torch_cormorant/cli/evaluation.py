"""``cormorant evaluate``: errors on labelled structures."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import torch

from torch_cormorant.cli.charges import refuse_charges
from torch_cormorant.cli.labels import (
    Labelled,
    Names,
    given_units,
    read_labels,
)
from torch_cormorant.cli.prediction import property_values
from torch_cormorant.data import (
    Frames,
    Molecules,
    Split,
    Target,
    unit_factor,
)
from torch_cormorant.data.frame_arrays import warn_of_units
from torch_cormorant.errors import ConfigError, CormorantError
from torch_cormorant.models import Ensemble, Potential, load_models
from torch_cormorant.models.loading import Loaded

__all__ = ["evaluate"]

# Without the training molecules the baselines are fitted to what they are shown for.
# Of the same lengths, since they stand in a column.
_OWN_FRAMES = ("mean of the training frames", "mean of these structures   ")


def evaluate(args: argparse.Namespace) -> None:
    """Print the errors on labelled structures.

    Args:
        args: ``model``, ``input``, ``batch_size``, ``device``, ``part``, ``unit``,
            ``energy``, ``forces`` and ``data_part``.

    Raises:
        CormorantError: A file, a property or a structure does not fit.
    """
    model = load_models(args.model, args.device)
    units = given_units(args.unit, model)
    labels = Names(args.energy, args.forces, args.data_part)
    data, assumed = read_labels(args.input, model, units, labels)
    warn_of_units(data, args.input)
    names = [f"structure {row}" for row in range(len(data))]
    refuse_charges(model, args.input, data, names)
    if isinstance(data, Molecules):
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
    if isinstance(data, Frames):
        print(_frame_table(args, model, known, everything))
    else:
        print(_property_tables(args, model, known, everything))
    if split is not None and part in ("all", "train"):
        print("among them are the molecules that the model was trained on")
    if assumed:
        print(f"taken as the units of the file: {assumed}")


def _check_rows(args: argparse.Namespace, model: Loaded, data: Molecules) -> None:
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


def trained_split(model: Loaded, data: Labelled) -> Split | None:
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
        from torch_cormorant.train.sources import divided

        split = divided(data, record["config"]["data"])
        return split if split.digest == record["data"]["split_sha256"] else None
    except (AttributeError, KeyError, TypeError, CormorantError):  # another record
        return None


def _frame_table(args: argparse.Namespace, model: Any, known: Any, data: Any) -> str:
    from torch_cormorant.train import energy_target, frame_errors

    frames = [data[row] for row in range(len(data))]
    forces = "forces" in data.fields
    potential = model if isinstance(model, Ensemble) else Potential.of(model)
    found = potential.evaluate_all(frames, forces=forces, batch_size=args.batch_size)
    target = energy_target(data.energy_unit)
    table = frame_errors(known, data, found).table(
        args.model.name,
        f"{data.title}: {len(data):,} structures",
        factor=target.shown_factor,
        unit=target.shown_unit,
    )
    return table if known is not data else table.replace(*_OWN_FRAMES)


def _property_tables(
    args: argparse.Namespace, model: Loaded, known: Any, data: Any
) -> str:
    from torch_cormorant.train import compare

    units = zip(data.targets, model.info.units, strict=True)
    factors = [_factor(unit, target) for target, unit in units]
    frames = [data[row] for row in range(len(data))]
    scales = torch.tensor(factors, dtype=torch.float64)
    predicted, std = property_values(model, frames, args.batch_size)
    # one property with several columns has one unit
    predicted = predicted.double() * scales
    std = None if std is None else std.double() * scales
    part = "these" if known is data else "the training"
    tables = []
    for number, target in enumerate(data.targets):
        found = compare(known, data, predicted, number, std)
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
    if unit == target.unit or (not unit and target.unit == "1"):
        return 1.0
    if not unit:
        raise ConfigError(
            f"units: the model file tells none for {target.name!r}, the data are in "
            f"{target.unit}; write the file with a unit (cormorant convert --unit)"
        )
    return unit_factor(unit, target.unit)
