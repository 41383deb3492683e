r"""Radial functions of N-body gates: powers of a distance, as printed or bounded."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from torch_cormorant.errors import ConfigError
from torch_cormorant.ops.autocast import weights_precision

__all__ = ["InversePowers"]


class InversePowers(nn.Module):
    r"""Powers :math:`d^{-p}`, p = 0, 1, ..., or :math:`(d^2 + a^2)^{-p/2}`.

    Kondor 2018, eqs. (10) to (12), multiplies vectors by the first, so that from p = 2
    on the products grow without bound where two parts meet; the second is bounded.

    Args:
        count: Number of powers.
        soften: a in Angstrom. Default 0: as printed. At a distance of exactly zero,
            where the vector is zero too, powers from one on are then zero.

    Shapes:
        ``[E]`` in Angstrom to ``[E, count]``.

    Raises:
        ConfigError: There is no power, or a is negative.

    Example:
        >>> import torch
        >>> InversePowers(3)(torch.tensor([0.5, 2.0, 0.0])).tolist()
        [[1.0, 2.0, 4.0], [1.0, 0.5, 0.25], [1.0, 0.0, 0.0]]
    """

    def __init__(self, count: int, soften: float = 0.0) -> None:
        super().__init__()
        if count < 1 or soften < 0:
            msg = (
                "count must be at least 1 and soften not negative, got "
                f"{count} and {soften}"
            )
            raise ConfigError(msg)
        self.count, self.soften = count, soften

    @weights_precision
    def forward(self, length: Tensor) -> Tensor:
        """Shapes as above."""
        zero = (length == 0) & (self.soften == 0)
        safe = torch.where(zero, 1.0, length)
        inverse = (safe.square() + self.soften**2).rsqrt() if self.soften else 1 / safe
        inverse = torch.where(zero, 0.0, inverse)
        powers = [torch.ones_like(length)]
        for _ in range(self.count - 1):
            powers.append(powers[-1] * inverse)
        return torch.stack(powers, dim=-1)

    def extra_repr(self) -> str:
        """Number of powers, and a."""
        return f"{self.count}, soften={self.soften:g}"
