"""Energies of pairs of atoms beside those of a network."""

from __future__ import annotations

from torch import Tensor

from torch_cormorant.nn.parts import Part

__all__ = ["Pair"]


class Pair(Part):
    """Base class of energies that depend on two atoms and their distance.

    The constructor may take ``species`` and ``unit`` from the potential.

    Attributes:
        unit: Unit of energy.
        reach: Distance in Angstrom beyond which nothing is added.
    """

    from_network = ("species", "unit")
    unit: str = "eV"
    reach: float = 0.0

    def forward(self, z: Tensor, edge_index: Tensor, edge_vec: Tensor) -> Tensor:
        """Energy of every atom: half of each pair's.

        Args:
            z: Atomic numbers ``[N]``.
            edge_index: ``[2, E]``, both directions of every pair; self edges (with a
                zero vector) must add nothing.
            edge_vec: ``[E, 3]`` in Angstrom.

        Returns:
            ``[N]`` in float64.
        """
        raise NotImplementedError(
            f"{type(self).__name__} defines no forward(z, edge_index, edge_vec)"
        )

    def of_all_pairs(self, z: Tensor, edge_index: Tensor, edge_vec: Tensor) -> Tensor:
        """The same without steps that depend on the distances, so that it is traced."""
        result: Tensor = self(z, edge_index, edge_vec)
        return result
