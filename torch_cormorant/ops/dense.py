"""Products of matrices by the kernels, where those are the faster ones."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from torch_cormorant.ops import cpu_kernel
from torch_cormorant.ops.cpu_kernel import address

_P, _I, _L = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
COLUMNS = 16
"""The kernels compute so many columns at a time."""
WIDE = 64
"""Bytes of a vector of AVX-512."""


class _Dense(ctypes.Structure):
    _fields_ = (
        *((name, _L) for name in ("rows", "steps", "cols", "a_row", "c_row")),
        *((name, _I) for name in ("is_double", "threads", "add")),
        *((name, _P) for name in ("a", "b", "bias", "c")),
    )


def dense(
    a: Tensor,
    b: Tensor,
    bias: Tensor | None = None,
    *,
    out: Tensor | None = None,
    onto: Tensor | None = None,
) -> Tensor:
    """``a b``, ``bias + a b``, or ``onto`` after ``a b`` was added to it.

    With AVX-512 by the kernels: on some processors the library behind PyTorch has no
    more than half of their speed. Elsewhere by PyTorch. On CPUs, without gradients.

    Args:
        a: ``[M, K]``, with whole rows one after the other or further apart.
        b: ``[K, N]``.
        bias: ``[N]``.
        out: Where the result goes ``[M, N]``, as a, without a bias.
        onto: What it is added to, the same.

    Example:
        >>> dense(torch.ones(1, 2), torch.ones(2, 1))
        tensor([[2.]])
    """
    fast = cpu_kernel.vector_bytes() == WIDE and not b.shape[1] % COLUMNS
    c = out if onto is None else onto
    if not fast or a.stride(1) != 1 or (c is not None and c.stride(1) != 1):
        if onto is not None:
            return onto.addmm_(a, b)
        if bias is None:
            return torch.mm(a, b, out=out)
        return torch.addmm(bias, a, b)
    b = b.contiguous()
    bias = None if bias is None else bias.contiguous()
    c = a.new_empty(a.shape[0], b.shape[1]) if c is None else c
    struct = _Dense(
        rows=a.shape[0],
        steps=a.shape[1],
        cols=b.shape[1],
        a_row=a.stride(0),
        c_row=c.stride(0),
        is_double=int(a.dtype == torch.float64),
        add=int(onto is not None),
        a=a.data_ptr(),
        b=b.data_ptr(),
        bias=address(bias),
        c=c.data_ptr(),
    )
    cpu_kernel.call("cormorant_dense", struct)
    return c
