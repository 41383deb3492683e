r"""Fragments of the gates of N-body networks: what children and vectors couple to.

Kondor 2018 (https://arxiv.org/abs/1803.01588), eqs. (10) to (12). No features here:
only lists of fragments, and the tables that make them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from torch_cormorant.cg import clebsch_gordan
from torch_cormorant.errors import ConfigError
from torch_cormorant.irreps import Irrep, Irreps

__all__ = ["GATES", "NBodyPaths", "Piece", "kappa"]

GATES = ("single", "pairs", "relative")
"""Eqs. (10), (11) and (12)."""
PRODUCTS = ("full", "channelwise")
FORMS = ("sums", "chain")
FRAGMENTS = ("distinct", "printed")
ZERO = 1e-12


def kappa(first: Sequence[int], second: Sequence[int]) -> list[int]:
    r"""How many fragments of each degree a full product of two types has.

    .. math::
        \kappa_l(\tau, \tau') = \sum_{l_1, l_2 :\, |l_1 - l_2| \le l \le l_1 + l_2}
        \tau_{l_1} \tau'_{l_2}

    Kondor 2018, below eq. (7). The list that the paper prints for children
    :math:`(1, \ldots, 1)` and a vector, (1, 3, 2, ..., 2, 1), is this one up to L = 2
    only: there are three of every degree from 1 to L - 1.

    Args:
        first: Copies of degree 0, 1, ... of the first operand.
        second: The same of the second.

    Example:
        >>> kappa([1, 1, 1], [0, 1]), kappa([1, 1, 1, 1, 1], [0, 1])
        ([1, 3, 2, 1], [1, 3, 3, 3, 2, 1])
    """
    counts = [0] * max(0, len(first) + len(second) - 1)
    for l1, a in enumerate(first):
        for l2, b in enumerate(second):
            for l in range(abs(l1 - l2), l1 + l2 + 1):
                counts[l] += a * b
    return counts


class Piece(NamedTuple):
    """Fragments of the same blocks of children, as one matrix for each irrep.

    Attributes:
        blocks: One block of the children's features, or two.
        channels: Of two blocks: ``"all"`` pairs of channels, ``"equal"`` ones, or those
            with the first ``"below"`` the second.
        labels: What each fragment is, by irreps.
        tables: ``[components in, fragments, 2l + 1]`` by irreps, float64.
    """

    blocks: tuple[int, ...]
    channels: str
    labels: dict[Irrep, tuple[str, ...]]
    tables: dict[Irrep, Tensor]


class NBodyPaths:
    r"""The list of fragments of one gate, for every radial function.

    With v the vector from the node to a child, and :math:`v_{ii'}` that between two
    children, the gates of Kondor 2018 couple

    ==============  ======  ==========================================================
    gate            eq.     fragments
    ==============  ======  ==========================================================
    ``"single"``    (10)    :math:`\psi_i \otimes v_i`
    ``"pairs"``     (11)    :math:`\psi_i \otimes \psi_{i'} \otimes v_i \otimes
                            v_{i'}`
    ``"relative"``  (12)    :math:`\psi_i \otimes \psi_{i'} \otimes v_{ii'}`
    ==============  ======  ==========================================================

    and sum over children or pairs of them. A sum over pairs is symmetric, so many of
    the products as printed repeat others, and some vanish: they are left out unless
    ``fragments="printed"``, where every one is there.

    Args:
        irreps_in: What the states of children are made of.
        irreps_out: Irreps that are kept; multiplicities play no part.
        gate: ``"single"``, ``"pairs"`` or ``"relative"``.
        product: ``"full"``: all pairs of channels (default); ``"channelwise"``.
        form: Of ``"pairs"``: ``"sums"`` couples every child with its vector first
            (default), ``"chain"`` from left to right as printed. Both span the same.
        fragments: ``"distinct"`` (default) or ``"printed"``.

    Attributes:
        pieces: The fragments.
        zeros: Labels of the printed fragments of equal channels that are always zero.

    Raises:
        ConfigError: An option is unknown, or channels differ where they must not.

    Example:
        >>> paths = NBodyPaths("4x0 + 4x1", "0 + 1", "relative", product="channelwise")
        >>> paths.counts()
        {Irrep(l=0, p=0): 8, Irrep(l=1, p=0): 8}
        >>> printed = NBodyPaths("0 + 1", "0 + 1", "relative", fragments="printed")
        >>> printed.counts(), printed.zeros[:2]
        ({Irrep(l=0, p=0): 3, Irrep(l=1, p=0): 6}, ('((0,0,0),v,1)', '((1,1,0),v,1)'))
    """

    def __init__(
        self,
        irreps_in: object,
        irreps_out: object,
        gate: str,
        *,
        product: str = "full",
        form: str = "sums",
        fragments: str = "distinct",
    ) -> None:
        given = {"gate": gate, "product": product, "form": form, "fragments": fragments}
        allowed = (GATES, PRODUCTS, FORMS, FRAGMENTS)
        for (name, value), words in zip(given.items(), allowed, strict=True):
            if value not in words:
                raise ConfigError(f"{name} must be one of {words}, got {value!r}")
        self.irreps_in, self.irreps_out = Irreps(irreps_in), Irreps(irreps_out)
        self.gate, self.product, self.form = gate, product, form
        self.vector = Irrep(1, -1 if self.irreps_in.has_parity else 0)
        self.distinct = fragments == "distinct"
        muls = {block.mul for block in self.irreps_in}
        if product == "channelwise" and gate != "single" and len(muls) > 1:
            msg = (
                "channelwise products need the same number of channels of every "
                f'degree, got {self.irreps_in}; take product="full"'
            )
            raise ConfigError(msg)
        self.zeros: tuple[str, ...] = ()
        self.pieces = tuple(self._linear() if gate == "single" else self._bilinear())

    def pairs(self, piece: Piece) -> int:
        """How many (pairs of) channels a fragment of a piece stands for."""
        muls = [self.irreps_in[k].mul for k in piece.blocks]
        if len(muls) == 1 or piece.channels == "equal":
            return muls[0]
        if piece.channels == "all":
            return muls[0] * muls[1]
        return muls[0] * (muls[0] - 1) // 2

    def counts(self) -> dict[Irrep, int]:
        """Fragments of each irrep of the result, for one radial function."""
        found = dict.fromkeys(sorted({ir for _, ir in self.irreps_out}), 0)
        for piece in self.pieces:
            for ir, labels in piece.labels.items():
                found[ir] += len(labels) * self.pairs(piece)
        return found

    def _linear(self) -> Iterator[Piece]:
        """Eq. (10)."""
        for k, (_, ir) in enumerate(self.irreps_in):
            rows: _Rows = {}
            for a in ir.product(self.vector):
                table = _cg(ir, self.vector, a).transpose(0, 1)
                self._add(rows, a, f"({ir.l},v,{a.l})", table)
            yield _piece((k,), "all", rows)

    def _bilinear(self) -> Iterator[Piece]:
        """Eqs. (11) and (12)."""
        every = "equal" if self.product == "channelwise" else "all"
        size = range(len(self.irreps_in))
        for k1, k2 in ((a, b) for a in size for b in size):
            rows = self._products(self.irreps_in[k1].ir, self.irreps_in[k2].ir)
            if k1 == k2:
                same = {ir: self._same(list_) for ir, list_ in rows.items()}
            if k1 != k2 or not self.distinct:
                if k1 < k2 or not self.distinct:
                    yield _piece((k1, k2), every, rows)
                continue
            yield _piece((k1, k1), "equal", same)
            if self.product == "full" and self.irreps_in[k1].mul > 1:
                yield _piece((k1, k1), "below", rows)

    def _products(self, a: Irrep, b: Irrep) -> _Rows:
        """All fragments of two children of irreps a and b, as printed."""
        v = self.vector
        rows: _Rows = {}
        if self.gate == "pairs" and self.form == "sums":
            for i in a.product(v):
                for j in b.product(v):
                    for l in i.product(j):
                        table = torch.einsum(
                            "avi,bwj,ijl->vawbl",
                            _cg(a, v, i),
                            _cg(b, v, j),
                            _cg(i, j, l),
                        )
                        label = f"(({a.l},v,{i.l}),({b.l},v,{j.l}),{l.l})"
                        self._add(rows, l, label, table)
            return rows
        for i in a.product(b):
            for j in i.product(v):
                both = torch.einsum("abi,ivj->avbj", _cg(a, b, i), _cg(i, v, j))
                label = f"(({a.l},{b.l},{i.l}),v,{j.l})"
                if self.gate == "relative":
                    self._add(rows, j, label, both)
                    continue
                for l in j.product(v):
                    table = torch.einsum("avbj,jwl->vawbl", both, _cg(j, v, l))
                    self._add(rows, l, f"({label},v,{l.l})", table)
        return rows

    def _add(self, rows: _Rows, ir: Irrep, label: str, table: Tensor) -> None:
        if ir in self.irreps_out:
            rows.setdefault(ir, []).append((label, table))

    def _same(self, rows: list[tuple[str, Tensor]]) -> list[tuple[str, Tensor]]:
        """Of a channel with itself: fragments that the others do not make.

        What changes its sign when the children are exchanged is zero in the sum.
        """
        kept: list[tuple[str, Tensor]] = []
        basis: list[Tensor] = []
        for label, table in rows:
            if self.gate == "pairs":
                whole = table + table.permute(2, 3, 0, 1, 4)
            else:
                whole = table - table.permute(2, 1, 0, 3)  # the vector turns round
            rest = whole.flatten()
            if float(rest.norm()) < ZERO:
                self.zeros += (label,)
                continue
            for _ in range(2):  # twice: to round-off
                for known in basis:
                    rest = rest - known.dot(rest) * known
            if float(rest.norm()) > ZERO**0.5:
                basis.append(rest / rest.norm())
                kept.append((label, table))
        return kept

    def __repr__(self) -> str:
        return (
            f"NBodyPaths({self.irreps_in} -> {self.irreps_out}, {self.gate}, "
            f"{sum(self.counts().values())} fragments)"
        )


_Rows = dict[Irrep, list[tuple[str, Tensor]]]


def _cg(a: Irrep, b: Irrep, c: Irrep) -> Tensor:
    return clebsch_gordan(a.l, b.l, c.l, device="cpu")


def _piece(blocks: tuple[int, ...], channels: str, rows: _Rows) -> Piece:
    """Tables of one irrep side by side: ``[components in, fragments, 2l + 1]``."""
    rows = {ir: list_ for ir, list_ in rows.items() if list_}
    labels = {ir: tuple(label for label, _ in list_) for ir, list_ in rows.items()}
    tables = {
        ir: torch.stack([table.flatten(0, -2) for _, table in list_], dim=1)
        for ir, list_ in rows.items()
    }
    return Piece(blocks, channels, labels, tables)
