"""The C++ kernels for CPUs, called through a plain C interface.

Built with the package when a compiler is at hand (``setup.py``, sources in ``csrc``),
not linked against torch. ``CORMORANT_CPU_KERNEL=0`` in the environment switches them
off. Instruction set (AVX-512, AVX2 or what every processor has) chosen at run time;
threads follow :func:`torch.get_num_threads`; results do not depend on their number.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torch_cormorant.cg import clebsch_gordan
from torch_cormorant.errors import BackendError, EdgeIndexError
from torch_cormorant.ops.paths import PathTable
from torch_cormorant.ops.plan import GraphPlan
from torch_cormorant.ops.portable import Need, shapes
from torch_cormorant.ops.tensors import real_view

FILE = Path(__file__).with_name("_cpu_kernel.so")
SWITCH = "CORMORANT_CPU_KERNEL"
MAX_LMAX = 6
_ABI = 10
_P, _I, _L = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
_FAILURES = {1: "out of memory", 2: "the system gives no more threads"}
_INDICES = {
    3: ("rowptr of the plan", "rowptr"),
    4: ("csr_edge of the plan", "edges"),
    5: ("csr_source of the plan", "sources"),
    6: ("csr_row of the plan", "rows"),
    7: ("index_a", "rows_a"),
    8: ("index_b", "rows_b"),
    9: ("pairs of the plan", "edges"),
}
"""Statuses of an index tensor with a value out of range, and the size it exceeds."""


class Coefficients(ctypes.Structure):
    """Clebsch-Gordan coefficients of a table."""

    _fields_ = (
        *((name, _I) for name in ("first", "second", "degrees", "rows")),
        *((name, _I) for name in ("row_runs", "col_runs")),
        *((name, _P) for name in ("row_run", "row_col", "row_val")),
        *((name, _P) for name in ("row_degree", "row_offset")),
        *((name, _P) for name in ("col_run", "col_entry", "col_row", "col_val")),
        ("used", _P),
    )


class _Sum(ctypes.Structure):
    _fields_ = (
        *((name, _L) for name in ("targets", "edges", "sources", "rows", "wide")),
        *((name, _I) for name in ("lmax1", "is_complex", "is_double", "threads")),
        *((name, _I) for name in ("need_x", "need_g", "need_sh", "fresh_g")),
        ("second", _I),
        *((name, _P) for name in ("x", "g", "sh")),
        *((name, _P) for name in ("tangent_x", "tangent_g", "tangent_sh")),
        *((name, _P) for name in ("rowptr", "edge", "source", "row")),
        ("cg", Coefficients),
        *((name, _P) for name in ("out", "out_rows", "dx", "dg", "dsh")),
    )


class _Square(ctypes.Structure):
    _fields_ = (
        *((name, _L) for name in ("nodes", "wide")),
        *((name, _I) for name in ("is_complex", "is_double", "threads")),
        *((name, _P) for name in ("x", "y")),
        ("cg", Coefficients),
        *((name, _P) for name in ("out", "out_rows", "dx", "dy")),
    )


class _Dots(ctypes.Structure):
    _fields_ = (
        *((name, _L) for name in ("edges", "rows_a", "rows_b", "wide")),
        *((name, _I) for name in ("lmax", "is_complex", "is_double", "threads")),
        *((name, _P) for name in ("a", "b", "index_a", "index_b", "out", "da", "db")),
    )


@cache
def _load() -> tuple[ctypes.CDLL | None, str]:
    if not FILE.is_file():
        return None, "not built"
    try:
        found = ctypes.CDLL(str(FILE))
        if found.cormorant_abi() != _ABI:
            return None, "built for another version"
    except (OSError, AttributeError) as error:
        return None, f"broken: {str(error).splitlines()[0]}"
    found.cormorant_isa.restype = ctypes.c_char_p
    return found, ""


def problem() -> str:
    """Why the kernel cannot be used, empty when it can."""
    if os.environ.get(SWITCH) == "0":
        return f"switched off by {SWITCH}=0"
    return _load()[1]


def remedy() -> str:
    """What to do about :func:`problem`."""
    if os.environ.get(SWITCH) == "0":
        return f"unset {SWITCH}"
    return "install torch-cormorant again with a C++ compiler (g++ or clang++) at hand"


def library() -> Any:
    """The loaded kernels.

    Raises:
        BackendError: If they are missing or switched off.
    """
    state = problem()
    if state:
        message = f"the CPU kernel is {state}; to enable it: {remedy()}"
        raise BackendError(message)
    return _load()[0]


def instruction_set() -> str:
    """Instructions that the kernels use here: "avx512", "avx2" or "baseline"."""
    return str(library().cormorant_isa().decode())


def vector_bytes() -> int:
    """Size of the vectors that the kernels compute with."""
    return int(library().cormorant_vector_bytes())


def fits(table: PathTable) -> bool:
    """Whether the kernels were compiled for these degrees."""
    return max(table.lmax1, table.lmax2) <= MAX_LMAX


class _Arrays:
    """The coefficients of a table as the kernels read them, kept alive."""

    def __init__(self, table: PathTable, dtype: torch.dtype) -> None:
        first, second = (table.lmax1 + 1) ** 2, (table.used_lmax2 + 1) ** 2
        rows = _rows(table, dtype)
        # sums of equal length after one another: loops the processor can foresee
        rows.sort(key=lambda row: len(row[2]))
        columns: list[list[tuple[int, float]]] = [[] for _ in range(first * second)]
        for k, (_, _, entries) in enumerate(rows):
            for column, value in entries:
                columns[column].append((k, value))
        entry = sorted(range(len(columns)), key=lambda q: len(columns[q]))
        row_run, *by_row = _runs([entries for _, _, entries in rows], dtype)
        col_run, *by_column = _runs([columns[q] for q in entry], dtype)
        counts = [(2 * l + 1) * count for l, count in enumerate(table.counts)]
        self.out_rows = torch.tensor(counts, dtype=torch.int64)
        self.kept = (
            row_run,
            *by_row,
            torch.tensor([l for l, _, _ in rows], dtype=torch.int32),
            torch.tensor([at for _, at, _ in rows], dtype=torch.int64),
            col_run,
            torch.tensor(entry, dtype=torch.int32),
            *by_column,
            torch.tensor([*map(len, columns)], dtype=torch.int32),
        )
        sizes = (first, second, len(counts), len(rows), len(row_run), len(col_run))
        self.used = [q for q, column in enumerate(columns) if column]
        self.struct = Coefficients(*sizes, *(part.data_ptr() for part in self.kept))


Row = tuple[int, int, list[tuple[int, float]]]


def _rows(table: PathTable, dtype: torch.dtype) -> list[Row]:
    """(degree, position in a node, entries) of every row of the result."""
    first, rows = (table.lmax1 + 1) ** 2, []
    for block in table.blocks:
        for l, position, _ in block.places:
            cg = clebsch_gordan(block.l1, block.l2, l, dtype=dtype)
            for m in range(2 * l + 1):
                part = cg[:, :, m]
                entries = [
                    (
                        (block.l2**2 + b) * first + block.l1**2 + a,
                        float(part[a, b]),
                    )
                    for a, b in part.nonzero().tolist()
                ]
                rows.append((l, m * table.counts[l] + position, entries))
    return rows


def _runs(
    lists: list[list[tuple[int, float]]], dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """(how many, length) of lists of equal length, then all indices and values."""
    runs = [(len([*group]), n) for n, group in groupby(map(len, lists))]
    flat = [entry for entries in lists for entry in entries]
    index = torch.tensor([k for k, _ in flat], dtype=torch.int32)
    value = torch.tensor([v for _, v in flat], dtype=dtype)
    return torch.tensor(runs, dtype=torch.int32), index, value


@cache
def coefficients(table: PathTable, dtype: torch.dtype) -> _Arrays:
    """The coefficients of a table as the kernels read them."""
    # whatever the user's default device is: the kernels read these arrays
    with torch.inference_mode(False), torch.device("cpu"):
        return _Arrays(table, dtype)


@cache
def _entry(name: str) -> Any:
    return getattr(library(), name)


def copied(struct: Any) -> Any:
    """A copy of a structure, to be filled in further."""
    return type(struct).from_buffer_copy(struct)


def call(name: str, struct: Any) -> None:
    """Run one entry point; with one thread where the system gives no more."""
    entry = _entry(name)
    struct.threads = torch.get_num_threads()
    status = entry(ctypes.byref(struct))
    if status == 2:
        struct.threads = 1
        status = entry(ctypes.byref(struct))
    if status in _INDICES:
        tensor, size = _INDICES[status]
        expected = (
            f"rise from 0 to {struct.edges}, the number of edges"
            if size == "rowptr"
            else f"hold 0 to {getattr(struct, size) - 1}"
        )
        message = f"{tensor} must {expected}; it holds other numbers"
        raise EdgeIndexError(message)
    if status:
        message = f"the CPU kernel failed: {_FAILURES.get(status, status)}"
        raise BackendError(message)


@cache
def addresses(count: int) -> Any:
    """Type of an array of addresses; ctypes would make it anew every time."""
    return _P * count


def pointers(parts: Sequence[Tensor | None]) -> Any:
    """Addresses of tensors; None: there is none."""
    places = [None if part is None else part.data_ptr() for part in parts]
    return addresses(len(parts))(*places)


def address(x: Tensor | None) -> int | None:
    """Where the numbers of a tensor lie."""
    return None if x is None else x.data_ptr()


def _kind(x: Tensor) -> dict[str, int]:
    real = real_view(x)
    return {
        "wide": real.shape[-1],
        "is_complex": int(x.is_complex()),
        "is_double": int(real.dtype == torch.float64),
    }


def prepare_sum(
    x: Tensor, g: Tensor, sh: Tensor, plan: GraphPlan, table: PathTable
) -> _Sum:
    """What the kernel is told of the operands of a neighbour sum: addresses."""
    arrays = coefficients(table, x.dtype.to_real())
    paired = plan.pairs is not None and g.shape[0] == plan.pairs.edge.shape[0]
    row = plan.csr_row if paired else plan.csr_edge
    return _Sum(
        targets=plan.num_targets,
        edges=plan.num_edges,
        sources=x.shape[0],
        rows=g.shape[0],
        lmax1=table.lmax1,
        fresh_g=int(not paired),
        x=x.data_ptr(),
        g=g.data_ptr(),
        sh=sh.data_ptr(),
        rowptr=plan.rowptr.data_ptr(),
        edge=plan.csr_edge.data_ptr(),
        source=plan.csr_source.data_ptr(),
        row=row.data_ptr(),
        cg=arrays.struct,
        out_rows=arrays.out_rows.data_ptr(),
        **_kind(x),
    )


def _sum_call(made: _Sum, parts: Sequence[Tensor]) -> tuple[_Sum, Any]:
    """A call of its own, with the sums or their gradients; and what it reads."""
    struct, kept = copied(made), pointers(parts)
    struct.out = ctypes.addressof(kept)
    return struct, kept


def forward(
    x: Tensor,
    g: Tensor,
    sh: Tensor,
    plan: GraphPlan,
    table: PathTable,
    made: _Sum | None = None,
) -> list[Tensor]:
    """The neighbour sum; as in :mod:`torch_cormorant.ops.portable`.

    ``made``: what :func:`prepare_sum` gave, here and below.
    """
    sizes = shapes(plan.num_targets, table, x.shape[-1])
    outs = [x.new_empty(size) for size in sizes]
    struct, _kept = _sum_call(made or prepare_sum(x, g, sh, plan, table), outs)
    call("cormorant_sum_forward", struct)
    return outs


def backward(
    x: Tensor,
    g: Tensor,
    sh: Tensor,
    plan: GraphPlan,
    table: PathTable,
    need: Need,
    grads: Sequence[Tensor],
    made: _Sum | None = None,
    known: Tensor | None = None,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Its gradients; as in :mod:`torch_cormorant.ops.portable`.

    ``known``: what the gradient of x is added to, in place.
    """
    fresh = (need[0] and known is None, *need[1:])
    dx, dg, dsh = (
        torch.zeros_like(part) if needed else None
        for part, needed in zip((x, g, sh), fresh, strict=True)
    )
    dx = dx if known is None else known
    struct, _kept = _sum_call(made or prepare_sum(x, g, sh, plan, table), grads)
    struct.need_x, struct.need_g, struct.need_sh = map(int, need)
    struct.dx, struct.dg, struct.dsh = map(address, (dx, dg, dsh))
    call("cormorant_sum_backward", struct)
    return dx, dg, dsh


def double_backward(
    x: Tensor,
    g: Tensor,
    sh: Tensor,
    plan: GraphPlan,
    table: PathTable,
    need: Need,
    need_grads: bool,
    grads: Sequence[Tensor],
    cotangents: Sequence[Tensor | None],
    made: _Sum | None = None,
) -> tuple[Tensor | None, Tensor | None, Tensor | None, list[Tensor] | None]:
    """Gradients of the gradients: the sum and its gradient along cotangents.

    Args:
        x: As in :func:`backward`, and so on.
        g: The same.
        sh: The same.
        plan: The same.
        table: The same.
        need: Whether x, g and sh need a gradient.
        need_grads: Whether ``grads`` do.
        grads: Gradients of the sums.
        cotangents: Of the gradients of x, g and sh; None: zero.
        made: The same.
    """
    parts: list[Tensor | None] = [
        torch.zeros_like(part) if needed else None
        for part, needed in zip((x, g, sh), need, strict=True)
    ]
    struct, _kept = _sum_call(made or prepare_sum(x, g, sh, plan, table), grads)
    struct.second = 1
    struct.tangent_x, struct.tangent_g, struct.tangent_sh = map(address, cotangents)
    if any(need):
        struct.need_x, struct.need_g, struct.need_sh = map(int, need)
        struct.dx, struct.dg, struct.dsh = map(address, parts)
        call("cormorant_sum_backward", struct)
    if not need_grads:
        return parts[0], parts[1], parts[2], None
    outs = [torch.empty_like(grad) for grad in grads]
    array = pointers(outs)
    struct.out = ctypes.addressof(array)
    call("cormorant_sum_forward", struct)
    return parts[0], parts[1], parts[2], outs


def square(x: Tensor, y: Tensor, table: PathTable) -> list[Tensor]:
    """CG product of every node of x with the same node of y."""
    sizes = shapes(x.shape[0], table, x.shape[-1])
    outs = [x.new_empty(size) for size in sizes]
    struct, _kept = _square_struct(x, y, table, outs)
    call("cormorant_square_forward", struct)
    return outs


def square_gradient(
    x: Tensor, y: Tensor, table: PathTable, grads: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """Gradients of :func:`square` with respect to x and y."""
    dx, dy = torch.empty_like(x), torch.empty_like(y)
    struct, _kept = _square_struct(x, y, table, grads)
    struct.dx, struct.dy = dx.data_ptr(), dy.data_ptr()
    call("cormorant_square_backward", struct)
    return dx, dy


def _square_struct(
    x: Tensor, y: Tensor, table: PathTable, outs: Sequence[Tensor]
) -> tuple[_Square, Any]:
    arrays = coefficients(table, x.dtype.to_real())
    kept = pointers(outs)
    struct = _Square(
        nodes=x.shape[0],
        x=x.data_ptr(),
        y=y.data_ptr(),
        cg=arrays.struct,
        out=ctypes.cast(kept, _P),
        out_rows=arrays.out_rows.data_ptr(),
        **_kind(x),
    )
    return struct, kept


def dots(a: Tensor, b: Tensor, index_a: Tensor, index_b: Tensor) -> Tensor:
    """Dot products of rows of a with rows of b, degree by degree."""
    lmax = round(a.shape[1] ** 0.5) - 1
    out = a.new_empty(index_a.numel(), lmax + 1, a.shape[-1])
    call("cormorant_dots_forward", _dots_struct(a, b, index_a, index_b, out))
    return out


def dots_gradient(
    a: Tensor,
    b: Tensor,
    index_a: Tensor,
    index_b: Tensor,
    u: Tensor,
    need: tuple[bool, bool],
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of :func:`dots` with respect to a and b, None where not needed."""
    da, db = (
        torch.zeros_like(part) if needed else None
        for part, needed in zip((a, b), need, strict=True)
    )
    struct = _dots_struct(a, b, index_a, index_b, u)
    struct.da, struct.db = map(address, (da, db))
    call("cormorant_dots_backward", struct)
    return da, db


def _dots_struct(
    a: Tensor, b: Tensor, index_a: Tensor, index_b: Tensor, out: Tensor
) -> _Dots:
    return _Dots(
        edges=index_a.numel(),
        rows_a=a.shape[0],
        rows_b=b.shape[0],
        lmax=round(a.shape[1] ** 0.5) - 1,
        a=a.data_ptr(),
        b=b.data_ptr(),
        index_a=index_a.data_ptr(),
        index_b=index_b.data_ptr(),
        out=out.data_ptr(),
        **_kind(a),
    )
