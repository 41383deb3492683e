"""What every training has in common: optimiser, schedule, averaged weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanMetric
from typing_extensions import Self

from torch_cormorant.errors import ConfigError, NonFiniteError, WeightsError
from torch_cormorant.models import CONVENTION, Cormorant, ModelInfo, Normalisation
from torch_cormorant.models.copies import copied
from torch_cormorant.models.files import save_model
from torch_cormorant.models.tuning import is_part, no_such_part
from torch_cormorant.nn import SoftCutoff
from torch_cormorant.nn.facts import StatesFacts
from torch_cormorant.train.graphs import GraphStore, graph_of, joins_graphs
from torch_cormorant.train.metrics import Rows, mean_metric, weights_of
from torch_cormorant.train.schedule import SCHEDULES, learning_rate_factor
from torch_cormorant.train.steps import Steps, steps_for
from torch_cormorant.train.updates import OPTIMIZERS, adamw, clip_to, move_averages

__all__ = ["MoleculeBatch", "Regression"]


class MoleculeBatch(Protocol):
    """What a batch has to offer, beside its labels; a PyG ``Batch`` does."""

    z: Tensor
    pos: Tensor
    batch: Tensor
    num_graphs: int


class Regression(StatesFacts, LightningModule):
    """Base class of the trainings: optimiser, schedule, averaged weights.

    Args:
        model: The network. It is put in training mode; parameters that are frozen stay
            frozen, unless all of them are: see ``make_trainable``.
        normalisation: From its output to the unit of the data.
        lr: Learning rate; default the paper's.
        schedule: ``"constant"`` (the paper) or ``"cosine"``.
        warmup_steps: Steps of linear warm-up; default none.
        final_lr_factor: The cosine ends at this share of ``lr``; default 0.01.
        weight_decay: Decoupled weight decay; default none, as published.
        ema_decay: Decay of the exponential moving average of the weights, which
            validation, tests and the model file then use; default 0: no average.
        rates: Factors on the rate of parts of the network by their names, such as
            ``{"convs": 0.1}``; of several that fit the longest counts. Default: 1.
        optimizer: ``"adam"`` (default; AMSGrad, the paper's) or ``"muon"``, see
            :class:`~torch_cormorant.train.Muon`.
        momentum: Of ``"muon"``. Default 0.98.

    Attributes:
        averaged: The averaged network, or None.
        rate_factor: Further factor on the learning rate; a guard may lower it.
        last_loss: Loss of the latest batch.
        steps: What takes the steps; None: Lightning's own loop.

    Raises:
        ConfigError: A number is out of range or the schedule is unknown.
    """

    def __init__(
        self,
        model: nn.Module,
        normalisation: Normalisation,
        *,
        lr: float = 5e-4,
        schedule: str = "constant",
        warmup_steps: int = 0,
        final_lr_factor: float = 0.01,
        weight_decay: float = 0.0,
        ema_decay: float = 0.0,
        rates: Mapping[str, float] | None = None,
        optimizer: str = "adam",
        momentum: float = 0.98,
    ) -> None:
        super().__init__()
        if not (math.isfinite(lr) and lr > 0):
            raise ConfigError(f"lr: {lr} is not a positive number")
        words = {
            "schedule": (schedule, SCHEDULES),
            "optimizer": (optimizer, OPTIMIZERS),
        }
        for name, (word, known) in words.items():
            if word not in known:
                raise ConfigError(f"{name}: {word!r} is not one of {tuple(known)}")
        if warmup_steps < 0 or not 0 <= final_lr_factor <= 1:
            raise ConfigError(
                f"warmup_steps, final_lr_factor: {warmup_steps}, {final_lr_factor}; "
                "expected at least 0, and 0 to 1"
            )
        shares = 0 <= ema_decay < 1 and 0 <= momentum < 1
        if not (shares and 0 <= weight_decay < math.inf):
            raise ConfigError(
                f"ema_decay, momentum, weight_decay: {ema_decay}, {momentum}, "
                f"{weight_decay}; expected 0 to below 1 (both), and at least 0"
            )
        self.model, self.rates = model, dict(rates or {})
        make_trainable(model)
        for part, factor in self.rates.items():
            if not (math.isfinite(factor) and factor > 0):
                raise ConfigError(f"rates: {part}: {factor} is not a positive number")
            if not any(is_part(name, part) for name, _ in model.named_parameters()):
                raise no_such_part(model, part)
        self.averaged: nn.Module | None = None
        if ema_decay:
            self.averaged = copied(model).requires_grad_(False)
        self.normalisation = normalisation
        self.lr, self.schedule, self.warmup_steps = float(lr), schedule, warmup_steps
        self.final_lr_factor, self.weight_decay = final_lr_factor, weight_decay
        self.ema_decay = ema_decay
        self.optimizer, self.momentum = optimizer, momentum
        self.rate_factor, self.last_loss = 1.0, math.nan
        self.tolerant = False
        self.steps: Steps | None = None
        self._logged: set[str] = set()
        self.train_loss, self.train_mae = mean_metric(), mean_metric()

    def facts(self) -> dict[str, Any]:
        """What labels were normalised by; see ``StatesFacts``."""
        return {"normalisation": self.normalisation.as_dict()}

    @property
    def network(self) -> nn.Module:
        """The weights in use; outside of training their average, if there is one."""
        if self.averaged is None or self.training:
            return self.model
        return self.averaged

    def setup(self, stage: str) -> None:
        """Keep several processes from sending each other what never changes."""
        del stage
        fixed = isinstance(self.model, Cormorant) and not any(
            isinstance(part, _BatchNorm) for part in self.modules()
        )
        if fixed and self.world_size > 1:
            ddp: Any = DistributedDataParallel
            names = [name for name, _ in self.named_buffers()]
            ddp._set_params_and_buffers_to_ignore_for_model(self, names)  # noqa: SLF001

    def on_fit_start(self) -> None:
        """Put the network in training mode, in which forces have derivatives."""
        self._logged.clear()
        for network in (self.model, self.averaged):
            if network is not None and not network.training:
                network.train()

    # ------------------------------------------------------------ optimiser

    def capture(self, sizes: Any, clip: float = 0.0) -> Self:
        """Train by :class:`~torch_cormorant.train.CapturedStep` in Lightning's loop.

        Validation, tests, schedules, averages and checkpoints are as always; a run
        goes on from a checkpoint of its own kind. Not possible: several processes,
        a :class:`~torch_cormorant.train.SpikeGuard`, gradient clipping by the trainer
        (that is ``clip`` here), accumulation of gradients.

        Args:
            sizes: What the batches are filled up to, a
                :class:`~torch_cormorant.train.PaddedSizes`.
            clip: Largest norm of the gradient; 0 (default): no limit.

        Returns:
            The module itself.

        Raises:
            ConfigError: See :class:`~torch_cormorant.train.CapturedStep`.
        """
        if self.rates:
            raise ConfigError("capture: one rate for all weights, so no rates=")
        if self.optimizer != "adam":
            raise ConfigError(
                f"capture: optimizer {self.optimizer!r} is not captured; take 'adam'"
            )
        self.steps = steps_for(sizes, self, clip)
        self.automatic_optimization = False
        return self

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimiser and a schedule that moves every step."""
        # The length of the run is only asked for where it matters: without a limit on
        # the epochs it is infinite, and the constant rate is still defined.
        total = (
            int(self.trainer.estimated_stepping_batches)
            if self.schedule == "cosine"
            else 0
        )
        optimizer: torch.optim.Optimizer = (
            adamw(self._weights(), OPTIMIZERS[self.optimizer], **self.settings())
            if self.steps is None
            else self.steps.optimizer(total)
        )
        scheduler = LambdaLR(optimizer, lambda step: self.rate_at(step, total))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def _weights(self) -> Any:
        """The weights, or groups of them with rates of their own."""
        if not self.rates:
            return self.model.parameters()
        groups: dict[float, list[Tensor]] = {}
        for name, weight in self.model.named_parameters():
            fitting = [part for part in self.rates if is_part(name, part)]
            factor = self.rates[max(fitting, key=len)] if fitting else 1.0
            groups.setdefault(factor, []).append(weight)
        return [
            {"params": weights, "lr": self.lr * factor}
            for factor, weights in groups.items()
        ]

    def settings(self) -> dict[str, Any]:
        """Settings of the optimiser."""
        adam = self.optimizer == "adam"
        own = {"amsgrad": True} if adam else {"momentum": self.momentum}
        return {"lr": self.lr, "weight_decay": self.weight_decay, **own}

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Take the step, then move the average towards the new weights."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        if self.averaged is not None:
            self.average(self.decay_at(self.trainer.global_step))

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the norm in few calls; other ways of clipping are the trainer's."""
        if gradient_clip_algorithm not in (None, "norm") or not gradient_clip_val:
            super().configure_gradient_clipping(
                optimizer, gradient_clip_val, gradient_clip_algorithm
            )
            return
        groups = [group["params"] for group in optimizer.param_groups]
        clip_to([weight for group in groups for weight in group], gradient_clip_val)

    def rate_at(self, step: int, total: int) -> float:
        """Factor on the learning rate, of the schedule and of a guard.

        Args:
            step: Number of steps already taken.
            total: Number of steps of the whole run.
        """
        return self.rate_factor * learning_rate_factor(
            step, total, self.schedule, self.warmup_steps, self.final_lr_factor
        )

    def decay_at(self, step: int) -> float:
        """Share of the old average in the new one.

        Args:
            step: Number of steps already taken.
        """
        # Early on a short memory, so that the start is forgotten.
        return min(self.ema_decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def average(self, decay: float) -> None:
        """Move the averaged weights.

        Args:
            decay: Share of the old average in the new one.
        """
        if self.averaged is None:
            return
        move_averages(self.averaged.parameters(), self.model.parameters(), 1.0 - decay)
        kept, buffers = list(self.averaged.buffers()), list(self.model.buffers())
        if kept:
            torch._foreach_copy_(kept, buffers)

    # ------------------------------------------------------------ losses

    label_names: tuple[str, ...] = ()
    """The labels that loss and errors read."""

    @property
    def error_names(self) -> list[str]:
        """The errors that :meth:`terms_of` finds, for the metrics ``train_...``."""
        return ["mae"]

    def predicted(self, network: Any, batch: Any) -> Any:
        """What a network says of a batch.

        Args:
            network: The network, or its average.
            batch: Molecules, on its device.
        """
        raise NotImplementedError

    def predicted_on(self, network: Any, graph: Any) -> Any:
        """:meth:`predicted` for molecules whose graph has been made and checked.

        Args:
            network: The network, in training mode.
            graph: Edges and plan of a batch, as ``BatchGraph`` holds them.
        """
        raise NotImplementedError

    def graph_store(self) -> GraphStore | None:
        """What makes the graphs of training batches ahead; None: the step makes them.

        None where a network or a subclass of the module has its own way from molecules
        to predictions.
        """
        classes = type(self).__mro__
        ways = ("predicted", "predicted_on", "terms")
        own = [next(c for c in classes if name in vars(c)) for name in ways]
        plain = own[0] is own[1] and own[2] is Regression and self.steps is None
        return GraphStore(self.model) if plain and joins_graphs(self.model) else None

    def terms_of(self, batch: Any, output: Any) -> tuple[Tensor, Rows]:
        """Loss of a batch, and errors for the metrics; waits for no device.

        Args:
            batch: Molecules with their labels, on the device of the network.
            output: What was predicted for them.
        """
        raise NotImplementedError

    def row_weights(self, batch: Any) -> Tensor:
        """Weights of what the loss is a mean of: molecules, unless told otherwise.

        Args:
            batch: Molecules, perhaps with ``weight``.
        """
        return weights_of(batch)

    def terms(self, batch: Any) -> tuple[Tensor, Rows]:
        """:meth:`terms_of` for what the network itself predicts.

        Args:
            batch: Molecules with their labels, on the device of the network.
        """
        graph = graph_of(batch)
        if graph is None:
            return self.terms_of(batch, self.predicted(self.model, batch))
        return self.terms_of(batch, self.predicted_on(self.model, graph))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Loss of one batch.

        Args:
            batch: Molecules with their labels.
            batch_idx: Number of the batch in the epoch.

        Returns:
            The loss.

        Raises:
            NonFiniteError: It is NaN or infinite, and no guard deals with that.
        """
        if self.steps is not None:
            return self.steps.step(batch)
        rows: Rows = {}
        try:
            loss, rows = self.terms(batch)
        except NonFiniteError:
            if not self.tolerant:
                raise
            loss = hopeless(self.model)
        self.checked_loss(loss, batch_idx, self.row_weights(batch))
        for name, (errors, weights) in rows.items():
            self.note(f"train_{name}", errors, weights, batch.num_graphs)
        return loss

    def evaluation_step(self, batch: Any, part: str) -> None:
        """Log the errors of a batch.

        Args:
            batch: Molecules with their labels.
            part: ``"valid"`` or ``"test"``, what the names of the errors begin with.
        """
        raise NotImplementedError

    def validation_step(self, batch: Any) -> None:
        """Errors of one validation batch, ``valid_mae`` and so on."""
        self.evaluation_step(batch, "valid")

    def test_step(self, batch: Any) -> None:
        """Errors of one test batch, ``test_mae`` and so on."""
        self.evaluation_step(batch, "test")

    def note(
        self, name: str, errors: Any, weights: Any, size: int, place: str = ""
    ) -> None:
        """Add errors to a metric, and log it.

        Args:
            name: What it is logged as, such as ``valid_mae``.
            errors: ``[n]``, or one for all molecules.
            weights: Of the errors.
            size: Number of molecules of the batch.
            place: Where the metric lies in the module; default under its name.
        """
        self.log_metric(name, size, place).update(errors, weights)

    def log_metric(self, name: str, size: int, place: str = "") -> Any:
        """Have a metric logged at the end of the epoch, and return it.

        Lightning reads the metric itself then: once in an epoch is enough to tell it.

        Args:
            name: As for :meth:`note`.
            size: As for :meth:`note`.
            place: As for :meth:`note`.
        """
        metric: Any = self.get_submodule(place or name)
        if name in self._logged or self.trainer_or_none is None:
            return metric
        self._logged.add(name)
        self.log(
            name,
            metric,
            on_step=False,
            on_epoch=True,
            batch_size=size,
            metric_attribute=place or name,
        )
        return metric

    def total(self, *numbers: Tensor) -> list[Tensor]:
        """Sums over all processes, in float64; the numbers themselves with one."""
        own = [number.detach().double() for number in numbers]
        if self.world_size == 1:
            return own
        values = torch.stack(own)
        torch.distributed.all_reduce(values)
        return list(values)

    @property
    def trainer_or_none(self) -> Any:
        """The trainer, or None where a step is called by hand."""
        return self._trainer if hasattr(self, "_trainer") else None

    @property
    def world_size(self) -> int:
        """Number of processes that train together."""
        trainer = self.trainer_or_none
        return 1 if trainer is None else int(trainer.world_size)

    def weighted(self, *rows: tuple[Tensor, Tensor]) -> list[Tensor]:
        """Means of one number per row over the rows of all processes.

        Lightning averages the gradients of the processes. Each process therefore
        returns its sum over the number of rows of all, times the number of processes:
        unequal shares then give the gradient of the joined batch.

        Args:
            *rows: Numbers ``[n]`` and their weights ``[n]``, zero for a row that only
                fills up a batch.
        """
        counts = self.total(*(weights.sum() for _, weights in rows))
        found = []
        for (errors, weights), count in zip(rows, counts, strict=True):
            factor = self.world_size / count.clamp_min(1.0)
            found.append((errors * weights).sum() * factor.to(errors.dtype))
        return found

    def joined(self, loss: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of all processes, and the number of molecules it is of.

        Args:
            loss: Of this process, as :meth:`weighted` returns it.
            weights: Of the molecules of this process.
        """
        value, count = self.total(loss / self.world_size, weights.sum())
        return value, count

    def checked_loss(self, loss: Tensor, batch_idx: int, weights: Tensor) -> None:
        """Log a loss, and refuse one that is not finite.

        Args:
            loss: Of this process.
            batch_idx: Number of the batch in the epoch.
            weights: Of its molecules.

        Raises:
            NonFiniteError: It is NaN or infinite, and no guard deals with that.
        """
        value, count = self.joined(loss, weights)
        self.last_loss, size = value.item(), int(count)
        if not math.isfinite(self.last_loss):
            if self.tolerant:
                return
            raise NonFiniteError(
                f"loss: became {self.last_loss} in epoch {self.current_epoch + 1}, "
                f"batch {batch_idx + 1}; try a smaller learning rate or gradient "
                "clipping"
            )
        # The step's value is for the progress bar.
        if getattr(self.trainer_or_none, "progress_bar_callback", None) is not None:
            self.log(
                "loss", self.last_loss, prog_bar=True, logger=False, batch_size=size
            )
        # That of all processes, in each of them.
        self.note("train_loss", self.last_loss, size, size)

    def on_train_epoch_start(self) -> None:
        """Start the sums of the epoch anew; not called where one is gone on with."""
        self._logged = {name for name in self._logged if not _in_training(name)}
        for name, metric in self.named_children():
            if isinstance(metric, MeanMetric) and _in_training(name):
                metric.reset()

    def on_validation_epoch_start(self) -> None:
        """Start the sums of the validation anew."""
        self._logged = {name for name in self._logged if _in_training(name)}
        for name, metric in self.named_modules():
            if isinstance(metric, MeanMetric) and not _in_training(name):
                metric.reset()

    def on_test_epoch_start(self) -> None:
        """The same before a test."""
        self.on_validation_epoch_start()

    # ------------------------------------------------------------ files

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note the convention of the weights."""
        checkpoint["convention"] = CONVENTION
        checkpoint["rate_factor"] = self.rate_factor
        if self.steps is not None:
            self.steps.on_save_checkpoint(checkpoint)

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
        self.rate_factor = float(checkpoint.get("rate_factor", 1.0))
        if self.steps is not None:
            self.steps.on_load_checkpoint(checkpoint)

    def save_network(
        self,
        path: Any,
        targets: list[str],
        units: list[str],
        training: Mapping[str, Any],
    ) -> None:
        """Write the network, averaged where there is an average, to a model file.

        Args:
            path: The file.
            targets: Name of each output.
            units: Unit of each output.
            training: Record of the training, plain values.

        Raises:
            ConfigError: As :func:`torch_cormorant.save_model`.
        """
        network: Any = self.model if self.averaged is None else self.averaged
        # An element that no training structure holds: said by the command line.
        features = getattr(network, "features", None)
        normalisation = self.normalisation.covering(getattr(features, "known", ()))
        network.info = ModelInfo(tuple(targets), tuple(units), normalisation, training)
        save_model(path, network)


def _in_training(name: str) -> bool:
    return name.startswith("train_")


def make_trainable(model: nn.Module) -> None:
    """Bring a network into training mode, with something to train.

    A network from a file is in evaluation mode, where nothing keeps the derivatives of
    forces. Parameters that are frozen stay so: with some frozen, that was on purpose.
    Where all of them are, as in the copies that calculators and averages make, all are
    trained, but for masks that ``cutoff_type`` fixes.

    Args:
        model: The network; modes and ``requires_grad`` are set.
    """
    if not model.training:
        model.train()
    if any(parameter.requires_grad for parameter in model.parameters()):
        return
    model.requires_grad_(requires_grad=True)
    for part in model.modules():
        if isinstance(part, SoftCutoff):
            part.set_learned()


def hopeless(model: nn.Module) -> Tensor:
    """An infinite loss that still depends on all weights, for a guard to deal with."""
    parts = [p.sum() for p in model.parameters() if p.requires_grad]
    return torch.stack(parts).sum() * math.inf
