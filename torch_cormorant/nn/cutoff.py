r"""Cutoffs: learnable soft masks per channel, a hard cutoff, a smooth envelope."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from torch_cormorant.errors import ConfigError
from torch_cormorant.ops.autocast import weights_precision
from torch_cormorant.ops.radial_basis import check_cutoff

CLAMP = 1e-3
"""Smallest radius and width (Angstrom) that a mask can reach."""
CUTOFF_TYPES = ("soft", "learn", "learn_rad", "learn_width", "hard")


class SoftCutoff(nn.Module):
    r"""The mask :math:`\mu_c(r)` of every channel.

    .. math::
        \mu_c(r) = [r < r_{hard}] \, \sigma\left(
        \frac{\max(\epsilon, |R_c|) - r}{\max(\epsilon, |w_c|)} \right)

    Supplement 1.4.2 of Anderson et al. 2019 (the formula has no number); one radius and
    width per channel, shared by all degrees. Gaussian option:
    :math:`\exp(-(r / \max(\epsilon, |R_c|))^2)`.

    Args:
        channels: Number of channels.
        cutoff_type: Any of ``"soft"`` (fixed), ``"learn"`` (radius and width),
            ``"learn_rad"``, ``"learn_width"``, ``"hard"``. Default ``("learn",)``.
        soft_radius: Start of all radii in Angstrom. Default 1.73.
        soft_width: Start of all widths in Angstrom. Default 0.2.
        hard_radius: Hard cutoff in Angstrom, used with ``"hard"``.
        gaussian: Use the Gaussian form. Default False.

    Shapes:
        ``[E]`` to ``[E, channels]``.

    Raises:
        ConfigError: On an unknown cutoff type or ``"hard"`` without a radius.
    """

    hard_radius: float | None

    def __init__(
        self,
        channels: int,
        cutoff_type: Sequence[str] = ("learn",),
        *,
        soft_radius: float = 1.73,
        soft_width: float = 0.2,
        hard_radius: float | None = None,
        gaussian: bool = False,
    ) -> None:
        super().__init__()
        kinds = (cutoff_type,) if isinstance(cutoff_type, str) else tuple(cutoff_type)
        unknown = [kind for kind in kinds if kind not in CUTOFF_TYPES]
        if unknown:
            msg = f"cutoff_type must be among {CUTOFF_TYPES}, got {unknown[0]!r}"
            raise ConfigError(msg)
        if "hard" in kinds and hard_radius is None:
            msg = 'cutoff_type "hard" needs the radius of the hard cutoff'
            raise ConfigError(msg)
        self.cutoff_type = kinds
        self.soft = any(kind != "hard" for kind in kinds)
        self.soft_radius, self.soft_width = soft_radius, soft_width
        self.hard_radius = hard_radius if "hard" in kinds else None
        self.gaussian = gaussian
        self.radius = nn.Parameter(torch.full((channels,), soft_radius))
        self.width = nn.Parameter(torch.full((channels,), soft_width))
        self.set_learned()

    def set_learned(self) -> None:
        """Let gradients reach what ``cutoff_type`` says is learned, nothing else."""
        learn = "learn" in self.cutoff_type
        self.radius.requires_grad_(learn or "learn_rad" in self.cutoff_type)
        self.width.requires_grad_(learn or "learn_width" in self.cutoff_type)

    def reset_parameters(self) -> None:
        """Set all radii and widths to their start."""
        with torch.no_grad():
            self.radius.fill_(self.soft_radius)
            self.width.fill_(self.soft_width)

    def set_channels(self, channels: int) -> None:
        """Another number of channels, at the start values (lazy layers)."""
        for value in (self.radius, self.width):
            value.data = value.data.new_zeros(channels)
        self.reset_parameters()

    @weights_precision
    def forward(self, length: Tensor) -> Tensor:
        """``[E]`` in Angstrom to the mask ``[E, channels]``."""
        r = length.unsqueeze(-1)
        if not self.soft:
            mask = torch.ones_like(r).expand(-1, self.radius.numel())
        else:
            mask = self.soft_mask(r)
        if self.hard_radius is not None:
            mask = torch.where(r >= self.hard_radius, 0.0, mask)  # NaN stays NaN
        return mask

    def soft_mask(self, r: Tensor) -> Tensor:
        """Without the hard cutoff: lengths ``[E, 1]`` to ``[E, channels]``."""
        radius = self.radius.abs().clamp_min(CLAMP)
        if self.gaussian:
            return torch.exp(-(r / radius).square())
        return torch.sigmoid((radius - r) / self.width.abs().clamp_min(CLAMP))

    def extra_repr(self) -> str:
        """Number of channels and kind."""
        return f"{self.radius.numel()}, cutoff_type={self.cutoff_type}"


def envelope(length: Tensor, cutoff: float) -> Tensor:
    r"""C2 polynomial from 1 at r = 0 to 0 at the cutoff and beyond.

    :math:`u(t) = 1 - 10 t^3 + 15 t^4 - 6 t^5` with :math:`t = r / r_c`: value and the
    first two derivatives vanish at the cutoff.

    Args:
        length: ``[E]`` in Angstrom.
        cutoff: r_c in Angstrom.

    Raises:
        ConfigError: If the cutoff is not a positive number.

    Example:
        >>> import torch
        >>> envelope(torch.tensor([0.0, 2.5, 5.0, 9.0]), 5.0)
        tensor([1.0000, 0.5000, 0.0000, 0.0000])
    """
    check_cutoff(cutoff)
    # Written in s = 1 - t, where it is s^3 (10 - 15 s + 6 s^2): no cancellation near
    # the cutoff, exactly zero from there on.
    s = (1 - length / cutoff).clamp_min(0)
    return s * s * s * (10 + s * (6 * s - 15))
