"""What a layer accepts as nodes and edges, brought to one form and checked."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch_geometric.utils import is_sparse, to_edge_index

from torch_cormorant.errors import (
    ConfigError,
    DeviceError,
    DtypeError,
    NonFiniteError,
    ShapeError,
)
from torch_cormorant.ops import EdgeGeometry
from torch_cormorant.ops.cg_product import to_complex
from torch_cormorant.ops.edges import check_edge_index
from torch_cormorant.ops.planes import complex_of
from torch_cormorant.ops.transforms import is_batched, refuse_batched

NodeInput = Tensor | tuple[Tensor, Tensor]


def as_pair(value: Any, name: str) -> tuple[Tensor, Tensor]:
    """A tensor twice, or a pair (source, target) as it is."""
    if isinstance(value, Tensor):
        return value, value
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2 or not all(isinstance(part, Tensor) for part in pair):
        msg = (
            f"{name} must be a tensor, or a pair ({name}_source, {name}_target) of "
            f"tensors on a bipartite graph, got {type(value).__name__}"
        )
        raise DtypeError(msg)
    return pair[0], pair[1]


def check_features(
    x: Tensor, name: str, *, channels: int, lmax: int, planes: int, like: Tensor
) -> None:
    """Check node features against a layer's configuration."""
    components = (lmax + 1) ** 2
    shapes = f"[N, {components}, {planes}, {channels}]"
    if lmax == 0:
        shapes = f"[N, {channels}] or {shapes}"
    fits = x.ndim == 4 and tuple(x.shape[1:]) == (components, planes, channels)
    fits = fits or (lmax == 0 and x.ndim == 2 and x.shape[1] == channels)
    if not fits:
        msg = f"{name} must have shape {shapes}, got {tuple(x.shape)}"
        raise ShapeError(msg)
    if x.dtype != like.dtype:
        msg = (
            f"{name} is {x.dtype} but the layer's weights are {like.dtype}; convert "
            "one of them, with .double() or .float() for example"
        )
        raise DtypeError(msg)
    if x.device != like.device:
        msg = f"{name} lies on {x.device}, the layer's weights on {like.device}"
        raise DeviceError(msg)


def check_same(value: Tensor, name: str, x: Tensor) -> None:
    """Check that a tensor has the dtype and the device of the features."""
    if value.dtype != x.dtype:
        msg = f"{name} is {value.dtype}, x is {x.dtype}; convert one of them"
        raise DtypeError(msg)
    if value.device != x.device:
        msg = f"{name} lies on {value.device}, x on {x.device}"
        raise DeviceError(msg)


def check_edge_state(
    state: Tensor, edges: int, shape: tuple[int, int, int], x: Tensor
) -> None:
    """Check edge scalars that the user hands in."""
    expected = (edges, *shape)
    if tuple(state.shape) != expected:
        msg = (
            f"edge_state must have shape {list(expected)} (edges, degrees, planes, "
            f"edge_state_channels), got {list(state.shape)}; a layer of another width "
            "needs edge_state_channels="
        )
        raise ShapeError(msg)
    check_same(state, "edge_state", x)


def rows_of_state(
    state: Tensor, geometry: EdgeGeometry, shape: tuple[int, int, int], x: Tensor
) -> Tensor:
    """Edge scalars as they are held inside, from the public form or from this one."""
    if state.ndim != 3:
        check_edge_state(state, geometry.plan.num_edges, shape, x)
        return to_complex(state)
    degrees, planes, channels = shape
    # written so that torch.compile can follow: dtype.to_complex() ends a graph
    paired = torch.complex64 if x.dtype == torch.float32 else torch.complex128
    dtype = paired if planes == 2 else x.dtype
    edges, pairs = geometry.plan.num_edges, geometry.pair_index[0].shape[0]
    fits = state.shape[0] == pairs or state.shape[0] == edges
    if not fits or tuple(state.shape[1:]) != (degrees, channels):
        msg = (
            f"edge_state of rows must have shape [{pairs} or {edges}, {degrees}, "
            f"{channels}], got {list(state.shape)}"
        )
        raise ShapeError(msg)
    if state.dtype != dtype or state.device != x.device:
        msg = (
            f"edge_state of rows is {state.dtype} on {state.device}, expected {dtype} "
            f"on {x.device}"
        )
        raise DtypeError(msg)
    return state


def check_edge_attr(attr: Tensor | None, edges: int, edge_dim: int, x: Tensor) -> None:
    """Check the user's invariants of the edges."""
    if (attr is None) != (edge_dim == 0):
        msg = (
            f"the layer was made with edge_dim={edge_dim}, but edge_attr is "
            f"{'missing' if attr is None else 'given'}"
        )
        raise ConfigError(msg)
    if attr is None:
        return
    if tuple(attr.shape) != (edges, edge_dim):
        msg = (
            f"edge_attr must have shape [{edges}, {edge_dim}], got {tuple(attr.shape)}"
        )
        raise ShapeError(msg)
    check_same(attr, "edge_attr", x)


def check_all_finite(values: dict[str, Tensor | None]) -> None:
    """Check several named tensors; None is left out."""
    for name, value in values.items():
        if value is not None:
            check_finite(value, name)


def check_finite(x: Tensor, name: str) -> None:
    """Name the first row of a tensor that holds NaN or infinity."""
    if torch.compiler.is_compiling() or is_batched(x):
        return
    values = x.detach()
    # one pass over the numbers: NaN and infinity go through to the extremes
    if not values.numel() or bool(torch.stack(values.aminmax()).isfinite().all()):
        return
    finite = values.isfinite()
    if not bool(finite.all()):
        row = int((~finite.flatten(1).all(1)).nonzero()[0])
        msg = f"{name} is not finite in row {row}; check where it comes from"
        raise NonFiniteError(msg)


def as_internal(x: Tensor, planes: int) -> Tensor:
    """Features ``[N, C]`` or ``[N, M, P, C]`` as complex (or real) ``[N, M, C]``."""
    if x.ndim == 2:
        x = x.unsqueeze(1)
        return torch.complex(x, torch.zeros_like(x)) if planes == 2 else x
    return x.squeeze(2) if planes == 1 else complex_of(x)


def make_geometry(
    edge_index: Any,
    edge_vec: Tensor | None,
    pos: Any,
    sizes: tuple[int, int],
    harmonics: str,
    *,
    bipartite: bool,
) -> EdgeGeometry:
    """An :class:`EdgeGeometry` from whatever the user has."""
    if isinstance(edge_index, EdgeGeometry):
        _check_given(edge_index, edge_vec, pos, sizes, harmonics)
        return edge_index
    index = _plain_index(edge_index)
    if (edge_vec is None) == (pos is None):
        msg = (
            "give exactly one of edge_vec (pos[target] - pos[source], Angstrom) and "
            "pos, or an EdgeGeometry in the place of edge_index"
        )
        raise ConfigError(msg)
    if edge_vec is None:
        edge_vec = _vectors(index, pos, sizes)
    count: int | tuple[int, int] = sizes if bipartite else sizes[0]
    return EdgeGeometry(index, edge_vec, count, harmonics=harmonics)


def _plain_index(edge_index: Any) -> Tensor:
    """``[2, E]`` from a tensor, an EdgeIndex or a (transposed) sparse adjacency."""
    if is_sparse(edge_index):
        row, column = to_edge_index(edge_index)[0]
        return torch.stack([column, row])
    if hasattr(edge_index, "as_tensor"):
        edge_index = edge_index.as_tensor()
    if not isinstance(edge_index, Tensor):
        msg = (
            "edge_index must be a [2, E] tensor, an EdgeIndex, a sparse adjacency "
            f"(transposed) or an EdgeGeometry, got {type(edge_index).__name__}"
        )
        raise DtypeError(msg)
    return edge_index


def _vectors(index: Tensor, pos: Any, sizes: tuple[int, int]) -> Tensor:
    source, target = as_pair(pos, "pos")
    for part, size in ((source, sizes[0]), (target, sizes[1])):
        if part.ndim != 2 or tuple(part.shape) != (size, 3):
            msg = f"pos must have shape [{size}, 3], got {tuple(part.shape)}"
            raise ShapeError(msg)
        if not part.is_floating_point():
            msg = f"pos must be a floating point tensor, got {part.dtype}"
            raise DtypeError(msg)
        refuse_batched("pos", part)
        check_finite(part, "pos")
    check_edge_index(index, sizes, source.device)
    return target[index[1]] - source[index[0]]


def _check_given(
    geometry: EdgeGeometry,
    edge_vec: Tensor | None,
    pos: Any,
    sizes: tuple[int, int],
    harmonics: str,
) -> None:
    if edge_vec is not None or pos is not None:
        msg = "an EdgeGeometry holds the vectors already: leave out edge_vec and pos"
        raise ConfigError(msg)
    if (geometry.num_sources, geometry.num_targets) != sizes:
        msg = (
            f"the EdgeGeometry was made for {geometry.num_sources} sources and "
            f"{geometry.num_targets} targets, x has {sizes[0]} and {sizes[1]}"
        )
        raise ShapeError(msg)
    if geometry.harmonics != harmonics:
        msg = (
            f"the layer uses {harmonics} harmonics, the EdgeGeometry "
            f"{geometry.harmonics} ones; make both with the same harmonics="
        )
        raise ConfigError(msg)
