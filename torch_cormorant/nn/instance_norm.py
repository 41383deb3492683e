r"""A norm over the atoms of a molecule."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from torch_cormorant.irreps import Irrep, Irreps
from torch_cormorant.ops.autocast import weights_precision
from torch_cormorant.ops.segment import scatter_sum
from torch_cormorant.so3.flat import flat_blocks

__all__ = ["IrrepsInstanceNorm"]


class IrrepsInstanceNorm(nn.Module):
    r"""Divide every copy by its root mean square over the molecule.

    .. math::
        F'_{imu} = \gamma_u \, \frac{F_{imu} - \bar F_u}
        {\sqrt{\epsilon + \langle |F_u|^2 / (2 l + 1) \rangle}} + \beta_u

    with the mean :math:`\bar F` and a bias for even scalars alone. The instance norm of
    the published SEGNN. Atoms of a molecule see each other through it at any distance:
    it is for properties of molecules, not for potentials.

    Args:
        irreps: What the features are made of.
        eps: :math:`\epsilon`. Default 1e-5.

    Shapes:
        ``x`` ``[N, irreps.dim]``; ``batch`` ``[N]``, molecule of each atom (None: one);
        returns the shape of x.

    Raises:
        ShapeError: If the input has other rows.

    Example:
        >>> import torch
        >>> norm = IrrepsInstanceNorm("4x0e + 3x1o")
        >>> y = norm(torch.randn(5, 13))
        >>> bool(y[:, :4].mean().abs() < 1e-6)
        True
    """

    def __init__(self, irreps: object, eps: float = 1e-5) -> None:
        super().__init__()
        self.irreps_in = self.irreps_out = Irreps(irreps)
        self.eps = eps
        scalars = sum(mul for mul, ir in self.irreps_in if _is_scalar(ir))
        self.weight = nn.Parameter(torch.ones(self.irreps_in.num_irreps))
        self.bias = nn.Parameter(torch.zeros(scalars))

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Weights of one, biases of zero."""
        self.weight.fill_(1.0)
        self.bias.zero_()

    @weights_precision
    def forward(
        self, x: Tensor, batch: Tensor | None = None, num_graphs: int | None = None
    ) -> Tensor:
        """Shapes as above."""
        if batch is None:
            batch = x.new_zeros(x.shape[0], dtype=torch.int64)
        count = num_graphs
        if count is None:
            count = int(batch.max()) + 1 if batch.numel() else 1
        sizes = scatter_sum(x.new_ones(len(x)), batch, count, validate=False)

        def mean(rows: Tensor) -> Tensor:
            sums = scatter_sum(rows, batch, count, validate=False)
            return (sums / sizes.clamp_min(1)[:, None, None]).index_select(0, batch)

        parts, at = [], 0
        bias: Tensor = self.bias
        blocks = flat_blocks(x, self.irreps_in)
        for block, (mul, ir) in zip(blocks, self.irreps_in, strict=True):
            part = block - mean(block) if _is_scalar(ir) else block
            size = mean(part.square().mean(1, keepdim=True))
            part = part * ((size + self.eps).rsqrt() * self.weight[at : at + mul])
            if _is_scalar(ir):
                part, bias = part + bias[:mul], bias[mul:]
            parts.append(part.flatten(1))
            at += mul
        return torch.cat(parts, dim=1) if parts else x

    def extra_repr(self) -> str:
        """Irreps and epsilon."""
        return f"{self.irreps_in}, eps={self.eps:g}"


def _is_scalar(ir: Irrep) -> bool:
    return ir.l == 0 and ir.p >= 0
