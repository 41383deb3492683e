r"""What SEGNN's layers share: attributes of edges and nodes, and messages of edges."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from torch_cormorant.conv.arguments import check_count, has_hooks, one_of
from torch_cormorant.conv.inputs import check_edge_attr
from torch_cormorant.conv.irreps_conv import IrrepsConv
from torch_cormorant.errors import ConfigError
from torch_cormorant.irreps import Irreps
from torch_cormorant.nn.envelopes import Envelope
from torch_cormorant.ops import EdgeGeometry
from torch_cormorant.ops.segment import scatter_sum

__all__ = ["NORMALISATIONS", "SteerableConv", "edge_attributes", "node_attributes"]

NORMALISATIONS = ("component", "integral")


def edge_attributes(
    geometry: EdgeGeometry, lmax: int, normalisation: str = "component"
) -> Tensor:
    r"""Harmonics of edges as SEGNN has them: from the receiver to the sender.

    Args:
        geometry: The edges.
        lmax: Largest degree.
        normalisation: ``"component"``: :math:`|a^l|^2 = 2 l + 1` (default), or
            ``"integral"``: that over :math:`4 \pi`.

    Returns:
        ``[E, (lmax + 1)^2]``.
    """
    factors = [
        (-1) ** l * (2 * l + 1) ** 0.5
        for l in range(lmax + 1)
        for _ in range(2 * l + 1)
    ]
    sh = geometry.sh(lmax)
    scale = 1.0 if normalisation == "component" else (4 * math.pi) ** -0.5
    made: Tensor = sh * torch.tensor(factors, dtype=sh.dtype, device=sh.device) * scale
    return made


def node_attributes(
    attr: Tensor, geometry: EdgeGeometry, u: Tensor | None = None
) -> Tensor:
    r"""Mean of the attributes of incoming edges, its scalar replaced by one.

    Args:
        attr: Attributes of edges ``[E, (lmax + 1)^2]``.
        geometry: The edges.
        u: Envelope of edges ``[E, 1]``: then
            :math:`\sum_j u_{ij} a_{ij} / (1 + \sum_j u_{ij})`, which is smooth where a
            neighbour comes in. None: the mean, zero without edges, as published.

    Returns:
        ``[N, (lmax + 1)^2]``.
    """
    weight = attr.new_ones(len(attr), 1) if u is None else u
    rows = torch.cat([attr * weight, weight], dim=1)
    target, count = geometry.edge_index[1], geometry.num_targets
    sums = scatter_sum(rows, target, count, validate=False)
    total = sums[:, -1:].clamp_min(1) if u is None else sums[:, -1:] + 1
    mean = sums[:, :-1] / total
    return torch.cat([torch.ones_like(mean[:, :1]), mean[:, 1:]], dim=1)


class SteerableConv(IrrepsConv):
    """Base class of layers with messages that depend on both ends of an edge.

    A class makes ``messages`` of the features of both ends and scalars of the edge.

    Args:
        irreps: What the features are made of.
        options: Arguments of the constructor.
        **kwargs: Passed to :class:`torch_geometric.nn.MessagePassing`.
    """

    def __init__(self, irreps: object, options: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(options, **kwargs)
        self.irreps = Irreps(irreps)
        self.edge_dim = check_count(options["edge_dim"], "edge_dim")
        self.squared = options["squared"]
        given = options["lmax_attr"]
        self.lmax_attr = self.irreps.lmax if given is None else given
        self.normalisation = one_of(
            options["normalisation"], NORMALISATIONS, "normalisation"
        )
        self.envelope = None
        if options["envelope"] is not None:
            if options["cutoff"] is None:
                raise ConfigError("an envelope needs a cutoff; or give envelope=None")
            self.envelope = Envelope(options["envelope"], options["cutoff"])
        count = self.edge_dim + self.squared
        scalars = Irreps([(count, (0, 1 if self.irreps.has_parity else 0))])
        self.irreps_message = (self.irreps + self.irreps) + (scalars if count else "")
        self.irreps_attr = Irreps.harmonics(
            self.lmax_attr, parity=self.irreps.has_parity
        )

    def attributes(self, geometry: EdgeGeometry) -> Tensor:
        """Attributes of edges ``[E, (lmax_attr + 1)^2]``."""
        return edge_attributes(geometry, self.lmax_attr, self.normalisation)

    def edge_scalars(self, geometry: EdgeGeometry, given: Tensor | None) -> Tensor:
        """Squared lengths and what the user gave ``[E, K]``."""
        vec = geometry.edge_vec
        check_edge_attr(given, geometry.plan.num_edges, self.edge_dim, vec)
        parts = [vec.square().sum(1, keepdim=True)] if self.squared else []
        parts += [] if given is None else [given]
        return torch.cat(parts, dim=1) if parts else vec[:, :0]

    def summed(
        self,
        ends: tuple[Tensor, Tensor],
        geometry: EdgeGeometry,
        attr: Tensor,
        scalars: Tensor,
    ) -> Tensor:
        """Sum of messages, through ``propagate`` where someone listens.

        Args:
            ends: Features of sources and receivers.
            geometry: The edges.
            attr: Attributes of edges.
            scalars: Scalars of edges.
        """
        u = self.weights_of(geometry)
        if self.explain or has_hooks(self):
            return self.propagate(
                geometry.edge_index,
                x=ends,
                attr=attr,
                scalars=scalars,
                u=u,
                size=(geometry.num_sources, geometry.num_targets),
            )
        source, target = geometry.edge_index[0], geometry.edge_index[1]
        x_i, x_j = ends[1].index_select(0, target), ends[0].index_select(0, source)
        rows = self.message(x_i, x_j, attr, scalars, u)
        return scatter_sum(rows, target, geometry.num_targets, validate=False)

    def weights_of(self, geometry: EdgeGeometry) -> Tensor | None:
        """Envelope of edges ``[E, 1]``, or None."""
        if self.envelope is None:
            return None
        made: Tensor = self.envelope(geometry.edge_length)
        return made.unsqueeze(1)

    def message(  # type: ignore[override]
        self,
        x_i: Tensor,
        x_j: Tensor,
        attr: Tensor,
        scalars: Tensor,
        u: Tensor | None,
    ) -> Tensor:
        """Messages of edges."""
        rows = self.messages(torch.cat([x_i, x_j, scalars], dim=1), attr)
        return rows if u is None else rows * u

    def messages(self, rows: Tensor, attr: Tensor) -> Tensor:
        """From both ends and scalars, rows of ``irreps_message``, to messages."""
        raise NotImplementedError

    def arguments(self) -> str:
        """The positional arguments, for ``repr``."""
        return repr(str(self.irreps))
