r"""Non-linearities of the SE(3)-Transformer: of norms, and of products of channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from torch_cormorant.irreps import Irreps
from torch_cormorant.ops.autocast import weights_precision
from torch_cormorant.so3.flat import flat_blocks

__all__ = ["AttentiveMixing", "NormNetwork"]

SMALL = 1e-12
"""Where the published code ends norms and products."""


class NormNetwork(nn.Module):
    r"""A network of the norms of all copies, and their directions as before.

    .. math::
        F' = \frac{F}{n} \, W \mathrm{ReLU}(\mathrm{LayerNorm}(n)),
        \qquad n = \sqrt{|F|^2 + \epsilon^2}

    for each degree, scalars included: their sign is their direction.

    Args:
        irreps: What the features are made of, one block of each degree.
        linear: Whether there is a linear layer W with a bias. Default False.
        eps: :math:`\epsilon`; 0: :math:`n \ge 10^{-12}` as published, where features
            that vanish have slopes without bound. Default 0.01.

    Shapes:
        ``[N, irreps.dim]`` to the same.

    Raises:
        ShapeError: If the input has other rows.

    Example:
        >>> import torch
        >>> tuple(NormNetwork("4x0 + 3x1")(torch.randn(5, 13)).shape)
        (5, 13)
    """

    def __init__(
        self, irreps: object, *, linear: bool = False, eps: float = 0.01
    ) -> None:
        super().__init__()
        self.irreps_in = self.irreps_out = Irreps(irreps)
        self.eps = eps
        self.networks = nn.ModuleDict(
            {
                str(ir): nn.Sequential(
                    nn.LayerNorm(mul),
                    nn.ReLU(),
                    *([nn.Linear(mul, mul)] if linear else []),
                )
                for mul, ir in self.irreps_in
            }
        )

    def reset_parameters(self) -> None:
        """Start all weights again."""
        for layer in self.networks.modules():
            if isinstance(layer, (nn.LayerNorm, nn.Linear)):
                layer.reset_parameters()

    @weights_precision
    def forward(self, x: Tensor) -> Tensor:
        """Shapes as above."""
        parts = []
        blocks = flat_blocks(x, self.irreps_in)
        for part, (_, ir) in zip(blocks, self.irreps_in, strict=True):
            squared = part.square().sum(1, keepdim=True)
            if self.eps:
                n = (squared + self.eps**2).sqrt()
            else:
                n = squared.clamp_min(SMALL**2).sqrt()
            size = self.networks[str(ir)](n)
            parts.append((size * (part / n)).flatten(1))
        return torch.cat(parts, dim=1)

    def extra_repr(self) -> str:
        """Irreps and epsilon."""
        return f"{self.irreps_in}, eps={self.eps:g}"


class AttentiveMixing(nn.Module):
    r"""Mix the copies of every degree by weights that depend on their products.

    .. math::
        F'_{w} = \sum_u \mathrm{softmax}_u\big( W \, \sigma(\mathrm{LayerNorm}(s))
        \big)_{wu} F_u, \qquad s_{uv} = F_u \cdot F_v

    with a leaky ReLU :math:`\sigma`; the attentive self-interaction of
    `SE(3)-Transformers <https://arxiv.org/abs/2006.10503>`_.

    Args:
        irreps_in: What the features are made of; blocks of one degree are joined.
        irreps_out: What the result is made of, of degrees that the input has.

    Shapes:
        ``[N, irreps_in.dim]`` to ``[N, irreps_out.dim]``.

    Raises:
        ShapeError: If the input has other rows.

    Example:
        >>> import torch
        >>> mixing = AttentiveMixing("4x0 + 3x1", "2x0 + 2x1")
        >>> tuple(mixing(torch.randn(5, 13)).shape)
        (5, 8)
    """

    def __init__(self, irreps_in: object, irreps_out: object) -> None:
        super().__init__()
        self.irreps_in, self.irreps_out = Irreps(irreps_in), Irreps(irreps_out)
        self.networks = nn.ModuleDict()
        for mul, ir in self.irreps_out:
            count = self.irreps_in.count(ir)
            self.networks[str(ir)] = nn.Sequential(
                nn.LayerNorm(count**2),
                nn.LeakyReLU(0.01),
                nn.Linear(count**2, mul * count),
            )

    def reset_parameters(self) -> None:
        """Start all weights again."""
        for layer in self.networks.modules():
            if isinstance(layer, (nn.LayerNorm, nn.Linear)):
                layer.reset_parameters()

    @weights_precision
    def forward(self, x: Tensor) -> Tensor:
        """Shapes as above."""
        blocks, parts = flat_blocks(x, self.irreps_in), []
        for mul, ir in self.irreps_out:
            pairs = zip(blocks, self.irreps_in, strict=True)
            f = torch.cat([part for part, (_, own) in pairs if own == ir], dim=2)
            s = (f.mT @ f).flatten(1)
            s = s.abs().clamp_min(SMALL) * s.sign()
            scores = self.networks[str(ir)](s).unflatten(1, (mul, f.shape[2]))
            parts.append((f @ scores.softmax(dim=2).mT).flatten(1))
        return torch.cat(parts, dim=1)

    def extra_repr(self) -> str:
        """Irreps."""
        return f"{self.irreps_in} -> {self.irreps_out}"
