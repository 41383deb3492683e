"""Training of potentials on energies, forces and stresses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import reduce
from typing import Any, cast

import torch
from torch import Tensor
from typing_extensions import Self

from torch_cormorant.data import Frames, reference_energies
from torch_cormorant.errors import ConfigError, ShapeError
from torch_cormorant.models import ModelInfo, Normalisation, Potential
from torch_cormorant.models.energy import Result
from torch_cormorant.models.evaluation import Edges, run_on
from torch_cormorant.train.base import MoleculeBatch, Regression
from torch_cormorant.train.datamodule import ROUNDING
from torch_cormorant.train.graphs import GraphStore
from torch_cormorant.train.metrics import Rows, mean_metric, row_means, weights_of

__all__ = ["PotentialRegression", "potential_normalisation"]

PREFIXES = {"energy": "", "forces": "force_", "stress": "stress_"}
"""What the metrics of a label begin with."""


def potential_normalisation(
    dataset: Frames,
    *,
    forces: bool = True,
    constant: bool = False,
    isolated: Mapping[int, float] | None = None,
) -> Normalisation:
    r"""References and scale of a potential, from training frames.

    The values of the atoms are the least-squares fit of the energies (in float64); the
    scale is the root mean square of the force components times 1 Angstrom, or without
    forces the deviation of the energies around the fit.

    Args:
        dataset: The training frames.
        forces: Take the scale from the forces, where there are some. Default True.
        constant: Fit a constant too; a sum over atoms is extensive without one only.
        isolated: Energies of single atoms by atomic number in place of the fit, such as
            ``dataset.isolated_energies``. They fix the energy of every composition,
            which frames of one molecule do not; the network then learns the energy of
            atomisation. Default: the fit.

    Returns:
        The normalisation, in the energy unit of the frames.

    Raises:
        ConfigError: The frames do not vary, or have no energies.
        SpeciesError: An element has no energy in ``isolated``.

    Example:
        >>> from torch_cormorant.data import MiniEthanol
        >>> units = potential_normalisation(MiniEthanol()[:100])
        >>> sorted(units.atom_values), round(units.std[0], 1)
        ([1, 6, 8], 1.2)
    """
    found = reference_energies(dataset, constant=constant, isolated=isolated)
    scale = found.std
    if forces and "forces" in dataset.fields:
        vectors = torch.cat([frame.forces for frame in dataset])
        scale = float(vectors.square().mean().sqrt())
    # As few frames as the fit has numbers are met exactly, up to rounding.
    least = 0.0 if scale != found.std else ROUNDING * float(dataset.values.abs().max())
    if not (math.isfinite(scale) and scale > least):
        raise ConfigError(
            f"train: energies and forces of the {len(dataset)} frames do not vary; use "
            "more frames"
        )
    atoms = {z: (value,) for z, value in found.per_element.items()}
    return Normalisation((found.constant,), (scale,), atoms)


class PotentialRegression(Regression):
    r"""Fits energies, forces and stresses with one loss.

    .. math::
        \mathcal L =
        w_E \left\langle \Bigl(\frac{\Delta E}{\sigma N}\Bigr)^2 \right\rangle
        + w_F \left\langle \Bigl(\frac{\Delta F}{\sigma}\Bigr)^2 \right\rangle
        + w_S \left\langle \Bigl(\frac{V \Delta S}{\sigma N}\Bigr)^2 \right\rangle

    over structures, force components and stress components; :math:`\sigma` is the
    scale of the normalisation and :math:`N` the number of atoms. With
    ``per_atom=False`` the energy term does not divide by :math:`N`. With a threshold
    ``huber`` the square of a scaled error x is :math:`2 \delta |x| - \delta^2` beyond
    :math:`\delta`. Forces are exact derivatives of the energy. Logged per epoch in the
    unit of the data: ``valid_mae`` (energy), ``valid_rmse``, ``valid_force_mae``,
    ``valid_force_rmse``, ``valid_stress_mae``, and ``valid_loss``, the loss itself.

    Args:
        model: A potential, or a network with one extensive energy.
        normalisation: As :func:`potential_normalisation` finds it; it becomes that of
            the model.
        unit: Unit of the energies; forces are per Angstrom. Default eV.
        energy_weight: :math:`w_E`. Default 1.
        force_weight: :math:`w_F`; 0: energies alone, as in the paper. Default 1.
        stress_weight: :math:`w_S`. Default 0.
        per_atom: Whether the energy error is divided by the number of atoms. Default
            True; the paper's loss is that of ``False`` without forces.
        huber: :math:`\delta`, in units of :math:`\sigma`. Default infinite: squares.
        first_energy_weight: :math:`w_E` at the start of the training, from where it
            moves to ``energy_weight`` by equal factors: forces first, energies at the
            end. Validation has the last one always. Default None: no change.
        **training: Optimiser, schedule and averaging, as :class:`Regression`.

    Raises:
        ConfigError: The weights are negative or all zero.

    Example:
        >>> from torch_cormorant import Cormorant
        >>> from torch_cormorant.data import MiniEthanol
        >>> from torch_geometric.loader import DataLoader
        >>> data = MiniEthanol()[:4]
        >>> model = Cormorant((1, 6, 8), head="extensive", channels=4, num_levels=1)
        >>> module = PotentialRegression(model, potential_normalisation(data))
        >>> batch = next(iter(DataLoader(data, batch_size=4)))
        >>> output = module(batch)
        >>> tuple(output.energy.shape), tuple(output.forces.shape)
        ((4,), (36, 3))
    """

    def __init__(
        self,
        model: Any,
        normalisation: Normalisation,
        *,
        unit: str = "eV",
        energy_weight: float = 1.0,
        force_weight: float = 1.0,
        stress_weight: float = 0.0,
        per_atom: bool = True,
        huber: float = math.inf,
        first_energy_weight: float | None = None,
        **training: Any,
    ) -> None:
        weights = {
            "energy": energy_weight,
            "forces": force_weight,
            "stress": stress_weight,
        }
        if not all(0 <= weight < math.inf for weight in weights.values()):
            raise ConfigError(f"weights: {weights}, expected at least 0")
        if not any(weights.values()):
            raise ConfigError("weights: all are 0, there is nothing to learn")
        if not huber > 0:
            raise ConfigError(f"huber: {huber} is not positive")
        first = first_energy_weight
        if first is not None and not (0 < first < math.inf and energy_weight > 0):
            raise ConfigError(
                f"first_energy_weight, energy_weight: {first}, {energy_weight}; both "
                "must be positive and finite"
            )
        if not hasattr(model, "evaluate"):
            model = Potential(model)
        # Before a copy is made for the average.
        model.info = ModelInfo(("energy",), (unit,), normalisation)
        super().__init__(model, normalisation, **training)
        self.save_hyperparameters(ignore=["model", "normalisation"])
        self.weights, self.per_atom, self.unit = weights, per_atom, unit
        self.huber, self.first_energy_weight = huber, first
        self.progress = 1.0
        self.train_force_mae = mean_metric()
        self.valid_mae, self.valid_mse = mean_metric(), mean_metric()
        self.valid_force_mae, self.valid_force_mse = mean_metric(), mean_metric()
        self.valid_stress_mae, self.valid_loss = mean_metric(), mean_metric()

    def forward(self, batch: MoleculeBatch) -> Result:
        """Energies, and forces and stresses where they are learned."""
        return self.predicted(self.network, batch)

    def predicted(self, network: Any, batch: Any) -> Result:
        """Energies and what else is learned, see :class:`Regression`."""
        output: Result = network.evaluate(
            batch.z,
            batch.pos,
            batch.batch,
            getattr(batch, "cell", None),
            getattr(batch, "pbc", None),
            forces=self.weights["forces"] > 0,
            stress=self.weights["stress"] > 0,
            num_graphs=batch.num_graphs,
        )
        return output

    def predicted_on(self, network: Any, graph: Any) -> Result:
        """Energies, and forces where they are learned, see :class:`Regression`."""
        vec = graph.vectors().detach().requires_grad_()
        return run_on(
            network,
            graph.z,
            graph.pos,
            graph.batch,
            graph.num_graphs,
            Edges(graph.edge_index, vec),
            graph.geometry(vec.to(network.dtype), network.harmonics),
            forces=self.weights["forces"] > 0,
        )

    def graph_store(self) -> GraphStore | None:
        """See :class:`Regression`; a stress needs strains, which a graph knows not."""
        return None if self.weights["stress"] > 0 else super().graph_store()

    def losses(self, batch: MoleculeBatch, output: Result) -> dict[str, Tensor]:
        """The terms of the loss, each with its weight.

        Args:
            batch: Structures with their labels.
            output: What was predicted for them.

        Returns:
            Scalars named ``energy``, ``forces``, ``stress``.
        """
        return self._losses(batch, self._errors(batch, output))

    def _losses(self, batch: MoleculeBatch, errors: Rows) -> dict[str, Tensor]:
        scale, size = self.normalisation.std[0], graph_sizes(batch)
        rows = {}
        for name, (error, weights) in errors.items():
            if not self.weights[name]:
                continue
            scaled = error / scale
            if name == "energy" and self.per_atom:
                scaled = scaled / size
            elif name == "stress":
                volume = torch.linalg.det(cast("Any", batch).cell.double()).abs()
                scaled = error * (volume / (size * scale)).view(-1, 1, 1)
            rows[name] = row_means(squares(scaled, self.huber)), weights
        means = zip(rows, self.weighted(*rows.values()), strict=True)
        return {name: self.weight_now(name) * mean for name, mean in means}

    def weight_now(self, name: str) -> float:
        """Weight of a term of the loss; that of the energy may move in a training."""
        weight = self.weights[name]
        if name != "energy" or self.first_energy_weight is None or not self.training:
            return weight
        done = self.progress
        return float(self.first_energy_weight ** (1 - done) * weight**done)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Note how much of the training is over."""
        del batch, batch_idx
        total = float(self.trainer.estimated_stepping_batches)
        self.progress = min(1.0, self.global_step / max(1.0, total))

    def capture(self, sizes: Any, clip: float = 0.0) -> Self:
        """See :meth:`Regression.capture`; a captured step has one weight always.

        Raises:
            ConfigError: The weight of the energy moves.
        """
        if self.first_energy_weight is not None:
            raise ConfigError("first_energy_weight: not possible in captured steps")
        return super().capture(sizes, clip)

    def _errors(self, batch: MoleculeBatch, output: Result) -> Rows:
        """Differences to the labels by their names, with the weights of their rows."""
        weights, found = weights_of(batch), {}
        for name in PREFIXES:
            predicted: Tensor | None = getattr(output, name)
            if predicted is not None:
                rows = weights[batch.batch] if name == "forces" else weights
                found[name] = (predicted - labels(batch, name, predicted), rows)
        return found

    @property
    def label_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """The labels that the loss and the metrics read."""
        return ("energy", "forces") if self.weights["forces"] else ("energy",)

    @property
    def error_names(self) -> list[str]:
        """The metrics of the training."""
        return [f"{PREFIXES[name]}mae" for name in self.label_names]

    def terms_of(self, batch: Any, output: Result) -> tuple[Tensor, Rows]:
        """The loss, and errors of energies and forces, see :class:`Regression`."""
        errors = self._errors(batch, output)
        loss = reduce(torch.add, self._losses(batch, errors).values())
        return loss, {
            f"{PREFIXES[name]}mae": (row_means(error.detach().abs()), weights)
            for name, (error, weights) in errors.items()
            if name in self.label_names
        }

    # Forces are derivatives, which Lightning's validation would switch off.
    @torch.enable_grad()
    def evaluation_step(self, batch: MoleculeBatch, part: str) -> None:
        """Errors of one batch in the unit of the data, see :class:`Regression`."""
        output, size = self(batch), batch.num_graphs
        with torch.no_grad():
            for name, (error, rows) in self._errors(batch, output).items():
                prefix = PREFIXES[name]
                place = f"valid_{prefix}mae"
                mae = f"{part}_{prefix}mae"
                self.note(mae, row_means(error.abs()), rows, size, place)
                if name != "stress":
                    squares: Any = getattr(self, f"valid_{prefix}mse")
                    squares.update(row_means(error.square()), rows)
            terms = self.losses(batch, output).values()
            loss = torch.stack([term.double() for term in terms]).sum()
        joined = self.joined(loss, weights_of(batch))
        self.note(f"{part}_loss", *joined, size, "valid_loss")

    def on_validation_epoch_end(self, part: str = "valid") -> None:
        """Log the root mean squares."""
        rmse = self.valid_mse.compute().sqrt()
        self.log(f"{part}_rmse", rmse, sync_dist=True)
        if self.weights["forces"]:
            rmse = self.valid_force_mse.compute().sqrt()
            self.log(f"{part}_force_rmse", rmse, sync_dist=True)

    def on_test_epoch_end(self) -> None:
        """The same of the test frames."""
        self.on_validation_epoch_end("test")

    @torch.enable_grad()
    def predict_step(self, batch: MoleculeBatch) -> tuple[Tensor | None, ...]:
        """Energy, energies, forces and stress of one batch, in the unit of the data.

        A tuple, because Lightning moves no frozen dataclass between devices;
        :func:`~torch_cormorant.train.join_outputs` puts the batches together.
        """
        found: Result = self(batch)
        parts = (found.energy, found.energies, found.forces, found.stress)
        return tuple(None if part is None else part.detach().cpu() for part in parts)


def squares(x: Tensor, threshold: float) -> Tensor:
    """Squares, of numbers beyond a threshold only their tangents there."""
    if threshold == math.inf:
        return x.square()
    size = x.abs()
    return torch.where(
        size <= threshold, x.square(), threshold * (2 * size - threshold)
    )


def graph_sizes(batch: MoleculeBatch) -> Tensor:
    """Number of atoms of every structure ``[B]``, at least 1; no waiting for a GPU."""
    size = batch.batch.new_zeros(batch.num_graphs)
    return size.index_add_(0, batch.batch, torch.ones_like(batch.batch)).clamp_min(1)


def labels(batch: Any, name: str, like: Tensor) -> Tensor:
    """Labels of a batch in float64, or an error that says what is missing.

    Args:
        batch: Structures.
        name: ``energy``, ``forces`` or ``stress``.
        like: Predictions, whose shape they must have.

    Returns:
        The labels.

    Raises:
        ConfigError: The data set has no such labels.
        ShapeError: They have another shape.
    """
    found: Tensor | None = getattr(batch, name, None)
    if found is None:
        raise ConfigError(
            f"{name}: the data set has none; set its weight in the loss to 0"
        )
    if found.shape != like.shape:
        raise ShapeError(
            f"{name}: shape {tuple(found.shape)}, expected {tuple(like.shape)}"
        )
    return found.double()
