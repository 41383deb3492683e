"""What sets of molecules and sets of frames have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch_geometric.data import Data, InMemoryDataset

from torch_cormorant.data.baselines import element_counts
from torch_cormorant.data.describe import describe_rows, sizes_text, species_text
from torch_cormorant.data.frame_arrays import (
    PER_ATOM,
    FrameArrays,
    atoms_of,
    check_frames,
    own_frames,
)

__all__ = ["StructureDataset"]


class StructureDataset(InMemoryDataset):
    """What :class:`~torch_cormorant.data.Molecules` and Frames have in common.

    Both are PyG data sets over flat arrays, of whole sources or of chosen rows.

    Args:
        name: What to call the set in tables.
        source: The file, for messages.
        digest: SHA-256 of the file.
        level_of_theory: How its values were computed.
    """

    #: What the entries are called.
    entries = "structures"

    def __init__(
        self, name: str, source: str, digest: str, level_of_theory: str
    ) -> None:
        super().__init__(None)
        self.title = name
        self.source = source
        self.level_of_theory = level_of_theory
        self._digest = digest

    @property
    def digest(self) -> str:
        """SHA-256 of the file, or an empty text without one."""
        return self._digest

    def _hold(self, arrays: FrameArrays, name: Callable[[int], str]) -> FrameArrays:
        """Keep checked copies of arrays as the tensors of PyG."""
        arrays = own_frames(arrays, self.source)
        check_frames(arrays, self.source, name)
        offset = torch.from_numpy(arrays.offset)
        held = arrays.held()
        self._data = Data(**{k: torch.from_numpy(v) for k, v in held.items()})
        each = torch.arange(len(offset))
        self.slices = {name: offset if name in PER_ATOM else each for name in held}
        return arrays

    def _flat(self) -> tuple[Data, dict[str, Tensor]]:
        """All entries of the source one after the other, and where each starts."""
        return self._data, self.slices

    def _rows(self) -> Tensor:
        return torch.tensor(list(self.indices()), dtype=torch.int64)

    def _atoms(self) -> Tensor:
        """Rows of all atoms of this (sub)set."""
        offset = self._flat()[1]["z"].numpy()
        return torch.from_numpy(atoms_of(offset, self._rows().numpy()))

    @property
    def species(self) -> tuple[int, ...]:
        """Atomic numbers that occur anywhere in the source, ascending."""
        return tuple(torch.unique(self._flat()[0].z).tolist())

    def element_counts(self) -> Tensor:
        """How often each of :attr:`species` occurs in each entry ``[n, S]``."""
        data, slices = self._flat()
        return element_counts(data.z, slices["z"], self.species)[self._rows()]

    def _described(self, rows: Mapping[str, str]) -> str:
        sizes = self._flat()[1]["z"].diff()[self._rows()]
        return describe_rows(
            self.title,
            {
                self.entries: f"{len(self):,}",
                "atoms each": sizes_text(sizes.tolist()),
                "elements": species_text(self.species),
                **rows,
                "level of theory": self.level_of_theory,
                "source": self.source,
                "SHA-256": self.digest or "not known",
            },
        )
