from __future__ import annotations

import numpy as np
import pytest
import torch

from torch_cormorant.data import MiniQM9, Split, split_indices
from torch_cormorant.errors import ConfigError
from torch_cormorant.train import EpochSampler, MoleculeDataModule


def test_order_depends_on_seed_and_epoch_only() -> None:
    first, second = EpochSampler(50, 1), EpochSampler(50, 1)
    list(first)
    torch.rand(3)
    first.set_epoch(4)
    second.set_epoch(4)
    order = list(first)
    assert order == list(second)
    assert sorted(order) == list(range(50))
    assert order != list(EpochSampler(50, 1))
    other = EpochSampler(50, 2)
    other.set_epoch(4)
    assert order != list(other)


def test_loaders_hold_the_rows_of_the_split() -> None:
    data, split = MiniQM9("mu"), split_indices(310, 60, 20, 13)
    loaders = MoleculeDataModule(data, split, batch_size=8)
    parts = [
        loaders.train_dataloader(),
        loaders.val_dataloader(),
        loaders.predict_dataloader(),
    ]
    for loader, rows in zip(parts, split.parts, strict=True):
        found = torch.cat([batch.idx for batch in loader]).tolist()
        assert sorted(found) == sorted(rows.tolist())
    # The test part must keep its order: predictions are compared row by row.
    assert found == split.test.tolist()
    assert torch.equal(loaders.test.values[:, 0], data.values[split.test, 0])


def test_statistics_are_those_of_the_training_part() -> None:
    data, split = MiniQM9("gap"), split_indices(310)
    loaders = MoleculeDataModule(data, split)
    values = data.values[split.train]
    assert loaders.mean == pytest.approx(values.mean().item(), rel=1e-14)
    assert loaders.std == pytest.approx(values.std(unbiased=True).item(), rel=1e-14)


def test_unusable_data_are_refused() -> None:
    split = split_indices(310)
    with pytest.raises(ConfigError, match="batch_size: 0"):
        MoleculeDataModule(MiniQM9("mu"), split, batch_size=0)
    with pytest.raises(ConfigError, match="'mu' in 1 molecules do not vary"):
        MoleculeDataModule(MiniQM9("mu"), split_indices(310, train=1))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (([1, 2, 3], [], [4]), "valid: expected a list of row numbers"),
        (([1, 2, 3], [3], [4]), "split: row 3 comes 2 times"),
        (([1, 2, 310], [3], [4]), r"train: row 310 is not in 0 .. 309"),
    ],
)
def test_splits_that_do_not_fit_are_refused(
    parts: tuple[list[int], ...], message: str
) -> None:
    train, valid, test = (np.array(part, dtype=np.int64) for part in parts)
    with pytest.raises(ConfigError, match=message):
        MoleculeDataModule(MiniQM9("mu"), Split(train, valid, test, 0))


def test_a_fit_that_meets_every_molecule_leaves_nothing_to_learn() -> None:
    data = MiniQM9("gap")
    with pytest.raises(ConfigError, match="do not vary around their composition"):
        MoleculeDataModule(data, split_indices(310, 2, 5, 5), reference="composition")
