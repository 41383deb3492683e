"""A layer, and the norm behind it, as one node of the graph of gradients."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from torch_cormorant.nn.edge_network import EdgeNetwork, is_hooked
from torch_cormorant.nn.norm import SO3Norm
from torch_cormorant.nn.vertex import VertexMixing
from torch_cormorant.ops import EdgeGeometry
from torch_cormorant.ops.level import fits, level
from torch_cormorant.ops.vertex import kernel_fits

__all__ = ["is_bare", "whole_level"]


def is_bare(module: Any, kind: type[nn.Module]) -> bool:
    """Whether a module is one of ours as it was made: nobody sees whether it is called.

    Args:
        module: The module.
        kind: What it should be, no class derived from that.
    """
    return type(module) is kind and not is_hooked(module) and not _all_watched()


def _all_watched() -> bool:
    """Whether someone watches the calls of all modules."""
    ask = getattr(nn.modules.module, "_has_any_global_hook", None)
    return ask is None or bool(ask())


def whole_level(
    edge_network: Any,
    vertex: Any,
    norm: nn.Module | None,
    x: Tensor,
    geometry: EdgeGeometry,
    state: Tensor | None,
    lmax_sh: int,
) -> tuple[Tensor, Tensor] | None:
    """Features and edge scalars of a layer, or None where it runs part by part.

    Args:
        edge_network: Its edge network.
        vertex: Its vertex step.
        norm: What follows it, or None.
        x: Complex (or real) features ``[N, M_in, C]`` of sources and receivers.
        geometry: The edges.
        state: Edge scalars of the level below.
        lmax_sh: Largest degree of the harmonics.
    """
    bare = is_bare(edge_network, EdgeNetwork) and is_bare(vertex, VertexMixing)
    if not bare or not (norm is None or is_bare(norm, SO3Norm)):
        return None
    if not edge_network.fits(x, x, geometry, state) or not kernel_fits(vertex.paths):
        return None
    radial, mask, of_edges, widths = edge_network.operands(geometry)
    mixing, scale = vertex.weights(), getattr(norm, "weight", None)
    sh = geometry.sh(lmax_sh)
    weights = [*mixing, *of_edges, *([] if scale is None else [scale])]
    seen = [x, radial, sh, *weights, *([] if state is None else [state])]
    same = all(weight.dtype == sh.dtype for weight in weights)
    if not same or not fits(x, seen, vertex.sum_paths):
        return None
    return level(
        x,
        (geometry.pair_index[1], geometry.pair_index[0]),
        state,
        radial,
        mask,
        of_edges,
        widths,
        sh,
        geometry.plan,
        mixing,
        vertex.paths.key,
        scale,
        getattr(norm, "eps", 0.0),
    )
