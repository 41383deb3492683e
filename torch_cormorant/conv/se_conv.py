r"""Steerable convolutions without an update network: linear or non-linear messages."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from torch_cormorant.conv.inputs import NodeInput
from torch_cormorant.conv.steerable_conv import SteerableConv
from torch_cormorant.nn.steerable_linear import (
    SteerableGate,
    SteerableLinear,
    steerable_gate,
)
from torch_cormorant.ops.autocast import full_precision

__all__ = ["SEConv"]


class SEConv(SteerableConv):
    r"""Steerable messages, a sum, a gate.

    The simpler layers that Brandstetter et al. 2022
    (`SEGNN <https://arxiv.org/abs/2110.02905>`_, table 1) compare with:

    .. math::
        h_i' = h_i + \mathrm{Gate}\Big( \sum_j u(r_{ij}) \, W_{a_{ij}} \phi_{a_{ij}}
        \big( h_i, h_j, r_{ij}^2, e_{ij} \big) \Big)

    with a gated product :math:`\phi` or without one, which makes messages linear in the
    features.

    Args:
        irreps: What the features are made of.
        nonlinear: Whether there is :math:`\phi`. Default True.
        lmax_attr: Largest degree of the attributes. Default: that of ``irreps``.
        edge_dim: Scalars e of an edge that are given. Default 0.
        squared: Messages read the squared length. Default True.
        cutoff: Of the envelope, in Angstrom. Default 5.
        envelope: u, as in :class:`SEGNNConv`. Default ``"polynomial"``.
        normalisation: Of the attributes, ``"component"`` (default) or ``"integral"``.
        constants: Of the gates, as in
            :func:`~torch_cormorant.nn.moment_factor`. Default ``"exact"``.
        **kwargs: Passed to :class:`torch_geometric.nn.MessagePassing`.

    Shapes:
        As :class:`SEGNNConv`, without ``node_attr``.

    Raises:
        ConfigError: An argument is out of range.
        ShapeError, DtypeError, DeviceError, EdgeIndexError, NonFiniteError,
        CoincidentAtomsError: If an input does not fit.

    Example:
        >>> import torch
        >>> from torch_cormorant import radius_graph
        >>> from torch_cormorant.conv import SEConv
        >>> pos = torch.tensor([[0.0, 0, 0], [0, 0, 1.1], [0, 1.0, -0.4]])
        >>> conv = SEConv("8x0e + 4x1o", nonlinear=False, cutoff=3.0)
        >>> out = conv(torch.randn(3, 20), radius_graph(pos, cutoff=3.0), pos=pos)
        >>> tuple(out.shape)
        (3, 20)
    """

    def __init__(
        self,
        irreps: object,
        *,
        nonlinear: bool = True,
        lmax_attr: int | None = None,
        edge_dim: int = 0,
        squared: bool = True,
        cutoff: float | None = 5.0,
        envelope: str | None = "polynomial",
        normalisation: str = "component",
        constants: str = "exact",
        **kwargs: Any,
    ) -> None:
        super().__init__(irreps, locals(), **kwargs)
        h, attr = self.irreps, self.irreps_attr
        self.gate = steerable_gate(h, constants)
        self.message_1, inner = None, self.irreps_message
        if nonlinear:
            self.message_1 = SteerableGate(inner, attr, h, constants=constants)
            inner = h
        self.message_2 = SteerableLinear(inner, attr, self.gate.irreps_in)

    def reset_parameters(self) -> None:
        """Start all weights again."""
        super().reset_parameters()
        for part in (self.message_1, self.message_2):
            if part is not None:
                part.reset_parameters()

    @full_precision
    def forward(
        self,
        x: NodeInput,
        edge_index: Any,
        edge_vec: Tensor | None = None,
        *,
        pos: NodeInput | None = None,
        edge_attr: Tensor | None = None,
    ) -> Tensor:
        """Update the nodes; arguments and shapes as in the class description."""
        rows = (self.irreps, self.irreps)
        source, target, geometry = self.inputs(x, rows, edge_index, edge_vec, pos)
        attr = self.attributes(geometry)
        scalars = self.edge_scalars(geometry, edge_attr)
        sums = self.summed((source, target), geometry, attr, scalars)
        result: Tensor = target + self.gate(sums)
        return result

    def messages(self, rows: Tensor, attr: Tensor) -> Tensor:
        """A gated product, if there is one, and a product."""
        if self.message_1 is not None:
            rows = self.message_1(rows, attr)
        result: Tensor = self.message_2(rows, attr)
        return result
