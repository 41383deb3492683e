"""What a trained network knows about its outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor
from typing_extensions import Self

from torch_cormorant.models.normalisation import Normalisation
from torch_cormorant.version import __version__

__all__ = ["ModelInfo", "Predicting"]


@dataclass(frozen=True)
class ModelInfo:
    """Names, units and normalisation of the outputs, and where the weights come from.

    Args:
        targets: Name of each output.
        units: Unit of each output; lengths are in Angstrom, always. Empty: not stated.
        normalisation: From the network's output to these units.
        training: Record of the training: data, split, settings, errors; plain values.
        version: Version of the package that wrote the weights.
        digest: SHA-256 of the model file, with the digest itself as zeros; empty for a
            network that was not read from one.
    """

    targets: tuple[str, ...]
    units: tuple[str, ...]
    normalisation: Normalisation
    training: Mapping[str, Any] = field(default_factory=dict)
    version: str = __version__
    digest: str = ""

    @classmethod
    def untrained(cls, num_targets: int = 1) -> Self:
        """That of a new network: no units, outputs as they are.

        Args:
            num_targets: Outputs per molecule.

        Example:
            >>> ModelInfo.untrained(2).targets
            ('target_1', 'target_2')
        """
        names = tuple(f"target_{k + 1}" for k in range(num_targets))
        units = ("",) * num_targets
        return cls(names, units, Normalisation.none(num_targets))


class Predicting:
    """Predictions in the units of :attr:`info`, for a network to inherit."""

    num_targets: int
    _info: ModelInfo | None = None

    @property
    def info(self) -> ModelInfo:
        """What the network knows about its outputs; at first nothing."""
        return self._info or ModelInfo.untrained(self.num_targets)

    @info.setter
    def info(self, value: ModelInfo) -> None:
        self._info = value

    def predict(
        self,
        z: Tensor,
        pos: Tensor,
        batch: Tensor | None = None,
        *,
        num_graphs: int | None = None,
    ) -> Tensor:
        """Predict in the units of ``info.units``, without gradients.

        Calling the network itself gives numbers of order one, which training compares
        with normalised labels; this undoes the normalisation.

        Args:
            z: Atomic numbers ``[N]``.
            pos: Positions ``[N, 3]`` in Angstrom.
            batch: Molecule of each atom ``[N]``; None: one molecule.
            num_graphs: Number of molecules. Default: the largest of ``batch`` plus 1.

        Returns:
            ``[num_graphs, *head.shape]`` in float64, or ``[N, *head.shape]`` per atom.
        """
        call = cast("Callable[..., Tensor]", self)
        with torch.no_grad():
            output = call(z, pos, batch, num_graphs=num_graphs)
        per_atom = bool(getattr(getattr(self, "head", None), "per_atom", False))
        return self.info.normalisation.restore(output, z, batch, per_atom=per_atom)
