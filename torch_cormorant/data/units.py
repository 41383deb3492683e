"""Factors between the units of the data files and the units handed to the user."""

from __future__ import annotations

__all__ = ["HARTREE_TO_EV", "KCAL_PER_MOL_TO_EV"]

# Both as in torch_geometric.datasets.QM9, so that numbers can be compared digit by
# digit with those of other PyG models.
HARTREE_TO_EV: float = 27.211386246
KCAL_PER_MOL_TO_EV: float = 0.04336414
