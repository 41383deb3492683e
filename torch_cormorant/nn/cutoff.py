r"""Cutoffs: learnable soft masks per channel, a hard cutoff, a smooth envelope."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar, cast

import torch
from torch import Tensor, nn

from torch_cormorant.errors import ConfigError
from torch_cormorant.nn.parts import Part, Registry, text_of
from torch_cormorant.ops.autocast import weights_precision
from torch_cormorant.ops.composed import CLAMP, envelope, soft_mask

__all__ = [
    "CLAMP",
    "CUTOFF_TYPES",
    "MASK_PARTS",
    "Mask",
    "MaskSpec",
    "SoftCutoff",
    "envelope",
    "is_smooth",
    "make_mask",
    "register_mask",
]

CUTOFF_TYPES = ("soft", "learn", "learn_rad", "learn_width", "hard")


class Mask(Part):
    """Base class of masks, ``cutoff_type=``: a factor of every edge and channel.

    ``forward`` maps lengths ``[E]`` in Angstrom to ``[E, channels]``. Self edges have
    length zero, where values and slopes must be finite.

    Args:
        channels: Number of channels, which the layer gives.

    Attributes:
        smooth: Two derivatives are continuous, so that potentials may use it and the
            layer multiplies by its smooth envelope. Default True.
    """

    from_network = ("channels",)
    smooth: bool = True

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def reset_parameters(self) -> None:
        """Start what is learned again. Default: nothing is."""

    def set_channels(self, channels: int) -> None:
        """Another number of channels (lazy layers)."""
        self.channels = channels
        self.reset_parameters()

    def forward(self, length: Tensor) -> Tensor:
        """``[E]`` in Angstrom to the mask ``[E, channels]``."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward(length)")

    def extra_repr(self) -> str:
        """The arguments it was made with; weights of another are refused."""
        return text_of(self)


class SoftCutoff(Mask):
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
        super().__init__(channels)
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
        super().set_channels(channels)

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
        return soft_mask(r, self.radius, None if self.gaussian else self.width)

    def extra_repr(self) -> str:
        """Number of channels and kind."""
        return f"{self.radius.numel()}, cutoff_type={self.cutoff_type}"


MaskSpec: TypeAlias = str | Sequence[str] | Mapping[str, Any] | Mask | type[Mask]
"""Words of :class:`SoftCutoff`; or an own mask: a name, a mapping, a class, itself."""
MASK_PARTS: Registry[Mask] = Registry("cutoff_type", Mask, {"soft_cutoff": SoftCutoff})
K = TypeVar("K", bound=Mask)


def register_mask(name: str) -> Callable[[type[K]], type[K]]:
    """Give an own mask a name, as a decorator.

    Args:
        name: What ``cutoff_type=`` of layers and networks is then told.

    Raises:
        ConfigError: Another mask has that name, or the name is one of
            ``CUTOFF_TYPES``.
    """
    if name in CUTOFF_TYPES:
        msg = f"{name!r} is a word of SoftCutoff, give the mask another name"
        raise ConfigError(msg)
    add: Any = MASK_PARTS.register(name)
    return cast("Callable[[type[K]], type[K]]", add)


def is_smooth(kind: MaskSpec) -> bool:
    """Whether a mask lets edges end smoothly: not where a hard cutoff is asked for.

    Args:
        kind: As ``cutoff_type`` of :class:`~torch_cormorant.CormorantConv`.

    Raises:
        ConfigError: There is no such mask.
    """
    if isinstance(kind, Mask):
        return kind.smooth
    own = _own_spec(kind)
    if own is None:
        return "hard" not in cast("Sequence[str]", kind)
    return MASK_PARTS.resolve(own)[1].smooth


def make_mask(kind: MaskSpec, channels: int, **soft: Any) -> Mask:
    """The mask of a layer.

    Args:
        kind: As ``cutoff_type`` of :class:`~torch_cormorant.CormorantConv`.
        channels: Channels of the layer.
        **soft: Options of :class:`SoftCutoff`.

    Raises:
        ConfigError: There is no such mask, or it does not fit.
    """
    if isinstance(kind, Mask):
        MASK_PARTS.remember(type(kind))
        if kind.channels != channels:
            kind.set_channels(channels)
        return kind
    own = _own_spec(kind)
    if own is None:
        return SoftCutoff(channels, cast("Sequence[str]", kind), **soft)
    return MASK_PARTS.make(own, soft, {"channels": channels})


def _own_spec(kind: MaskSpec) -> Any:
    """A specification that is not made of the words of :class:`SoftCutoff`."""
    if isinstance(kind, str):
        return kind if kind in MASK_PARTS.names else None
    return kind if isinstance(kind, (Mapping, type)) else None
