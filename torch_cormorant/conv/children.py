"""What an N-body gate accepts as children, nodes and edges, checked."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

from torch import Tensor

from torch_cormorant.conv.inputs import as_pair, check_all_finite, check_same
from torch_cormorant.errors import ConfigError, DtypeError, ShapeError
from torch_cormorant.ops import EdgeGeometry
from torch_cormorant.ops.edges import check_edge_index, check_edge_vec
from torch_cormorant.ops.tensors import safe_norm

__all__ = ["Children", "children_input"]


class Children(NamedTuple):
    """States of children, and edges from them to the nodes.

    Attributes:
        x: States ``[children, D]``.
        edges: Edges ``[2, E]``, child to node.
        vec: From the node to the child ``[E, 3]``, Angstrom.
        num_nodes: Number of nodes.
    """

    x: Tensor
    edges: Tensor
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
    source = x[0] if isinstance(x, (tuple, list)) else x
    if not isinstance(source, Tensor):
        msg = f"x must be a tensor or a pair of them, got {type(source).__name__}"
        raise DtypeError(msg)
    if isinstance(edge_index, EdgeGeometry):
        return _of_geometry(source, edge_index, given=(edge_vec, pos))
    if (edge_vec is None) == (pos is None):
        msg = (
            "give exactly one of edge_vec (node minus child, Angstrom) and pos, or an "
            "EdgeGeometry in the place of edge_index"
        )
        raise ConfigError(msg)
    edges = edge_index.as_tensor() if hasattr(edge_index, "as_tensor") else edge_index
    if not isinstance(edges, Tensor):
        msg = (
            "edge_index must be a [2, E] tensor, an EdgeIndex or an EdgeGeometry, got "
            f"{type(edge_index).__name__}"
        )
        raise DtypeError(msg)
    places = None if pos is None else as_pair(pos, "pos")
    nodes = _num_nodes(x, places)
    check_edge_index(edges, (source.shape[0], nodes), source.device)
    name = "edge_vec" if places is None else "pos"
    if places is not None:
        edge_vec = _vectors(places, edges, (source.shape[0], nodes))
    toward = cast("Tensor", edge_vec)
    check_edge_vec(toward, edges)
    check_same(toward, name, source)
    check_all_finite({"x": source, name: toward})
    return Children(source, edges, -toward, nodes)


def _of_geometry(
    source: Tensor, geometry: EdgeGeometry, given: tuple[object, object]
) -> Children:
    """Children along the edges of a geometry."""
    if given != (None, None):
        msg = "an EdgeGeometry holds the vectors: leave out edge_vec and pos"
        raise ConfigError(msg)
    check_same(geometry.edge_vec, "edge_vec", source)
    if geometry.num_sources != source.shape[0]:
        msg = (
            f"the EdgeGeometry was made for {geometry.num_sources} children, x has "
            f"{source.shape[0]}"
        )
        raise ShapeError(msg)
    toward = -geometry.edge_vec
    return Children(source, geometry.edge_index, toward, geometry.num_targets)


def _vectors(
    places: tuple[Tensor, Tensor], edges: Tensor, sizes: tuple[int, int]
) -> Tensor:
    """Node minus child of every edge."""
    for part, size in zip(places, sizes, strict=True):
        if tuple(part.shape) != (size, 3):
            msg = f"pos must have shape [{size}, 3], got {list(part.shape)}"
            raise ShapeError(msg)
    return places[1][edges[1]] - places[0][edges[0]]


def _num_nodes(x: Any, places: tuple[Tensor, Tensor] | None) -> int:
    """Number of nodes: of a pair the second, else as many as positions or children."""
    if isinstance(x, Tensor):
        return int(x.shape[0] if places is None else places[1].shape[0])
    if isinstance(x[1], Tensor):
        return int(x[1].shape[0])
    if places is None:
        msg = "of bipartite graphs give pos, or x as a pair (children, nodes)"
        raise ConfigError(msg)
    return int(places[1].shape[0])
