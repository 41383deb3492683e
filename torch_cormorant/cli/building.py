"""From a checked configuration to data, network and training module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from torch_cormorant.cli.schema import DataConfig, RunConfig
from torch_cormorant.cli.structures import warn_of_units
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
from torch_cormorant.errors import ConfigError, DataError
from torch_cormorant.models import Cormorant, CormorantMD17, CormorantQM9
from torch_cormorant.models.potential_network import CormorantPotential
from torch_cormorant.models.recipe import RECIPE, recipe
from torch_cormorant.models.targets import head_for_property, reference_for_property
from torch_cormorant.train import (
    FrameDataModule,
    MoleculeDataModule,
    PaddedSizes,
    PotentialRegression,
    PropertyRegression,
    potential_normalisation,
)

__all__ = ["Job", "build", "check_data", "load_data"]

SYMMETRIC = 1e-4
"""Share of the largest component by which a tensor may miss its transpose."""
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


def load_data(data: DataConfig) -> MoleculeDataset | FrameDataset:
    """The molecules of a configuration.

    Args:
        data: Its section.

    Returns:
        The data set, in memory.

    Raises:
        DataError: A file is missing, damaged or does not hold what is asked for.
    """
    target: Any = data.target or None
    is_file = data.path.endswith(".npz")
    place: dict[str, Any] = {"npz" if is_file else "root": data.path}
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


class Job:
    """What one training needs.

    Attributes:
        config: The configuration.
        data: The molecules.
        split: Their parts.
        loaders: The parts in batches.
        module: Network and loss.
        frames: Whether energies and forces are learned, not properties.
        units: Unit of each output.
        targets: Name of each output.
    """

    def __init__(self, config: RunConfig, seed: int) -> None:
        self.config, self.seed = config, seed
        self.data = load_data(config.data)
        self.split: Split = divided(self.data, vars(config.data))
        self.frames = isinstance(self.data, FrameDataset)
        torch.manual_seed(seed)
        options = config.model.options
        radius = options.get("cutoff", RECIPE["cutoff"])
        if config.model.network == "published" and "cutoff" not in options:
            radius = None
        self.batches = {"balanced": config.training.balanced, "cutoff": radius}
        self.loaders: Any
        self.module: Any
        if self.frames:
            self._build_potential()
        else:
            self._build_property()
        if config.training.calibrate:
            self.module.model.calibrate(self.loaders.train_dataloader())
        if config.training.captured:
            self._capture()

    def _build_potential(self) -> None:
        config, loss = self.config, self.config.loss
        self.loaders = FrameDataModule(
            self.data, self.split, config.training.batch_size, self.seed, **self.batches
        )
        unit = str(self.loaders.train.energy_unit)
        self.targets, self.units = ["energy"], [unit]
        network = self._network(self.loaders.train.species, None)
        isolated = None
        if config.training.reference == "isolated":
            isolated = self.data.isolated_energies
            if not isolated:
                raise ConfigError(
                    f"training.reference: {self.data.source} holds no energies of "
                    "isolated atoms"
                )
        self.module = PotentialRegression(
            network,
            potential_normalisation(
                self.loaders.train,
                forces=loss.forces > 0,
                constant=config.model.network == "published",
                isolated=isolated,
            ),
            unit=unit,
            energy_weight=loss.energy,
            force_weight=loss.forces,
            stress_weight=loss.stress,
            per_atom=loss.per_atom,
            **self._optimiser(),
        )

    def _build_property(self) -> None:
        training = self.config.training
        given = self.config.model.options.get("head")
        heads = [given or head_for_property(t) for t in self.data.targets]
        if isinstance(given, list):
            heads = given
            if len(given) != len(self.data.targets):
                raise ConfigError(
                    f"model.options.head: {len(given)} heads for "
                    f"{len(self.data.targets)} targets; give one for each"
                )
        published = self.config.model.network == "published"
        head = "published" if published and given is None else heads[0]
        joined: Any = head
        if len(heads) > 1:
            joined = None if published else heads
        network = self._network(self.data.species, joined)
        _check_labels(network, self.data)
        references = [training.reference] * len(heads)
        if training.reference == "auto":
            plain = published and given is None
            references = [
                "mean" if plain else reference_for_property(target, head)
                for target, head in zip(self.data.targets, heads, strict=True)
            ]
        self.loaders = MoleculeDataModule(
            self.data,
            self.split,
            training.batch_size,
            self.seed,
            references,
            **self.batches,
        )
        self.targets = [target.name for target in self.data.targets]
        self.units = [target.unit for target in self.data.targets]
        units = self.loaders.normalisation
        self.module = PropertyRegression(
            network,
            list(units.mean),
            list(units.std),
            atom_values=units.atom_values,
            **self._optimiser(),
        )

    def _capture(self) -> None:
        training = self.config.training
        if training.guard != "off" or training.devices > 1:
            raise ConfigError(
                f"training.captured: guard is {training.guard!r} and devices "
                f"{training.devices}; captured steps need guard: off and one device"
            )
        sizes = PaddedSizes.of(
            self.module.model, self.loaders.train, training.batch_size
        )
        self.module.capture(sizes, training.clip)

    def _optimiser(self) -> dict[str, Any]:
        training = self.config.training
        return {
            "lr": training.lr,
            "schedule": training.schedule,
            "warmup_steps": training.warmup_steps,
            "final_lr_factor": training.final_lr_factor,
            "weight_decay": training.weight_decay,
            "ema_decay": training.ema,
        }

    def _network(self, species: tuple[int, ...], head: Any) -> Cormorant:
        model = self.config.model
        options = dict(model.options)
        dtype = getattr(torch, self.config.training.dtype)
        if head is not None and model.network != "published":
            options["head"] = head
        targets = 1 if self.frames else len(self.data.targets)
        several = isinstance(options.get("head"), list)
        if targets > 1 and not several:
            options["num_targets"] = targets
        options.setdefault("species", list(species))
        try:
            network = self._make(model.network, options)
        except TypeError as error:
            raise ConfigError(f"model.options: {error}") from error
        return network.to(dtype)

    def _make(self, kind: str, options: dict[str, Any]) -> Cormorant:
        if kind == "published":
            return (CormorantMD17 if self.frames else CormorantQM9)(**options)
        if kind == "potential":
            return CormorantPotential(**options)
        if self.frames:
            options.setdefault("head", "extensive")
        return recipe(**options) if kind == "recipe" else Cormorant(**options)


def _check_labels(network: Cormorant, data: MoleculeDataset) -> None:
    """Refuse a head whose result the labels cannot be, and labels that none can be."""
    head, target = network.head, data.targets[0]
    row = tuple(data.values.shape[1:])
    if (head.per_atom, tuple(head.shape)) != (target.per_atom, row):
        raise ConfigError(
            f"model.options.head: {head.kind!r} predicts {list(head.shape)} for each "
            f"{head.rows}, but data.target names {list(row)} for each {target.owner}; "
            f"{_way_out(head.kind)}"
        )
    parts = getattr(head, "heads", [head] * len(data.targets))
    for k, part in enumerate(parts):
        if part.nonnegative and float(data.values[:, k].min()) < 0:
            raise DataError(
                f"{data.source}: {data.targets[k].name!r} is negative somewhere, and "
                f"the head {part.kind!r} predicts lengths; model.options.head names "
                "another, such as published"
            )
    if head.symmetric:
        uneven = data.values - data.values.mT
        if float(uneven.abs().max()) > SYMMETRIC * float(data.values.abs().max()):
            raise DataError(
                f"{data.source}: {target.name!r} is not symmetric, as the head "
                f"{head.kind!r} is; symmetrise it, or train its parts of degree 0, 1 "
                "and 2 one by one, each with the head 'so3'"
            )


def _way_out(kind: str) -> str:
    if kind == "published":
        return "take network: recipe, which has the head that fits"
    return "leave the head out to have the one that fits"


def build(config: RunConfig, seed: int) -> Job:
    """Everything of one training.

    Args:
        config: The configuration.
        seed: Seed of weights and order.

    Returns:
        Data, network and module.

    Raises:
        CormorantError: A file, a property or an argument does not fit.
    """
    return Job(config, seed)
