"""What operators are given: types, devices and shapes, checked once for every backend.

An operator checks its operands where it runs, eager or compiled, called by its name or
through ``torch.ops``. The values of index tensors are checked by the kernel itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from torch_cormorant.errors import (
    ConfigError,
    DeviceError,
    DtypeError,
    EdgeIndexError,
    ShapeError,
)
from torch_cormorant.ops.paths import PathTable
from torch_cormorant.ops.plan import GraphPlan
from torch_cormorant.ops.portable import shapes
from torch_cormorant.ops.product_paths import ProductPaths
from torch_cormorant.ops.vertex_paths import VertexPaths

FEATURES = (torch.float32, torch.float64, torch.complex64, torch.complex128)
"""Number types of SO(3)-vectors and edge scalars."""


FEATURE_AXES = ("nodes", "components", "channels")


def check_rank(name: str, value: object, axes: Sequence[str]) -> Tensor:
    """Refuse what is no tensor with these axes."""
    if not isinstance(value, Tensor):
        msg = f"{name} must be a tensor, got {type(value).__name__}"
        raise DtypeError(msg)
    if value.ndim != len(axes):
        msg = f"{name} must have shape [{', '.join(axes)}], got {list(value.shape)}"
        raise ShapeError(msg)
    return value


def check_sum(x: Tensor, g: Tensor, sh: Tensor, plan: GraphPlan, t: PathTable) -> None:
    """Check the operands of the neighbour sum against each other and the graph."""
    _features("x", x)
    channels = x.shape[-1]
    _alike("x", x, (plan.num_sources, (t.used_lmax2 + 1) ** 2, channels), x.dtype, x)
    pairs = None if plan.pairs is None else plan.pairs.edge.shape[0]
    rows = plan.num_edges
    if pairs is not None and g.ndim and g.shape[0] == pairs:
        rows = pairs
    _alike("g", g, (rows, t.lmax1 + 1, channels), x.dtype, x)
    harmonics = (plan.num_edges, (t.lmax1 + 1) ** 2)
    _alike("sh", sh, harmonics, x.dtype.to_real(), x)
    if plan.packed.device != x.device:
        _elsewhere("the plan", plan.packed, x)
    if not stored(plan.packed):
        _no_memory("the plan")


def check_weighted(
    x: Tensor, sh: Tensor, w: Tensor, plan: GraphPlan, paths: ProductPaths
) -> None:
    """Check the operands of the weighted sum against each other and the graph."""
    _weighted(x, sh, plan, paths, "uvu")
    _alike("weights", w, (_edge_rows(w, plan), paths.weight_numel), x.dtype, x)


def check_linear(
    x: Tensor,
    sh: Tensor,
    hidden: Tensor,
    last: Tensor,
    plan: GraphPlan,
    paths: ProductPaths,
) -> None:
    """The same where the last layer of the network of weights is given too."""
    _weighted(x, sh, plan, paths, "uvu")
    width = hidden.shape[-1] if hidden.ndim else 0
    _alike("hidden", hidden, (plan.num_edges, width), x.dtype, x)
    _alike("last", last, (width, paths.weight_numel), x.dtype, x)


def check_splines(
    x: Tensor,
    sh: Tensor,
    place: Tensor,
    table: Tensor,
    plan: GraphPlan,
    paths: ProductPaths,
) -> None:
    """The same where the weights are splines."""
    _weighted(x, sh, plan, paths, "uvu")
    _alike("place", place, (_edge_rows(place, plan),), x.dtype, x)
    rows = table.shape[0] if table.ndim else 0
    _alike("table", table, (max(rows, 6), paths.weight_numel), x.dtype, x)


def check_full(
    x: Tensor,
    sh: Tensor,
    hidden: Tensor,
    last: Tensor,
    plan: GraphPlan,
    paths: ProductPaths,
) -> None:
    """Check the operands of the full convolution, the last layer among them."""
    check_rank("sh", sh, ("edges", "components"))
    check_rank("hidden", hidden, ("edges", "hidden"))
    check_rank("last", last, ("hidden", "weights"))
    _weighted(x, sh, plan, paths, "uvw")
    width, rows = hidden.shape[1], _edge_rows(hidden, plan)
    _alike("hidden", hidden, (rows, width), x.dtype, x)
    _alike("last", last, (width, paths.weight_numel), x.dtype, x)


def _edge_rows(w: Tensor, plan: GraphPlan) -> int:
    """How many rows there are, a row for each pair or for each edge."""
    pairs = None if plan.pairs is None else plan.pairs.edge.shape[0]
    return pairs if pairs is not None and w.shape[:1] == (pairs,) else plan.num_edges


def _weighted(
    x: Tensor, sh: Tensor, plan: GraphPlan, paths: ProductPaths, mode: str
) -> None:
    check_rank("x", x, ("nodes", "numbers"))
    if x.dtype not in FEATURES[:2]:
        msg = f"x must be float32 or float64, got {x.dtype}; convert it first"
        raise DtypeError(msg)
    harmonics = [(block.mul, block.ir.l) for block in paths.second]
    if paths.mode != mode or harmonics != [(1, l) for l in range(len(harmonics))]:
        msg = (
            f'paths must be of mode "{mode}" with the harmonics of degrees 0, 1, 2, '
            f"..., once each, as second operand, got {paths}"
        )
        raise ConfigError(msg)
    if not paths.weight_numel:
        raise ConfigError(f"there is no path in {paths}; check its irreps")
    _alike("x", x, (plan.num_sources, paths.first.dim), x.dtype, x)
    _alike("sh", sh, (plan.num_edges, paths.second.dim), x.dtype, x)
    if plan.packed.device != x.device:
        _elsewhere("the plan", plan.packed, x)
    if not stored(plan.packed):
        _no_memory("the plan")


def check_blocks(
    grads: Sequence[Tensor], nodes: int, paths: ProductPaths, like: Tensor
) -> None:
    """Check gradients of the blocks of a product of irreps."""
    check_count("grads", grads, len(paths.out))
    for k, (grad, block) in enumerate(zip(grads, paths.out, strict=True)):
        shape = (nodes, block.ir.dim, block.mul)
        _alike(f"grads[{k}]", grad, shape, like.dtype, like)


def check_product(x: Tensor, y: Tensor, table: PathTable) -> None:
    """Check the operands of the CG product node by node."""
    _features("x", x)
    nodes, _, channels = x.shape
    _alike("x", x, (nodes, (table.lmax1 + 1) ** 2, channels), x.dtype, x)
    second = (table.used_lmax2 + 1) ** 2
    _alike("y", y, (nodes, second, channels), x.dtype, x)


def check_vertex(
    aggregate: Sequence[Tensor],
    x: Tensor,
    weights: Sequence[Tensor],
    paths: VertexPaths,
) -> None:
    """Check the operands of the vertex step against each other and its paths."""
    _features("x", x)
    nodes, _, channels = x.shape
    _alike("x", x, (nodes, (paths.lmax_in + 1) ** 2, channels), x.dtype, x)
    sums = shapes(nodes, paths.sums, channels)
    check_count("aggregate", aggregate, len(sums))
    for l, (part, shape) in enumerate(zip(aggregate, sums, strict=True)):
        _alike(f"aggregate[{l}]", part, shape, x.dtype, x)
    check_count("weights", weights, paths.lmax + 1)
    outs = check_rank("weights[0]", weights[0], ("planes", "outputs", "columns"))
    planes, dtype = 1 + x.is_complex(), x.dtype.to_real()
    for l, (weight, blocks) in enumerate(zip(weights, paths.blocks, strict=True)):
        columns = (planes, outs.shape[1], blocks * channels)
        _alike(f"weights[{l}]", weight, columns, dtype, x)


def check_edge_network(
    parts: Mapping[str, Tensor],
    weights: Sequence[Tensor],
    index: Sequence[Tensor],
    widths: Sequence[tuple[int, ...]],
) -> None:
    """Check the operands of the edge network against each other and its columns."""
    x = parts["target"]
    _features("target", x)
    pairs, channels, dtype = index[0].shape[0], x.shape[-1], x.dtype.to_real()
    planes, side = 1 + x.is_complex(), widths[0][1] // channels
    shapes: dict[str, tuple[int, ...]] = {
        "target": (x.shape[0], side * side, channels),
        "radial": (pairs, planes * widths[0][2]),
        "length": (pairs,),
        "rows": (pairs, channels),
        "radius": (channels,),
        "width": (channels,),
    }
    if "source" in parts:
        rows = check_rank("source", parts["source"], FEATURE_AXES).shape[0]
        shapes["source"] = (rows, side * side, channels)
    if "state" in parts:
        state = check_rank("state", parts["state"], ("pairs", "degrees", "channels"))
        used = sum(row[0] > 0 for row in widths)
        shapes["state"] = (pairs, max(used, state.shape[1]), widths[0][0])
    _check_columns(widths, side * channels)
    for name, part in parts.items():
        kind = x.dtype if name in {"target", "source", "state"} else dtype
        _alike(name, part, shapes[name], kind, x)
    check_count("weights", weights, len(widths))
    for l, (weight, row) in enumerate(zip(weights, widths, strict=True)):
        _alike(f"weights[{l}]", weight, (planes, channels, sum(row)), dtype, x)
    for name, part in zip(("index_a", "index_b"), index, strict=True):
        _alike(name, part, (pairs,), torch.int64, x)


def _check_columns(widths: Sequence[tuple[int, ...]], dots: int) -> None:
    """State and dots belong to the first degrees, radial functions to all."""
    state, _, radial, _ = widths[0]
    ends = [[row[k] for row in widths] for k in (0, 1)]
    steady = all(row == sorted(row, reverse=True) for row in ends)
    known = all(a in {0, state} and b in {0, dots} for a, b, _, _ in widths)
    if not steady or not known or any(row[2] != radial for row in widths) or not dots:
        msg = (
            "columns of weights must be [state, dots, radial functions, others], the "
            f"same for all degrees that have them, got {[*widths]}"
        )
        raise ShapeError(msg)


def check_frames(vec: Tensor, pairs: Tensor | None) -> None:
    """Check vectors of edges, and those whose lengths are wanted."""
    if vec.dtype not in FEATURES[:2]:
        msg = f"vec must be float32 or float64, got {vec.dtype}; convert it first"
        raise DtypeError(msg)
    _alike("vec", vec, (vec.shape[0], 3), vec.dtype, vec)
    if pairs is not None:
        _alike("pairs", pairs, tuple(pairs.shape), torch.int64, vec)


def check_radial(operands: Sequence[Tensor], functions: int) -> None:
    """Check lengths of pairs, and frequencies and phases where there are any."""
    length = check_rank("length", operands[0], ("pairs",))
    if length.dtype not in FEATURES[:2]:
        msg = f"length must be float32 or float64, got {length.dtype}; convert it first"
        raise DtypeError(msg)
    _alike("length", length, tuple(length.shape), length.dtype, length)
    for name, part in zip(("scales", "phases"), operands[1:], strict=False):
        _alike(name, part, (functions,), length.dtype, length)


def check_planes(name: str, x: object) -> Tensor:
    """Refuse what is no real SO(3)-vector with planes."""
    x = check_rank(name, x, ("nodes", "components", "planes", "channels"))
    if x.dtype not in FEATURES[:2]:
        msg = f"{name} must be float32 or float64, got {x.dtype}; convert it first"
        raise DtypeError(msg)
    if math.isqrt(x.shape[1]) ** 2 != x.shape[1] or not x.shape[1]:
        msg = f"{name} must have (lmax + 1)^2 components on axis 1, got {x.shape[1]}"
        raise ShapeError(msg)
    if x.shape[2] not in (1, 2):
        msg = f"{name} must have one or two planes on axis 2, got {x.shape[2]}"
        raise ShapeError(msg)
    return x


def check_norm(x: Tensor, weight: Tensor) -> None:
    """Check the operands of the equivariant norm."""
    check_planes("x", x)
    _alike("x", x, tuple(x.shape), x.dtype, x)
    _alike("weight", weight, (math.isqrt(x.shape[1]), x.shape[-1]), x.dtype, x)


def check_painn_mixing(operands: Sequence[Tensor]) -> None:
    """Check the operands of PaiNN's mixing against its first weight."""
    check_count("operands", operands, 6)
    x, vectors = operands[:2]
    C = check_rank("weight of vectors", vectors, ("outputs", "inputs")).shape[1]
    _check_rows("x", x, 4 * C)
    _alike("weight of vectors", vectors, (2 * C, C), x.dtype, x)
    _check_context(operands[2:], 2 * C, C, x)


def check_painn_message(
    operands: Sequence[Tensor], plan: GraphPlan, pairs: int
) -> None:
    """Check the operands of PaiNN's message against each other and the graph."""
    check_count("operands", operands, 8)
    x, sh, hidden, last, first = operands[:5]
    C = check_rank("weight 0 of the context", first, ("outputs", "inputs")).shape[0]
    scalars = last.numel() > 0 and x.shape[1:] == (C,)
    _check_rows("x", x, C if scalars else 4 * C)
    _alike("x", x, (plan.num_sources, x.shape[1]), x.dtype, x)
    _alike("sh", sh, (plan.num_edges, 4), x.dtype, x)
    if last.numel():
        width = check_rank("hidden", hidden, ("pairs", "hidden")).shape[1]
        _alike("hidden", hidden, (pairs, width), x.dtype, x)
        _alike("last", last, (width, 3 * C), x.dtype, x)
    else:
        _alike("weights", hidden, (pairs, 3 * C), x.dtype, x)
    _check_context(operands[4:], C, C, x)
    if plan.packed.device != x.device:
        _elsewhere("the plan", plan.packed, x)
    if not stored(plan.packed):
        _no_memory("the plan")


def _check_rows(name: str, x: Tensor, width: int) -> None:
    check_rank(name, x, ("nodes", "numbers"))
    if x.dtype not in FEATURES[:2]:
        msg = f"{name} must be float32 or float64, got {x.dtype}; convert it first"
        raise DtypeError(msg)
    _alike(name, x, (x.shape[0], width), x.dtype, x)


def _check_context(
    weights: Sequence[Tensor], inputs: int, C: int, like: Tensor
) -> None:
    """Weight and bias of two layers with C hidden features and 3 C results."""
    shapes = [(C, inputs), (C,), (3 * C, C), (3 * C,)]
    for k, (weight, shape) in enumerate(zip(weights, shapes, strict=True)):
        name = "bias" if k % 2 else "weight"
        _alike(f"{name} {k // 2} of the context", weight, shape, like.dtype, like)


def check_levels(levels: Sequence[Tensor]) -> None:
    """Check the levels of a network against the first."""
    if not levels:
        msg = "levels must hold at least one tensor"
        raise ConfigError(msg)
    nodes, _, planes, _ = check_planes("levels[0]", levels[0]).shape
    for k, level in enumerate(levels):
        _, *sizes = check_planes(f"levels[{k}]", level).shape
        shape = (nodes, sizes[0], planes, sizes[2])
        _alike(f"levels[{k}]", level, shape, levels[0].dtype, levels[0])


def check_dots(a: Tensor, b: Tensor, index_a: Tensor, index_b: Tensor) -> None:
    """Check the operands of dot products along edges."""
    _features("a", a)
    if math.isqrt(a.shape[1]) ** 2 != a.shape[1] or not a.shape[1]:
        msg = f"a must have (lmax + 1)^2 components on axis 1, got {a.shape[1]}"
        raise ShapeError(msg)
    _alike("b", b, (b.shape[0] if b.ndim else 0, *a.shape[1:]), a.dtype, a)
    edges = index_a.shape[0] if index_a.ndim else 0
    _alike("index_a", index_a, (edges,), torch.int64, a)
    _alike("index_b", index_b, (edges,), torch.int64, a)


def check_rows(name: str, index: Tensor, rows: int) -> None:
    """Refuse indices beyond some rows; not on a GPU, which would be waited for."""
    if not index.numel() or index.device.type != "cpu":
        return
    least, most = (int(value) for value in index.aminmax())
    if least < 0 or most >= rows:
        msg = f"{name} must hold 0 to {rows - 1}, got {least} to {most}"
        raise EdgeIndexError(msg)


def check_spread(
    a: Tensor,
    b: Tensor,
    index_a: Tensor,
    index_b: Tensor,
    u: Tensor,
    need: Sequence[bool],
) -> None:
    """Check the operands of the gradient of dot products."""
    check_dots(a, b, index_a, index_b)
    check_count("need", need, 2)
    degrees = math.isqrt(a.shape[1])
    _alike("u", u, (index_a.shape[0], degrees, a.shape[-1]), a.dtype, a)


def check_results(
    grads: Sequence[Tensor], nodes: int, table: PathTable, like: Tensor
) -> None:
    """Check gradients of the results, one tensor for each degree."""
    expected = shapes(nodes, table, like.shape[-1])
    check_count("grads", grads, len(expected))
    for l, (grad, shape) in enumerate(zip(grads, expected, strict=True)):
        _alike(f"grads[{l}]", grad, shape, like.dtype, like)


def check_like(name: str, value: Tensor, like: Tensor) -> None:
    """Refuse a tensor that has not the shape, type and device of another one."""
    _alike(name, value, tuple(like.shape), like.dtype, like)


def check_shape(name: str, value: Tensor, shape: Sequence[int], like: Tensor) -> None:
    """Refuse a tensor of another shape, or of another type and device than one."""
    _alike(name, value, shape, like.dtype, like)


def check_count(name: str, values: Sequence[object], count: int) -> None:
    """Refuse a list of another length."""
    if len(values) != count:
        msg = f"{name} must have {count} entries, got {len(values)}"
        raise ConfigError(msg)


def stored(x: Tensor) -> bool:
    """Whether a contiguous tensor's memory is there; storages can be made smaller."""
    return x.untyped_storage().nbytes() >= _end(x) or not x.numel()


def _end(x: Tensor) -> Any:
    """Bytes of a storage up to the end of a contiguous tensor."""
    return (x.storage_offset() + x.numel()) * x.element_size()


def _features(name: str, x: Tensor) -> None:
    check_rank(name, x, FEATURE_AXES)
    if x.dtype not in FEATURES:
        msg = (
            f"{name} must be float32, float64, complex64 or complex128, got {x.dtype}; "
            "convert it first, with .float() for example"
        )
        raise DtypeError(msg)
    if not x.shape[-1]:
        msg = f"{name} must have at least one channel, got shape {list(x.shape)}"
        raise ShapeError(msg)


def _alike(
    name: str, x: Tensor, shape: Sequence[int], dtype: torch.dtype, like: Tensor
) -> None:
    # in the order of what it costs: this runs before every operator
    if (
        x.dtype == dtype
        and x.shape == shape
        and ((x.is_cpu and like.is_cpu) or x.device == like.device)
        and x.untyped_storage().nbytes() >= _end(x)
    ):
        return
    if x.dtype != dtype:
        msg = f"{name} must be {dtype} beside {like.dtype} features, got {x.dtype}"
        raise DtypeError(msg)
    if x.shape != shape:
        msg = f"{name} must have shape {list(shape)}, got {list(x.shape)}"
        raise ShapeError(msg)
    if x.device != like.device:
        _elsewhere(name, x, like)
    if not stored(x):
        _no_memory(name)


def _elsewhere(name: str, x: Tensor, like: Tensor) -> None:
    msg = f"{name} lies on {x.device}, the features on {like.device}; move one of them"
    raise DeviceError(msg)


def _no_memory(name: str) -> None:
    msg = f"the memory of {name} was freed or made smaller; make the tensor anew"
    raise ShapeError(msg)
