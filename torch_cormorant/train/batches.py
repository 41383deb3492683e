"""Which molecules make a batch, and which process gets which of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader

from torch_cormorant.errors import ConfigError
from torch_cormorant.graph import radius_graph
from torch_cormorant.train.graphs import GraphStore
from torch_cormorant.train.joining import join

__all__ = ["EpochBatches", "EpochSampler", "edge_counts", "make_loader"]


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


class EpochBatches(Sampler[list[tuple[int, float]]]):
    """Batches of an epoch, divided among processes without loss or repetition.

    Every process makes the same list of batches and takes its share of each, so the
    shares together are the batch that a single process would have. A share is chosen
    so that all processes have about as many edges; where a batch has fewer molecules
    than there are processes, a process without one gets a molecule of weight 0.

    Args:
        count: Number of rows.
        batch_size: Rows of a batch, all processes together.
        seed: Seed of the order; None: as they come.
        edges: Number of edges of every row ``[count]``; default equal ones.
        balanced: Make the batches of an epoch equal in edges too, so that the memory
            needed is even. Default False: by chance.
        rank: Number of this process.
        world_size: Number of processes.

    Yields:
        Rows and their weights.

    Example:
        >>> shares = [EpochBatches(5, 4, rank=k, world_size=2) for k in (0, 1)]
        >>> [list(share) for share in shares]
        [[[(0, 1.0), (2, 1.0)], [(4, 1.0)]], [[(1, 1.0), (3, 1.0)], [(4, 0.0)]]]
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        seed: int | None = None,
        edges: Tensor | None = None,
        *,
        balanced: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size < 1:
            raise ConfigError(f"batch_size: {batch_size} is not at least 1")
        if not 0 <= rank < world_size:
            raise ConfigError(f"rank: {rank} is not one of {world_size} processes")
        # Lightning tells this attribute about every new epoch.
        self.sampler = EpochSampler(count, 0 if seed is None else seed)
        self.shuffled, self.batch_size = seed is not None, batch_size
        self.edges = [1] * count if edges is None else edges.tolist()
        self.balanced, self.rank, self.world_size = balanced, rank, world_size
        self._skip = (0, 0)

    def skip(self, epoch: int, batches: int) -> None:
        """Leave out the first batches of one epoch, which a checkpoint already holds.

        Args:
            epoch: The epoch, counted from 0.
            batches: How many.
        """
        self._skip = (epoch, batches)

    def __len__(self) -> int:
        """Number of batches."""
        return (self.sampler.count + self.batch_size - 1) // self.batch_size

    def __iter__(self) -> Iterator[list[tuple[int, float]]]:
        """The batches of this epoch, this process's share of each."""
        epoch, done = self._skip
        start = done if epoch == self.sampler.epoch else 0
        for rows in self.rows()[start:]:
            yield self.share(rows)

    def rows(self) -> list[list[int]]:
        """The batches of this epoch, whole."""
        count = self.sampler.count
        order = list(self.sampler) if self.shuffled else list(range(count))
        if not self.balanced:
            size = self.batch_size
            return [order[k : k + size] for k in range(0, count, size)]
        # Dealt out like cards, largest first, there and back. The sort keeps the
        # random order among equals, and the batches come in random order again.
        largest_first = sorted(order, key=lambda row: -self.edges[row])
        number = len(self)
        batches: list[list[int]] = [[] for _ in range(number)]
        for place, row in enumerate(largest_first):
            lap, column = divmod(place, number)
            batches[column if lap % 2 == 0 else number - 1 - column].append(row)
        first = {row: place for place, row in enumerate(order)}
        return sorted(batches, key=lambda rows: first[rows[0]] if rows else count)

    def share(self, rows: Sequence[int]) -> list[tuple[int, float]]:
        """What this process gets of a batch.

        Args:
            rows: The batch.

        Returns:
            Rows and their weights, never empty.
        """
        shares: list[list[int]] = [[] for _ in range(self.world_size)]
        load = [0] * self.world_size
        for row in sorted(rows, key=lambda row: -self.edges[row]):
            least = load.index(min(load))
            shares[least].append(row)
            load[least] += max(1, self.edges[row])
        mine = shares[self.rank]
        place = {row: k for k, row in enumerate(rows)}
        if not mine:
            return [(rows[0], 0.0)]
        return [(row, 1.0) for row in sorted(mine, key=place.__getitem__)]


class _Rows(Dataset[Any]):
    """A data set that is asked for rows with weights, and returns them beside these."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, float]) -> tuple[int, float, Data]:
        return *key, self.dataset[key[0]]


class _Loader(DataLoader):
    """Tells Lightning that it can be resumed; the data module knows where."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        del state_dict


def make_loader(
    dataset: Any, batches: EpochBatches, store: GraphStore | None = None
) -> DataLoader:
    """A PyG loader over these batches.

    Args:
        dataset: Molecules.
        batches: Which of them make a batch.
        store: Gives the batches their graphs. Not for data sets that change molecules
            whenever they are asked for (a PyG ``transform``): theirs are left out.

    Returns:
        The loader. Where there are several processes its batches have ``weight [B]``.
    """
    loader = _Loader(
        _Rows(dataset),
        batch_sampler=batches,
        # An own generator: the loader would draw from the global one, and a resumed
        # run makes one loader more.
        generator=torch.Generator(),
    )
    if getattr(dataset, "transform", None) is not None:
        store = None
    # PyG's loader would not take it as an argument.
    loader.collate_fn = partial(_join, store, weighted=batches.world_size > 1)
    return loader


def _join(
    store: GraphStore | None, rows: Sequence[tuple[int, float, Data]], *, weighted: bool
) -> Batch:
    """A batch with its graph and, where there are some, the weights of molecules."""
    numbers, weights, molecules = zip(*rows, strict=True)
    batch = join(molecules)
    if weighted:
        given = torch.tensor(weights, dtype=torch.float64)
        batch.weight = given * getattr(batch, "weight", 1.0)
    return batch if store is None else store.add_to(batch, numbers)


def in_order(dataset: Any, batch_size: int) -> DataLoader:
    """Batches of all molecules as they come.

    Args:
        dataset: Molecules.
        batch_size: Molecules of a batch.
    """
    # A loader draws a number whenever it is gone through: none of the global ones.
    return DataLoader(dataset, batch_size=batch_size, generator=torch.Generator())


def edge_counts(dataset: Any, cutoff: float | None) -> Tensor:
    """Number of edges of every molecule, self edges included.

    Args:
        dataset: Molecules; cells are left out of account, as they hold as many
            neighbours per atom everywhere.
        cutoff: Radius in Angstrom; None: all pairs.

    Returns:
        ``[n]`` whole numbers.

    Example:
        >>> from torch_cormorant.data import MiniQM9
        >>> edge_counts(MiniQM9("gap")[:2], None)
        tensor([4, 9])
    """
    sizes = torch.tensor([data.num_nodes for data in dataset])
    if cutoff is None or len(sizes) == 0:
        return sizes.square()
    counts = []
    for batch in in_order(dataset, 256):
        target = radius_graph(batch.pos, cutoff, batch.batch, loop=True)[1]
        graph = batch.batch[target]
        counts.append(torch.bincount(graph, minlength=batch.num_graphs))
    return torch.cat(counts)
