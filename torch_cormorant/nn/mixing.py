r"""Weights that mix channels, degree by degree.

A covariant linear map may mix the channels of one degree only:
:math:`F'^l = W^l F^l` with complex :math:`W^l`, the same for all components m.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from torch_cormorant.nn.init import init_block, writable


class DegreeWeights(nn.Module):
    """One complex (or real) weight matrix for each degree.

    Parameters ``weight_l0 .. weight_l{lmax}`` have shape ``[P, out, in_l]``, planes
    (real, imaginary) first.

    Args:
        out_channels: Rows of every matrix.
        in_channels: Columns of the matrix of each degree, or None to wait for
            :meth:`materialize`.
        lmax: Largest degree.
        complex: Two planes (default) or one.
        start: Start the weights (default). False: zeros, for an owner that starts them
            itself.
    """

    def __init__(
        self,
        out_channels: int,
        in_channels: tuple[int, ...] | None,
        lmax: int,
        *,
        complex: bool = True,
        start: bool = True,
    ) -> None:
        super().__init__()
        self.start = start
        self.out_channels = out_channels
        self.lmax = lmax
        self.planes = 2 if complex else 1
        for l in range(lmax + 1):
            if in_channels is None:
                setattr(self, f"weight_l{l}", UninitializedParameter())
            else:
                shape = (self.planes, out_channels, in_channels[l])
                self.register_parameter(
                    f"weight_l{l}", nn.Parameter(torch.zeros(shape))
                )
        if in_channels is not None:
            self._begin()

    def reset_parameters(self) -> None:
        """Start the matrices so that the variance of the input is kept."""
        for l in range(self.lmax + 1):
            init_block(writable(self, f"weight_l{l}"), 1.0)

    def _begin(self) -> None:
        if self.start:
            self.reset_parameters()

    def __getitem__(self, l: int) -> Tensor:
        weight: Tensor = getattr(self, f"weight_l{l}")
        return weight

    def forward(self) -> tuple[Tensor, ...]:
        """The matrices of all degrees, as they are now.

        Layers call the module in every step: what PyTorch hangs on a module that holds
        weights (pruning, weight norms, hooks) then takes effect.
        """
        return tuple(self[l] for l in range(self.lmax + 1))

    @property
    def lazy(self) -> bool:
        """True while the number of columns is not known."""
        return isinstance(self[0], UninitializedParameter)

    def materialize(self, in_channels: tuple[int, ...], out_channels: int) -> None:
        """Give the matrices their shape and start them."""
        self.out_channels = out_channels
        for l, count in enumerate(in_channels):
            weight = self[l]
            if isinstance(weight, UninitializedParameter):
                weight.materialize((self.planes, out_channels, count))
                nn.init.zeros_(weight)
        self._begin()

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any
    ) -> None:
        for l in range(self.lmax + 1):
            weight, given = self[l], state_dict.get(f"{prefix}weight_l{l}")
            if isinstance(weight, UninitializedParameter) and given is not None:
                weight.materialize(given.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)


def real_rows(weights: Sequence[Tensor]) -> Tensor:
    """All degrees in one real matrix ``[sum of in_l * P, P * out]``.

    Rows are interleaved, columns planar; see :func:`as_real`. One call for all degrees:
    operations on small matrices cost their start and little else.
    """
    return as_real(torch.cat(tuple(weights), dim=-1), "interleaved")


def as_real(weight: Tensor, layout: str) -> Tensor:
    """The real matrix by which a complex matrix acts on (re, im) columns.

    Args:
        weight: ``[..., P, out, in]``.
        layout: ``"interleaved"``: rows are (re, im) of channel 0, of channel 1, ...;
            ``"planar"``: all real parts, then all imaginary parts.

    Returns:
        ``[..., in * P, P * out]``, to be applied from the right; columns are planar.
    """
    turned = weight.transpose(-1, -2)
    if weight.shape[-3] == 1:
        return turned.squeeze(-3)
    real, imag = turned.unbind(-3)
    from_re = torch.cat([real, imag], dim=-1)
    from_im = torch.cat([-imag, real], dim=-1)
    if layout == "planar":
        return torch.cat([from_re, from_im], dim=-2)
    return torch.stack([from_re, from_im], dim=-2).flatten(-3, -2)


def interleave_columns(matrix: Tensor, planes: int) -> Tensor:
    """Planar columns (all re, all im) to interleaved ones (re, im, re, im, ...)."""
    if planes == 1:
        return matrix
    split: Tensor = matrix.unflatten(-1, (2, -1))
    return split.transpose(-1, -2).flatten(-2)
