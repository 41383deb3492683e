"""The order in which a graph's edges are summed, worked out once per graph."""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from torch_cormorant.errors import (
    ConfigError,
    DtypeError,
    EdgeIndexError,
    ShapeError,
)
from torch_cormorant.ops.edges import check_edge_index, check_edge_vec

CHUNK_SLOTS_CPU = 1024
"""Edges per chunk on a CPU: a chunk's buffers stay in the cache."""
CHUNK_SLOTS_DEVICE = 1 << 17
"""Edges per chunk elsewhere: few, large launches."""
_PARTS = 11


@dataclass(frozen=True)
class Chunk:
    """Receivers ``order[first:last]``, padded to ``width`` slots each."""

    first: int
    last: int
    slot: int
    width: int


@dataclass(frozen=True)
class Pairs:
    """Edges matched with their reverse: one undirected pair for every two edges.

    ``of_edge`` ``[E]`` is the pair of each edge, ``edge`` ``[number of pairs]`` the
    edge that stands for the pair, ``of_slot`` the pair of each slot of the plan.
    """

    of_edge: Tensor
    edge: Tensor
    of_slot: Tensor


@dataclass(frozen=True)
class GraphPlan:
    """Receiver-sorted, degree-sorted chunks of a graph, shared by all layers.

    Slots are edges in the order in which they are summed: chunk after chunk, in a
    chunk receiver after receiver, each receiver padded to the chunk's width.
    A padded slot reads edge 0 with weight zero.

    Attributes:
        num_sources: Number of nodes that edges start from.
        num_targets: Number of nodes that edges point to.
        num_edges: Number of edges E.
        order: ``[number of receivers with edges]``, largest degree first.
        in_order: True where ``order`` is 0, 1, 2, ...: nothing needs to be permuted.
        chunks: The chunks.
        slot_edge: ``[S]`` edge of each slot.
        slot_source: ``[S]`` source node of each slot.
        slot_weight: ``[S]`` one for an edge, zero for padding; None without padding.
        pairs: The undirected pairs, or None where the graph is treated as directed.
        rowptr: ``[num_targets + 1]`` first row of each receiver in ``csr_edge``.
        csr_edge: ``[E]`` edges sorted by receiver, in the order of the edge list.
        csr_source: ``[E]`` source node of each of them.
        csr_row: ``[E]`` pair of each of them; empty where the graph is directed.
        packed: All index tensors one after the other: the plan as one argument of an
            operator.
        header: What is needed to read ``packed``, on the CPU.
        version: State of ``packed`` when the plan was made: a plan whose tensors were
            changed afterwards is refused.
    """

    num_sources: int
    num_targets: int
    num_edges: int
    order: Tensor
    in_order: bool
    chunks: tuple[Chunk, ...]
    slot_edge: Tensor
    slot_source: Tensor
    slot_weight: Tensor | None
    pairs: Pairs | None
    rowptr: Tensor
    csr_edge: Tensor
    csr_source: Tensor
    csr_row: Tensor
    packed: Tensor
    header: Tensor
    version: int = 0

    @property
    def all_receive(self) -> bool:
        """True if every target node has at least one edge."""
        return self.order.numel() == self.num_targets


_plans: WeakValueDictionary[int, GraphPlan] = WeakValueDictionary()
"""Plans that are in use, by their packed tensor: operators need not read it again."""


def build_plan(
    edge_index: Tensor,
    num_sources: int,
    num_targets: int,
    edge_vec: Tensor | None = None,
    chunk_slots: int | None = None,
) -> GraphPlan:
    """Sort a graph for the neighbour sum.

    Args:
        edge_index: ``[2, E]`` int64, row 0 = source, row 1 = target.
        num_sources: Number of source nodes.
        num_targets: Number of target nodes.
        edge_vec: ``[E, 3]``. When given, edges are matched with their reverse, and
            pairs are kept if every edge has one whose vector is exactly negated.
        chunk_slots: Edges per chunk (default: by device).

    Returns:
        The plan. The operators refuse it where its tensors were changed afterwards.

    Raises:
        ShapeError, DtypeError, DeviceError: If a tensor is not as above.
        EdgeIndexError: If an index is negative or too large.
        ConfigError: If ``chunk_slots`` is not positive.

    Example:
        >>> import torch
        >>> plan = build_plan(torch.tensor([[0, 1, 2], [1, 0, 0]]), 3, 3)
        >>> plan.rowptr.tolist(), plan.csr_source.tolist()
        ([0, 2, 3, 3], [1, 2, 0])
    """
    if chunk_slots is not None and chunk_slots < 1:
        msg = f"chunk_slots must be at least 1, got {chunk_slots}"
        raise ConfigError(msg)
    if not torch.compiler.is_compiling():
        check_edge_index(edge_index, (num_sources, num_targets), edge_index.device)
        if edge_vec is not None:
            check_edge_vec(edge_vec, edge_index)
    return make_plan(edge_index, num_sources, num_targets, edge_vec, chunk_slots)


def make_plan(
    edge_index: Tensor,
    num_sources: int,
    num_targets: int,
    edge_vec: Tensor | None = None,
    chunk_slots: int | None = None,
    pairs: tuple[Tensor, Tensor] | None = None,
) -> GraphPlan:
    """:func:`build_plan` for an edge list that has been checked.

    ``pairs``: ``of_edge`` and ``edge`` of :class:`Pairs`, where they are known.
    """
    source, target = edge_index[0], edge_index[1]
    if chunk_slots is None:
        on_cpu = edge_index.device.type == "cpu"
        chunk_slots = CHUNK_SLOTS_CPU if on_cpu else CHUNK_SLOTS_DEVICE
    degree = torch.bincount(target, minlength=num_targets)
    rowptr = torch.cat([degree.new_zeros(1), degree.cumsum(0)])
    by_target = _stable_order(target)
    by_degree = torch.argsort(degree, descending=True, stable=True)
    degrees = degree.index_select(0, by_degree)
    receivers = int(degrees.count_nonzero())
    order = by_degree[:receivers]
    chunks, width = _cut(degrees[:receivers], chunk_slots)
    slot_edge, weight = _fill(rowptr.index_select(0, order), degrees[:receivers], width)
    if by_target is None:
        by_target = torch.arange(edge_index.shape[1], device=edge_index.device)
    elif slot_edge.numel():
        slot_edge = by_target.index_select(0, slot_edge)
    matched = None
    if pairs is not None:
        matched = Pairs(*pairs, pairs[0].index_select(0, slot_edge))
    elif edge_vec is not None and num_sources == num_targets:
        matched = match_pairs(edge_index, edge_vec, num_sources, slot_edge)
    identity = torch.arange(receivers, device=order.device)
    empty = order[:0]
    parts = [
        order,
        slot_edge,
        source.index_select(0, slot_edge),
        empty if weight is None else weight.long(),
        empty if matched is None else matched.of_slot,
        rowptr,
        by_target,
        source.index_select(0, by_target),
        empty if matched is None else matched.of_edge.index_select(0, by_target),
        empty if matched is None else matched.edge,
        empty if matched is None else matched.of_edge,
    ]
    flags = (torch.equal(order, identity), weight is not None, matched is not None)
    numbers = [num_sources, num_targets, edge_index.shape[1], *map(int, flags)]
    numbers += [part.numel() for part in parts]
    for chunk in chunks:
        numbers += (chunk.first, chunk.last, chunk.slot, chunk.width)
    header = torch.tensor(numbers, dtype=torch.long, device="cpu")
    plan = _read(torch.cat(parts), header, matched)
    if not torch.compiler.is_compiling():
        _plans[id(plan.packed)] = plan
    return plan


def plan_of(packed: Tensor, header: Tensor) -> GraphPlan:
    """The plan that two tensors came from, or else what they say.

    Raises:
        EdgeIndexError: If the plan's tensors were changed after it was made.
    """
    plan = _plans.get(id(packed))
    if plan is None or plan.packed is not packed:
        return unpack_plan(packed, header)
    if plan.version != _version(packed):
        msg = (
            "the tensors of the plan were changed after it was made; a plan belongs "
            "to one graph: make a new one with build_plan or EdgeGeometry"
        )
        raise EdgeIndexError(msg)
    return plan


def known_plan(packed: Tensor) -> GraphPlan | None:
    """The plan whose tensor this is: who keeps it need not read the tensor again."""
    return _plans.get(id(packed))


def _version(x: Tensor) -> int:
    """How often a tensor was changed; inference tensors do not count."""
    return 0 if x.is_inference() else x._version  # noqa: SLF001


def unpack_plan(
    packed: Tensor, header: Tensor, pairs: Pairs | None = None
) -> GraphPlan:
    """Read a plan from its two tensors; views, no wait for a device.

    Operators take tensors and numbers only. One tensor, whatever optional parts a plan
    has, keeps ``torch.compile`` from compiling again for each kind of graph.

    Args:
        packed: All index tensors one after the other.
        header: On the CPU: six numbers, the sizes of the parts, four for each chunk.
        pairs: The pairs, where their tensors exist outside of ``packed``.

    Returns:
        The plan.

    Raises:
        ShapeError, DtypeError: If the two do not fit each other, or name rows that do
            not exist.
    """
    if not torch.compiler.is_compiling():
        _check_packed(packed, header)
    return _read(packed, header, pairs)


def _read(packed: Tensor, header: Tensor, pairs: Pairs | None = None) -> GraphPlan:
    numbers = header.tolist()
    sources, targets, edges, in_order, weighted, paired = numbers[:6]
    first = 6 + _PARTS
    parts = packed.split(numbers[6:first])
    order, slot_edge, slot_source, weight, of_slot, rowptr, edge, source, row = parts[
        :9
    ]
    if paired and pairs is None:
        pairs = Pairs(parts[10], parts[9], of_slot)
    return GraphPlan(
        num_sources=sources,
        num_targets=targets,
        num_edges=edges,
        order=order,
        in_order=bool(in_order),
        chunks=tuple(Chunk(*numbers[k : k + 4]) for k in range(first, len(numbers), 4)),
        slot_edge=slot_edge,
        slot_source=slot_source,
        slot_weight=weight.bool() if weighted else None,
        pairs=pairs,
        rowptr=rowptr,
        csr_edge=edge,
        csr_source=source,
        csr_row=row,
        packed=packed,
        header=header,
        version=0 if torch.compiler.is_compiling() else _version(packed),
    )


def _check_packed(packed: Tensor, header: Tensor) -> None:
    """Refuse two tensors that no plan is made of; indices are checked where used."""
    for name, part in (("packed", packed), ("header", header)):
        if part.dtype != torch.int64 or part.ndim != 1 or not part.is_contiguous():
            msg = (
                f"{name} must be a contiguous int64 vector as GraphPlan.{name} is, got "
                f"{part.dtype} of shape {list(part.shape)}"
            )
            raise DtypeError(msg)
    numbers = header.tolist() if header.device.type == "cpu" else []
    sizes = numbers[6 : 6 + _PARTS]
    fits = len(sizes) == _PARTS and (len(numbers) - 6 - _PARTS) % 4 == 0
    if fits:
        sources, targets, edges, _, weighted, paired = numbers[:6]
        order, slots, slot_source, weight, of_slot, *rest = sizes
        fits = min(numbers) >= 0 and sum(sizes) == packed.numel() and sources >= 0
        fits = fits and order <= targets and slots == slot_source
        fits = fits and weight == slots * bool(weighted)
        fits = fits and of_slot == slots * bool(paired)
        row, pairs = edges * bool(paired), rest[4]
        fits = fits and rest == [targets + 1, edges, edges, row, pairs, row]
        fits = fits and pairs <= row
    if fits and packed.device.type == "cpu":
        limits = [targets, edges, sources, 2, pairs, edges + 1]
        limits += [edges, sources, pairs, edges, pairs]
        parts = zip(packed.split(sizes), limits, strict=True)
        fits = all(_within(part, limit) for part, limit in parts)
    if not fits:
        msg = (
            "header and packed do not describe one plan; give packed and header of one "
            "GraphPlan, as build_plan made it"
        )
        raise ShapeError(msg)


def _within(index: Tensor, limit: int) -> bool:
    """Whether all indices lie in 0 .. limit - 1."""
    if not index.numel():
        return True
    least, most = index.aminmax()
    return int(least) >= 0 and int(most) < limit


def match_pairs(
    edge_index: Tensor, edge_vec: Tensor, num_nodes: int, slot_edge: Tensor
) -> Pairs | None:
    """Match every edge with its reverse, or return None where one has none.

    The k-th of several equal edges is matched with the k-th of their reverses;
    periodic images, which share their atoms, by their vectors. A self edge with a zero
    vector is its own reverse.
    """
    source, target = edge_index[0], edge_index[1]
    forth, back = target * num_nodes + source, source * num_nodes + target
    forth_order, back_order = _stable_order(forth), torch.argsort(back, stable=True)
    forth_sorted = forth if forth_order is None else forth[forth_order]
    if not torch.equal(forth_sorted, back[back_order]):
        return None
    reverse = _put(back_order, forth_order)
    with torch.no_grad():
        matched = torch.equal(edge_vec, -edge_vec[reverse])
        if not matched and bool((forth_sorted[1:] == forth_sorted[:-1]).any()):
            reverse = _put(_by_vector(back, -edge_vec), _by_vector(forth, edge_vec))
            matched = torch.equal(edge_vec, -edge_vec[reverse])
    if not matched:
        return None
    index = torch.arange(forth.numel(), device=forth.device)
    stands = index <= reverse
    number = stands.cumsum(0) - 1
    of_edge = torch.where(stands, number, number[reverse])
    return Pairs(of_edge, index[stands], of_edge[slot_edge])


def _put(values: Tensor, places: Tensor | None) -> Tensor:
    """Values at given places; None: they are in their places already."""
    if places is None:
        return values
    result = torch.empty_like(values)
    result[places] = values
    return result


def _by_vector(key: Tensor, vec: Tensor) -> Tensor:
    """A stable permutation that sorts by a key, then by the components of vectors."""
    order = torch.arange(key.numel(), device=key.device)
    # adding zero turns -0.0 into 0.0, which a radix sort would tell apart
    for column in (vec[:, 2] + 0.0, vec[:, 1] + 0.0, vec[:, 0] + 0.0, key):
        order = order[torch.argsort(column[order], stable=True)]
    return order


def _stable_order(key: Tensor) -> Tensor | None:
    """A stable sorting permutation, or None if the key is sorted already."""
    if bool((key[1:] >= key[:-1]).all()):
        return None
    return torch.argsort(key, stable=True)


def _cut(degrees: Tensor, chunk_slots: int) -> tuple[tuple[Chunk, ...], Tensor]:
    """Cut receivers (largest degree first) into chunks of about chunk_slots slots."""
    counts = degrees.tolist()
    chunks, widths, first, slot = [], [], 0, 0
    while first < len(counts):
        width = counts[first]
        last = min(first + max(1, chunk_slots // width), len(counts))
        chunks.append(Chunk(first, last, slot, width))
        widths.append((width, last - first))
        slot += width * (last - first)
        first = last
    table = torch.tensor(widths, dtype=torch.long, device="cpu").reshape(-1, 2)
    return tuple(chunks), table[:, 0].repeat_interleave(table[:, 1]).to(degrees.device)


def _fill(
    start: Tensor, degrees: Tensor, width: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Position in receiver-sorted order of the edge in each slot, and the weights."""
    receiver = torch.repeat_interleave(
        torch.arange(start.numel(), device=start.device), width
    )
    offset = torch.arange(receiver.numel(), device=start.device)
    offset = offset - (width.cumsum(0) - width)[receiver]
    real = offset < degrees[receiver]
    position = torch.where(real, start[receiver] + offset, 0)
    return position, None if bool(real.all()) else real
