"""Structures with energies and forces from ``.npz`` files of plain arrays."""

from __future__ import annotations

import os
import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from torch_cormorant.data.arrays import NpzFile, npz_names, read_npz
from torch_cormorant.data.frame_checks import Floats, FrameArrays
from torch_cormorant.data.frame_dataset import FrameDataset
from torch_cormorant.data.units import same_unit, unit_factor, unit_is_known
from torch_cormorant.errors import ConfigError, CormorantWarning, DataError

__all__ = ["Frames", "frame_parts"]

_FIELDS = ("energy", "forces", "stress", "dipole")
_SHARED = ("z", "offset", "cell", "pbc", "split")
_TEXTS = ("energy_unit", "force_unit", "length_unit", "units", "level_of_theory")
_ISOLATED = ("isolated_z", "isolated_energy")


def frame_parts(path: str | os.PathLike[str]) -> list[str]:
    """Parts that an ``.npz`` file of frames is divided into.

    Args:
        path: The file.

    Returns:
        The names that :class:`Frames` takes as ``part``, sorted; empty when the file is
        not divided.

    Raises:
        DataError: The file is missing or damaged.
    """
    names = npz_names(path)
    parts = [name.removesuffix("_pos") for name in names if name.endswith("_pos")]
    if parts or "split" not in names:
        return sorted(parts)
    return sorted(set(read_npz(path, ["split"]).texts("split")))


class Frames(FrameDataset):
    """Structures from an ``.npz`` file of plain arrays.

    Three forms are read. Frames of one system: ``z [N]``, ``pos [F, N, 3]`` and, where
    known, ``energy [F]``, ``forces [F, N, 3]``, ``stress [F, 3, 3]``, ``dipole
    [F, 3]``, ``cell`` (``[3, 3]`` or ``[F, 3, 3]``) and ``pbc``. Different systems: the
    same with flat ``z [N]``, ``pos [N, 3]``, ``forces [N, 3]`` and ``offset [F + 1]``.
    A single structure: ``z [N]`` and ``pos [N, 3]`` without ``offset``. A cell without
    ``pbc`` means periodic in all directions.

    A file may be divided into parts, either by prefixes (``train_300K_pos``,
    ``train_300K_energy``, ...) or by a word per frame in ``split [F]``; see
    :func:`frame_parts`.

    Args:
        path: The file.
        part: The part to read; default everything of a file that is not divided by
            prefixes.
        unit: Unit to hand energies out in (forces and stress accordingly); default the
            file's.
        file_unit: Unit of the energies in the file, for files that do not say it in
            ``energy_unit`` or ``units``.
        name: What to call the set in tables; default the name of the file.
        level_of_theory: Likewise for files without ``level_of_theory``.

    Raises:
        DataError: The file is missing, damaged, has no unit or an entry that is not
            understood; file, field and frame are named.
        ConfigError: There is no such part or unit, or the file says another unit.

    Example:
        >>> import numpy as np, pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "h2.npz"
        >>> pos = np.zeros((5, 2, 3))
        >>> pos[:, 1, 2] = np.linspace(0.6, 1.0, 5)
        >>> np.savez(path, z=[1, 1], pos=pos, energy=np.zeros(5), energy_unit="eV")
        >>> Frames(path)[4]
        Data(z=[2], pos=[2, 3], energy=[1])
    """

    #: What arguments are called, for messages.
    unit_name, unit_advice, part_name = "file_unit", "file_unit='eV'", "part"

    def __init__(
        self,
        path: str | os.PathLike[str],
        part: str | None = None,
        *,
        unit: str | None = None,
        file_unit: str | None = None,
        name: str | None = None,
        level_of_theory: str | None = None,
    ) -> None:
        prefix = _prefix(path, part, self.part_name)
        own = [f"{prefix}{field}" for field in _FIELDS]
        file = read_npz(
            path, ["z", f"{prefix}pos"], (*own, *_SHARED[1:], *_TEXTS, *_ISOLATED)
        )
        frames = _frames(file, prefix)
        if part is not None and not prefix:
            words = np.array(file.texts("split", len(frames)))
            frames = frames.keep(np.flatnonzero(words == part))
        length = _stated(file, "pos", "length_unit")
        if length is not None and not same_unit(length, "Angstrom"):
            raise file.fail("pos", f"in {length}, expected Angstrom; convert it")
        stated = _stated(file, "energy", "energy_unit")
        if stated and file_unit and not same_unit(file_unit, stated):
            raise ConfigError(
                f"{self.unit_name}: {file_unit!r}, but {file.path} says {stated!r}; "
                "leave it out"
            )
        if frames.energy is not None or frames.forces is not None:
            stated = stated or file_unit
            if stated is None:
                raise DataError(
                    f"{file.path}: neither 'energy_unit' nor 'units' names the unit of "
                    f"the energies; name it, for example {self.unit_advice}"
                )
            _check_unit(file, stated, self.unit_name if stated == file_unit else None)
            frames = _with_forces_of(file, frames, stated)
        factor = 1.0
        if unit is not None and stated is not None:
            factor = unit_factor(stated, unit)
        label = name or file.path.stem
        super().__init__(
            _scaled(frames, factor),
            name=label if part is None else f"{label}, {part}",
            source=str(file.path),
            digest=file.digest,
            level_of_theory=level_of_theory
            or file.text("level_of_theory")
            or "unknown",
            energy_unit=unit or stated,
            isolated_energies=_isolated(file, factor),
        )


def _prefix(path: str | os.PathLike[str], part: str | None, argument: str) -> str:
    names = npz_names(path)
    prefixed = "pos" not in names and any(name.endswith("_pos") for name in names)
    if part is None and not prefixed:
        return ""
    parts = frame_parts(path)
    if part not in parts:
        asked = "give one" if part is None else f"{part!r} is not one of them"
        there = ", ".join(parts) or "none"
        raise ConfigError(f"{argument}: {Path(path)} has the parts {there}; {asked}")
    return f"{part}_" if prefixed else ""


def _stated(file: NpzFile, field: str, name: str) -> str | None:
    """The unit that a file states, in an array of its own or in its ``units``.

    Raises:
        DataError: Both do, and they differ.
    """
    alone = file.text(name)
    found = re.search(rf"\b{field} ([^\s;,]+)", file.text("units") or "")
    if alone and found and not same_unit(alone, found[1]):
        raise file.fail(name, f"{alone!r}, but 'units' says {found[1]!r} of {field}")
    return alone or (found[1] if found else None)


def _with_forces_of(file: NpzFile, frames: FrameArrays, unit: str) -> FrameArrays:
    """The same with forces in a unit of energy per Angstrom."""
    forces = _stated(file, "forces", "force_unit")
    wanted = f"{unit}/Angstrom"
    if frames.forces is None or forces is None or same_unit(forces, wanted):
        return frames
    try:
        return replace(frames, forces=frames.forces * unit_factor(forces, wanted))
    except ConfigError as problem:
        raise file.fail("force_unit", str(problem)) from None


def _check_unit(file: NpzFile, stated: str, given: str | None) -> None:
    """Refuse the unit of another quantity; warn of one that is not understood."""
    if not unit_is_known(stated):
        text = (
            f"{file.path}: {stated!r} is not understood as a unit of energy; energies "
            "keep it, and cannot be converted"
        )
        warnings.warn(text, CormorantWarning, stacklevel=4)
        return
    try:
        unit_factor(stated, "eV")
    except ConfigError as problem:
        where = f"{file.path}: {given or 'unit of the energies'}"
        raise ConfigError(
            f"{where}: {stated!r} is none of energy ({problem})"
        ) from None


def _reals(file: NpzFile, name: str) -> Floats | None:
    if name not in file.arrays:
        return None
    values = file[name]
    if values.dtype.kind not in "fiu":
        raise file.fail(name, f"expected real numbers, found {values.dtype}")
    return values.astype(np.float64)


def _frames(file: NpzFile, prefix: str) -> FrameArrays:
    z, pos = file.integers("z"), _reals(file, f"{prefix}pos")
    if pos is None:  # read_npz has made sure of it
        raise file.fail(f"{prefix}pos", "missing")
    forces = _reals(file, f"{prefix}forces")
    if pos.ndim == 3 and pos.shape[1:] == (len(z), 3):
        count = len(pos)
        offset = np.arange(count + 1) * len(z)
        z, pos = np.tile(z, count), pos.reshape(-1, 3)
        if forces is not None:
            forces = forces.reshape(-1, 3)
    elif pos.shape == (len(z), 3):
        offset = np.array([0, len(z)])
        if "offset" in file.arrays:
            offset = _offset(file, len(z))
    else:
        raise file.fail(
            f"{prefix}pos",
            f"shape {pos.shape}, expected [frames, {len(z)}, 3] or ({len(z)}, 3)",
        )
    count = len(offset) - 1
    return FrameArrays(
        z=z,
        pos=pos,
        offset=offset,
        energy=_per_frame(file, f"{prefix}energy", ()),
        forces=forces,
        stress=_per_frame(file, f"{prefix}stress", (3, 3)),
        dipole=_per_frame(file, f"{prefix}dipole", (3,)),
        cell=_cell(file, count),
        pbc=_pbc(file, count),
    )


def _per_frame(file: NpzFile, name: str, shape: tuple[int, ...]) -> Floats | None:
    """One entry per frame; ``[F, 1]`` energies are a common habit."""
    values = _reals(file, name)
    if values is not None and values.ndim == len(shape) + 2 and values.shape[1] == 1:
        return values[:, 0]
    return values


def _offset(file: NpzFile, atoms: int) -> NDArray[np.int64]:
    offset = file.integers("offset")
    steps = np.diff(offset)
    if len(offset) < 2 or offset[0] != 0 or offset[-1] != atoms or steps.min() < 1:
        raise file.fail(
            "offset", f"expected to rise from 0 to {atoms} with no empty frame"
        )
    return offset


def _cell(file: NpzFile, count: int) -> Floats | None:
    cell = _reals(file, "cell")
    if cell is None or (cell.shape == (3, 3) and _never_periodic(file)):
        return None
    return np.tile(cell, (count, 1, 1)) if cell.shape == (3, 3) else cell


def _never_periodic(file: NpzFile) -> bool:
    return "pbc" in file.arrays and not file["pbc"].astype(bool).any()


def _pbc(file: NpzFile, count: int) -> NDArray[np.bool_] | None:
    if "pbc" not in file.arrays:
        return np.ones((count, 3), dtype=bool) if "cell" in file.arrays else None
    pbc = file["pbc"]
    if pbc.dtype.kind not in "biu" or pbc.shape not in {(3,), (count, 3)}:
        raise file.fail(
            "pbc",
            f"expected three truth values, or three per frame, found {pbc.dtype} of "
            f"shape {pbc.shape}",
        )
    if not pbc.any():
        return None
    flags = np.zeros((count, 3), dtype=bool)
    flags[:] = pbc.astype(bool)
    return flags


def _scaled(frames: FrameArrays, factor: float) -> FrameArrays:
    def scale(values: Floats | None) -> Floats | None:
        return None if values is None else values * factor

    return FrameArrays(
        z=frames.z,
        pos=frames.pos,
        offset=frames.offset,
        energy=scale(frames.energy),
        forces=scale(frames.forces),
        stress=scale(frames.stress),
        dipole=frames.dipole,
        cell=frames.cell,
        pbc=frames.pbc,
    )


def _isolated(file: NpzFile, factor: float) -> dict[int, float]:
    if not set(_ISOLATED) <= set(file.arrays):
        return {}
    elements, energies = file.integers("isolated_z"), _reals(file, "isolated_energy")
    if energies is None or energies.shape != elements.shape:
        raise file.fail("isolated_energy", f"expected {len(elements)} energies")
    found: dict[int, float] = {}
    for element, energy in zip(elements.tolist(), energies.tolist(), strict=True):
        if found.setdefault(element, factor * energy) != factor * energy:
            raise file.fail("isolated_energy", f"two for atomic number {element}")
    return found
