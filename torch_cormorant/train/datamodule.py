"""The three parts of a data set, batched for Lightning."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from torch_cormorant.data import (
    CompositionBaseline,
    Frames,
    Molecules,
    Split,
    Target,
)
from torch_cormorant.errors import ConfigError
from torch_cormorant.models import Normalisation
from torch_cormorant.train.batches import (
    EpochBatches,
    edge_counts,
    in_order,
    make_loader,
)

__all__ = ["FrameDataModule", "MoleculeDataModule"]


REFERENCES = ("mean", "composition", "none")
ROUNDING = 1e-12
"""Deviations below this share of the values are rounding."""


class _Parts(LightningDataModule):
    """Loaders over the parts of a split.

    Args:
        dataset: Molecules or structures.
        split: Row numbers of the parts.
        batch_size: Molecules per batch, all processes together. Default 10.
        seed: Seed of the training order.
        balanced: Batches with equal numbers of edges, see
            :class:`~torch_cormorant.train.EpochBatches`.
        cutoff: Radius by which edges are counted; None: all pairs.

    Attributes:
        replay: Further structures of the training batches, each with a ``weight``.
    """

    def __init__(
        self,
        dataset: Molecules | Frames,
        split: Split,
        batch_size: int = 10,
        seed: int = 0,
        *,
        balanced: bool = False,
        cutoff: float | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ConfigError(f"batch_size: {batch_size} is not at least 1")
        split.check(len(dataset))
        self.train, self.valid, self.test = (dataset[part] for part in split.parts)
        self.batch_size, self.seed = batch_size, seed
        self.balanced, self.cutoff = balanced, cutoff
        self.replay: list[Data] = []
        self._batches: EpochBatches | None = None
        self._done = (0, 0)

    def train_dataloader(self) -> DataLoader:
        """Training batches, in another order every epoch."""
        train = _mixed(self.train, self.replay) if self.replay else self.train
        self._batches = self._make(train, self.batch_size, self.seed)
        self._batches.skip(*self._done)
        module: Any = None if self.trainer is None else self.trainer.lightning_module
        store = module.graph_store() if hasattr(module, "graph_store") else None
        return make_loader(train, self._batches, store)

    def val_dataloader(self) -> DataLoader:
        """Validation batches."""
        # No gradients are kept here, so larger batches cost no more memory.
        return make_loader(self.valid, self._make(self.valid, 4 * self.batch_size))

    def predict_dataloader(self) -> DataLoader:
        """Test batches, in the order of the split, the same in every process."""
        return in_order(self.test, 4 * self.batch_size)

    def test_dataloader(self) -> DataLoader:
        """Test batches, for ``trainer.test``."""
        return self.predict_dataloader()

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Leave batches on the CPU for a module with steps of its own."""
        trainer = self.trainer
        if trainer is not None and trainer.training:
            module: Any = trainer.lightning_module
            if getattr(module, "steps", None) is not None:
                return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def _make(
        self, part: Any, batch_size: int, seed: int | None = None
    ) -> EpochBatches:
        world = 1 if self.trainer is None else self.trainer.world_size
        rank = 0 if self.trainer is None else self.trainer.global_rank
        balanced = self.balanced and seed is not None
        needed = balanced or world > 1
        return EpochBatches(
            len(part),
            batch_size,
            seed,
            edge_counts(part, self.cutoff) if needed else None,
            balanced=balanced,
            rank=rank,
            world_size=world,
        )

    def state_dict(self) -> dict[str, Any]:
        """Epoch and batches of it that are done, for the checkpoint."""
        if self.trainer is None:
            return {"epoch": 0, "batches": 0}
        current: Any = self.trainer.fit_loop.epoch_loop.batch_progress.current
        done = int(current.processed)
        return {"epoch": self.trainer.current_epoch, "batches": done}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The reverse."""
        self._done = (int(state_dict["epoch"]), int(state_dict["batches"]))
        if self._batches is not None:
            self._batches.skip(*self._done)


def _mixed(train: Any, replay: Sequence[Data]) -> list[Data]:
    """Training structures of weight 1 and others, with what all of them have."""
    rows = [train[k] for k in range(len(train))]
    for row in rows:
        row.weight = torch.ones(1, dtype=torch.float64)
    rows += replay
    names = set.intersection(*(set(row.keys()) for row in rows))
    return [
        Data(**{n: v for n, v in row.to_dict().items() if n in names}) for row in rows
    ]


class MoleculeDataModule(_Parts):
    """Loaders over the parts of a split, and the statistics of its training part.

    Args:
        dataset: Molecules with one property or more, or with a vector or tensor, whose
            components share one scale.
        split: Row numbers of the parts.
        batch_size: Molecules per batch; default the paper's.
        seed: Seed of the training order.
        reference: What the network learns the rest of: ``"mean"`` of the training
            values (published, default), ``"composition"``, the least-squares fit of
            the training values to the number of atoms of each element (for values of
            atoms: the mean of every element), or ``"none"`` for properties whose zero
            must stay, such as vectors and tensors; or one of these for each target.
        **batches: ``balanced`` and ``cutoff``: batches with equal numbers of edges.

    Attributes:
        targets: The properties.
        normalisation: References, and standard deviations (unbiased) around them.

    Raises:
        ConfigError: The batch size is not positive, the split does not fit the data
            set, the training values of a property do not vary, or something would be
            subtracted from vectors.
    """

    def __init__(
        self,
        dataset: Molecules,
        split: Split,
        batch_size: int = 25,
        seed: int = 0,
        reference: str | Sequence[str] = "mean",
        **batches: Any,
    ) -> None:
        several = len(dataset.targets)
        chosen = [reference] * several if isinstance(reference, str) else [*reference]
        for kind in chosen:
            if kind not in REFERENCES:
                raise ConfigError(f"reference: {kind!r} is not one of {REFERENCES}")
        if len(chosen) != several:
            raise ConfigError(
                f"reference: {len(chosen)} given, the data set has {several} targets"
            )
        super().__init__(dataset, split, batch_size, seed, **batches)
        self.targets = dataset.targets
        self.normalisation = _statistics(self.train, chosen)

    @property
    def target(self) -> Target:
        """The property, where it is one."""
        target: Target = self.train.target
        return target

    @property
    def mean(self) -> float:
        """Constant part of the reference of the first target."""
        return self.normalisation.mean[0]

    @property
    def std(self) -> float:
        """Deviation of the first target around its reference."""
        return self.normalisation.std[0]

    @property
    def atom_values(self) -> dict[int, float]:
        """Values of the atoms of the first target."""
        return {z: v[0] for z, v in self.normalisation.atom_values.items()}


def _statistics(train: Molecules, references: Sequence[str]) -> Normalisation:
    """References of the training values, and their deviations around them."""
    values, counts = train.values, train.row_counts()
    means, stds, columns = [], [], []
    for k, (target, kind) in enumerate(zip(train.targets, references, strict=True)):
        if target.shape and kind != "none":
            raise ConfigError(
                f"reference: {kind!r} would be subtracted from {target.name!r}, whose "
                "zero must stay since it turns with the molecule; expected 'none'"
            )
        column = values.reshape(-1, 1) if target.shape else values[:, k : k + 1]
        mean, atoms = 0.0, [0.0] * len(train.species)
        rest = column
        if kind == "mean":
            mean = float(column.mean())
            rest = column - mean
        elif kind == "composition":
            fit = CompositionBaseline.fit(counts, column)
            *atoms, mean = fit.weights[:, 0].tolist()
            rest = column - fit.predict(counts)
        # Without a reference the zero stays where it is.
        std = _deviation(rest)
        if not math.isfinite(std):
            raise ConfigError(
                f"train: values of {target.name!r} up to "
                f"{float(column.abs().max()):g} are too large; take another unit"
            )
        # As few molecules as the fit has numbers are met exactly, up to rounding.
        if len(rest) < 2 or not std > ROUNDING * float(column.abs().max()):
            raise ConfigError(
                f"train: the training values of {target.name!r} in {len(train)} "
                f"molecules do not vary{_around(kind)}"
            )
        means.append(mean)
        stds.append(std)
        columns.append(atoms)
    rows = zip(*columns, strict=True)
    table = dict(zip(train.species, rows, strict=True))
    if all(kind != "composition" for kind in references):
        table = {}
    return Normalisation(tuple(means), tuple(stds), table)


def _around(reference: str) -> str:
    if reference != "composition":
        return "; use more molecules"
    return (
        " around their composition; use more molecules, or, if they are sums over "
        "atoms, there is nothing left to learn"
    )


def _deviation(rest: Tensor) -> float:
    return math.sqrt(float(rest.square().sum()) / max(1, len(rest) - 1))


class FrameDataModule(_Parts):
    """Loaders over the parts of a split of structures with energies and forces.

    Args:
        dataset: The structures.
        split: Row numbers of the parts.
        batch_size: Structures per batch, all processes together. Default 10.
        seed: Seed of the training order.
        balanced: Batches with equal numbers of edges, see
            :class:`~torch_cormorant.train.EpochBatches`.
        cutoff: Radius by which edges are counted; None: all pairs.

    Raises:
        ConfigError: The batch size is not positive, or the split does not fit the data
            set.
    """
