"""What edge lists must be: shapes, types, indices that exist, directions that exist."""

from __future__ import annotations

import torch
from torch import Tensor

from torch_cormorant.errors import (
    CoincidentAtomsError,
    DeviceError,
    DtypeError,
    EdgeIndexError,
    NonFiniteError,
    ShapeError,
)
from torch_cormorant.ops.transforms import refuse_batched

MIN_LENGTH = 1e-6
"""Two atoms closer than this (Angstrom) count as coincident."""


def check_edge_index(
    edge_index: Tensor, sizes: tuple[int, int], device: torch.device
) -> None:
    """Check shape, dtype, device and range of an edge index."""
    check_edge_form(edge_index, device)
    for row, name in enumerate(("source", "target")):
        part = edge_index[row]
        bad = (part < 0) | (part >= sizes[row])
        if bool(bad.any()):
            edge = int(bad.nonzero()[0])
            msg = (
                f"edge_index names {name} node {int(part[edge])} in column {edge}, but "
                f"nodes are numbered 0 to {sizes[row] - 1}"
            )
            raise EdgeIndexError(msg)


def check_edge_form(edge_index: Tensor, device: torch.device) -> None:
    """Check shape, dtype and device of an edge index."""
    refuse_batched("edge_index", edge_index)
    if edge_index.ndim != 2 or edge_index.shape[0] != 2:
        msg = f"edge_index must have shape [2, E], got {tuple(edge_index.shape)}"
        raise ShapeError(msg)
    if edge_index.dtype != torch.int64:
        msg = f"edge_index must be int64, got {edge_index.dtype}; use edge_index.long()"
        raise DtypeError(msg)
    if edge_index.device != device:
        msg = f"edge_index lies on {edge_index.device}, the other tensors on {device}"
        raise DeviceError(msg)


def check_edge_vec(edge_vec: Tensor, edge_index: Tensor) -> None:
    """Check shapes and types of edges and their vectors against each other."""
    check_edge_form(edge_index, edge_vec.device)
    refuse_batched("edge_vec", edge_vec)
    edges = edge_index.shape[1]
    if edge_vec.ndim != 2 or edge_vec.shape[1] != 3 or edge_vec.shape[0] != edges:
        msg = (
            f"edge_vec must have shape [{edges}, 3], one vector for each column of "
            f"edge_index, got {tuple(edge_vec.shape)}"
        )
        raise ShapeError(msg)
    if not edge_vec.is_floating_point():
        msg = f"edge_vec must be a floating point tensor, got {edge_vec.dtype}"
        raise DtypeError(msg)


def check_edges(
    edge_index: Tensor, edge_vec: Tensor, sizes: tuple[int, int], *, bipartite: bool
) -> None:
    """Check an edge list with vectors; :class:`EdgeGeometry` says what is refused."""
    check_edge_vec(edge_vec, edge_index)
    check_edge_index(edge_index, sizes, edge_vec.device)
    with torch.no_grad():
        squared = edge_vec.square().sum(-1)
        if not bool(squared.isfinite().all()):
            edge = int((~squared.isfinite()).nonzero()[0])
            msg = (
                f"edge_vec is not finite in row {edge}: {edge_vec[edge].tolist()}; "
                "check the positions for NaN, infinity or overflow"
            )
            raise NonFiniteError(msg)
        near = squared < MIN_LENGTH**2
        if not bipartite:
            itself = edge_index[0] == edge_index[1]
            near = near & ~(itself & (edge_vec == 0).all(-1))
        if bool(near.any()):
            edge = int(near.nonzero()[0])
            source, target = edge_index[:, edge].tolist()
            msg = (
                f"nodes {source} and {target} (edge {edge}) are less than "
                f"{MIN_LENGTH:g} Angstrom apart, where directions have no meaning; "
                "remove the duplicate atom or the edge"
            )
            raise CoincidentAtomsError(msg)
