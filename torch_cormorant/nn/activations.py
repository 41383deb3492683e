r"""Activations by name, and the numbers that keep their second moment at one."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional

from torch_cormorant.errors import ConfigError
from torch_cormorant.ops.autocast import weights_precision

__all__ = [
    "ACTIVATIONS",
    "ShiftedSoftplus",
    "Softplus",
    "activation",
    "moment_factor",
]


class ShiftedSoftplus(nn.Module):
    r""":math:`\log(1 + e^x) - \log 2`, the activation of SchNet; zero at zero."""

    @weights_precision
    def forward(self, x: Tensor) -> Tensor:
        """``[...]`` to ``[...]``."""
        return functional.softplus(x) - math.log(2)


class Softplus(nn.Module):
    r"""A softplus as sharp as wanted, :math:`c \log(1 + e^{\beta x}) / \beta`.

    Linear where :math:`\beta x > 20`, as PyTorch's.

    Args:
        beta: :math:`\beta`. Default 1.
        factor: c. Default: what keeps the second moment of a standard normal input.
        shifted: Subtract :math:`c \log(2) / \beta`: zero at zero. Default False.

    Example:
        >>> import torch
        >>> Softplus(5.0, factor=1.0, shifted=True)(torch.tensor([0.0, 9.0]))
        tensor([0.0000, 8.8614])
    """

    def __init__(
        self, beta: float = 1.0, *, factor: float | None = None, shifted: bool = False
    ) -> None:
        super().__init__()
        if not beta > 0:
            raise ConfigError(f"beta must be positive, got {beta}")
        self.beta, self.shift = beta, math.log(2) / beta if shifted else 0.0
        self.factor = _moment(self._number) if factor is None else factor

    def _number(self, x: float) -> float:
        """The function without its factor, of a number."""
        bend = math.log1p(math.exp(-abs(self.beta * x))) / self.beta
        return max(x, 0.0) + bend - self.shift

    @weights_precision
    def forward(self, x: Tensor) -> Tensor:
        """``[...]`` to ``[...]``."""
        return self.factor * (functional.softplus(x, self.beta) - self.shift)

    def extra_repr(self) -> str:
        """Its numbers."""
        return f"{self.beta:g}, factor={self.factor:.6g}, shifted={self.shift > 0}"


def _moment(function: Callable[[float], float]) -> float:
    r""":math:`1 / \sqrt{E f(z)^2}` by equal steps: exact for smooth functions."""
    steps = 256
    normal = [math.exp(-0.5 * (k / steps) ** 2) for k in range(-13 * steps, 13 * steps)]
    points = zip(range(-13 * steps, 13 * steps), normal, strict=True)
    total = math.fsum(function(k / steps) ** 2 * p for k, p in points)
    return 1 / math.sqrt(total / math.fsum(normal))


ACTIVATIONS = ("identity", "leaky_relu", "relu", "silu", "sigmoid", "ssp", "tanh")
"""Names of all activations."""


def activation(name: str | nn.Module) -> nn.Module:
    """An activation by name; ``"leaky_relu"`` has the published slope 0.01.

    A module is taken as it is.

    Raises:
        ConfigError: There is none of that name.
    """
    if isinstance(name, nn.Module):
        return name
    made = {
        "identity": nn.Identity(),
        "leaky_relu": nn.LeakyReLU(0.01),
        "relu": nn.ReLU(),
        "silu": nn.SiLU(),
        "sigmoid": nn.Sigmoid(),
        "ssp": ShiftedSoftplus(),
        "tanh": nn.Tanh(),
    }
    if name not in made:
        msg = f"activation must be one of {ACTIVATIONS}, got {name!r}"
        raise ConfigError(msg)
    return made[name]


MOMENTS = {
    "exact": {
        "silu": 1.676532470331091,
        "tanh": 1.5925374197228312,
        "sigmoid": 1.8462285453386054,
        "relu": 1.4142135623730951,
        "ssp": 1.875596256135045,
    },
    "e3nn": {
        "silu": 1.6791767923989418,
        "tanh": 1.5937334472592695,
        "sigmoid": 1.8467055342154763,
        "relu": 1.4163393446331365,
        "ssp": 1.878204668541552,
    },
}


def moment_factor(name: str, constants: str = "exact") -> float:
    r""":math:`1 / \sqrt{E f(z)^2}` of an activation, z standard normal.

    Args:
        name: ``"silu"``, ``"tanh"``, ``"sigmoid"``, ``"relu"`` or ``"ssp"``.
        constants: ``"exact"`` integrals (default), or ``"e3nn"``: that library's
            estimates from a million random numbers, 1.6e-3 off, for weights that were
            trained with them.

    Raises:
        ConfigError: The factor is not known.

    Example:
        >>> round(moment_factor("silu"), 4), round(moment_factor("silu", "e3nn"), 4)
        (1.6765, 1.6792)
    """
    table = MOMENTS.get(constants, {})
    if name not in table:
        msg = (
            f"constants must be one of {tuple(MOMENTS)} and the activation one of "
            f"{tuple(MOMENTS['exact'])}, got {constants!r} and {name!r}"
        )
        raise ConfigError(msg)
    return table[name]
