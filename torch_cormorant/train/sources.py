"""The molecules that a configuration names, and their parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch_cormorant.data import (
    MD17,
    MINI_TARGETS,
    QM9,
    QM9_TARGETS,
    ExtXYZDataset,
    ExtXYZProperties,
    FrameDataset,
    Frames,
    MiniEthanol,
    MiniQM9,
    MoleculeDataset,
    Split,
    find_target,
    split_indices,
)
from torch_cormorant.data.frame_checks import warn_of_units
from torch_cormorant.errors import ConfigError, DataError
from torch_cormorant.train.config import DataConfig

__all__ = ["check_data", "divided", "load_data"]

_PROPERTIES = {"mini_qm9": (MINI_TARGETS, "MiniQM9"), "qm9": (QM9_TARGETS, "QM9")}


def check_data(data: DataConfig) -> None:
    """What can be said of the data of a configuration without reading them.

    Args:
        data: Its section.

    Raises:
        DataError: There is no such property, or no such file.
    """
    for name in data.names:
        if data.source in _PROPERTIES:
            find_target(name, *_PROPERTIES[data.source])
    if data.source in {"extxyz", "frames"} and not Path(data.path).is_file():
        raise DataError(f"data.path: {data.path}: no such file")


def load_data(
    data: DataConfig, *, download: bool = True
) -> MoleculeDataset | FrameDataset:
    """The molecules of a configuration.

    Args:
        data: Its section.
        download: Whether to fetch what is missing.

    Returns:
        The data set, in memory.

    Raises:
        DataError: A file is missing, damaged or does not hold what is asked for.
    """
    target: Any = data.target or None
    is_file = data.path.endswith(".npz")
    place: dict[str, Any] = {"npz" if is_file else "root": data.path}
    place["download"] = download
    readers: dict[str, Callable[[], Any]] = {
        "mini_qm9": lambda: _mini(target),
        "qm9": lambda: QM9(target=target, **place),
        "mini_ethanol": lambda: MiniEthanol(data.unit or None),
        "md17": lambda: _md17(data, place),
        "frames": lambda: _frames(data),
        "extxyz": lambda: _properties(data) if target else _extxyz(data),
    }
    found: MoleculeDataset | FrameDataset = readers[data.source]()
    warn_of_units(found, data.path)
    return found


def _mini(target: str | list[str]) -> MoleculeDataset:
    return MiniQM9(target)


def _md17(data: DataConfig, place: dict[str, Any]) -> FrameDataset:
    options = dict(place)
    if data.molecule:
        options["molecule"] = data.molecule
    if data.unit:
        options["unit"] = data.unit
    return MD17(**options)


class _TrainingFrames(Frames):
    """Frames of plain arrays, with errors that speak of the configuration."""

    unit_name, unit_advice = "data.units.energy", "data.units: {energy: eV}"
    part_name = "data.part"


def _frames(data: DataConfig) -> FrameDataset:
    return _TrainingFrames(
        data.path,
        part=data.part or None,
        unit=data.unit or None,
        file_unit=data.units.get("energy"),
    )


def _extxyz(data: DataConfig) -> FrameDataset:
    held = ExtXYZDataset(data.path, energy=None, forces=None).held(0)
    there = ", ".join(held) or "nothing of the kind"
    if data.energy not in held:
        raise ConfigError(
            f"data.energy: {data.path}: frame 0 has no {data.energy!r}, there is "
            f"{there}; name the right one with data.energy, or, to learn a property, "
            "with data.target"
        )
    if data.forces and data.forces not in held:
        raise ConfigError(
            f"data.forces: {data.path}: frame 0 has no {data.forces!r}, there is "
            f"{there}; name the right one with data.forces, or for energies alone say "
            "data.forces='' and loss.forces=0"
        )
    found = ExtXYZDataset(
        data.path,
        energy=data.energy,
        forces=data.forces or None,
        stress=data.stress or None,
        virial=data.virial or None,
        units=data.units or None,
        unit=data.unit or "eV",
    )
    found.advice = "name the right one with data.{field}"
    return found.in_memory()


def _properties(data: DataConfig) -> MoleculeDataset:
    unit = dict.fromkeys(data.names, data.unit) if data.unit else None
    return ExtXYZProperties(data.path, data.target, data.units, unit=unit)


def divided(data: MoleculeDataset | FrameDataset, part: Mapping[str, Any]) -> Split:
    """The parts that a configuration asks for.

    Args:
        data: The whole set.
        part: The section ``data`` of the configuration.

    Raises:
        ConfigError: The set has not so many rows, or no such official split.
    """
    number = part.get("official_split")
    if number is not None and isinstance(data, MD17):
        valid = part["valid"]
        return data.official_split(number, 50 if valid is None else valid)
    return split_indices(
        len(data), part["train"], part["valid"], part["test"], part["split_seed"]
    )
