r"""The neighbour sum as one segmented polynomial of NVIDIA's cuEquivariance.

Exact, and a cross-check and baseline more than a fast path: every coefficient is
multiplied on every edge, where the other implementations contract once per receiver.
With g and x cut into one segment of C channels per degree or component and part (re,
im), Y into single numbers, and the sums into one segment per row and part, each
coefficient becomes four paths of the polynomial ``u,,u,u`` (one for a real x).

Its CUDA method ``uniform_1d`` needs the closed package ``cuequivariance-ops-torch``;
without it, or on the CPU, its plain PyTorch method computes the same numbers slowly.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from torch_cormorant.cg import clebsch_gordan
from torch_cormorant.errors import BackendError
from torch_cormorant.ops.paths import PathTable
from torch_cormorant.ops.plan import GraphPlan
from torch_cormorant.ops.portable import Need, shapes

_PACKAGES = ("cuequivariance", "cuequivariance_torch")


def is_available() -> bool:
    """Whether cuEquivariance is installed."""
    return all(importlib.util.find_spec(name) for name in _PACKAGES)


@cache
def _polynomial(table: PathTable, is_complex: bool, channels: int) -> Any:
    """The sum of one edge as a segmented polynomial of g, Y and x."""
    import cuequivariance as cue

    parts = 2 if is_complex else 1
    size = (channels,)
    product = cue.SegmentedTensorProduct.from_subscripts("u,,u,u")
    product.add_segments(0, (table.lmax1 + 1) * parts * [size])
    product.add_segments(1, (table.lmax1 + 1) ** 2 * [()])
    product.add_segments(2, (table.used_lmax2 + 1) ** 2 * parts * [size])
    starts, rows = [], 0
    for l, count in enumerate(table.counts):
        starts.append(rows)
        rows += (2 * l + 1) * count
    product.add_segments(3, rows * parts * [size])
    # part of g, part of x, part of the product, sign
    complex_rule = [(0, 0, 0, 1.0), (1, 1, 0, -1.0), (0, 1, 1, 1.0), (1, 0, 1, 1.0)]
    rule = complex_rule if is_complex else [(0, 0, 0, 1.0)]
    for block in table.blocks:
        l1, l2 = block.l1, block.l2
        for l, position, _ in block.places:
            values = clebsch_gordan(l1, l2, l, dtype=torch.float64)
            for a, b, m in values.nonzero().tolist():
                row = starts[l] + m * table.counts[l] + position
                for of_g, of_x, to, sign in rule:
                    product.add_path(
                        l1 * parts + of_g,
                        l1 * l1 + a,
                        (l2 * l2 + b) * parts + of_x,
                        row * parts + to,
                        c=sign * float(values[a, b, m]),
                    )
    return cue.SegmentedPolynomial(
        product.operands[:-1],
        [product.operands[-1]],
        [(cue.Operation((0, 1, 2, 3)), product)],
    )


@cache
def _module(
    table: PathTable,
    is_complex: bool,
    channels: int,
    device: torch.device,
    dtype: torch.dtype,
) -> Any:
    import cuequivariance_torch as cuet

    fast = device.type == "cuda" and bool(
        importlib.util.find_spec("cuequivariance_ops_torch")
    )
    polynomial = _polynomial(table, is_complex, channels)
    with warnings.catch_warnings():
        # Notices about parts of the package that this module does not use.
        warnings.simplefilter("ignore")
        module = cuet.SegmentedPolynomial(
            polynomial, method="uniform_1d" if fast else "naive", math_dtype=dtype
        )
    return module.to(device)


def _planes(x: Tensor) -> Tensor:
    """``[rows, M, C]`` as real ``[rows, M * P * C]``, re and im one after the other."""
    real = torch.view_as_real(x).transpose(-1, -2) if x.is_complex() else x
    return real.flatten(1)


def _compute(
    x: Tensor, g: Tensor, sh: Tensor, plan: GraphPlan, table: PathTable
) -> list[Tensor]:
    channels, is_complex = x.shape[-1], x.is_complex()
    sizes = shapes(plan.num_targets, table, channels)
    if plan.num_edges == 0:
        # Zeros that depend on the inputs, for their gradients.
        zero = (x.sum() + g.sum()) * sh.sum() * 0
        return [zero.to(x.dtype).expand(size).contiguous() for size in sizes]
    x = x[:, : (table.used_lmax2 + 1) ** 2]
    g, sh = g[:, : table.lmax1 + 1], sh[:, : (table.lmax1 + 1) ** 2]
    on_pairs = plan.pairs is not None and g.shape[0] == plan.pairs.edge.shape[0]
    target = torch.repeat_interleave(
        torch.arange(plan.num_targets, device=x.device), plan.rowptr.diff()
    )
    rows = {
        0: plan.csr_row if on_pairs else plan.csr_edge,
        1: plan.csr_edge,
        2: plan.csr_source,
    }
    module = _module(table, is_complex, channels, x.device, sh.dtype)
    like = sh.new_empty(plan.num_targets, 1)
    (flat,) = module([_planes(g), sh, _planes(x)], rows, {0: like}, {0: target})
    parts = 2 if is_complex else 1
    outs, first = [], 0
    for size in sizes:
        width = size[1] * size[2] * channels * parts
        piece = flat[:, first : first + width]
        first += width
        if is_complex:
            piece = piece.reshape(*size[:3], 2, channels).transpose(-1, -2)
            outs.append(torch.view_as_complex(piece.contiguous()))
        else:
            outs.append(piece.reshape(size))
    return outs


def require() -> None:
    """Raise an error that says what to install, if it is not there."""
    if not is_available():
        msg = (
            'backend "cuequivariance" needs the packages cuequivariance and '
            "cuequivariance-torch, which are not installed; to enable it: "
            "pip install cuequivariance cuequivariance-torch"
        )
        raise BackendError(msg)


def forward(
    x: Tensor, g: Tensor, sh: Tensor, plan: GraphPlan, table: PathTable
) -> list[Tensor]:
    """The sums, as :func:`torch_cormorant.ops.portable.forward`."""
    require()
    with torch.no_grad():
        return _compute(x, g, sh, plan, table)


def backward(
    x: Tensor,
    g: Tensor,
    sh: Tensor,
    plan: GraphPlan,
    table: PathTable,
    need: Need,
    grads: Sequence[Tensor],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The gradients, as :func:`torch_cormorant.ops.portable.backward`."""
    require()
    with torch.enable_grad():
        inputs = [
            t.detach().requires_grad_(wanted)
            for t, wanted in zip((x, g, sh), need, strict=True)
        ]
        outs = _compute(inputs[0], inputs[1], inputs[2], plan, table)
        wanted_inputs = [t for t, wanted in zip(inputs, need, strict=True) if wanted]
        if not wanted_inputs:
            return None, None, None
        found = torch.autograd.grad(outs, wanted_inputs, list(grads))
    rest = iter(found)
    parts = [next(rest) if wanted else None for wanted in need]
    return parts[0], parts[1], parts[2]
