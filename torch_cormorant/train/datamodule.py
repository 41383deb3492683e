"""The three parts of a data set, batched for Lightning."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import Sampler
from torch_geometric.loader import DataLoader

from torch_cormorant.data import CompositionBaseline, MoleculeDataset, Split
from torch_cormorant.errors import ConfigError

__all__ = ["EpochSampler", "MoleculeDataModule"]


REFERENCES = ("mean", "composition")


class EpochSampler(Sampler[int]):
    """A permutation that depends on the seed and the epoch only.

    A resumed run therefore sees the same batches as one that was never interrupted.
    Lightning calls :meth:`set_epoch` by itself.

    Args:
        count: Number of rows.
        seed: Seed.

    Example:
        >>> sampler = EpochSampler(4, seed=0)
        >>> first = list(sampler)
        >>> sampler.set_epoch(1)
        >>> first == list(sampler), sorted(sampler)
        (False, [0, 1, 2, 3])
    """

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed, self.epoch = count, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation of that epoch, counted from 0."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        """The rows in the order of this epoch."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        return iter(torch.randperm(self.count, generator=generator).tolist())

    def __len__(self) -> int:
        """Number of rows."""
        return self.count


class MoleculeDataModule(LightningDataModule):
    """Loaders over the parts of a split, and the statistics of its training part.

    Args:
        dataset: Data with one property.
        split: Row numbers of the parts.
        batch_size: Molecules per batch; default the paper's.
        seed: Seed of the training order.
        reference: What the network learns the rest of: ``"mean"`` of the training
            values (published, default), or ``"composition"``, the least-squares fit of
            the training values to the number of atoms of each element.

    Attributes:
        mean: Constant part of the reference.
        atom_values: Part of the reference for every atom, by atomic number; empty with
            ``"mean"``.
        std: Standard deviation of the training values around the reference, unbiased.

    Raises:
        ConfigError: The data set holds several properties, the batch size is not
            positive, or the training values do not vary.
    """

    def __init__(
        self,
        dataset: MoleculeDataset,
        split: Split,
        batch_size: int = 25,
        seed: int = 0,
        reference: str = "mean",
    ) -> None:
        super().__init__()
        if reference not in REFERENCES:
            raise ConfigError(f"reference: {reference!r} is not one of {REFERENCES}")
        if batch_size < 1:
            raise ConfigError(f"batch_size: {batch_size} is not at least 1")
        self.target = dataset.target
        self.train, self.valid, self.test = (dataset[part] for part in split.parts)
        self.batch_size, self.seed = batch_size, seed
        values = self.train.values
        self.atom_values: dict[int, float] = {}
        self.mean = float(values.mean())
        if reference == "composition":
            counts = self.train.element_counts()
            fit = CompositionBaseline.fit(counts, values)
            weights = fit.weights[:, 0].tolist()
            self.mean = weights[-1]
            self.atom_values = dict(zip(self.train.species, weights[:-1], strict=True))
            values = values - fit.predict(counts)
        self.std = float(values.std()) if len(values) > 1 else 0.0
        if self.std <= 0:
            raise ConfigError(
                f"train: the {len(values)} training values of {self.target.name!r} do "
                "not vary; use more molecules"
            )

    def train_dataloader(self) -> DataLoader:
        """Training batches, in another order every epoch."""
        return DataLoader(
            self.train,
            batch_size=self.batch_size,
            sampler=EpochSampler(len(self.train), self.seed),
        )

    def val_dataloader(self) -> DataLoader:
        """Validation batches."""
        return self._in_order(self.valid)

    def predict_dataloader(self) -> DataLoader:
        """Test batches, in the order of the split."""
        return self._in_order(self.test)

    def _in_order(self, part: MoleculeDataset) -> DataLoader:
        # No gradients are kept here, so larger batches cost no more memory.
        return DataLoader(part, batch_size=4 * self.batch_size)
