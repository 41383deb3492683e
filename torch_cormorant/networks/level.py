"""One level: layer, norm, gate, and what a network adds to them."""

from __future__ import annotations

from typing import Any

import torch
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
        network: Holds ``convs``, ``norms`` and ``gates``, one of each for every level,
            and perhaps ``scales``; its ``residual`` adds features to the result.
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
    out = gate(out)
    if network.scales:
        out = network.scales[s](out, geometry.target_types())
    if network.residual:
        out = with_features(out, x[-1] if isinstance(x, tuple) else x)
    return out, scalars


def with_features(out: Tensor, x: Tensor) -> Tensor:
    """A level plus the features it started from, as far as degrees reach in both."""
    if x.shape[1] == out.shape[1]:
        return out + x
    shared = min(x.shape[1], out.shape[1])
    return torch.cat([out[:, :shared] + x[:, :shared], out[:, shared:]], dim=1)
