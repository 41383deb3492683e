"""One level: layer, norm, gate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from torch import nn

    from torch_cormorant.ops import EdgeGeometry

__all__ = ["run_level"]


def run_level(
    network: nn.Module,
    s: int,
    x: Tensor | tuple[Tensor, Tensor],
    geometry: EdgeGeometry,
    state: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Features and edge scalars of one level.

    The modules are called, not reached into: hooks and wrapped modules take effect.

    Args:
        network: Holds ``convs``, ``norms`` and ``gates``.
        s: Which level.
        x: Features ``[N, M, P, C]``; of sources and receivers where these differ.
        geometry: The edges, self edges included.
        state: Edge scalars of the level below.
    """
    out, state = network.convs[s](
        x, geometry, edge_state=state, return_edge_state="rows"
    )
    return network.gates[s](network.norms[s](out)), state
