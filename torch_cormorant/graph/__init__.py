"""Neighbour searches: which atoms see each other."""

from __future__ import annotations

from torch_cormorant.graph.all_pairs import all_pairs
from torch_cormorant.graph.cache import NeighbourCache
from torch_cormorant.graph.composition import (
    Composition,
    PartLevel,
    composition_scheme,
)
from torch_cormorant.graph.lattice import edge_vectors
from torch_cormorant.graph.neighbour_list import neighbour_list
from torch_cormorant.graph.radius_graph import radius_graph
from torch_cormorant.graph.transforms import AddEdgeGeometry

__all__ = [
    "AddEdgeGeometry",
    "Composition",
    "NeighbourCache",
    "PartLevel",
    "all_pairs",
    "composition_scheme",
    "edge_vectors",
    "neighbour_list",
    "radius_graph",
]
