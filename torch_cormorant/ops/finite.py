"""Refuse what is not finite, also inside of a compiled graph."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from torch_cormorant.errors import NonFiniteError
from torch_cormorant.ops.operator import Operator


def refuse_nonfinite(x: Tensor, rows: str) -> Tensor:
    """A copy of x; an error where it is run if x holds NaN or infinity.

    Args:
        x: Any tensor with at least one axis.
        rows: What a row stands for, for the message.

    Raises:
        NonFiniteError: If a row is not finite.

    Note:
        One node for ``torch.compile``; waits for a device.

    Example:
        >>> import torch
        >>> refuse_nonfinite(torch.ones(2), "molecule")
        tensor([1., 1.])
    """
    out: Tensor = _finite(x, rows)
    return out


def nonfinite_row(x: Tensor) -> int | None:
    """The first row that is not finite, or None."""
    finite = x.detach().isfinite()
    if x.ndim > 1:
        finite = finite.flatten(1).all(-1)
    return None if bool(finite.all()) else int((~finite).nonzero()[0])


def _run(x: Tensor, rows: str) -> Tensor:
    row = nonfinite_row(x)
    if row is not None:
        msg = (
            f"the output for {rows} {row} is not finite: look for atoms at one place, "
            "positions that are not in Angstrom, and weights that have grown too large"
        )
        raise NonFiniteError(msg)
    return x.clone()


def _fake(x: Tensor, rows: str) -> Tensor:  # noqa: ARG001
    return x.new_empty(x.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    """Nothing is needed for the gradient."""


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # noqa: ARG001
    return grad, None


_finite = Operator(
    "refuse_nonfinite",
    "(Tensor x, str rows) -> Tensor",
    run=_run,
    fake=_fake,
    keep=_keep,
    backward=_backward,
    operands=(0,),
)
