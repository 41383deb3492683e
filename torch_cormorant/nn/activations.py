r"""Activations by name, and the numbers that keep their second moment at one."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional

from torch_cormorant.errors import ConfigError
from torch_cormorant.ops.autocast import weights_precision

__all__ = ["ACTIVATIONS", "ShiftedSoftplus", "activation", "moment_factor"]


class ShiftedSoftplus(nn.Module):
    r""":math:`\log(1 + e^x) - \log 2`, the activation of SchNet; zero at zero."""

    @weights_precision
    def forward(self, x: Tensor) -> Tensor:
        """``[...]`` to ``[...]``."""
        return functional.softplus(x) - math.log(2)


ACTIVATIONS = ("leaky_relu", "relu", "silu", "sigmoid", "ssp", "tanh")
"""Names of all activations."""


def activation(name: str) -> nn.Module:
    """An activation by name; ``"leaky_relu"`` has the published slope 0.01.

    Raises:
        ConfigError: There is none of that name.
    """
    made = {
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
