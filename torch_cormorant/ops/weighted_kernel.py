"""The weighted neighbour sum by the C++ kernels, see :mod:`.cpu_kernel`."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from torch_cormorant.cg import clebsch_gordan
from torch_cormorant.ops import cpu_kernel
from torch_cormorant.ops.plan import GraphPlan
from torch_cormorant.ops.portable import Need
from torch_cormorant.ops.product_paths import ProductPaths
from torch_cormorant.ops.splines import DEGREE
from torch_cormorant.ops.weighted_reference import block_shapes, weight_rows

MAX_LMAX = 3
"""Highest degree that the kernels were compiled for; the reference has no limit."""
_P, _I, _L = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64


class _Path(ctypes.Structure):
    _fields_ = (
        *((name, _I) for name in ("l1", "l2", "l", "channels", "out", "cg")),
        *((name, _L) for name in ("x", "w", "at")),
    )


class _Out(ctypes.Structure):
    _fields_ = (("components", _L), ("wide", _L))


class _Weighted(ctypes.Structure):
    _fields_ = (
        *((name, _L) for name in ("targets", "edges", "sources", "rows")),
        *((name, _L) for name in ("first", "last", "base")),
        *((name, _L) for name in ("x_dim", "sh_dim", "w_dim")),
        *((name, _I) for name in ("paths", "outs", "is_double", "threads")),
        *((name, _I) for name in ("need_x", "need_sh", "need_w", "need_out")),
        *((name, _P) for name in ("rowptr", "edge", "source", "row")),
        *((name, _P) for name in ("path", "cg", "x", "sh", "w", "table")),
        ("knots", _L),
        *((name, _P) for name in ("dplace", "of_out", "out")),
        *((name, _P) for name in ("dx", "dsh", "dw", "seen", "ux", "us", "uw")),
        *((name, _L) for name in ("ux_step", "us_step", "uw_step")),
        ("dout", _P),
    )


def fits(paths: ProductPaths) -> bool:
    """Whether the kernels were compiled for these degrees."""
    used = [l for path in paths.paths for l in paths.degrees(path)]
    return max(used, default=0) <= MAX_LMAX >= len(paths.second) - 1


class _Arrays:
    """Paths and coefficients as the kernels read them, kept alive."""

    def __init__(self, paths: ProductPaths, dtype: torch.dtype) -> None:
        tables, items, w, cg = [], [], 0, 0
        for path, size in zip(paths.paths, paths.sizes, strict=True):
            degrees = paths.degrees(path)
            x = paths.first.slices[path.first].start
            items.append(_Path(*degrees, size, path.out, cg, x, w, path.at))
            tables.append(clebsch_gordan(*degrees, dtype=dtype).flatten())
            w, cg = w + size, cg + tables[-1].numel()
        outs = [_Out(block.ir.dim, block.mul) for block in paths.out]
        self.cg, self.count = torch.cat(tables), len(outs)
        self.paths, self.outs = (_Path * len(items))(*items), (_Out * len(outs))(*outs)


@cache
def _arrays(paths: ProductPaths, dtype: torch.dtype) -> _Arrays:
    with torch.inference_mode(False), torch.device("cpu"):
        return _Arrays(paths, dtype)


class Problem:
    """One call: tensors that the kernels read and write.

    Args:
        x: Features.
        sh: Harmonics.
        w: Weights; with ``base``, those of edges ``base``, ``base + 1``, ... in the
            order of the plan.
        plan: The graph.
        paths: The paths.
        outs: Results, or gradients that arrive.
        base: See w. Default: rows of w belong to edges, or to pairs.
        table: Of splines; w then holds their places.
    """

    def __init__(
        self,
        x: Tensor,
        sh: Tensor,
        w: Tensor,
        plan: GraphPlan,
        paths: ProductPaths,
        outs: Sequence[Tensor],
        base: int | None = None,
        table: Tensor | None = None,
    ) -> None:
        arrays = _arrays(paths, x.dtype)
        self._pairs = weight_rows(w, plan) is not None and base is None
        row = plan.csr_row if self._pairs else plan.csr_edge
        self._plan, self._like = plan, (x, sh, w)
        pointers = self._pointers(outs)
        self._kept: list[object] = [arrays, pointers]
        self.struct = _Weighted(
            targets=plan.num_targets,
            edges=plan.num_edges,
            sources=x.shape[0],
            rows=w.shape[0],
            last=plan.num_targets,
            x_dim=paths.first.dim,
            sh_dim=paths.second.dim,
            w_dim=paths.weight_numel,
            paths=len(paths.paths),
            outs=arrays.count,
            is_double=int(x.dtype == torch.float64),
            rowptr=plan.rowptr.data_ptr(),
            edge=plan.csr_edge.data_ptr(),
            source=plan.csr_source.data_ptr(),
            row=row.data_ptr() if base is None else None,
            path=ctypes.addressof(arrays.paths),
            cg=arrays.cg.data_ptr(),
            of_out=ctypes.addressof(arrays.outs),
            out=pointers,
            x=x.data_ptr(),
            sh=sh.data_ptr(),
            w=w.data_ptr(),
        )
        self._splines, self._apart = table is not None, False
        if table is not None:
            self.struct.table = table.data_ptr()
            self.struct.knots = table.shape[0] - DEGREE

    @staticmethod
    def _pointers(parts: Sequence[Tensor]) -> Any:
        array = (_P * len(parts))(*(part.data_ptr() for part in parts))
        return ctypes.cast(array, _P)

    def receivers(self, first: int, last: int, base: int) -> None:
        """Compute these receivers only; row 0 of w belongs to edge ``base``."""
        self.struct.first, self.struct.last, self.struct.base = first, last, base

    def gradients(
        self, dx: Tensor | None, dsh: Tensor | None, dw: Tensor | None
    ) -> None:
        """Where gradients go."""
        struct = self.struct
        last = "dplace" if self._splines else "dw"
        for name, to, part in (("x", "dx", dx), ("sh", "dsh", dsh), ("w", last, dw)):
            setattr(struct, f"need_{name}", int(part is not None))
            setattr(struct, to, None if part is None else part.data_ptr())

    def new_gradients(self, need: Need) -> list[Tensor | None]:
        """The same with new tensors.

        That of weights of pairs has a row for every edge where there are several
        threads, or splines; one thread adds up by itself.
        """
        x, sh, w = self._like
        rows = None
        if need[2]:
            alone = torch.get_num_threads() == 1 and not self._splines
            self._apart = self._pairs and not alone
            count = w.shape[0] if alone else self._plan.num_edges
            rows = w.new_empty(count, *w.shape[1:])
            if alone and self._pairs:
                seen = torch.zeros(count, dtype=torch.uint8)
                self._kept.append(seen)
                self.struct.seen = seen.data_ptr()
        dx, dsh = (
            torch.zeros_like(part) if wanted else None
            for part, wanted in zip((x, sh), need, strict=False)
        )
        self.gradients(dx, dsh, rows)
        return [dx, dsh, rows]

    def collected(self, parts: list[Tensor | None]) -> list[Tensor | None]:
        """Gradients of edges added up to those of pairs, where weights have pairs."""
        pairs, rows = self._plan.pairs, parts[2]
        if self._apart and pairs is not None and rows is not None:
            total = torch.zeros_like(self._like[2])
            parts[2] = total.index_add_(0, pairs.of_edge, rows)
        return parts

    def cotangents(
        self, parts: Sequence[Tensor | None], dout: Sequence[Tensor]
    ) -> None:
        """Second order: cotangents of the gradients, and where those of out go."""
        names = ("ux", "us", "uw")
        for name, part, like in zip(names, parts, self._like, strict=True):
            step = 0 if part is None else like.shape[1]
            given = like.new_zeros(like.shape[1]) if part is None else part
            self._kept.append(given)
            setattr(self.struct, name, given.data_ptr())
            setattr(self.struct, f"{name}_step", step)
        pointers = self._pointers(dout)
        self._kept.append(pointers)
        self.struct.need_out, self.struct.dout = int(bool(dout)), pointers


def forward(
    x: Tensor,
    sh: Tensor,
    w: Tensor,
    plan: GraphPlan,
    paths: ProductPaths,
    table: Tensor | None = None,
) -> list[Tensor]:
    """The weighted sum; as in :mod:`torch_cormorant.ops.weighted_reference`."""
    outs = [x.new_empty(shape) for shape in block_shapes(plan.num_targets, paths)]
    problem = Problem(x, sh, w, plan, paths, outs, table=table)
    cpu_kernel.call("cormorant_weighted_forward", problem.struct)
    return outs


def backward(
    x: Tensor,
    sh: Tensor,
    w: Tensor,
    plan: GraphPlan,
    paths: ProductPaths,
    need: Need,
    grads: Sequence[Tensor],
    table: Tensor | None = None,
) -> list[Tensor | None]:
    """Its gradients; as in :mod:`torch_cormorant.ops.weighted_reference`."""
    problem = Problem(x, sh, w, plan, paths, grads, table=table)
    parts = problem.new_gradients(need)
    cpu_kernel.call("cormorant_weighted_backward", problem.struct)
    return problem.collected(parts)


def double_backward(
    x: Tensor,
    sh: Tensor,
    w: Tensor,
    plan: GraphPlan,
    paths: ProductPaths,
    need: Sequence[bool],
    grads: Sequence[Tensor],
    cotangents: Sequence[Tensor | None],
) -> tuple[list[Tensor | None], list[Tensor]]:
    """Gradients of <cotangents, gradients> for x, sh, w and for the grads."""
    problem = Problem(x, sh, w, plan, paths, grads)
    parts = problem.new_gradients((need[0], need[1], need[2]))
    dout = [torch.empty_like(grad) for grad in grads] if need[3] else []
    problem.cotangents(cotangents, dout)
    cpu_kernel.call("cormorant_weighted_second", problem.struct)
    return problem.collected(parts), dout
