"""Molecules of a learning curve as plain tensors, and their references."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from torch_cormorant.data import (
    HARTREE_TO_EV,
    CompositionBaseline,
    MeanBaseline,
    Split,
    mean_absolute_error,
    read_qm9,
    split_indices,
)
from torch_cormorant.errors import DataError

VALID, TEST = 500, 1000
G4MP2 = "g4mp2_atom"
"""Atomisation energies at another level of theory than ``U0_atom``: not to be mixed."""
SPECIES = torch.tensor([1, 6, 7, 8, 9])

Batch = tuple[Tensor, Tensor, Tensor, int]


@dataclass(frozen=True)
class Molecules:
    """Flat arrays of molecules with one property.

    Attributes:
        z: Atomic numbers of all atoms.
        pos: Their positions, float32, Angstrom.
        offset: Molecule ``k`` owns atoms ``offset[k]:offset[k + 1]``.
        values: The property, float64, in ``unit`` times ``factor``.
        target: Its name.
        unit: Unit of the errors.
        factor: Errors are multiplied by this.
        theory: Level of theory.
        digest: SHA-256 of the file.
    """

    z: Tensor
    pos: Tensor
    offset: Tensor
    values: Tensor
    target: str
    unit: str
    factor: float
    theory: str
    digest: str

    def __len__(self) -> int:
        """Number of molecules."""
        return len(self.values)

    def batch(self, rows: Tensor) -> Batch:
        """``z, pos, batch, num_graphs`` of the chosen molecules."""
        first, count = self.offset[rows], self.offset[rows + 1] - self.offset[rows]
        batch = torch.repeat_interleave(torch.arange(len(rows)), count)
        start = torch.repeat_interleave(first - count.cumsum(0) + count, count)
        atoms = torch.arange(len(batch)) + start
        return self.z[atoms], self.pos[atoms], batch, len(rows)

    def counts(self, rows: Tensor) -> Tensor:
        """How many atoms of each element ``[n, 5]``."""
        z, _, batch, num_graphs = self.batch(rows)
        counts = torch.zeros(num_graphs, len(SPECIES), dtype=torch.float64)
        column = torch.searchsorted(SPECIES, z)
        counts.index_put_((batch, column), torch.ones(len(z)).double(), accumulate=True)
        return counts


def load(path: Path, target: str) -> Molecules:
    """QM9 arrays, one property; ``g4mp2_atom`` also from the larger geometry file."""
    return _g4mp2(path) if target == G4MP2 else _qm9(path, target)


def _qm9(path: Path, target: str) -> Molecules:
    data = read_qm9(npz=path, target=target)
    with np.load(path, allow_pickle=False) as arrays:
        z, pos, offset = (torch.from_numpy(arrays[k]) for k in ("z", "pos", "offset"))
    chosen = data.target
    return Molecules(
        z.long(),
        pos.float(),
        offset.long(),
        data.values[:, 0],
        chosen.name,
        chosen.shown_unit,
        chosen.shown_factor,
        data.level_of_theory,
        data.digest,
    )


def _g4mp2(path: Path) -> Molecules:
    """All molecules with a G4MP2 atomisation energy, of one file or two."""
    rest = path.with_name("qm9_geometry_rest.npz")
    files = [file for file in (path, rest) if file.exists()]
    if not files:
        raise DataError(f"{path}: not found; expected a file of QM9 arrays")
    z, pos, sizes, values = [], [], [], []
    for file in files:
        with np.load(file, allow_pickle=False) as arrays:
            known = np.isfinite(arrays[G4MP2])
            size = np.diff(arrays["offset"])
            atoms = np.repeat(known, size)
            z.append(torch.from_numpy(arrays["z"][atoms]).long())
            pos.append(torch.from_numpy(arrays["pos"][atoms]).float())
            sizes.append(torch.from_numpy(size[known]))
            values.append(torch.from_numpy(arrays[G4MP2][known]))
    count = torch.cat(sizes).long()
    return Molecules(
        torch.cat(z),
        torch.cat(pos),
        torch.nn.functional.pad(count.cumsum(0), (1, 0)),
        torch.cat(values).double() * HARTREE_TO_EV,
        G4MP2,
        "meV",
        1000.0,
        "G4MP2 at the B3LYP geometry",
        "+".join(file.name for file in files),
    )


@dataclass(frozen=True)
class Task:
    """What a network has to learn: the rest after the composition.

    Attributes:
        molecules: All molecules.
        split: Rows for training, validation and test.
        rest: Normalised target of every molecule, float32.
        std: What one unit of it means, in ``molecules.unit / factor``.
        baselines: Test errors of the training mean and of the composition.
    """

    molecules: Molecules
    split: Split
    rest: Tensor
    std: float
    baselines: dict[str, float]

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Rows for training, validation and test."""
        train, valid, test = (torch.from_numpy(part) for part in self.split.parts)
        return train, valid, test

    def epochs(self, size: int, seed: int) -> Iterator[Tensor]:
        """Shuffled batches of training rows, epoch after epoch, without an end."""
        train = self.parts[0]
        generator = torch.Generator().manual_seed(seed)
        while True:
            order = train[torch.randperm(len(train), generator=generator)]
            yield from order.split(size)


def task(molecules: Molecules, size: int, seed: int) -> Task:
    """Split, fit the composition on the training part, normalise; mu stays whole."""
    split = split_indices(len(molecules), size, VALID, TEST, seed)
    train, test = torch.from_numpy(split.train), torch.from_numpy(split.test)
    every = torch.arange(len(molecules))
    values = molecules.values[:, None]
    counts = molecules.counts(every)
    fit = CompositionBaseline.fit(counts[train], values[train])
    mean = MeanBaseline.fit(values[train]).predict(len(test))
    # A network whose output is the norm of a dipole cannot add to a reference.
    reference = (
        torch.zeros_like(values) if molecules.target == "mu" else fit.predict(counts)
    )
    rest = values - reference
    std = float(rest[train].std())
    scale = molecules.factor
    baselines = {
        "training_mean": scale * mean_absolute_error(mean, values[test]),
        "composition": scale
        * mean_absolute_error(fit.predict(counts[test]), values[test]),
    }
    return Task(molecules, split, (rest[:, 0] / std).float(), std, baselines)
