"""Radial functions of lengths as one operator for CPUs, with two derivatives.

The formulas are those of :mod:`torch_cormorant.ops.radial_basis` and of
:class:`~torch_cormorant.nn.radial.PowerTrig`.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from torch_cormorant.errors import ConfigError
from torch_cormorant.ops import cpu_kernel
from torch_cormorant.ops.composed import power_trig
from torch_cormorant.ops.cpu_kernel import address
from torch_cormorant.ops.operands import check_count, check_radial
from torch_cormorant.ops.radial_basis import bessel, gaussian
from torch_cormorant.ops.second_order import Problem, Some, twice_differentiable

_P, _I, _L, _D = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64, ctypes.c_double
BESSEL, GAUSSIAN, POWER_TRIG = range(3)
_NAMES = ("length", "scales", "phases")


class _Rows(ctypes.Structure):
    _fields_ = (
        ("pairs", _L),
        *((name, _I) for name in ("kind", "functions", "powers")),
        *((name, _I) for name in ("is_double", "threads", "order")),
        *((name, _D) for name in ("first", "second")),
        *((name, _P) for name in ("length", "scales", "phases")),
        *((name, _P) for name in ("d_length", "d_scales", "d_phases", "grad", "out")),
        *((name, _P) for name in ("to_length", "to_scales", "to_phases")),
    )


def bessel_rows(length: Tensor, num_basis: int, cutoff: float) -> Tensor:
    """As :func:`~torch_cormorant.ops.radial_basis.bessel`."""
    return _rows([length], [BESSEL, num_basis], math.pi / cutoff, math.sqrt(2 / cutoff))


def gaussian_rows(length: Tensor, num_basis: int, cutoff: float) -> Tensor:
    """As :func:`~torch_cormorant.ops.radial_basis.gaussian`."""
    return _rows([length], [GAUSSIAN, num_basis], cutoff / max(num_basis - 1, 1))


def power_trig_rows(
    length: Tensor, scales: Tensor, phases: Tensor, powers: int
) -> Tensor:
    r"""Waves times powers, :math:`\sin(2 \pi \kappa_t r + \phi_t) r^{-p}`.

    Args:
        length: Lengths in Angstrom ``[pairs]``.
        scales: :math:`\kappa_t`.
        phases: :math:`\phi_t`.
        powers: Number of powers p = 0, 1, ...

    Returns:
        ``[pairs, waves * powers]``, zero at length zero.
    """
    sizes = [POWER_TRIG, scales.shape[0], powers]
    return _rows([length, scales, phases], sizes, 0.0)


def _rows(
    operands: list[Tensor], sizes: list[int], first: float, second: float = 0.0
) -> Tensor:
    full = sizes if len(sizes) == 3 else [*sizes, 1]
    found: Tensor = _operator(operands, [], full, [first, second])[0]
    return found


class _Kernel:
    """As :class:`~torch_cormorant.ops.second_order.Kernel` says."""

    def results(self, p: Problem) -> list[Tensor]:
        check_count("sizes", p.sizes, 3)
        kind, functions, powers = p.sizes
        if kind not in {BESSEL, GAUSSIAN, POWER_TRIG} or functions < 1 or powers < 1:
            msg = f"sizes must be [kind, functions, powers], got {[*p.sizes]}"
            raise ConfigError(msg)
        check_count("operands", p.operands, 3 if kind == POWER_TRIG else 1)
        check_count("constants", p.constants, 0)
        check_count("numbers", p.numbers, 2)
        check_radial(p.operands, functions)
        length = p.operands[0]
        return [length.new_empty(length.shape[0], functions * powers)]

    def prepare(self, p: Problem) -> Any:
        self.results(p)  # checks them
        struct = _Rows(
            pairs=p.operands[0].shape[0],
            kind=p.sizes[0],
            functions=p.sizes[1],
            powers=p.sizes[2],
            is_double=int(p.operands[0].dtype == torch.float64),
            first=p.numbers[0],
            second=p.numbers[1],
        )
        for name, part in zip(_NAMES, p.operands, strict=False):
            setattr(struct, name, part.data_ptr())
        return struct

    def composed(self, p: Problem) -> list[Tensor]:
        kind, functions, powers = p.sizes
        first, length = p.numbers[0], p.operands[0]
        if kind == POWER_TRIG:
            return [power_trig(length, p.operands[1], p.operands[2], powers)]
        if kind == BESSEL:
            return [bessel(length, functions, math.pi / first)]
        return [gaussian(length, functions, first * max(functions - 1, 1))]

    def forward(self, p: Problem) -> list[Tensor]:
        (found,) = self.results(p)
        _run(p, 0, out=found)
        return [found]

    def backward(self, p: Problem, grads: Some, need: Sequence[bool]) -> Some:
        return _run(p, 1, grad=grads[0], need=need)

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
        out = self.results(p)[0] if need_grads[0] else None
        found = _run(p, 2, grad=grads[0], tangents=tangents, need=need, out=out)
        return found, [out]


def _run(
    p: Problem,
    order: int,
    *,
    grad: Tensor | None = None,
    tangents: Some | None = None,
    need: Sequence[bool] = (),
    out: Tensor | None = None,
) -> Some:
    """Call the kernel; gradients of the operands that need one."""
    if order and grad is None:
        grad = _Kernel().results(p)[0].zero_()
    found: Some = [
        torch.empty_like(part) if wanted else None
        for part, wanted in zip(p.operands, need, strict=False)
    ]
    struct = cpu_kernel.copied(p.made or _KERNEL.prepare(p))
    struct.order, struct.grad, struct.out = order, address(grad), address(out)
    for prefix, parts in (("d_", tangents or ()), ("to_", found)):
        for name, part in zip(_NAMES, parts, strict=False):
            setattr(struct, prefix + name, address(part))
    cpu_kernel.call("cormorant_radial", struct)
    return found


_KERNEL = _Kernel()
_operator = twice_differentiable("radial_rows", _KERNEL)
