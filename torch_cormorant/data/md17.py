"""Trajectories of small molecules: MD17 and revised MD17."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from torch_cormorant.data.archives import extract_archive
from torch_cormorant.data.arrays import NpzFile, array_names, read_arrays
from torch_cormorant.data.download import (
    DOWNLOAD,
    Progress,
    RemoteFile,
    fetch_file,
)
from torch_cormorant.data.frame_arrays import Floats, FrameArrays
from torch_cormorant.data.frames import Frames
from torch_cormorant.data.npz import frames_of
from torch_cormorant.data.reference_energies import ReferenceEnergies
from torch_cormorant.data.text import read_text
from torch_cormorant.errors import ConfigError, DataError, nearest

__all__ = ["MD17_FILES", "MD17_MOLECULES", "fetch_md17", "read_md17"]

Reference: TypeAlias = "str | float | Mapping[int, float] | ReferenceEnergies | None"
#: Names of the molecules, PyG's, and their files in revised and original MD17.
MD17_MOLECULES: dict[str, tuple[str, str]] = {
    "aspirin": ("rmd17_aspirin.npz", "md17_aspirin.npz"),
    "azobenzene": ("rmd17_azobenzene.npz", "azobenzene_dft.npz"),
    "benzene": ("rmd17_benzene.npz", "md17_benzene2017.npz"),
    "ethanol": ("rmd17_ethanol.npz", "md17_ethanol.npz"),
    "malonaldehyde": ("rmd17_malonaldehyde.npz", "md17_malonaldehyde.npz"),
    "naphthalene": ("rmd17_naphthalene.npz", "md17_naphthalene.npz"),
    "paracetamol": ("rmd17_paracetamol.npz", "paracetamol_dft.npz"),
    "salicylic acid": ("rmd17_salicylic.npz", "md17_salicylic.npz"),
    "toluene": ("rmd17_toluene.npz", "md17_toluene.npz"),
    "uracil": ("rmd17_uracil.npz", "md17_uracil.npz"),
}
_FORMULAS = {
    "aspirin": "C9H8O4",
    "azobenzene": "C12H10N2",
    "benzene": "C6H6",
    "ethanol": "C2H6O",
    "malonaldehyde": "C3H4O2",
    "naphthalene": "C10H8",
    "paracetamol": "C8H9NO2",
    "salicylic acid": "C7H6O3",
    "toluene": "C7H8",
    "uracil": "C4H4N2O2",
}
# No two of them are alike.
_BY_FORMULA = {formula: molecule for molecule, formula in _FORMULAS.items()}
#: Where they come from. Length and digest of the revised set's archive (figshare
#: article 12672038, version 3) are pinned; nobody publishes any for the original set.
MD17_FILES: dict[str, RemoteFile] = {
    "revised": RemoteFile(
        "rmd17.tar.bz2",
        "https://figshare.com/ndownloader/files/23950376",
        size=1_066_301_513,
        sha256="cddeea2ec2c4b22a9de16a9a65a3eeedac5b29da9c99c20bbff0153912bf922b",
    ),
    "original": RemoteFile(
        "", "https://www.quantum-machine.org/gdml/data/npz/", max_size=1 << 30
    ),
}
_MAX_UNPACKED = 8 << 30
_FIELDS = ("z", "pos", "energy", "forces")
_REVISED = ("nuclear_charges", "coords", "energies", "forces")
_ORIGINAL = ("z", "R", "E", "F")
_SPLIT = re.compile(r"split(\d+)_(train|test)")


def read_md17(
    root: str | os.PathLike[str] | None = None,
    npz: str | os.PathLike[str] | None = None,
    molecule: str | None = None,
    revised: bool = True,
    *,
    unit: str = "kcal/mol",
    reference: Reference = None,
    download: bool = True,
    progress: Progress | None = None,
) -> Frames:
    """Energies and forces along the trajectory of one molecule.

    Revised MD17 (Christensen and von Lilienfeld, *Mach. Learn.: Sci. Technol.* 1,
    045018, 2020): 100,000 frames of the original trajectories recomputed with
    PBE/def2-SVP and tight convergence. Its authors ask not to train on more than 1,000
    frames, as the official splits do. Original MD17 (Chmiela et al., *Sci. Adv.* 3,
    e1603015, 2017) has noisy energies; the Cormorant paper used 50,000 of its frames.

    Energies are totals near -10^5 kcal/mol: float32 knows them in steps of 0.008
    kcal/mol only. They stay float64 here, and so does the subtraction of a reference.

    Args:
        root: Folder laid out as PyG's: ``raw/rmd17/npz_data/rmd17_ethanol.npz`` for
            revised, ``ethanol/raw/md17_ethanol.npz`` for original MD17. The file may
            lie in ``root`` itself, too. What is missing is downloaded (the revised
            set as one archive of 1 GB).
        npz: In place of ``root``: the file.
        molecule: Name as in PyG, ``revised`` before it or not; default ethanol, or
            what the name of the file or else the composition in it says. A file of
            this form with another molecule goes by its own name.
        revised: Which of the two sets, default revised.
        unit: Unit of the energies, forces are per Angstrom; default kcal/mol.
        reference: What to subtract from the energies: ``"mean"`` (of all frames), one
            number, a value per element, or
            :class:`~torch_cormorant.data.ReferenceEnergies`, in ``unit``; default
            nothing. It is kept in ``energy_shift``.
        download: Whether to fetch what is missing.
        progress: Called with the bytes that are there and the length, where known.

    Returns:
        The frames, with the official splits where the source has them.

    Shapes:
        Per frame of N atoms: z ``[N]`` int64, pos ``[N, 3]`` float64 in Angstrom,
        energy ``[1]`` float64, forces ``[N, 3]`` float64.

    Raises:
        DataError: The file is missing, damaged or not understood.
        ConfigError: Unknown molecule, unit or reference, another molecule than that of
            the file, or not exactly one of ``root`` and ``npz``.

    Example:
        >>> read_md17(npz="no_such_file.npz")
        Traceback (most recent call last):
            ...
        torch_cormorant.errors.DataError: no_such_file.npz: no such file
    """
    if (root is None) == (npz is None):
        raise ConfigError("root, npz: give one of them, the folder or the file")
    if npz is not None:
        given = None if molecule is None else _known_molecule(molecule)
        return _read(Path(npz), given, unit, reference)
    name = _known_molecule(molecule or "ethanol")
    if not revised and str(molecule).lower().startswith("revised"):
        raise ConfigError(
            f"molecule, revised: {molecule!r} with revised=False; leave one out"
        )
    folder = Path(str(root)).expanduser()
    path = _find(folder, name, revised)
    if download:
        path = fetch_md17(folder, name, revised, progress)
    elif not path.exists():
        raise DataError(f"{path}: no such file; {DOWNLOAD}")
    return _read(path, None, unit, reference)


def _read(path: Path, given: str | None, unit: str, reference: Reference) -> Frames:
    """The frames of a file, whose name or composition tells the molecule."""
    held = array_names(path)
    revised = "nuclear_charges" in held
    names = dict(zip(_FIELDS, _REVISED if revised else _ORIGINAL, strict=True))
    splits = [name for name in held if _SPLIT.fullmatch(name)]
    texts = ("energy_unit", "force_unit", *splits)
    file = read_arrays(path, tuple(names.values()), texts)
    found = _formula(file, names["z"])
    if given is not None and found != _FORMULAS[given]:
        raise ConfigError(
            f"molecule: {path} holds {found}, but {given!r} is {_FORMULAS[given]}; "
            "leave the molecule out or give its file"
        )
    frames, shift = _in_unit(file, names, unit, reference)
    by_name = {file: name for name, files in MD17_MOLECULES.items() for file in files}
    named = given or by_name.get(path.name) or _BY_FORMULA.get(found)
    title = f"{'revised ' if revised else ''}MD17 {named}"
    theory = "PBE/def2-SVP" if revised else "PBE+TS"
    parts = {name: file.integers(name) for name in splits}
    return Frames(
        frames,
        name=path.stem if named is None else title,
        source=str(path),
        digest=file.digest,
        level_of_theory="unknown" if named is None else theory,
        energy_unit=unit,
        energy_shift=shift,
        splits=_checked(path, parts or _splits_beside(path, len(frames)), len(frames)),
    )


def _in_unit(
    file: NpzFile,
    names: Mapping[str, str],
    unit: str,
    reference: Reference,
) -> tuple[FrameArrays, Floats]:
    """The frames in a unit, and what is subtracted from their energies."""
    frames = frames_of(file, names)
    energy, count = frames.energy, len(frames)
    if energy is None or energy.shape != (count,):
        size = file[names["energy"]].size
        raise file.fail(names["energy"], f"{size} values for {count} frames")
    there = file.text("energy_unit") or "kcal/mol"  # both sets say nothing
    force = file.text("force_unit") or f"{there}/Angstrom"
    factor = file.factor("energy_unit", there, unit)
    if isinstance(reference, str) and reference == "mean":
        level = float(energy.mean()) * factor
    else:
        level = _level(file.integers(names["z"]).tolist(), reference, unit)
    shift = np.full(count, level)
    force_factor = file.factor("force_unit", force, f"{unit}/Angstrom")
    frames = frames.scaled({"forces": force_factor})
    return replace(frames, energy=energy * factor - shift), shift


def _level(elements: list[int], reference: Reference, unit: str) -> float:
    """What is subtracted from the energy of these elements."""
    if reference is None:
        return 0.0
    if isinstance(reference, ReferenceEnergies):
        if reference.unit != unit:
            raise ConfigError(
                f"reference: in {reference.unit}, but the energies are in {unit}"
            )
        constant, per_element = reference.constant, reference.per_element
    elif isinstance(reference, Mapping):
        constant, per_element = 0.0, reference
    elif isinstance(reference, str) or not hasattr(reference, "__float__"):
        plain = isinstance(reference, str)
        given = repr(reference) if plain else f"a {type(reference).__name__}"
        raise ConfigError(
            f"reference: {given} is not understood; give 'mean', a number, values per "
            "element or reference energies"
        )
    else:
        return float(reference)
    missing = sorted(set(elements) - set(per_element))
    if missing:
        raise ConfigError(
            f"reference: no value for atomic number {missing[0]}; there are "
            f"{sorted(per_element)}"
        )
    return constant + sum(per_element[element] for element in elements)


def _known_molecule(name: str) -> str:
    plain = name.lower().replace("_", " ").removeprefix("revised ").strip()
    plain = "salicylic acid" if plain == "salicylic" else plain
    if plain in MD17_MOLECULES:
        return plain
    hint = nearest(plain, MD17_MOLECULES)
    raise ConfigError(
        f"molecule: MD17 has no {name!r}{hint} (there are {', '.join(MD17_MOLECULES)})"
    )


def _formula(file: NpzFile, name: str) -> str:
    """The composition in a file, or ``"other elements"``."""
    numbers = file.integers(name)
    found = "".join(
        f"{symbol}{count if count > 1 else ''}"
        for symbol, z in (("C", 6), ("H", 1), ("N", 7), ("O", 8))
        if (count := int((numbers == z).sum()))
    )
    return found if np.isin(numbers, (1, 6, 7, 8)).all() else "other elements"


def _find(root: Path, molecule: str, revised: bool) -> Path:
    name = MD17_MOLECULES[molecule][0 if revised else 1]
    if (root / name).exists():
        return root / name
    if revised:
        return root / "raw" / "rmd17" / "npz_data" / name
    return root / molecule / "raw" / name


def fetch_md17(
    root: Path,
    molecule: str = "ethanol",
    revised: bool = True,
    progress: Progress | None = None,
) -> Path:
    """Download the file of one molecule, unless it is there.

    Args:
        root: Folder laid out as PyG's.
        molecule: Name as in PyG.
        revised: Whether of revised MD17, whose archive holds all molecules.
        progress: Called with the bytes that are there and the length, where known.

    Returns:
        The file.

    Raises:
        ConfigError: Unknown molecule.
        DataError: The file cannot be had or is not what it should be.
    """
    molecule = _known_molecule(molecule)
    path = _find(root, molecule, revised)
    if path.exists():
        return path
    if not revised:
        known = MD17_FILES["original"]
        remote = RemoteFile(path.name, known.url + path.name, max_size=known.max_size)
        return fetch_file(remote, path.parent, progress=progress)
    raw = path.parents[2]
    archive = fetch_file(MD17_FILES["revised"], raw, progress=progress)
    found = extract_archive(archive, raw, max_bytes=_MAX_UNPACKED)
    if path not in found:
        raise DataError(f"{archive}: does not hold the file of {molecule!r}")
    archive.unlink()
    return path


def _splits_beside(path: Path, count: int) -> dict[str, NDArray[np.int64]]:
    """The official splits from the revised archive's own csv files."""
    found = {}
    folder = path.parent.parent / "splits"
    for file in sorted(folder.glob("index_*_*.csv")):
        kind, number = file.stem.split("_")[1:3]
        try:
            rows = np.array([int(word) for word in read_text(file).split()])
        except ValueError as error:
            raise DataError(f"{file}: cannot be read ({error})") from error
        if len(rows) and (rows.min() < 0 or rows.max() >= count):
            continue  # of the whole trajectory, and this file is a part of it
        found[f"split{int(number):02}_{kind}"] = rows
    return found


def _checked(
    path: Path, splits: Mapping[str, NDArray[np.int64]], count: int
) -> dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Training and test rows by the number of the split."""
    found = {}
    for name, rows in splits.items():
        if len(rows) == 0 or rows.min() < 0 or rows.max() >= count:
            raise DataError(
                f"{path}: {name!r}: expected row numbers from 0 to {count - 1}"
            )
        number, kind = name.removeprefix("split").split("_")
        other = splits.get(f"split{number}_{'test' if kind == 'train' else 'train'}")
        if other is None or (kind == "train" and np.intersect1d(rows, other).size):
            raise DataError(
                f"{path}: {name!r}: frames are in both parts, or one part is missing"
            )
        if kind == "train":
            found[int(number)] = rows, other
    return found
