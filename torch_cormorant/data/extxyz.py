"""Own data: extended XYZ, and whatever else ASE reads, frame by frame."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from torch_cormorant.data.describe import PLAIN_WORDS, Words
from torch_cormorant.data.extxyz_format import (
    COLUMN_BY_COLUMN,
    ParsedFrame,
    numbers_of,
)
from torch_cormorant.data.frame_arrays import Floats, FrameArrays, check_frames
from torch_cormorant.data.frame_file import FrameFile
from torch_cormorant.data.frames import Frames
from torch_cormorant.data.units import unit_factor
from torch_cormorant.errors import ConfigError

__all__ = ["read_extxyz"]

_PER_FRAME_SHAPES = {"energy": 1, "stress": 9, "virial": 9, "dipole": 3}
_VOIGT = [0, 5, 4, 5, 1, 3, 4, 3, 2]


def read_extxyz(
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
    words: Words = PLAIN_WORDS,
) -> Frames:
    """Structures with energies and forces from a file, read frame by frame.

    Extended XYZ (``.extxyz``, ``.xyz``) is read by this package: opening a file only
    finds where the frames are, and remembers it beside large files
    (``.NAME.index.npz``); a frame is read when it is asked for. Compressed files
    (``.xyz.gz``, ``.bz2``, ``.xz``) and every other format, which ASE reads, are read
    once.

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
        words: What arguments are called in messages.

    Returns:
        The frames: ``z``, ``pos`` and what is asked for of ``energy``, ``forces``,
        ``stress`` and ``dipole``; ``cell`` and ``pbc`` if any frame has a cell.
        ``frames.file`` is the :class:`~torch_cormorant.data.FrameFile` behind them.

    Raises:
        DataError: The file is missing or damaged, or a frame lacks a property or holds
            something that is not finite, no element or no cell; file, frame and field
            are named. Frames are looked at when they are read; ``in_memory()`` reads
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
        >>> read_extxyz(path)[0].energy
        tensor([-31.7000], dtype=torch.float64)
    """
    if stress is not None and virial is not None:
        raise ConfigError("stress, virial: give one of them")
    names = {
        "energy": energy,
        "forces": forces,
        "stress": stress,
        "dipole": dipole,
        "virial": virial,
    }
    known = {field: key for field, key in names.items() if key is not None}
    factors = _factors(units, unit, dipole_unit)
    file = FrameFile(path, format, cache=cache)
    return Frames(
        _Reader(file, known, factors, words.missing),
        name=name or file.path.name,
        energy_unit=unit if energy or forces or stress else None,
        source=str(file.path),
        level_of_theory=level_of_theory,
        dipole_unit=dipole_unit if dipole else None,
    )


def _units(energy: str, length: str, dipole: str) -> dict[str, str]:
    """The units of all fields that follow from these."""
    return {
        "pos": length,
        "energy": energy,
        "forces": f"{energy}/{length}",
        "stress": f"{energy}/{length}^3",
        "virial": energy,
        "dipole": dipole,
    }


def _factors(
    units: Mapping[str, str] | None, unit: str, dipole_unit: str
) -> dict[str, float]:
    given = dict(units or {})
    wanted = _units(unit, "Angstrom", dipole_unit)
    unknown = sorted(set(given) - set(wanted))
    if unknown:
        raise ConfigError(f"units: {unknown[0]!r} is not one of {', '.join(wanted)}")
    # ASE's, and the others follow, unless they are given too.
    length = given.get("pos", "Angstrom")
    there = _units(given.get("energy", "eV"), length, f"e*{length}") | given
    return {field: unit_factor(there[field], wanted[field]) for field in wanted}


@dataclass(frozen=True)
class _Reader:
    """Reads what is asked for of a file, in the units that are asked for."""

    file: FrameFile
    names: Mapping[str, str]
    factors: Mapping[str, float]
    advice: str

    def arrays(self, idx: int) -> FrameArrays:
        """One frame, checked; with a cell if any frame of the file has one."""
        frame = self.file.parsed(idx)
        try:
            arrays = self._converted(frame)
        except ValueError as error:
            raise self.file.fail(idx, str(error)) from None
        check_frames(arrays, str(self.file.path), lambda _: f"frame {idx}")
        if not self.file.periodic:
            return replace(arrays, cell=None, pbc=None)
        none = np.zeros((1, 3, 3))
        return replace(arrays, cell=none if arrays.cell is None else arrays.cell)

    def gathered(self, rows: Sequence[int]) -> FrameArrays:
        """Several frames, checked."""
        return FrameArrays.joined([self.arrays(idx) for idx in rows])

    def isolated_energies(self) -> dict[int, float]:
        """Energies of single atoms, from frames with ``config_type=IsolatedAtom``."""
        found: dict[int, float] = {}
        rows = range(len(self.file)) if "energy" in self.names else ()
        for idx in rows:
            if not self.file.single(idx):
                continue
            if self.file.info(idx).get("config_type", "").lower() != "isolatedatom":
                continue
            held = self.arrays(idx).held()
            element, energy = int(held["z"][0]), float(held["energy"][0])
            if found.setdefault(element, energy) != energy:
                raise self.file.fail(
                    idx, f"another energy of the isolated atom {element}"
                )
        return found

    def _converted(self, frame: ParsedFrame) -> FrameArrays:
        found = {
            field: self._property(frame, field, key) * self.factors[field]
            for field, key in self.names.items()
        }
        cell = None if frame.cell is None else frame.cell * self.factors["pos"]
        if "virial" in found:
            volume = 0.0 if cell is None else abs(float(np.linalg.det(cell)))
            if volume == 0:
                raise ValueError(
                    "'virial': a stress from it needs a cell of three vectors"
                )
            found["stress"] = -found.pop("virial") / volume
        if "stress" in found:
            found["stress"] = found["stress"].reshape(1, 3, 3)
        if "dipole" in found:
            found["dipole"] = found["dipole"][None]
        return FrameArrays(
            z=frame.z.copy(),
            pos=frame.pos * self.factors["pos"],
            offset=np.array([0, len(frame.z)]),
            cell=None if cell is None else cell[None],
            pbc=frame.pbc[None].copy(),
            **found,
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
        values, size = numbers_of(frame.info[key], key), _PER_FRAME_SHAPES[field]
        tensor = field in {"stress", "virial"}
        if tensor:
            values = _tensor(values, key)
        if values.shape != (size,):
            raise ValueError(
                f"{key!r}: {len(values)} numbers, expected {size}{' or 6' * tensor}"
            )
        return values


def _tensor(values: Floats, key: str) -> Floats:
    """Nine numbers of a stress or virial, row by row."""
    if values.shape == (6,):
        return np.asarray(values[_VOIGT])
    if values.shape == (9,) and key in COLUMN_BY_COLUMN:
        return np.asarray(values.reshape(3, 3).T.reshape(9))
    return values
