"""Compositions of structures."""

from __future__ import annotations

import torch

from torch_cormorant.data import MiniEthanol
from torch_cormorant.data.baselines import independent_compositions


def test_the_kept_compositions_span_all() -> None:
    generator = torch.Generator().manual_seed(0)
    few = torch.randint(0, 5, (3, 6), generator=generator).double()
    counts = torch.randint(0, 4, (200, 3), generator=generator).double() @ few
    species = [1, 6, 7, 8, 9, 17]
    found = independent_compositions(counts, species)
    assert len(found) == int(torch.linalg.matrix_rank(counts)) == 3
    rows = torch.tensor([[entry.get(str(z), 0) for z in species] for entry in found])
    both = torch.cat([rows.double(), counts])
    assert int(torch.linalg.matrix_rank(both)) == 3
    assert {tuple(row) for row in rows.tolist()} <= {
        tuple(row) for row in counts.long().tolist()
    }


def test_one_molecule_is_one_composition() -> None:
    data = MiniEthanol()
    assert data.compositions() == [{"1": 6, "6": 2, "8": 1}]
    data.isolated_energies = {1: -10.0, 6: -50.0, 8: -100.0}
    assert data.compositions() == [{"1": 6, "6": 2, "8": 1}], "known, but not used"
