"""One level: layer, norm, gate."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from torch_cormorant.ops import EdgeGeometry

__all__ = ["Levels", "run_level"]


class Levels(Protocol):
    """What a network of levels holds, one of each for every level."""

    convs: nn.ModuleList
    norms: nn.ModuleList
    gates: nn.ModuleList


def run_level(
    network: Levels,
    s: int,
    x: Tensor | tuple[Tensor, Tensor],
    geometry: EdgeGeometry,
    state: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Features and edge scalars of one level.

    The modules are called, not reached into: hooks and wrapped modules take effect.

    Args:
        network: Holds the modules of all levels.
        s: Which level.
        x: Features ``[N, M, P, C]``; of sources and receivers where these differ.
        geometry: The edges, self edges included.
        state: Edge scalars of the level below.
    """
    out, state = network.convs[s](
        x, geometry, edge_state=state, return_edge_state="rows"
    )
    return network.gates[s](network.norms[s](out)), state
