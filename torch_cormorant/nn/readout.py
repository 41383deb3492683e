r"""From SO3-vectors to invariants."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from torch_cormorant.errors import ShapeError
from torch_cormorant.nn.activations import activation
from torch_cormorant.ops import composed, fused
from torch_cormorant.ops.autocast import weights_precision
from torch_cormorant.ops.invariants import level_invariants
from torch_cormorant.so3.layout import check_degree


def scalars(levels: Sequence[Tensor], backend: str = "auto") -> Tensor:
    r"""All invariants of a list of levels, as one real vector for each atom.

    Section 1.5 of the paper's supplement as the published code computes it: the complex
    l = 0 channels of all levels, then for l = 0, 1, ... and every channel
    :math:`\mathrm{Re} \sum_m F_m F_m` and :math:`\sum_m |F_m|^2`.

    Args:
        levels: Tensors ``[N, M_s, P, C_s]``.
        backend: As of a layer; ``"auto"`` (default): one operator where the CPU kernel
            computes.

    Returns:
        ``[N, 2 (sum of l = 0 channels + sum of all channels)]`` for P = 2. For P = 1
        the l = 0 channels and the squared norms.
    """
    if fused.fits(backend, *levels):
        return level_invariants(levels)
    return composed.invariants(levels)


def num_scalars(channels: Sequence[int], lmax: Sequence[int], planes: int) -> int:
    """Length of the vector that :func:`scalars` returns."""
    zero = sum(channels)
    every = sum(c * (l + 1) for c, l in zip(channels, lmax, strict=True))
    return planes * (zero + every)


class Invariants(nn.Module):
    r"""Rotation-invariant scalars of an SO3-vector, for any ordinary PyG layer.

    The l = 0 components, and for every degree and channel the bilinear
    :math:`\mathrm{Re} \sum_m F_m F_m` and the norm :math:`\sum_m |F_m|^2`
    (section 1.5 of the supplement of Anderson et al. 2019).

    Args:
        channels: Channels C.
        lmax: Largest degree.
        complex: P = 2 planes (default) or 1.

    Shapes:
        ``[N, M, P, C]`` to ``[N, out_channels]``, ``out_channels = 2 C (lmax + 2)`` for
        P = 2 and ``C (lmax + 2)`` for P = 1.

    Raises:
        ShapeError: If the input has another shape.

    Example:
        >>> import torch
        >>> invariants = Invariants(channels=4, lmax=2)
        >>> invariants.out_channels, tuple(invariants(torch.randn(5, 9, 2, 4)).shape)
        (32, (5, 32))
    """

    def __init__(self, channels: int, lmax: int, *, complex: bool = True) -> None:
        super().__init__()
        self.channels, self.lmax = channels, check_degree(lmax, "lmax")
        self.planes = 2 if complex else 1
        self.out_channels = num_scalars([channels], [lmax], self.planes)

    @weights_precision
    def forward(self, x: Tensor) -> Tensor:
        """Shapes as above."""
        expected = ((self.lmax + 1) ** 2, self.planes, self.channels)
        if x.ndim != 4 or tuple(x.shape[1:]) != expected:
            sizes = ", ".join(map(str, expected))
            msg = f"x must have shape [N, {sizes}], got {tuple(x.shape)}"
            raise ShapeError(msg)
        return scalars([x])

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.channels}, lmax={self.lmax}, out_channels={self.out_channels}"


def two_layers(inputs: int, hidden: int, outputs: int, act: str) -> nn.Sequential:
    """Linear, activation, linear."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), activation(act), nn.Linear(hidden, outputs)
    )
