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
def _polynomial(table: PathTable, is_complex: bool, channels: int, result: int) -> Any:
    """One edge's share of one operand, a polynomial of the other three.

    The operands are g (0), Y (1), x (2) and the sums (3). As a form that is linear in
    each of them, the same coefficients give the sums and all three gradients.
    """
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
    product = product.move_operand_last(result)
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
    result: int,
    device: torch.device,
    dtype: torch.dtype,
) -> Any:
    import cuequivariance_torch as cuet

    fast = device.type == "cuda" and bool(
        importlib.util.find_spec("cuequivariance_ops_torch")
    )
    polynomial = _polynomial(table, is_complex, channels, result)
    with warnings.catch_warnings():
        # Notices about parts of the package that this module does not use.
        warnings.simplefilter("ignore")
        module = cuet.SegmentedPolynomial(
            polynomial, method="uniform_1d" if fast else "naive", math_dtype=dtype
        )
    return module.to(device)


def _planes(x: Tensor) -> Tensor:
    """``[rows, ..., C]`` as real ``[rows, ... * P * C]``, re before im."""
    real = torch.view_as_real(x).transpose(-1, -2) if x.is_complex() else x
    return real.flatten(1)


def _numbers(flat: Tensor, like: Tensor, shape: Sequence[int]) -> Tensor:
    """What :func:`_planes` flattened, in the type of like."""
    if not like.is_complex():
        return flat.reshape(*shape)
    re, im = flat.reshape(*shape[:-1], 2, shape[-1]).unbind(-2)
    return torch.complex(re, im)


class _Sum:
    """The operands of one graph, as the polynomials read them."""

    def __init__(
        self, x: Tensor, g: Tensor, sh: Tensor, plan: GraphPlan, table: PathTable
    ) -> None:
        self.table, self.like = table, x
        self.edges = plan.num_edges
        on_pairs = plan.pairs is not None and g.shape[0] == plan.pairs.edge.shape[0]
        target = torch.repeat_interleave(
            torch.arange(plan.num_targets, device=x.device),
            plan.rowptr.diff(),
            output_size=plan.num_edges,
        )
        self.rows = [
            plan.csr_row if on_pairs else plan.csr_edge,
            plan.csr_edge,
            plan.csr_source,
            target,
        ]
        self.lengths = [g.shape[0], sh.shape[0], x.shape[0], plan.num_targets]
        self.operands = [
            _planes(g[:, : table.lmax1 + 1]),
            sh[:, : (table.lmax1 + 1) ** 2],
            _planes(x[:, : (table.used_lmax2 + 1) ** 2]),
        ]

    def compute(self, result: int) -> Tensor:
        """One operand out of the other three, summed over the edges."""
        channels, sh = self.like.shape[-1], self.operands[1]
        key = (self.table, self.like.is_complex(), channels, result)
        if self.edges == 0:
            size = _polynomial(*key).outputs[0].size
            return sh.new_zeros(self.lengths[result], size)
        others = [k for k in range(4) if k != result]
        module = _module(*key, sh.device, sh.dtype)
        (flat,) = module(
            [self.operands[k].contiguous() for k in others],
            {place: self.rows[k] for place, k in enumerate(others)},
            {0: sh.new_empty(self.lengths[result], 1)},
            {0: self.rows[result]},
        )
        found: Tensor = flat
        return found


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
    flat = _Sum(x, g, sh, plan, table).compute(3)
    outs, first = [], 0
    for shape in shapes(plan.num_targets, table, x.shape[-1]):
        width = shape[1] * shape[2] * shape[3] * (2 if x.is_complex() else 1)
        outs.append(_numbers(flat[:, first : first + width], x, shape))
        first += width
    return outs


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
    case = _Sum(x, g, sh, plan, table)
    case.operands.append(torch.cat([_planes(grad) for grad in grads], dim=1))
    found: list[Tensor | None] = []
    for operand, tensor, wanted in zip((2, 0, 1), (x, g, sh), need, strict=True):
        if not wanted:
            found.append(None)
            continue
        flat = case.compute(operand)
        if operand == 1:
            part = flat
        else:
            rows, channels = tensor.shape[0], tensor.shape[2]
            size = flat.shape[1] // channels // (2 if x.is_complex() else 1)
            part = _numbers(flat, x, (rows, size, channels))
        total = torch.zeros_like(tensor)
        total[:, : part.shape[1]] = part
        found.append(total)
    return found[0], found[1], found[2]
