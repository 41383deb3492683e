"""Triton source of the neighbour sum, its gradients and their gradients.

Triton cannot index registers, so every accumulator gets a name of its own and the
Clebsch-Gordan coefficients become constants: the source is written per
:class:`~torch_cormorant.ops.triton.units.Spec`. A lane is one channel of one receiver;
a complex number is two registers of the same lane, read and written as one vector.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from torch_cormorant.cg import clebsch_gordan
from torch_cormorant.ops.triton.units import (
    LANES,
    GradientUnit,
    Spec,
    SumUnit,
    degree_of,
    kernels,
)

CONSTANTS = ("C", "XW", "GW", "YW")
NUMBERS = ("first", "rows", "slots", "base")

_HEADER = "import triton\nimport triton.language as tl\n\n\n"


@cache
def nonzeros(l1: int, l2: int, l: int) -> tuple[tuple[int, int, int, float], ...]:
    """``(m1, m2, m, coefficient)`` of every entry of the table that is not zero."""
    table: Tensor = clebsch_gordan(l1, l2, l, dtype=torch.float64)
    return tuple(
        (a, b, m, float(table[a, b, m])) for a, b, m in table.nonzero().tolist()
    )


def arguments(spec: Spec) -> tuple[str, ...]:
    """Names of the tensors and numbers that a kernel takes, in their order."""
    names = [f"X_{name}" for name in spec.names(0)]
    names += [f"G_{name}" for name in spec.names(1)]
    names += [f"Y_{name}" for name in spec.names(2)]
    names += ["SRC", "GROW", "YROW", "START", "COUNT", "NODE", "SUMROW"]
    degrees = range(spec.table.lmax + 1)
    if any(spec.need):
        names += [f"D{l}" for l in degrees]
    if spec.sums:
        names += [f"O{l}" for l in degrees]
    names += [f"P{name}" for name, need in zip("XGY", spec.need, strict=True) if need]
    return (*names, *NUMBERS)


def source_text(spec: Spec) -> str:
    """Source of all kernels of a spec; the k-th is called ``kernel_k``."""
    names = arguments(spec)
    signature = ", ".join([*names, *(f"{name}: tl.constexpr" for name in CONSTANTS)])
    passed = ", ".join([*names, *CONSTANTS])
    text, offset = [_HEADER], 0
    for k, units in enumerate(kernels(spec)):
        calls = []
        for u, unit in enumerate(units):
            writer: _Writer
            if isinstance(unit, SumUnit):
                writer = _SumWriter(spec, unit)
            else:
                writer = _GradientWriter(spec, unit, offset)
                offset += 1
            # A function of its own per unit: passes of Triton that take time
            # quadratic in the size of a function see one unit at a time.
            text.append("@triton.jit(noinline=True)\n")
            text.append(f"def unit_{k}_{u}(group, {signature}):\n")
            text.append("\n".join(writer.lines()) + "\n\n\n")
            calls.append(f"    {'if' if u == 0 else 'elif'} unit == {u}:\n")
            calls.append(f"        unit_{k}_{u}(group, {passed})\n")
        text.append(f"@triton.jit(do_not_specialize={list(NUMBERS)!r})\n")
        text.append(f"def kernel_{k}({signature}):\n")
        text.append(f"    unit = tl.program_id(0) % {len(units)}\n")
        text.append(f"    group = tl.program_id(0) // {len(units)}\n")
        text.append("".join(calls) + "\n\n")
    return "".join(text)


class _Writer:
    """What both kinds of units share: addresses, loads, stores and products."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.parts = spec.parts
        self.numbers = len(spec.parts)
        self.indent = 1
        self.out: list[str] = []

    def add(self, *lines: str) -> None:
        """Append lines at the current depth."""
        self.out += ["    " * self.indent + line for line in lines]

    def begin(self) -> None:
        """What each lane works on: its channel, its row and the row's slots."""
        width = self.spec.width
        self.add(
            f"lane = tl.arange(0, {LANES})",
            f"column = tl.program_id(1) * {width} + lane % {width}",
            f"row = group.to(tl.int64) * {LANES // width} + lane // {width}",
            "within = row < rows",
            "live = within & (column < C)",
            "row = tl.where(within, row, 0) + first",
            "count = tl.load(COUNT + row, mask=within, other=0)",
            "start = tl.load(START + row, mask=within, other=0)",
            "most = tl.max(count, axis=0)",
            f"dtype = Y_{self.spec.names(2)[0]}.dtype.element_ty",
        )
        if self.numbers == 2:
            self.add("offset = (column * 2)[:, None] + tl.arange(0, 2)[None, :]")
        else:
            self.add("offset = column")

    def pointer(self, array: str, row: str, stride: str) -> str:
        """Address of component 0 of a row, of all numbers of a lane."""
        shape = "[:, None]" if self.numbers == 2 else ""
        return f"{array} + ({row} * {stride}){shape} + offset"

    def mask(self, name: str, *, store: bool = False) -> str:
        """Mask argument for whole numbers of a component."""
        if self.spec.exact:
            return ""
        shape = "[:, None]" if self.numbers == 2 else ""
        return f", mask={name}{shape}" + ("" if store else ", other=0.0")

    def load(self, name: str, pointer: str, mask: str) -> None:
        """Load ``{name}r`` and, if complex, ``{name}i``."""
        call = f"tl.load({pointer}{self.mask(mask)})"
        names = ", ".join(name + part for part in self.parts)
        call = f"tl.split({call})" if self.numbers == 2 else call
        self.add(f"{names} = {call}")

    def store(self, name: str, pointer: str, mask: str) -> None:
        """Store what :meth:`load` loads."""
        value = ", ".join(name + part for part in self.parts)
        value = f"tl.join({value})" if self.numbers == 2 else value
        self.add(f"tl.store({pointer}, {value}{self.mask(mask, store=True)})")

    def zero(self, name: str, parts: tuple[str, ...]) -> None:
        """Set the named numbers to zero."""
        for part in parts:
            self.add(f"{name}{part} = tl.zeros([{LANES}], dtype)")

    def product(
        self, a: str, b: str, part: str, *, conj: bool = False
    ) -> list[tuple[str, str]]:
        """Signed terms of one part of a b, or of conj(a) b; the first one is added."""
        if self.numbers == 1:
            return [("+", f"{a}r * {b}r")]
        if part == "r":
            return [("+", f"{a}r * {b}r"), ("+" if conj else "-", f"{a}i * {b}i")]
        return [("+", f"{a}r * {b}i"), ("-" if conj else "+", f"{a}i * {b}r")]

    def edge_products(
        self, pairs: list[tuple[str, str]], parts: tuple[str, ...]
    ) -> None:
        """h: the sum of g x over pairs of an x and a g."""
        for part in parts:
            terms = [term for x, g in pairs for term in self.product(g, x, part)]
            self.gather(f"h{part}", terms, set())

    def gather(self, name: str, terms: list[tuple[str, str]], seen: set[str]) -> None:
        """Add terms one by one: every statement is one fused multiply-add."""
        for sign, term in terms:
            self.add(f"{name} {sign + '=' if name in seen else '='} {term}")
            seen.add(name)

    def loop(self) -> None:
        """Head of the loop over neighbours: where this edge's rows are."""
        # The next edge's rows are looked up while this edge is worked on.
        tables = (("source", "SRC"), ("grow", "GROW"), ("yrow", "YROW"))
        for name, table in tables:
            self.add(f"{name} = tl.load({table} + start, mask=count > 0, other=0)")
        self.add("for q in range(0, most):")
        self.indent += 1
        self.add("slot = start + q")
        if not self.spec.exact:
            self.add("there = within & (q < count)", "now = live & there")
        for array in self.spec.names(0):
            self.add(f"p{array} = {self.pointer(f'X_{array}', 'source', 'XW')}")
        for array in self.spec.names(1):
            self.add(f"p{array} = {self.pointer(f'G_{array}', 'grow', 'GW')}")
        for array in self.spec.names(2):
            self.add(f"p{array} = Y_{array} + yrow * YW")
        for name, table in tables:
            mask = "mask=q + 1 < count, other=0"
            self.add(f"{name} = tl.load({table} + slot + 1, {mask})")

    def load_component(self, array: str, index: int) -> None:
        """Load component index of x or g of this edge as ``{array}{index}``."""
        self.load(f"{array}{index}", f"p{array} + {index * self.numbers} * C", "now")

    def load_harmonics(self, l1: int) -> None:
        """Load the harmonics of degree l1 of this edge."""
        mask = "" if self.spec.exact else ", mask=there, other=0.0"
        for array in self.spec.names(2):
            for a in range(l1 * l1, (l1 + 1) ** 2):
                self.add(f"{array}{a} = tl.load(p{array} + {a}{mask})")

    def rows_of(self, l: int) -> str:
        """Numbers of one node in the tensor of degree l."""
        return f"({(2 * l + 1) * self.spec.table.counts[l] * self.numbers} * C)"

    def place(self, l: int, m: int, position: int) -> str:
        """Offset of one component of a path in the tensor of degree l."""
        row = m * self.spec.table.counts[l] + position
        return f"{row * self.numbers} * C"


class _SumWriter(_Writer):
    """Accumulate T over the neighbours, then contract it with the coefficients."""

    def __init__(self, spec: Spec, unit: SumUnit) -> None:
        super().__init__(spec)
        self.unit = unit

    def lines(self) -> list[str]:
        """Body of the unit."""
        self.begin()
        for block in self.unit.blocks:
            for a in range(2 * block.l1 + 1):
                for b in range(2 * block.l2 + 1):
                    self.zero(f"t{block.l1}_{block.l2}_{a}_{b}_", self.unit.parts)
        self.loop()
        for l2 in sorted({block.l2 for block in self.unit.blocks}):
            for array in self.spec.names(0):
                for component in range(l2 * l2, (l2 + 1) ** 2):
                    self.load_component(array, component)
        for l1 in sorted({block.l1 for block in self.unit.blocks}):
            self.edge(l1)
        self.indent -= 1
        self.contract()
        return self.out

    def edge(self, l1: int) -> None:
        """Add one edge's share to every T of degree l1."""
        for array in self.spec.names(1):
            self.load_component(array, l1)
        self.load_harmonics(l1)
        for block in self.unit.blocks:
            if block.l1 != l1:
                continue
            for b in range(2 * block.l2 + 1):
                for array in self.spec.names(2):
                    self.rank_one(l1, block.l2, b, array)

    def rank_one(self, l1: int, l2: int, b: int, array: str) -> None:
        """T[:, b] += Y h, with h the products that go with these harmonics."""
        component = l2 * l2 + b
        self.edge_products(
            [
                (f"{x}{component}", f"{g}{l1}")
                for x, g, y in self.spec.terms
                if y == array
            ],
            self.unit.parts,
        )
        for a in range(2 * l1 + 1):
            for part in self.unit.parts:
                name = f"t{l1}_{l2}_{a}_{b}_{part}"
                self.add(f"{name} += {array}{l1 * l1 + a} * h{part}")

    def contract(self) -> None:
        """Write the rows of every path of the unit."""
        mask = "" if self.spec.exact else ", mask=within, other=0"
        self.add(f"target = tl.load(SUMROW + row{mask})")
        whole = self.unit.parts == self.parts
        for l in sorted({place[0] for b in self.unit.blocks for place in b.places}):
            if whole:
                at = self.pointer(f"O{l}", "target", self.rows_of(l))
            else:
                shift = self.parts.index(self.unit.parts[0])
                at = f"O{l} + target * {self.rows_of(l)} + column * 2 + {shift}"
            self.add(f"o{l} = {at}")
        for block in self.unit.blocks:
            for l, position, _ in block.places:
                for m in range(2 * l + 1):
                    self.combine(block.l1, block.l2, l, m)
                    pointer = f"o{l} + {self.place(l, m, position)}"
                    if whole:
                        self.store("s_", pointer, "live")
                    else:
                        mask = "" if self.spec.exact else ", mask=live"
                        part = self.unit.parts[0]
                        self.add(f"tl.store({pointer}, s_{part}{mask})")

    def combine(self, l1: int, l2: int, l: int, m: int) -> None:
        """Component m of the coefficients' contraction of T with degree l."""
        seen: set[str] = set()
        for a, b, at, coefficient in nonzeros(l1, l2, l):
            if at != m:
                continue
            for part in self.unit.parts:
                value = f"{coefficient!r} * t{l1}_{l2}_{a}_{b}_{part}"
                self.gather(f"s_{part}", [("+", value)], seen)


class _GradientWriter(_Writer):
    """Spread the gradient of the sums over T, then over every edge's inputs."""

    def __init__(self, spec: Spec, unit: GradientUnit, number: int) -> None:
        super().__init__(spec)
        self.unit = unit
        self.number = number
        self.seen: set[str] = set()

    def lines(self) -> list[str]:
        """Body of the unit."""
        self.begin()
        self.spread()
        need_x, need_g, need_y = self.spec.need
        self.loop()
        self.add(f"local = slot - base + slots.to(tl.int64) * {self.number}")
        if need_g or need_y:
            for array in self.spec.names(0):
                for component in self.unit.components:
                    self.load_component(array, component)
        done: set[str] = set()
        for l1 in range(self.spec.table.lmax1 + 1):
            self.edge(l1, done)
        if need_x:
            self.store_x(done)
        if need_y:
            self.store_harmonics(done)
        return self.out

    def spread(self) -> None:
        """Gradient with respect to T, from that of the receiver's sums."""
        mask = "" if self.spec.exact else ", mask=within, other=0"
        self.add(f"node = tl.load(NODE + row{mask})")
        degrees = {degree_of(b) for b in self.unit.components}
        blocks = [b for b in self.spec.table.blocks if b.l2 in degrees]
        for l in sorted({place[0] for b in blocks for place in b.places}):
            self.add(f"d{l} = {self.pointer(f'D{l}', 'node', self.rows_of(l))}")
        for block in blocks:
            for l, position, _ in block.places:
                for m in range(2 * l + 1):
                    self.spread_row(block.l1, block.l2, l, m, position)
        for block in blocks:
            for a in range(2 * block.l1 + 1):
                for component in self.of_degree(block.l2):
                    name = f"t{block.l1}_{a}_{component}_"
                    if name + "r" not in self.seen:
                        self.zero(name, self.parts)

    def spread_row(self, l1: int, l2: int, l: int, m: int, position: int) -> None:
        """Add one row of the gradient of degree l to T."""
        components = self.of_degree(l2)
        found = [
            (a, l2 * l2 + b, coefficient)
            for a, b, at, coefficient in nonzeros(l1, l2, l)
            if at == m and l2 * l2 + b in components
        ]
        if not found:
            return
        self.load("d_", f"d{l} + {self.place(l, m, position)}", "live")
        for a, component, coefficient in found:
            for part in self.parts:
                value = f"{coefficient!r} * d_{part}"
                self.gather(f"t{l1}_{a}_{component}_{part}", [("+", value)], self.seen)

    def of_degree(self, l2: int) -> list[int]:
        """Components of the unit that have degree l2."""
        return [b for b in self.unit.components if degree_of(b) == l2]

    def edge(self, l1: int, done: set[str]) -> None:
        """One edge's gradients through degree l1."""
        need_x, need_g, need_y = self.spec.need
        joined = {b.l2 for b in self.spec.table.blocks if b.l1 == l1}
        components = [b for b in self.unit.components if degree_of(b) in joined]
        if components:
            self.load_harmonics(l1)
        if components and (need_x or need_y):
            for array in self.spec.names(1):
                self.load_component(array, l1)
        for component in components:
            if need_x or need_g:
                self.through_h(l1, component, done)
            if need_y:
                self.through_harmonics(l1, component, done)
        if need_g:
            if f"dg{l1}_r" not in done:
                self.zero(f"dg{l1}_", self.parts)
            rows = self.spec.table.lmax1 + 1
            stride = f"({rows * self.numbers} * C)"
            pointer = self.pointer("PG", "local", stride)
            self.store(f"dg{l1}_", f"{pointer} + {l1 * self.numbers} * C", "now")

    def through_h(self, l1: int, component: int, done: set[str]) -> None:
        """Gradients with respect to x and g, through h = g x."""
        need_x, need_g, _ = self.spec.need
        wanted = {
            y
            for x, g, y in self.spec.terms
            if (need_x and x == "x") or (need_g and g == "g")
        }
        for array in self.spec.names(2):
            if array not in wanted:
                continue
            for part in self.parts:
                terms = [
                    ("+", f"{array}{l1 * l1 + a} * t{l1}_{a}_{component}_{part}")
                    for a in range(2 * l1 + 1)
                ]
                self.gather(f"dh_{array}_{part}", terms, set())
        for x, g, y in self.spec.terms:
            for part in self.parts:
                if need_x and x == "x":
                    terms = self.product(f"{g}{l1}", f"dh_{y}_", part, conj=True)
                    self.gather(f"dx{component}_{part}", terms, done)
            for part in self.parts:
                if need_g and g == "g":
                    terms = self.product(f"{x}{component}", f"dh_{y}_", part, conj=True)
                    self.gather(f"dg{l1}_{part}", terms, done)

    def through_harmonics(self, l1: int, component: int, done: set[str]) -> None:
        """Gradients with respect to the harmonics, summed in the lane."""
        pairs = [
            (f"{x}{component}", f"{g}{l1}") for x, g, y in self.spec.terms if y == "y"
        ]
        if not pairs:
            return
        self.edge_products(pairs, self.parts)
        for a in range(2 * l1 + 1):
            terms = [
                ("+", f"h{part} * t{l1}_{a}_{component}_{part}") for part in self.parts
            ]
            self.gather(f"dy{l1 * l1 + a}", terms, done)

    def store_x(self, done: set[str]) -> None:
        """Write this edge's share of the gradient of its source."""
        total = (self.spec.table.used_lmax2 + 1) ** 2
        # Units share nothing here: each component has one unit, hence one copy.
        self.add("shared = slot - base")
        pointer = self.pointer("PX", "shared", f"({total * self.numbers} * C)")
        self.add(f"px_ = {pointer}")
        for component in self.unit.components:
            if f"dx{component}_r" not in done:
                self.zero(f"dx{component}_", self.parts)
            self.store(
                f"dx{component}_", f"px_ + {component * self.numbers} * C", "now"
            )

    def store_harmonics(self, done: set[str]) -> None:
        """Sum over the channels of this program and write one vector per edge."""
        width, count = self.spec.width, (self.spec.table.lmax1 + 1) ** 2
        receivers = LANES // width
        self.add(
            f"copy = slot - base + slots.to(tl.int64) * "
            f"(tl.program_id(1) + {self.number} * tl.num_programs(1))"
        )
        for first in range(0, count, width):
            self.add(f"all_ = tl.zeros([{LANES}], dtype)")
            for m in range(first, min(first + width, count)):
                if f"dy{m}" not in done:
                    continue
                if width == 1:
                    self.add(f"all_ = dy{m}")
                    continue
                grid = f"[{receivers}, {width}]"
                self.add(
                    f"total = tl.reshape(dy{m}, {grid})",
                    "total = tl.sum(total, axis=1, keep_dims=True)",
                    f"total = tl.reshape(tl.broadcast_to(total, {grid}), [{LANES}])",
                    f"all_ = tl.where(lane % {width} == {m - first}, total, all_)",
                )
            conditions = [] if self.spec.exact else ["there"]
            if first + width > count:
                conditions.append(f"(lane % {width} < {count - first})")
            mask = f", mask={' & '.join(conditions)}" if conditions else ""
            at = f"PY + copy * {count} + {first} + lane % {width}"
            self.add(f"tl.store({at}, all_{mask})")
