"""Which Clebsch-Gordan paths a product uses, and their matrices in one dtype."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Literal, cast

import torch
from torch import Tensor

from torch_cormorant.cg import clebsch_gordan, paths
from torch_cormorant.errors import ConfigError
from torch_cormorant.so3.layout import check_degree

Parity = Literal["all", "even"]


def check_paths(value: str) -> Parity:
    """Refuse anything but ``"all"`` and ``"even"``."""
    if value not in ("all", "even"):
        msg = f'paths must be "all" or "even", got {value!r}'
        raise ConfigError(msg)
    return cast("Parity", value)


@dataclass(frozen=True)
class Block:
    """All paths of one pair (l1, l2): one matrix serves every degree l they reach.

    ``places`` holds ``(l, position of the path among those of degree l, first row)``.
    """

    l1: int
    l2: int
    places: tuple[tuple[int, int, int], ...]
    rows: int


@dataclass(frozen=True)
class PathTable:
    """The paths (l1, l2) -> l of a product, grouped by (l1, l2).

    Args:
        lmax1: Largest degree of the first operand.
        lmax2: Largest degree of the second operand.
        lmax: Largest degree of the result.
        parity: ``"all"`` or ``"even"`` (only even ``l1 + l2 + l``).
        folded: Keep only the independent paths of a square: ``l1 < l2``, or
            ``l1 == l2`` with even ``l`` (the other ones vanish or repeat).

    Attributes:
        paths: ``(l1, l2, l)`` of every path; l outermost, then l1, then l2.
        counts: Number of paths that end in each degree.
        blocks: The paths grouped by ``(l1, l2)``, l1 outermost.
        used_lmax2: Largest degree of the second operand that any path reads.
    """

    lmax1: int
    lmax2: int
    lmax: int
    parity: Parity = "all"
    folded: bool = False

    # Worked out at once and kept as plain attributes: torch.compile reads those.
    paths: tuple[tuple[int, int, int], ...] = field(init=False, compare=False)
    counts: tuple[int, ...] = field(init=False, compare=False, repr=False)
    blocks: tuple[Block, ...] = field(init=False, compare=False, repr=False)
    used_lmax2: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        check_paths(self.parity)
        for name in ("lmax1", "lmax2", "lmax"):
            check_degree(getattr(self, name), name)
        found = _path_list(self)
        ends = [path[2] for path in found]
        counts = tuple(ends.count(l) for l in range(self.lmax + 1))
        object.__setattr__(self, "paths", found)
        object.__setattr__(self, "counts", counts)
        object.__setattr__(self, "blocks", _block_list(self))
        used = max((l2 for _, l2, _ in found), default=0)
        object.__setattr__(self, "used_lmax2", used)

    @property
    def key(self) -> list[int]:
        """The table in numbers, as operators take it; see ``table_of``."""
        flags = (int(self.parity == "even"), int(self.folded))
        return [self.lmax1, self.lmax2, self.lmax, *flags]

    def matrix(self, block: Block, like: Tensor) -> Tensor:
        """``[rows, (2 l1 + 1)(2 l2 + 1)]`` in the dtype and on the device of like."""
        return _matrix(block, like.dtype, like.device)


def table_of(key: Sequence[int]) -> PathTable:
    """The table of a :attr:`PathTable.key`."""
    if len(key) != 5:
        msg = f"key must hold the five numbers of PathTable.key, got {list(key)}"
        raise ConfigError(msg)
    return _table(tuple(key))


@cache
def _table(key: tuple[int, ...]) -> PathTable:
    lmax1, lmax2, lmax, even, folded = key
    return PathTable(lmax1, lmax2, lmax, "even" if even else "all", bool(folded))


def _path_list(table: PathTable) -> tuple[tuple[int, int, int], ...]:
    found = paths(table.lmax1, table.lmax2, table.lmax, table.parity)
    if not table.folded:
        return tuple(found)
    return tuple(
        (l1, l2, l)
        for l1, l2, l in found
        if l1 < l2 or (l1 == l2 and (l1 + l2 + l) % 2 == 0)
    )


def _block_list(table: PathTable) -> tuple[Block, ...]:
    position: dict[tuple[int, int, int], int] = {}
    seen = [0] * (table.lmax + 1)
    for path in table.paths:
        position[path] = seen[path[2]]
        seen[path[2]] += 1
    blocks = []
    for l1 in range(table.lmax1 + 1):
        for l2 in range(table.lmax2 + 1):
            places, row = [], 0
            for l in range(table.lmax + 1):
                if (l1, l2, l) in position:
                    places.append((l, position[l1, l2, l], row))
                    row += 2 * l + 1
            if places:
                blocks.append(Block(l1, l2, tuple(places), row))
    return tuple(blocks)


@cache
def _matrix(block: Block, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Built from the exact entries for this very dtype, never by a cast."""
    width = (2 * block.l1 + 1) * (2 * block.l2 + 1)
    parts = [
        clebsch_gordan(block.l1, block.l2, l, dtype=dtype).reshape(width, -1)
        for l, _, _ in block.places
    ]
    with torch.inference_mode(False):
        return torch.cat(parts, dim=1).t().contiguous().to(device)
