"""An in-memory PyG data set over flat arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data, InMemoryDataset

from torch_cormorant.data.arrays import NpzFile
from torch_cormorant.data.composition import element_counts
from torch_cormorant.data.describe import describe_rows, sizes_text, species_text
from torch_cormorant.data.targets import Target
from torch_cormorant.errors import ConfigError

__all__ = ["MoleculeDataset"]


class MoleculeDataset(InMemoryDataset):
    """Molecules and their properties, held in memory.

    Each molecule is a :class:`torch_geometric.data.Data` with ``z [N]`` (int64),
    ``pos [N, 3]`` (float64, Angstrom), ``y`` (float64, units of ``targets``),
    ``idx [1]`` (number in the source) and ``smiles``. ``y`` is ``[1, T]`` for numbers,
    ``[1, 3]`` or ``[1, 3, 3]`` for a vector or tensor, ``[N, T]`` for numbers of atoms
    and ``[N, 3]`` for their vectors.

    Args:
        file: Checked arrays ``z``, ``pos`` and ``offset``.
        targets: The ``T`` properties that ``values`` holds.
        values: Properties ``[n, T]`` in float64, in the units of ``targets``. One
            vector or tensor: ``[n, *shape]``; of atoms: one row for each, in the order
            of ``file``.
        idx: Number of each molecule in the source ``[n]``.
        smiles: One SMILES string per molecule.
        name: What to call the set in tables.
        level_of_theory: How the properties were computed.
        is_qm9: Whether the entries are QM9's own, so that published errors on QM9
            may be shown beside ours.
    """

    def __init__(
        self,
        file: NpzFile,
        targets: Sequence[Target],
        values: NDArray[np.float64],
        idx: NDArray[np.int64],
        smiles: Sequence[str],
        *,
        name: str,
        level_of_theory: str,
        is_qm9: bool,
    ) -> None:
        super().__init__(None)
        self.targets = tuple(targets)
        self.source = str(file.path)
        self.digest = file.digest
        self.title = name
        self.level_of_theory = level_of_theory
        self.is_qm9 = is_qm9
        offset = torch.from_numpy(file.integers("offset"))
        each = torch.arange(len(offset))
        self.per_atom = self.targets[0].per_atom
        self._data = Data(
            z=torch.from_numpy(file.integers("z")),
            pos=torch.from_numpy(file["pos"].astype(np.float64)),
            y=torch.from_numpy(values),
            idx=torch.from_numpy(idx),
            smiles=list(smiles),
        )
        self.slices = {
            "z": offset,
            "pos": offset,
            "y": offset if self.per_atom else each,
            "idx": each,
            "smiles": each,
        }

    def _rows(self) -> Tensor:
        return torch.tensor(list(self.indices()), dtype=torch.int64)

    @property
    def target(self) -> Target:
        """The property, when the set was loaded with exactly one.

        Raises:
            ConfigError: The set holds several properties.
        """
        if len(self.targets) != 1:
            raise ConfigError(
                f"target: the data set holds {len(self.targets)} properties; "
                "load it with target=<name> to train on one"
            )
        return self.targets[0]

    @property
    def species(self) -> tuple[int, ...]:
        """Atomic numbers that occur anywhere in the source, ascending."""
        return tuple(int(element) for element in torch.unique(self._data.z))

    @property
    def values(self) -> Tensor:
        """Properties of the molecules of this (sub)set ``[n, T]``, float64.

        Of a vector or tensor all its components; of values of atoms one row for each.
        """
        y: Tensor = self._data.y
        return y[self._atoms() if self.per_atom else self._rows()]

    def _atoms(self) -> Tensor:
        """Rows of all atoms of this (sub)set."""
        offset = self.slices["z"]
        parts = [
            torch.arange(int(offset[k]), int(offset[k + 1])) for k in self.indices()
        ]
        return torch.cat([*parts, self._rows()[:0]])

    def element_counts(self) -> Tensor:
        """How often each of :attr:`species` occurs in each molecule ``[n, S]``."""
        counts = element_counts(self._data.z, self.slices["z"], self.species)
        return counts[self._rows()]

    def row_counts(self) -> Tensor:
        """The same for each row of :attr:`values`: for one of an atom, that atom."""
        if not self.per_atom:
            return self.element_counts()
        z: Tensor = self._data.z[self._atoms()]
        return element_counts(z, torch.arange(len(z) + 1), self.species)

    def describe(self) -> str:
        """Size, elements, units, level of theory, source and digest as text.

        Example:
            >>> from torch_cormorant.data import MiniQM9
            >>> MiniQM9("mu").describe().splitlines()[1]
            '  molecules:       310'
        """
        sizes = (self.slices["z"][1:] - self.slices["z"][:-1])[self._rows()]
        properties = [_described(target) for target in self.targets]
        return describe_rows(
            self.title,
            {
                "molecules": f"{len(self):,}",
                "atoms each": sizes_text(sizes.tolist()),
                "elements": species_text(self.species),
                "properties": ", ".join(properties),
                "level of theory": self.level_of_theory,
                "source": self.source,
                "SHA-256": self.digest,
            },
        )


def _described(target: Target) -> str:
    """Name, unit and, where it is no number of a molecule, what it is."""
    kinds = {(): "", (3,): "vector", (3, 3): "tensor"}
    kind = kinds.get(target.shape, f"{target.row[0]} components")
    parts = [target.unit, kind, "of each atom" if target.per_atom else ""]
    return f"{target.name} ({', '.join(part for part in parts if part)})"
