"""Own data: extended XYZ, and whatever else ASE reads, frame by frame."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data, Dataset

from torch_cormorant.data.composition import independent_compositions
from torch_cormorant.data.describe import describe_rows, sizes_text, species_text
from torch_cormorant.data.extxyz_format import (
    COLUMN_BY_COLUMN,
    ParsedFrame,
    numbers_of,
    parse_frame,
)
from torch_cormorant.data.files import file_digest
from torch_cormorant.data.frame_checks import Floats, FrameArrays, check_frames
from torch_cormorant.data.frame_dataset import FrameDataset
from torch_cormorant.data.frame_index import FrameIndex, index_frames
from torch_cormorant.data.frame_sources import (
    is_compressed,
    read_compressed,
    read_with_ase,
    uses_own_reader,
)
from torch_cormorant.data.units import unit_factor
from torch_cormorant.errors import ConfigError, DataError

__all__ = ["ExtXYZDataset"]

#: Units that extended XYZ files are in unless they say otherwise: ASE's.
FILE_UNITS: dict[str, str] = {
    "pos": "Angstrom",
    "energy": "eV",
    "forces": "eV/Angstrom",
    "stress": "eV/Angstrom^3",
    "virial": "eV",
    "dipole": "e*Angstrom",
}
_PER_FRAME_SHAPES = {"energy": 1, "stress": 9, "virial": 9, "dipole": 3}
_VOIGT = [0, 5, 4, 5, 1, 3, 4, 3, 2]


class ExtXYZDataset(Dataset):
    """Structures with energies and forces from a file, read frame by frame.

    Extended XYZ (``.extxyz``, ``.xyz``) is read by this package: opening a file only
    finds where the frames are, and remembers it beside large files
    (``.NAME.index.npz``); a frame is read when it is asked for. Compressed files
    (``.xyz.gz``, ``.bz2``, ``.xz``) and every other format, which ASE reads, are read
    once.

    Each frame is a :class:`torch_geometric.data.Data` as :class:`FrameDataset`
    describes it: ``z``, ``pos`` and what is asked for of ``energy``, ``forces``,
    ``stress`` and ``dipole``; ``cell`` and ``pbc`` if any frame has a cell.

    Args:
        path: The file.
        energy: Name of the energy in the file, or ``None`` to leave it out.
        forces: Name of the forces, or ``None``.
        stress: Name of the stress (3 x 3, or 6 numbers in Voigt's order, positive when
            the cell wants to shrink), or ``None`` (default).
        dipole: Name of the dipole, or ``None`` (default).
        virial: Name of the virial, to have the stress from it (minus virial over
            volume), or ``None`` (default).
        units: Units of the file where they are not ASE's: for example ``{"energy":
            "kcal/mol", "forces": "kcal/mol/Angstrom"}``. Keys: ``pos``, ``energy``,
            ``forces``, ``stress``, ``virial``, ``dipole``. What is not given follows
            from the units of ``energy`` and ``pos``: forces are energy per length,
            stress is energy per length cubed, the virial is in the unit of the energy,
            and the dipole in elementary charges times the length.
        unit: Unit to hand energies out in, forces and stress accordingly; default eV.
        dipole_unit: Unit to hand dipoles out in; default Debye.
        format: ASE's name of the format, if the name of the file does not tell.
        cache: Whether the places of the frames of a large file may be remembered beside
            it.
        name: What to call the set in tables; default the name of the file.
        level_of_theory: How energies and forces were computed.

    Raises:
        DataError: The file is missing or damaged, or a frame lacks a property or holds
            something that is not finite, no element or no cell; file, frame and field
            are named. Frames are looked at when they are read; :meth:`in_memory` reads
            all.
        ConfigError: A unit is not understood.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "h2.extxyz"
        >>> _ = path.write_text('''2
        ... Properties=species:S:1:pos:R:3:forces:R:3 energy=-31.7
        ... H 0 0 0    0 0 0.1
        ... H 0 0 0.7  0 0 -0.1
        ... ''')
        >>> ExtXYZDataset(path)[0].energy
        tensor([-31.7000], dtype=torch.float64)
    """

    #: What to do about a property that is missing, for messages.
    advice = "name the right one with {field}=..., or leave it out with {field}=None"

    def __init__(
        self,
        path: str | os.PathLike[str],
        energy: str | None = "energy",
        forces: str | None = "forces",
        stress: str | None = None,
        dipole: str | None = None,
        virial: str | None = None,
        *,
        units: Mapping[str, str] | None = None,
        unit: str = "eV",
        dipole_unit: str = "Debye",
        format: str | None = None,
        cache: bool = True,
        name: str | None = None,
        level_of_theory: str = "unknown",
    ) -> None:
        if stress is not None and virial is not None:
            raise ConfigError("stress, virial: give one of them")
        super().__init__(None)
        self.path = Path(path)
        names = {
            "energy": energy,
            "forces": forces,
            "stress": stress,
            "dipole": dipole,
            "virial": virial,
        }
        self.names = {field: key for field, key in names.items() if key is not None}
        self.energy_unit: str | None = unit if energy or forces or stress else None
        self.dipole_unit = dipole_unit
        self.factors = _factors(units, unit, dipole_unit)
        self.title = name or self.path.name
        self.level_of_theory = level_of_theory
        self._frames: list[ParsedFrame] | None = None
        self._index: FrameIndex | None = None
        self._memory: FrameDataset | None = None
        own = uses_own_reader(self.path, format)
        if own and not is_compressed(self.path):
            self._index = index_frames(self.path, cache=cache)
            self.periodic = self._index.cells
        else:
            self._frames = (
                read_compressed(self.path) if own else read_with_ase(self.path, format)
            )
            self.periodic = any(frame.cell is not None for frame in self._frames)

    def len(self) -> int:
        """Number of frames in the file."""
        if self._frames is not None:
            return len(self._frames)
        return 0 if self._index is None else len(self._index)

    def get(self, idx: int) -> Data:
        """One frame, by its number in the file."""
        arrays = self._arrays(idx)
        fields = {
            field: torch.from_numpy(np.ascontiguousarray(values))
            for field in ("z", "pos", "energy", "forces", "stress", "dipole")
            if (values := getattr(arrays, field)) is not None
        }
        if self.periodic:
            fields |= _cell_fields(arrays)
        return Data(**fields)

    def info(self, idx: int) -> dict[str, str]:
        """What the second line of a frame says, as text, by its number in the file.

        Raises:
            DataError: The frame is damaged.
        """
        return dict(self.parsed(idx).info)

    def held(self, idx: int) -> list[str]:
        """Names of what a frame holds besides elements and positions.

        Raises:
            DataError: The frame is damaged.
        """
        frame = self.parsed(idx)
        return list(dict.fromkeys([*frame.info, *frame.arrays]))

    def parsed(self, idx: int) -> ParsedFrame:
        """What a frame says, as it stands there, by its number in the file.

        Raises:
            DataError: The frame is damaged.
        """
        if self._frames is not None:
            return self._frames[idx]
        if self._index is None:
            raise self._fail(idx, "is not there")
        try:
            return parse_frame(self._index.text(idx))
        except ValueError as error:
            raise self._fail(idx, str(error)) from None
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read ({error})") from error

    def _arrays(self, idx: int) -> FrameArrays:
        frame = self.parsed(idx)
        try:
            arrays = self._converted(frame)
        except ValueError as error:
            raise self._fail(idx, str(error)) from None
        check_frames(arrays, str(self.path), lambda _: f"frame {idx}")
        return arrays

    def _fail(self, idx: int, problem: str) -> DataError:
        return DataError(f"{self.path}: frame {idx}: {problem}")

    def _converted(self, frame: ParsedFrame) -> FrameArrays:
        found = {
            field: self._property(frame, field, key) * self.factors[field]
            for field, key in self.names.items()
        }
        cell = frame.cell
        if cell is not None:
            cell = (cell * self.factors["pos"])[None]
        stress = found.get("stress")
        if "virial" in found:
            volume = 0.0 if cell is None else abs(float(np.linalg.det(cell[0])))
            if volume == 0:
                raise ValueError(
                    "'virial': a stress from it needs a cell of three vectors"
                )
            stress = -found["virial"] / volume
        return FrameArrays(
            z=frame.z.copy(),
            pos=frame.pos * self.factors["pos"],
            offset=np.array([0, len(frame.z)]),
            energy=found.get("energy"),
            forces=found.get("forces"),
            stress=None if stress is None else stress.reshape(1, 3, 3),
            dipole=found["dipole"][None] if "dipole" in found else None,
            cell=cell,
            pbc=frame.pbc[None].copy(),
        )

    def _property(self, frame: ParsedFrame, field: str, key: str) -> Floats:
        """One property of a frame, flat (per atom: as it is).

        Raises:
            ValueError: It is missing, there twice or has another size; the message
                names the field.
        """
        frame.check_once(key)
        held: Mapping[str, object] = frame.arrays if field == "forces" else frame.info
        if key not in held:
            there = ", ".join(held) or "nothing of the kind"
            advice = self.advice.format(field=field)
            raise ValueError(f"{key!r} is missing, there is {there}; {advice}")
        if field == "forces":
            table = frame.arrays[key]
            if table.shape != (len(frame.z), 3):
                raise ValueError(f"{key!r}: {table.shape[1]} columns, expected 3")
            return table
        values = numbers_of(frame.info[key], key)
        tensor = field in {"stress", "virial"}
        if tensor:
            values = _tensor(values, key)
        if values.shape != (_PER_FRAME_SHAPES[field],):
            raise ValueError(
                f"{key!r}: {len(values)} numbers, expected "
                f"{_PER_FRAME_SHAPES[field]}{' or 6' * tensor}"
            )
        return values

    def in_memory(self) -> FrameDataset:
        """All frames of this (sub)set, read and checked, as a :class:`FrameDataset`.

        Raises:
            DataError: A frame is not what it should be.
            ConfigError: There are no frames in this subset.
        """
        return self._gathered(self.indices())

    def _gathered(self, indices: Sequence[int]) -> FrameDataset:
        frames = [self._arrays(idx) for idx in indices]
        if not frames:
            raise ConfigError(f"{self.path}: no frames are chosen")
        sizes = [len(frame.z) for frame in frames]

        def joined(field: str) -> Any:
            values = [getattr(frame, field) for frame in frames]
            return None if values[0] is None else np.concatenate(values)

        cell, pbc = None, None
        if self.periodic:
            full = [_cell_fields(frame) for frame in frames]
            cell = np.concatenate([entry["cell"].numpy() for entry in full])
            pbc = np.concatenate([entry["pbc"].numpy() for entry in full])
        return FrameDataset(
            FrameArrays(
                z=joined("z"),
                pos=joined("pos"),
                offset=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
                energy=joined("energy"),
                forces=joined("forces"),
                stress=joined("stress"),
                dipole=joined("dipole"),
                cell=cell,
                pbc=pbc,
            ),
            name=self.title,
            energy_unit=self.energy_unit,
            source=self.source,
            digest=self.digest,
            level_of_theory=self.level_of_theory,
            isolated_energies=self.isolated_energies,
            dipole_unit=self.dipole_unit,
        )

    @property
    def source(self) -> str:
        """The file, for messages."""
        return str(self.path)

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return file_digest(self.path)

    @property
    def isolated_energies(self) -> dict[int, float]:
        """Energies of single atoms, from frames with ``config_type=IsolatedAtom``."""
        found: dict[int, float] = {}
        if "energy" not in self.names:
            return found
        for idx in range(self.len()):
            if self._index is not None and self._index.atoms[idx] != 1:
                continue
            frame = self.parsed(idx)
            if frame.info.get("config_type", "").lower() == "isolatedatom":
                arrays = self._arrays(idx)
                if arrays.energy is not None:
                    element, energy = int(arrays.z[0]), float(arrays.energy[0])
                    if found.setdefault(element, energy) != energy:
                        raise self._fail(
                            idx, f"another energy of the isolated atom {element}"
                        )
        return found

    def _whole(self) -> FrameDataset:
        """All frames of the file; read once."""
        if self._memory is None:
            self._memory = self._gathered(range(self.len()))
        return self._memory

    def _rows(self) -> Tensor:
        return torch.tensor(list(self.indices()), dtype=torch.int64)

    @property
    def species(self) -> tuple[int, ...]:
        """Atomic numbers that occur anywhere in the file, ascending; reads it all."""
        return self._whole().species

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of what every frame holds; reads the file."""
        return self._whole().fields

    @property
    def force_unit(self) -> str | None:
        """Unit of the forces."""
        return None if self.energy_unit is None else f"{self.energy_unit}/Angstrom"

    def compositions(self) -> list[dict[str, int]]:
        """As :meth:`FrameDataset.compositions`, of the frames of this (sub)set."""
        return independent_compositions(self.element_counts(), self.species)

    @property
    def energies(self) -> Tensor:
        """Energies of the frames of this (sub)set ``[n]``, float64; reads them all.

        Raises:
            ConfigError: The energies are left out.
        """
        return self._whole().energies[self._rows()]

    @property
    def values(self) -> Tensor:
        """The energies as a column ``[n, 1]``, as property sets have them."""
        return self.energies[:, None]

    def element_counts(self) -> Tensor:
        """How often each of :attr:`species` occurs in each frame ``[n, S]``."""
        return self._whole().element_counts()[self._rows()]

    def describe(self) -> str:
        """Size, elements, units, level of theory, source and digest as text."""
        whole = self._whole()
        sizes = (whole.slices["z"][1:] - whole.slices["z"][:-1])[self._rows()]
        return describe_rows(
            self.title,
            {
                "structures": f"{len(self):,}",
                "atoms each": sizes_text(sizes.tolist()),
                "elements": species_text(self.species),
                "fields": ", ".join(whole.fields),
                "energies": self.energy_unit or "none",
                **({"dipoles": self.dipole_unit} if "dipole" in self.names else {}),
                "level of theory": self.level_of_theory,
                "source": self.source,
                "SHA-256": self.digest,
            },
        )


def _factors(
    units: Mapping[str, str] | None, unit: str, dipole_unit: str
) -> dict[str, float]:
    given = dict(units or {})
    unknown = sorted(set(given) - set(FILE_UNITS))
    if unknown:
        raise ConfigError(
            f"units: {unknown[0]!r} is not one of {', '.join(FILE_UNITS)}"
        )
    energy = given.setdefault("energy", FILE_UNITS["energy"])
    length = given.setdefault("pos", FILE_UNITS["pos"])
    # The others follow, unless they are given too.
    given.setdefault("forces", f"{energy}/{length}")
    given.setdefault("stress", f"{energy}/{length}^3")
    given.setdefault("virial", energy)
    given.setdefault("dipole", f"e*{length}")
    wanted = {
        "pos": "Angstrom",
        "energy": unit,
        "forces": f"{unit}/Angstrom",
        "stress": f"{unit}/Angstrom^3",
        "virial": unit,
        "dipole": dipole_unit,
    }
    return {field: unit_factor(given[field], wanted[field]) for field in FILE_UNITS}


def _tensor(values: Floats, key: str) -> Floats:
    """Nine numbers of a stress or virial, row by row."""
    if values.shape == (6,):
        return np.asarray(values[_VOIGT])
    if values.shape == (9,) and key in COLUMN_BY_COLUMN:
        return np.asarray(values.reshape(3, 3).T.reshape(9))
    return values


def _cell_fields(arrays: FrameArrays) -> dict[str, Tensor]:
    """Cell and directions, zeros and ``False`` for a frame without."""
    cell = np.zeros((1, 3, 3)) if arrays.cell is None else arrays.cell
    pbc = np.zeros((1, 3), dtype=bool) if arrays.pbc is None else arrays.pbc
    return {"cell": torch.from_numpy(cell), "pbc": torch.from_numpy(pbc)}
