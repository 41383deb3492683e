r"""Ways to the same neighbour sum :math:`\sum_j (g_{ij} Y_{ij}) \otimes F_j`."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Protocol

import torch
from torch import Tensor

from benchmarks.speed.graphs import Graph
from torch_cormorant.errors import BackendError
from torch_cormorant.ops import PathTable, build_plan, neighbour_sum
from torch_cormorant.ops.dispatch import check_backend

Leaves = tuple[Tensor, ...]


class Formulation(Protocol):
    """A way to compute the neighbour sum, in its own layout of numbers."""

    name: str

    def leaves(self, x: Tensor, g: Tensor, sh: Tensor) -> Leaves:
        """Our inputs in the formulation's own layout (linear, not timed)."""
        ...

    def run(self, *leaves: Tensor) -> Leaves:
        """The work that is timed."""
        ...

    def canonical(self, out: Leaves) -> Leaves:
        """Results of :meth:`run` in our layout and basis (not timed)."""
        ...


def degree(l: int) -> slice:
    """Components of one degree on a packed axis."""
    return slice(l * l, (l + 1) ** 2)


SHOWN = {
    "auto": "",
    "portable": ", portable",
    "cpu_kernel": ", CPU kernel",
    "triton": ", Triton",
}


class Ours:
    """``torch_cormorant.ops.neighbour_sum``; the plan belongs to the graph.

    Args:
        graph: The edges.
        table: The paths.
        backend: As for the operation.
    """

    name = "torch-cormorant"

    def __init__(self, graph: Graph, table: PathTable, backend: str = "auto") -> None:
        self.table, self.backend = table, backend
        self.name = f"{Ours.name}{SHOWN[backend]}"
        self.plan = build_plan(graph.edge_index, graph.num_nodes, graph.num_nodes)

    def leaves(self, x: Tensor, g: Tensor, sh: Tensor) -> Leaves:
        """Nothing to change."""
        return x, g, sh

    def run(self, *leaves: Tensor) -> Leaves:
        """The public operation."""
        x, g, sh = leaves
        return neighbour_sum(x, g, sh, self.plan, self.table, self.backend)

    def canonical(self, out: Leaves) -> Leaves:
        """Nothing to change."""
        return out


def problem_with(backend: str) -> str | None:
    """Why a backend of ours does not run here, or None."""
    if backend == "triton" and not torch.cuda.is_available():
        return "not run: needs a CUDA device"
    try:
        check_backend(backend)
    except BackendError as error:
        return f"not run: {error}"
    return None


def is_installed(module: str) -> bool:
    """Whether an optional peer can be imported."""
    return find_spec(module) is not None
