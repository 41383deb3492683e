"""Own data: extended XYZ, and whatever else ASE reads, frame by frame."""

from __future__ import annotations

import os
from collections.abc import Mapping

from torch_cormorant.data.describe import PLAIN_WORDS, Words
from torch_cormorant.data.frame_file import FrameFile
from torch_cormorant.data.frame_reader import FrameReader
from torch_cormorant.data.frames import Frames
from torch_cormorant.data.units import unit_factor
from torch_cormorant.errors import ConfigError

__all__ = ["read_extxyz"]


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
        Frames with ``z``, ``pos`` and what is asked for of ``energy``, ``forces``,
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
        FrameReader(file, known, factors, words.missing),
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
