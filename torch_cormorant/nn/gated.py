"""Non-linear parts for irreps: gates, norms and the constants of their functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from torch_cormorant.errors import ConfigError
from torch_cormorant.irreps import Irrep, Irreps
from torch_cormorant.nn.irreps_linear import joined
from torch_cormorant.ops.autocast import weights_precision
from torch_cormorant.so3.flat import flat_blocks

__all__ = ["ACTIVATIONS", "GatedBlock", "NormActivation", "second_moment_factor"]

Function = Callable[[Tensor], Tensor]


def _shifted_softplus(x: Tensor) -> Tensor:
    return functional.softplus(x) - math.log(2.0)


ACTIVATIONS: dict[str, Function] = {
    "silu": functional.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "ssp": _shifted_softplus,
}
"""Functions by name; ``"ssp"`` is the softplus minus log 2."""
NORMALIZATIONS = ("exact", "e3nn", "none")
_SAMPLED = {
    "silu": 1.6791767923989418,
    "tanh": 1.5937334472592695,
    "sigmoid": 1.8467055342154763,
}
"""What e3nn finds from a million random numbers: for weights that were trained so."""


def activation_of(name: str) -> Function:
    """A function by its name.

    Raises:
        ConfigError: If there is none of that name.
    """
    if name not in ACTIVATIONS:
        raise ConfigError(f"activation must be one of {[*ACTIVATIONS]}, got {name!r}")
    return ACTIVATIONS[name]


def second_moment_factor(name: str, normalize: str = "exact") -> float:
    r"""The constant c for which :math:`c f(z)` has second moment one, z normal.

    Args:
        name: The function, one of ``ACTIVATIONS``.
        normalize: ``"exact"``: :math:`c = (\int f^2 \varphi)^{-1/2}`; ``"e3nn"``: the
            estimate that e3nn and networks built on it use; ``"none"``: one.

    Returns:
        The constant.

    Raises:
        ConfigError: If a name is unknown, or e3nn's value is not known.

    Example:
        >>> round(second_moment_factor("silu"), 6)
        1.676532
    """
    activation_of(name)
    if normalize not in NORMALIZATIONS:
        msg = f"normalize must be one of {NORMALIZATIONS}, got {normalize!r}"
        raise ConfigError(msg)
    if normalize == "none":
        return 1.0
    if normalize == "exact":
        return _factor(name)
    if name not in _SAMPLED:
        msg = f"e3nn's constant is known for {[*_SAMPLED]}, not for {name!r}"
        raise ConfigError(msg)
    return _SAMPLED[name]


@cache
def _factor(name: str) -> float:
    """The trapezoidal rule, exact to round-off for what falls off like a Gaussian."""
    step, count = 1.0 / 64, 64 * 14
    total = 0.0
    for k in range(-count, count + 1):
        x = k * step
        density = math.exp(-x * x / 2) / math.sqrt(2 * math.pi)
        total += step * density * _VALUES[name](x) ** 2
    return 1 / math.sqrt(total)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


_VALUES: dict[str, Callable[[float], float]] = {
    "silu": lambda x: x * _sigmoid(x),
    "tanh": math.tanh,
    "sigmoid": _sigmoid,
    "ssp": lambda x: math.log1p(math.exp(x)) - math.log(2.0),
}


class GatedBlock(nn.Module):
    r"""Scalars through a function, everything else times a gate of its own.

    .. math::
        F'^0 = c f(F^0), \qquad F'^l[m, c] = F^l[m, c]\; c_g\, g(s^l_c) \quad (l > 0)

    (Weiler et al. 2018). Odd scalars need an odd function and get ``odd``.

    Args:
        out_irreps: Irreps of the result, in any order.
        scalar: Function of scalars, one of ``ACTIVATIONS``. Default ``"silu"``.
        odd: Function of odd scalars. Default ``"tanh"``.
        gate: Function of the gates. Default ``"sigmoid"``.
        normalize: Constants of the functions, as in :func:`second_moment_factor`.
            Default ``"exact"``.

    Attributes:
        in_irreps: What it takes: the scalars, one gate for each copy with ``l > 0``,
            then these, each in the order of the result.

    Shapes:
        ``[N, in_irreps.dim]`` to ``[N, out_irreps.dim]``.

    Raises:
        ConfigError: If a function is unknown.

    Example:
        >>> import torch
        >>> gated = GatedBlock("4x0e + 3x1o")
        >>> gated.in_irreps, gated(torch.randn(5, 16)).shape
        (Irreps('4x0e + 3x0e + 3x1o'), torch.Size([5, 13]))
    """

    def __init__(
        self,
        out_irreps: object,
        *,
        scalar: str = "silu",
        odd: str = "tanh",
        gate: str = "sigmoid",
        normalize: str = "exact",
    ) -> None:
        super().__init__()
        self.out_irreps = Irreps(out_irreps)
        scalars = self.out_irreps.filter(lambda block: block.ir.l == 0)
        self.gated = self.out_irreps.filter(lambda block: block.ir.l > 0)
        one = Irrep(0, 1 if self.out_irreps.has_parity else 0)
        gates = Irreps([(self.gated.num_irreps, one)] if len(self.gated) else [])
        self.in_irreps = scalars + gates + self.gated
        self.names = {"scalar": scalar, "odd": odd, "gate": gate}
        self.normalize = normalize
        self._factors = {
            kind: second_moment_factor(name, normalize)
            for kind, name in self.names.items()
        }

    def _function(self, kind: str, x: Tensor) -> Tensor:
        return self._factors[kind] * ACTIVATIONS[self.names[kind]](x)

    def forward(self, x: Tensor) -> Tensor:
        """Shapes as above."""
        parts = iter(flat_blocks(x, self.in_irreps))
        scalars = [
            self._function("odd" if block.ir.p < 0 else "scalar", next(parts))
            for block in self.out_irreps
            if block.ir.l == 0
        ]
        vectors: list[Tensor] = []
        if len(self.gated):
            gates = self._function("gate", next(parts))
            split = gates.split([block.mul for block in self.gated], dim=2)
            vectors = [next(parts) * gate for gate in split]
        made = {True: iter(scalars), False: iter(vectors)}
        ordered = [next(made[block.ir.l == 0]) for block in self.out_irreps]
        return joined(ordered, self.out_irreps, x)

    def extra_repr(self) -> str:
        """The arguments."""
        names = ", ".join(f"{kind}={name!r}" for kind, name in self.names.items())
        return f"{self.out_irreps}, {names}, normalize={self.normalize!r}"


class NormActivation(nn.Module):
    r"""A function of the norm of every copy, scalars included.

    .. math:: F' = F\, f(|F| + b) / |F|, \qquad |F|^2 \ge \epsilon^2

    the non-linearity of tensor field networks (Thomas et al. 2018).

    Args:
        irreps: Irreps of the features.
        activation: One of ``ACTIVATIONS``. Default ``"silu"``.
        bias: Learn a bias for every copy. Default True.
        eps: Smallest norm. Default 1e-8.

    Shapes:
        ``[N, dim]`` to ``[N, dim]``.

    Example:
        >>> import torch
        >>> NormActivation("4x0e + 3x1o")(torch.randn(5, 13)).shape
        torch.Size([5, 13])
    """

    def __init__(
        self,
        irreps: object,
        activation: str = "silu",
        *,
        bias: bool = True,
        eps: float = 1e-8,
    ) -> None:
        super().__init__()
        self.irreps, self.eps, self.activation = Irreps(irreps), eps, activation
        self._function = activation_of(activation)
        count = self.irreps.num_irreps
        self.bias = nn.Parameter(torch.zeros(count)) if bias else None

    def reset_parameters(self) -> None:
        """Set all biases to zero."""
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @weights_precision
    def forward(self, x: Tensor) -> Tensor:
        """Shapes as above."""
        parts: list[Tensor | None] = []
        muls = [block.mul for block in self.irreps]
        biases = [None] * len(muls) if self.bias is None else self.bias.split(muls)
        for block, bias in zip(flat_blocks(x, self.irreps), biases, strict=True):
            squared = block.square().sum(1, keepdim=True)
            norm = squared.clamp_min(self.eps**2).sqrt()
            moved = norm if bias is None else norm + bias
            parts.append(block * (self._function(moved) / norm))
        return joined(parts, self.irreps, x)

    def extra_repr(self) -> str:
        """The arguments."""
        return f"{self.irreps}, {self.activation!r}, bias={self.bias is not None}"
