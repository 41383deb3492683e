r"""The layer of SEGNN: non-linear steerable messages."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torch_cormorant.conv.inputs import NodeInput, check_same
from torch_cormorant.conv.steerable_conv import SteerableConv, node_attributes
from torch_cormorant.errors import ShapeError
from torch_cormorant.nn.steerable_linear import SteerableGate, SteerableLinear
from torch_cormorant.ops.autocast import full_precision

__all__ = ["SEGNNConv"]


class SEGNNConv(SteerableConv):
    r"""Message and update of `SEGNN <https://arxiv.org/abs/2110.02905>`_.

    Eqs. (7) and (8) of Brandstetter et al. 2022, with steerable MLPs: every layer is a
    product with the attribute, harmonics of the edge or their mean at the node, and a
    gate:

    .. math::
        m_{ij} &= \phi_{a_{ij}}\big( h_i, h_j, r_{ij}^2, e_{ij} \big) \\
        h_i' &= h_i + \psi_{a_i}\big( h_i, \textstyle\sum_j u(r_{ij}) \, m_{ij} \big)

    Args:
        irreps: What the features are made of.
        lmax_attr: Largest degree of the attributes. Default: that of ``irreps``.
        edge_dim: Scalars e of an edge that are given. Default 0.
        squared: Messages read the squared length. Default True.
        cutoff: Of the envelope, in Angstrom. Default 5.
        envelope: u, as in :class:`~torch_cormorant.nn.Envelope`; None: one, as
            published, and then forces jump where a neighbour comes in. Default
            ``"polynomial"``.
        normalisation: Of the attributes, ``"component"`` (default) or ``"integral"``.
        constants: Of the gates, as in
            :func:`~torch_cormorant.nn.moment_factor`. Default ``"exact"``.
        **kwargs: Passed to :class:`torch_geometric.nn.MessagePassing`.

    Shapes:
        - ``x``: ``[N, irreps.dim]``; a pair (source, target) on bipartite graphs
        - ``edge_index``: ``[2, E]``, or an ``EdgeIndex``, a sparse (transposed)
          adjacency, an :class:`~torch_cormorant.EdgeGeometry`
        - ``edge_vec``: ``[E, 3]`` Angstrom, target minus source; or ``pos``: ``[N, 3]``
        - ``edge_attr``: ``[E, edge_dim]``
        - ``node_attr``: ``[N, (lmax_attr + 1)^2]`` of the receivers. Default: the mean
          of those of their edges
        - returns ``[N, irreps.dim]``

    Raises:
        ConfigError: An argument is out of range.
        ShapeError, DtypeError, DeviceError, EdgeIndexError, NonFiniteError,
        CoincidentAtomsError: If an input does not fit.

    Example:
        >>> import torch
        >>> from torch_cormorant import radius_graph
        >>> from torch_cormorant.conv import SEGNNConv
        >>> pos = torch.tensor([[0.0, 0, 0], [0, 0, 1.1], [0, 1.0, -0.4]])
        >>> edge_index = radius_graph(pos, cutoff=3.0)
        >>> conv = SEGNNConv("8x0e + 4x1o", cutoff=3.0)
        >>> tuple(conv(torch.randn(3, 20), edge_index, pos=pos).shape)
        (3, 20)
    """

    def __init__(
        self,
        irreps: object,
        *,
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
        h, attr, more = self.irreps, self.irreps_attr, {"constants": constants}
        self.message_1 = SteerableGate(self.irreps_message, attr, h, **more)
        self.message_2 = SteerableGate(h, attr, h, **more)
        self.update_1 = SteerableGate(h + h, attr, h, **more)
        self.update_2 = SteerableLinear(h, attr, h)

    def reset_parameters(self) -> None:
        """Start all weights again."""
        super().reset_parameters()
        for part in (self.message_1, self.message_2, self.update_1, self.update_2):
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
        node_attr: Tensor | None = None,
    ) -> Tensor:
        """Update the nodes; arguments and shapes as in the class description."""
        rows = (self.irreps, self.irreps)
        source, target, geometry = self.inputs(x, rows, edge_index, edge_vec, pos)
        attr = self.attributes(geometry)
        scalars = self.edge_scalars(geometry, edge_attr)
        if node_attr is None:
            node_attr = node_attributes(attr, geometry, self.weights_of(geometry))
        elif tuple(node_attr.shape) != (geometry.num_targets, attr.shape[1]):
            msg = (
                f"node_attr must have shape [{geometry.num_targets}, {attr.shape[1]}], "
                f"got {list(node_attr.shape)}"
            )
            raise ShapeError(msg)
        check_same(node_attr, "node_attr", source)
        sums = self.summed((source, target), geometry, attr, scalars)
        update = self.update_1(torch.cat([target, sums], dim=1), node_attr)
        result: Tensor = target + self.update_2(update, node_attr)
        return result

    def messages(self, rows: Tensor, attr: Tensor) -> Tensor:
        """Two gated products."""
        result: Tensor = self.message_2(self.message_1(rows, attr), attr)
        return result
