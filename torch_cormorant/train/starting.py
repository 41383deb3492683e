"""Trainings that start from a model, and what of its old data is shown beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch_geometric.data import Data

from torch_cormorant.data import CompositionBaseline, Frames
from torch_cormorant.data.describe import symbol
from torch_cormorant.errors import ConfigError
from torch_cormorant.models import Normalisation, Potential, Predictor, load_model
from torch_cormorant.models.domain import KEY as DOMAIN
from torch_cormorant.models.selection import with_targets
from torch_cormorant.models.shipped import pretrained_models
from torch_cormorant.models.tuning import freeze, with_species
from torch_cormorant.train.config import DataConfig, TrainingConfig
from torch_cormorant.train.sources import load_data

__all__ = ["Start", "refit_references", "replayed"]


class Start:
    """The model that a training starts from.

    Args:
        training: Names the file, what is frozen and whether references stay.

    Attributes:
        model: The model, in training mode.
        record: Where it comes from, for the record of the training.
    """

    def __init__(self, training: TrainingConfig) -> None:
        path = Path(training.start)
        if not path.exists() and training.start in pretrained_models():
            path /= "0"  # of an ensemble its first member
        self.model: Any = load_model(path, train=True)
        self.old = self.model.info
        kept = {k: v for k, v in self.old.training.items() if k != DOMAIN}
        self.model.info = replace(self.old, training=kept)  # the new data may differ
        data = self.old.training.get("data", {})
        self.training = training
        self.record: dict[str, Any] = {
            "file": path.name if path.exists() else path.as_posix(),
            "sha256": self.old.digest,
            "data": data.get("name", "") if isinstance(data, Mapping) else str(data),
            "frozen": list(training.freeze),
            "rates": dict(training.rates),
            "new_head": False,
            "references": "as they were",
        }

    def extend(self, species: Sequence[int]) -> None:
        """Add the elements of the data that the model does not know."""
        known = getattr(self.model, "network", self.model).features.known
        new = [z for z in species if z not in known]
        if new:
            self.model = with_species(self.model, new)
        self.record["new_species"] = new

    def to_potential(self) -> Potential:
        """The potential; one with a new head where the file holds a property."""
        if not isinstance(self.model, Potential):
            network = getattr(self.model, "network", self.model)
            self.record["new_head"] = True
            self.model = Potential(network.replace_head("extensive"))
        found: Potential = self._frozen(self.model)
        return found

    def to_property(
        self,
        targets: Sequence[str],
        units: Sequence[str],
        head: Any,
        *,
        given: bool = False,
    ) -> tuple[Any, bool]:
        """The model for properties, and whether it has learned them.

        Args:
            targets: Their names.
            units: Their units.
            head: The head that fits, or a list of them.
            given: The head was asked for: only a model of the same properties keeps
                its own.
        """
        learned = dict(zip(self.old.targets, self.old.units, strict=True))
        wanted = dict(zip(targets, units, strict=True))
        same = (self.old.targets, self.old.units) == (tuple(targets), tuple(units))
        if not (same or given) and wanted.items() <= learned.items():
            # a head whose outputs cannot be told apart is made anew below
            with suppress(ConfigError):
                self.model, same = with_targets(self.model, targets), True
                self.record["chosen"] = list(targets)
        if isinstance(self.model, Potential):
            self.model, same = Predictor(self.model.network), False
        if not same:
            self.record["new_head"] = True
            several = 1 if isinstance(head, list) else len(targets)
            self.model.replace_head(head, several)
        return self._frozen(self.model), same

    def _frozen(self, model: Any) -> Any:
        self.record["frozen_weights"] = freeze(model, *self.training.freeze)
        return model

    def describe(self) -> list[str]:
        """What a training prints."""
        r = self.record
        data = f", trained on {r['data']}" if r["data"] else ""
        lines = [f"starts from {r['file']}{data}"]
        if r["frozen_weights"]:
            parts = ", ".join(r["frozen"])
            lines.append(f"frozen: {parts}, {r['frozen_weights']:,} weights")
        if r.get("new_species"):
            lines.append(f"new elements: {', '.join(map(symbol, r['new_species']))}")
        if r["new_head"]:
            lines.append("new head")
        if r.get("chosen"):
            lines.append(f"of what it predicts: {', '.join(r['chosen'])}")
        if r.get("replayed"):
            lines.append(f"beside the new frames: {r['replayed']} old ones")
        return [*lines, f"references: {r['references']}"]


def refit_references(model: Potential, frames: Frames) -> tuple[Normalisation, str]:
    r"""References for other data, from what the model says of them.

    .. math:: w_z' = w_z + \Delta_z, \quad
        \Delta = \mathrm{arg\,min} \sum
        \Bigl( E - E_{model} - \sum_i \Delta_{z_i} \Bigr)^2

    Other levels of theory differ mostly by energies of atoms. Scale and constant stay,
    so that the network's numbers mean the same; of several solutions the smallest is
    taken, and elements that no frame holds keep their references.

    Args:
        model: The potential.
        frames: Training frames, in its unit.

    Returns:
        The normalisation, and what was done in words.
    """
    found = model.evaluate_all(list(frames), forces=False)
    counts = frames.element_counts()
    there = counts.any(dim=0)
    species = [
        z for z, some in zip(frames.species, there.tolist(), strict=True) if some
    ]
    rest = (frames.energies - found.energy)[:, None]
    fit = CompositionBaseline.fit(counts[:, there], rest, constant=False)
    shifts = dict(zip(species, fit.weights[:, 0].tolist(), strict=False))
    old = model.info.normalisation
    values = dict(old.covering(model.network.features.known).atom_values)
    values = values or dict.fromkeys(model.network.features.known, (0.0,))
    for z, shift in shifts.items():
        values[z] = (values[z][0] + shift,)
    text = ", ".join(f"{symbol(z)} {shift:+.4g}" for z, shift in shifts.items())
    unit = model.info.units[0]
    said = f"refitted to {len(frames)} training frames, changed by {text} {unit}"
    return replace(old, atom_values=values), said


def replayed(
    sets: Mapping[str, Any], old: Normalisation, new: Normalisation, unit: str
) -> list[Data]:
    """Old structures to be shown beside the new ones.

    Their energies are moved by the change of the references, so that for the network
    they are what they were.

    Args:
        sets: Section ``data`` of each by its name, with ``weight``; ``train`` says how
            many, chosen by ``split_seed``.
        old: References that the model had.
        new: Those that it has now.
        unit: Unit of the energies.

    Returns:
        The structures, each with its ``weight``.

    Raises:
        ConfigError: A key or a value is not understood, or a set has no energies.
    """
    found = []
    for name, section in sets.items():
        own = dict(section) if isinstance(section, Mapping) else {}
        weight = own.pop("weight", 1.0)
        known = [entry.name for entry in fields(DataConfig)]
        odd = sorted(set(own) - set(known))
        if odd or not own or not isinstance(weight, (int, float)) or not weight > 0:
            raise ConfigError(
                f"training.replay.{name}: {section!r}; expected keys of the section "
                f"data and a positive weight{f', not {odd[0]!r}' * bool(odd)}"
            )
        config = DataConfig(**{"unit": unit, **own})
        data = load_data(config)
        if not isinstance(data, Frames) or data.energy_unit != unit:
            raise ConfigError(f"training.replay.{name}: expected frames in {unit}")
        count = min(config.train or len(data), len(data))
        order = np.random.default_rng(config.split_seed).permutation(len(data))
        for row in sorted(order[:count].tolist()):
            frame = data[row]
            shift = (new.atoms(frame.z) - old.atoms(frame.z))[:, 0].sum()
            frame.energy = frame.energy + shift
            frame.weight = torch.tensor([float(weight)], dtype=torch.float64)
            found.append(frame)
    return found
