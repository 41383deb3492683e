"""Receivers, their edges and what they share, as the kernels read them.

Everything here follows from the plan, is worked out once and is kept on it.
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
    """Edges in the order of their receivers, and the rows that the kernels work on.

    A slot is an edge in this order, without padding. A row is a receiver, or a part
    of one with many edges; receivers without edges are rows of length zero.

    Attributes:
        source: ``[E]`` node that each slot reads.
        edge: ``[E]`` edge of each slot.
        pair: ``[E]`` undirected pair of each slot, or None.
        start: ``[rows]`` first slot.
        count: ``[rows]`` int32 number of slots.
        node: ``[rows]`` receiver.
        target: ``[rows]`` where the sum goes: the receiver, or, for the further rows
            of one receiver, a place behind all receivers.
        extra: Number of those further rows.
        parted: Receivers with several rows, or None.
        further: The further rows of those receivers, or None.
    """

    source: Tensor
    edge: Tensor
    pair: Tensor | None
    start: Tensor
    count: Tensor
    node: Tensor
    target: Tensor
    extra: int
    parted: Tensor | None
    further: Members | None
    kept: dict[tuple[object, ...], object] = field(default_factory=dict)

    def keep(self, key: tuple[object, ...], make: Callable[[], Kept]) -> Kept:
        """What was made under a key before, or make it."""
        if key not in self.kept:
            self.kept[key] = make()
        value: Kept = self.kept[key]  # type: ignore[assignment]
        return value

    def groups(self, slots: int) -> tuple[Group, ...]:
        """Cut the rows into groups of at most about that many slots."""
        edges = self.source.numel()
        if edges <= slots:
            return (Group(0, self.start.numel(), 0, edges),)
        return self.keep(("groups", slots), lambda: self._cut(slots))

    def _cut(self, slots: int) -> tuple[Group, ...]:
        groups, first, base, held = [], 0, 0, 0
        counts = self.count.tolist()
        for row, count in enumerate(counts):
            if held and held + count > slots:
                groups.append(Group(first, row - first, base, held))
                first, base, held = row, base + held, 0
            held += count
        groups.append(Group(first, len(counts) - first, base, held))
        return tuple(groups)

    def members(self, kind: str, group: Group, owners: int) -> Members:
        """Slots of a group by source node, edge or pair, in a fixed order."""
        key = (kind, group.base, group.slots, owners)
        return self.keep(key, lambda: self._members(kind, group, owners))

    def _members(self, kind: str, group: Group, owners: int) -> Members:
        owner: Tensor = getattr(self, kind)[group.base : group.base + group.slots]
        index = torch.argsort(owner, stable=True)
        bounds = torch.arange(owners + 1, device=owner.device)
        return Members(torch.searchsorted(owner[index], bounds), index)


def rows_of(plan: GraphPlan) -> Rows:
    """The rows of a plan, made at the first call (which waits for the device)."""
    rows = plan.__dict__.get(_ATTRIBUTE)
    if not isinstance(rows, Rows):
        rows = _build(plan)
        # The plan is frozen; what is kept here follows from it and changes nothing.
        plan.__dict__[_ATTRIBUTE] = rows
    return rows


def _build(plan: GraphPlan) -> Rows:
    device = plan.order.device
    receivers = plan.order.numel()
    with torch.no_grad():
        widths = torch.tensor(
            [(chunk.width, chunk.last - chunk.first) for chunk in plan.chunks],
            dtype=torch.long,
            device=device,
        ).reshape(-1, 2)
        owner = torch.repeat_interleave(
            torch.arange(receivers, device=device),
            widths[:, 0].repeat_interleave(widths[:, 1]),
        )
        slots = [plan.slot_source, plan.slot_edge]
        slots += [] if plan.pairs is None else [plan.pairs.of_slot]
        if plan.slot_weight is not None:
            real = plan.slot_weight.nonzero().squeeze(1)
            owner = owner[real]
            slots = [slot[real] for slot in slots]
        silent = torch.ones(plan.num_targets, dtype=torch.bool, device=device)
        silent[plan.order] = False
        node = torch.cat([plan.order, silent.nonzero().squeeze(1)])
        degree = torch.bincount(owner, minlength=node.numel())
        start = degree.cumsum(0) - degree
        pair = slots[2].contiguous() if len(slots) == 3 else None
        parts = _parted(node, degree, start, plan.num_targets)
        return Rows(slots[0].contiguous(), slots[1].contiguous(), pair, *parts)


def _parted(
    node: Tensor, degree: Tensor, start: Tensor, targets: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, int, Tensor | None, Members | None]:
    """Give receivers with more than SPLIT edges several rows."""
    number = ((degree + SPLIT - 1) // SPLIT).clamp(min=1)
    if not bool((number > 1).any()):
        return start, degree.to(torch.int32), node, node, 0, None, None
    before = number.cumsum(0) - number
    owner = torch.repeat_interleave(torch.arange(node.numel()).to(node), number)
    part = torch.arange(owner.numel(), device=node.device) - before[owner]
    count = (degree[owner] - part * SPLIT).clamp(max=SPLIT)
    spare = (part > 0).cumsum(0) - 1
    target = torch.where(part > 0, targets + spare, node[owner])
    several = (number > 1).nonzero().squeeze(1)
    lengths = number[several] - 1
    pointer = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    extra = int(pointer[-1])
    further = Members(pointer, targets + torch.arange(extra, device=node.device))
    first = start[owner] + part * SPLIT
    return (
        first,
        count.to(torch.int32),
        node[owner],
        target,
        extra,
        node[several],
        further,
    )
