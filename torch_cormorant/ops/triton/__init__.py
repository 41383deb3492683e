"""The neighbour sum on CUDA, in Triton source written per set of paths.

Three functions with the semantics of the portable path, for CUDA tensors (or for CPU
tensors when ``TRITON_INTERPRET=1`` was set before triton was imported)::

    forward(x, g, sh, plan, table) -> list[Tensor]
    backward(x, g, sh, plan, table, need, grads) -> (dx, dg, dsh)
    double_backward(x, g, sh, plan, table, need, need_grads, grads, cotangents)
        -> (dx, dg, dsh, dgrads)

``double_backward`` is the gradient of ``backward``: with ``cotangents = (ux, ug, us)``
of its three results (None where there is none), ``need`` says which of the gradients
with respect to x, g and sh are wanted, ``need_grads`` whether those with respect to
``grads`` are; ``dgrads`` is a list with one tensor per degree, or None. It equals

    backward(ux, g, sh, d) + backward(x, ug, sh, d) + backward(x, g, us, d),

each without the gradient of the replaced argument, and for ``dgrads`` the sum of the
three forward calls. Nothing here records gradients: that is the caller's business.

The first call for a plan sorts its rows, without waiting for the device (gradients
of graphs beyond a gigabyte of buffers excepted), and keeps them on ``plan.packed``.
Triton is imported by the first call of any function.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from torch import Tensor

from torch_cormorant.errors import BackendError
from torch_cormorant.ops.paths import PathTable
from torch_cormorant.ops.plan import GraphPlan

__all__ = ["backward", "double_backward", "forward", "is_available"]


def is_available() -> bool:
    """Whether triton is installed; says nothing about a GPU.

    Example:
        >>> from torch_cormorant.ops import triton
        >>> isinstance(triton.is_available(), bool)
        True
    """
    return find_spec("triton") is not None


def forward(
    x: Tensor, g: Tensor, sh: Tensor, plan: GraphPlan, table: PathTable
) -> list[Tensor]:
    """Sums of all paths, see :func:`torch_cormorant.ops.neighbour_sum`.

    Args:
        x: Node features, complex or real.
        g: Edge scalars per edge or per undirected pair, of the dtype of x.
        sh: Real harmonics of the edges.
        plan: The graph's plan.
        table: The paths.

    Shapes:
        ``x`` ``[N, M, C]`` with M components, those that the paths read;
        ``g`` ``[rows, lmax1 + 1, C]``; ``sh`` ``[E, (lmax1 + 1)^2]``.

    Returns:
        For each degree l one tensor ``[N_target, 2l + 1, number of paths, C]``.

    Raises:
        BackendError: Without triton, or on tensors that are not on a CUDA device.
    """
    _require()
    from torch_cormorant.ops.triton import launch

    return launch.forward(x, g, sh, plan, table)


def backward(
    x: Tensor,
    g: Tensor,
    sh: Tensor,
    plan: GraphPlan,
    table: PathTable,
    need: tuple[bool, bool, bool],
    grads: Sequence[Tensor],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of the sums with respect to x, g and sh, without atomics.

    Args:
        x: As in :func:`forward`.
        g: As in :func:`forward`.
        sh: As in :func:`forward`.
        plan: The graph's plan.
        table: The paths.
        need: Which of the three gradients are wanted.
        grads: The gradient of every degree.

    Shapes:
        ``grads`` as the results of :func:`forward`.

    Returns:
        The gradients, None where not wanted. The same bits in every run.

    Raises:
        BackendError: Without triton, or on tensors that are not on a CUDA device.
    """
    _require()
    from torch_cormorant.ops.triton import launch

    return launch.backward(x, g, sh, plan, table, need, grads)


def double_backward(
    x: Tensor,
    g: Tensor,
    sh: Tensor,
    plan: GraphPlan,
    table: PathTable,
    need: tuple[bool, bool, bool],
    need_grads: bool,
    grads: Sequence[Tensor],
    cotangents: Sequence[Tensor | None],
) -> tuple[Tensor | None, Tensor | None, Tensor | None, list[Tensor] | None]:
    """Gradients of :func:`backward` with respect to all its inputs, in one pass.

    Args:
        x: As in :func:`forward`.
        g: As in :func:`forward`.
        sh: As in :func:`forward`.
        plan: The graph's plan.
        table: The paths.
        need: Which gradients with respect to x, g and sh are wanted.
        need_grads: Whether those with respect to ``grads`` are wanted.
        grads: The gradients that :func:`backward` was given.
        cotangents: Gradients with respect to its results dx, dg and dsh, None where
            there is none.

    Shapes:
        Every gradient as what it belongs to.

    Returns:
        The gradients with respect to x, g, sh and ``grads``, None where not wanted
        or where all cotangents are None.

    Raises:
        BackendError: Without triton, or on tensors that are not on a CUDA device.
    """
    _require()
    from torch_cormorant.ops.triton import launch

    return launch.double_backward(
        x, g, sh, plan, table, need, need_grads, grads, cotangents
    )


def _require() -> None:
    if not is_available():
        msg = (
            "the Triton kernels need the package triton, which is not installed; "
            "`pip install triton`, or use the portable path"
        )
        raise BackendError(msg)
