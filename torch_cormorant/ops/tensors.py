"""Small things that the operations share: plain layouts, real views, ordered sums."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def plain(x: Tensor) -> Tensor:
    """Contiguous, with lazy conjugates and signs carried out."""
    return x.resolve_conj().resolve_neg().contiguous()


def real_view(x: Tensor) -> Tensor:
    """The last axis as real numbers: C, or 2 C with (re, im) side by side."""
    return torch.view_as_real(x).flatten(-2) if x.is_complex() else x


def fakes(likes: Sequence[Tensor], wanted: Sequence[bool]) -> list[Tensor]:
    """Tensors without values, empty where nothing is wanted."""
    return [
        like.new_empty(like.shape if needed else (0,))
        for like, needed in zip(likes, wanted, strict=True)
    ]


def plus(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """Sum of two tensors, either of which may be missing."""
    return b if a is None else a if b is None else a + b


def accumulate(total: Tensor | None, index: Tensor, part: Tensor | None) -> None:
    """Add rows of part to total, in a fixed order on every device."""
    if total is None or part is None:
        return
    flat = torch.view_as_real(total) if total.is_complex() else total
    rows = torch.view_as_real(part) if part.is_complex() else part
    if total.device.type == "cpu":
        flat.flatten(1).index_add_(0, index, rows.flatten(1))
    else:
        flat.index_put_((index,), rows, accumulate=True)


def safe_norm(vec: Tensor) -> Tensor:
    """Length of vectors, with value and all derivatives zero at zero."""
    squared = vec.square().sum(-1)
    zero = squared == 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, squared).sqrt())
