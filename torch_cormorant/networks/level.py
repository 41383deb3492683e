"""One level: layer, norm, gate."""

from __future__ import annotations

from typing import Any

from torch import Tensor

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
    options = {"edge_state": state, "return_edge_state": "rows"}
    out, scalars = network.convs[s](x, geometry, **options)
    return network.gates[s](network.norms[s](out)), scalars
