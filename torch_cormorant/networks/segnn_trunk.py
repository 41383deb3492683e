r"""What SEGNN's networks for molecules and for moving bodies share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from torch_cormorant.conv import SEConv, SEGNNConv
from torch_cormorant.errors import ConfigError
from torch_cormorant.irreps import Irreps
from torch_cormorant.nn.instance_norm import IrrepsInstanceNorm
from torch_cormorant.nn.steerable_linear import SteerableGate, SteerableLinear
from torch_cormorant.ops import EdgeGeometry

__all__ = ["LAYERS", "SEGNNTrunk"]

LAYERS = ("segnn", "linear", "nonlinear")
"""Kinds of layers: SEGNN's, and the two of ``SEConv``."""


class SEGNNTrunk(nn.Module):
    """Embedding, layers, and two steerable layers behind them.

    Args:
        irreps_in: What the features of nodes are made of.
        irreps: What they are made of inside.
        irreps_out: What the result is made of.
        lmax_attr: Largest degree of the attributes.
        num_levels: Layers.
        layer: One of :data:`LAYERS`.
        norm: ``"instance"`` or None.
        constants: Of the gates.
        **options: Passed to the layers.

    Raises:
        ConfigError: A word is not known.
    """

    def __init__(
        self,
        irreps_in: object,
        irreps: object,
        irreps_out: object,
        *,
        lmax_attr: int,
        num_levels: int,
        layer: str,
        norm: str | None,
        constants: str,
        **options: Any,
    ) -> None:
        super().__init__()
        if layer not in LAYERS:
            raise ConfigError(f"layer must be one of {LAYERS}, got {layer!r}")
        if norm not in (None, "instance"):
            raise ConfigError(f"norm must be 'instance' or None, got {norm!r}")
        h, attr = Irreps(irreps), Irreps.harmonics(lmax_attr)
        self.layer, self.norm = layer, norm
        self.embedding = SteerableLinear(irreps_in, attr, h)
        options |= {"lmax_attr": lmax_attr, "constants": constants}
        self.convs = nn.ModuleList(
            SEGNNConv(h, **options)
            if layer == "segnn"
            else SEConv(h, nonlinear=layer == "nonlinear", **options)
            for _ in range(num_levels)
        )
        self.norms = nn.ModuleList(
            nn.Identity() if norm is None else IrrepsInstanceNorm(h)
            for _ in range(num_levels)
        )
        self.read_1 = SteerableGate(h, attr, h, constants=constants)
        self.read_2 = SteerableLinear(h, attr, irreps_out)

    def forward(
        self,
        x: Tensor,
        geometry: EdgeGeometry,
        node_attr: Tensor,
        edge_attr: Tensor | None = None,
        molecules: tuple[Tensor | None, int] | None = None,
    ) -> Tensor:
        """Rows of ``irreps_in`` to rows of ``irreps_out``.

        Args:
            x: Features of nodes.
            geometry: The edges.
            node_attr: Attributes of nodes.
            edge_attr: Scalars of edges.
            molecules: Molecule of each node, and how many there are, for norms.
        """
        x = self.embedding(x, node_attr)
        given = {"node_attr": node_attr} if self.layer == "segnn" else {}
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = conv(x, geometry, edge_attr=edge_attr, **given)
            x = x if self.norm is None else norm(x, *(molecules or ()))
        out: Tensor = self.read_2(self.read_1(x, node_attr), node_attr)
        return out

    def attributes(self, geometry: EdgeGeometry) -> tuple[Tensor, Tensor | None]:
        """Attributes of edges, and their envelope."""
        first: Any = self.convs[0]
        return first.attributes(geometry), first.weights_of(geometry)


def one_hot(types: Tensor, count: int, dtype: torch.dtype) -> Tensor:
    """Rows with a one at the place of the type ``[N, count]``."""
    every = torch.arange(count, device=types.device)
    return (types.unsqueeze(1) == every).to(dtype)
