"""The molecules that a configuration names, and their parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch_cormorant.data import (
    MINI_TARGETS,
    QM9_TARGETS,
    FrameFile,
    Frames,
    MiniEthanol,
    MiniQM9,
    Molecules,
    Split,
    find_target,
    read_extxyz,
    read_extxyz_properties,
    read_md17,
    read_npz,
    read_qm9,
    split_indices,
)
from torch_cormorant.data.describe import Words
from torch_cormorant.data.frame_arrays import warn_of_units
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


def load_data(data: DataConfig, *, download: bool = True) -> Molecules | Frames:
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
        "mini_qm9": lambda: MiniQM9(target),
        "qm9": lambda: read_qm9(target=target, **place),
        "mini_ethanol": lambda: MiniEthanol(data.unit or None),
        "md17": lambda: read_md17(
            molecule=data.molecule or None, unit=data.unit or "kcal/mol", **place
        ),
        "frames": lambda: read_npz(
            data.path,
            part=data.part or None,
            unit=data.unit or None,
            file_unit=data.units.get("energy"),
            words=_WORDS,
        ),
        "extxyz": lambda: _properties(data) if target else _extxyz(data),
    }
    found: Molecules | Frames = readers[data.source]()
    warn_of_units(found, data.path)
    return found


_WORDS = Words(
    unit="data.units.energy",
    unit_advice="data.units: {energy: eV}",
    part="data.part",
    missing="name the right one with data.{field}",
)


def _extxyz(data: DataConfig) -> Frames:
    held = FrameFile(data.path).names()
    advice = {
        "energy": "or, to learn a property, with data.target",
        "forces": "or for energies alone say data.forces='' and loss.forces=0",
    }
    for field, text in advice.items():
        name = getattr(data, field)
        if name not in held and (name or field == "energy"):
            there = ", ".join(held) or "nothing of the kind"
            raise ConfigError(
                f"data.{field}: {data.path}: frame 0 has no {name!r}, there is "
                f"{there}; name the right one with data.{field}, {text}"
            )
    return read_extxyz(
        data.path,
        energy=data.energy,
        forces=data.forces or None,
        stress=data.stress or None,
        virial=data.virial or None,
        units=data.units or None,
        unit=data.unit or "eV",
        words=_WORDS,
    ).in_memory()


def _properties(data: DataConfig) -> Molecules:
    unit = dict.fromkeys(data.names, data.unit) if data.unit else None
    return read_extxyz_properties(data.path, data.target, data.units, unit=unit)


def divided(data: Molecules | Frames, part: Mapping[str, Any]) -> Split:
    """The parts that a configuration asks for.

    Args:
        data: The whole set.
        part: The section ``data`` of the configuration.

    Raises:
        ConfigError: The set has not so many rows, or no such official split.
    """
    sizes = part["train"], part["valid"], part["test"]
    if part.get("by_part") and isinstance(data, Frames):
        return data.split_by_part(*sizes, seed=part["split_seed"])
    number = part.get("official_split")
    if number is not None and isinstance(data, Frames):
        valid = part["valid"]
        return data.official_split(number, 50 if valid is None else valid)
    return split_indices(len(data), *sizes, part["split_seed"])
