"""The neighbour sum, dots and square exactly as the paper writes them.

Slow, short, and never changed for speed: every fast path is tested against this.
Uses PyG's ``scatter`` and one CG product per edge.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.utils import scatter

from torch_cormorant.ops.cg_product import product
from torch_cormorant.ops.paths import PathTable


def edge_vectors(g: Tensor, sh: Tensor) -> Tensor:
    """``G_ij^{lm} = g_ij^l Y^{lm}(r_ij)``, eq. (S3) of the supplement."""
    lmax = g.shape[1] - 1
    parts = [
        g[:, l, None] * sh[:, l * l : (l + 1) ** 2, None].to(g) for l in range(lmax + 1)
    ]
    return torch.cat(parts, dim=1)


def neighbour_sum(
    x: Tensor, g: Tensor, sh: Tensor, edge_index: Tensor, size: int, table: PathTable
) -> tuple[Tensor, ...]:
    """``sum_j G_ij (x) F_j``: same arguments and result as the fast path, per edge."""
    messages = product(edge_vectors(g, sh), x[edge_index[0]], table)
    return tuple(_sum(message, edge_index[1], size) for message in messages)


def edge_dots(a: Tensor, b: Tensor, index_a: Tensor, index_b: Tensor) -> Tensor:
    """``d_ij^l = sum_m F_i^m F_j^m`` in the real basis."""
    both = a[index_a] * b[index_b]
    lmax = round(a.shape[1] ** 0.5) - 1
    parts = [both[:, l * l : (l + 1) ** 2].sum(1) for l in range(lmax + 1)]
    return torch.stack(parts, dim=1)


def _sum(message: Tensor, index: Tensor, size: int) -> Tensor:
    """PyG's scatter knows real tensors only."""
    if not message.is_complex():
        total: Tensor = scatter(message, index, dim=0, dim_size=size, reduce="sum")
        return total
    summed = scatter(
        torch.view_as_real(message), index, dim=0, dim_size=size, reduce="sum"
    )
    return torch.view_as_complex(summed)
