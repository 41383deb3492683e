r"""Harmonics and lengths of the edges of a graph as one operator for CPUs.

Derivatives of a solid harmonic are solid harmonics of the degree below,

.. math::
    \partial_k S_{lm} = \sum_{m'} D^k_{lm, m'} S_{l-1, m'},

with few coefficients, so that first and second derivatives are sums of products with
one table. Those of unit vectors follow by :math:`du = (dv - u (u \cdot dv)) / r`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from torch_cormorant.errors import ConfigError
from torch_cormorant.ops import cpu_kernel
from torch_cormorant.ops.cpu_kernel import address
from torch_cormorant.ops.operands import check_count, check_frames, check_rank
from torch_cormorant.ops.second_order import Problem, Some, twice_differentiable
from torch_cormorant.ops.tensors import safe_norm
from torch_cormorant.so3.harmonics import (
    pole_factors,
    solid_derivatives,
    spherical_harmonics,
)
from torch_cormorant.so3.layout import check_degree

_P, _I, _L = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64


class _Frames(ctypes.Structure):
    _fields_ = (
        *((name, _L) for name in ("edges", "pairs", "count")),
        *((name, _I) for name in ("lmax", "unit", "is_double", "threads", "order")),
        *((name, _P) for name in ("vec", "tangent", "pair", "entries", "values")),
        *((name, _P) for name in ("pole", "grad_sh", "grad_length", "sh", "length")),
        ("dvec", _P),
    )


def edge_frames(
    vec: Tensor, pairs: Tensor | None, lmax: int, *, normalize: bool
) -> tuple[Tensor, Tensor]:
    """Spherical harmonics of all edges and lengths of one edge of every pair.

    Args:
        vec: Vectors in Angstrom ``[E, 3]``.
        pairs: The edges whose lengths are wanted; None: all.
        lmax: Largest degree.
        normalize: As for :func:`~torch_cormorant.so3.spherical_harmonics`.

    Returns:
        ``[E, (lmax + 1)^2]`` and ``[pairs]``.

    Raises:
        ShapeError, DtypeError: If ``vec`` or ``pairs`` is not as above.
        EdgeIndexError: If ``pairs`` names an edge that does not exist.
        BackendError: If the kernel is missing.
    """
    constants = [] if pairs is None else [pairs]
    sh, length = _operator([vec], constants, [lmax, int(normalize)], [])
    return sh, length


class _Tables:
    """What the kernel reads beside the operands, kept alive."""

    def __init__(self, lmax: int, dtype: torch.dtype) -> None:
        found = solid_derivatives(lmax)
        self.entries = torch.tensor([row[:3] for row in found], dtype=torch.int32)
        self.values = torch.tensor([row[3] for row in found], dtype=dtype)
        self.pole = torch.tensor(pole_factors(lmax), dtype=dtype)


@cache
def _tables(lmax: int, dtype: torch.dtype) -> _Tables:
    # whatever the user's default device is: the kernel reads these arrays
    with torch.inference_mode(False), torch.device("cpu"):
        return _Tables(lmax, dtype)


class _Kernel:
    """As :class:`~torch_cormorant.ops.second_order.Kernel` says."""

    def results(self, p: Problem) -> list[Tensor]:
        check_count("operands", p.operands, 1)
        check_count("sizes", p.sizes, 2)
        if len(p.constants) > 1:
            check_count("constants", p.constants, 1)
        vec = check_rank("vec", p.operands[0], ("edges", "components"))
        rows = check_rank("pairs", p.constants[0], ("pairs",)) if p.constants else vec
        lmax = check_degree(p.sizes[0], "lmax")
        sh = vec.new_empty(vec.shape[0], (lmax + 1) ** 2)
        return [sh, vec.new_empty(rows.shape[0])]

    def prepare(self, p: Problem) -> Any:
        (vec,) = p.operands
        pair = p.constants[0] if p.constants else None
        check_frames(vec, pair)
        lmax, unit = p.sizes
        if unit not in {0, 1}:
            msg = f"sizes must be [lmax, 0 or 1], got {[*p.sizes]}"
            raise ConfigError(msg)
        tables = _tables(lmax, vec.dtype)
        edges = vec.shape[0]
        return _Frames(
            edges=edges,
            pairs=edges if pair is None else pair.shape[0],
            count=tables.values.shape[0],
            lmax=lmax,
            unit=unit,
            is_double=int(vec.dtype == torch.float64),
            vec=address(vec),
            pair=address(pair),
            entries=address(tables.entries),
            values=address(tables.values),
            pole=address(tables.pole),
        )

    def composed(self, p: Problem) -> list[Tensor]:
        (vec,), (lmax, unit) = p.operands, p.sizes
        length = safe_norm(vec)
        rows = length.index_select(0, p.constants[0]) if p.constants else length
        return [spherical_harmonics(vec, lmax, normalize=bool(unit)), rows]

    def forward(self, p: Problem) -> list[Tensor]:
        sh, length = self.results(p)
        _run(p, 0, sh=address(sh), length=address(length))
        return [sh, length]

    def backward(self, p: Problem, grads: Some, need: Sequence[bool]) -> Some:
        if not need[0]:
            return [None]
        found = torch.empty_like(p.operands[0])
        _run(p, 1, **_given(grads), dvec=address(found))
        return [found]

    def reached(
        self,
        sizes: Sequence[int],  # noqa: ARG002
        given: Sequence[bool],  # noqa: ARG002
        need: Sequence[bool],
    ) -> list[bool]:
        return [*need]

    def double_backward(
        self,
        p: Problem,
        grads: Some,
        tangents: Some,
        need: Sequence[bool],
        need_grads: Sequence[bool],
    ) -> tuple[Some, Some]:
        if tangents[0] is None:
            return [None], [None, None]
        outs: Some = [
            like if wanted else None
            for like, wanted in zip(self.results(p), need_grads, strict=True)
        ]
        found = torch.empty_like(p.operands[0]) if need[0] else None
        _run(
            p,
            2,
            **_given(grads),
            tangent=address(tangents[0]),
            sh=address(outs[0]),
            length=address(outs[1]),
            dvec=address(found),
        )
        return [found], outs


def _given(grads: Some) -> dict[str, int | None]:
    return {"grad_sh": address(grads[0]), "grad_length": address(grads[1])}


def _run(p: Problem, order: int, **addresses: int | None) -> None:
    struct = cpu_kernel.copied(p.made or _KERNEL.prepare(p))
    struct.order = order
    for name, value in addresses.items():
        setattr(struct, name, value)
    cpu_kernel.call("cormorant_frames", struct)


_KERNEL = _Kernel()
_operator = twice_differentiable("edge_frames", _KERNEL)
