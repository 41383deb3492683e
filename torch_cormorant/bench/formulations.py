r"""Three ways to the same neighbour sum :math:`\sum_j (g_{ij} Y_{ij}) \otimes F_j`."""

from __future__ import annotations

import importlib
import math
import warnings
from importlib.util import find_spec
from typing import Any, Protocol

import torch
from torch import Tensor

from torch_cormorant.bench.graphs import Graph
from torch_cormorant.cg import clebsch_gordan
from torch_cormorant.ops import PathTable, build_plan, neighbour_sum

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


class Ours:
    """``torch_cormorant.ops.neighbour_sum``; the plan belongs to the graph."""

    name = "torch-cormorant"

    def __init__(self, graph: Graph, table: PathTable) -> None:
        self.table = table
        self.plan = build_plan(graph.edge_index, graph.num_nodes, graph.num_nodes)

    def leaves(self, x: Tensor, g: Tensor, sh: Tensor) -> Leaves:
        """Nothing to change."""
        return x, g, sh

    def run(self, *leaves: Tensor) -> Leaves:
        """The public operation."""
        x, g, sh = leaves
        return neighbour_sum(x, g, sh, self.plan, self.table)

    def canonical(self, out: Leaves) -> Leaves:
        """Nothing to change."""
        return out


def e3nn_is_installed() -> bool:
    """The peer is optional."""
    return find_spec("e3nn") is not None


class E3nnProducts:
    """Four real ``uuu`` products of e3nn make the complex one; then a sum over edges.

    e3nn has no complex vectors, so (a + ib)(c + id) is written out, as its users do.
    Its 3j symbols differ from our coefficients by sqrt(2l + 1) and a sign per path,
    which only the comparison applies.
    """

    name = "e3nn"

    def __init__(self, graph: Graph, table: PathTable, channels: int) -> None:
        self.graph, self.table, self.channels = graph, table, channels
        with warnings.catch_warnings():
            # Notices about e3nn's own use of torch.
            warnings.simplefilter("ignore")
            self.o3: Any = importlib.import_module("e3nn.o3")
            self.product = self._product()

    def _product(self) -> Any:
        channels, table = self.channels, self.table
        edges = self.o3.Irreps([(channels, (l, 1)) for l in range(table.lmax1 + 1)])
        nodes = self.o3.Irreps([(channels, (l, 1)) for l in range(table.lmax2 + 1)])
        out = self.o3.Irreps([(channels, (l, 1)) for _, _, l in table.paths])
        instructions = [
            (l1, l2, k, "uuu", False, 1.0) for k, (l1, l2, _) in enumerate(table.paths)
        ]
        return self.o3.TensorProduct(
            edges,
            nodes,
            out,
            instructions,
            irrep_normalization="none",
            path_normalization="none",
        )

    def leaves(self, x: Tensor, g: Tensor, sh: Tensor) -> Leaves:
        """Real and imaginary planes; channels outside, components inside."""
        lmax = self.table.lmax2
        rows = [x[:, degree(l)].transpose(1, 2).flatten(1) for l in range(lmax + 1)]
        return (*_planes(torch.cat(rows, dim=1)), *_planes(g), sh)

    def run(self, *leaves: Tensor) -> Leaves:
        """Edge vectors, four products, sum over neighbours."""
        x_re, x_im, g_re, g_im, sh = leaves
        source, target = self.graph.edge_index.unbind(0)
        a, b = self._edges(g_re, sh), self._edges(g_im, sh)
        c, d = x_re.index_select(0, source), x_im.index_select(0, source)
        real = self.product(a, c) - self.product(b, d)
        imag = self.product(a, d) + self.product(b, c)
        both = torch.cat([real, imag], dim=1)
        zeros = both.new_zeros(self.graph.num_nodes, both.shape[1])
        return (zeros.index_add(0, target, both),)

    def _edges(self, g: Tensor, sh: Tensor) -> Tensor:
        parts = [
            (g[:, l, :, None] * sh[:, None, degree(l)]).flatten(1)
            for l in range(self.table.lmax1 + 1)
        ]
        return torch.cat(parts, dim=1)

    def canonical(self, out: Leaves) -> Leaves:
        """``[N, 2l + 1, paths, C]`` per degree, in our coefficients."""
        real, imag = out[0].chunk(2, dim=1)
        total, start = torch.complex(real.contiguous(), imag.contiguous()), 0
        found: list[list[Tensor]] = [[] for _ in self.table.counts]
        for l1, l2, l in self.table.paths:
            size = self.channels * (2 * l + 1)
            part = total[:, start : start + size].unflatten(1, (self.channels, -1))
            found[l].append(self._factor(l1, l2, l) * part.transpose(1, 2))
            start += size
        return tuple(torch.stack(parts, dim=2) for parts in found)

    def _factor(self, l1: int, l2: int, l: int) -> float:
        ours = clebsch_gordan(l1, l2, l)
        theirs = self.o3.wigner_3j(l1, l2, l, dtype=torch.float64)
        return math.copysign(math.sqrt(2 * l + 1), float((ours * theirs).sum()))


def _planes(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.real.contiguous(), x.imag.contiguous()
