r"""A factor for every element, degree and channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from torch_cormorant.errors import ConfigError
from torch_cormorant.ops.autocast import weights_precision
from torch_cormorant.so3.layout import check_degree, degree_index

__all__ = ["SpeciesScale"]


class SpeciesScale(nn.Module):
    r"""Scale every degree and channel by a weight of the element.

    .. math:: F_i'^{l,c} = a_{Z_i, l, c} \, F_i^{l,c}

    Weights of elements as MACE has them in its products (Batatia et al. 2022, eq. 10).
    It starts as the identity.

    Args:
        channels: Channels C.
        lmax: Largest degree.
        species: Number of elements.

    Shapes:
        ``[N, M, P, C]`` and types ``[N]`` to ``[N, M, P, C]``.

    Raises:
        ConfigError: There are no elements.

    Example:
        >>> import torch
        >>> x = torch.randn(5, 9, 1, 4)
        >>> torch.equal(SpeciesScale(4, 2, 3)(x, torch.tensor([0, 1, 2, 0, 1])), x)
        True
    """

    degrees: Tensor

    def __init__(self, channels: int, lmax: int, species: int) -> None:
        super().__init__()
        if species < 1:
            raise ConfigError(f"species must be at least 1, got {species}")
        self.lmax = check_degree(lmax, "lmax")
        self.weight = nn.Parameter(torch.ones(species, lmax + 1, channels))
        self.register_buffer("degrees", degree_index(lmax), persistent=False)

    def reset_parameters(self) -> None:
        """Start as the identity."""
        nn.init.ones_(self.weight)

    @weights_precision
    def forward(self, x: Tensor, types: Tensor) -> Tensor:
        """Shapes as above."""
        factors = self.weight.index_select(1, self.degrees).index_select(0, types)
        return x * factors.unsqueeze(2)

    def extra_repr(self) -> str:
        """Sizes."""
        species, _, channels = self.weight.shape
        return f"{channels}, lmax={self.lmax}, species={species}"
