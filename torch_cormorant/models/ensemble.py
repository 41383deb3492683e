"""Several models that differ in their weights: their mean, and how far they spread."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import Self

from torch_cormorant.errors import ConfigError
from torch_cormorant.models.energy import Result
from torch_cormorant.models.files import load_model
from torch_cormorant.models.info import ModelInfo
from torch_cormorant.models.potential import Potential
from torch_cormorant.models.predictor import Predictor
from torch_cormorant.networks import Network
from torch_cormorant.nn.parts import Part

__all__ = ["Ensemble", "EnsembleResult", "Spread"]


@dataclass(frozen=True)
class EnsembleResult(Result):
    """Means over an ensemble, as a :class:`.Result`, and spreads.

    Attributes:
        energy_std: ``[B]`` standard deviation of the energies (of the sample: over
            K - 1).
        forces_std: ``[N, 3]`` that of every component of the forces, or None.
    """

    energy_std: Tensor | None = None
    forces_std: Tensor | None = None


class Spread(NamedTuple):
    """Predictions of an ensemble: mean and standard deviation, both ``[n, ...]``."""

    mean: Tensor
    std: Tensor


class Ensemble(nn.Module):
    """Potentials or predictors that differ in their weights, as one.

    The spread grows where the networks were not told what to say; whether it tells the
    error, :func:`torch_cormorant.train.calibration` measures.

    Args:
        models: At least two; :class:`.Potential`, :class:`.Predictor`, networks.

    Attributes:
        models: The models.

    Raises:
        ConfigError: There are too few, or they differ in units, elements, cutoff or
            what their heads give.

    Example:
        >>> import torch
        >>> from torch_cormorant import Cormorant
        >>> from torch_cormorant.models import Ensemble
        >>> options = {"channels": 4, "num_levels": 1}
        >>> team = Ensemble(Cormorant.potential([1, 8], **options) for _ in range(3))
        >>> pos = torch.tensor([[0.0, 0, 0], [0, 0, 1.0]])
        >>> result = team.evaluate(torch.tensor([8, 1]), pos)
        >>> tuple(result.forces.shape), tuple(result.forces_std.shape)
        ((2, 3), (2, 3))
    """

    def __init__(self, models: Iterable[Any]) -> None:
        super().__init__()
        given = [m if hasattr(m, "predict") else Predictor(m) for m in models]
        if len(given) < 2:
            msg = f"models: an ensemble needs at least two, got {len(given)}"
            raise ConfigError(msg)
        self.models = nn.ModuleList(given)
        first, *others = map(_shared, given)
        for number, other in enumerate(others, 1):
            for name, value in other.items():
                if value != first[name]:
                    msg = (
                        f"models: {name} of number {number} is {value}, of number 0 "
                        f"{first[name]}; an ensemble differs in its weights only"
                    )
                    raise ConfigError(msg)

    @classmethod
    def load(
        cls,
        where: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        device: str | torch.device = "cpu",
        *,
        parts: Iterable[type[Part]] = (),
    ) -> Self:
        """Read the models of a folder, or of several files.

        Args:
            where: A folder, such as that of ``cormorant train`` with several seeds, or
                files.
            device: Where the weights go.
            parts: As for :func:`~torch_cormorant.load_model`.

        Raises:
            ConfigError: There are fewer than two, or they do not fit together.
            ModelFileError: One cannot be read.
        """
        if isinstance(where, (str, os.PathLike)):
            where = sorted(Path(where).rglob("*.safetensors"))
        own = list(parts)
        return cls([load_model(path, device, parts=own) for path in where])

    @property
    def info(self) -> ModelInfo:
        """Names, units and record of the first; names and units are those of all."""
        first: Any = self.models[0]
        info: ModelInfo = first.info
        return info

    @property
    def network(self) -> Network:
        """The first network."""
        first: Any = self.models[0]
        network: Network = getattr(first, "network", first)
        return network

    def evaluate(self, *args: Any, **options: Any) -> EnsembleResult:
        """Means of energies, forces and stress, and spreads of the first two.

        Args:
            *args: As :meth:`.Potential.evaluate`.
            **options: As :meth:`.Potential.evaluate`.
        """
        found = [Potential.of(m).evaluate(*args, **options) for m in self.models]
        each = [one.tensors() for one in found]
        rows = {name: torch.stack([one[name] for one in each]) for name in each[0]}
        spread = {f"{n}_std": rows[n].std(0) for n in ("energy", "forces") if n in rows}
        parts: dict[str, Any] = {n: value.mean(0) for n, value in rows.items()} | spread
        return EnsembleResult(**parts, unit=found[0].unit)

    def energy_and_forces(self, *args: Any, **options: Any) -> tuple[Tensor, Any]:
        """Mean energies and forces, as :meth:`.Potential.energy_and_forces`."""
        found = self.evaluate(*args, **options)
        return found.energy, found.forces

    def predict(self, *args: Any, **options: Any) -> Spread:
        """Mean and spread of the predictions in units.

        Args:
            *args: As :meth:`.Predictor.predict`: tensors, a ``Data``, a data set, ...
            **options: As :meth:`.Predictor.predict`.
        """
        calls: Any = self.models
        rows = torch.stack([model.predict(*args, **options) for model in calls])
        return Spread(rows.mean(0), rows.std(0))


def _shared(model: Any) -> dict[str, Any]:
    """What must be the same in all models."""
    network = getattr(model, "network", model)
    return {
        "targets": model.info.targets,
        "units": model.info.units,
        "elements": network.features.known,
        "cutoff": network.cutoff,
        "head shape": (tuple(network.head.shape), network.head.per_atom),
    }
