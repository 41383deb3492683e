"""Molecules with properties as a PyG data set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torch_cormorant.data.baselines import element_counts
from torch_cormorant.data.frame_arrays import FrameArrays
from torch_cormorant.data.structures import StructureDataset
from torch_cormorant.data.targets import Target
from torch_cormorant.errors import ConfigError, DataError

__all__ = ["Molecules"]


class Molecules(StructureDataset):
    """Molecules and their properties, held in memory.

    Each molecule is a :class:`torch_geometric.data.Data` with ``z [N]`` (int64),
    ``pos [N, 3]`` (float64, Angstrom), ``y`` (float64, units of ``targets``),
    ``idx [1]`` (number in the source) and ``smiles``. ``y`` is ``[1, T]`` for numbers,
    ``[1, 3]`` or ``[1, 3, 3]`` for a vector or tensor, ``[N, T]`` for numbers of atoms
    and ``[N, 3]`` for their vectors. :class:`~torch_cormorant.data.StructureDataset`
    has more of what it tells.

    Args:
        molecules: Elements and positions; they are copied.
        targets: The ``T`` properties that ``values`` holds.
        values: Properties ``[n, T]`` in the units of ``targets``. One vector or tensor:
            ``[n, *shape]``; of atoms: one row for each, in the order of ``molecules``.
        name: What to call the set in tables.
        idx: Number of each molecule in the source ``[n]``; default counted from 0.
        smiles: One SMILES string per molecule; default empty ones.
        source: The file, for messages.
        digest: SHA-256 of the file.
        level_of_theory: How the properties were computed.
        is_qm9: Whether the entries are QM9's own, so that published errors on QM9
            may be shown beside ours.

    Raises:
        DataError: A shape or a value does not fit; molecule and field are named.

    Example:
        >>> import numpy as np
        >>> pos = np.array([[0.0, 0, 0], [0, 0, 0.74]])
        >>> hydrogen = FrameArrays(np.array([1, 1]), pos, np.array([0, 2]))
        >>> gap = Target("gap", "gap", "eV", "eV")
        >>> Molecules(hydrogen, [gap], np.array([[11.2]]), name="hydrogen")[0].y
        tensor([[11.2000]], dtype=torch.float64)
    """

    entries = "molecules"

    def __init__(
        self,
        molecules: FrameArrays,
        targets: Sequence[Target],
        values: NDArray[np.float64],
        *,
        name: str,
        idx: NDArray[np.int64] | None = None,
        smiles: Sequence[str] | None = None,
        source: str = "memory",
        digest: str = "",
        level_of_theory: str = "unknown",
        is_qm9: bool = False,
    ) -> None:
        super().__init__(name, source, digest, level_of_theory)
        self.targets = tuple(targets)
        self.is_qm9 = is_qm9
        self.per_atom = self.targets[0].per_atom
        arrays = self._hold(molecules, "molecule {}".format)
        each = torch.arange(len(arrays) + 1)
        rows = {"y": self.slices["z"] if self.per_atom else each}
        self._check_values(values, int(rows["y"][-1]))
        self._data.y = torch.from_numpy(values.astype(np.float64))
        number = np.arange(len(arrays)) if idx is None else idx
        self._data.idx = torch.from_numpy(number.astype(np.int64))
        self._data.smiles = [""] * len(arrays) if smiles is None else list(smiles)
        self.slices |= {**rows, "idx": each, "smiles": each}

    def _check_values(self, values: NDArray[np.float64], count: int) -> None:
        several = (len(self.targets),)
        shape = (count, *(self.targets[0].row if several == (1,) else several))
        if values.shape != shape:
            raise DataError(
                f"{self.source}: 'values': shape {values.shape}, expected {shape} for "
                f"{', '.join(target.name for target in self.targets)}"
            )
        finite = np.isfinite(values).reshape(count, -1).all(axis=1)
        if not finite.all():
            raise DataError(
                f"{self.source}: 'values': {self.targets[0].owner} "
                f"{int(np.argmin(finite))} has a value that is not finite"
            )

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
    def unit(self) -> str:
        """Unit of the one property."""
        return self.target.unit

    @property
    def values(self) -> Tensor:
        """Properties of the molecules of this (sub)set ``[n, T]``, float64.

        Of a vector or tensor all its components; of values of atoms one row for each.
        """
        y: Tensor = self._data.y
        return y[self._atoms() if self.per_atom else self._rows()]

    def row_counts(self) -> Tensor:
        """Element counts of each row of :attr:`values`: for one of an atom, that atom.

        Shapes:
            ``[n, S]``, as ``element_counts()`` has them for molecules.
        """
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
        properties = ", ".join(map(_described, self.targets))
        return self._described({"properties": properties})


def _described(target: Target) -> str:
    """Name, unit and, where it is no number of a molecule, what it is."""
    kinds = {(): "", (3,): "vector", (3, 3): "tensor"}
    kind = kinds.get(target.shape, f"{target.row[0]} components")
    parts = [target.unit, kind, "of each atom" if target.per_atom else ""]
    return f"{target.name} ({', '.join(part for part in parts if part)})"
