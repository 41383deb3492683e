"""What the convolutions on irreps share: edges as users have them, and messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn import MessagePassing

from torch_cormorant.conv.arguments import check_message_passing
from torch_cormorant.conv.inputs import (
    NodeInput,
    as_pair,
    check_all_finite,
    check_edge_attr,
    check_same,
    make_geometry,
)
from torch_cormorant.ops import (
    EdgeGeometry,
    ProductPaths,
    kernel_neighbour_sum,
    tensor_product,
    weighted_neighbour_sum,
)
from torch_cormorant.ops.dispatch import check_backend
from torch_cormorant.so3.flat import check_flat, flat_blocks

__all__ = ["IrrepsConv"]

Weights = Tensor | tuple[Tensor, Tensor]


class IrrepsConv(MessagePassing):
    """Base of the convolutions on irreps.

    Args:
        paths: Of their products, with the harmonics of edges as second operand.
        edge_dim: Number of radial functions (or other invariants) of each edge.
        backend: As of :func:`~torch_cormorant.ops.weighted_neighbour_sum`.
        kwargs: Of PyG's ``MessagePassing``.

    Raises:
        ArgumentError, ConfigError: If PyG's arguments cannot be meant.
    """

    explain_message: Callable[..., Tensor]
    propagate: Callable[..., Tensor]

    def __init__(
        self, paths: ProductPaths, edge_dim: int, backend: str, **kwargs: Any
    ) -> None:
        check_message_passing(type(self), kwargs)
        super().__init__(aggr="sum", node_dim=0, **kwargs)
        self.sum_paths, self.edge_dim = paths, edge_dim
        self.lmax_sh = len(paths.second) - 1
        self.backend = check_backend(backend)

    def edges(
        self,
        x: NodeInput,
        irreps: object,
        edge_index: Any,
        edge_vec: Tensor | None,
        edge_attr: Tensor,
        pos: NodeInput | None,
    ) -> tuple[Tensor, Tensor, EdgeGeometry]:
        """Source and target features and the geometry, all checked."""
        bipartite = isinstance(x, (tuple, list))
        source, target = as_pair(x, "x")
        for name, part in (("x", source), ("x_target", target)):
            check_flat(part, irreps, name)
        sizes = (source.shape[0], target.shape[0])
        given = isinstance(edge_index, EdgeGeometry)
        geometry = make_geometry(
            edge_index, edge_vec, pos, sizes, "unit", bipartite=bipartite
        )
        check_same(geometry.edge_vec, "edge_vec" if pos is None else "pos", source)
        check_edge_attr(edge_attr, geometry.plan.num_edges, self.edge_dim, source)
        if not given and not torch.compiler.is_compiling():
            check_all_finite({"x": source, "x_target": target, "edge_attr": edge_attr})
        return source, target, geometry

    def summed(
        self, x: Tensor, geometry: EdgeGeometry, weights: Weights
    ) -> Sequence[Tensor]:
        """Messages of the neighbours, summed: blocks of ``sum_paths.out``.

        Args:
            x: Features of the sources, flat rows of ``sum_paths.first``.
            geometry: The edges.
            weights: Of every edge, or the last hidden layer and the matrix behind it.
        """
        paths = self.sum_paths
        if _has_hooks(self) or (self.explain and paths.mode == "uvw"):
            return self._propagated(x, geometry, _all(weights))
        if paths.mode == "uvw" and not isinstance(weights, Tensor):
            return kernel_neighbour_sum(x, geometry, *weights, paths)
        if self.explain:
            weights = self.explain_message(_all(weights), geometry.num_targets)
        return weighted_neighbour_sum(x, geometry, weights, paths, self.backend)

    def _propagated(
        self, x: Tensor, geometry: EdgeGeometry, weights: Tensor
    ) -> Sequence[Tensor]:
        """The same through PyG's ``propagate``, edge by edge, hooks included."""
        total = self.propagate(
            geometry.edge_index,
            x=(x, None),
            sh=geometry.sh(self.lmax_sh),
            weights=weights,
            size=(geometry.num_sources, geometry.num_targets),
        )
        return flat_blocks(total, self.sum_paths.out)

    def message(self, x_j: Tensor, sh: Tensor, weights: Tensor) -> Tensor:
        """The message of each edge, flat rows."""
        paths = self.sum_paths
        return tensor_product(
            x_j, sh, paths.first, paths.second, paths=paths, weights=weights
        )


def _all(weights: Weights) -> Tensor:
    return weights if isinstance(weights, Tensor) else weights[0] @ weights[1]


def _has_hooks(conv: MessagePassing) -> bool:
    """Whether someone listens to what only ``propagate`` calls."""
    own = any(
        getattr(conv, f"_{name}_forward{kind}_hooks")
        for name in ("propagate", "message", "aggregate")
        for kind in ("_pre", "")
    )
    kinds = ("forward", "forward_pre", "backward", "backward_pre")
    sums = vars(conv.aggr_module)
    return own or any(sums[f"_{kind}_hooks"] for kind in kinds)
