"""Derivatives of gradients of operations that are linear in each of three operands."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from torch_cormorant.ops.tensors import plus


def composed(
    inputs: Sequence[Tensor],
    grads: Sequence[Tensor],
    cotangents: Sequence[Tensor | None],
    need: Sequence[bool],
    gradient: Callable[..., Sequence[Tensor | None]],
    forward: Callable[..., Sequence[Tensor]],
) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """The gradient of the gradient from gradients and sums.

    With Q(x, g, sh, d) = <d, sum(x, g, sh)>, multilinear over the reals, and
    cotangents (ux, ug, us) of the three gradients, the scalar to differentiate is
    Q(ux, g, sh, d) + Q(x, ug, sh, d) + Q(x, g, us, d).
    """
    totals: list[Tensor | None] = [None, None, None]
    dgrads: list[Tensor | None] = [None] * len(grads)
    for k, cotangent in enumerate(cotangents):
        if cotangent is None:
            continue
        given = list(inputs)
        given[k] = cotangent
        wanted = [need[q] and q != k for q in range(3)]
        if any(wanted):
            parts = gradient(*given, wanted)
            for q in range(3):
                if wanted[q]:
                    totals[q] = plus(totals[q], parts[q])
        if need[3]:
            sums = forward(*given)
            dgrads = [plus(a, b) for a, b in zip(dgrads, sums, strict=True)]
    return totals, dgrads
