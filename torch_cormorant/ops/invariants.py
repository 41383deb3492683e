"""Invariants of the levels of a network as one operator for CPUs."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from torch_cormorant.ops import composed, cpu_kernel
from torch_cormorant.ops.cpu_kernel import address, pointers
from torch_cormorant.ops.operands import check_levels
from torch_cormorant.ops.second_order import Problem, Some, twice_differentiable

_P, _I, _L = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64


class _Invariants(ctypes.Structure):
    _fields_ = (
        *((name, _L) for name in ("nodes", "columns")),
        *((name, _I) for name in ("levels", "is_complex", "is_double", "threads")),
        ("second", _I),
        *((name, _P) for name in ("sizes", "x", "tangents", "grad", "out", "dx")),
    )


def level_invariants(levels: Sequence[Tensor]) -> Tensor:
    """All invariants of a list of levels; see :func:`torch_cormorant.nn.scalars`.

    Args:
        levels: Real tensors ``[N, M_s, P, C_s]``.

    Returns:
        ``[N, I]``: the l = 0 channels of all levels, then for every degree, level and
        channel the bilinear and the norm (P = 1: the norm alone).

    Raises:
        ShapeError, DtypeError, DeviceError: If a level does not fit the first.
        BackendError: If the kernel is missing.
    """
    found: Tensor = _invariants(list(levels), [], [], [])[0]
    return found


class _Kernel:
    """As :class:`~torch_cormorant.ops.second_order.Kernel` says."""

    def results(self, p: Problem) -> list[Tensor]:
        x = p.operands[0]
        return [x.new_empty(x.shape[0], _columns(p.operands))]

    def prepare(self, p: Problem) -> Any:
        levels = p.operands
        check_levels(levels)
        pairs = [(x.shape[3], math.isqrt(x.shape[1]) - 1) for x in levels]
        sizes = (_I * (2 * len(pairs)))(*(number for pair in pairs for number in pair))
        x = pointers(levels)
        struct = _Invariants(
            nodes=levels[0].shape[0],
            columns=_columns(levels),
            levels=len(levels),
            is_complex=int(levels[0].shape[2] == 2),
            is_double=int(levels[0].dtype == torch.float64),
            sizes=ctypes.addressof(sizes),
            x=ctypes.addressof(x),
        )
        return struct, sizes, x

    def composed(self, p: Problem) -> list[Tensor]:
        return [composed.invariants(p.operands)]

    def forward(self, p: Problem) -> list[Tensor]:
        (out,) = self.results(p)
        _run(p, out=out)
        return [out]

    def backward(self, p: Problem, grads: Some, need: Sequence[bool]) -> Some:
        found = _room(p.operands, need)
        _run(p, grad=_there(grads, self.results(p)), dx=found)
        return found

    def reached(
        self,
        sizes: Sequence[int],  # noqa: ARG002
        given: Sequence[bool],
        need: Sequence[bool],
    ) -> list[bool]:
        """Operands that the gradient depends on: each on its own."""
        return [a and b for a, b in zip(need, given, strict=True)]

    def double_backward(
        self,
        p: Problem,
        grads: Some,
        tangents: Some,
        need: Sequence[bool],
        need_grads: Sequence[bool],
    ) -> tuple[Some, Some]:
        found = _room(
            p.operands, self.reached([], [t is not None for t in tangents], need)
        )
        (like,) = self.results(p)
        out = like if need_grads[0] else None
        _run(p, grad=_there(grads, [like]), tangents=tangents, out=out, dx=found)
        parts = zip(p.operands, found, need, strict=True)
        full = [torch.zeros_like(x) if w and d is None else d for x, d, w in parts]
        return full, [out]


def _columns(levels: Sequence[Tensor]) -> int:
    degrees = [math.isqrt(level.shape[1]) for level in levels]
    sizes = zip(degrees, levels, strict=True)
    return sum((count + 1) * x.shape[2] * x.shape[3] for count, x in sizes)


def _room(likes: Sequence[Tensor], need: Sequence[bool]) -> Some:
    return [
        torch.empty_like(like) if wanted else None
        for like, wanted in zip(likes, need, strict=True)
    ]


def _there(grads: Some, likes: Sequence[Tensor]) -> Tensor:
    return torch.zeros_like(likes[0]) if grads[0] is None else grads[0]


def _run(
    p: Problem,
    *,
    grad: Tensor | None = None,
    out: Tensor | None = None,
    tangents: Some | None = None,
    dx: Some | None = None,
) -> None:
    made, *_kept = p.made or _KERNEL.prepare(p)
    struct = cpu_kernel.copied(made)
    struct.second = tangents is not None
    struct.grad, struct.out = address(grad), address(out)
    along = None if tangents is None else pointers(tangents)
    room = None if dx is None else pointers(dx)
    struct.tangents = along and ctypes.addressof(along)
    struct.dx = room and ctypes.addressof(room)
    cpu_kernel.call("cormorant_invariants", struct)


_KERNEL = _Kernel()
_invariants = twice_differentiable("level_invariants", _KERNEL)
