"""Networks whose levels start from rows of atoms, which others may give."""

from __future__ import annotations

from torch import Tensor

from torch_cormorant.networks.base import Network
from torch_cormorant.ops import EdgeGeometry

__all__ = ["StartsFromRows"]


class StartsFromRows(Network):
    """A network that is one function of rows of atoms, such as embeddings, and edges.

    A class writes :meth:`start` and :meth:`levels_from`.
    """

    def run_levels(self, z: Tensor, geometry: EdgeGeometry) -> list[Tensor]:
        """What the head reads."""
        return self.levels_from(self.start(z), z, geometry)

    def start(self, z: Tensor) -> Tensor:
        """Features before the first level ``[N, ...]``."""
        raise NotImplementedError(f"{type(self).__name__} defines no start(z)")

    def levels_from(self, x: Tensor, z: Tensor, geometry: EdgeGeometry) -> list[Tensor]:
        """What the head reads, from given rows in the place of :meth:`start`'s.

        Args:
            x: Features before the first level.
            z: Atomic numbers, for what else depends on them.
            geometry: The edges.
        """
        raise NotImplementedError(
            f"{type(self).__name__} defines no levels_from(x, z, geometry)"
        )
