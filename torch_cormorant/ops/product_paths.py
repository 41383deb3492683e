"""Which block couples with which one to what: the list of paths of a tensor product."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from functools import cache
from math import prod
from typing import NamedTuple, cast

import torch
from torch import Tensor

from torch_cormorant.cg import clebsch_gordan
from torch_cormorant.errors import ConfigError, ShapeError
from torch_cormorant.irreps import Block, Irrep, Irreps
from torch_cormorant.ops.transforms import is_watched
from torch_cormorant.so3.layout import check_degree

MODES = ("uuu", "uvu", "uvw")
"""How copies u of the first and v of the second operand make copies w of the result."""


class ProductPath(NamedTuple):
    """Blocks of both operands, block of the result and first channel in it."""

    first: int
    second: int
    out: int
    at: int


class ProductPaths:
    r"""The paths of a tensor product of irreps, and where each one's result goes.

    ``"uuu"`` multiplies copy with copy (channelwise), ``"uvu"`` every copy of the first
    operand with a weighted sum over the copies of the second (depthwise), ``"uvw"``
    mixes all of them (full):

    .. math::
        \text{uuu: } w_u C(x_u, y_u), \qquad
        \text{uvu: } \sum_v w_{uv} C(x_u, y_v), \qquad
        \text{uvw: } \sum_{uv} w_{uvw} C(x_u, y_v),

    with the orthonormal Clebsch-Gordan table C and no other factor. In the first two
    modes the paths of one irrep stand side by side in one block of the result, in their
    order, blocks sorted by degree, odd before even; in the third they are added up.

    Args:
        first: Irreps of the first operand.
        second: Irreps of the second operand.
        out: ``"uvw"``: irreps of the result. Otherwise: irreps that are kept, their
            multiplicities play no part; default: all.
        mode: ``"uuu"``, ``"uvu"`` (default) or ``"uvw"``.
        paths: Triples (block of the first, block of the second, irrep), for ``"uvw"``
            (block, block, block of the result). Default: all that are allowed, blocks
            of the first operand outside.

    Attributes:
        out: Irreps of the result.
        paths: The paths.
        shapes: Shape of each path's weights, ``(u,)``, ``(u, v)`` or ``(u, v, w)``.
        weight_numel: Number of weights.
        key: The whole list in numbers, as operators take it; see ``paths_of``.

    Raises:
        ConfigError: If the mode is unknown, a path is not allowed, or irreps of the
            result are missing.
        ShapeError: If blocks of different multiplicity meet in ``"uuu"``.
        DegreeError: If a degree is beyond the tables.

    Example:
        >>> paths = ProductPaths("8x0e + 4x1o", "0e + 1o", out="0e + 1o")
        >>> paths.out, paths.weight_numel
        (Irreps('12x0e + 12x1o'), 24)
        >>> ProductPaths("8x0 + 4x1", "0 + 1", out="5x0 + 6x1", mode="uvw").out
        Irreps('5x0 + 6x1')
    """

    def __init__(
        self,
        first: object,
        second: object,
        out: object | None = None,
        *,
        mode: str = "uvu",
        paths: Iterable[Sequence[object]] | None = None,
    ) -> None:
        if mode not in MODES:
            raise ConfigError(f"mode must be one of {MODES}, got {mode!r}")
        self.first, self.second, self.mode = Irreps(first), Irreps(second), mode
        kept = None if out is None else Irreps(out)
        for name, irreps in (("first", self.first), ("second", self.second)):
            if len(irreps):
                check_degree(irreps.lmax, f"lmax of the {name} operand")
        if mode == "uvw":
            if kept is None:
                raise ConfigError('mode "uvw" needs the irreps of the result: give out')
            self.out, self.paths = kept, self._full(kept, paths)
        else:
            self.out, self.paths = self._side_by_side(kept, paths)
        self.shapes = tuple(self._shape(path) for path in self.paths)
        self.sizes = tuple(prod(shape) for shape in self.shapes)
        self.weight_numel = sum(self.sizes)
        self.key = self._numbers()

    def degrees(self, path: ProductPath) -> tuple[int, int, int]:
        """(l1, l2, l) of a path."""
        blocks = self.first[path.first], self.second[path.second], self.out[path.out]
        return blocks[0].ir.l, blocks[1].ir.l, blocks[2].ir.l

    def signs(self) -> list[int]:
        r"""What e3nn's 3j symbols are of our tables, for every path.

        :math:`(-1)^{k (k + 1) / 2}` with :math:`k = l_1 + l_2 - l`.
        """
        ks = [l1 + l2 - l for l1, l2, l in map(self.degrees, self.paths)]
        return [(-1) ** (k * (k + 1) // 2) for k in ks]

    def _numbers(self) -> list[int]:
        numbers = [MODES.index(self.mode)]
        for irreps in (self.first, self.second, self.out):
            numbers.append(len(irreps))
            for mul, ir in irreps:
                numbers += (mul, *ir)
        for path in self.paths:
            numbers += path[:3]
        return numbers

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ProductPaths) and self.key == other.key

    def __hash__(self) -> int:
        return hash(tuple(self.key))

    def __repr__(self) -> str:
        return (
            f"ProductPaths({self.first} x {self.second} -> {self.out}, {self.mode}, "
            f"{len(self.paths)} paths)"
        )

    def _shape(self, path: ProductPath) -> tuple[int, ...]:
        u, v = self.first[path.first].mul, self.second[path.second].mul
        return {"uuu": (u,), "uvu": (u, v), "uvw": (u, v, self.out[path.out].mul)}[
            self.mode
        ]

    def _side_by_side(
        self, kept: Irreps | None, given: Iterable[Sequence[object]] | None
    ) -> tuple[Irreps, tuple[ProductPath, ...]]:
        if given is None:
            found = [
                (i, j, ir)
                for i, j in self._pairs()
                for ir in self._allowed(i, j)
                if kept is None or ir in kept
            ]
        else:
            found = [self._checked(path) for path in given]
        irreps = sorted({ir for _, _, ir in found})
        width, paths = dict.fromkeys(irreps, 0), []
        for i, j, ir in found:
            check_degree(ir.l, "l of the result")
            paths.append(ProductPath(i, j, irreps.index(ir), width[ir]))
            width[ir] += self.first[i].mul
        return Irreps([(width[ir], ir) for ir in irreps]), tuple(paths)

    def _full(
        self, out: Irreps, given: Iterable[Sequence[object]] | None
    ) -> tuple[ProductPath, ...]:
        if len(out):
            check_degree(out.lmax, "lmax of the result")
        if given is None:
            return tuple(
                ProductPath(i, j, k, 0)
                for i, j in self._pairs()
                for k, block in enumerate(out)
                if block.ir in self._allowed(i, j)
            )
        paths = []
        for path in given:
            k = _place(path[2], out, "block of the result")
            i, j, _ = self._checked((*path[:2], out[k].ir))
            paths.append(ProductPath(i, j, k, 0))
        return tuple(paths)

    def _pairs(self) -> Iterable[tuple[int, int]]:
        for i, a in enumerate(self.first):
            for j, b in enumerate(self.second):
                if self.mode != "uuu" or a.mul == b.mul:
                    yield i, j

    def _allowed(self, i: int, j: int) -> list[Irrep]:
        return self.first[i].ir.product(self.second[j].ir)

    def _checked(self, path: Sequence[object]) -> tuple[int, int, Irrep]:
        """A path that was given; refuse what cannot be."""
        if len(path) != 3:
            raise ConfigError(f"a path has three entries, got {path!r}")
        i = _place(path[0], self.first, "block of the first operand")
        j = _place(path[1], self.second, "block of the second operand")
        ir = Irreps([(1, path[2])])[0].ir
        a, b = self.first[i], self.second[j]
        if ir not in self._allowed(i, j):
            allowed = ", ".join(map(str, self._allowed(i, j)))
            msg = f"path {tuple(path)!r}: {a.ir} x {b.ir} makes {allowed}, not {ir}"
            raise ConfigError(msg)
        if self.mode == "uuu" and a.mul != b.mul:
            msg = (
                f'path {tuple(path)!r}: mode "uuu" multiplies copy with copy, but '
                f"{a} and {b} have different multiplicities"
            )
            raise ShapeError(msg)
        return i, j, ir


def _place(value: object, irreps: Irreps, name: str) -> int:
    try:
        k = operator.index(cast("int", value))
    except TypeError:
        k = -1
    if not 0 <= k < len(irreps):
        msg = f"{name} must be a number from 0 to {len(irreps) - 1}, got {value!r}"
        raise ConfigError(msg)
    return k


def cg_table(
    degrees: tuple[int, int, int], dtype: torch.dtype, device: torch.device
) -> Tensor:
    """The table of a path, kept; to compilers, which cannot read files, a constant.

    Example:
        >>> cg_table((1, 0, 1), torch.float32, torch.device("cpu")).shape
        torch.Size([3, 1, 3])
    """
    if not torch.compiler.is_compiling():
        make = _made if is_watched() else _table  # keep no tensor of a tracer's
        return make(degrees, dtype, device)
    shape = [2 * l + 1 for l in degrees]
    return torch.tensor(_numbers(degrees, dtype), dtype=dtype, device=device).view(
        shape
    )


@cache
def _table(
    degrees: tuple[int, int, int], dtype: torch.dtype, device: torch.device
) -> Tensor:
    with torch.inference_mode(False):
        return _made(degrees, dtype, device)


def _made(
    degrees: tuple[int, int, int], dtype: torch.dtype, device: torch.device
) -> Tensor:
    return clebsch_gordan(*degrees, dtype=dtype, device="cpu").to(device)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _numbers(degrees: tuple[int, int, int], dtype: torch.dtype) -> list[float]:
    found: list[float] = _table(degrees, dtype, torch.device("cpu")).flatten().tolist()
    return found


def paths_of(key: Sequence[int]) -> ProductPaths:
    """The paths of a :attr:`ProductPaths.key`.

    Raises:
        ConfigError: If the numbers are none.

    Example:
        >>> paths = ProductPaths("8x0e + 4x1o", "0e + 1o")
        >>> paths_of(paths.key) == paths
        True
    """
    return _paths(tuple(key))


@cache
def _paths(key: tuple[int, ...]) -> ProductPaths:
    try:
        at, irreps = 1, []
        for _ in range(3):
            count = key[at]
            numbers = key[at + 1 : at + 1 + 3 * count]
            blocks = zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True)
            irreps.append(Irreps([Block(mul, Irrep(l, p)) for mul, l, p in blocks]))
            at += 1 + 3 * count
        first, second, out = irreps
        mode = MODES[key[0]]
        triples = zip(key[at::3], key[at + 1 :: 3], key[at + 2 :: 3], strict=True)
        paths = [(i, j, k if mode == "uvw" else out[k].ir) for i, j, k in triples]
    except (IndexError, ValueError) as error:
        msg = f"key must hold the numbers of ProductPaths.key, got {list(key)}"
        raise ConfigError(msg) from error
    return ProductPaths(first, second, out, mode=mode, paths=paths)
