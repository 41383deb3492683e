"""When a whole stage of a layer is one operator, and the switch for it.

On a CPU the C++ kernels compute the edge network and the vertex step of a layer as one
operator each, with gradients of first and second order. Where they cannot (other
devices, ``torch.func``, own subclasses of tensors, a named backend without them), the
same stage runs as a composition of smaller operators, which is also what the fused form
is tested against.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from torch_cormorant.ops import cpu_kernel
from torch_cormorant.ops.dispatch import chosen
from torch_cormorant.ops.operands import FEATURES
from torch_cormorant.ops.operator import PLAIN
from torch_cormorant.ops.transforms import is_transformed, is_watched

__all__ = ["enabled", "fits"]

BACKENDS = ("auto", "cpu_kernel")
_on = True


@contextmanager
def enabled(on: bool) -> Iterator[None]:
    """Take fused operators or not, inside a ``with`` block: for comparisons.

    Args:
        on: False: compute every stage as a composition, with the same kernels for its
            neighbour sums and products. True: fused where possible, the default.

    Note:
        For the whole process, not for one thread. Results differ by rounding only.

    Example:
        >>> from torch_cormorant.ops import fused
        >>> with fused.enabled(False):
        ...     pass  # layers in here run operator by operator
    """
    global _on  # noqa: PLW0603
    before, _on = _on, on
    try:
        yield
    finally:
        _on = before


def fits(backend: str, *operands: Tensor | None) -> bool:
    """Whether fused operators may compute on some tensors.

    Args:
        backend: What the layer was told; see :func:`~torch_cormorant.ops.use_backend`.
        operands: The tensors; None: one that is not there.
    """
    return (
        _on
        and backend != "reference"
        and chosen(backend) in BACKENDS
        and _ready()
        and not is_transformed()
        and all(x is None or _plain(x) for x in operands)
    )


def _ready() -> bool:
    return not cpu_kernel.problem()


# torch.compiler.assume_constant_result, without the compiler's slow import: a compiler
# cannot follow how libraries are loaded, and asks once for each graph
_ready._dynamo_marked_constant = True  # type: ignore[attr-defined]  # noqa: SLF001


def _plain(x: Tensor) -> bool:
    if x.device.type != "cpu" or x.dtype not in FEATURES:
        return False
    return type(x) in PLAIN or torch.compiler.is_compiling() or is_watched()
