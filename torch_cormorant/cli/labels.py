"""Labelled structures for a model that is there already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from torch_cormorant.cli.schema import source_name
from torch_cormorant.cli.structures import read_npz_frames
from torch_cormorant.data import (
    QM9,
    ExtXYZDataset,
    ExtXYZProperties,
    FrameDataset,
    MiniEthanol,
    MiniQM9,
    MoleculeDataset,
)
from torch_cormorant.data.arrays import npz_names
from torch_cormorant.data.files import file_digest
from torch_cormorant.errors import ConfigError, DataError
from torch_cormorant.models import Cormorant

__all__ = [
    "Labelled",
    "assumed_units",
    "given_units",
    "is_potential",
    "is_text_file",
    "read_labels",
    "recorded_data",
]

Labelled: TypeAlias = MoleculeDataset | FrameDataset
_EMBEDDED = ("mini_qm9", "mini_ethanol")
_TEXT = (".extxyz", ".xyz")


def is_potential(model: Cormorant) -> bool:
    """Whether the only output of a model is an energy, so that it has forces.

    A property of an own file may be called energy, too, and have any unit.
    """
    one = not model.head.per_atom and tuple(model.head.shape) == (1,)
    trained = model.info.training.get("config", {})
    data = trained.get("data", {}) if isinstance(trained, Mapping) else {}
    own = isinstance(data, Mapping) and data.get("source") == "extxyz"
    own_property = own and bool(data.get("target"))
    return model.info.targets == ("energy",) and one and not own_property


def is_text_file(path: Path) -> bool:
    """Whether a file is extended XYZ, which tells no units."""
    return path.suffix.lower() in _TEXT


def read_labels(path: Path, model: Cormorant, units: Mapping[str, str]) -> Labelled:
    """Labelled structures for a model.

    Args:
        path: A file, the folder of QM9, or the name of an embedded set. Frames may be
            those of MD17 or revised MD17 (kcal/mol).
        model: Tells what is looked for. If the file is the one that it was trained on,
            names and units are those of the training.
        units: Of the labels of an extxyz file, by name, or of the energies of plain
            arrays that do not tell it.

    Returns:
        Frames for a potential, molecules for properties.

    Raises:
        DataError: What the model predicts is not there; property and file are named.
        ConfigError: A unit does not fit, or stands where the file tells it itself.
    """
    suffix, targets = path.suffix.lower(), list(model.info.targets)
    embedded = not path.exists() and source_name(str(path)) in _EMBEDDED
    plain = suffix == ".npz" and is_potential(model) and set(units) <= {"energy"}
    if units and not (is_text_file(path) or plain):
        raise ConfigError(f"--unit: {path} tells its units; only extxyz files need it")
    if embedded and source_name(str(path)) == "mini_qm9":
        return MiniQM9(targets)
    if path.is_dir():
        return QM9(path, target=targets, download=False)
    if suffix == ".npz" and "y_names" in npz_names(path):
        return QM9(npz=path, target=targets)
    if is_text_file(path) and not is_potential(model):
        return _properties(path, model, units)
    if not (embedded or suffix == ".npz" or is_text_file(path)):
        raise DataError(
            f"{path}: labels are read from .extxyz, .npz, the folder of QM9, "
            f"{' and '.join(_EMBEDDED)}"
        )
    return _frames(path, model, units, embedded=embedded)


def recorded_data(model: Cormorant, path: Path) -> Mapping[str, Any]:
    """Section ``data`` of the training, if a file is the one that was trained on.

    Args:
        model: With the record of its training.
        path: The file.

    Returns:
        The section; empty for another file, or without a record.
    """
    record = model.info.training
    try:
        if not path.is_file() or record["data"]["sha256"] != file_digest(path):
            return {}
        found: Mapping[str, Any] = record["config"]["data"]
        return found if isinstance(found["units"], dict) else {}
    except (KeyError, TypeError):  # another kind of record
        return {}


def given_units(given: Sequence[str], model: Cormorant) -> dict[str, str]:
    """What ``--unit`` says.

    Args:
        given: Entries ``NAME=UNIT``; ``pos`` is the name of the positions.
        model: Tells the other names.

    Raises:
        ConfigError: An entry is no pair, or names nothing that the model predicts.
    """
    units = {}
    known = [*model.info.targets, "pos"]
    for entry in given:
        name, sign, unit = entry.partition("=")
        if not (name and sign and unit):
            raise ConfigError(f"--unit {entry}: expected NAME=UNIT, such as gap=eV")
        if name not in known:
            raise ConfigError(
                f"--unit {entry}: the model predicts {', '.join(known[:-1])}, from pos"
            )
        units[name] = unit
    return units


def assumed_units(model: Cormorant, units: Mapping[str, str]) -> str:
    """Which units the labels of an extxyz file are taken to have, as text.

    Args:
        model: Tells its own.
        units: What ``--unit`` says.
    """
    found = [
        f"{name} {units.get(name, 'eV' if is_potential(model) else own) or '1'}"
        for name, own in zip(model.info.targets, model.info.units, strict=True)
    ]
    return ", ".join([*found, f"pos {units.get('pos', 'Angstrom')}"])


def _properties(
    path: Path, model: Cormorant, units: Mapping[str, str]
) -> MoleculeDataset:
    """Molecules whose properties stand in the second lines or columns of a file."""
    targets = model.info.targets
    own = dict(zip(targets, model.info.units, strict=True))
    there = {**recorded_data(model, path).get("units", {}), **units}
    # A model without a unit is compared with the numbers as they are.
    given = {
        name: units.get(name) or (own[name] and there.get(name)) or own[name] or "1"
        for name in targets
    }
    unit = {name: own[name] for name in there if own.get(name)}
    if "pos" in there:
        given["pos"] = there["pos"]
    # As `cormorant predict` writes it: a name in the file has no spaces.
    held = ExtXYZDataset(path, energy=None, forces=None).held(0)
    names = {name: name.replace(" ", "_") for name in targets if name not in held}
    return ExtXYZProperties(path, targets, given, unit=unit, names=names)


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
    record = recorded_data(model, path)
    there = {**record.get("units", {}), **units}
    if path.suffix.lower() == ".npz":
        return read_npz_frames(path, unit, there.get("energy"))
    energy = record.get("energy", "energy")
    forces = record.get("forces", "forces")
    held = ExtXYZDataset(path, energy=None, forces=None).held(0)
    if not forces or (forces not in held and energy in held):
        forces = None  # energies alone can be compared too
    return ExtXYZDataset(
        path, energy=energy, forces=forces, unit=unit, units=there
    ).in_memory()
