"""From a checked configuration to data, network and training module."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import groupby
from typing import Any

import torch

from torch_cormorant.data import Frames, Molecules, Split, Target
from torch_cormorant.data.describe import symbol
from torch_cormorant.data.units import unit_is_known
from torch_cormorant.errors import ConfigError, DataError
from torch_cormorant.models import (
    Cormorant,
    CormorantMD17,
    CormorantPotential,
    CormorantQM9,
    Model,
    Normalisation,
    Potential,
    Predictor,
)
from torch_cormorant.models.recipe import RECIPE, recipe
from torch_cormorant.models.targets import head_for_target, reference_for_head
from torch_cormorant.networks.base import NETWORK_PARTS
from torch_cormorant.nn.heads import targets_of
from torch_cormorant.train.callbacks import energy_target
from torch_cormorant.train.capture import PaddedSizes
from torch_cormorant.train.config import FAMILY, DataConfig, RunConfig
from torch_cormorant.train.datamodule import FrameDataModule, MoleculeDataModule
from torch_cormorant.train.module import PropertyRegression
from torch_cormorant.train.potential_module import (
    PotentialRegression,
    potential_normalisation,
)
from torch_cormorant.train.sources import divided, load_data
from torch_cormorant.train.starting import Start, refit_references, replayed

__all__ = ["Job"]

SYMMETRIC = 1e-4
"""Share of the largest component by which a tensor may miss its transpose."""


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
        self.start = Start(config.training) if config.training.start else None
        self.data = load_data(self._data_section())
        self.split: Split = divided(self.data, vars(config.data))
        self.frames = isinstance(self.data, Frames)
        torch.manual_seed(seed)
        options = config.model.options
        radius = options.get("cutoff", RECIPE["cutoff"])
        if config.model.network == "published" and "cutoff" not in options:
            radius = None
        if self.start is not None:
            radius = self.start.model.cutoff
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

    def _data_section(self) -> DataConfig:
        """Energies of frames are read in the unit of the model that is started from."""
        data = self.config.data
        if self.start is None or data.target or data.unit:
            return data
        unit = self.start.old.units[0]
        energy = isinstance(self.start.model, Potential) and unit
        return replace(data, unit=unit) if energy else data

    @property
    def network_name(self) -> str:
        """What the network is called in tables."""
        if self.start is None:
            return f"{self.config.model.network} network"
        return f"network of {self.start.record['file']}"

    @property
    def title(self) -> str:
        """Data, properties and network in one line."""
        properties = [] if self.frames else self.targets
        what = ", ".join([*properties, self.network_name])
        return f"{self.data.title}: {what}"

    @property
    def parameters(self) -> int:
        """Number of weights that are trained."""
        weights = self.module.model.parameters()
        return sum(p.numel() for p in weights if p.requires_grad)

    @property
    def shown_target(self) -> Target:
        """Unit and format of the errors that the epochs print."""
        if self.frames:
            return energy_target(self.units[0])
        if len(self.targets) == 1:
            target: Target = self.data.targets[0]
            return target
        return Target("targets", "targets", "deviations", "deviations")

    def compositions(self) -> list[dict[str, int]]:
        """Those whose energies the training frames tell; none where all are known."""
        if not self.frames or self.config.training.reference == "isolated":
            return []
        found: list[dict[str, int]] = self.loaders.train.compositions()
        return found

    def describe(self) -> str:
        """What is about to run, and notes on what is probably not meant."""
        sizes = " / ".join(str(len(part)) for part in self.split.parts)
        theory = self.data.level_of_theory
        known = "" if theory == "unknown" else f", {theory}"
        head = self.module.model.head
        kinds = dict.fromkeys(part.kind for part in getattr(head, "heads", [head]))
        network = f"{self.network_name}, head {', '.join(kinds)}"
        lines = [
            f"{self.data.title}{known}: {self._learned()}, {sizes} train/valid/test",
            f"{network}, {self.parameters:,} parameters",
            *([] if self.start is None else self.start.describe()),
            *self._remarks(),
        ]
        return "\n".join(lines)

    def _learned(self) -> str:
        if not self.frames:
            return ", ".join(self.targets)
        loss = self.config.loss
        parts = ("energy", "forces", "stress")
        return ", ".join(name for name in parts if getattr(loss, name) > 0)

    def _remarks(self) -> list[str]:
        """What is allowed, but is probably not meant."""
        found = []
        part = self.loaders.train
        counts = part.element_counts().sum(dim=0).tolist()
        pairs = zip(part.species, counts, strict=True)
        absent = [symbol(z) for z, count in pairs if count == 0]
        if absent:
            found.append(
                f"note: no training molecule holds {', '.join(absent)}; predictions "
                "for it mean nothing"
            )
        target = None if self.frames else self.data.targets[0]
        vector = target is not None and target.shape == (3,) and not target.per_atom
        if target and vector and not unit_is_known(target.unit):
            found.append(
                f"note: the unit {target.unit!r} is not understood, so "
                f"{target.name!r} is learned as a vector like any other, not as a "
                "dipole moment"
            )
        return found

    def _build_potential(self) -> None:
        config, loss = self.config, self.config.loss
        self.loaders = FrameDataModule(
            self.data, self.split, config.training.batch_size, self.seed, **self.batches
        )
        unit = str(self.loaders.train.energy_unit)
        self.targets, self.units = ["energy"], [unit]
        network: Model
        if self.start is not None:
            network, units = self._started(self.start, unit)
        else:
            network = self._network(self.loaders.train.species, None)
            units = self._references()
        self.module = PotentialRegression(
            network,
            units,
            unit=unit,
            energy_weight=loss.energy,
            force_weight=loss.forces,
            stress_weight=loss.stress,
            per_atom=loss.per_atom,
            huber=loss.huber or math.inf,
            first_energy_weight=loss.first_energy or None,
            **self._optimiser(),
        )

    def _started(self, start: Start, unit: str) -> tuple[Potential, Normalisation]:
        """The potential of a file, and its references for the data.

        Raises:
            ConfigError: The data are in another unit than the model.
        """
        train, training = self.loaders.train, self.config.training
        start.extend(train.species)
        model = start.to_potential().to(getattr(torch, training.dtype))
        if start.record["new_head"]:
            model.info = replace(model.info, targets=("energy",), units=(unit,))
            model.energy_unit = unit
            start.record["references"] = "those of the training frames"
            return model, self._references()
        if model.info.units[0] != unit:
            raise ConfigError(
                f"data.unit: the energies are in {unit}, the model of training.start "
                f"is in {model.info.units[0]}"
            )
        old = units = model.info.normalisation.covering(model.network.features.known)
        if training.reference != "none":
            units, start.record["references"] = refit_references(model, train)
        self.loaders.replay = replayed(training.replay, old, units, unit)
        start.record["replayed"] = len(self.loaders.replay)
        return model, units

    def _references(self) -> Normalisation:
        """References and scale of a new potential."""
        config, isolated = self.config, None
        if config.training.reference == "isolated":
            isolated = self.data.isolated_energies
            if not isolated:
                raise ConfigError(
                    f"training.reference: {self.data.source} holds no energies of "
                    "isolated atoms"
                )
        return potential_normalisation(
            self.loaders.train,
            forces=config.loss.forces > 0,
            constant=config.model.network == "published",
            isolated=isolated,
        )

    def _build_property(self) -> None:
        training = self.config.training
        given = self.config.model.options.get("head")
        heads = [given or head_for_target(t) for t in self.data.targets]
        if isinstance(given, list):
            heads = [one for one in given for _ in range(_outputs(one))]
            if len(heads) != len(self.data.targets):
                raise ConfigError(
                    f"model.options.head: {len(heads)} heads for "
                    f"{len(self.data.targets)} targets; give one for each, or "
                    "num_targets"
                )
        published = self.config.model.network == "published"
        head = "published" if published and given is None else heads[0]
        joined: Any = head
        if len(heads) > 1:
            joined = given if isinstance(given, list) else _shared(heads)
            joined = None if published else joined
        self.targets = [target.name for target in self.data.targets]
        self.units = [target.unit for target in self.data.targets]
        known = False
        if self.start is None:
            network = self._network(self.data.species, joined)
        else:
            self.start.extend(self.data.species)
            own: Any = joined if len(heads) > 1 else head
            network, known = self.start.to_property(
                self.targets, self.units, own, given=given is not None
            )
            network = network.to(getattr(torch, training.dtype))
        _check_labels(network, self.data)
        references = [training.reference] * len(heads)
        if training.reference == "auto":
            plain = published and given is None
            references = [
                "mean" if plain else reference_for_head(head, target)
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
        units = self.loaders.normalisation
        if self.start is not None and known:
            units = network.info.normalisation
        elif self.start is not None:
            self.start.record["references"] = "those of the training molecules"
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
        ours = self.config.model.network in ("potential", "recipe")
        auto = "muon" if ours and not training.captured else "adam"
        return {
            "optimizer": auto if training.optimizer == "auto" else training.optimizer,
            "momentum": training.momentum,
            "lr": training.lr,
            "schedule": training.schedule,
            "warmup_steps": training.warmup_steps,
            "final_lr_factor": training.final_lr_factor,
            "weight_decay": training.weight_decay,
            "ema_decay": training.ema,
            "rates": training.rates,
        }

    def _network(self, species: tuple[int, ...], head: Any) -> Model:
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

    def _make(self, kind: str, options: dict[str, Any]) -> Model:
        if kind in FAMILY:
            network = NETWORK_PARTS.make({"kind": kind, **options}, {}, {})
            return Potential(network) if self.frames else Predictor(network)
        if kind == "published":
            return (CormorantMD17 if self.frames else CormorantQM9)(**options)
        if kind == "potential":
            return CormorantPotential(**options)
        if self.frames:
            options.setdefault("head", "extensive")
        return recipe(**options) if kind == "recipe" else Cormorant(**options)


def _check_labels(network: Any, data: Molecules) -> None:
    """Refuse a head whose result the labels cannot be, and labels that none can be."""
    head, target = network.head, data.targets[0]
    row = tuple(data.values.shape[1:])
    if (head.per_atom, tuple(head.shape)) != (target.per_atom, row):
        raise ConfigError(
            f"model.options.head: {head.kind!r} predicts {list(head.shape)} for each "
            f"{head.rows}, but data.target names {list(row)} for each {target.owner}; "
            f"{_way_out(head.kind)}"
        )
    parts = getattr(head, "heads", [head])
    each = [part for part in parts for _ in range(targets_of(part))]
    for k, part in enumerate(each):
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


def _outputs(head: Any) -> int:
    return head.get("num_targets", 1) if isinstance(head, Mapping) else 1


def _shared(heads: list[Any]) -> list[Any]:
    """Neighbours of one kind as one head of several outputs, which is faster."""
    found: list[Any] = []
    for kind, run in groupby(heads):
        same = list(run)
        if len(same) > 1 and isinstance(kind, str):
            same = [{"kind": kind, "num_targets": len(same)}]
        found += same
    return found


def _way_out(kind: str) -> str:
    if kind == "published":
        return "take network: recipe, which has the head that fits"
    return "leave the head out to have the one that fits"
