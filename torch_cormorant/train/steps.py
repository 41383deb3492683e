"""How a training takes its steps, where that is not Lightning's own loop."""

from __future__ import annotations

from functools import singledispatch
from typing import Any, Protocol

from torch import Tensor
from torch.optim import Optimizer

from torch_cormorant.errors import ConfigError

__all__ = ["Steps", "steps_for"]


class Steps(Protocol):
    """Takes the steps of one training module, whose batches stay on the CPU."""

    def optimizer(self, total_steps: int) -> Optimizer:
        """Make the optimiser at the start of a training.

        Args:
            total_steps: Length of the run; 0 where no schedule asks for it.
        """

    def step(self, batch: Any) -> Tensor:
        """Take one step and return its loss, without a gradient.

        Args:
            batch: Molecules with their labels.
        """

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what a resumed run needs."""

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The reverse, before the optimiser is made."""


@singledispatch
def steps_for(plan: object, module: Any, clip: float) -> Steps:
    """Steps as a plan wants them; who makes such steps registers the type of the plan.

    Args:
        plan: Such as :class:`~torch_cormorant.train.PaddedSizes`.
        module: The training.
        clip: Largest norm of the gradient; 0: no limit.

    Raises:
        ConfigError: Nobody takes steps by such a plan.
    """
    del module, clip
    raise ConfigError(
        f"capture: {type(plan).__name__}, expected sizes of batches; "
        "PaddedSizes.of(module.model, data, batch_size) makes them"
    )
