r"""The edge network as one operator for CPUs: dots, mixing and mask of every pair.

.. math::
    g^{l}_{ij} = \mu_c(r_{ij}) \, u(r_{ij}) \, W^l \left[ s_{ij}^{l} \oplus
    \bigoplus_{l'} F_i^{l'} \cdot F_j^{l'} \oplus \eta_{ij} \right]

The kernel takes a few pairs at a time, all that lies between inputs and result stays in
the cache; weights are read as they are, masks and the smooth envelope are computed
inside. Second derivatives are those of the gradients along tangents.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NoReturn

import torch
from torch import Tensor

from torch_cormorant.errors import ConfigError
from torch_cormorant.ops import composed, cpu_kernel
from torch_cormorant.ops.cpu_kernel import address, addresses
from torch_cormorant.ops.operands import (
    FEATURE_AXES,
    check_count,
    check_edge_network,
    check_rank,
)
from torch_cormorant.ops.reference import edge_dots
from torch_cormorant.ops.second_order import Problem, Some, twice_differentiable

_P, _I, _L, _D = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64, ctypes.c_double
MAX_DEGREES = 16
"""Degrees of a result that the kernel was compiled for."""
_NODES = ("target", "source", "state", "radial")
_MASKS = {
    "rows": ("rows",),
    "soft": ("length", "radius", "width"),
    "gaussian": ("length", "radius"),
    "none": ("length",),
}
KINDS = tuple(_MASKS)
"""Kinds of masks, in the order in which the kernel numbers them."""
_NAMES = (*_NODES, "length", "rows", "radius", "width", "mixed")


class _Edge(ctypes.Structure):
    _fields_ = (
        *((name, _L) for name in ("pairs", "rows_a", "rows_b")),
        *((name, _I) for name in ("channels", "degrees", "dot_degrees")),
        *((name, _I) for name in ("state_channels", "state_rows", "state_used")),
        *((name, _I) for name in ("radials", "mask", "is_complex", "is_double")),
        *((name, _I) for name in ("threads", "order")),
        *((name, _D) for name in ("envelope", "hard")),
        *((name, _P) for name in ("index_a", "index_b", "columns")),
        ("operands", _P * (3 * len(_NAMES))),
        *((name, _P) for name in ("weights", "grad", "out")),
    )


@dataclass(frozen=True)
class EdgeMask:
    r"""The mask of all pairs.

    Attributes:
        rows: Its values ``[pairs, C]``; then nothing else is read.
        length: Lengths in Angstrom ``[pairs]``.
        radius: Of every channel, of a soft or Gaussian mask ``[C]``.
        width: Of every channel, of a soft mask ``[C]``.
        envelope: Radius of the smooth envelope in Angstrom; 0: none.
        hard: Radius in Angstrom from which on the mask is zero; 0: none.
    """

    rows: Tensor | None = None
    length: Tensor | None = None
    radius: Tensor | None = None
    width: Tensor | None = None
    envelope: float = 0.0
    hard: float = 0.0

    @property
    def kind(self) -> str:
        """One of :data:`KINDS`."""
        if self.rows is not None:
            return "rows"
        if self.radius is None:
            return "none"
        return "gaussian" if self.width is None else "soft"


def edge_network(
    target: Tensor,
    source: Tensor,
    index: tuple[Tensor, Tensor],
    state: Tensor | None,
    radial: Tensor,
    mask: EdgeMask,
    weights: Sequence[Tensor],
    widths: Sequence[tuple[int, int, int, int]],
) -> Tensor:
    """Edge scalars of all degrees for every pair of nodes.

    Args:
        target: Complex (or real) features of the targets.
        source: Those of the sources; may be the same tensor.
        index: Target and source of every pair.
        state: Scalars of the last level, or None.
        radial: Radial functions, (re, im) side by side.
        mask: The mask.
        weights: For each degree a real matrix.
        widths: For each degree the columns of its weight: state, dots, radial
            functions, and others, which are not read.

    Shapes:
        ``target`` and ``source`` ``[N, M, C]``, ``state`` ``[pairs, L + 1, C']``,
        ``radial`` ``[pairs, P * R]``, weights ``[P, C, columns]``.

    Returns:
        ``[pairs, degrees, C]`` in the type of the features.

    Raises:
        ShapeError, DtypeError, DeviceError: If a tensor does not fit the others.
        EdgeIndexError: If an index names a node that does not exist.
        BackendError: If the kernel is missing.
    """
    operands, sizes, numbers = problem(
        target, source, state, radial, mask, weights, widths
    )
    found: Tensor = OPERATOR(operands, [*index], sizes, numbers)[0]
    return found


def problem(
    target: Tensor,
    source: Tensor,
    state: Tensor | None,
    radial: Tensor,
    mask: EdgeMask,
    weights: Sequence[Tensor],
    widths: Sequence[tuple[int, int, int, int]],
) -> tuple[list[Tensor], list[int], list[float]]:
    """Operands, sizes and numbers of the operator; arguments as above."""
    nodes = [target] if source is target else [target, source]
    kind = mask.kind
    parts = [getattr(mask, name) for name in _MASKS[kind]]
    operands = [*nodes, *([] if state is None else [state]), radial, *parts, *weights]
    sizes = [len(nodes), int(state is not None), KINDS.index(kind)]
    sizes += [count for row in widths for count in row]
    return operands, sizes, [float(mask.envelope), float(mask.hard)]


def without_mask(
    operands: Sequence[Tensor], sizes: Sequence[int]
) -> tuple[list[Tensor], list[int]]:
    """Operands and sizes of the operator whose mask is one, without its numbers."""
    layout = _layout(tuple(sizes))
    first, radial = len(layout.names), layout.names.index("radial")
    length = operands[radial].new_zeros(operands[radial].shape[0])
    kept = [*operands[: radial + 1], length, *operands[first:]]
    return kept, [*sizes[:2], KINDS.index("none"), *sizes[3:]]


class _Layout:
    """Where operands stand, from the whole numbers of a problem."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        if len(sizes) < 7 or (len(sizes) - 3) % 4 or min(sizes) < 0:
            _refuse(sizes)
        nodes, state, mask, *columns = sizes
        degrees = len(columns) // 4
        if nodes not in {1, 2} or mask >= len(KINDS) or degrees > MAX_DEGREES:
            _refuse(sizes)
        names = [*_NODES[:nodes], *(["state"] if state else []), "radial"]
        self.names = (*names, *_MASKS[KINDS[mask]])
        self.mask = mask
        self.columns = (_I * len(columns))(*columns)
        self.widths = [tuple(columns[k : k + 4]) for k in range(0, len(columns), 4)]
        self.slots = [3 * _NAMES.index(name) for name in self.names]

    def parts(self, operands: Sequence[Tensor]) -> dict[str, Tensor]:
        """Operands by their names."""
        return dict(zip(self.names, operands, strict=False))


def _refuse(sizes: tuple[int, ...]) -> NoReturn:
    msg = (
        "sizes must be [1 or 2 tensors of nodes, whether there is a state, kind of the "
        f"mask, four numbers of columns for 1 to {MAX_DEGREES} degrees], got {[*sizes]}"
    )
    raise ConfigError(msg)


@cache
def _layout(sizes: tuple[int, ...]) -> _Layout:
    return _Layout(sizes)


Mixed = tuple[Tensor | None, Tensor | None, Tensor | None]
"""Rows before the mask, ``[pairs, degrees, C]``; a gradient that arrives for them; and
room for one: what the kernel is to keep, read, add and write."""


class _Kernel:
    """As :class:`~torch_cormorant.ops.second_order.Kernel` says."""

    def results(self, p: Problem) -> list[Tensor]:
        layout = _layout(tuple(p.sizes))
        degrees = len(layout.widths)
        check_count("operands", p.operands, len(layout.names) + degrees)
        check_count("constants", p.constants, 2)
        check_count("numbers", p.numbers, 2)
        x = check_rank("target", p.operands[0], FEATURE_AXES)
        index = check_rank("index_a", p.constants[0], ("pairs",))
        return [x.new_empty(index.shape[0], degrees, x.shape[-1])]

    def prepare(self, p: Problem) -> Any:
        return _Prepared(p)

    def composed(self, p: Problem) -> list[Tensor]:
        layout = _layout(tuple(p.sizes))
        parts, first = layout.parts(p.operands), len(layout.names)
        x = parts["target"]
        dots = edge_dots(x, parts.get("source", x), *p.constants)
        mask = composed.edge_mask(parts, *p.numbers)
        weights = p.operands[first:]
        return [composed.edge_scalars(parts, dots, weights, layout.widths, mask)]

    def forward(self, p: Problem, *, keep: bool = False) -> list[Tensor]:
        """Results; with ``keep`` the rows before the mask, too."""
        found = self.results(p) * (1 + keep)
        if keep:
            found[1] = torch.empty_like(found[0])
        _run(p, out=found[0], mixed=(found[1] if keep else None, None, None))
        return found

    def backward(
        self,
        p: Problem,
        grads: Some,
        need: Sequence[bool],
        mixed: Mixed = (None, None, None),
    ) -> Some:
        return _run(p, grad=_there(p, grads), need=need, mixed=mixed)

    def reached(
        self,
        sizes: Sequence[int],
        given: Sequence[bool],
        need: Sequence[bool],
        *,
        kept: bool = False,
    ) -> list[bool]:
        """Operands that the gradient depends on: it is linear in all but the mask's.

        ``kept``: what depends on them through the rows before the mask does not count.
        """
        names = _layout(tuple(sizes)).names
        inputs = names.index("radial") + 1
        nodes = any(given[: sizes[0]])
        mask, weights = any(given[inputs : len(names)]), any(given[len(names) :])
        through = (mask and not kept) or weights
        depends = [through or nodes] * sizes[0]
        depends += [through] * (inputs - sizes[0])
        depends += [True] * (len(names) - inputs)
        own = (mask and not kept) or any(given[:inputs])
        depends += [own] * (len(need) - len(names))
        return [a and b for a, b in zip(need, depends, strict=True)]

    def double_backward(
        self,
        p: Problem,
        grads: Some,
        tangents: Some,
        need: Sequence[bool],
        need_grads: Sequence[bool],
        mixed: Mixed = (None, None, None),
    ) -> tuple[Some, Some]:
        out = self.results(p)[0] if need_grads[0] else None
        given = {"grad": _there(p, grads), "tangents": tangents, "mixed": mixed}
        return _run(p, **given, need=need, out=out), [out]  # type: ignore[arg-type]


def _there(p: Problem, grads: Some) -> Tensor:
    """The gradient that arrives."""
    return _Kernel().results(p)[0].zero_() if grads[0] is None else grads[0]


def _run(
    p: Problem,
    *,
    grad: Tensor | None = None,
    tangents: Some | None = None,
    need: Sequence[bool] | None = None,
    out: Tensor | None = None,
    mixed: Mixed = (None, None, None),
) -> Some:
    """Call the kernel; gradients of the operands that need one."""
    made = p.made or _Prepared(p)
    struct = cpu_kernel.copied(made.struct)
    struct.grad, struct.out = address(grad), address(out)
    table, found = struct.operands, []
    for place, part in enumerate(mixed, len(table) - 3):
        if part is not None:
            table[place] = part.data_ptr()
    if need is not None:
        struct.order = 1 if tangents is None else 2
        found = [
            torch.empty_like(part) if wanted else None
            for part, wanted in zip(p.operands, need, strict=True)
        ]
        weights = cpu_kernel.copied(made.weights)
        struct.weights = ctypes.addressof(weights)
        for column, parts in ((1, tangents or ()), (2, found)):
            _tell(table, weights, made.slots, column, parts)
    cpu_kernel.call("cormorant_edge", struct)
    return found


def _tell(
    table: Any,
    weights: Any,
    slots: Sequence[int],
    column: int,
    parts: Sequence[Tensor | None],
) -> None:
    """Where operands (0), their tangents (1) or gradients (2) lie, as far as given."""
    first = len(slots)
    for k, part in enumerate(parts):
        if part is not None:
            rows, place = (table, slots[k]) if k < first else (weights, 3 * (k - first))
            rows[place + column] = part.data_ptr()


class _Prepared:
    """What the kernel is told of its operands; they are checked."""

    def __init__(self, p: Problem) -> None:
        layout = _layout(tuple(p.sizes))
        parts = layout.parts(p.operands)
        first = len(layout.names)
        index_a, index_b = p.constants
        check_edge_network(parts, p.operands[first:], p.constants, layout.widths)
        self.slots, self.columns = layout.slots, layout.columns
        self.weights = addresses(3 * len(layout.widths))()
        x, state = parts["target"], parts.get("state")
        self.struct = _Edge(
            pairs=index_a.shape[0],
            rows_a=x.shape[0],
            rows_b=parts.get("source", x).shape[0],
            channels=x.shape[-1],
            degrees=len(layout.widths),
            dot_degrees=layout.widths[0][1] // x.shape[-1],
            state_channels=0 if state is None else state.shape[-1],
            state_rows=0 if state is None else state.shape[1],
            state_used=0 if state is None else sum(row[0] > 0 for row in layout.widths),
            radials=layout.widths[0][2],
            mask=layout.mask,
            is_complex=int(x.is_complex()),
            is_double=int(x.dtype in (torch.float64, torch.complex128)),
            envelope=p.numbers[0],
            hard=p.numbers[1],
            index_a=address(index_a),
            index_b=address(index_b),
            columns=ctypes.addressof(self.columns),
            weights=ctypes.addressof(self.weights),
        )
        _tell(self.struct.operands, self.weights, self.slots, 0, p.operands)


KERNEL = _Kernel()
OPERATOR = twice_differentiable("edge_network", KERNEL)
