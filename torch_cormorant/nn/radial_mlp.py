"""The network that makes the weights of messages from radial functions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from torch_cormorant.nn.gated import activation_of
from torch_cormorant.ops.autocast import weights_precision

__all__ = ["RadialMLP"]


class RadialMLP(nn.Module):
    r"""Radial functions to weights, without biases: what vanishes stays zero.

    .. math:: h_0 = b(r), \quad h_{k+1} = f(h_k W_k), \quad w = h_K W_K

    The last layer is linear, so that sums over neighbours can take it inside
    (``weighted_neighbour_sum``) or behind (``kernel_neighbour_sum``): see
    :meth:`split`.

    Args:
        in_features: Number of radial functions.
        hidden: Widths of the hidden layers; none makes the map linear.
        out_features: Number of weights.
        activation: One of ``ACTIVATIONS``, with f(0) = 0 if weights are to vanish at
            the cutoff. Default ``"silu"``.

    Shapes:
        ``[E, in_features]`` to ``[E, out_features]``.

    Example:
        >>> import torch
        >>> mlp = RadialMLP(8, [16], 24)
        >>> hidden, last = mlp.split(torch.randn(5, 8))
        >>> tuple(hidden.shape), tuple(last.shape), mlp(torch.randn(5, 8)).shape
        ((5, 16), (16, 24), torch.Size([5, 24]))
    """

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int],
        out_features: int,
        activation: str = "silu",
    ) -> None:
        super().__init__()
        self.activation = activation
        self._function = activation_of(activation)
        sizes = [in_features, *hidden, out_features]
        self.weights = nn.ParameterList(torch.empty(a, b) for a, b in pairwise(sizes))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start the weights so that the variance of the input is roughly kept."""
        for k, weight in enumerate(self.weights):
            gain = 2.0 if k else 1.0
            nn.init.normal_(weight, std=(gain / weight.shape[0]) ** 0.5)

    @weights_precision
    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The last hidden layer ``[E, H]`` and the matrix behind it ``[H, out]``."""
        *inner, last = self.weights
        for weight in inner:
            x = self._function(x @ weight)
        return x, last

    @weights_precision
    def forward(self, x: Tensor) -> Tensor:
        """All weights; shapes as above."""
        hidden, last = self.split(x)
        return hidden @ last

    def extra_repr(self) -> str:
        """Widths and activation."""
        sizes = [*(weight.shape[0] for weight in self.weights)]
        sizes.append(self.weights[-1].shape[1])
        return f"{' -> '.join(map(str, sizes))}, {self.activation!r}"
