"""Several models that differ in their weights: their mean, and how far they spread."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from typing_extensions import Self

from torch_cormorant.data.files import write_atomically
from torch_cormorant.errors import ConfigError, ModelFileError
from torch_cormorant.models.energy import Result
from torch_cormorant.models.evaluation import Structures, run_each
from torch_cormorant.models.files import Model, load_model, save_model
from torch_cormorant.models.info import ModelInfo
from torch_cormorant.models.potential import Potential
from torch_cormorant.models.predictor import Predictor
from torch_cormorant.networks import Network
from torch_cormorant.nn.parts import Part

__all__ = ["Ensemble", "EnsembleResult", "Spread", "load_models"]

SPREADS = {"energy": "energy", "energies": "energy", "forces": "forces"}
"""What has a spread, and the factor that belongs to it."""
RECORD = "ensemble.json"


@dataclass(frozen=True)
class EnsembleResult(Result):
    """Means over an ensemble, as a :class:`.Result`, and spreads.

    Attributes:
        energy_std: ``[B]`` standard deviation of the energies (of the sample: over
            K - 1).
        energies_std: ``[N]`` that of the contribution of every atom, or None.
        forces_std: ``[N, 3]`` that of every component of the forces, or None.
    """

    energy_std: Tensor | None = None
    energies_std: Tensor | None = None
    forces_std: Tensor | None = None


class Spread(NamedTuple):
    """Predictions of an ensemble: mean and standard deviation, both ``[n, ...]``."""

    mean: Tensor
    std: Tensor


class Ensemble(nn.Module):
    """Potentials or predictors that differ in their weights, as one.

    The spread grows where the networks were not told what to say. By itself it is
    mostly too small; :meth:`calibrate` measures by how much on structures that none of
    them has seen, and every spread is multiplied by that factor from then on.

    Args:
        models: At least two; :class:`.Potential`, :class:`.Predictor`, networks.
        factors: What spreads are multiplied by, by the names of the targets and
            ``"forces"``. Default: nothing, so by 1.

    Attributes:
        models: The models.
        factors: As above.

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

    def __init__(
        self, models: Iterable[Any], factors: Mapping[str, float] | None = None
    ) -> None:
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
        self.factors = dict(factors or {})
        known = {*self.info.targets, "forces"}
        for name, value in self.factors.items():
            if name not in known or not (math.isfinite(value) and value > 0):
                msg = (
                    f"factors: {name!r}: {value!r}; expected positive numbers for "
                    f"{', '.join(sorted(known))}"
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
            where: A folder, such as that of ``cormorant train`` with several seeds or
                of :meth:`save`, whose factors are read too; or files.
            device: Where the weights go.
            parts: As for :func:`~torch_cormorant.load_model`.

        Raises:
            ConfigError: There are fewer than two, or they do not fit together.
            ModelFileError: There is none in the folder, or one cannot be read.
        """
        factors: dict[str, float] = {}
        if isinstance(where, (str, os.PathLike)):
            factors = _factors(Path(where) / RECORD)
            place, where = where, sorted(Path(where).rglob("*.safetensors"))
            if not where:
                msg = f"{place}: a folder with model files (*.safetensors) is needed"
                raise ModelFileError(msg)
        own = list(parts)
        models = [load_model(path, device, parts=own) for path in where]
        return cls(models, factors)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write every model and the factors into a folder, for :meth:`load`.

        Args:
            folder: It is made; ``member-0.safetensors`` and so on are replaced.
        """
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        calls: Any = self.models
        for number, model in enumerate(calls):
            save_model(place / f"member-{number}.safetensors", model)
        write_factors(place / RECORD, self.factors)

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

    @property
    def head(self) -> Any:
        """The head of the first network."""
        return self.network.head

    def evaluate(self, *args: Any, **options: Any) -> EnsembleResult:
        """Means of energies, forces and stress, and spreads of all but the last.

        Edges are searched for once. ``memory=`` cuts large systems for one model after
        the other.

        Args:
            *args: As :meth:`.Potential.evaluate`.
            **options: As :meth:`.Potential.evaluate`.
        """
        return self.summarised(self._each(*args, **options))

    def summarised(self, found: Sequence[Result]) -> EnsembleResult:
        """Means and spreads of what each model has found.

        Args:
            found: One result of each, with the same fields.
        """
        each = [one.tensors() for one in found]
        rows = {name: torch.stack([one[name] for one in each]) for name in each[0]}
        spread = {
            f"{name}_std": rows[name].std(0) * self.factors.get(factor, 1.0)
            for name, factor in SPREADS.items()
            if name in rows
        }
        parts: dict[str, Any] = {n: value.mean(0) for n, value in rows.items()} | spread
        return EnsembleResult(**parts, unit=found[0].unit)

    def _each(self, *args: Any, **options: Any) -> list[Result]:
        """One result of each model; what they share is computed once."""
        potentials = [Potential.of(model) for model in self.models]
        plain = all(type(one).evaluate is Potential.evaluate for one in potentials)
        if not plain or options.get("memory") is not None:
            return [one.evaluate(*args, **options) for one in potentials]
        options.pop("memory", None)
        wanted = {k: options.pop(k, k == "forces") for k in ("forces", "stress")}
        train = torch.is_grad_enabled() and any(m.training for m in potentials)
        given = Structures(*args, **options)
        return run_each(potentials, given, **wanted, train=train)

    def energy_and_forces(self, *args: Any, **options: Any) -> tuple[Tensor, Any]:
        """Mean energies and forces, as :meth:`.Potential.energy_and_forces`."""
        found = self.evaluate(*args, **options)
        return found.energy, found.forces

    evaluate_all = Potential.evaluate_all

    def predict(self, *args: Any, **options: Any) -> Spread:
        """Mean and spread of the predictions in units.

        Args:
            *args: As :meth:`.Predictor.predict`: tensors, a ``Data``, a data set, ...
            **options: As :meth:`.Predictor.predict`.
        """
        calls: Any = self.models
        rows = torch.stack([model.predict(*args, **options) for model in calls])
        names = self.info.targets
        factors = rows.new_tensor([self.factors.get(name, 1.0) for name in names])
        if len(names) > 1:
            factors = factors.view(-1, *[1] * (rows.ndim - 3))
        return Spread(rows.mean(0), rows.std(0) * factors)

    def calibrate(self, structures: Any, *, batch_size: int = 64) -> dict[str, float]:
        r"""Measure by how much the spread is too small, and correct it from now on.

        .. math:: f = \sqrt{\langle (y - \bar y)^2 \rangle / \langle s^2 \rangle}

        with labels :math:`y`, the means :math:`\bar y` of the models and their spreads
        :math:`s`: both have the same root mean square then.

        Args:
            structures: Data with labels that no model was trained on, in the unit of
                the models: ``energy`` and perhaps ``forces``, or ``y``.
            batch_size: Structures at once.

        Returns:
            The factors, which are :attr:`factors` from now on.

        Raises:
            ConfigError: There are no labels, fewer than two structures, or all models
                say the same.

        Example:
            >>> from torch_cormorant import Cormorant
            >>> from torch_cormorant.data import MiniEthanol
            >>> from torch_cormorant.models import Ensemble
            >>> options = {"channels": 4, "num_levels": 1}
            >>> many = [Cormorant.potential([1, 6, 8], **options) for _ in range(2)]
            >>> sorted(Ensemble(many).calibrate(MiniEthanol()[:4]))
            ['energy', 'forces']
        """
        rows = list(structures)
        labels = ("energy", "forces") if "energy" in rows[0] else ("y",)
        held = [name for name in labels if rows and name in rows[0]]
        if len(rows) < 2 or not held:
            msg = (
                "structures: at least two with labels are needed (energy and forces, "
                f"or y), got {len(rows)} with {', '.join(held) or 'none'}"
            )
            raise ConfigError(msg)
        kept, self.factors = self.factors, {}
        try:
            self.factors = self._measured(rows, held, batch_size)
        finally:
            self.factors = self.factors or kept
        return self.factors

    def _measured(
        self, rows: Sequence[Any], held: Sequence[str], batch_size: int
    ) -> dict[str, float]:
        truth = {name: torch.cat([row[name] for row in rows]) for name in held}
        if "y" in truth:
            found = self.predict(rows, batch_size=batch_size)
            names = self.info.targets
            if len(names) == 1:
                return {names[0]: _factor(names[0], truth["y"], *found)}
            return {
                name: _factor(name, *(part[:, k] for part in (truth["y"], *found)))
                for k, name in enumerate(names)
            }
        forces = "forces" in truth
        out: Any = self.evaluate_all(rows, forces=forces, batch_size=batch_size)
        return {
            name: _factor(name, labels, getattr(out, name), getattr(out, f"{name}_std"))
            for name, labels in truth.items()
        }


def _factor(name: str, truth: Tensor, mean: Tensor, std: Tensor) -> float:
    """Root mean square of the error over that of the spread."""
    error = (mean - truth.to(mean.device)).square().mean().sqrt()
    factor = float(error / std.square().mean().sqrt())
    if not (math.isfinite(factor) and factor > 0):
        msg = (
            f"{name}: all models say the same, or nothing is wrong; nothing to measure"
        )
        raise ConfigError(msg)
    return factor


def write_factors(path: Path, factors: Mapping[str, float]) -> None:
    """Write factors beside what else a file holds.

    Args:
        path: The file, whose other entries stay.
        factors: As :class:`Ensemble` has them.
    """
    held = json.loads(path.read_text()) if path.exists() else {}
    text = json.dumps({**held, "factors": dict(factors)}, indent=2) + "\n"
    write_atomically(path, lambda stream: stream.write(text.encode()))


def _factors(path: Path) -> dict[str, float]:
    """The factors of a file, none where there is no file.

    Raises:
        ModelFileError: It is damaged.
    """
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text()).get("factors", {})
        return {str(name): float(value) for name, value in found.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        msg = f"{path}: damaged, its factors are not understood ({error})"
        raise ModelFileError(msg) from error


Loaded: TypeAlias = Model | Ensemble
"""What a model file or a folder of them holds."""


def load_models(
    path: str | os.PathLike[str],
    device: str | torch.device = "cpu",
    *,
    parts: Iterable[type[Part]] = (),
) -> Loaded:
    """What a file or a folder holds: a model, or the ensemble of several seeds.

    Args:
        path: A model file, or a folder as for :meth:`Ensemble.load`. A folder with one
            model is that model.
        device: Where the weights go.
        parts: As for :func:`~torch_cormorant.load_model`.

    Raises:
        ModelFileError: There is none, or it cannot be read.
        ConfigError: The models of the folder do not fit together.
    """
    place = Path(path)
    if not place.is_dir():
        return load_model(place, device, parts=parts)
    files = sorted(place.rglob("*.safetensors"))
    if not files:
        msg = f"{place}: a folder without a model file (*.safetensors)"
        raise ModelFileError(msg)
    if len(files) == 1:
        return load_model(files[0], device, parts=parts)
    return Ensemble.load(place, device, parts=parts)


def _shared(model: Any) -> dict[str, Any]:
    """What must be the same in all models."""
    network = getattr(model, "network", model)
    return {
        "targets": model.info.targets,
        "units": model.info.units,
        "elements": network.features.known,
        "cutoff": network.cutoff,
        "head shape": (tuple(network.head.shape), network.head.per_atom),
        "type": network.dtype,
        "edges": (network.harmonics, network.self_edges),
        "hops": network.hops,
    }
