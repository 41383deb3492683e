"""Planes of features as complex numbers, which the kernels read, and back.

Copies in one operation each, in every derivative too: those of PyTorch's own operators
take several, or go through memory in an order that is twice as slow.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torch_cormorant.ops.operator import is_direct


def complex_of(x: Tensor) -> Tensor:
    """Planes ``[N, M, 2, C]`` as complex ``[N, M, C]``.

    Example:
        >>> complex_of(torch.tensor([1.0, 2.0]).view(1, 1, 2, 1))
        tensor([[[1.+2.j]]])
    """
    if is_direct([x]):
        joined: Tensor = _Joined.apply(x)  # type: ignore[no-untyped-call]
        return joined
    # one copy here and one in the backward pass, unlike with torch.complex
    pairs = x.transpose(2, 3).clone(memory_format=torch.contiguous_format)
    return torch.view_as_complex(pairs)


def planes_of(z: Tensor) -> Tensor:
    """Complex ``[N, M, C]`` as planes ``[N, M, 2, C]``.

    Example:
        >>> planes_of(torch.tensor([[[1.0 + 2.0j]]])).flatten()
        tensor([1., 2.])
    """
    if is_direct([z]):
        parted: Tensor = _Parted.apply(z)  # type: ignore[no-untyped-call]
        return parted
    return torch.view_as_real(z.resolve_conj()).transpose(2, 3).contiguous()


class _Joined(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004
        return torch.complex(x.select(2, 0), x.select(2, 1))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # noqa: ARG004
        return planes_of(grad)


class _Parted(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:  # noqa: ARG004
        return torch.stack([z.real, z.imag], dim=2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # noqa: ARG004
        return complex_of(grad)
