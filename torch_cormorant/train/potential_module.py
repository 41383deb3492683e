"""Training of potentials on energies, forces and stresses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from torch_cormorant.data import FrameDataset, reference_energies
from torch_cormorant.errors import ConfigError, NonFiniteError, ShapeError
from torch_cormorant.models import Cormorant, ModelInfo, Normalisation
from torch_cormorant.models.energy import Result
from torch_cormorant.models.potential import Edges, run_on
from torch_cormorant.train.base import Regression, Sums, mean_metric
from torch_cormorant.train.datamodule import ROUNDING
from torch_cormorant.train.module import hopeless, weights_of
from torch_cormorant.train.padding import PaddedBatch

__all__ = ["FrameBatch", "PotentialRegression", "potential_normalisation"]


class FrameBatch(Protocol):
    """What a batch of structures has to offer; ``cell`` and ``pbc`` may be missing."""

    z: Tensor
    pos: Tensor
    batch: Tensor
    num_graphs: int


def potential_normalisation(
    dataset: FrameDataset,
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
        w_E \Bigl\langle \Bigl(\frac{\Delta E}{\sigma N}\Bigr)^2 \Bigr\rangle
        + w_F \Bigl\langle \Bigl(\frac{\Delta F}{\sigma}\Bigr)^2 \Bigr\rangle
        + w_S \Bigl\langle \Bigl(\frac{V \Delta S}{\sigma N}\Bigr)^2 \Bigr\rangle

    over structures, force components and stress components; :math:`\sigma` is the
    scale of the normalisation and :math:`N` the number of atoms. With
    ``per_atom=False`` the energy term does not divide by :math:`N`. Forces are exact
    derivatives of the energy. Logged per epoch in the unit of the data:
    ``valid_mae`` (energy), ``valid_rmse``, ``valid_force_mae``, ``valid_force_rmse``,
    ``valid_stress_mae``, and ``valid_loss``, the loss itself.

    Args:
        model: A network with one extensive energy.
        normalisation: As :func:`potential_normalisation` finds it; it becomes that of
            the model.
        unit: Unit of the energies; forces are per Angstrom. Default eV.
        energy_weight: :math:`w_E`. Default 1.
        force_weight: :math:`w_F`; 0: energies alone, as in the paper. Default 1.
        stress_weight: :math:`w_S`. Default 0.
        per_atom: Whether the energy error is divided by the number of atoms. Default
            True; the paper's loss is that of ``False`` without forces.
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
        model: Cormorant,
        normalisation: Normalisation,
        *,
        unit: str = "eV",
        energy_weight: float = 1.0,
        force_weight: float = 1.0,
        stress_weight: float = 0.0,
        per_atom: bool = True,
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
        # Before a copy is made for the average.
        model.info = ModelInfo(("energy",), (unit,), normalisation)
        super().__init__(model, normalisation, **training)
        self.save_hyperparameters(ignore=["model", "normalisation"])
        self.weights, self.per_atom, self.unit = weights, per_atom, unit
        self.train_mae, self.train_force_mae = mean_metric(), mean_metric()
        self.valid_mae, self.valid_mse = mean_metric(), mean_metric()
        self.valid_force_mae, self.valid_force_mse = mean_metric(), mean_metric()
        self.valid_stress_mae, self.valid_loss = mean_metric(), mean_metric()

    def forward(self, batch: FrameBatch) -> Result:
        """Energies, and forces and stresses where they are learned."""
        return self._evaluated(cast("Cormorant", self.network), batch)

    def _evaluated(self, model: Cormorant, batch: Any) -> Result:
        return model.evaluate(
            batch.z,
            batch.pos,
            batch.batch,
            getattr(batch, "cell", None),
            getattr(batch, "pbc", None),
            forces=self.weights["forces"] > 0,
            stress=self.weights["stress"] > 0,
            num_graphs=batch.num_graphs,
        )

    def losses(self, batch: FrameBatch, output: Result) -> dict[str, Tensor]:
        """The terms of the loss, each with its weight.

        Args:
            batch: Structures with their labels.
            output: What was predicted for them.

        Returns:
            Scalars named ``energy``, ``forces``, ``stress``.
        """
        weights = weights_of(batch)
        scale = self.normalisation.std[0]
        size = graph_sizes(batch)
        terms = {}
        if self.weights["energy"]:
            error = (output.energy - labels(batch, "energy", output.energy)) / scale
            error = error / size if self.per_atom else error
            terms["energy"] = self.weighted(error.square(), weights)
        if self.weights["forces"] and output.forces is not None:
            error = (output.forces - labels(batch, "forces", output.forces)) / scale
            of_atoms = weights[batch.batch]
            terms["forces"] = self.weighted(error.square().mean(dim=1), of_atoms)
        if self.weights["stress"] and output.stress is not None:
            wrong = output.stress - labels(batch, "stress", output.stress)
            volume = torch.linalg.det(cast("Any", batch).cell.double()).abs()
            error = wrong * (volume / (size * scale)).view(-1, 1, 1)
            terms["stress"] = self.weighted(error.square().mean(dim=(1, 2)), weights)
        return {name: self.weights[name] * term for name, term in terms.items()}

    def training_step(self, batch: FrameBatch, batch_idx: int) -> Tensor:
        """Loss of one batch.

        Args:
            batch: Structures with ``energy [B]`` and what else is learned.
            batch_idx: Number of the batch in the epoch.

        Returns:
            The loss.

        Raises:
            NonFiniteError: It is NaN or infinite, and no guard deals with that.
        """
        if self.captured is not None:
            return self.captured_step(batch)
        try:
            output = self(batch)
        except NonFiniteError:
            if not self.tolerant:
                raise
            return self.checked_loss(hopeless(self.model), batch_idx, weights_of(batch))
        loss = torch.stack(list(self.losses(batch, output).values())).sum()
        self.checked_loss(loss, batch_idx, weights_of(batch))
        self._measure("train", batch, output)
        return loss

    @property
    def label_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """The labels that the loss and the metrics read."""
        return ("energy", "forces") if self.weights["forces"] else ("energy",)

    @property
    def sum_names(self) -> list[str]:
        """The metrics of the training."""
        forces = ["force_mae"] if self.weights["forces"] else []
        return ["loss", "mae", *forces]

    def plain_terms(self, batch: Any) -> tuple[Tensor, Sums]:
        """Loss and sums of a batch, see :class:`Regression`."""
        return self._terms(batch, self._evaluated(cast("Cormorant", self.model), batch))

    def padded_terms(self, batch: PaddedBatch) -> tuple[Tensor, Sums]:
        """Loss and sums of a batch that was filled up."""
        model = cast("Cormorant", self.model)
        vec = batch.vectors().detach().requires_grad_()
        output = run_on(
            model,
            batch.z,
            batch.pos,
            batch.batch,
            batch.num_graphs,
            Edges(batch.edge_index, vec),
            batch.geometry(vec.to(model.dtype), model.harmonics),
            forces=self.weights["forces"] > 0,
        )
        return self._terms(batch, output)

    def _terms(self, batch: Any, output: Result) -> tuple[Tensor, Sums]:
        loss = torch.stack(list(self.losses(batch, output).values())).sum()
        weights = weights_of(batch)
        wrong = output.energy.detach() - labels(batch, "energy", output.energy)
        count = weights.sum()
        sums = {
            "loss": (loss.detach().double() * count, count),
            "mae": ((wrong.abs() * weights).sum(), count),
        }
        if output.forces is not None:
            of_atoms = weights[batch.batch]
            wrong = output.forces.detach() - labels(batch, "forces", output.forces)
            total = (wrong.abs().mean(dim=1) * of_atoms).sum()
            sums["force_mae"] = (total, of_atoms.sum())
        return loss, sums

    # Forces are derivatives, which Lightning's validation would switch off.
    @torch.enable_grad()
    def validation_step(self, batch: FrameBatch) -> None:
        """Errors of one validation batch, in the unit of the data."""
        output = self(batch)
        self._measure("valid", batch, output)
        with torch.no_grad():
            terms = self.losses(batch, output).values()
            loss = torch.stack([term.double() for term in terms]).sum()
        self.valid_loss.update(*self.joined(loss, weights_of(batch)))
        self._log("valid_loss", batch.num_graphs)

    def on_validation_epoch_end(self) -> None:
        """Log the root mean squares."""
        rmse = self.valid_mse.compute().sqrt()
        self.log("valid_rmse", rmse, sync_dist=True)
        if self.weights["forces"]:
            rmse = self.valid_force_mse.compute().sqrt()
            self.log("valid_force_rmse", rmse, sync_dist=True)

    @torch.enable_grad()
    def predict_step(self, batch: FrameBatch) -> tuple[Tensor | None, ...]:
        """Energy, energies, forces and stress of one batch, in the unit of the data.

        A tuple, because Lightning moves no frozen dataclass between devices;
        :func:`~torch_cormorant.train.join_outputs` puts the batches together.
        """
        found: Result = self(batch)
        parts = (found.energy, found.energies, found.forces, found.stress)
        return tuple(None if part is None else part.detach().cpu() for part in parts)

    def _measure(self, stage: str, batch: FrameBatch, output: Result) -> None:
        weights, size = weights_of(batch), batch.num_graphs
        error = output.energy.detach() - labels(batch, "energy", output.energy)
        getattr(self, f"{stage}_mae").update(error.abs(), weights)
        self._log(f"{stage}_mae", size)
        if stage == "valid":
            self.valid_mse.update(error.square(), weights)
        if output.forces is not None:
            wrong = output.forces.detach() - labels(batch, "forces", output.forces)
            of_atoms = weights[batch.batch]
            metric = getattr(self, f"{stage}_force_mae")
            metric.update(wrong.abs().mean(dim=1), of_atoms)
            self._log(f"{stage}_force_mae", size)
            if stage == "valid":
                self.valid_force_mse.update(wrong.square().mean(dim=1), of_atoms)
        if output.stress is not None and stage == "valid":
            wrong = output.stress.detach() - labels(batch, "stress", output.stress)
            self.valid_stress_mae.update(wrong.abs().mean(dim=(1, 2)), weights)
            self._log("valid_stress_mae", size)

    def _log(self, name: str, size: int) -> None:
        self.log(
            name,
            getattr(self, name),
            on_step=False,
            on_epoch=True,
            batch_size=size,
            metric_attribute=name,
        )


def graph_sizes(batch: FrameBatch) -> Tensor:
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
