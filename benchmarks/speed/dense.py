r"""The algorithm of the published code: dense pairs, Kronecker product, sum, CG.

For every pair of degrees (l1, l2) it builds the tensor
``[B, A, A, C, (2 l1 + 1)(2 l2 + 1), 4]``, whose last axis holds the four products of
real and imaginary parts, sums it over the neighbours, turns the four products into
two, and applies the Clebsch-Gordan coefficients, all in the Condon-Shortley basis.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.speed.formulations import Leaves, degree
from benchmarks.speed.graphs import Graph
from torch_cormorant.cg import clebsch_gordan
from torch_cormorant.ops import PathTable

BYTES = 4
"""Of a float32."""


def largest_tensor_bytes(graph: Graph, lmax: int, channels: int) -> int:
    """Size of the largest Kronecker tensor if the graph were one dense molecule."""
    molecules = graph.molecules or 1
    atoms = graph.atoms or graph.num_nodes
    return molecules * atoms**2 * channels * (2 * lmax + 1) ** 2 * 4 * BYTES


class DenseKronecker:
    """The neighbour sum over all pairs of every molecule, whether bound or not."""

    name = "dense (published algorithm)"

    def __init__(self, graph: Graph, table: PathTable) -> None:
        self.graph, self.table = graph, table
        # (re re, re im, im re, im im) to (re, im)
        self.complex_from_four = torch.tensor([[1.0, 0], [0, 1], [0, 1], [-1, 0]])
        self.cg = {
            (block.l1, block.l2): torch.cat(
                [_rows(block.l1, block.l2, l) for l, _, _ in block.places]
            )
            for block in table.blocks
        }

    def leaves(self, x: Tensor, g: Tensor, sh: Tensor) -> Leaves:
        """``[B, A, C, M, 2]``, ``[B, A, A, C, L + 1, 2]`` and ``[B, A, A, M, 2]``."""
        molecules, atoms = self.graph.molecules, self.graph.atoms
        source, target = self.graph.edge_index.unbind(0)
        place = (target // atoms, target % atoms, source % atoms)
        shape = (molecules, atoms, atoms)
        lmax1, lmax2 = self.table.lmax1, self.table.lmax2
        dense_g = g.new_zeros(*shape, *g.shape[1:]).index_put(place, g)
        spherical = _spherical(sh.to(g.dtype), lmax1)
        dense_sh = spherical.new_zeros(*shape, sh.shape[1])
        dense_sh = dense_sh.index_put(place, spherical)
        nodes = _spherical(x.transpose(1, 2), lmax2)
        return (
            torch.view_as_real(nodes).unflatten(0, (molecules, atoms)).contiguous(),
            torch.view_as_real(dense_g.transpose(-1, -2)).contiguous(),
            torch.view_as_real(dense_sh).contiguous(),
        )

    def run(self, *leaves: Tensor) -> Leaves:
        """One block of rows ``[B, A, C, rows, 2]`` for every (l1, l2)."""
        x, g, sh = leaves
        out = []
        for l1 in range(self.table.lmax1 + 1):
            edge = _complex_product(g[..., l1, None, :], sh[..., None, degree(l1), :])
            for block in (b for b in self.table.blocks if b.l1 == l1):
                node = x[:, None, :, :, degree(block.l2)]
                four = edge[..., :, None, :, None] * node[..., None, :, None, :]
                four = four.flatten(-2).flatten(-3, -2).sum(dim=2)
                two = four @ self.complex_from_four
                out.append(self.cg[block.l1, block.l2] @ two)
        return tuple(out)

    def canonical(self, out: Leaves) -> Leaves:
        """``[N, 2l + 1, paths, C]`` per degree, in the real basis."""
        found: list[dict[int, Tensor]] = [{} for _ in self.table.counts]
        for block, rows in zip(self.table.blocks, out, strict=True):
            total = torch.view_as_complex(rows.contiguous()).flatten(0, 1)
            for l, position, row in block.places:
                part = _from_spherical(total[..., row : row + 2 * l + 1], l)
                odd = (block.l1 + block.l2 + l) % 2
                # The real table of an odd path is the imaginary part of U^+ C (U x U).
                part = -1j * part if odd else part
                found[l][position] = part.transpose(1, 2)
        return tuple(
            torch.stack([parts[k] for k in sorted(parts)], dim=2) for parts in found
        )


def _complex_product(a: Tensor, b: Tensor) -> Tensor:
    """Product of (re, im) pairs on the last axis, with broadcasting."""
    real = a[..., 0] * b[..., 0] - a[..., 1] * b[..., 1]
    imag = a[..., 0] * b[..., 1] + a[..., 1] * b[..., 0]
    return torch.stack([real, imag], dim=-1)


def _rows(l1: int, l2: int, l: int) -> Tensor:
    block = clebsch_gordan(l1, l2, l, basis="complex", dtype=torch.float32)
    return block.flatten(0, 1).t()


def _basis(l: int, like: Tensor) -> Tensor:
    """The unitary U_l with U_l S_l = Condon-Shortley harmonics (conjugate ones)."""
    root = 0.5**0.5
    rows = torch.zeros(2 * l + 1, 2 * l + 1, dtype=torch.complex128)
    rows[l, l] = 1
    for m in range(1, l + 1):
        sign = (-1) ** m
        rows[l + m, l + m], rows[l + m, l - m] = root * sign, -1j * root * sign
        rows[l - m, l + m], rows[l - m, l - m] = root, 1j * root
    return rows.to(like.dtype)


def _spherical(x: Tensor, lmax: int) -> Tensor:
    """Packed real-basis components (last axis) to the Condon-Shortley basis."""
    parts = [x[..., degree(l)] @ _basis(l, x).t() for l in range(lmax + 1)]
    return torch.cat(parts, dim=-1)


def _from_spherical(x: Tensor, l: int) -> Tensor:
    """One degree (last axis) back to the real basis."""
    return x @ _basis(l, x).conj()
