r"""What Allegro knows of an edge at first: its length and the species of both ends."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from torch_cormorant.errors import ConfigError
from torch_cormorant.nn.bases import BesselBasis
from torch_cormorant.nn.envelopes import polynomial_cutoff
from torch_cormorant.nn.mlp import MLP
from torch_cormorant.ops.autocast import weights_precision

__all__ = ["BesselTwoBody", "SplineTwoBody"]


class BesselTwoBody(nn.Module):
    r"""Embeddings of both species, times a map of Bessel functions.

    .. math::
        e_{ij} = [a_{t_i}, b_{t_j}] \odot \mathrm{MLP}\big(
        \tfrac{\sin(\omega_n x)}{x} \, u(x) \big), \qquad x = r_{ij} / r_c

    Args:
        types: Number of species T.
        width: Numbers of an edge, at least 2.
        num_basis: Bessel functions. Default 8.
        trainable: Learn their frequencies. Default False.
        power: Of the polynomial envelope u. Default 6.
        hidden: Widths of hidden layers of the MLP. Default: none.

    Shapes:
        ``x`` ``[R]``, ``kind`` ``[E]`` = T times the type of the receiver plus that of
        the sender, ``row`` ``[E]``, which of the R rows an edge has (None: its own);
        returns ``[E, width]``.

    Raises:
        ConfigError: The width is less than 2.

    Example:
        >>> import torch
        >>> part = BesselTwoBody(2, 6)
        >>> bool(part(torch.tensor([0.3, 1.0]), torch.tensor([0, 3]))[1].any())
        False
    """

    def __init__(
        self,
        types: int,
        width: int,
        *,
        num_basis: int = 8,
        trainable: bool = False,
        power: float = 6.0,
        hidden: Sequence[int] = (),
    ) -> None:
        super().__init__()
        if width < 2:
            raise ConfigError(f"width must be at least 2, got {width}")
        self.power, self.types = power, types
        self.center = nn.Embedding(types, width // 2)
        self.neighbor = nn.Embedding(types, width - width // 2)
        self.basis = BesselBasis(num_basis, 1.0, trainable=trainable)
        self.mlp = MLP([num_basis, *hidden, width])

    def radial(self, x: Tensor) -> Tensor:
        """Bessel functions under the envelope ``[R, num_basis]``."""
        rows: Tensor = self.basis(x)
        return rows * polynomial_cutoff(x, self.power).unsqueeze(-1)

    @weights_precision
    def forward(self, x: Tensor, kind: Tensor, row: Tensor | None = None) -> Tensor:
        """Shapes as above."""
        rows: Tensor = self.mlp(self.radial(x))
        if row is not None:
            rows = rows.index_select(0, row)
        T, at = self.types, kind
        table = [
            self.center.weight.repeat_interleave(T, dim=0),
            self.neighbor.weight.repeat(T, 1),
        ]
        return torch.cat(table, dim=1).index_select(0, at) * rows


class SplineTwoBody(nn.Module):
    r"""A spline of the length for every pair of species.

    .. math::
        e_{ij} = \sum_k W_{t_i t_j k} \, \tfrac14 \big(1 - \cos(2 \pi
        (\mathrm{clamp}(x, a_k, b_k) - a_k) / d)\big)^2, \qquad
        a_k = \tfrac{k - s}{n}, \quad d = b_k - a_k = \tfrac{s + 1}{n}

    All functions end smoothly at x = 1.

    Args:
        types: Number of species T.
        width: Numbers of an edge.
        num_splines: Functions n. Default 16.
        span: How many of them overlap beside each one, s. Default 12.

    Shapes:
        As :class:`BesselTwoBody`.

    Raises:
        ConfigError: ``span`` is not between 0 and ``num_splines``.

    Example:
        >>> import torch
        >>> part = SplineTwoBody(2, 6, num_splines=5, span=3)
        >>> tuple(part(torch.tensor([0.3, 1.0]), torch.tensor([0, 3])).shape)
        (2, 6)
    """

    lower: Tensor

    def __init__(
        self, types: int, width: int, *, num_splines: int = 16, span: int = 12
    ) -> None:
        super().__init__()
        if not 0 <= span <= num_splines or num_splines < 1:
            msg = f"span must be between 0 and num_splines={num_splines}, got {span}"
            raise ConfigError(msg)
        self.num_splines, self.span = num_splines, span
        self.splines = nn.Embedding(types * types, width * num_splines)
        start = torch.arange(num_splines, dtype=torch.float64) - span
        self.register_buffer("lower", start / num_splines, persistent=False)

    def radial(self, x: Tensor) -> Tensor:
        """All functions ``[R, num_splines]``."""
        d = (self.span + 1) / self.num_splines
        lower = self.lower.to(x.dtype)
        moved = (x.unsqueeze(-1) - lower).clamp(0, d)
        return 0.25 * (1 - torch.cos(moved * (2 * torch.pi / d))).square()

    @weights_precision
    def forward(self, x: Tensor, kind: Tensor, row: Tensor | None = None) -> Tensor:
        """Shapes as above."""
        rows = self.radial(x)
        if row is not None:
            rows = rows.index_select(0, row)
        weights = self.splines(kind).unflatten(1, (-1, self.num_splines))
        result: Tensor = torch.bmm(weights, rows.unsqueeze(-1)).squeeze(-1)
        return result

    def extra_repr(self) -> str:
        """Numbers of functions."""
        return f"num_splines={self.num_splines}, span={self.span}"
