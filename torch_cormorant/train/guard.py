"""What to do when the loss jumps."""

from __future__ import annotations

import math
import statistics
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from torch_cormorant.errors import ConfigError, NonFiniteError
from torch_cormorant.train.base import Regression
from torch_cormorant.train.updates import gradient_norm

__all__ = ["SpikeGuard"]

ANSWERS = ("skip", "lower", "rollback", "stop")


class SpikeGuard(Callback):
    """Notices steps that would spoil a training, and answers them.

    The supplement of Anderson et al. 2019 reports trainings that suddenly diverge. A
    step counts as a spike if its loss or gradient is not finite, or if its loss is
    ``factor`` times the median of the latest ones. In all processes the answer is the
    same, since losses and gradients are those of the joined batch.

    Args:
        answer: ``"skip"`` the step; skip it and halve the learning rate, ``"lower"``;
            go back to the last good weights and halve the rate, ``"rollback"``; or
            ``"stop"`` with an error. Default ``"skip"``.
        factor: How large a loss is too large. Default 20.
        window: Number of losses that the median is taken of. Default 50.
        keep_every: Good steps between two copies of the weights, for ``"rollback"``.
            Default 50.
        patience: So many spikes in a row end the training. Default 20.

    Attributes:
        events: One entry per spike: epoch, step, loss, median and answer.

    Raises:
        ConfigError: An argument is out of range.

    Example:
        >>> guard = SpikeGuard("rollback", factor=10)
        >>> guard.events
        []
    """

    def __init__(
        self,
        answer: str = "skip",
        factor: float = 20.0,
        window: int = 50,
        keep_every: int = 50,
        patience: int = 20,
    ) -> None:
        if answer not in ANSWERS:
            raise ConfigError(f"answer: {answer!r} is not one of {ANSWERS}")
        if not factor > 1 or min(window, keep_every, patience) < 1:
            raise ConfigError(
                f"factor, window, keep_every, patience: {factor}, {window}, "
                f"{keep_every}, {patience}; expected above 1, and at least 1"
            )
        self.answer, self.factor, self.window = answer, factor, window
        self.keep_every, self.patience = keep_every, patience
        self.events: list[dict[str, Any]] = []
        self._losses: list[float] = []
        self._good: dict[str, Any] | None = None
        self._since, self._row = 0, 0

    def on_fit_start(
        self,
        trainer: Trainer,  # noqa: ARG002
        pl_module: LightningModule,
    ) -> None:
        """Tell the module that a loss that is not finite will be dealt with."""
        if isinstance(pl_module, Regression):
            pl_module.tolerant = self.answer != "stop"

    def on_before_optimizer_step(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        """Look at loss and gradients, and drop them where they are bad.

        Raises:
            NonFiniteError: A spike with ``"stop"``, or too many in a row.
        """
        loss = float(getattr(pl_module, "last_loss", math.nan))
        median = statistics.median(self._losses) if self._losses else math.inf
        settled = len(self._losses) >= min(10, self.window)
        finite = math.isfinite(loss) and bool(
            gradient_norm(_weights(optimizer)).isfinite()
        )
        if finite and not (settled and loss > self.factor * median):
            self._remember(loss, pl_module, optimizer)
            return
        self._row += 1
        self.events.append(
            {
                "epoch": trainer.current_epoch + 1,
                "step": trainer.global_step,
                "loss": loss if math.isfinite(loss) else str(loss),
                "median": median if math.isfinite(median) else None,
                "answer": self.answer,
            }
        )
        if self.answer == "stop" or self._row >= self.patience:
            raise NonFiniteError(
                f"loss: {loss:.4g} in epoch {trainer.current_epoch + 1}, the median of "
                f"the steps before is {median:.4g} ({self._row} such steps in a row); "
                "try a smaller learning rate or gradient clipping"
            )
        if self.answer == "rollback" and self._good is not None:
            _restore(self._good, pl_module, optimizer)
        if self.answer != "skip" and isinstance(pl_module, Regression):
            pl_module.rate_factor *= 0.5
        # Without gradients Adam leaves weights and moments alone.
        for parameter in pl_module.parameters():
            parameter.grad = None

    def _remember(
        self, loss: float, module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        self._row = 0
        self._losses = [*self._losses[1 - self.window :], loss]
        if self.answer == "rollback":
            if self._since % self.keep_every == 0:
                self._good = _copy(module, optimizer)
            self._since += 1

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to answer as this one would."""
        return {
            "events": list(self.events),
            "losses": list(self._losses),
            "good": self._good,
            "since": self._since,
            "row": self._row,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The reverse."""
        self.events = list(state_dict["events"])
        self._losses = list(state_dict["losses"])
        self._good = state_dict["good"]
        self._since, self._row = state_dict["since"], state_dict["row"]


def _weights(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [weight for group in optimizer.param_groups for weight in group["params"]]


def _copy(module: LightningModule, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    weights = {
        name: value.detach().clone() for name, value in module.named_parameters()
    }
    state = {
        number: {name: _cloned(value) for name, value in entries.items()}
        for number, entries in optimizer.state_dict()["state"].items()
    }
    return {"weights": weights, "optimizer": state}


def _cloned(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


@torch.no_grad()
def _restore(
    good: dict[str, Any], module: LightningModule, optimizer: torch.optim.Optimizer
) -> None:
    for name, value in module.named_parameters():
        value.copy_(good["weights"][name])
    content = optimizer.state_dict()
    content["state"] = {
        number: {name: _cloned(value) for name, value in entries.items()}
        for number, entries in good["optimizer"].items()
    }
    optimizer.load_state_dict(content)
