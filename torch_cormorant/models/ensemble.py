"""Several models that differ in their weights: their mean, and how far they spread."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from typing_extensions import Self

from torch_cormorant.errors import ConfigError, ModelFileError
from torch_cormorant.models.energy import Result
from torch_cormorant.models.evaluation import Structures, run_each
from torch_cormorant.models.files import load_model, save_model
from torch_cormorant.models.info import ModelInfo
from torch_cormorant.models.measures import RECORD, read_measures, write_measures
from torch_cormorant.models.potential import Potential
from torch_cormorant.models.predictor import Predictor
from torch_cormorant.models.shipped import model_path
from torch_cormorant.models.spread import (
    PER_ATOM,
    limits_of,
    potential_spreads,
    property_spreads,
    warn_of_spread,
)
from torch_cormorant.networks import Network
from torch_cormorant.nn.parts import Part

__all__ = ["Ensemble", "EnsembleResult", "Spread"]

SPREADS = {"energy": "energy", "energies": "energy", "forces": "forces"}
"""What has a spread, and the factor that belongs to it."""


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
        limits: Spreads beyond which a structure is warned of: of a potential
            ``"energy_per_atom"`` and ``"forces"``, the largest of an atom; else by the
            names of the targets. Default: none.

    Attributes:
        models: The models.
        factors: As above.
        limits: As above.
        warns: Whether structures beyond the limits are warned of: ``"always"``
            (default), ``"once"`` or ``"never"``.

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
        self,
        models: Iterable[Any],
        factors: Mapping[str, float] | None = None,
        limits: Mapping[str, float] | None = None,
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
        self.factors, self.limits = dict(factors or {}), dict(limits or {})
        self.warns = "always"
        known = {*self.info.targets, "forces", PER_ATOM}
        for argument, held in (("factors", self.factors), ("limits", self.limits)):
            for name, value in held.items():
                if name not in known or not (math.isfinite(value) and value > 0):
                    msg = (
                        f"{argument}: {name!r}: {value!r}; expected positive numbers "
                        f"for {', '.join(sorted(known))}"
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
                of :meth:`save`, whose factors are read too; the name of weights that
                come with the package; or files.
            device: Where the weights go.
            parts: As for :func:`~torch_cormorant.load_model`.

        Raises:
            ConfigError: There are fewer than two, or they do not fit together.
            ModelFileError: There is none in the folder, or one cannot be read.
        """
        factors: dict[str, float] = {}
        limits: dict[str, float] = {}
        if isinstance(where, (str, os.PathLike)):
            place = model_path(where)
            factors, limits = read_measures(place / RECORD)
            where = sorted(place.rglob("*.safetensors"))
            if not where:
                msg = f"{place}: a folder with model files (*.safetensors) is needed"
                raise ModelFileError(msg)
        own = list(parts)
        models = [load_model(path, device, parts=own) for path in where]
        return cls(models, factors, limits)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write every model, factors and limits into a folder, for :meth:`load`.

        Args:
            folder: It is made; ``member-0.safetensors`` and so on are replaced.
        """
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        calls: Any = self.models
        for number, model in enumerate(calls):
            save_model(place / f"member-{number}.safetensors", model)
        write_measures(place / RECORD, self.factors, self.limits)

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

        A structure whose spread is beyond :attr:`limits` is warned of
        (:class:`~torch_cormorant.errors.EnsembleSpreadWarning`). Edges are searched
        for once. ``memory=`` cuts large systems for one model after
        the other.

        Args:
            *args: As :meth:`.Potential.evaluate`.
            **options: As :meth:`.Potential.evaluate`.
        """
        found = self.summarised(self._each(*args, **options))
        self.look(found, args[2] if len(args) > 2 else options.get("batch"))
        return found

    def look(
        self,
        found: EnsembleResult,
        batch: Tensor | None = None,
        *,
        factor: float = 1.0,
    ) -> None:
        """Warn of structures whose spread is beyond :attr:`limits`.

        Args:
            found: What was found for them.
            batch: Structure of each atom ``[N]``; None: one.
            factor: From the unit of the models to that of what was found.
        """
        if not self.limits or self.warns == "never":
            return
        self.tell(potential_spreads(found, batch), found.unit, factor)

    def tell(
        self,
        spreads: Mapping[str, Tensor],
        unit: str,
        factor: float = 1.0,
        names: Sequence[str] = (),
    ) -> None:
        """Warn of spreads that are beyond :attr:`limits`.

        Args:
            spreads: Of each structure ``[B]``, by the names of the limits.
            unit: That of energies.
            factor: From the unit of the models to that of the spreads.
            names: Of the structures. Default: their numbers.
        """
        if not self.limits or self.warns == "never":
            return
        limits = {name: value * factor for name, value in self.limits.items()}
        units = dict(zip(self.info.targets, self.info.units, strict=True))
        units |= {PER_ATOM: f"{unit}/atom", "forces": f"{unit}/Angstrom"}
        if warn_of_spread(spreads, limits, units, names) and self.warns == "once":
            self.warns = "never"

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

    def evaluate_all(self, structures: Any, **options: Any) -> EnsembleResult:
        """As :meth:`.Potential.evaluate_all`, with spreads.

        Args:
            structures: As there.
            **options: As there.
        """
        whole = isinstance(structures, Data) or not isinstance(structures, Iterable)
        rows = structures if whole else list(structures)
        with self._silent():
            found: Any = Potential.evaluate_all(self, rows, **options)
        self.look(found, _batch_of(rows))
        return cast("EnsembleResult", found)

    @contextmanager
    def _silent(self) -> Iterator[None]:
        """Without warnings of single batches, in which structures count anew."""
        kept, self.warns = self.warns, "never"
        try:
            yield
        finally:
            self.warns = kept

    def predict(self, *args: Any, **options: Any) -> Spread:
        """Mean and spread of the predictions in units.

        Args:
            *args: As :meth:`.Predictor.predict`: tensors, a ``Data``, a data set, ...
            **options: As :meth:`.Predictor.predict`.
        """
        if PER_ATOM in self.limits:  # a potential
            call = self.evaluate if isinstance(args[0], Tensor) else self.evaluate_all
            whole: Any = call(*args, **options, forces=False)
            return Spread(whole.energy[:, None], whole.energy_std[:, None])
        calls: Any = self.models
        rows = torch.stack([model.predict(*args, **options) for model in calls])
        names = self.info.targets
        factors = rows.new_tensor([self.factors.get(name, 1.0) for name in names])
        if len(names) > 1:
            factors = factors.view(-1, *[1] * (rows.ndim - 3))
        std = rows.std(0) * factors
        if self.limits:
            self.tell(property_spreads(std, names), "")
        return Spread(rows.mean(0), std)

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
            The factors, which are :attr:`factors` from now on; :attr:`limits` are what
            99.5 % of these structures are within, and half as much again.

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
        truth = {name: torch.cat([row[name] for row in rows]) for name in held}
        kept = self.factors, self.limits
        self.factors, self.limits = {}, {}
        try:
            if "y" in truth:
                found = self._of_properties(rows, truth["y"], batch_size)
            else:
                found = self._of_energies(rows, truth, batch_size)
        except BaseException:
            self.factors, self.limits = kept
            raise
        self.factors, spreads = found
        self.limits = limits_of(spreads)
        return self.factors

    def _of_properties(
        self, rows: Sequence[Any], truth: Tensor, batch_size: int
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Factors, and spreads of each structure without them."""
        found, names = self.predict(rows, batch_size=batch_size), self.info.targets
        parts = [(truth, *found)]
        if len(names) > 1:
            parts = [
                (truth[:, k], found.mean[:, k], found.std[:, k])
                for k in range(len(names))
            ]
        pairs = zip(names, parts, strict=True)
        factors = {name: _factor(name, *part) for name, part in pairs}
        of_atoms = self.head.per_atom
        spreads = {} if of_atoms else property_spreads(found.std, names)
        return factors, {k: value * factors[k] for k, value in spreads.items()}

    def _of_energies(
        self, rows: Sequence[Any], truth: Mapping[str, Tensor], batch_size: int
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        forces = "forces" in truth
        out: Any = self.evaluate_all(rows, forces=forces, batch_size=batch_size)
        factors = {
            name: _factor(name, labels, getattr(out, name), getattr(out, f"{name}_std"))
            for name, labels in truth.items()
        }
        spreads = potential_spreads(out, _batch_of(rows))
        spreads = {PER_ATOM: spreads[PER_ATOM] * factors["energy"]} | {
            name: spreads[name] * factors[name] for name in ("forces",) if forces
        }
        return factors, spreads


def _batch_of(structures: Any) -> Tensor | None:
    """Structure of each atom."""
    if isinstance(structures, Data):
        return getattr(structures, "batch", None)
    sizes = torch.tensor([row.z.numel() for row in structures])
    return torch.repeat_interleave(sizes)


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
