"""The neighbour sum as a segmented polynomial of cuEquivariance, exactly.

One path for every nonzero Clebsch-Gordan coefficient and product of planes, so that
gather, product and sum over edges are one call. Its kernels need CUDA; on a CPU its
``"naive"`` method runs, which is not meant to be fast.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.speed.formulations import Leaves
from benchmarks.speed.graphs import Graph
from torch_cormorant.cg import clebsch_gordan
from torch_cormorant.ops import PathTable

PLANES = ((0, 0, 0, 1.0), (1, 1, 0, -1.0), (0, 1, 1, 1.0), (1, 0, 1, 1.0))
"""Plane of g, of x and of the result, and the sign: a complex product."""


class CuEquivariance:
    """The four-operand product g, Y, F -> result, gathered and summed by the library.

    Args:
        graph: The edges.
        table: The paths.
        channels: Complex channels.
        method: ``"naive"`` (everywhere) or ``"uniform_1d"`` (CUDA).
    """

    name = "cuEquivariance"

    def __init__(
        self, graph: Graph, table: PathTable, channels: int, method: str = "naive"
    ) -> None:
        self.graph, self.table, self.channels = graph, table, channels
        self.cue: Any = importlib.import_module("cuequivariance")
        torch_side: Any = importlib.import_module("cuequivariance_torch")
        self.name = f"cuEquivariance ({method})"
        self.module = torch_side.SegmentedPolynomial(self._polynomial(), method=method)

    def _polynomial(self) -> Any:
        table, size = self.table, {"u": self.channels}
        product = self.cue.SegmentedTensorProduct.from_subscripts("u,,u,u")
        product.add_segments(0, 2 * (table.lmax1 + 1) * [(self.channels,)])
        product.add_segments(1, (table.lmax1 + 1) ** 2 * [()])
        product.add_segments(2, 2 * (table.lmax2 + 1) ** 2 * [(self.channels,)])
        counts = enumerate(table.counts)
        rows = 2 * sum((2 * l + 1) * count for l, count in counts)
        product.add_segments(3, rows * [(self.channels,)])
        seen = [0] * len(table.counts)
        for l1, l2, l in table.paths:
            self._add(product, (l1, l2, l), seen[l], size)
            seen[l] += 1
        operands = product.operands
        return self.cue.SegmentedPolynomial(
            operands[:3], operands[3:], [((0, 1, 2, 3), product)]
        )

    def _add(
        self, product: Any, path: tuple[int, int, int], place: int, size: dict[str, int]
    ) -> None:
        l1, l2, l = path
        first = 2 * sum((2 * k + 1) * self.table.counts[k] for k in range(l))
        coefficients = clebsch_gordan(l1, l2, l)
        for m1, m2, m in coefficients.nonzero().tolist():
            value = float(coefficients[m1, m2, m])
            row = first + 2 * (m * self.table.counts[l] + place)
            for plane_g, plane_x, plane, sign in PLANES:
                product.add_path(
                    2 * l1 + plane_g,
                    l1 * l1 + m1,
                    2 * (l2 * l2 + m2) + plane_x,
                    row + plane,
                    c=np.array(sign * value),
                    dims=size,
                )

    def leaves(self, x: Tensor, g: Tensor, sh: Tensor) -> Leaves:
        """Planes between components and channels, everything flat."""
        parts = torch.view_as_real(x), torch.view_as_real(g)
        return (*(part.transpose(2, 3).flatten(1) for part in parts), sh)

    def run(self, *leaves: Tensor) -> Leaves:
        """Gather, product, sum over neighbours."""
        x, g, sh = leaves
        source, target = self.graph.edge_index.unbind(0)
        out: list[Tensor] = self.module(
            [g, sh, x],
            {2: source},
            {0: x.new_empty(self.graph.num_nodes, 1)},
            {0: target},
        )
        return (out[0],)

    def canonical(self, out: Leaves) -> Leaves:
        """``[N, 2l + 1, paths, C]`` per degree."""
        found, start = [], 0
        for l, count in enumerate(self.table.counts):
            size = (2 * l + 1) * count * 2 * self.channels
            part = out[0][:, start : start + size]
            planes = part.unflatten(1, (2 * l + 1, count, 2, self.channels)).unbind(3)
            found.append(torch.complex(*(plane.contiguous() for plane in planes)))
            start += size
        return tuple(found)
