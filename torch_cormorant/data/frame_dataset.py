"""An in-memory PyG data set of structures with energies and forces."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data, InMemoryDataset

from torch_cormorant.data.composition import (
    element_counts,
    independent_compositions,
)
from torch_cormorant.data.describe import describe_rows, sizes_text, species_text
from torch_cormorant.data.frame_checks import FrameArrays, check_frames, own_frames
from torch_cormorant.errors import ConfigError, DataError

__all__ = ["FrameDataset"]

_PER_ATOM = ("z", "pos", "forces")
_PER_FRAME = ("energy", "stress", "dipole", "cell", "pbc")


class FrameDataset(InMemoryDataset):
    """Structures with energies, forces and more, held in memory.

    Each structure is a :class:`torch_geometric.data.Data` with ``z [N]`` (int64) and
    ``pos [N, 3]`` (float64, Angstrom), and with what the source has of ``energy [1]``,
    ``forces [N, 3]``, ``stress [1, 3, 3]`` (positive when the cell wants to shrink,
    energy per cubic Angstrom), ``dipole [1, 3]``, ``cell [1, 3, 3]`` (rows are vectors,
    Angstrom), all float64, and ``pbc [1, 3]`` (bool).

    Args:
        frames: The structures; they are copied, so that later changes of the arrays
            change nothing here, and the other way round.
        name: What to call the set in tables.
        source: The file, for messages.
        digest: SHA-256 of the file.
        level_of_theory: How energies and forces were computed.
        energy_unit: Unit of the energies; forces are per Angstrom. ``None`` only
            without energies.
        isolated_energies: Energy of single atoms by atomic number, where the source
            has them, in ``energy_unit``.
        energy_shift: What was subtracted from each energy of the source ``[F]``.
        dipole_unit: Unit of the dipoles, where it is known.

    Raises:
        DataError: A shape or a value does not fit; frame and field are named.

    Example:
        >>> import numpy as np
        >>> frames = FrameArrays(
        ...     z=np.array([1, 1]),
        ...     pos=np.array([[0.0, 0, 0], [0, 0, 0.74]]),
        ...     offset=np.array([0, 2]),
        ...     energy=np.array([-31.7]),
        ... )
        >>> FrameDataset(frames, name="hydrogen", energy_unit="eV")[0]
        Data(pos=[2, 3], z=[2], energy=[1])
    """

    def __init__(
        self,
        frames: FrameArrays,
        *,
        name: str,
        energy_unit: str | None,
        source: str = "memory",
        digest: str = "",
        level_of_theory: str = "unknown",
        isolated_energies: Mapping[int, float] | None = None,
        energy_shift: NDArray[np.float64] | None = None,
        dipole_unit: str | None = None,
    ) -> None:
        frames = own_frames(frames, source)
        check_frames(frames, source)
        if frames.energy is not None and energy_unit is None:
            raise DataError(
                f"{source}: the unit of the energies is not known; name it, for "
                "example energy_unit='eV'"
            )
        super().__init__(None)
        self.title = name
        self.source = source
        self.digest = digest
        self.level_of_theory = level_of_theory
        self.energy_unit = energy_unit
        self.dipole_unit = dipole_unit if frames.dipole is not None else None
        self.isolated_energies = dict(isolated_energies or {})
        offset = torch.from_numpy(frames.offset)
        each = torch.arange(len(offset))
        fields, self.slices = {}, {}
        for names, slices in ((_PER_ATOM, offset), (_PER_FRAME, each)):
            for field in names:
                values = getattr(frames, field)
                if values is not None:
                    fields[field] = torch.from_numpy(values)
                    self.slices[field] = slices
        self._data = Data(**fields)
        shift = np.zeros(len(frames)) if energy_shift is None else energy_shift
        if shift.shape != (len(frames),):
            raise DataError(
                f"{source}: 'energy_shift': shape {shift.shape}, expected one number "
                f"for each of {len(frames)} frames"
            )
        self._shift = torch.from_numpy(shift.astype(np.float64))

    def _rows(self) -> Tensor:
        return torch.tensor(list(self.indices()), dtype=torch.int64)

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of what every structure holds."""
        return tuple(self.slices)

    @property
    def force_unit(self) -> str | None:
        """Unit of the forces."""
        return None if self.energy_unit is None else f"{self.energy_unit}/Angstrom"

    @property
    def species(self) -> tuple[int, ...]:
        """Atomic numbers that occur anywhere in the source, ascending."""
        return tuple(int(element) for element in torch.unique(self._data.z))

    @property
    def energies(self) -> Tensor:
        """Energies of the structures of this (sub)set ``[n]``, float64.

        Raises:
            ConfigError: The set has no energies.
        """
        if "energy" not in self.slices:
            raise ConfigError(f"{self.source}: the data set holds no energies")
        energy: Tensor = self._data.energy
        return energy[self._rows()]

    @property
    def values(self) -> Tensor:
        """The energies as a column ``[n, 1]``, as property sets have them."""
        return self.energies[:, None]

    @property
    def energy_shift(self) -> Tensor:
        """What was subtracted from the energies of the source ``[n]``, float64."""
        return self._shift[self._rows()]

    def element_counts(self) -> Tensor:
        """How often each of :attr:`species` occurs in each structure ``[n, S]``."""
        counts = element_counts(self._data.z, self.slices["z"], self.species)
        return counts[self._rows()]

    def compositions(self) -> list[dict[str, int]]:
        """Independent compositions, for the record of a training.

        Returns:
            Counts by atomic number of a few structures, of which all others are sums
            or differences.
        """
        return independent_compositions(self.element_counts(), self.species)

    def describe(self) -> str:
        """Size, elements, units, level of theory, source and digest as text."""
        sizes = (self.slices["z"][1:] - self.slices["z"][:-1])[self._rows()]
        dipoles = {"dipoles": self.dipole_unit} if self.dipole_unit else {}
        return describe_rows(
            self.title,
            {
                "structures": f"{len(self):,}",
                "atoms each": sizes_text(sizes.tolist()),
                "elements": species_text(self.species),
                "fields": ", ".join(self.fields),
                "energies": self.energy_unit or "none",
                **dipoles,
                "level of theory": self.level_of_theory,
                "source": self.source,
                "SHA-256": self.digest or "not known",
            },
        )
