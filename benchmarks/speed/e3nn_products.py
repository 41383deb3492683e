"""The neighbour sum with e3nn's tensor products, in the two ways its users have."""

from __future__ import annotations

import contextlib
import importlib
import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks.speed.formulations import Leaves, degree
from benchmarks.speed.graphs import Graph
from torch_cormorant.cg import clebsch_gordan
from torch_cormorant.ops import PathTable

Run = Callable[..., Leaves]


def _planes(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.real.contiguous(), x.imag.contiguous()


class _Products:
    """What both ways share: the layout of e3nn, and its coefficients.

    Its 3j symbols differ from our coefficients by sqrt(2l + 1) and a sign per path,
    which only the comparison applies.
    """

    name: str

    def __init__(
        self, graph: Graph, table: PathTable, channels: int, *, compiled: bool = False
    ) -> None:
        self.graph, self.table, self.channels = graph, table, channels
        with warnings.catch_warnings(), _as_fx(compiled):
            # Notices about e3nn's own use of torch.
            warnings.simplefilter("ignore")
            self.o3: Any = importlib.import_module("e3nn.o3")
            self.product = self._product()
        self.work: Run = self._eager
        if compiled:
            self.name = f"{self.name}, compiled"
            self.work = torch.compile(self._eager, dynamic=False)

    def _product(self) -> Any:
        raise NotImplementedError

    def _tensor_product(
        self,
        paths: list[tuple[int, int, int]],
        one: tuple[int, int],
        other: tuple[int, int],
        mode: str,
    ) -> Any:
        """Without weights; both factors as channels and largest degree."""
        irreps = [
            self.o3.Irreps([(channels, (l, 1)) for l in range(lmax + 1)])
            for channels, lmax in (one, other)
        ]
        return self.o3.TensorProduct(
            *irreps,
            self.o3.Irreps([(one[0], (l, 1)) for _, _, l in paths]),
            [(a, b, k, mode, False, 1.0) for k, (a, b, _) in enumerate(paths)],
            irrep_normalization="none",
            path_normalization="none",
        )

    def _eager(self, *leaves: Tensor) -> Leaves:
        raise NotImplementedError

    def run(self, *leaves: Tensor) -> Leaves:
        """The work that is timed."""
        return self.work(*leaves)

    def leaves(self, x: Tensor, g: Tensor, sh: Tensor) -> Leaves:
        """Real and imaginary planes; channels outside, components inside."""
        lmax = self.table.lmax2
        rows = [x[:, degree(l)].transpose(1, 2).flatten(1) for l in range(lmax + 1)]
        return (*_planes(torch.cat(rows, dim=1)), *_planes(g), sh)

    def canonical(self, out: Leaves) -> Leaves:
        """``[N, 2l + 1, paths, C]`` per degree, in our coefficients."""
        real, imag = out[0].chunk(2, dim=1)
        total, start = torch.complex(real.contiguous(), imag.contiguous()), 0
        found: list[list[Tensor]] = [[] for _ in self.table.counts]
        for path in self.table.paths:
            l = path[2]
            size = self.channels * (2 * l + 1)
            part = total[:, start : start + size].unflatten(1, (self.channels, -1))
            found[l].append(self._factor(*path) * part.transpose(1, 2))
            start += size
        return tuple(torch.stack(parts, dim=2) for parts in found)

    def _factor(self, l1: int, l2: int, l: int) -> float:
        ours = clebsch_gordan(l1, l2, l)
        theirs = self._coefficients(l1, l2, l)
        return math.copysign(math.sqrt(2 * l + 1), float((ours * theirs).sum()))

    def _coefficients(self, l1: int, l2: int, l: int) -> Tensor:
        found: Tensor = self.o3.wigner_3j(l1, l2, l, dtype=torch.float64)
        return found

    def _summed(self, real: Tensor, imag: Tensor) -> Leaves:
        both = torch.cat([real, imag], dim=1)
        zeros = both.new_zeros(self.graph.num_nodes, both.shape[1])
        return (zeros.index_add(0, self.graph.edge_index[1], both),)


class E3nnProducts(_Products):
    """Four real ``uuu`` products of e3nn make the complex one; then a sum over edges.

    e3nn has no complex vectors, so (a + ib)(c + id) is written out, as its users do.
    """

    name = "e3nn"

    def _product(self) -> Any:
        C, table = self.channels, self.table
        paths = list(table.paths)
        return self._tensor_product(paths, (C, table.lmax1), (C, table.lmax2), "uuu")

    def _eager(self, *leaves: Tensor) -> Leaves:
        x_re, x_im, g_re, g_im, sh = leaves
        source = self.graph.edge_index[0]
        a, b = self._edges(g_re, sh), self._edges(g_im, sh)
        c, d = x_re.index_select(0, source), x_im.index_select(0, source)
        real = self.product(a, c) - self.product(b, d)
        imag = self.product(a, d) + self.product(b, c)
        return self._summed(real, imag)

    def _edges(self, g: Tensor, sh: Tensor) -> Tensor:
        parts = [
            (g[:, l, :, None] * sh[:, None, degree(l)]).flatten(1)
            for l in range(self.table.lmax1 + 1)
        ]
        return torch.cat(parts, dim=1)


class E3nnConvolution(_Products):
    """One real ``uvu`` product of 2C channels with the harmonics, then times g.

    The product of e3nn's own networks: features with the harmonics of an edge, which
    have one channel. Real and imaginary parts are the 2C channels; the complex edge
    scalars multiply every path afterwards.
    """

    name = "e3nn uvu"

    def _product(self) -> Any:
        double, table = 2 * self.channels, self.table
        paths = [(l2, l1, l) for l1, l2, l in table.paths]
        return self._tensor_product(
            paths, (double, table.lmax2), (1, table.lmax1), "uvu"
        )

    def leaves(self, x: Tensor, g: Tensor, sh: Tensor) -> Leaves:
        """Real and imaginary parts as channels of one vector per degree."""
        both = torch.cat(_planes(x), dim=2)
        rows = [
            both[:, degree(l)].transpose(1, 2).flatten(1)
            for l in range(self.table.lmax2 + 1)
        ]
        return (torch.cat(rows, dim=1), *_planes(g), sh)

    def _eager(self, *leaves: Tensor) -> Leaves:
        x, g_re, g_im, sh = leaves
        product = self.product(x.index_select(0, self.graph.edge_index[0]), sh)
        real, imag, start = [], [], 0
        for l1, _, l in self.table.paths:
            size = 2 * self.channels * (2 * l + 1)
            part = product[:, start : start + size]
            c, d = part.unflatten(1, (2, self.channels, 2 * l + 1)).unbind(1)
            a, b = g_re[:, l1, :, None], g_im[:, l1, :, None]
            real.append((a * c - b * d).flatten(1))
            imag.append((a * d + b * c).flatten(1))
            start += size
        return self._summed(torch.cat(real, dim=1), torch.cat(imag, dim=1))

    def _coefficients(self, l1: int, l2: int, l: int) -> Tensor:
        found: Tensor = self.o3.wigner_3j(l2, l1, l, dtype=torch.float64)
        return found.transpose(0, 1)


@contextlib.contextmanager
def _as_fx(compiled: bool) -> Iterator[None]:
    """For ``torch.compile``, e3nn's generated code must not be TorchScript."""
    if not compiled:
        yield
        return
    e3nn = importlib.import_module("e3nn")
    before = e3nn.get_optimization_defaults()["jit_script_fx"]
    e3nn.set_optimization_defaults(jit_script_fx=False)
    try:
        yield
    finally:
        e3nn.set_optimization_defaults(jit_script_fx=before)
