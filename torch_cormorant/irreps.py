"""What features are made of: how many copies of which degree and parity.

``"64x0e + 21x1o"`` are 64 scalars and 21 vectors. A flat row holds one block after the
other, each ``[2l + 1, mul]``: components outside, copies (channels) side by side. No
tensors in this file.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple, SupportsIndex, cast, overload

from torch_cormorant.errors import ConfigError, DegreeError

__all__ = ["Block", "Irrep", "Irreps"]

_TERM = re.compile(r"\s*(?:(\d+)\s*[x*]\s*)?(\d+)\s*([eo]?)\s*")
_SIGNS = {"e": 1, "o": -1, "": 0}
_LETTERS = {sign: letter for letter, sign in _SIGNS.items()}


class Irrep(NamedTuple):
    """A degree l and a parity: 1 even, -1 odd, 0 where parity plays no part.

    Example:
        >>> str(Irrep(1, -1)), Irrep(1, -1).dim
        ('1o', 3)
        >>> [str(ir) for ir in Irrep(1, -1).product(Irrep(1, -1))]
        ['0e', '1e', '2e']
    """

    l: int
    p: int = 0

    @property
    def dim(self) -> int:
        """Number of components, ``2l + 1``."""
        return 2 * self.l + 1

    def product(self, other: Irrep) -> list[Irrep]:
        """What the product with another one can be, ``|l1 - l2|`` to ``l1 + l2``.

        Raises:
            ConfigError: If one of the two has a parity and the other has none.
        """
        if (self.p == 0) != (other.p == 0):
            msg = (
                f"{self} and {other} cannot be multiplied: give a parity (e or o) to "
                "both or to neither"
            )
            raise ConfigError(msg)
        degrees = range(abs(self.l - other.l), self.l + other.l + 1)
        return [Irrep(l, self.p * other.p) for l in degrees]

    def __str__(self) -> str:
        return f"{self.l}{_LETTERS[self.p]}"


class Block(NamedTuple):
    """Copies of one irrep that lie together.

    Example:
        >>> Block(21, Irrep(1, -1)).dim
        63
    """

    mul: int
    ir: Irrep

    @property
    def dim(self) -> int:
        """Numbers in a flat row, ``mul (2l + 1)``."""
        return self.mul * self.ir.dim

    def __str__(self) -> str:
        return f"{self.mul}x{self.ir}"


class Irreps:
    """Blocks of a flat row ``[N, dim]``, in their order.

    Args:
        value: A text such as ``"64x0e + 21x1o"`` or, where parity plays no part,
            ``"64x0 + 21x1"``; pairs ``(mul, "1o")`` or ``(mul, (l, p))``; or any
            object whose ``str()`` reads so, those of e3nn for example.

    Raises:
        ConfigError: If it cannot be read, a parity is unknown, or only some blocks
            have a parity.
        DegreeError: If a degree or a multiplicity is no whole number from 0 on.

    Example:
        >>> irreps = Irreps("64x0e + 21x1o")
        >>> irreps.dim, irreps.lmax, irreps.num_irreps, irreps.slices
        (127, 1, 85, (slice(0, 64, None), slice(64, 127, None)))
        >>> Irreps("2x1 + 3x0 + 1") + "4x2"
        Irreps('2x1 + 3x0 + 1x1 + 4x2')
    """

    __slots__ = ("blocks",)
    blocks: tuple[Block, ...]

    def __init__(self, value: object = "") -> None:
        pairs = _pairs(value)
        if isinstance(value, Irreps):
            blocks = value.blocks
        elif pairs is not None:
            blocks = tuple(_block(mul, ir) for mul, ir in pairs)
        else:
            blocks = tuple(_parse(value))
        if len({block.ir.p == 0 for block in blocks}) > 1:
            text = " + ".join(map(str, blocks))
            msg = f"give a parity (e or o) to every block or to none, got {text!r}"
            raise ConfigError(msg)
        self.blocks = blocks

    @classmethod
    def harmonics(cls, lmax: int, *, parity: bool = True) -> Irreps:
        """Those of spherical harmonics: one each, of parity ``(-1)^l`` or none.

        Example:
            >>> Irreps.harmonics(2), Irreps.harmonics(1, parity=False)
            (Irreps('1x0e + 1x1o + 1x2e'), Irreps('1x0 + 1x1'))
        """
        top = _whole("lmax", lmax)
        return cls([(1, (l, (-1) ** l * parity)) for l in range(top + 1)])

    @property
    def dim(self) -> int:
        """Numbers in a row."""
        return sum(block.dim for block in self.blocks)

    @property
    def lmax(self) -> int:
        """Highest degree.

        Raises:
            ConfigError: If there are no blocks.
        """
        if not self.blocks:
            raise ConfigError("irreps without blocks have no highest degree")
        return max(block.ir.l for block in self.blocks)

    @property
    def num_irreps(self) -> int:
        """Copies in all blocks together, the number of channels."""
        return sum(block.mul for block in self.blocks)

    @property
    def has_parity(self) -> bool:
        """Whether blocks are even or odd, rather than neither."""
        return any(block.ir.p for block in self.blocks)

    @property
    def slices(self) -> tuple[slice, ...]:
        """Where each block lies in a row."""
        found, at = [], 0
        for block in self.blocks:
            found.append(slice(at, at + block.dim))
            at += block.dim
        return tuple(found)

    def count(self, ir: object) -> int:
        """Copies of one irrep, in all blocks together.

        Example:
            >>> Irreps("2x0e + 3x1o + 4x0e").count("0e")
            6
        """
        wanted = _irrep(ir)
        return sum(block.mul for block in self.blocks if block.ir == wanted)

    def sort(self) -> tuple[Irreps, tuple[int, ...]]:
        """Blocks by degree, odd before even, in their own order where these are equal.

        Returns:
            The sorted irreps, and for each block the place where it came from.

        Example:
            >>> Irreps("1x1o + 2x0e + 3x1e + 4x1o").sort()
            (Irreps('2x0e + 1x1o + 4x1o + 3x1e'), (1, 0, 3, 2))
        """
        order = sorted(range(len(self)), key=lambda k: self.blocks[k].ir)
        return Irreps([self.blocks[k] for k in order]), tuple(order)

    def simplify(self) -> Irreps:
        """The same rows with neighbours of one kind in one block, and no empty ones.

        Only the list changes, and rows with it where a merged block has ``l > 0``.

        Example:
            >>> Irreps("2x0e + 3x0e + 0x1o + 1x0e").simplify()
            Irreps('6x0e')
        """
        merged: list[Block] = []
        for block in self.blocks:
            if merged and merged[-1].ir == block.ir:
                merged[-1] = Block(merged[-1].mul + block.mul, block.ir)
            elif block.mul:
                merged.append(block)
        return Irreps(merged)

    def filter(self, keep: object | Callable[[Block], bool]) -> Irreps:
        """Blocks whose irrep stands in other irreps, or of which a function is true.

        Example:
            >>> Irreps("2x0e + 3x1o + 4x2e").filter("0e + 1o")
            Irreps('2x0e + 3x1o')
            >>> Irreps("2x0e + 3x1o + 4x2e").filter(lambda block: block.ir.l > 0)
            Irreps('3x1o + 4x2e')
        """
        if callable(keep):
            return Irreps([block for block in self.blocks if keep(block)])
        return Irreps([block for block in self.blocks if block.ir in Irreps(keep)])

    def product(self, other: object, keep: object | None = None) -> Irreps:
        """Irreps that products of a block with a block of the other can be, sorted.

        Each is named once, with multiplicity one.

        Args:
            other: The second operand.
            keep: Irreps to choose from; default: all.

        Example:
            >>> Irreps("8x0e + 4x1o").product(Irreps.harmonics(1))
            Irreps('1x0e + 1x1o + 1x1e + 1x2e')
        """
        second = Irreps(other)
        found = {
            ir
            for a in self.blocks
            for b in second.blocks
            for ir in a.ir.product(b.ir)
            if keep is None or ir in Irreps(keep)
        }
        return Irreps([(1, ir) for ir in sorted(found)])

    def __contains__(self, ir: object) -> bool:
        return any(block.ir == _irrep(ir) for block in self.blocks)

    def __iter__(self) -> Iterator[Block]:
        return iter(self.blocks)

    def __len__(self) -> int:
        return len(self.blocks)

    @overload
    def __getitem__(self, at: SupportsIndex) -> Block: ...
    @overload
    def __getitem__(self, at: slice) -> Irreps: ...
    def __getitem__(self, at: SupportsIndex | slice) -> Block | Irreps:
        if isinstance(at, slice):
            return Irreps(self.blocks[at])
        return self.blocks[at]

    def __add__(self, other: object) -> Irreps:
        return Irreps([*self.blocks, *Irreps(other).blocks])

    def __radd__(self, other: object) -> Irreps:
        return Irreps(other) + self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Irreps) and self.blocks == other.blocks

    def __hash__(self) -> int:
        return hash(self.blocks)

    def __str__(self) -> str:
        return " + ".join(map(str, self.blocks))

    def __repr__(self) -> str:
        return f"Irreps({str(self)!r})"


def _pairs(value: object) -> list[tuple[object, object]] | None:
    """Pairs (multiplicity, irrep), or None for what is read by its ``str()``."""
    if type(value) not in {list, tuple}:
        return None
    items = cast("list[tuple[object, object]]", value)
    return items if all(map(_is_pair, items)) else None


def _is_pair(item: object) -> bool:
    return isinstance(item, (tuple, list)) and len(item) == 2


def _parse(value: object) -> Iterator[Block]:
    text = str(value)
    for term in text.split("+") if text.strip() else ():
        found = _TERM.fullmatch(term)
        if found is None:
            msg = (
                f"irreps must read like '64x0e + 21x1o' or '64x0 + 21x1', got {text!r}"
                f", where {term.strip()!r} is not understood"
            )
            raise ConfigError(msg)
        mul, l, letter = found.groups()
        yield Block(int(mul or 1), Irrep(int(l), _SIGNS[letter]))


def _block(mul: object, ir: object) -> Block:
    return Block(_whole("a multiplicity", mul), _irrep(ir))


def _irrep(value: object) -> Irrep:
    if isinstance(value, Irrep):
        return value
    if type(value) is tuple and len(value) == 2:
        l, p = _whole("a degree", value[0]), value[1]
        if p not in (-1, 0, 1):
            msg = f"a parity must be 1 (even), -1 (odd) or 0 (none), got {p!r}"
            raise ConfigError(msg)
        return Irrep(l, int(p))
    blocks = list(_parse(value))
    if len(blocks) != 1 or blocks[0].mul != 1:
        msg = f"one irrep, such as '1o', is expected, got {str(value)!r}"
        raise ConfigError(msg)
    return blocks[0].ir


def _whole(name: str, value: object) -> int:
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = -1
    if number < 0:
        msg = f"{name} must be a whole number from 0 on, got {value!r}"
        raise DegreeError(msg)
    return number
