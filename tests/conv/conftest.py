"""Graphs with positions for the tests of the layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from torch_cormorant import radius_graph
from torch_cormorant.testing import random_molecule


@dataclass
class Example:
    """A molecule, its radius graph, and random features."""

    pos: Tensor
    edge_index: Tensor
    generator: torch.Generator = field(repr=False)

    @property
    def edge_vec(self) -> Tensor:
        return self.pos[self.edge_index[1]] - self.pos[self.edge_index[0]]

    def randn(self, *shape: int) -> Tensor:
        drawn = torch.randn(shape, generator=self.generator, dtype=torch.float64)
        return drawn.to(self.pos.dtype)

    def features(self, channels: int, lmax: int = 0, planes: int = 2) -> Tensor:
        if lmax == 0:
            return self.randn(len(self.pos), channels)
        return self.randn(len(self.pos), (lmax + 1) ** 2, planes, channels)

    @property
    def num_edges(self) -> int:
        return self.edge_index.shape[1]


@pytest.fixture
def example() -> Callable[..., Example]:
    """Return a maker of examples."""

    def make(
        nodes: int = 7, dtype: torch.dtype = torch.float64, cutoff: float = 2.2
    ) -> Example:
        generator = torch.Generator().manual_seed(nodes)
        _, pos = random_molecule(nodes, generator)
        edge_index = radius_graph(pos, cutoff, loop=True)
        return Example(pos.to(dtype), edge_index, generator)

    return make
