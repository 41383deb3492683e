"""How a large system is cut into chunks so that it fits into a memory budget."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import nn

from torch_cormorant.errors import ConfigError, MemoryBudgetError
from torch_cormorant.networks import CormorantNetwork
from torch_cormorant.networks.radial_weights import WithRadialWeights

__all__ = ["MemoryPlan", "as_bytes", "plan_memory", "widths"]

CHUNK_EDGES_CPU = 1 << 14
"""Edges per chunk on a CPU where memory allows more: buffers stay near the cache."""
CHUNK_EDGES_DEVICE = 1 << 19
MIN_CHUNK_EDGES = 256
# Bytes of intermediate results per edge and per receiver in a chunk, in units of one
# row of a node's features: measured (forward and backward of one level) and rounded up.
ROWS_PER_EDGE = 12
ROWS_PER_RECEIVER = 60
EDGE_BYTES = 96
# The same for networks with weights of edges: rows of weights, rows of nodes.
WEIGHTS_PER_EDGE = 5
ROWS_PER_NODE = 8


@dataclass(frozen=True)
class MemoryPlan:
    """How a system is evaluated.

    Attributes:
        keep_edges: Keep edge scalars of all levels; else they are computed again.
        chunk_edges: Edges of one chunk.
        resident: Bytes that stay allocated: features, gradients, edges.
        working: Bytes of one chunk, estimated.
    """

    keep_edges: bool
    chunk_edges: int
    resident: int
    working: int


def as_bytes(size: float | str) -> float:
    """Bytes from a number, or a text such as ``"4GiB"`` or ``"500MB"``.

    Args:
        size: Number or text.

    Raises:
        ConfigError: It is neither.

    Example:
        >>> as_bytes("4GiB") == 4 * 2**30 == as_bytes(4 * 2**30)
        True
    """
    if isinstance(size, (int, float)) and size > 0:
        return size
    pattern = r"([0-9]+(?:\.[0-9]+)?)\s*(?:([kmgt])(i?)b)?"
    found = re.fullmatch(pattern, str(size).strip().lower())
    if found is None or not isinstance(size, str):
        msg = (
            f"memory must be a number of bytes or a text such as 8GiB or 500MB, got "
            f"{size!r}"
        )
        raise ConfigError(msg)
    number, prefix, binary = found.groups()
    power = "kmgt".index(prefix) + 1 if prefix else 0
    factor = 1024 if binary else 1000
    return float(number) * float(factor**power)


def plan_memory(
    model: CormorantNetwork | WithRadialWeights,
    num_atoms: int,
    num_edges: int,
    memory: float | None = None,
) -> MemoryPlan:
    """Choose chunks so that everything fits into a number of bytes.

    Args:
        model: The network.
        num_atoms: Atoms N.
        num_edges: Edges E, both directions, self edges not counted.
        memory: Bytes for this evaluation, the model and the process not counted; None:
            no limit.

    Returns:
        The plan.

    Raises:
        MemoryBudgetError: Not even the smallest chunks fit; the message says how much
            is needed.

    Example:
        >>> from torch_cormorant import Cormorant
        >>> model = Cormorant(channels=8, num_levels=2, lmax=2)
        >>> plan_memory(model, 1000, 40_000, 2 * 2**30).keep_edges
        True
    """
    size = torch.finfo(model.dtype).bits // 8
    if isinstance(model, WithRadialWeights):
        return _plan_levels(model, num_atoms, num_edges, memory)
    rows = [(l + 1) ** 2 * model.planes * c for l, c in widths(model)]
    edges = num_edges + num_atoms
    # features and their gradients of every level, positions, forces
    nodes = num_atoms * (2 * sum(rows) * size + 128)
    basic = nodes + edges * (EDGE_BYTES + 2 * 3 * size)
    states = [
        (conv.lmax_sh + 1) * model.planes * conv.in_channels
        for conv in model.conv_layers()[:-1]
    ]
    # one more for the gradient
    kept = edges * size * (sum(states) + max(states, default=0))
    widest = max(rows)
    largest = CHUNK_EDGES_CPU if _on_cpu(model) else CHUNK_EDGES_DEVICE
    average = max(1.0, edges / max(num_atoms, 1))
    per_edge = size * widest * (ROWS_PER_EDGE + ROWS_PER_RECEIVER / average)
    for keep, resident in ((True, basic + kept), (False, basic)):
        levels = 1 if keep else model.num_levels
        cost = per_edge * (levels + 1) / 2
        chunk = largest
        if memory is not None:
            chunk = int(min(largest, (memory - resident) / cost))
        enough = min(edges, largest if keep else MIN_CHUNK_EDGES, 4096)
        if chunk >= enough:
            return MemoryPlan(keep, max(chunk, 1), int(resident), int(chunk * cost))
    needed = basic + MIN_CHUNK_EDGES * per_edge * (model.num_levels + 1) / 2
    raise _too_small(num_atoms, num_edges, needed, memory)


def _plan_levels(
    model: WithRadialWeights, num_atoms: int, num_edges: int, memory: float | None
) -> MemoryPlan:
    """Chunks where levels hand on features of atoms only."""
    size = torch.finfo(model.dtype).bits // 8
    rows, weights = zip(*model.level_sizes(), strict=True)
    # features of every level, gradients of two, positions, forces
    resident = num_atoms * ((sum(rows) + 3 * max(rows)) * size + 128)
    resident += num_edges * (EDGE_BYTES + 2 * 3 * size)
    largest = CHUNK_EDGES_CPU if _on_cpu(model) else CHUNK_EDGES_DEVICE
    cost = size * (WEIGHTS_PER_EDGE * max(weights) + ROWS_PER_NODE * max(rows))
    chunk = largest
    if memory is not None:
        chunk = int(min(largest, (memory - resident) / cost))
    if chunk < min(num_edges, MIN_CHUNK_EDGES):
        needed = resident + MIN_CHUNK_EDGES * cost
        raise _too_small(num_atoms, num_edges, needed, memory)
    return MemoryPlan(False, max(chunk, 1), int(resident), int(chunk * cost))


def _too_small(
    num_atoms: int, num_edges: int, needed: float, memory: float | None
) -> MemoryBudgetError:
    msg = (
        f"memory: {num_atoms} atoms with {num_edges} edges need at least "
        f"{needed / 2**20:.0f} MiB, the budget is {(memory or 0) / 2**20:.0f} MiB"
    )
    return MemoryBudgetError(msg)


def _on_cpu(model: nn.Module) -> bool:
    return next(model.parameters()).device.type == "cpu"


def widths(model: CormorantNetwork) -> list[tuple[int, int]]:
    """Degree and channels of the input and of every level.

    Args:
        model: The network.

    Example:
        >>> from torch_cormorant import Cormorant
        >>> widths(Cormorant(channels=8, num_levels=2, lmax=2))
        [(0, 8), (2, 8), (2, 8)]
    """
    return list(zip([0, *model.lmax], model.channels, strict=True))
