"""How the work of one receiver is cut into units whose accumulators fit registers.

A unit is the share of a receiver that one program of a kernel works on. Its
accumulators are entries ``T[m1, m2]`` of the neighbour sum, one or (complex) two
registers each.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import groupby

from torch_cormorant.ops.paths import Block, PathTable

REGISTERS = 128
"""Numbers in the accumulators of a unit, forward and backward, single precision."""
DOUBLE_REGISTERS = 96
"""The same in the double backward, whose loop holds twice as many operands."""
LANES = 32
"""Lanes of a program: one warp."""
KERNEL_ENTRIES = 600
"""Entries of T that the units of one launch may hold together: all up to degree 3.
Beyond, every unit is a kernel of its own, since the time to compile a kernel grows
faster than its size, and the registers of all units are those of the largest."""

Term = tuple[str, str, str]
PLAIN: tuple[Term, ...] = (("x", "g", "y"),)
DOUBLE: tuple[Term, ...] = (("ux", "g", "y"), ("x", "ug", "y"), ("x", "g", "uy"))


@dataclass(frozen=True)
class Spec:
    """What a kernel computes; the key of the cache of kernels.

    With Q(x, g, y, d) = <d, sum(x, g, y)> and the scalar S = the sum of Q over the
    terms, a kernel writes the gradients of S with respect to d (the neighbour sums
    themselves), x, g and y.

    Args:
        table: The paths.
        is_complex: Whether x and g are complex.
        terms: Names of the arrays that every Q reads.
        sums: Whether the gradient with respect to d is wanted.
        need: Whether the gradients with respect to x, g and y are wanted.
        width: Channels per program, a power of two up to 32.
        exact: Nothing needs to be masked: one receiver per program, no idle lane.
        registers: How many numbers the accumulators of a unit may hold.
    """

    table: PathTable
    is_complex: bool
    terms: tuple[Term, ...]
    sums: bool
    need: tuple[bool, bool, bool]
    width: int
    exact: bool
    registers: int

    @property
    def parts(self) -> tuple[str, ...]:
        """Suffixes of the real numbers that make up one entry."""
        return ("r", "i") if self.is_complex else ("r",)

    def names(self, place: int) -> tuple[str, ...]:
        """Arrays read as x (0), g (1) or y (2), without repetition."""
        return tuple(dict.fromkeys(term[place] for term in self.terms))


@dataclass(frozen=True)
class SumUnit:
    """Blocks whose T one program accumulates, and which of re and im it holds."""

    blocks: tuple[Block, ...]
    parts: tuple[str, ...]

    @property
    def entries(self) -> int:
        """Entries of T."""
        return sum(_size(block) for block in self.blocks)


@dataclass(frozen=True)
class GradientUnit:
    """Components of x whose gradients one program completes, for every l1."""

    components: tuple[int, ...]
    entries: int


Unit = SumUnit | GradientUnit


def _size(block: Block) -> int:
    return (2 * block.l1 + 1) * (2 * block.l2 + 1)


def degree_of(component: int) -> int:
    """Degree l of a packed index."""
    l = 0
    while (l + 1) ** 2 <= component:
        l += 1
    return l


@cache
def sum_units(spec: Spec) -> tuple[SumUnit, ...]:
    """Blocks with equal l2 stay together where they fit: they read the same x."""
    budget = max(1, spec.registers // len(spec.parts))
    units: list[list[Block]] = []
    ordered = sorted(spec.table.blocks, key=lambda block: (block.l2, block.l1))
    for _, group in groupby(ordered, key=lambda block: block.l2):
        blocks = list(group)
        total = sum(map(_size, blocks))
        if units and total + sum(map(_size, units[-1])) <= budget:
            units[-1] += blocks
        else:
            units += _shared_out(blocks, -(-total // budget))
    made = []
    for unit in units:
        # A single block above the budget is cut into its real and imaginary part.
        too_large = sum(map(_size, unit)) > budget and len(unit) == 1
        splits = [(part,) for part in spec.parts] if too_large else [spec.parts]
        made += [SumUnit(tuple(unit), parts) for parts in splits]
    return tuple(made)


def _shared_out(blocks: list[Block], count: int) -> list[list[Block]]:
    """Cut a list into at most count consecutive parts of about equal size."""
    aim = sum(map(_size, blocks)) / count
    parts: list[list[Block]] = [[]]
    for block in blocks:
        held = sum(map(_size, parts[-1]))
        if parts[-1] and held + _size(block) / 2 > aim:
            parts.append([])
        parts[-1].append(block)
    return parts


@cache
def gradient_units(spec: Spec) -> tuple[GradientUnit, ...]:
    """Consecutive components of x, every unit with all l1.

    From degree 4 on no unit spans two degrees: those that did spilled registers.
    """
    budget = max(1, spec.registers // len(spec.parts))
    rows = dict.fromkeys(range(spec.table.used_lmax2 + 1), 0)
    for block in spec.table.blocks:
        rows[block.l2] += 2 * block.l1 + 1
    sizes = [rows[degree_of(b)] for b in range((spec.table.used_lmax2 + 1) ** 2)]
    count = max(1, -(-sum(sizes) // budget))
    large = sum(sizes) > KERNEL_ENTRIES
    aim, units, held, members = sum(sizes) / count, [], 0, list[int]()
    for component, size in enumerate(sizes):
        other = large and degree_of(component) != degree_of(component - 1)
        full = other or held + size > budget
        if members and (full or held + size / 2 > aim):
            units.append(GradientUnit(tuple(members), held))
            members, held = [], 0
        members.append(component)
        held += size
    units.append(GradientUnit(tuple(members), held))
    return tuple(units)


@cache
def kernels(spec: Spec) -> tuple[tuple[Unit, ...], ...]:
    """The units of every kernel: one kernel, or one for each unit if there are many."""
    units: list[Unit] = []
    if spec.sums:
        units += sum_units(spec)
    if any(spec.need):
        units += gradient_units(spec)
    if sum(unit.entries for unit in units) <= KERNEL_ENTRIES:
        return (tuple(units),)
    return tuple((unit,) for unit in units)
