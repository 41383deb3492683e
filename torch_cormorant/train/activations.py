"""How large the activations of every level and degree are."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from torch_cormorant.networks import CormorantNetwork
from torch_cormorant.train.base import Regression

__all__ = ["ActivationLog", "level_activations"]

DEAD = 1e-5
"""A degree this much smaller than its level's scalars is dead."""


@torch.no_grad()
def level_activations(model: CormorantNetwork, batch: Any) -> list[list[float]]:
    """Root mean square of the activations of every level and degree.

    Args:
        model: The network.
        batch: Molecules.

    Returns:
        One list per level with one number per degree.

    Example:
        >>> from torch_cormorant.data import MiniQM9
        >>> from torch_geometric.data import Batch
        >>> model = CormorantNetwork(channels=4, num_levels=2, lmax=[2, 0])
        >>> batch = Batch.from_data_list([MiniQM9("gap")[5]])
        >>> [len(level) for level in level_activations(model, batch)]
        [3, 1]
    """
    dtype = next(model.parameters()).dtype
    arguments: dict[str, Any] = {"num_graphs": batch.num_graphs, "return_levels": True}
    _, levels = model(batch.z, batch.pos.to(dtype), batch.batch, **arguments)
    return [
        _of_degrees(level, top) for level, top in zip(levels, model.lmax, strict=True)
    ]


def _of_degrees(level: Tensor, lmax: int) -> list[float]:
    parts = [level[:, l * l : (l + 1) ** 2] for l in range(lmax + 1)]
    return [part.double().square().mean().sqrt().item() for part in parts]


class ActivationLog(Callback):
    """Measures the activations after every epoch, and warns of dead ones.

    The supplement of Anderson et al. 2019 describes trainings whose upper levels fall
    silent. A degree counts as dead when it is 100,000 times smaller than the scalars
    of its level, or a level when it is so much smaller than the first one.

    Attributes:
        rows: One entry per epoch: a list of levels of lists of degrees.
        dead: Descriptions of what was found dead, each once.
    """

    def __init__(self) -> None:
        self.rows: list[list[list[float]]] = []
        self.dead: list[str] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure on the first validation batch."""
        if not isinstance(pl_module, Regression):
            return
        model: Any = pl_module.averaged or pl_module.model
        network = getattr(model, "network", model)
        loaders = trainer.val_dataloaders
        if not isinstance(network, CormorantNetwork) or loaders is None:
            return
        batch = next(iter(loaders)).to(pl_module.device)
        if getattr(batch, "cell", None) is not None:
            return  # the plain forward pass knows no cells
        training = network.training
        row = level_activations(network.eval(), batch)
        network.train(training)
        self.rows.append(row)
        for level, degrees in enumerate(row, 1):
            self._judge(trainer, level, degrees, row[0][0])

    def _judge(
        self, trainer: Trainer, level: int, degrees: list[float], first: float
    ) -> None:
        found = [
            f"level {level}, degree {l}"
            for l, size in enumerate(degrees)
            if l and size < DEAD * degrees[0]
        ]
        if degrees[0] < DEAD * first:
            found = [f"level {level}"]
        for name in found:
            if name not in self.dead:
                self.dead.append(name)
                warnings.warn(
                    f"{name} is dead after epoch {trainer.current_epoch}: its "
                    "activations are nearly zero; try calibrate, a norm or another "
                    "seed",
                    stacklevel=2,
                )

    def state_dict(self) -> dict[str, Any]:
        """The rows for the checkpoint."""
        return {"rows": list(self.rows), "dead": list(self.dead)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The reverse."""
        self.rows, self.dead = list(state_dict["rows"]), list(state_dict["dead"])
