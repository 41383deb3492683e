"""Paths and weight columns of a vertex step."""

from __future__ import annotations

from functools import cache

from torch_cormorant.errors import ConfigError
from torch_cormorant.ops.paths import Parity, PathTable


class VertexPaths:
    """Which products reach the degrees of a result, and with which weights.

    Args:
        lmax: Largest degree of the result.
        lmax_in: Largest degree of the node features.
        lmax_sh: Largest degree of the harmonics.
        parity: ``"all"`` or ``"even"``.

    Attributes:
        key: The arguments as whole numbers, for operators; see :func:`vertex_paths`.
        sums: Paths of the neighbour sum.
        squares: Paths of the square; each has a block of weight columns.
        folded: Those of them that differ.
        counts: For each degree the blocks of aggregate, identity and square.
        blocks: Their sums.
        folds: For each folded path, in order: its block of columns in the weight of its
            degree, an equal one or -1, and the sign of that.
    """

    def __init__(self, lmax: int, lmax_in: int, lmax_sh: int, parity: Parity) -> None:
        self.lmax, self.lmax_in = lmax, lmax_in
        self.key = [lmax, lmax_in, lmax_sh, int(parity == "even")]
        self.sums = PathTable(lmax_sh, lmax_in, min(lmax, lmax_sh + lmax_in), parity)
        top = min(lmax, 2 * lmax_in)
        self.squares = PathTable(lmax_in, lmax_in, top, parity)
        self.folded = PathTable(lmax_in, lmax_in, top, parity, folded=True)
        self.counts = tuple(
            (_count(self.sums, l), int(l <= lmax_in), _count(self.squares, l))
            for l in range(lmax + 1)
        )
        self.blocks = tuple(map(sum, self.counts))
        self.folds = tuple(self._fold(*path) for path in self.folded.paths)

    def _fold(self, l1: int, l2: int, l: int) -> tuple[int, int, int]:
        start = sum(self.counts[l][:2])
        paths = [path for path in self.squares.paths if path[2] == l]
        first = start + paths.index((l1, l2, l))
        if l1 == l2:
            return first, -1, 0
        sign = -1 if (l1 + l2 - l) % 2 else 1
        return first, start + paths.index((l2, l1, l)), sign


def _count(table: PathTable, l: int) -> int:
    return table.counts[l] if l < len(table.counts) else 0


@cache
def vertex_paths(key: tuple[int, ...]) -> VertexPaths:
    """The paths of a :attr:`VertexPaths.key`."""
    if len(key) != 4:
        msg = f"key must hold the four numbers of VertexPaths.key, got {list(key)}"
        raise ConfigError(msg)
    lmax, lmax_in, lmax_sh, even = key
    return VertexPaths(lmax, lmax_in, lmax_sh, "even" if even else "all")
