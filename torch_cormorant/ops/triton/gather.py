"""Sum rows of a buffer by owner, in a fixed order: the kernels' second pass."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from torch_cormorant.ops.triton.layout import Members

_LANES = 128
_WIDEST = 512


@triton.jit(do_not_specialize=["rows", "copies", "stride"])  # type: ignore[untyped-decorator]
def gather_kernel(
    BUFFER: Any,
    POINTER: Any,
    INDEX: Any,
    OUT: Any,
    rows: Any,
    copies: Any,
    stride: Any,
    WIDTH: tl.constexpr,
    W: tl.constexpr,
    R: tl.constexpr,
    ADD: tl.constexpr,
) -> None:
    """Sum buffer[u, index[k]] over an owner's entries k and the copies u."""
    lane = tl.arange(0, W * R)
    column = tl.program_id(1) * W + lane % W
    row = tl.program_id(0).to(tl.int64) * R + lane // W
    within = row < rows
    row = tl.where(within, row, 0)
    live = within & (column < WIDTH)
    first = tl.load(POINTER + row, mask=within, other=0)
    last = tl.load(POINTER + row + 1, mask=within, other=0)
    count = (last - first).to(tl.int32)
    total = tl.zeros([W * R], OUT.dtype.element_ty)
    out = OUT + row * WIDTH + column
    if ADD:
        total = tl.load(out, mask=live & (count > 0), other=0.0)
    for k in range(tl.max(count, axis=0)):
        there = within & (k < count)
        index = tl.load(INDEX + first + k, mask=there, other=0)
        now = live & there
        for u in range(copies):
            source = BUFFER + (index + u * stride.to(tl.int64)) * WIDTH + column
            total += tl.load(source, mask=now, other=0.0)
    write = live
    if ADD:
        write = live & (count > 0)
    tl.store(out, total, mask=write)


def gather_sum(
    buffer: Tensor,
    members: Members,
    out: Tensor,
    copies: int = 1,
    *,
    add: bool = False,
) -> None:
    """Sum the entries of every owner into its row of out.

    Args:
        buffer: Real ``[copies * slots, ...]``, the copies one after the other.
        members: The entries of every owner, slots of the first copy.
        out: Real, its rows as wide as those of the buffer.
        copies: How many copies of every slot there are.
        add: Add to out instead of replacing it.
    """
    rows = members.pointer.numel() - 1
    width = out[0].numel() if out.shape[0] else 0
    if rows == 0 or width == 0:
        return
    lanes = min(triton.next_power_of_2(width), _WIDEST)
    receivers = max(1, _LANES // lanes)
    grid = (triton.cdiv(rows, receivers), triton.cdiv(width, lanes))
    with torch.cuda.device(out.device) if out.is_cuda else torch.no_grad():
        gather_kernel[grid](
            buffer,
            members.pointer,
            members.index,
            out,
            rows,
            copies,
            buffer.shape[0] // copies,
            WIDTH=width,
            W=lanes,
            R=receivers,
            ADD=add,
            num_warps=4,
            enable_fp_fusion=True,
        )
