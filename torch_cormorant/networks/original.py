"""Weights of other packages: what all readers and writers share."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from typing_extensions import Self

from torch_cormorant.errors import ConfigError, WeightsError, nearest
from torch_cormorant.networks.base import Network
from torch_cormorant.networks.weight_files import Weights, unpacked
from torch_cormorant.nn.activations import activation
from torch_cormorant.nn.heads import AtomwiseHead

__all__ = [
    "Original",
    "OriginalWeights",
    "ReadsOriginal",
    "WithOriginal",
    "check_head",
    "check_settings",
]


class Original(ABC):
    """How a package keeps the weights of a network.

    Attributes:
        package: Its name, for messages.
        settings: Names of the settings that are understood.
        anchor: Name of a weight that every such network has and no other.
        ignored: Pattern of names that hold no weights.
    """

    package: str
    settings: tuple[str, ...]
    anchor: str
    ignored: str = r"$"

    def prefixes(self, weights: Iterable[str]) -> list[str]:
        """What stands before the names of each network that is there."""
        ends = [name for name in weights if f".{name}".endswith(f".{self.anchor}")]
        return [name.removesuffix(self.anchor) for name in ends]

    def open(
        self, weights: Mapping[str, Any], config: Mapping[str, Any]
    ) -> OriginalWeights:
        """The tensors of one network, for :meth:`arguments` and :meth:`fold`.

        Trainers put a prefix before the names, and other things beside them.

        Raises:
            WeightsError: There are none, or several.
        """
        found = self.prefixes(weights)
        if len(found) != 1:
            some = ", ".join(sorted(weights)[:3]) or "none"
            text = (
                f"there are several, behind {sorted(found)}; keep those of one"
                if found
                else f"there is no {self.anchor!r}, the names are {some}, ...; "
                "network_from_original knows the networks of all packages"
            )
            msg = f"weights of one network of {self.package} are needed: {text}"
            raise WeightsError(msg)
        (prefix,) = found
        own = {
            name.removeprefix(prefix): value
            for name, value in weights.items()
            if name.startswith(prefix)
        }
        del config
        return OriginalWeights(own, self.package, self.ignored)

    def refusal(self, what: str) -> ConfigError:
        """The error for something that has no counterpart there."""
        return ConfigError(
            f"{self.package} has no counterpart of {what}; save_model keeps the network"
        )

    @abstractmethod
    def arguments(
        self, weights: OriginalWeights, config: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Arguments of our constructor.

        Raises:
            ConfigError, WeightsError: Something has no counterpart; it is named.
        """

    @abstractmethod
    def fold(
        self, weights: OriginalWeights, network: Any, config: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Our weights out of theirs, differentiable, for a network made for them."""

    @abstractmethod
    def unfold(self, network: Any) -> dict[str, Tensor]:
        """Their weights out of ours: the inverse of :meth:`fold`."""


class OriginalWeights:
    """Tensors of a ``state_dict``, crossed off as they are read.

    Args:
        weights: Tensors or arrays by name.
        package: Where they come from, for messages.
        ignored: Pattern of names that hold no weights.
    """

    def __init__(
        self, weights: Mapping[str, Any], package: str, ignored: str = r"$"
    ) -> None:
        self.package = package
        self.known = {
            name: value if isinstance(value, Tensor) else torch.as_tensor(value)
            for name, value in weights.items()
            if not re.fullmatch(ignored, name)
        }
        self.left = set(self.known)

    def __contains__(self, name: object) -> bool:
        return name in self.known

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor; it is not crossed off."""
        return tuple(self._find(name).shape)

    def count(self, pattern: str, step: int = 1) -> int:
        """How many names with ``{}`` replaced by 0, step, 2 step, ... are in a row."""
        found = 0
        while pattern.format(found * step) in self.known:
            found += 1
        return found

    def take(self, name: str, *shape: int) -> Tensor:
        """A tensor, crossed off.

        Args:
            name: Its name.
            *shape: The shape it must have; none: any.

        Raises:
            WeightsError: It is missing or has another shape.
        """
        value = self._find(name)
        if shape and tuple(value.shape) != shape:
            msg = (
                f"weight {name!r} of {self.package} has shape {list(value.shape)}, the "
                f"network needs {list(shape)}; the configuration may be another one"
            )
            raise WeightsError(msg)
        self.left.discard(name)
        return value

    def _find(self, name: str) -> Tensor:
        if name not in self.known:
            msg = (
                f"weight {name!r} of {self.package} is missing; the configuration may "
                "be another one"
            )
            raise WeightsError(msg)
        return self.known[name]

    def finish(self) -> None:
        """Refuse names that nobody took.

        Raises:
            WeightsError: Names the first of them.
        """
        if self.left:
            msg = (
                f"{min(self.left)!r} of {self.package} has no place in this network "
                f"({len(self.left)} such names): it belongs to an option that is not "
                "read here"
            )
            raise WeightsError(msg)


def _check_shapes(
    network: nn.Module, state: Mapping[str, Tensor], package: str
) -> None:
    """Refuse weights of other shapes than the network has."""
    for name, own in network.state_dict().items():
        if name in state and state[name].shape != own.shape:
            msg = (
                f"the weights of {package} make {name} of shape "
                f"{list(state[name].shape)}, the network needs {list(own.shape)}; the "
                "configuration may be another one"
            )
            raise WeightsError(msg)


def check_settings(
    config: Mapping[str, Any], known: Iterable[str], package: str
) -> None:
    """Refuse settings that are not understood: they would change the numbers.

    Raises:
        ConfigError: Names the first of them.
    """
    known = list(known)
    for name in config:
        if name not in known:
            msg = (
                f"the setting {name!r} of {package} has no counterpart here"
                f"{nearest(name, known)}; leave it out if it changes no number"
            )
            raise ConfigError(msg)


def check_head(
    network: Network, package: str, *, act: str = "silu", **wanted: bool
) -> None:
    """Refuse heads that another package cannot have made.

    Args:
        network: Its head is looked at.
        package: Name of the package.
        act: Activation that the head must have.
        **wanted: Which of the parts ``scale``, ``shift``, ``constant``, ``bias`` and
            ``layers`` it must have (True) or not (False); layers it must have.

    Raises:
        ConfigError: Names what has no counterpart.
    """
    head, text = network.head, f"{package} has no counterpart of"
    one = network.num_targets == 1 or not wanted.get("layers", True)
    if not isinstance(head, AtomwiseHead) or not one:
        msg = f"{text} the head {head.kind!r} with {network.num_targets} targets"
        raise ConfigError(msg)
    mlp = head.mlp
    acts = {type(layer) for layer in mlp or () if not isinstance(layer, nn.Linear)}
    if acts - {type(activation(act))}:
        raise ConfigError(f"{text} a head with {head.made_with['act']!r}, only {act!r}")
    held = {name: getattr(head, name) is not None for name in ("scale", "shift")}
    held["constant"] = head.constant is not None
    held["layers"] = mlp is not None
    held["bias"] = mlp is not None and mlp.linears[0].bias is not None
    for name, value in {"layers": True, **wanted}.items():
        if held[name] != value:
            state = "with" if held[name] else "without"
            raise ConfigError(f"{text} a head {state} {name}")


class ReadsOriginal(nn.Module):
    """A module whose weights another package can write and read."""

    original: ClassVar[Original]

    @classmethod
    def from_original(
        cls,
        weights: Weights,
        config: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Self:
        """The network of a ``state_dict`` of the original package.

        Args:
            weights: Tensors or arrays by their original names, a checkpoint that holds
                them, or a file of either (nothing in it is executed).
            config: What the ``state_dict`` does not hold, by the names of the original
                package; see the page on networks of the family.
            **options: Arguments of our constructor that the original has not, such as
                ``species``.

        Returns:
            The network in the type of most weights, in evaluation mode.

        Raises:
            WeightsError: A weight is missing, too many, or of another shape.
            ConfigError: A setting has no counterpart, or one is missing.
        """
        found, told = unpacked(weights)
        settings = {**told, **(config or {})}
        network, state = cls.read_original(found, settings, **options)
        network.load_state_dict(state)
        return network.eval()

    @classmethod
    def read_original(
        cls, weights: Mapping[str, Any], config: Mapping[str, Any], **options: Any
    ) -> tuple[Self, dict[str, Tensor]]:
        """A new network and what :meth:`from_original` loads into it.

        The second depends on the given weights in a differentiable way.
        """
        original = cls.original
        check_settings(config, original.settings, original.package)
        given = original.open(weights, config)
        network = cls(**{**original.arguments(given, config), **options})
        state = original.fold(given, network, config)
        given.finish()
        _check_shapes(network, state, original.package)
        # nequip keeps some numbers in double precision whatever the network is in
        wide = [(v.numel(), v.dtype == torch.float64) for v in state.values()]
        double = 2 * sum(n for n, q in wide if q) > sum(n for n, _ in wide)
        return network.to(torch.float64 if double else torch.float32), state

    @torch.no_grad()
    def to_original(self) -> dict[str, Tensor]:
        """The weights by the names and in the shapes of the original package."""
        made = self.original.unfold(self)
        return {name: value.detach().clone() for name, value in made.items()}


class WithOriginal(ReadsOriginal, Network):
    """A network whose weights another package can write and read."""
