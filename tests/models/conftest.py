"""Molecules for the tests of whole networks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from torch_cormorant.testing import random_molecule

Batch = tuple[Tensor, Tensor, Tensor]


@pytest.fixture(scope="session")
def molecules() -> Callable[..., Batch]:
    """Return a maker of batches: atomic numbers, positions, molecule of each atom."""

    def make(*sizes: int, dtype: torch.dtype = torch.float64) -> Batch:
        generator = torch.Generator().manual_seed(3)
        parts = [random_molecule(n, generator, dtype) for n in sizes]
        batch = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
        z, pos = zip(*parts, strict=True)
        return torch.cat(z), torch.cat(pos), batch

    return make
