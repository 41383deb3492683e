"""Trajectories of small molecules: MD17 and revised MD17."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from torch_cormorant.data.archives import extract_archive
from torch_cormorant.data.arrays import NpzFile, npz_names, read_npz
from torch_cormorant.data.download import (
    DOWNLOAD,
    Progress,
    RemoteFile,
    fetch_file,
)
from torch_cormorant.data.frame_checks import Floats, FrameArrays
from torch_cormorant.data.frame_dataset import FrameDataset
from torch_cormorant.data.reference_energies import ReferenceEnergies
from torch_cormorant.data.splits import Split
from torch_cormorant.data.text import read_text
from torch_cormorant.data.units import unit_factor
from torch_cormorant.errors import ConfigError, DataError

__all__ = ["MD17", "MD17_FILES", "MD17_MOLECULES", "fetch_md17"]

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
_REVISED = ("nuclear_charges", "coords", "energies", "forces")
_ORIGINAL = ("z", "R", "E", "F")
_SPLIT = re.compile(r"split(\d+)_(train|test)")


class MD17(FrameDataset):
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

    Shapes:
        Per frame of N atoms: z ``[N]`` int64, pos ``[N, 3]`` float64 in Angstrom,
        energy ``[1]`` float64, forces ``[N, 3]`` float64.

    Raises:
        DataError: The file is missing, damaged or not understood.
        ConfigError: Unknown molecule, unit or reference, another molecule than that of
            the file, or not exactly one of ``root`` and ``npz``.

    Example:
        >>> MD17(npz="no_such_file.npz")
        Traceback (most recent call last):
            ...
        torch_cormorant.errors.DataError: no_such_file.npz: no such file
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        npz: str | os.PathLike[str] | None = None,
        molecule: str | None = None,
        revised: bool = True,
        *,
        unit: str = "kcal/mol",
        reference: str | float | Mapping[int, float] | ReferenceEnergies | None = None,
        download: bool = True,
        progress: Progress | None = None,
    ) -> None:
        if (root is None) == (npz is None):
            raise ConfigError("root, npz: give one of them, the folder or the file")
        if npz is not None:
            path, given = Path(npz), molecule
            asked = _molecule_of(path, given)
        else:
            given, asked = None, _known_molecule(molecule or "ethanol")
            if not revised and str(molecule).lower().startswith("revised"):
                raise ConfigError(
                    f"molecule, revised: {molecule!r} with revised=False; leave one out"
                )
            folder = Path(str(root)).expanduser()
            path = _find(folder, asked, revised)
            if download:
                path = fetch_md17(folder, asked, revised, progress)
            elif not path.exists():
                raise DataError(f"{path}: no such file; {DOWNLOAD}")
        held = npz_names(path)
        revised = "nuclear_charges" in held
        names = _REVISED if revised else _ORIGINAL
        splits = [name for name in held if _SPLIT.fullmatch(name)]
        file = read_npz(path, names, ("energy_unit", "force_unit", *splits))
        frames = _frames(file, *names)
        found = _formula(file, names[0])
        if given is not None and found != _FORMULAS[str(asked)]:
            raise ConfigError(
                f"molecule: {path} holds {found}, but {asked!r} is "
                f"{_FORMULAS[str(asked)]}"
            )
        named = asked or _BY_FORMULA.get(found)
        there = file.text("energy_unit") or "kcal/mol"  # both sets say nothing
        factor = _factor(file, "energy_unit", there, unit)
        force = file.text("force_unit") or f"{there}/Angstrom"
        force_factor = _factor(file, "force_unit", force, f"{unit}/Angstrom")
        shift = _shift(frames, factor, reference, unit)
        if frames.energy is not None and frames.forces is not None:
            frames.forces[:] *= force_factor
            frames = frames.with_energy(frames.energy * factor - shift)
        self.molecule = named or path.stem
        self.revised = revised
        title = f"{'revised ' if revised else ''}MD17 {named}"
        theory = "PBE/def2-SVP" if revised else "PBE+TS"
        super().__init__(
            frames,
            name=path.stem if named is None else title,
            source=str(path),
            digest=file.digest,
            level_of_theory="unknown" if named is None else theory,
            energy_unit=unit,
            energy_shift=shift,
        )
        self._splits = {name: file.integers(name) for name in splits}
        if not splits:
            self._splits = _splits_beside(path, len(frames))
        _check_splits(path, self._splits, len(frames))

    @property
    def official_splits(self) -> tuple[int, ...]:
        """Numbers of the official splits that the source has."""
        found = [_SPLIT.fullmatch(name) for name in self._splits]
        return tuple(sorted({int(match[1]) for match in found if match}))

    def official_split(self, number: int = 1, valid: int = 50) -> Split:
        """One of the official splits of revised MD17: 1,000 frames each.

        Args:
            number: 1 to 5, where the source has them all.
            valid: How many frames, the last of the official training part, choose the
                checkpoint; the rest are trained on. Default 50.

        Returns:
            Row numbers of the three parts.

        Raises:
            ConfigError: There is no such split, or nothing is left to train on.
        """
        if number not in self.official_splits:
            known = ", ".join(map(str, self.official_splits)) or "none"
            raise ConfigError(
                f"number: {self.source} has the official splits {known}, not {number}"
            )
        train = self._splits[f"split{number:02}_train"]
        test = self._splits[f"split{number:02}_test"]
        if not 1 <= valid < len(train):
            raise ConfigError(
                f"valid: {valid} of {len(train)} training frames; take at least 1 and "
                "leave some"
            )
        return Split(train[:-valid], train[-valid:], test, seed=number)


def _known_molecule(name: str) -> str:
    plain = name.lower().replace("_", " ").removeprefix("revised ").strip()
    plain = "salicylic acid" if plain == "salicylic" else plain
    if plain in MD17_MOLECULES:
        return plain
    near = difflib.get_close_matches(plain, MD17_MOLECULES, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ConfigError(
        f"molecule: MD17 has no {name!r}{hint} (there are {', '.join(MD17_MOLECULES)})"
    )


def _molecule_of(path: Path, given: str | None) -> str | None:
    """The molecule that a file is of, by what is given or its name, where known.

    Raises:
        ConfigError: The name says another one than is given.
    """
    asked = None if given is None else _known_molecule(given)
    for molecule, names in MD17_MOLECULES.items():
        if path.name in names:
            if asked not in (None, molecule):
                raise ConfigError(
                    f"molecule: {path} is the file of {molecule!r}, not of {asked!r}; "
                    "leave the molecule out or give its file"
                )
            return molecule
    return asked


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


def _factor(file: NpzFile, name: str, there: str, unit: str) -> float:
    try:
        return unit_factor(there, unit)
    except ConfigError as problem:
        raise file.fail(name, str(problem)) from None


def _frames(file: NpzFile, z: str, pos: str, energy: str, forces: str) -> FrameArrays:
    numbers = file.integers(z)
    atoms = len(numbers)
    shape = file[pos].shape
    if len(shape) != 3 or shape[1:] != (atoms, 3):
        raise file.fail(pos, f"shape {shape}, expected [frames, {atoms}, 3]")
    count = shape[0]
    if file[energy].size != count:
        raise file.fail(energy, f"{file[energy].size} values for {count} frames")
    if file[forces].shape != shape:
        raise file.fail(forces, f"shape {file[forces].shape}, expected {shape}")
    for name in (pos, energy, forces):
        if file[name].dtype.kind != "f":
            raise file.fail(name, f"expected real numbers, found {file[name].dtype}")
    return FrameArrays(
        z=np.tile(numbers, count),
        pos=file[pos].reshape(-1, 3).astype(np.float64),
        offset=np.arange(count + 1) * atoms,
        energy=file[energy].reshape(-1).astype(np.float64),
        forces=file[forces].reshape(-1, 3).astype(np.float64),
    )


def _shift(
    frames: FrameArrays,
    factor: float,
    reference: str | float | Mapping[int, float] | ReferenceEnergies | None,
    unit: str,
) -> Floats:
    count = len(frames)
    if reference is None or frames.energy is None:
        return np.zeros(count)
    if isinstance(reference, str):
        if reference != "mean":
            raise ConfigError(
                f"reference: {reference!r} is not understood; give 'mean', a number, "
                "values per element or reference energies"
            )
        return np.full(count, float(frames.energy.mean()) * factor)
    if isinstance(reference, ReferenceEnergies):
        if reference.unit != unit:
            raise ConfigError(
                f"reference: in {reference.unit}, but the energies are in {unit}"
            )
        constant, per_element = reference.constant, reference.per_element
    elif isinstance(reference, Mapping):
        constant, per_element = 0.0, reference
    else:
        try:
            return np.full(count, float(reference))
        except TypeError:
            raise ConfigError(
                f"reference: a {type(reference).__name__} is not understood; give "
                "'mean', a number, values per element or reference energies"
            ) from None
    one = frames.z[: int(frames.offset[1])].tolist()
    missing = sorted(set(one) - set(per_element))
    if missing:
        raise ConfigError(
            f"reference: no value for atomic number {missing[0]}; there are "
            f"{sorted(per_element)}"
        )
    return np.full(count, constant + sum(per_element[element] for element in one))


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


def _check_splits(
    path: Path, splits: Mapping[str, NDArray[np.int64]], count: int
) -> None:
    for name, rows in splits.items():
        if len(rows) == 0 or rows.min() < 0 or rows.max() >= count:
            raise DataError(
                f"{path}: {name!r}: expected row numbers from 0 to {count - 1}"
            )
        other = splits.get(name.replace("train", "test"))
        if other is None or (name.endswith("train") and set(rows) & set(other)):
            raise DataError(
                f"{path}: {name!r}: frames are in both parts, or one part is missing"
            )
