from __future__ import annotations

import torch

from torch_cormorant.data import MiniQM9


def test_dipole_vectors_have_the_norm_that_is_the_target() -> None:
    dataset = MiniQM9("mu")
    for data in dataset:
        assert data.dipole.shape == (1, 3)
        torch.testing.assert_close(data.dipole.norm(), data.y.squeeze())


def test_subsets_keep_the_vectors_of_their_molecules() -> None:
    dataset = MiniQM9("mu")
    part = dataset[torch.tensor([200, 3])]
    assert torch.equal(part[0].dipole, dataset[200].dipole)
    assert torch.equal(part[1].dipole, dataset[3].dipole)
