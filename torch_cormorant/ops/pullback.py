"""Gradients of a function that is computed anew in the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from torch_cormorant.ops.tensors import plain


def pulled_back(
    function: Callable[..., Sequence[Tensor | None]],
    leaves: Sequence[Tensor],
    weights: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """Gradients of a function's results for what it reads, computed anew.

    Args:
        function: Of all leaves; gives tensors, or None for some.
        leaves: What it reads. One may depend on another: each is seen as a view, where
            differentiation ends.
        weights: Cotangents of the results, None for some.

    Returns:
        One gradient for each leaf, None where there is none.
    """
    more = torch.is_grad_enabled()
    with torch.enable_grad():
        seen = [x.view_as(x) if x.requires_grad else x for x in leaves]
        asked = [leaf for leaf in seen if leaf.requires_grad]
        used = [
            (out, plain(weight))
            for out, weight in zip(function(*seen), weights, strict=True)
            if out is not None and weight is not None and out.requires_grad
        ]
        if not used or not asked:
            return [None] * len(leaves)
        results = iter(
            torch.autograd.grad(
                [out for out, _ in used],
                asked,
                [weight for _, weight in used],
                create_graph=more,
                allow_unused=True,
            )
        )
    return [next(results) if leaf.requires_grad else None for leaf in seen]
