"""A module around a network, which answers for what it does not have itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from typing_extensions import Self

from torch_cormorant.models.facts import OutputFacts
from torch_cormorant.models.info import ModelInfo
from torch_cormorant.networks.base import NETWORK_PARTS, Network
from torch_cormorant.nn.facts import EXTRA
from torch_cormorant.nn.parts import plain_part

__all__ = ["Holder", "nested"]

T = TypeVar("T")


class Holder(OutputFacts):
    """A network, and what its outputs mean.

    Args:
        network: The network, its class, or what describes it in a model file.
        info: Names, units and normalisation of its outputs. Default: that of the
            network where it has one, else none.

    Attributes:
        network: The network.
    """

    network: Network

    def __init__(
        self,
        network: Network | Mapping[str, Any] | type[Network],
        info: ModelInfo | None = None,
    ) -> None:
        super().__init__()
        self.network = NETWORK_PARTS.make(network, {}, {})
        self.info = info or getattr(self.network, "info", None) or self.info

    @property
    def config(self) -> dict[str, Any]:
        """What makes the same again, as plain values."""
        return {"network": plain_part(self.network)}

    def replace_head(self, head: Any, num_targets: int = 1, **options: Any) -> Self:
        """As that of a network; what outputs mean is forgotten."""
        self.network.replace_head(head, num_targets, **options)
        self._info = None
        return self

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the network says: numbers of order one, without units."""
        return self.network(*args, **kwargs)

    def facts(self) -> dict[str, Any]:
        """Those of the network."""
        return self.network.facts()

    def __getattr__(self, name: str) -> Any:
        """What is not found here is asked of the network: ``cutoff``, ``head``, ..."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            network = self.__dict__.get("_modules", {}).get("network")
            if network is None or name.startswith("__"):
                raise
        return getattr(network, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """What only the network has is set there; what the class names, here."""
        network = self.__dict__.get("_modules", {}).get("network")
        named = (vars(kind).get("__annotations__", {}) for kind in type(self).__mro__)
        own = name in self.__dict__ or hasattr(type(self), name)
        if network is None or own or any(name in names for names in named):
            super().__setattr__(name, value)
        elif hasattr(network, name):
            setattr(network, name, value)
        else:
            super().__setattr__(name, value)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *others: Any
    ) -> None:
        found = nested(state_dict, prefix)
        state_dict.clear()
        state_dict.update(found)
        super()._load_from_state_dict(state_dict, prefix, *others)


def nested(state: Mapping[str, T], prefix: str = "") -> dict[str, T]:
    """Weights by the names that they have in a module around a network.

    Before there was one, weights of potentials had the names that they have in the
    network.

    Args:
        state: Weights by name, of either kind.
        prefix: What the names of the module begin with.

    Example:
        >>> nested({"head.bias": 1}), nested({"network.head.bias": 1})
        ({'network.head.bias': 1}, {'network.head.bias': 1})
    """
    inside = f"{prefix}network."
    if any(name.startswith(inside) for name in state):
        return dict(state)
    return {
        inside + name.removeprefix(prefix)
        if name.startswith(prefix) and name != prefix + EXTRA
        else name: value
        for name, value in state.items()
    }
