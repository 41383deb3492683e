"""What an N-body gate accepts as children, nodes and edges, checked."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from torch_cormorant.conv.inputs import as_pair, check_all_finite, check_same
from torch_cormorant.errors import ConfigError, DtypeError, ShapeError
from torch_cormorant.ops import EdgeGeometry
from torch_cormorant.ops.edges import check_edge_index, check_edge_vec
from torch_cormorant.ops.geometry import safe_norm

__all__ = ["Children", "children_input"]


class Children(NamedTuple):
    """States of children, and edges from them to the nodes.

    Attributes:
        x: States ``[children, D]``.
        index: Edges ``[2, E]``, child to node.
        vec: From the node to the child ``[E, 3]``, Angstrom.
        num_nodes: Number of nodes.
    """

    x: Tensor
    index: Tensor
    vec: Tensor
    num_nodes: int

    @property
    def length(self) -> Tensor:
        """Distances of the children ``[E]``."""
        return safe_norm(self.vec)


def children_input(
    x: Any, edge_index: Any, edge_vec: Tensor | None, pos: Any
) -> Children:
    """Inputs of a gate in one form; see the class that takes them.

    Raises:
        ConfigError: Not exactly one of ``edge_vec``, ``pos`` and a geometry is given.
        ShapeError, DtypeError, DeviceError, EdgeIndexError, NonFiniteError: If an input
            does not fit.
    """
    pair = isinstance(x, (tuple, list))
    source = x[0] if pair else x
    if not isinstance(source, Tensor):
        msg = f"x must be a tensor or a pair of them, got {type(source).__name__}"
        raise DtypeError(msg)
    if isinstance(edge_index, EdgeGeometry):
        if edge_vec is not None or pos is not None:
            msg = "an EdgeGeometry holds the vectors: leave out edge_vec and pos"
            raise ConfigError(msg)
        check_same(edge_index.edge_vec, "edge_vec", source)
        if edge_index.num_sources != source.shape[0]:
            msg = (
                f"the EdgeGeometry was made for {edge_index.num_sources} children, x "
                f"has {source.shape[0]}"
            )
            raise ShapeError(msg)
        count, vec = edge_index.num_targets, -edge_index.edge_vec
        return Children(source, edge_index.edge_index, vec, count)
    if (edge_vec is None) == (pos is None):
        msg = (
            "give exactly one of edge_vec (node minus child, Angstrom) and pos, or an "
            "EdgeGeometry in the place of edge_index"
        )
        raise ConfigError(msg)
    index = edge_index.as_tensor() if hasattr(edge_index, "as_tensor") else edge_index
    if not isinstance(index, Tensor):
        msg = (
            "edge_index must be a [2, E] tensor, an EdgeIndex or an EdgeGeometry, got "
            f"{type(edge_index).__name__}"
        )
        raise DtypeError(msg)
    places = None if pos is None else as_pair(pos, "pos")
    nodes = _num_nodes(x, places) if pair or places else source.shape[0]
    check_edge_index(index, (source.shape[0], nodes), source.device)
    if places is not None:
        for part, size in zip(places, (source.shape[0], nodes), strict=True):
            if tuple(part.shape) != (size, 3):
                msg = f"pos must have shape [{size}, 3], got {list(part.shape)}"
                raise ShapeError(msg)
        edge_vec = places[1][index[1]] - places[0][index[0]]
    vec: Tensor = edge_vec  # type: ignore[assignment]
    check_edge_vec(vec, index)
    check_same(vec, "edge_vec" if pos is None else "pos", source)
    check_all_finite({"x": source, "edge_vec" if pos is None else "pos": vec})
    return Children(source, index, -vec, nodes)


def _num_nodes(x: Any, places: tuple[Tensor, Tensor] | None) -> int:
    """Number of nodes of a bipartite graph."""
    if isinstance(x, (tuple, list)) and isinstance(x[1], Tensor):
        return int(x[1].shape[0])
    if places is None:
        msg = "of bipartite graphs give pos, or x as a pair (children, nodes)"
        raise ConfigError(msg)
    return int(places[1].shape[0])
