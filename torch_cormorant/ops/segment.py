"""Sums over segments: what arrives at a node, deterministic and differentiable."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch import Tensor

from torch_cormorant.backends import SEGMENT_SUM, choose_backend, load_extension
from torch_cormorant.errors import DeviceError, DtypeError, EdgeIndexError, ShapeError

__all__ = ["scatter_sum", "segment_sum"]

# torch does not declare that a context takes attributes.
Context: TypeAlias = Any


def _segment_index(ptr: Tensor, num_rows: int) -> Tensor:
    """Segment of each row, ``[num_rows]``."""
    return torch.repeat_interleave(ptr.diff(), output_size=num_rows)


def _forward(src: Tensor, ptr: Tensor, use_torch_scatter: bool) -> Tensor:
    """Sum without a gradient, in a fixed order on every device."""
    if use_torch_scatter:
        summed = load_extension("torch_scatter").segment_csr(src.contiguous(), ptr)
    else:
        summed = torch.segment_reduce(
            src.contiguous(), "sum", offsets=ptr, axis=0, initial=0, unsafe=True
        )
    return torch.as_tensor(summed)


class _SegmentSum(torch.autograd.Function):
    """Segment sum whose gradient is a repetition, and so on to any order.

    The gradient of ``torch_scatter.segment_csr`` does not record its own operations, so
    second derivatives through it would be lost without a word.
    """

    @staticmethod
    def forward(
        ctx: Context, src: Tensor, ptr: Tensor, use_torch_scatter: bool
    ) -> Tensor:
        ctx.save_for_backward(ptr)
        ctx.num_rows = src.shape[0]
        ctx.use_torch_scatter = use_torch_scatter
        return _forward(src, ptr, use_torch_scatter)

    @staticmethod
    def backward(ctx: Context, *grads: Tensor) -> tuple[Tensor, None, None]:
        (ptr,) = ctx.saved_tensors
        args = (grads[0], ptr, ctx.num_rows, ctx.use_torch_scatter)
        spread = _SegmentRepeat.apply(*args)  # type: ignore[no-untyped-call]
        return spread, None, None


class _SegmentRepeat(torch.autograd.Function):
    """Give every row the value of its segment; the transpose of the segment sum."""

    @staticmethod
    def forward(
        ctx: Context,
        values: Tensor,
        ptr: Tensor,
        num_rows: int,
        use_torch_scatter: bool,
    ) -> Tensor:
        ctx.save_for_backward(ptr)
        ctx.use_torch_scatter = use_torch_scatter
        return values.index_select(0, _segment_index(ptr, num_rows))

    @staticmethod
    def backward(ctx: Context, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (ptr,) = ctx.saved_tensors
        args = (grads[0], ptr, ctx.use_torch_scatter)
        summed = _SegmentSum.apply(*args)  # type: ignore[no-untyped-call]
        return summed, None, None, None


def _check_source(src: Tensor, index: Tensor, name: str) -> None:
    """Check what the two sums have in common."""
    if not src.is_floating_point():
        message = f"src must have a floating-point type, got {src.dtype}"
        raise DtypeError(message)
    if index.dtype != torch.int64:
        message = f"{name} must be int64, got {index.dtype}; convert with .long()"
        raise DtypeError(message)
    if src.dim() == 0 or index.dim() != 1:
        message = (
            f"src needs at least one dimension and {name} exactly one, got shapes "
            f"{list(src.shape)} and {list(index.shape)}"
        )
        raise ShapeError(message)
    if src.device != index.device:
        message = f"src lies on {src.device} but {name} on {index.device}"
        raise DeviceError(message)


def _check_pointer(ptr: Tensor, num_rows: int) -> None:
    """Check the values of a segment pointer."""
    if ptr.shape[0] == 0:
        message = "ptr needs at least one entry: [0, ..., number of rows]"
        raise ShapeError(message)
    first, last = int(ptr[0]), int(ptr[-1])
    if first != 0 or last != num_rows or bool((ptr.diff() < 0).any()):
        message = (
            f"ptr must rise from 0 to the {num_rows} rows of src, got first entry "
            f"{first}, last entry {last}"
            + ("" if bool((ptr.diff() >= 0).all()) else " and a descent between them")
        )
        raise EdgeIndexError(message)


def segment_sum(
    src: Tensor, ptr: Tensor, backend: str = "auto", validate: bool = True
) -> Tensor:
    r"""Sum consecutive rows.

    .. math:: out_s = \sum_{e = ptr_s}^{ptr_{s+1} - 1} src_e

    Args:
        src: Rows, sorted by segment.
        ptr: First row of each segment, and the number of rows at the end.
        backend: ``"torch"``, ``"torch_scatter"`` (the extension) or ``"auto"``
            (default): ``"torch"``, on a CPU about as fast for narrow rows and several
            times faster for wide ones.
        validate: Check the values of ``ptr``, which waits for the device. Default
            True; pass False for a pointer that has been checked.

    Shapes:
        ``src``: ``[E, ...]``; ``ptr``: ``[S + 1]``.

    Returns:
        ``[S, ...]``; an empty segment gives zeros.

    Raises:
        ShapeError, DtypeError, DeviceError: Unfit tensors.
        EdgeIndexError: ``ptr`` does not rise from 0 to E.
        BackendError: The backend is unknown, missing or broken.

    Note:
        Deterministic on every device. Differentiable to any order.

    Example:
        >>> import torch
        >>> segment_sum(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 2, 2, 3]))
        tensor([3., 0., 4.])
    """
    _check_source(src, ptr, "ptr")
    if validate:
        _check_pointer(ptr, src.shape[0])
    use_torch_scatter = choose_backend(SEGMENT_SUM, backend) == "torch_scatter"
    if use_torch_scatter:
        load_extension("torch_scatter")
    num_segments = ptr.shape[0] - 1
    if src.numel() == 0 or not (use_torch_scatter or src.is_cuda):
        # On the CPU, adding row by row in order is faster than segment_reduce.
        index = _segment_index(ptr, src.shape[0])
        return src.new_zeros(num_segments, *src.shape[1:]).index_add(0, index, src)
    args = (src, ptr, use_torch_scatter)
    summed: Tensor = _SegmentSum.apply(*args)  # type: ignore[no-untyped-call]
    return summed


def scatter_sum(
    src: Tensor, index: Tensor, dim_size: int, validate: bool = True
) -> Tensor:
    r"""Sum rows by their index, which may have any order.

    .. math:: out_s = \sum_{e : index_e = s} src_e

    Args:
        src: Rows.
        index: Where each row is added, ``int64``, 0 to ``dim_size - 1``.
        dim_size: Number S of rows of the result.
        validate: Check the values of ``index``, which waits for the device. Default
            True; pass False for an index that has been checked. Skipped under
            ``torch.compile``.

    Shapes:
        ``src``: ``[E, ...]``; ``index``: ``[E]``.

    Returns:
        ``[S, ...]``; a row that no index names is zero.

    Raises:
        ShapeError, DtypeError, DeviceError: Unfit tensors.
        EdgeIndexError: An index out of range.

    Note:
        Deterministic on every device: on CUDA the rows are sorted first instead of
        added by atomic operations. Differentiable to any order.

    Example:
        >>> import torch
        >>> scatter_sum(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([2, 0, 2]), 3)
        tensor([2., 0., 5.])
    """
    _check_source(src, index, "index")
    if index.shape[0] != src.shape[0]:
        message = f"index has {index.shape[0]} entries, expected {src.shape[0]}"
        raise ShapeError(message)
    check = validate and not torch.compiler.is_compiling() and index.numel()
    if check and not 0 <= int(index.min()) <= int(index.max()) < dim_size:
        message = (
            f"index holds {int(index.min())} to {int(index.max())}, expected 0 to "
            f"dim_size - 1 = {dim_size - 1}"
        )
        raise EdgeIndexError(message)
    if not src.is_cuda:
        return src.new_zeros(dim_size, *src.shape[1:]).index_add(0, index, src)
    ordered, order = torch.sort(index, stable=True)
    bounds = torch.arange(dim_size + 1, device=index.device)
    ptr = torch.searchsorted(ordered, bounds)
    return segment_sum(src.index_select(0, order), ptr, "torch", validate=False)
