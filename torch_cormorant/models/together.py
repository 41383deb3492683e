"""Several models of different properties as one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from torch_cormorant.errors import ConfigError
from torch_cormorant.models.info import ModelInfo
from torch_cormorant.models.normalisation import Normalisation
from torch_cormorant.networks import Network

__all__ = ["Together"]


@dataclass(frozen=True)
class _Heads:
    """What the heads of several models give together."""

    shape: tuple[int, ...]
    per_atom: bool = False
    rows: str = "molecule"
    kind: str = "several"


class Together(nn.Module):
    """Models of different properties of molecules, which predict side by side.

    Args:
        models: At least two, each with properties of its own that are single numbers of
            a molecule: :class:`.Predictor` or networks.

    Attributes:
        models: The models.
        head: What they give together, ``shape`` ``[T]``.

    Raises:
        ConfigError: There are fewer, a property is no single number of a molecule, or
            two of them have one name.

    Example:
        >>> from torch_cormorant.data import MiniQM9
        >>> from torch_cormorant.models import ModelInfo, Normalisation, Predictor
        >>> from torch_cormorant.models import Together
        >>> from torch_cormorant.networks import CormorantNetwork
        >>> some = {name: CormorantNetwork(channels=4, num_levels=1) for name in "ab"}
        >>> units = Normalisation((0.0,), (1.0,))
        >>> both = Together(
        ...     Predictor(network, ModelInfo((name,), ("eV",), units))
        ...     for name, network in some.items()
        ... )
        >>> both.info.targets, tuple(both.predict(MiniQM9("gap")[:5]).shape)
        (('a', 'b'), (5, 2))
    """

    def __init__(self, models: Iterable[Any]) -> None:
        super().__init__()
        given = list(models)
        self.models = nn.ModuleList(given)
        names = [name for model in given for name in model.info.targets]
        plain = [
            not model.head.per_atom and tuple(model.head.shape) == (len(own),)
            for model in given
            for own in [model.info.targets]
        ]
        if len(given) < 2 or not all(plain) or len({*names}) < len(names):
            msg = (
                "models: expected two or more with different properties, each a number "
                f"of a molecule, got {len(given)} with {', '.join(names)}"
            )
            raise ConfigError(msg)
        self.head = _Heads((len(names),))

    @property
    def info(self) -> ModelInfo:
        """Names and units of all, and the record of the first."""
        every = [model.info for model in self._calls]
        return ModelInfo(
            targets=tuple(name for one in every for name in one.targets),
            units=tuple(unit for one in every for unit in one.units),
            normalisation=Normalisation.none(self.head.shape[0]),
            training=every[0].training,
        )

    @property
    def network(self) -> Network:
        """The first network."""
        first = self._calls[0]
        network: Network = getattr(first, "network", first)
        return network

    @property
    def _calls(self) -> list[Any]:
        return list(self.models)

    def predict(self, *args: Any, **options: Any) -> Tensor:
        """Predictions ``[n, T]`` in units, the properties in the order of the models.

        Args:
            *args: As :meth:`.Predictor.predict`.
            **options: As :meth:`.Predictor.predict`.
        """
        return torch.cat([one.predict(*args, **options) for one in self._calls], dim=1)
