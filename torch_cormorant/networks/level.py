"""One level: layer, norm, gate."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from torch_cormorant.conv import CormorantConv
from torch_cormorant.conv.whole import is_bare
from torch_cormorant.nn.norm import SO3Norm
from torch_cormorant.ops import EdgeGeometry

__all__ = ["run_level"]


def run_level(
    network: Any, s: int, x: Any, geometry: EdgeGeometry, state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Features and edge scalars of one level.

    The modules are called, not reached into: hooks and wrapped modules take effect.

    Args:
        network: Holds ``convs``, ``norms`` and ``gates``, one of each for every level.
        s: Which level.
        x: Features ``[N, M, P, C]``; of sources and receivers where these differ.
        geometry: The edges, self edges included.
        state: Edge scalars of the level below.
    """
    conv, norm, gate = network.convs[s], network.norms[s], network.gates[s]
    options = {"edge_state": state, "return_edge_state": "rows"}
    if is_bare(conv, CormorantConv) and is_bare(norm, SO3Norm):
        out, scalars = conv(x, geometry, norm=norm, **options)
    else:
        out, scalars = conv(x, geometry, **options)
        out = norm(out)
    return gate(out), scalars
