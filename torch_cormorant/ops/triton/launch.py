"""Compile the generated kernels once, allocate, launch."""

from __future__ import annotations

import linecache
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch
import triton
from torch import Tensor

from torch_cormorant.errors import BackendError
from torch_cormorant.ops.paths import PathTable
from torch_cormorant.ops.plan import GraphPlan
from torch_cormorant.ops.triton.gather import gather_sum
from torch_cormorant.ops.triton.layout import Group, Rows, rows_of
from torch_cormorant.ops.triton.source import arguments, source_text
from torch_cormorant.ops.triton.units import (
    DOUBLE,
    DOUBLE_REGISTERS,
    LANES,
    PLAIN,
    REGISTERS,
    GradientUnit,
    Spec,
    Term,
    gradient_units,
    kernels,
)

BUFFER_BYTES = 1 << 30
"""Size of the buffers of one group of receivers in the backward passes."""
ALIGNMENT = 16
"""Bytes; Triton tells addresses that are multiples of it from others."""

Need = tuple[bool, bool, bool]
Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]


@cache
def built(spec: Spec) -> tuple[Any, ...]:
    """The compiled kernels of a spec (Triton compiles at their first launch)."""
    text = source_text(spec)
    name = f"<torch_cormorant triton {abs(hash(spec)):x}>"
    # Triton reads a kernel's source back through inspect, hence through linecache.
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    space: dict[str, Any] = {"__name__": f"torch_cormorant_triton_{abs(hash(spec)):x}"}
    exec(compile(text, name, "exec"), space)  # noqa: S102
    return tuple(space[f"kernel_{k}"] for k in range(len(kernels(spec))))


def lanes_for(channels: int) -> int:
    """Channels per program: the power of two that leaves the fewest lanes idle."""
    options = [32, 16, 8, 4, 2, 1]
    best = min(-(-channels // width) * width for width in options[:3])
    if channels < 8:
        return int(triton.next_power_of_2(channels))
    return next(w for w in options if -(-channels // w) * w == best)


def make_spec(
    table: PathTable,
    channels: int,
    terms: tuple[Term, ...],
    need: Need,
    *,
    is_complex: bool,
    sums: bool,
    dtype: torch.dtype = torch.float32,
    registers: int | None = None,
) -> Spec:
    """The spec for a number of channels and a (real) type."""
    width = lanes_for(channels)
    exact = width == LANES and channels % width == 0
    if registers is None:
        registers = REGISTERS if terms == PLAIN else DOUBLE_REGISTERS
        # A number of double precision takes two registers.
        registers = registers * 4 // dtype.itemsize
    return Spec(table, is_complex, terms, sums, need, width, exact, registers)


def interpreting() -> bool:
    """Whether Triton runs in its interpreter, on the CPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def numbers(x: Tensor) -> Tensor:
    """Contiguous real numbers, ``[..., 2]`` for a complex tensor."""
    plain = x.detach().resolve_conj().resolve_neg().contiguous()
    return torch.view_as_real(plain) if plain.is_complex() else plain


def aligned(x: Tensor) -> Tensor:
    """The numbers of an input at an address that is a multiple of 16.

    Part of a larger tensor may begin anywhere, and Triton would compile its kernels
    anew for that.
    """
    found = numbers(x)
    return found.clone() if found.data_ptr() % ALIGNMENT else found


def _checked(x: Tensor) -> None:
    if not (x.is_cuda or interpreting()):
        msg = (
            f"the Triton kernels take CUDA tensors, got one on {x.device}; use the "
            "portable path there, or set TRITON_INTERPRET=1 before triton is imported"
        )
        raise BackendError(msg)


class _Call:
    """One call of the kernels of a spec on one graph."""

    def __init__(
        self,
        arrays: dict[str, Tensor],
        plan: GraphPlan,
        table: PathTable,
        terms: tuple[Term, ...],
        need: Need,
        *,
        sums: bool,
    ) -> None:
        x = arrays["x"]
        _checked(x)
        self.plan, self.table, self.like = plan, table, x
        self.arrays = {name: aligned(array) for name, array in arrays.items()}
        self.channels = x.shape[-1]
        self.parts = 2 if x.is_complex() else 1
        self.spec = make_spec(
            table,
            self.channels,
            terms,
            need,
            is_complex=x.is_complex(),
            sums=sums,
            dtype=arrays["y"].dtype,
        )
        pairs = plan.pairs
        # The same rule as the portable path: as many rows as pairs means pairs.
        self.on_pairs = (
            pairs is not None and arrays["g"].shape[0] == pairs.edge.shape[0]
        )
        self.rows: Rows
        self.components = (table.used_lmax2 + 1) ** 2
        self.harmonics = (table.lmax1 + 1) ** 2

    @property
    def blocks(self) -> int:
        """Programs that share the channels."""
        return -(-self.channels // self.spec.width)

    def outputs(self) -> list[Tensor]:
        """One tensor per degree, with room for the rows of parted receivers."""
        length = self.plan.num_targets + self.rows.extra
        return [
            self.like.new_empty(length, 2 * l + 1, count, self.channels)
            for l, count in enumerate(self.table.counts)
        ]

    def launch(self, group: Group, tensors: dict[str, Tensor]) -> None:
        """Launch every kernel of the spec on one group of rows."""
        rows = self.rows
        tensors |= {
            "SRC": rows.source,
            "GROW": rows.pair if self.on_pairs else rows.edge,
            "YROW": rows.edge,
            "START": rows.start,
            "COUNT": rows.count,
            "NODE": rows.node,
            "SUMROW": rows.target,
        }
        names = {"x": "X_", "ux": "X_", "g": "G_", "ug": "G_", "y": "Y_", "uy": "Y_"}
        tensors |= {names[name] + name: t for name, t in self.arrays.items()}
        values: dict[str, Tensor | int] = {
            **tensors,
            "first": group.first,
            "rows": group.rows,
            "slots": group.slots,
            "base": group.base,
        }
        args = [values[name] for name in arguments(self.spec)]
        rest = {
            "C": self.channels,
            "XW": self.arrays["x"][0].numel() if len(self.arrays["x"]) else 0,
            "GW": self.arrays["g"][0].numel() if len(self.arrays["g"]) else 0,
            "YW": self.arrays["y"].shape[1],
        }
        programs = -(-group.rows * self.spec.width // LANES)
        with self.device():
            for kernel, units in zip(built(self.spec), kernels(self.spec), strict=True):
                grid = (programs * len(units), self.blocks)
                kernel[grid](*args, **rest, num_warps=1, enable_fp_fusion=True)

    def device(self) -> AbstractContextManager[Any]:
        """Triton launches on the current device."""
        if not self.like.is_cuda:
            return nullcontext()
        return torch.cuda.device(self.like.device)

    def fold(self, outs: list[Tensor]) -> list[Tensor]:
        """Add the further rows of parted receivers to their first one."""
        if self.rows.further is None:
            return outs
        for out in outs:
            flat = numbers(out)
            gather_sum(flat, self.rows.further, flat, add=True)
        return [out[: self.plan.num_targets] for out in outs]


def run(
    arrays: dict[str, Tensor],
    plan: GraphPlan,
    table: PathTable,
    terms: tuple[Term, ...],
    need: Need,
    grads: Sequence[Tensor],
    *,
    sums: bool,
) -> tuple[list[Tensor], Gradients]:
    """Sums and gradients of the scalar that the terms describe."""
    call = _Call(arrays, plan, table, terms, need, sums=sums)
    finish = _Gradients(call) if any(need) else None
    call.rows = rows_of(plan, plan.num_edges if finish is None else finish.slots)
    outs = call.outputs() if sums else []
    tensors = {f"O{l}": numbers(out) for l, out in enumerate(outs)}
    if finish is not None:
        tensors |= {f"D{l}": aligned(grad) for l, grad in enumerate(grads)}
    for number, group in enumerate(call.rows.groups):
        buffers = finish.buffers(group) if finish is not None else {}
        if group.rows:
            call.launch(group, tensors | buffers)
        if finish is not None:
            finish.collect(group, buffers, add=number > 0)
    results = finish.results if finish is not None else (None, None, None)
    return call.fold(outs) if sums else [], results


class _Gradients:
    """Buffers with one row per edge, and their sums."""

    def __init__(self, call: _Call) -> None:
        self.call = call
        need_x, need_g, need_y = call.spec.need
        wide = call.parts * call.channels
        self.units = sum(
            isinstance(unit, GradientUnit) for unit in gradient_units(call.spec)
        )
        self.copies = {"x": 1, "g": self.units, "y": self.units * call.blocks}
        self.widths = {
            "x": call.components * wide if need_x else 0,
            "g": (call.table.lmax1 + 1) * wide if need_g else 0,
            "y": call.harmonics if need_y else 0,
        }
        size = call.arrays["y"].element_size()
        row = sum(self.copies[name] * self.widths[name] for name in "xgy") * size
        self.slots = max(1, BUFFER_BYTES // row)
        # Columns that no kernel writes stay zero.
        sizes = {"x": call.components, "g": call.table.lmax1 + 1, "y": call.harmonics}
        self.totals = {
            name: self._total(call.arrays[name], sizes[name])
            for name in "xgy"
            if self.widths[name]
        }

    def _total(self, array: Tensor, used: int) -> Tensor:
        return torch.empty_like(array[:, :used])

    def buffers(self, group: Group) -> dict[str, Tensor]:
        """Fresh buffers of a group, under the kernels' names for them."""
        like = self.call.arrays["y"]
        return {
            f"P{name.upper()}": like.new_empty(
                self.copies[name] * group.slots, self.widths[name]
            )
            for name in self.totals
        }

    def collect(self, group: Group, buffers: dict[str, Tensor], *, add: bool) -> None:
        """Sum the buffers of a group by source, by pair or edge, and by edge."""
        kinds = {"x": "source", "g": "pair" if self.call.on_pairs else "edge"}
        for name, total in self.totals.items():
            kind = kinds.get(name, "edge")
            members = self.call.rows.members(kind, group, total.shape[0])
            copies = self.copies[name]
            gather_sum(buffers[f"P{name.upper()}"], members, total, copies, add=add)

    @property
    def results(self) -> Gradients:
        """The gradients in the type and shape of x, g and y."""
        found: list[Tensor | None] = []
        for name in "xgy":
            total = self.totals.get(name)
            if total is None:
                found.append(None)
                continue
            array = self.call.arrays[name]
            if total.shape != array.shape:
                whole = torch.zeros_like(array)
                whole[:, : total.shape[1]] = total
                total = whole
            is_complex = self.call.parts == 2 and name != "y"
            found.append(torch.view_as_complex(total) if is_complex else total)
        return found[0], found[1], found[2]


def forward(
    x: Tensor, g: Tensor, sh: Tensor, plan: GraphPlan, table: PathTable
) -> list[Tensor]:
    """See :func:`torch_cormorant.ops.triton.forward`."""
    nothing = (False, False, False)
    arrays = {"x": x, "g": g, "y": sh}
    return run(arrays, plan, table, PLAIN, nothing, (), sums=True)[0]


def backward(
    x: Tensor,
    g: Tensor,
    sh: Tensor,
    plan: GraphPlan,
    table: PathTable,
    need: Need,
    grads: Sequence[Tensor],
) -> Gradients:
    """See :func:`torch_cormorant.ops.triton.backward`."""
    if not any(need):
        return None, None, None
    arrays = {"x": x, "g": g, "y": sh}
    return run(arrays, plan, table, PLAIN, need, grads, sums=False)[1]


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
) -> tuple[Tensor | None, Tensor | None, Tensor | None, list[Tensor] | None]:
    """See :func:`torch_cormorant.ops.triton.double_backward`."""
    arrays = {"x": x, "g": g, "y": sh}
    terms = []
    for term, name, cotangent in zip(
        DOUBLE, ("ux", "ug", "uy"), cotangents, strict=True
    ):
        if cotangent is not None:
            arrays[name] = cotangent
            terms.append(term)
    if not terms or not (any(need) or need_grads):
        return None, None, None, None
    results = run(arrays, plan, table, tuple(terms), need, grads, sums=need_grads)
    return *results[1], results[0] if need_grads else None
