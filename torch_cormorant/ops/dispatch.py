"""Which implementation computes an operation."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Protocol, cast

from torch import Tensor

from torch_cormorant.errors import BackendError
from torch_cormorant.ops import cpu_kernel, portable
from torch_cormorant.ops.paths import PathTable
from torch_cormorant.ops.plan import GraphPlan
from torch_cormorant.ops.portable import Need

NAMES = ("auto", "portable", "cpu_kernel", "triton")
"""Values of the ``backend`` argument of operations."""
_TRITON = "torch_cormorant.ops.triton"
_default = "auto"


class Implementation(Protocol):
    """What a module must offer to compute the neighbour sum."""

    def forward(
        self, x: Tensor, g: Tensor, sh: Tensor, plan: GraphPlan, table: PathTable
    ) -> list[Tensor]:
        """One tensor per degree."""

    def backward(
        self,
        x: Tensor,
        g: Tensor,
        sh: Tensor,
        plan: GraphPlan,
        table: PathTable,
        need: Need,
        grads: Sequence[Tensor],
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Gradients with respect to x, g and sh, None where not needed."""


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Choose what ``backend="auto"`` means inside a ``with`` block.

    Args:
        name: ``"portable"`` (PyTorch alone), ``"cpu_kernel"``, ``"triton"``, or
            ``"auto"``: the fastest one that works.

    Raises:
        BackendError: If the backend is unknown, or missing on this machine.

    Example:
        >>> from torch_cormorant.ops import use_backend
        >>> with use_backend("portable"):
        ...     pass  # operations in here run in PyTorch alone

    Note:
        For the whole process, not for one thread. Gradients are computed where the
        forward pass was; ``torch.compile`` compiles again for another choice.
    """
    global _default  # noqa: PLW0603
    before, _default = _default, check_backend(name)
    try:
        yield
    finally:
        _default = before


def check_backend(name: str) -> str:
    """Refuse a backend that is unknown, or missing on this machine."""
    chosen(name)
    if name == "cpu_kernel":
        cpu_kernel.library()
    if name == "triton":
        _triton()
    return name


def chosen(name: str) -> str:
    """What the user asked for, after the surrounding :func:`use_backend`."""
    if name not in NAMES:
        message = f"backend must be one of {NAMES}, got {name!r}"
        raise BackendError(message)
    return _default if name == "auto" else name


def use_kernel(name: str, x: Tensor, table: PathTable | None) -> bool:
    """Whether the CPU kernel computes an operation on x.

    Raises:
        BackendError: If the kernel is asked for by name and cannot do it.
    """
    if name not in {"auto", "cpu_kernel"} or x.device.type != "cpu":
        return False
    fits = table is None or cpu_kernel.fits(table)
    if name == "cpu_kernel":
        cpu_kernel.library()
        return fits
    return fits and not cpu_kernel.problem()


def implementation(name: str, x: Tensor, table: PathTable) -> Implementation:
    """The module that computes the neighbour sum of x."""
    if use_kernel(name, x, table):
        return cast("Implementation", cpu_kernel)
    if name == "cpu_kernel":
        message = (
            f'backend "cpu_kernel" computes tensors on a CPU up to degree '
            f"{cpu_kernel.MAX_LMAX}, got x on {x.device} and degrees {table.key[:3]}; "
            'use backend="auto"'
        )
        raise BackendError(message)
    if name == "triton" or (name == "auto" and x.is_cuda and _has_triton()):
        return cast("Implementation", _triton())
    return cast("Implementation", portable)


def has_double_backward(name: str, x: Tensor, table: PathTable) -> bool:
    """Whether gradients of gradients of the neighbour sum are computed at once."""
    if x.is_cuda:
        return name in {"auto", "triton"} and _has_triton()
    return use_kernel(name, x, table)


@cache
def _has_triton() -> bool:
    return all(importlib.util.find_spec(name) for name in ("triton", _TRITON))


def _triton() -> ModuleType:
    if not _has_triton():
        message = (
            'backend "triton" needs Triton, which comes with the CUDA builds of '
            "torch; to enable it: pip install triton"
        )
        raise BackendError(message)
    return importlib.import_module(_TRITON)
