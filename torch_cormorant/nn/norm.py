"""Equivariant normalisation and gating."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar, cast

import torch
from torch import Tensor, nn

from torch_cormorant.errors import ConfigError, ShapeError
from torch_cormorant.nn.parts import Part, Registry
from torch_cormorant.ops import composed, fused
from torch_cormorant.ops.autocast import weights_precision
from torch_cormorant.ops.norm import so3_norm
from torch_cormorant.so3.layout import check_degree, degree_index


class Norm(Part):
    """Base class of what networks do to the output of every level, ``norm=``.

    The constructor takes ``channels`` and ``lmax`` of the level from the network,
    ``forward`` maps ``[N, M, P, C]`` to the same and must commute with rotations.
    """

    from_network = ("channels", "lmax")


class SO3Norm(Norm):
    r"""Equivariant RMS norm with epsilon, separately for every node and degree.

    .. math::
        F'^{l,c}_{m} = \gamma_{l,c} \, F^{l,c}_m \Big/
        \sqrt{\epsilon + \frac{1}{C (2l + 1)}
        \sum_{c', m'} |F^{l,c'}_{m'}|^2}

    Smooth everywhere, also at zero, and exactly equivariant: the divisor is invariant.

    Args:
        channels: Channels C.
        lmax: Largest degree.
        eps: :math:`\epsilon`. Default 1e-2: features much smaller than 0.1 pass nearly
            unchanged in shape, which keeps forces smooth where a degree vanishes by
            symmetry.

    Attributes:
        backend: As of a layer; ``"auto"`` (default): one operator where the CPU kernel
            computes.

    Shapes:
        ``[N, M, P, C]`` to the same.

    Raises:
        ShapeError: If the input has another shape.

    Example:
        >>> import torch
        >>> y = SO3Norm(4, lmax=2)(100 * torch.randn(5, 9, 2, 4))
        >>> bool((y.square().sum(2).mean((0, 1, 2)) - 1).abs() < 0.01)
        True
    """

    kind = "norm"
    backend = "auto"
    degrees: Tensor

    def __init__(self, channels: int, lmax: int, *, eps: float = 1e-2) -> None:
        super().__init__()
        if eps <= 0:
            msg = f"eps must be positive, got {eps}"
            raise ConfigError(msg)
        self.channels, self.lmax, self.eps = channels, check_degree(lmax, "lmax"), eps
        self.weight = nn.Parameter(torch.ones(lmax + 1, channels))
        self.register_buffer("degrees", degree_index(lmax), persistent=False)

    def reset_parameters(self) -> None:
        """Set all scales to one."""
        nn.init.ones_(self.weight)

    @weights_precision
    def forward(self, x: Tensor) -> Tensor:
        """Shapes as above."""
        _check(x, self.lmax, self.channels, (1, 2))
        if fused.fits(self.backend, x, self.weight) and x.dtype == self.weight.dtype:
            return so3_norm(x, self.weight, self.eps)
        return composed.norm(x, self.weight, self.eps, self.degrees)

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.channels}, lmax={self.lmax}, eps={self.eps:g}"


NormSpec: TypeAlias = str | Mapping[str, Any] | Norm | type[Norm]
"""A name; a mapping with ``kind`` or ``class`` and options; an instance; a class."""
NORM_PARTS: Registry[Norm] = Registry("norm", Norm, {"norm": SO3Norm})
N = TypeVar("N", bound=Norm)


def register_norm(name: str) -> Callable[[type[N]], type[N]]:
    """Give an own norm a name, as a decorator.

    Args:
        name: What ``norm=`` of networks is then told.

    Raises:
        ConfigError: Another norm has that name.
    """
    add: Any = NORM_PARTS.register(name)
    return cast("Callable[[type[N]], type[N]]", add)


class Gate(nn.Module):
    r"""Scale every degree and channel by a sigmoid of the invariants of the node.

    .. math::
        F'^{l,c} = 2 \sigma\big(
        (A [\mathrm{Re} F^0, \mathrm{Im} F^0])_{l,c} + b_{l,c} \big) F^{l,c}

    With A = b = 0, as it starts, the gate is the identity.

    Args:
        channels: Channels C.
        lmax: Largest degree.
        complex: P = 2 planes (default) or 1.

    Shapes:
        ``[N, M, P, C]`` to the same.

    Raises:
        ShapeError: If the input has another shape.

    Example:
        >>> import torch
        >>> x = torch.randn(5, 9, 2, 4)
        >>> torch.equal(Gate(4, lmax=2)(x), x)
        True
    """

    degrees: Tensor

    def __init__(self, channels: int, lmax: int, *, complex: bool = True) -> None:
        super().__init__()
        self.channels, self.lmax = channels, check_degree(lmax, "lmax")
        self.planes = 2 if complex else 1
        self.linear = nn.Linear(self.planes * channels, (lmax + 1) * channels)
        self.register_buffer("degrees", degree_index(lmax), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start as the identity."""
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    @weights_precision
    def forward(self, x: Tensor) -> Tensor:
        """Shapes as above."""
        _check(x, self.lmax, self.channels, (self.planes,))
        raw: Tensor = self.linear(x[:, 0].flatten(1))
        gates = 2 * torch.sigmoid(raw.view(x.shape[0], self.lmax + 1, self.channels))
        return x * gates[:, self.degrees].unsqueeze(2)

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.channels}, lmax={self.lmax}"


def _check(x: Tensor, lmax: int, channels: int, planes: tuple[int, ...]) -> None:
    fits = x.ndim == 4 and x.shape[1] == (lmax + 1) ** 2 and x.shape[3] == channels
    if not fits or x.shape[2] not in planes:
        counts = " or ".join(map(str, planes))
        msg = (
            f"x must have shape [N, {(lmax + 1) ** 2}, P, {channels}] with P = "
            f"{counts} planes, got {tuple(x.shape)}"
        )
        raise ShapeError(msg)
