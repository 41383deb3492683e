r"""The vertex step as one operator for CPUs: aggregate, identity and square, mixed.

Weights are read as they are, planar and with the columns of all paths; those of equal
paths of the square are summed once a call. The step is linear in aggregate and weights
and quadratic in the features: its second derivatives are written out in the kernel.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from torch_cormorant.ops import composed, cpu_kernel
from torch_cormorant.ops.cg_product import from_complex
from torch_cormorant.ops.cpu_kernel import address, addresses
from torch_cormorant.ops.operands import check_vertex
from torch_cormorant.ops.second_order import Problem, Some, twice_differentiable
from torch_cormorant.ops.vertex_paths import VertexPaths, vertex_paths

_P, _I, _L = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
MAX_DEGREE = 2 * cpu_kernel.MAX_LMAX
"""Largest degree of a result that the kernel was compiled for."""


class _Vertex(ctypes.Structure):
    _fields_ = (
        ("nodes", _L),
        *((name, _I) for name in ("channels", "outs", "lmax", "components")),
        *((name, _I) for name in ("is_complex", "is_double", "threads", "second")),
        *((name, _P) for name in ("blocks", "fold", "used")),
        ("pairs", _L),
        ("cg", cpu_kernel.Coefficients),
        ("square_rows", _P),
        *((name, _P) for name in ("x", "grad", "tangent_x", "rows", "weights")),
        *((name, _P) for name in ("tangent_rows", "tangent_weights", "out", "dx")),
        *((name, _P) for name in ("drows", "dweights")),
    )


def vertex_step(
    aggregate: Sequence[Tensor], x: Tensor, weights: Sequence[Tensor], key: list[int]
) -> Tensor:
    r"""Mix aggregate, features and their square, degree by degree.

    .. math::
        F'^{l} = W^l [ A^l \oplus F^l \oplus (F \otimes F)^l ]

    Args:
        aggregate: Result of :func:`~torch_cormorant.ops.neighbour_sum`.
        x: Complex (or real) features ``[N, M_in, C]`` of the receivers.
        weights: For each degree real ``[P, C_out, columns]``.
        key: The paths, :attr:`~torch_cormorant.ops.vertex_paths.VertexPaths.key`.

    Returns:
        Real ``[N, M, P, C_out]``.

    Raises:
        ShapeError, DtypeError, DeviceError: If a tensor does not fit the others.
        BackendError: If the kernel is missing.
    """
    found: Tensor = _step([*aggregate, x, *weights], [], key, [])[0]
    return found


def kernel_fits(paths: VertexPaths) -> bool:
    """Whether the kernel was compiled for these degrees."""
    return paths.lmax <= MAX_DEGREE and cpu_kernel.fits(paths.folded)


class _Arrays:
    """What the kernel reads beside the operands, kept alive."""

    def __init__(self, paths: VertexPaths, dtype: torch.dtype) -> None:
        cg = cpu_kernel.coefficients(paths.folded, dtype)
        first = (paths.lmax_in + 1) ** 2
        ends = [path[2] for path in paths.folded.paths]
        blocks = [
            (sums, same, ends.count(l), paths.blocks[l])
            for l, (sums, same, _) in enumerate(paths.counts)
        ]
        tables = {
            "blocks": blocks,
            "fold": paths.folds,
            "used": [(entry, entry % first, entry // first) for entry in cg.used],
        }
        arrays = {k: torch.tensor(v, dtype=torch.int32) for k, v in tables.items()}
        self.kept = (cg, arrays)
        self.struct = _Vertex(
            lmax=paths.lmax,
            components=first,
            pairs=len(cg.used),
            cg=cg.struct,
            square_rows=cg.out_rows.data_ptr(),
            is_double=int(dtype == torch.float64),
            **{name: array.data_ptr() for name, array in arrays.items()},
        )


@cache
def _arrays(paths: VertexPaths, dtype: torch.dtype) -> _Arrays:
    # whatever the user's default device is: the kernel reads these arrays
    with torch.inference_mode(False), torch.device("cpu"):
        return _Arrays(paths, dtype)


class _Kernel:
    """As :class:`~torch_cormorant.ops.second_order.Kernel` says."""

    def results(self, p: Problem) -> list[Tensor]:
        paths = vertex_paths(tuple(p.sizes))
        weight, x = p.operands[-1], p.operands[len(paths.sums.counts)]
        shape = (x.shape[0], (paths.lmax + 1) ** 2, *weight.shape[:2])
        return [weight.new_empty(shape)]

    def prepare(self, p: Problem) -> Any:
        return _Prepared(p)

    def composed(self, p: Problem) -> list[Tensor]:
        paths = vertex_paths(tuple(p.sizes))
        sums = len(paths.sums.counts)
        parts = p.operands[:sums], p.operands[sums], p.operands[sums + 1 :]
        return [from_complex(composed.vertex_step(*parts, paths))]

    def forward(self, p: Problem) -> list[Tensor]:
        found = self.results(p)
        _Call(p).run(out=address(found[0]))
        return found

    def backward(self, p: Problem, grads: Some, need: Sequence[bool]) -> Some:
        call = _Call(p)
        found = call.gradients(need)
        call.run(grad=address(_there(grads, p)))
        return found

    def reached(
        self, sizes: Sequence[int], given: Sequence[bool], need: Sequence[bool]
    ) -> list[bool]:
        """Operands that the gradient depends on; it is linear in most of them."""
        sums = len(vertex_paths(tuple(sizes)).sums.counts)
        rows, mixed = any(given[: sums + 1]), any(given[sums + 1 :])
        depends = [mixed] * sums + [mixed or given[sums]]
        depends += [rows] * (len(need) - sums - 1)
        return [a and b for a, b in zip(need, depends, strict=True)]

    def double_backward(
        self,
        p: Problem,
        grads: Some,
        tangents: Some,
        need: Sequence[bool],
        need_grads: Sequence[bool],
    ) -> tuple[Some, Some]:
        call = _Call(p)
        found = call.gradients(need)
        out = self.results(p)[0] if need_grads[0] else None
        call.tangents(tangents)
        call.run(grad=address(_there(grads, p)), out=address(out))
        return found, [out]


class _Prepared:
    """What the kernel is told of its operands; they are checked."""

    def __init__(self, p: Problem) -> None:
        paths = vertex_paths(tuple(p.sizes))
        self.sums, self.degrees = len(paths.sums.counts), paths.lmax + 1
        rows, x, weights = self.split(p.operands)
        check_vertex(rows, x, weights, paths)
        self.struct = cpu_kernel.copied(_arrays(paths, weights[0].dtype).struct)
        self.struct.is_complex = int(x.is_complex())
        self.struct.nodes, _, self.struct.channels = x.shape
        self.struct.outs = weights[0].shape[1]
        self.kept = self.point(self.struct, "", p.operands)

    def split(self, parts: Sequence[Any]) -> tuple[Any, Any, Any]:
        """Aggregates, x and weights."""
        sums = self.sums
        return parts[:sums], parts[sums], parts[sums + 1 :]

    def point(self, struct: Any, kind: str, parts: Sequence[Tensor | None]) -> Any:
        """Tell where tensors of one kind lie; what has to be kept for the call."""
        rows, x, weights = self.split(parts)
        kept = []
        if x is not None:
            setattr(struct, f"{kind}x", x.data_ptr())
        for name, some in (("rows", rows), ("weights", weights)):
            array, given = addresses(self.degrees)(), False
            for k, part in enumerate(some):
                if part is not None:
                    array[k], given = part.data_ptr(), True
            if given:
                kept.append(array)
                setattr(struct, kind + name, ctypes.addressof(array))
        return kept


class _Call:
    """One call of the kernel."""

    def __init__(self, p: Problem) -> None:
        self.made, self.operands = p.made or _Prepared(p), p.operands
        self.struct = cpu_kernel.copied(self.made.struct)
        self.kept: list[Any] = []

    def gradients(self, need: Sequence[bool]) -> Some:
        """Room for the gradients of those operands that need one."""
        found: Some = [
            torch.empty_like(part) if wanted else None
            for part, wanted in zip(self.operands, need, strict=True)
        ]
        self.kept.append(self.made.point(self.struct, "d", found))
        return found

    def tangents(self, tangents: Some) -> None:
        """Compute derivatives of the gradients along these."""
        rows, x, weights = self.made.split(tangents)
        if any(part is not None for part in weights):  # all of them, or none
            likes = self.made.split(self.operands)[2]
            weights = [
                torch.zeros_like(like) if part is None else part
                for part, like in zip(weights, likes, strict=True)
            ]
        self.struct.second = 1
        given = [*rows, x, *weights]
        self.kept += [given, self.made.point(self.struct, "tangent_", given)]

    def run(self, **addresses: int | None) -> None:
        """Call it."""
        for name, value in addresses.items():
            setattr(self.struct, name, value)
        cpu_kernel.call("cormorant_vertex", self.struct)


def _there(grads: Some, p: Problem) -> Tensor:
    (grad,) = grads
    return KERNEL.results(p)[0].zero_() if grad is None else grad


KERNEL = _Kernel()
_step = twice_differentiable("vertex_step", KERNEL)
