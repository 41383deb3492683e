"""What operators are given: types, devices and shapes, checked once for every backend.

An operator checks its operands where it runs, eager or compiled, called by its name or
through ``torch.ops``. The values of index tensors are checked by the kernel itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

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


def check_count(name: str, values: Sequence[object], count: int) -> None:
    """Refuse a list of another length."""
    if len(values) != count:
        msg = f"{name} must have {count} entries, got {len(values)}"
        raise ConfigError(msg)


def stored(x: Tensor) -> bool:
    """Whether a contiguous tensor's memory is there; storages can be made smaller."""
    end = (x.storage_offset() + x.numel()) * x.element_size()
    return x.untyped_storage().nbytes() >= end or not x.numel()


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
    memory = (x.storage_offset() + x.numel()) * x.element_size()
    if (
        x.dtype == dtype
        and x.shape == shape
        and x.device == like.device
        and x.untyped_storage().nbytes() >= memory
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
