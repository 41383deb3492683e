"""Neighbour searches: which atoms see each other."""

from __future__ import annotations

from torch_cormorant.graph.all_pairs import all_pairs
from torch_cormorant.graph.radius_graph import radius_graph
from torch_cormorant.graph.transforms import AddEdgeGeometry

__all__ = ["AddEdgeGeometry", "all_pairs", "radius_graph"]
