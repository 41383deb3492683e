"""Structures with energies and forces as a PyG data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data

from torch_cormorant.data.baselines import independent_compositions
from torch_cormorant.data.frame_arrays import FrameArrays
from torch_cormorant.data.frame_file import FrameFile
from torch_cormorant.data.frame_reader import FrameReader
from torch_cormorant.data.splits import Split
from torch_cormorant.data.structures import StructureDataset
from torch_cormorant.errors import ConfigError, DataError

__all__ = ["Frames"]


class Frames(StructureDataset):
    """Structures with energies, forces and more, in memory or read one by one.

    Each structure is a :class:`torch_geometric.data.Data` with ``z [N]`` (int64) and
    ``pos [N, 3]`` (float64, Angstrom), and with what the source has of ``energy [1]``,
    ``forces [N, 3]``, ``stress [1, 3, 3]`` (positive when the cell wants to shrink,
    energy per cubic Angstrom), ``dipole [1, 3]``, ``cell [1, 3, 3]`` (rows are vectors,
    Angstrom), all float64, and ``pbc [1, 3]`` (bool).

    :func:`~torch_cormorant.data.read_extxyz` makes a set that reads a frame when it is
    asked for. What is said of all frames (``species``, ``energies``, ``describe``, ...)
    reads the file once; :meth:`in_memory` makes an ordinary set of it.
    :class:`~torch_cormorant.data.StructureDataset` has more of what it tells.

    Args:
        frames: The structures; arrays are copied, so that later changes of them change
            nothing here, and the other way round.
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
        splits: Row numbers of training and test frames by the number of an official
            split, where the source has such.
        parts: Part of each frame ``[F]``, where the source is divided.

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
        >>> Frames(frames, name="hydrogen", energy_unit="eV")[0]
        Data(pos=[2, 3], z=[2], energy=[1])
    """

    def __init__(
        self,
        frames: FrameArrays | FrameReader,
        *,
        name: str,
        energy_unit: str | None,
        source: str = "memory",
        digest: str = "",
        level_of_theory: str = "unknown",
        isolated_energies: Mapping[int, float] | None = None,
        energy_shift: NDArray[np.float64] | None = None,
        dipole_unit: str | None = None,
        splits: Mapping[int, tuple[NDArray[np.int64], NDArray[np.int64]]] | None = None,
        parts: NDArray[np.str_] | None = None,
    ) -> None:
        super().__init__(name, source, digest, level_of_theory)
        self.energy_unit = energy_unit
        self.dipole_unit = dipole_unit
        self._isolated = None if isolated_energies is None else dict(isolated_energies)
        self._splits = dict(splits or {})
        self._parts = parts
        self._reader: FrameReader | None = None
        self._memory: Frames | None = None
        if not isinstance(frames, FrameArrays):
            self._reader = frames
            self._shift = torch.zeros(self.len(), dtype=torch.float64)
            return
        frames = self._hold(frames, "frame {}".format)
        if frames.energy is not None and energy_unit is None:
            raise DataError(
                f"{source}: the unit of the energies is not known; name it, for "
                "example energy_unit='eV'"
            )
        if frames.dipole is None:
            self.dipole_unit = None
        shift = np.zeros(len(frames)) if energy_shift is None else energy_shift
        if shift.shape != (len(frames),):
            raise DataError(
                f"{source}: 'energy_shift': shape {shift.shape}, expected one number "
                f"for each of {len(frames)} frames"
            )
        self._shift = torch.from_numpy(shift.astype(np.float64))

    @property
    def file(self) -> FrameFile | None:
        """The file that frames are read from when they are asked for, if any."""
        return None if self._reader is None else self._reader.file

    def len(self) -> int:
        """Number of frames in the source."""
        return super().len() if self._reader is None else len(self._reader.file)

    def get(self, idx: int) -> Data:
        """One frame, by its number in the source."""
        if self._reader is None:
            return super().get(idx)
        held = self._reader.arrays(idx).held()
        return Data(**{k: torch.from_numpy(v) for k, v in held.items()})

    def in_memory(self) -> Frames:
        """All frames of this (sub)set, read and checked; the set itself if they are.

        Raises:
            DataError: A frame is not what it should be.
            ConfigError: There are no frames in this subset.
        """
        return self if self._reader is None else self._read(list(self.indices()))

    def _read(self, rows: Sequence[int]) -> Frames:
        if self._reader is None or not rows:
            raise ConfigError(f"{self.source}: no frames are chosen")
        return Frames(
            self._reader.gathered(rows),
            name=self.title,
            energy_unit=self.energy_unit,
            source=self.source,
            digest=self.digest,
            level_of_theory=self.level_of_theory,
            isolated_energies=self.isolated_energies,
            dipole_unit=self.dipole_unit,
        )

    def _flat(self) -> tuple[Data, dict[str, Tensor]]:
        if self._reader is None:
            return super()._flat()
        if self._memory is None:
            self._memory = self._read(range(self.len()))
        return self._memory._flat()  # noqa: SLF001  of the same class

    @property
    def digest(self) -> str:
        """SHA-256 of the file, or an empty text without one."""
        return self._digest if self._reader is None else self._reader.file.digest

    @property
    def isolated_energies(self) -> dict[int, float]:
        """Energies of single atoms by atomic number, where the source has them."""
        if self._isolated is None and self._reader is not None:
            return self._reader.isolated_energies()
        return self._isolated or {}

    @isolated_energies.setter
    def isolated_energies(self, energies: Mapping[int, float]) -> None:
        self._isolated = dict(energies)

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of what every structure holds."""
        return tuple(self._flat()[1])

    @property
    def unit(self) -> str | None:
        """Unit of the energies."""
        return self.energy_unit

    @property
    def force_unit(self) -> str | None:
        """Unit of the forces."""
        return None if self.energy_unit is None else f"{self.energy_unit}/Angstrom"

    @property
    def energies(self) -> Tensor:
        """Energies of the structures of this (sub)set ``[n]``, float64.

        Raises:
            ConfigError: The set has no energies.
        """
        data, _ = self._flat()
        if "energy" not in data:
            raise ConfigError(f"{self.source}: the data set holds no energies")
        energy: Tensor = data.energy
        return energy[self._rows()]

    @property
    def values(self) -> Tensor:
        """The energies as a column ``[n, 1]``, as property sets have them."""
        return self.energies[:, None]

    @property
    def energy_shift(self) -> Tensor:
        """What was subtracted from the energies of the source ``[n]``, float64."""
        return self._shift[self._rows()]

    def compositions(self) -> list[dict[str, int]]:
        """Independent compositions, for the record of a training.

        Returns:
            Counts by atomic number of a few structures, of which all others are sums
            or differences.
        """
        return independent_compositions(self.element_counts(), self.species)

    @property
    def official_splits(self) -> tuple[int, ...]:
        """Numbers of the official splits that the source has."""
        return tuple(sorted(self._splits))

    def official_split(self, number: int = 1, valid: int = 50) -> Split:
        """One of the official splits, such as the five of revised MD17.

        Args:
            number: One of :attr:`official_splits`.
            valid: How many frames, the last of the official training part, choose the
                checkpoint; the rest are trained on. Default 50.

        Returns:
            Row numbers of the three parts.

        Raises:
            ConfigError: There is no such split, or nothing is left to train on.
        """
        if number not in self._splits:
            known = ", ".join(map(str, self.official_splits)) or "none"
            raise ConfigError(
                f"number: {self.source} has the official splits {known}, not {number}"
            )
        train, test = self._splits[number]
        if not 1 <= valid < len(train):
            raise ConfigError(
                f"valid: {valid} of {len(train)} training frames; take at least 1 and "
                "leave some"
            )
        return Split(train[:-valid], train[-valid:], test, seed=number)

    def split_by_part(
        self,
        train: int | None = None,
        valid: int | None = None,
        test: int | None = None,
        seed: int = 0,
    ) -> Split:
        """The parts ``train``, ``valid`` and ``test`` that the source is divided into.

        Args:
            train: How many frames of the training part, chosen at random. Default: all.
            valid: Likewise of the validation part.
            test: Likewise of the test part.
            seed: Of what is chosen.

        Returns:
            Row numbers of the three parts.

        Raises:
            ConfigError: There is no such part, or it has not so many frames.
        """
        rng, found = np.random.default_rng(seed), []
        for name, size in (("train", train), ("valid", valid), ("test", test)):
            words = np.zeros(0, str) if self._parts is None else self._parts
            rows = np.flatnonzero(words == name)
            if size is not None and size <= len(rows):
                rows = np.sort(rng.permutation(rows)[:size])
            if len(rows) == 0 or len(rows) < (size or 0):
                known = ", ".join(sorted(set(words.tolist()))) or "none"
                raise ConfigError(
                    f"{name}: {size or 'all'} frames asked for, {self.source} has "
                    f"{len(rows)} in a part of this name; its parts are {known}"
                )
            found.append(rows.astype(np.int64))
        return Split(found[0], found[1], found[2], seed)

    def describe(self) -> str:
        """Size, elements, units, level of theory, source and digest as text."""
        dipoles = {"dipoles": self.dipole_unit} if self.dipole_unit else {}
        return self._described(
            {
                "fields": ", ".join(self.fields),
                "energies": self.energy_unit or "none",
                **dipoles,
            }
        )
