"""The optimiser of captured steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from torch_cormorant.train.base import Regression

__all__ = ["CapturedAdamW"]


class CapturedAdamW(torch.optim.AdamW):
    """AMSGrad whose learning rate is a tensor while it steps, a number outside.

    State and settings are those of :class:`torch.optim.AdamW`, so schedules and
    checkpoints see nothing unusual. With ``program`` set, :meth:`step` runs that, which
    calls :meth:`update` at its end.

    Args:
        module: Whose network is trained; tells rate and weight decay.

    Attributes:
        program: What a step is; None: :meth:`update` alone.
        replaced: Whether the state was loaded since it became False: a captured graph
            still writes to the former tensors then.
    """

    def __init__(self, module: Regression) -> None:
        parameters = list(module.model.parameters())
        device = parameters[0].device
        self.capturable = device.type == "cuda"
        super().__init__(parameters, **module.settings(), capturable=self.capturable)
        self.program: Callable[[], None] | None = None
        self.replaced = False
        # On a CPU it becomes a number again, which must be the same one.
        kind = torch.float32 if self.capturable else torch.float64
        self.rate = torch.zeros((), dtype=kind, device=device)

    def step(self, closure: Any = None) -> Any:
        """Run the program.

        Args:
            closure: Not called: forward and backward are part of the program.
        """
        del closure
        if self.program is None:
            self.fill_rate()
            self.update()
        else:
            self.program()

    def fill_rate(self) -> None:
        """Tell the device the learning rate, without waiting for it."""
        self.rate.fill_(float(self.param_groups[0]["lr"]))

    def update(self) -> None:
        """Move the weights by their gradients."""
        kept = [group["lr"] for group in self.param_groups]
        try:
            for group in self.param_groups:
                group["lr"] = self.rate
            torch.optim.AdamW.step(self)
        finally:
            for group, rate in zip(self.param_groups, kept, strict=True):
                group["lr"] = rate

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state of this or of an ordinary optimiser.

        Args:
            state_dict: The state.
        """
        groups = [
            {**group, "capturable": self.capturable}
            for group in state_dict["param_groups"]
        ]
        super().load_state_dict({**state_dict, "param_groups": groups})
        self.replaced = True
