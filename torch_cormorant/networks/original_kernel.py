r"""Kernel convolutions of e3nn of March 2020: order of weights, signs, factors.

Their radial networks divide by the root of the width, all layers but the first. The
rows of the last layer belong to (block of the result, block of the input), in it to
(copy out, copy in, degree of the harmonics). Tables of that time have the first entry
positive, after the axes are sorted by degree, and harmonics are
:math:`(-1)^l \sqrt{(2l + 1) / 4 \pi}` times ours; their edges point from the receiver
to the sender, which cancels the sign.

==========================  ====================================================
theirs                      becomes
==========================  ====================================================
``weights.{k}``             times :math:`1/\sqrt{in}`, all but the first of
                            several
rows of a path of the last  times :math:`s \sqrt{(2 l_2 + 1)(2 l_1 + 1) /
                            (2 l + 1) / n_l}`, s the sign of their table; with
                            the normalisation ``component`` without :math:`(2 l_1
                            + 1) / (2 l + 1)`
==========================  ====================================================
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_cormorant.cg import clebsch_gordan

if TYPE_CHECKING:
    from torch_cormorant.conv import KernelConv

__all__ = ["Blocks", "kernel_factors", "kernel_order", "kernel_scales", "table_sign"]

Blocks = Sequence[tuple[int, int, int]]
"""Blocks of their result: our block, first copy in it, number of copies."""
SORTED = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1))
"""Orders of the axes of a table, in the order in which they are tried."""


@cache
def table_sign(l_out: int, l_in: int, l: int) -> int:
    """Sign of their table of these degrees, harmonics last, against ours.

    Args:
        l_out: Degree of the result.
        l_in: Degree of the features.
        l: Degree of the harmonics.
    """
    degrees = (l_out, l_in, l)
    order = next(
        axes for axes in SORTED if sorted(degrees) == [degrees[a] for a in axes]
    )
    ours = clebsch_gordan(l_in, l, l_out, device="cpu").permute(2, 0, 1)
    entries = ours.permute(order).flatten()
    first = entries[entries.abs() > 1e-10 * entries.abs().max()][0]
    return 1 if first > 0 else -1


def kernel_order(conv: KernelConv, blocks: Blocks) -> Tensor:
    """For every radial weight of ours the row of theirs."""
    found: dict[tuple[int, int, int], list[Tensor]] = {}
    at = 0
    for k, _, copies in blocks:
        lo = conv.irreps_out[k].ir.l
        for i, (mul, (li, _)) in enumerate(conv.irreps_in):
            degrees = range(abs(lo - li), lo + li + 1)
            size = copies * mul * len(degrees)
            rows = torch.arange(at, at + size).view(copies, mul, len(degrees))
            at += size
            for f, l in enumerate(degrees):
                found.setdefault((i, l, k), []).append(rows[..., f].T)
    parts = [torch.cat(found[path[:3]], dim=1) for path in conv.paths.paths]
    return torch.cat([part.flatten() for part in parts])


def kernel_factors(conv: KernelConv, normalisation: str = "norm") -> Tensor:
    """What a row of theirs is multiplied by, in the order of ours."""
    factors = []
    for path, size in zip(conv.paths.paths, conv.paths.sizes, strict=True):
        li, l, lo = conv.paths.degrees(path)
        sign = float(table_sign(lo, li, l))
        if normalisation == "component":
            sign *= ((2 * lo + 1) / (2 * li + 1)) ** 0.5
        factors += [sign] * size
    return conv.kernel_factors() * torch.tensor(factors, dtype=torch.float64)


def kernel_scales(
    conv: KernelConv, blocks: Blocks, normalisation: str = "norm"
) -> Iterator[tuple[str, str, Tensor | None, Tensor]]:
    """Name of ours, theirs, order and factor of rows of every radial matrix."""
    linears = conv.radial.mlp.linears
    for k, linear in enumerate(linears):
        size = 1.0 if k == 0 < len(linears) - 1 else linear.in_features**-0.5
        factor, order = torch.tensor([[size]], dtype=torch.float64), None
        if k == len(linears) - 1:
            order = kernel_order(conv, blocks)
            factor = factor * kernel_factors(conv, normalisation).unsqueeze(1)
        yield f"radial.mlp.{2 * k}.weight", f"weights.{k}", order, factor
