r"""The equivariant norm as one operator for CPUs.

:math:`F'^{l,c}_m = \gamma_{l,c} F^{l,c}_m / \sqrt{\epsilon + \langle |F^l|^2 \rangle}`
with the mean over the components and channels of a node.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from torch_cormorant.ops import composed, cpu_kernel
from torch_cormorant.ops.cpu_kernel import address
from torch_cormorant.ops.operands import check_norm
from torch_cormorant.ops.second_order import Problem, Some, twice_differentiable
from torch_cormorant.so3.layout import degree_index

_P, _I, _L = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64


class _Norm(ctypes.Structure):
    _fields_ = (
        ("nodes", _L),
        *((name, _I) for name in ("channels", "planes", "lmax")),
        *((name, _I) for name in ("is_double", "threads", "second")),
        ("eps", ctypes.c_double),
        *((name, _P) for name in ("x", "weight", "grad")),
        *((name, _P) for name in ("tangent_x", "tangent_weight")),
        *((name, _P) for name in ("out", "dx", "dweight")),
    )


def so3_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Scale every degree of every node to a mean power of about one.

    Args:
        x: Real ``[N, M, P, C]``.
        weight: One factor for each degree and channel ``[lmax + 1, C]``.
        eps: Added to the mean power.

    Returns:
        ``[N, M, P, C]``.

    Raises:
        ShapeError, DtypeError, DeviceError: If a tensor does not fit the other.
        BackendError: If the kernel is missing.
    """
    found: Tensor = _norm([x, weight], [], [], [eps])[0]
    return found


class _Kernel:
    """As :class:`~torch_cormorant.ops.second_order.Kernel` says."""

    def results(self, p: Problem) -> list[Tensor]:
        x = p.operands[0]
        return [x.new_empty(x.shape)]

    def prepare(self, p: Problem) -> Any:
        x, weight = p.operands
        check_norm(x, weight)
        return _Norm(
            nodes=x.shape[0],
            channels=x.shape[3],
            planes=x.shape[2],
            lmax=math.isqrt(x.shape[1]) - 1,
            is_double=int(x.dtype == torch.float64),
            eps=p.numbers[0],
            x=x.data_ptr(),
            weight=weight.data_ptr(),
        )

    def composed(self, p: Problem) -> list[Tensor]:
        x, weight = p.operands
        degrees = degree_index(weight.shape[0] - 1)
        return [composed.norm(x, weight, p.numbers[0], degrees)]

    def forward(self, p: Problem) -> list[Tensor]:
        (out,) = self.results(p)
        _run(p, out=out)
        return [out]

    def backward(self, p: Problem, grads: Some, need: Sequence[bool]) -> Some:
        dx, dweight = _room(p.operands, need)
        _run(p, grad=_there(grads, p), dx=dx, dweight=dweight)
        return [dx, dweight]

    def reached(
        self,
        sizes: Sequence[int],  # noqa: ARG002
        given: Sequence[bool],
        need: Sequence[bool],
    ) -> list[bool]:
        """Operands that the gradient depends on; it is linear in the weight."""
        return [need[0], need[1] and given[0]]

    def double_backward(
        self,
        p: Problem,
        grads: Some,
        tangents: Some,
        need: Sequence[bool],
        need_grads: Sequence[bool],
    ) -> tuple[Some, Some]:
        dx, dweight = _room(p.operands, need)
        out = self.results(p)[0] if need_grads[0] else None
        _run(
            p,
            grad=_there(grads, p),
            tangent_x=tangents[0],
            tangent_weight=tangents[1],
            dx=dx,
            dweight=dweight,
            out=out,
            second=True,
        )
        return [dx, dweight], [out]


def _room(likes: Sequence[Tensor], need: Sequence[bool]) -> Some:
    return [
        torch.empty_like(like) if wanted else None
        for like, wanted in zip(likes, need, strict=True)
    ]


def _there(grads: Some, p: Problem) -> Tensor:
    return torch.zeros_like(p.operands[0]) if grads[0] is None else grads[0]


def _run(p: Problem, *, second: bool = False, **tensors: Tensor | None) -> None:
    struct = cpu_kernel.copied(p.made or KERNEL.prepare(p))
    struct.second = second
    for name, value in tensors.items():
        setattr(struct, name, address(value))
    cpu_kernel.call("cormorant_norm", struct)


KERNEL = _Kernel()
_norm = twice_differentiable("so3_norm", KERNEL)
