r"""The weighted sum with splines in the place of weights.

The kernel evaluates them for the edges of one receiver at a time and hands back the
slope of every edge: no ``[E, W]`` tensor exists, forward or backward.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from torch_cormorant.ops import weighted_kernel
from torch_cormorant.ops.operands import check_splines
from torch_cormorant.ops.plan import GraphPlan
from torch_cormorant.ops.product_paths import ProductPaths
from torch_cormorant.ops.splines import spline_rows
from torch_cormorant.ops.weighted_inside import InsideSum


class _Splines:
    """Weights as splines, of which only the places have gradients."""

    check = staticmethod(check_splines)
    weights = staticmethod(spline_rows)

    @staticmethod
    def forward(
        x: Tensor,
        sh: Tensor,
        place: Tensor,
        table: Tensor,
        plan: GraphPlan,
        paths: ProductPaths,
    ) -> list[Tensor]:
        return weighted_kernel.forward(x, sh, place, plan, paths, table)

    @staticmethod
    def backward(
        x: Tensor,
        sh: Tensor,
        place: Tensor,
        table: Tensor,
        plan: GraphPlan,
        paths: ProductPaths,
        need: Sequence[bool],
        grads: Sequence[Tensor],
    ) -> list[Tensor | None]:
        wanted = (need[0], need[1], need[2])
        parts = weighted_kernel.backward(
            x, sh, place, plan, paths, wanted, grads, table
        )
        return [*parts, None]


spline_sum = InsideSum("weighted_sum_splines", ("place", "table"), _Splines())
