"""A covariant linear layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from torch_cormorant.errors import ShapeError
from torch_cormorant.nn.mixing import DegreeWeights, as_real
from torch_cormorant.ops.autocast import weights_precision
from torch_cormorant.so3.layout import check_degree


class SO3Linear(nn.Module):
    r"""Mix the channels of every degree: :math:`F'^l = W^l F^l`.

    The most general linear map between SO3-vectors (Anderson et al. 2019, the
    sentence after definition 2);
    no bias, which would break covariance for l > 0.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the result.
        lmax: Largest degree.
        complex: P = 2 planes and complex weights (default), or P = 1.

    Shapes:
        ``[N, M, P, in_channels]`` to ``[N, M, P, out_channels]``.

    Raises:
        ShapeError: If the input has another shape.

    Example:
        >>> import torch
        >>> tuple(SO3Linear(4, 8, lmax=2)(torch.randn(5, 9, 2, 4)).shape)
        (5, 9, 2, 8)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        lmax: int,
        *,
        complex: bool = True,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.lmax = check_degree(lmax, "lmax")
        self.weights = DegreeWeights(
            out_channels, (in_channels,) * (lmax + 1), lmax, complex=complex
        )

    def reset_parameters(self) -> None:
        """Start the weights so that the variance of the input is kept."""
        self.weights.reset_parameters()

    @weights_precision
    def forward(self, x: Tensor) -> Tensor:
        """Shapes as above."""
        planes = self.weights.planes
        expected = ((self.lmax + 1) ** 2, planes, self.in_channels)
        if x.ndim != 4 or tuple(x.shape[1:]) != expected:
            sizes = ", ".join(map(str, expected))
            msg = f"x must have shape [N, {sizes}], got {tuple(x.shape)}"
            raise ShapeError(msg)
        flat = x.flatten(2)
        parts = [
            flat[:, l * l : (l + 1) ** 2] @ as_real(weight, "planar")
            for l, weight in enumerate(self.weights())
        ]
        mixed = torch.cat(parts, dim=1)
        return mixed.view(*mixed.shape[:2], planes, self.out_channels)

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.in_channels}, {self.out_channels}, lmax={self.lmax}"
