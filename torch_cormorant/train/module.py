"""Regression of one molecular property as a Lightning module."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol, cast

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanAbsoluteError

from torch_cormorant.errors import (
    ConfigError,
    NonFiniteError,
    ShapeError,
    WeightsError,
)
from torch_cormorant.models import CONVENTION
from torch_cormorant.ops.segment import scatter_sum

__all__ = ["MoleculeBatch", "PropertyRegression", "learning_rate_factor"]

SCHEDULES = ("constant", "cosine")
MAX_Z = 118


class MoleculeBatch(Protocol):
    """What a batch has to offer; a PyG ``Batch`` of our data sets does."""

    z: Tensor
    pos: Tensor
    y: Tensor
    batch: Tensor
    num_graphs: int


def learning_rate_factor(
    step: int, total: int, schedule: str, warmup: int, final: float
) -> float:
    r"""Factor on the learning rate before optimiser step ``step``.

    Linear from ``1 / (warmup + 1)`` to 1 during warm-up, then 1 or

    .. math:: f + (1 - f) \tfrac{1}{2} (1 + \cos \pi t), \quad t \in [0, 1].

    Args:
        step: Number of steps already taken.
        total: Number of steps of the whole run.
        schedule: ``"constant"`` or ``"cosine"``.
        warmup: Number of warm-up steps.
        final: Factor ``f`` at the end of the cosine.

    Returns:
        The factor.

    Example:
        >>> [learning_rate_factor(s, 100, "cosine", 0, 0.1) for s in (0, 100)]
        [1.0, 0.1]
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule == "constant":
        return 1.0
    done = min(1.0, (step - warmup) / max(1, total - warmup))
    return final + (1.0 - final) * 0.5 * (1.0 + math.cos(math.pi * done))


class PropertyRegression(LightningModule):
    r"""Fits one property with the mean squared error of its normalised value.

    .. math::
        \mathcal L = \Bigl( f(z, r) - \bigl(y - \mu - \textstyle\sum_i w_{z_i}\bigr)
        / \sigma \Bigr)^2

    Optimised with Adam in its AMSGrad form, as in the paper. Errors are logged as
    ``train_mae`` and ``valid_mae`` in the unit of ``y``; normalisation and errors are
    computed in float64, the network in the type of its parameters.

    Args:
        model: Called as ``model(z, pos, batch, num_graphs=B)``, returns ``[B, 1]``.
        mean: Mean :math:`\mu` of the training values, or the constant of a reference.
        std: Standard deviation :math:`\sigma` of the training values around it.
        atom_values: Part :math:`w_z` of the reference of every atom, by atomic number;
            default none, as published.
        lr: Learning rate; default the paper's.
        schedule: ``"constant"`` (the paper) or ``"cosine"``.
        warmup_steps: Steps of linear warm-up; default none.
        final_lr_factor: The cosine ends at this share of ``lr``; default 0.01.

    Raises:
        ConfigError: A number is out of range or the schedule is unknown.

    Example:
        >>> class Constant(torch.nn.Module):
        ...     def __init__(self) -> None:
        ...         super().__init__()
        ...         self.value = torch.nn.Parameter(torch.ones(1))
        ...     def forward(self, z, pos, batch, num_graphs):
        ...         return self.value.expand(num_graphs, 1)
        >>> module = PropertyRegression(Constant(), mean=2.0, std=0.5)
        >>> from torch_geometric.data import Batch, Data
        >>> methane = Data(z=torch.tensor([6]), pos=torch.zeros(1, 3))
        >>> module(Batch.from_data_list([methane]))
        tensor([[2.5000]], dtype=torch.float64, grad_fn=<AddBackward0>)
    """

    def __init__(
        self,
        model: nn.Module,
        mean: float,
        std: float,
        *,
        atom_values: Mapping[int, float] | None = None,
        lr: float = 5e-4,
        schedule: str = "constant",
        warmup_steps: int = 0,
        final_lr_factor: float = 0.01,
    ) -> None:
        super().__init__()
        for name, value in (("std", std), ("lr", lr)):
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{name}: {value} is not a positive number")
        if not math.isfinite(mean):
            raise ConfigError(f"mean: {mean} is not finite")
        if schedule not in SCHEDULES:
            raise ConfigError(f"schedule: {schedule!r} is not one of {SCHEDULES}")
        if warmup_steps < 0 or not 0 <= final_lr_factor <= 1:
            raise ConfigError(
                f"warmup_steps, final_lr_factor: {warmup_steps}, {final_lr_factor}; "
                "expected at least 0, and 0 to 1"
            )
        atom_values = dict(atom_values or {})
        self.save_hyperparameters(ignore=["model"])
        self.model = model
        # Python numbers, not buffers: .float() must not round them.
        self.mean, self.std, self.lr = float(mean), float(std), float(lr)
        self.atom_values = atom_values
        self.schedule, self.warmup_steps = schedule, warmup_steps
        self.final_lr_factor = final_lr_factor
        self.train_mae = MeanAbsoluteError().set_dtype(torch.float64)
        self.valid_mae = MeanAbsoluteError().set_dtype(torch.float64)

    def normalised(self, batch: MoleculeBatch) -> Tensor:
        """The network's own output ``[B, 1]``: mean 0 and deviation 1 over the data."""
        dtype = next(self.model.parameters()).dtype
        return cast(
            "Tensor",
            self.model(
                batch.z,
                batch.pos.to(dtype),
                batch.batch,
                num_graphs=batch.num_graphs,
            ),
        )

    def forward(self, batch: MoleculeBatch) -> Tensor:
        """Predictions ``[B, 1]`` in the unit of ``y``, float64."""
        return self.normalised(batch).double() * self.std + self.reference(batch)

    def reference(self, batch: MoleculeBatch) -> Tensor:
        """What is not learned, ``[B, 1]``: a constant and a value for every atom."""
        constant = torch.full(
            (batch.num_graphs, 1),
            self.mean,
            dtype=torch.float64,
            device=batch.z.device,
        )
        if not self.atom_values:
            return constant
        # An element that no training molecule has adds nothing.
        table = [self.atom_values.get(number, 0.0) for number in range(MAX_Z + 1)]
        atoms = constant.new_tensor(table)[batch.z]
        total = scatter_sum(atoms, batch.batch, batch.num_graphs)
        return constant + total.unsqueeze(-1)

    def training_step(self, batch: MoleculeBatch, batch_idx: int) -> Tensor:
        """Loss of one batch.

        Args:
            batch: Molecules with ``y [B, 1]``.
            batch_idx: Number of the batch in the epoch.

        Returns:
            The mean squared error of the normalised property.

        Raises:
            NonFiniteError: The loss is NaN or infinite.
        """
        output = self.normalised(batch)
        y, reference = self._labels(batch, output), self.reference(batch)
        loss = nn.functional.mse_loss(
            output, ((y - reference) / self.std).to(output.dtype)
        )
        if not torch.isfinite(loss):
            raise NonFiniteError(
                f"loss: became {loss.item()} in epoch {self.current_epoch + 1}, batch "
                f"{batch_idx + 1}; try a smaller learning rate or gradient clipping"
            )
        size = batch.num_graphs
        self.train_mae(output.detach().double() * self.std + reference, y)
        self.log("train_loss", loss.detach(), on_epoch=True, batch_size=size)
        self.log(
            "train_mae", self.train_mae, on_step=False, on_epoch=True, batch_size=size
        )
        return loss

    def validation_step(self, batch: MoleculeBatch) -> None:
        """Error of one validation batch, in the unit of ``y``."""
        predicted = self(batch)
        self.valid_mae(predicted, self._labels(batch, predicted))
        self.log("valid_mae", self.valid_mae, batch_size=batch.num_graphs)

    def predict_step(self, batch: MoleculeBatch) -> Tensor:
        """Predictions of one batch ``[B, 1]`` on the CPU, float64, in the unit of y."""
        return cast("Tensor", self(batch)).cpu()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AMSGrad and a schedule that moves every step."""
        optimizer = torch.optim.Adam(self.model.parameters(), lr=self.lr, amsgrad=True)
        # The length of the run is only asked for where it matters: without a limit on
        # the epochs it is infinite, and the constant rate is still defined.
        total = (
            int(self.trainer.estimated_stepping_batches)
            if self.schedule == "cosine"
            else 0
        )

        def factor(step: int) -> float:
            return learning_rate_factor(
                step, total, self.schedule, self.warmup_steps, self.final_lr_factor
            )

        scheduler = LambdaLR(optimizer, factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note the convention of the weights."""
        checkpoint["convention"] = CONVENTION

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse weights of another convention.

        Raises:
            WeightsError: The checkpoint names another convention, or none.
        """
        found = checkpoint.get("convention")
        if found != CONVENTION:
            raise WeightsError(
                f"convention: the checkpoint has {found!r}, this version reads "
                f"{CONVENTION!r}; train again or use the version that wrote it"
            )

    @staticmethod
    def _labels(batch: MoleculeBatch, output: Tensor) -> Tensor:
        if batch.y.shape != output.shape:
            raise ShapeError(
                f"y: shape {tuple(batch.y.shape)}, the model returns "
                f"{tuple(output.shape)}; both must be [num_graphs, 1]"
            )
        return batch.y.double()
