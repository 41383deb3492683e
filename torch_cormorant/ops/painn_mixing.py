r"""The mixing of PaiNN as one operator for CPUs: products, and the rest fused."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear, silu

from torch_cormorant.ops import cpu_kernel
from torch_cormorant.ops.cpu_kernel import address
from torch_cormorant.ops.dense import dense
from torch_cormorant.ops.keeping import KeepingOperator, Some, silu_slope, two_layers
from torch_cormorant.ops.operands import check_painn_mixing

_P, _I, _L = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
_FEATURES, _OUT, _GATES, _NORM, _DX = range(5)


class _Mixing(ctypes.Structure):
    _fields_ = (
        ("nodes", _L),
        *((name, _I) for name in ("channels", "is_double", "threads", "step")),
        ("eps", ctypes.c_double),
        *((name, _P) for name in ("x", "vu", "features", "gates")),
        *((name, _P) for name in ("grad", "dfeatures", "dvectors")),
        *((name, _P) for name in ("out", "dgates", "dvu")),
    )


def mixing(
    x: Tensor,
    vectors: Callable[[Tensor], Tensor],
    context: Callable[[Tensor], Tensor],
    eps: float,
) -> Tensor:
    """The mixing as it is written in formulas.

    Args:
        x: Scalars and vectors ``[N, 4 C]``.
        vectors: From rows of C to V and U side by side.
        context: From scalars and norms ``[N, 2 C]`` to ``[N, 3 C]``.
        eps: Under the root of the norm.

    Returns:
        ``[N, 4 C]``.
    """
    C = x.shape[1] // 4
    s, v = x[:, :C], x[:, C:].reshape(-1, C)  # one product for all components
    V, U = vectors(v).unflatten(0, (-1, 3)).split(C, dim=-1)
    norm = (V.square().sum(1) + eps).sqrt()
    a, b, d = context(torch.cat([s, norm], dim=1)).split(C, dim=-1)
    step = [a + d * (V * U).sum(1), (b.unsqueeze(1) * U).flatten(1)]
    return x + torch.cat(step, dim=1)


def painn_mixing(x: Tensor, weights: Sequence[Tensor], eps: float) -> Tensor:
    """:func:`mixing` as one operator.

    Args:
        x: Scalars and vectors ``[N, 4 C]``.
        weights: Of V and U ``[2 C, C]``; weight and bias of the two layers of the
            context network, ``[C, 2 C]``, ``[C]``, ``[3 C, C]``, ``[3 C]``.
        eps: Under the root of the norm.

    Returns:
        ``[N, 4 C]``.

    Raises:
        ShapeError, DtypeError, DeviceError: If a tensor does not fit the others.
        BackendError: If the kernel is missing.
    """
    found: Tensor = OPERATOR([x, *weights], eps)[0]
    return found


class _Stage:
    """As :class:`~torch_cormorant.ops.keeping.Stage` says."""

    def check(self, operands: Sequence[Tensor], eps: float) -> None:  # noqa: ARG002
        check_painn_mixing(operands)

    def shapes(self, operands: Sequence[Tensor], eps: float) -> list[tuple[int, ...]]:  # noqa: ARG002
        nodes, C = operands[0].shape[0], operands[1].shape[1]
        return [(nodes, width * C) for width in (4, 6, 2, 1, 3)]

    def composed(self, operands: Sequence[Tensor], eps: float) -> Tensor:
        x, vectors, *weights = operands
        return mixing(
            x, lambda v: linear(v, vectors), lambda f: two_layers(f, weights), eps
        )

    def value(self, operands: Sequence[Tensor], eps: float) -> list[Tensor]:
        x, vectors, first, bias, second, other = operands
        C, out = vectors.shape[1], torch.empty_like(x)
        vu = dense(x[:, C:].reshape(-1, C), vectors.t()).view(-1, 6 * C)
        features = x.new_empty(x.shape[0], 2 * C)
        _run(x, _FEATURES, eps, vu=vu, features=features)
        h = dense(features, first.t(), bias)
        gates = dense(silu(h), second.t(), other)
        _run(x, _OUT, vu=vu, gates=gates, out=out)
        return [out, vu, features, h, gates]

    def slopes(
        self,
        operands: Sequence[Tensor],
        kept: Sequence[Tensor],
        grad: Tensor,
        need: Sequence[bool],
        eps: float,  # noqa: ARG002
    ) -> Some:
        x, vectors, first, _, second, _ = operands
        vu, features, h, gates = kept
        C = vectors.shape[1]
        dgates, dvu = torch.empty_like(gates), torch.empty_like(vu)
        _run(x, _GATES, vu=vu, gates=gates, grad=grad, dgates=dgates, dvu=dvu)
        dh = silu_slope(dense(dgates, second), h)
        dfeatures = dense(dh, first)
        _run(x, _NORM, vu=vu, features=features, dfeatures=dfeatures, dvu=dvu)
        rows, dx = dvu.view(-1, 2 * C), None
        if need[0]:
            dx = torch.empty_like(x)
            dv = dense(rows, vectors)
            _run(x, _DX, grad=grad, dfeatures=dfeatures, dvectors=dv, out=dx)
        return [
            dx,
            rows.t() @ x[:, C:].reshape(-1, C) if need[1] else None,
            dh.t() @ features if need[2] else None,
            dh.sum(0) if need[3] else None,
            dgates.t() @ silu(h) if need[4] else None,
            dgates.sum(0) if need[5] else None,
        ]


def _run(x: Tensor, step: int, eps: float = 0.0, **tensors: Tensor) -> None:
    struct = _Mixing(
        nodes=x.shape[0],
        channels=x.shape[1] // 4,
        is_double=int(x.dtype == torch.float64),
        step=step,
        eps=eps,
        x=x.data_ptr(),
    )
    for name, value in tensors.items():
        setattr(struct, name, address(value))
    cpu_kernel.call("cormorant_painn_mixing", struct)


OPERATOR = KeepingOperator("painn_mixing", "float eps", _Stage())
