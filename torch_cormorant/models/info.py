"""What a trained network knows about its outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from typing_extensions import Self

from torch_cormorant.models.normalisation import Normalisation
from torch_cormorant.version import __version__

__all__ = ["ModelInfo"]


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
