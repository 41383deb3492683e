"""Labelled structures for a model that is there already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from torch_cormorant.cli.structures import WORDS, is_own_file, read_npz_frames
from torch_cormorant.data import (
    FrameFile,
    Frames,
    MiniEthanol,
    MiniQM9,
    Molecules,
    read_extxyz,
    read_extxyz_properties,
    read_qm9,
)
from torch_cormorant.data.arrays import array_names
from torch_cormorant.data.download import DOWNLOAD
from torch_cormorant.data.files import file_digest
from torch_cormorant.data.registry import source_name
from torch_cormorant.errors import ConfigError, DataError
from torch_cormorant.models.loading import Loaded

__all__ = [
    "Labelled",
    "Names",
    "given_units",
    "is_potential",
    "read_labels",
    "recorded_data",
]

Labelled: TypeAlias = Molecules | Frames
_EMBEDDED = ("mini_qm9", "mini_ethanol")


def is_potential(model: Loaded) -> bool:
    """Whether the only output of a model is an energy, so that it has forces.

    A property of an own file may be called energy, too, and have any unit.
    """
    one = not model.head.per_atom and tuple(model.head.shape) == (1,)
    trained = model.info.training.get("config", {})
    data = trained.get("data", {}) if isinstance(trained, Mapping) else {}
    own = isinstance(data, Mapping) and data.get("source") == "extxyz"
    own_property = own and bool(data.get("target"))
    return model.info.targets == ("energy",) and one and not own_property


@dataclass(frozen=True)
class Names:
    """What labels are called in a file, where the command line says it.

    Args:
        energy: The energy, or ``None`` for the name in the training.
        forces: The forces, likewise; empty: energies alone.
        part: The part of a divided file of frames.
    """

    energy: str | None = None
    forces: str | None = None
    part: str | None = None


def read_labels(
    path: Path, model: Loaded, units: Mapping[str, str], names: Names
) -> tuple[Labelled, str]:
    """Labelled structures for a model.

    Args:
        path: A file, the folder of QM9, or the name of an embedded set. Frames may be
            those of MD17 or revised MD17 (kcal/mol), and whatever ASE reads.
        model: Tells what is looked for, under the names of its training. If the file is
            the one that it was trained on, units are those of the training, too.
        units: Of the labels of an extxyz file or one that ASE reads, by name, or of the
            energies of plain arrays that do not tell it.
        names: Of the labels, where they are other ones.

    Returns:
        Frames for a potential, molecules for properties; and what is taken as the units
        of a file that tells none, as text, which is empty for other files.

    Raises:
        DataError: What the model predicts is not there; property and file are named.
        ConfigError: A unit does not fit, or stands where the file tells it itself.
    """
    suffix = path.suffix.lower()
    embedded = not path.exists() and source_name(str(path)) in _EMBEDDED
    own = is_own_file(path)
    plain = suffix == ".npz" and is_potential(model) and set(units) <= {"energy"}
    if units and not (own or plain):
        raise ConfigError(
            f"--unit: {path} tells its units; only extxyz files, and those that ASE "
            "reads, need it"
        )
    _check_options(names, path, own_frames=own and is_potential(model))
    if own and is_potential(model):
        data, there = _own_frames(path, model, units, names)
        return data, "" if recorded_data(model, path) else _assumed(model, data, there)
    if own:
        found = _properties(path, model, units)
        return found, "" if recorded_data(model, path) else _assumed(model, None, units)
    return _stated(path, model, units, names.part, embedded=embedded), ""


def _stated(
    path: Path,
    model: Loaded,
    units: Mapping[str, str],
    part: str | None,
    *,
    embedded: bool,
) -> Labelled:
    """Labels of a set that tells its units, or of plain arrays."""
    suffix, targets = path.suffix.lower(), list(model.info.targets)
    if embedded and source_name(str(path)) == "mini_qm9":
        return MiniQM9(targets)
    if path.is_dir():
        return _folder(path, targets)
    if suffix == ".npz" and "y_names" in array_names(path):
        return read_qm9(npz=path, target=targets)
    if not (embedded or suffix == ".npz"):
        missing = "" if path.exists() else "no such file; "
        raise DataError(
            f"{path}: {missing}labels are read from .extxyz and what else ASE reads, "
            f".npz, the folder of QM9, {' and '.join(_EMBEDDED)}"
        )
    if not is_potential(model):
        raise DataError(
            f"{path}: holds no property {targets[0]!r}, only frames with "
            "energies; give molecules with it, as QM9's arrays or an extxyz file"
        )
    unit = model.info.units[0] or "eV"
    if embedded:
        return MiniEthanol(unit)
    record = recorded_data(model, path)
    energy = units.get("energy") or record.get("units", {}).get("energy")
    return read_npz_frames(path, unit, energy, part or record.get("part") or None)


def _folder(path: Path, targets: list[str]) -> Molecules:
    try:
        return read_qm9(path, target=targets, download=False)
    except DataError as error:
        command = f"cormorant datasets qm9 --path {path} --fetch"
        text = str(error).replace(DOWNLOAD, f"fetch it: {command}")
        raise DataError(text) from None


def _check_options(names: Names, path: Path, *, own_frames: bool) -> None:
    """Refuse names that nobody would look for.

    Raises:
        ConfigError: There are some.
    """
    for field in ("energy", "forces"):
        if getattr(names, field) is not None and not own_frames:
            raise ConfigError(
                f"--{field}: names the label of a potential in an extxyz file, or one "
                f"that ASE reads; {path} is none"
            )
    if names.part is not None and path.suffix.lower() != ".npz":
        raise ConfigError(f"--data-part: {path} is no .npz file of frames")


def trained_data(model: Loaded) -> Mapping[str, Any]:
    """Section ``data`` of the configuration that a model was trained with.

    Args:
        model: With the record of its training.

    Returns:
        The section; empty without a record.
    """
    try:
        found: Mapping[str, Any] = model.info.training["config"]["data"]
        return found if isinstance(found["units"], dict) else {}
    except (KeyError, TypeError):  # another kind of record
        return {}


def recorded_data(model: Loaded, path: Path) -> Mapping[str, Any]:
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
    except (KeyError, TypeError):  # another kind of record
        return {}
    return trained_data(model)


def given_units(given: Sequence[str], model: Loaded) -> dict[str, str]:
    """What ``--unit`` says.

    Args:
        given: Entries ``NAME=UNIT``; ``pos`` is the name of the positions.
        model: Tells the other names.

    Raises:
        ConfigError: An entry is no pair, or names nothing that the model predicts.
    """
    units = {}
    forces = ["forces"] if is_potential(model) else []
    known = [*model.info.targets, *forces, "pos"]
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


def _assumed(model: Loaded, frames: Frames | None, units: Mapping[str, str]) -> str:
    length = units.get("pos", "Angstrom")
    if frames is None:
        found = [
            f"{name} {units.get(name, own) or '1'}"
            for name, own in zip(model.info.targets, model.info.units, strict=True)
        ]
    else:
        energy = units.get("energy", "eV")
        found = [f"energy {energy}"]
        if "forces" in frames.fields:
            found.append(f"forces {units.get('forces', f'{energy}/{length}')}")
    return ", ".join([*found, f"pos {length}"])


def _properties(path: Path, model: Loaded, units: Mapping[str, str]) -> Molecules:
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
    held = FrameFile(path).names()
    names = {name: name.replace(" ", "_") for name in targets if name not in held}
    return read_extxyz_properties(path, targets, given, unit=unit, names=names)


def _own_frames(
    path: Path, model: Loaded, units: Mapping[str, str], names: Names
) -> tuple[Frames, Mapping[str, str]]:
    """Frames of a file with names of its own, and the units that it is taken to have.

    Where the energy has a name that only the training knows, its units go with it.
    """
    trained, same = trained_data(model), recorded_data(model, path)
    held = FrameFile(path).names()
    energy = names.energy or _first(held, trained.get("energy"), "energy")
    if energy is None or energy not in held:
        asked = names.energy or trained.get("energy") or "energy"
        raise DataError(
            f"{path}: frame 0: {asked!r} is missing, there is "
            f"{', '.join(held) or 'nothing of the kind'}; name the energy in this "
            "file with --energy NAME"
        )
    forces = names.forces
    if forces is None and not (same and not same["forces"]):
        forces = _first(held, trained.get("forces"), "forces")
    own_name = energy == trained.get("energy") != "energy"
    there = {**(trained["units"] if same or own_name else {}), **units}
    data = read_extxyz(
        path,
        energy=energy,
        forces=forces or None,  # energies alone can be compared too
        unit=model.info.units[0] or "eV",
        units=there,
        words=WORDS,
    )
    return data.in_memory(), there


def _first(held: Sequence[str], *names: str | None) -> str | None:
    return next((name for name in names if name and name in held), None)
