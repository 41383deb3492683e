"""Receivers, their edges and what they share, as the kernels read them.

Everything here follows from the plan's rows sorted by receiver. It is worked out on
the device, without waiting for it, once per plan.

While a CUDA graph is captured, tensors get their numbers only when it is replayed.
What is worked out then must not be kept for later calls, except on a plan that was
made within the capture and ends with it: see :func:`of_one_capture`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

from torch_cormorant.ops.plan import GraphPlan

SPLIT = 256
"""Edges of one row of the kernels; receivers with more get several rows."""

_ATTRIBUTE = "_triton_rows"
_OWN = "_of_one_capture"
Kept = TypeVar("Kept")


@dataclass(frozen=True)
class Group:
    """``rows`` rows from ``first`` on, whose edges share one buffer."""

    first: int
    rows: int
    base: int
    slots: int


@dataclass(frozen=True)
class Members:
    """Slots of a group that belong to each of a number of owners, as a CSR.

    Owner i has the entries ``index[pointer[i]:pointer[i + 1]]``.
    """

    pointer: Tensor
    index: Tensor


@dataclass
class Rows:
    """The rows that the kernels work on: edges of one receiver, longest rows first.

    A slot is an edge in the order of receivers. A row is a receiver, or a part of one
    with many edges; receivers without edges have a row of length zero.

    Attributes:
        source: ``[E]`` node that each slot reads.
        edge: ``[E]`` edge of each slot.
        pair: ``[E]`` undirected pair of each slot; empty where there are none.
        start: ``[rows]`` first slot.
        count: ``[rows]`` int32 number of slots.
        node: ``[rows]`` receiver.
        target: ``[rows]`` where the sum goes: the receiver, or, for the further rows
            of one receiver, a place behind all receivers.
        extra: Number of those places.
        further: Those places by receiver, or None.
        groups: The rows, cut so that a group's edges fit a buffer.
        lasting: Whether they may be used outside of the capture of a graph.
    """

    source: Tensor
    edge: Tensor
    pair: Tensor
    start: Tensor
    count: Tensor
    node: Tensor
    target: Tensor
    extra: int
    further: Members | None
    groups: tuple[Group, ...]
    lasting: bool = True
    kept: dict[tuple[object, ...], Members] = field(default_factory=dict)

    def members(self, kind: str, group: Group, owners: int) -> Members:
        """Slots of a group by source node, edge or pair, in a fixed order."""
        return _keep(
            self.kept,
            (kind, group.base, owners),
            lambda: self._members(kind, group, owners),
            store=not (self.lasting and _capturing(self.source)),
        )

    def _members(self, kind: str, group: Group, owners: int) -> Members:
        owner: Tensor = getattr(self, kind)[group.base : group.base + group.slots]
        index = torch.argsort(owner, stable=True)
        bounds = torch.arange(owners + 1, device=owner.device)
        return Members(torch.searchsorted(owner[index], bounds), index)


def _keep(
    kept: dict[tuple[object, ...], Kept],
    key: tuple[object, ...],
    make: Callable[[], Kept],
    *,
    store: bool,
) -> Kept:
    if key in kept:
        return kept[key]
    made = make()
    if store:
        kept[key] = made
    return made


def _capturing(x: Tensor) -> bool:
    return x.is_cuda and torch.cuda.is_current_stream_capturing()


def of_one_capture(packed: Tensor) -> Tensor:
    """A plan's numbers as an object that one capture of a graph uses and then drops.

    Args:
        packed: The numbers, in memory that may be refilled for other graphs.

    Returns:
        The same memory; what is worked out from it lives as long as this object.
    """
    made = packed.detach()
    made.__dict__[_OWN] = True
    return made


def rows_of(plan: GraphPlan, slots: int) -> Rows:
    """The rows of a plan in groups of about that many slots, made at the first call.

    They are kept on the plan's own tensor: operators receive that tensor and build
    plan objects around it anew.
    """
    slots = max(plan.num_edges, 1) if plan.num_edges <= slots else slots
    kept: dict[tuple[object, ...], Rows]
    kept = plan.packed.__dict__.setdefault(_ATTRIBUTE, {})
    own = _OWN in plan.packed.__dict__
    return _keep(
        kept,
        (slots, SPLIT),
        lambda: _build(plan, slots, lasting=not own),
        store=own or not _capturing(plan.packed),
    )


def _build(plan: GraphPlan, slots: int, *, lasting: bool) -> Rows:
    with torch.no_grad():
        degree = plan.rowptr.diff()
        parted = bool(plan.chunks) and plan.chunks[0].width > SPLIT
        number, extra = torch.ones_like(degree), 0
        if parted:
            number = ((degree + SPLIT - 1) // SPLIT).clamp(min=1)
            # No more than this, and known without asking the device.
            extra = plan.num_edges // SPLIT
        start, count, node, target = _parts(plan, degree, number, extra)
        further = None
        if parted:
            rest = number - 1
            pointer = torch.cat([rest.new_zeros(1), rest.cumsum(0)])
            places = torch.arange(extra, device=rest.device) + plan.num_targets
            further = Members(pointer, places)
        order, groups = _grouped(plan, start, count, slots)
        # Copies: views of the tensor that keeps the rows would hold on to it, so that
        # neither was ever freed, and their addresses are multiples of 16 by chance.
        # Triton compiles a kernel anew for every combination of those.
        return Rows(
            source=plan.csr_source.clone(),
            edge=plan.csr_edge.clone(),
            pair=plan.csr_row.clone(),
            start=start[order],
            count=count[order].to(torch.int32),
            node=node[order],
            target=target[order],
            extra=extra,
            further=further,
            groups=groups,
            lasting=lasting,
        )


def _parts(
    plan: GraphPlan, degree: Tensor, number: Tensor, extra: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Start, count, receiver and target of every row, receiver after receiver."""
    targets = plan.num_targets
    row = torch.arange(targets + extra, device=degree.device)
    if not extra:
        return plan.rowptr[:-1], degree, row, row
    last = number.cumsum(0)
    node = torch.searchsorted(last, row, right=True)
    # Rows that no receiver needs: length zero, a place of their own.
    spare = node == targets
    node = node.clamp(max=targets - 1)
    part = row - (last - number)[node]
    start = plan.rowptr[node] + part * SPLIT
    count = (degree[node] - part * SPLIT).clamp(min=0, max=SPLIT)
    further = (part > 0) | spare
    place = targets + further.cumsum(0) - 1
    start = torch.where(spare, plan.num_edges, start)
    return (
        start,
        torch.where(spare, 0, count),
        node,
        torch.where(further, place, node),
    )


def _grouped(
    plan: GraphPlan, start: Tensor, count: Tensor, slots: int
) -> tuple[Tensor, tuple[Group, ...]]:
    """Order of the rows, longest first in every group, and the groups."""
    if plan.num_edges <= slots:
        whole = Group(0, start.numel(), 0, plan.num_edges)
        return torch.argsort(count, descending=True, stable=True), (whole,)
    bounds = [0]
    for first, last in zip(
        plan.rowptr.tolist(), plan.rowptr[1:].tolist(), strict=False
    ):
        if last - bounds[-1] > slots and first > bounds[-1]:
            bounds.append(first)
    edges = torch.tensor(bounds[1:], device=start.device)
    group = torch.searchsorted(edges, start, right=True)
    order = torch.argsort(group * (SPLIT + 1) - count.clamp(max=SPLIT), stable=True)
    sizes = torch.bincount(group, minlength=len(bounds)).tolist()
    groups, first = [], 0
    for base, end, rows in zip(
        bounds, [*bounds[1:], plan.num_edges], sizes, strict=True
    ):
        groups.append(Group(first, rows, base, end - base))
        first += rows
    return order, tuple(groups)
