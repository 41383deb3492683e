"""Cutoffs of their own for pairs of species."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from torch_cormorant.errors import ConfigError
from torch_cormorant.ops import EdgeGeometry

__all__ = ["kinds_of_edges", "parts_of_cutoffs", "reciprocals"]


def reciprocals(
    cutoff: float, given: Sequence[Sequence[float]] | None, types: int
) -> Tensor:
    """One over the cutoff, or over those of all pairs of types, receiver outside."""
    if given is None:
        return torch.tensor([1 / cutoff])
    rows = [[float(value) for value in row] for row in given]
    fits = len(rows) == types and all(
        len(row) == types and min(row) > 0 and max(row) <= cutoff * (1 + 1e-6)
        for row in rows
    )
    if not fits:
        msg = (
            f"edge_cutoffs must be {types} rows of {types} lengths between 0 and the "
            f"cutoff {cutoff:g}, got {rows}"
        )
        raise ConfigError(msg)
    return torch.tensor([1 / value for row in rows for value in row])


def kinds_of_edges(types: Tensor, count: int, geometry: EdgeGeometry) -> Tensor:
    """Place of the pair of types in a list of all, the receiver outside ``[E]``."""
    source, target = geometry.edge_index[0], geometry.edge_index[1]
    return types.index_select(0, target) * count + types.index_select(0, source)


def parts_of_cutoffs(recip: Tensor, types: Tensor, geometry: EdgeGeometry) -> Tensor:
    """Lengths as parts of the cutoffs: of pairs where all are equal, else of edges.

    Args:
        recip: As :func:`reciprocals` makes them.
        types: Type of every node.
        geometry: The edges.
    """
    if recip.numel() == 1:
        return geometry.pair_length * recip
    count = round(recip.numel() ** 0.5)
    kind = kinds_of_edges(types, count, geometry)
    return geometry.edge_length * recip.index_select(0, kind)
