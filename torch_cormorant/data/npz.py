"""Structures with energies and forces from ``.npz`` files of plain arrays."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torch_cormorant.data.arrays import NpzFile, array_names, read_arrays
from torch_cormorant.data.describe import PLAIN_WORDS, Words
from torch_cormorant.data.frame_arrays import PER_FRAME, FrameArrays, check_frames
from torch_cormorant.data.frames import Frames
from torch_cormorant.data.units import same_unit, unit_factor, unit_is_known
from torch_cormorant.errors import ConfigError, CormorantWarning, DataError

__all__ = ["frame_parts", "frames_of", "read_npz"]

_FIELDS = ("energy", "forces", "stress", "dipole")
_SHARED = ("offset", "cell", "pbc", "split")
_TEXTS = ("energy_unit", "force_unit", "length_unit", "units", "level_of_theory")
_ISOLATED = ("isolated_z", "isolated_energy")


def frame_parts(path: str | os.PathLike[str]) -> list[str]:
    """Parts that an ``.npz`` file of frames is divided into.

    Args:
        path: The file.

    Returns:
        The names that :func:`read_npz` takes as ``part``, sorted; empty when the file
        is not divided.

    Raises:
        DataError: The file is missing or damaged.
    """
    names = array_names(path)
    parts = [name.removesuffix("_pos") for name in names if name.endswith("_pos")]
    if parts or "split" not in names:
        return sorted(parts)
    return sorted(set(read_arrays(path, ["split"]).texts("split")))


def read_npz(
    path: str | os.PathLike[str],
    part: str | None = None,
    *,
    unit: str | None = None,
    file_unit: str | None = None,
    name: str | None = None,
    level_of_theory: str | None = None,
    words: Words = PLAIN_WORDS,
) -> Frames:
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
        words: What arguments are called in messages.

    Returns:
        The structures, in memory.

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
        >>> read_npz(path)[4]
        Data(z=[2], pos=[2, 3], energy=[1])
    """
    prefix = _prefix(path, part, words.part)
    pos, own = f"{prefix}pos", {field: f"{prefix}{field}" for field in _FIELDS}
    optional = (*own.values(), *_SHARED, *_TEXTS, *_ISOLATED)
    file = read_arrays(path, ["z", pos], optional)
    frames = frames_of(file, {"z": "z", "pos": pos, **own})
    parts = file.arrays.get("split")
    if part is not None and not prefix:
        check_frames(frames, str(file.path))
        split = np.array(file.texts("split", len(frames)))
        frames, parts = frames.keep(np.flatnonzero(split == part)), None
    length = _stated(file, "pos", "length_unit")
    if length is not None and not same_unit(length, "Angstrom"):
        raise file.fail("pos", f"in {length}, expected Angstrom; convert it")
    stated = _stated(file, "energy", "energy_unit")
    if stated and file_unit and not same_unit(file_unit, stated):
        raise ConfigError(
            f"{words.unit}: {file_unit!r}, but {file.path} says {stated!r}; leave it "
            "out"
        )
    if frames.energy is not None or frames.forces is not None:
        stated = stated or file_unit
        if stated is None:
            raise DataError(
                f"{file.path}: neither 'energy_unit' nor 'units' names the unit of "
                f"the energies; name it, for example {words.unit_advice}"
            )
        _check_unit(file, stated, words.unit if stated == file_unit else None)
        frames = _with_forces_of(file, frames, stated)
    factor = 1.0
    if unit is not None and stated is not None:
        factor = unit_factor(stated, unit)
    label = name or file.path.stem
    return Frames(
        frames.scaled(dict.fromkeys(("energy", "forces", "stress"), factor)),
        name=label if part is None else f"{label}, {part}",
        source=str(file.path),
        digest=file.digest,
        level_of_theory=level_of_theory or file.text("level_of_theory") or "unknown",
        energy_unit=unit or stated,
        isolated_energies=_isolated(file, factor),
        parts=_words_of(parts, len(frames)),
    )


def _words_of(values: NDArray[Any] | None, count: int) -> NDArray[np.str_] | None:
    """A word for each frame; None otherwise: who needs them says so."""
    if values is None or values.dtype.kind != "U" or values.shape != (count,):
        return None
    return values.astype(str)


def _prefix(path: str | os.PathLike[str], part: str | None, argument: str) -> str:
    names = array_names(path)
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
    return frames.scaled({"forces": file.factor("force_unit", forces, wanted)})


def _check_unit(file: NpzFile, stated: str, given: str | None) -> None:
    """Refuse the unit of another quantity; warn of one that is not understood."""
    if not unit_is_known(stated):
        text = (
            f"{file.path}: {stated!r} is not understood as a unit of energy; energies "
            "keep it, and cannot be converted"
        )
        warnings.warn(text, CormorantWarning, stacklevel=3)
        return
    try:
        unit_factor(stated, "eV")
    except ConfigError as problem:
        where = f"{file.path}: {given or 'unit of the energies'}"
        raise ConfigError(
            f"{where}: {stated!r} is none of energy ({problem})"
        ) from None


def frames_of(file: NpzFile, names: Mapping[str, str]) -> FrameArrays:
    """The frames of one system, flat arrays of several, or a single structure.

    Args:
        file: Holds ``names``, and ``offset``, ``cell`` and ``pbc`` under these names.
        names: What ``z``, ``pos`` and, where they are there, ``energy``, ``forces``,
            ``stress`` and ``dipole`` are called in it.

    Returns:
        The frames; how their shapes fit each other is not checked.

    Raises:
        DataError: An array holds no numbers, or ``pos`` does not fit ``z``.
    """
    found: dict[str, NDArray[Any]] = {"z": file.integers(names["z"])}
    found |= {
        field: file.reals(name)
        for field, name in names.items()
        if field != "z" and name in file.arrays
    }
    z, pos = found["z"], found["pos"]
    if pos.ndim == 3 and pos.shape[1:] == (len(z), 3):
        offset = np.arange(len(pos) + 1) * len(z)
        found["z"] = np.tile(z, len(pos))
        if "forces" in found and found["forces"].shape == pos.shape:
            found["forces"] = found["forces"].reshape(-1, 3)
        found["pos"] = pos.reshape(-1, 3)
    elif pos.shape == (len(z), 3):
        whole = "offset" not in file.arrays
        offset = np.array([0, len(z)]) if whole else file.integers("offset")
    else:
        raise file.fail(
            names["pos"],
            f"shape {pos.shape}, expected [frames, {len(z)}, 3] or ({len(z)}, 3)",
        )
    for field, values in found.items():
        # ``[F, 1]`` energies are a common habit.
        row = PER_FRAME.get(field)
        if row is not None and values.ndim == len(row) + 2 and values.shape[1] == 1:
            found[field] = values[:, 0]
    cells = _cells(file, len(offset) - 1)
    return FrameArrays(offset=offset, **found, **cells)


def _cells(file: NpzFile, count: int) -> dict[str, NDArray[Any]]:
    """Cells and periodic directions, where there are any."""
    known = file.arrays.get("pbc")
    if known is not None and (
        known.dtype.kind not in "biu" or known.shape not in {(3,), (count, 3)}
    ):
        raise file.fail(
            "pbc",
            f"expected three truth values, or three per frame, found {known.dtype} of "
            f"shape {known.shape}",
        )
    there = "cell" in file.arrays
    pbc = np.full((count, 3), there)
    if known is not None:
        pbc[:] = known.astype(bool)
    found: dict[str, NDArray[Any]] = {"pbc": pbc} if pbc.any() else {}
    cell = file.reals("cell") if there else np.zeros(0)
    if there and cell.shape != (3, 3):
        found["cell"] = cell
    elif there and found:
        found["cell"] = np.tile(cell, (count, 1, 1))
    return found


def _isolated(file: NpzFile, factor: float) -> dict[int, float]:
    if not set(_ISOLATED) <= set(file.arrays):
        return {}
    elements, energies = file.integers("isolated_z"), file.reals("isolated_energy")
    if energies.shape != elements.shape:
        raise file.fail("isolated_energy", f"expected {len(elements)} energies")
    found: dict[int, float] = {}
    for element, energy in zip(elements.tolist(), energies.tolist(), strict=True):
        if found.setdefault(element, factor * energy) != factor * energy:
            raise file.fail("isolated_energy", f"two for atomic number {element}")
    return found
