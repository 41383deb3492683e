r"""What the SE(3)-Transformers for molecules and for moving bodies share."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from torch_cormorant.conv import SE3KernelConv, SE3TransformerConv
from torch_cormorant.irreps import Irreps
from torch_cormorant.nn.gated import NormActivation
from torch_cormorant.nn.norm_network import SMALL, NormNetwork
from torch_cormorant.ops import EdgeGeometry

__all__ = ["SE3Trunk", "degrees"]


def degrees(channels: int, count: int) -> Irreps:
    """Degrees 0, 1, ..., the same channels for each.

    Example:
        >>> degrees(4, 2)
        Irreps('4x0 + 4x1')
    """
    return Irreps([(channels, (l, 0)) for l in range(count)])


class SE3Trunk(nn.Module):
    """Layers with a non-linearity behind each, and a last layer.

    Args:
        irreps: Of the input, of the result of every layer, of the result.
        last: The last layer.
        norm: ``"network"`` or ``"bias"``, the non-linearity.
        attention: Layers are :class:`SE3TransformerConv`, else
            :class:`SE3KernelConv`.
        linear: Norm networks have a linear layer.
        eps: Of the norms.
        common: Arguments of all layers.
        **options: Arguments of the attention.
    """

    def __init__(
        self,
        irreps: Sequence[Irreps],
        last: nn.Module,
        *,
        norm: str,
        attention: bool,
        linear: bool,
        eps: float,
        common: dict[str, Any],
        **options: Any,
    ) -> None:
        super().__init__()
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        for first, out in pairwise(irreps):
            if attention:
                conv: nn.Module = SE3TransformerConv(first, out, **common, **options)
            else:
                conv = SE3KernelConv(first, out, **common)
            self.convs.append(conv)
            self.norms.append(
                NormNetwork(out, linear=linear, eps=eps)
                if norm == "network"
                else NormActivation(out, "relu", eps=eps or SMALL)
            )
        self.last = last

    def forward(
        self, x: Tensor, geometry: EdgeGeometry, edge_attr: Tensor | None = None
    ) -> Tensor:
        """Rows of the first irreps to rows of the last layer's."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(x, geometry, edge_attr=edge_attr))
        out: Tensor = self.last(x, geometry, edge_attr=edge_attr)
        return out
