"""Frames of the force comparison: energies in eV, forces in eV/Angstrom, and splits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torch_cormorant.data import (
    Frames,
    Split,
    read_md17,
    read_npz,
    split_indices,
)
from torch_cormorant.graph import neighbour_list

Rows = NDArray[np.int64]

VALID = 50
CUTOFF = 5.0
WATER = (80, 10, 40)
"""Training, validation and test frames of water: each is 25 times ethanol."""
MIXED = {"300 K": (0, 167), "600 K": (167, 334), "1,200 K": (334, 500)}
"""Rows of 3BPA's frames of mixed temperature; the energies jump in between."""
SCAN_ATOMS = (0, 1, 2, 3)
"""The dihedral angle C-C-C-O that the scan of acetylacetone turns."""


@dataclass(frozen=True)
class Task:
    """Frames to train on, to look at on the way, and to test on.

    Attributes:
        name: Short name.
        train: Training frames.
        valid: Frames that choose the weights.
        tests: Test frames by name; the first is like the training frames.
        batch: Frames per batch.
        split: Where the split comes from, in words.
        scan: Frames along a path with energies only, and the dihedral angle of each.
    """

    name: str
    train: Frames
    valid: Frames
    tests: dict[str, Frames]
    batch: int
    split: str
    scan: tuple[Frames, list[float]] | None = None

    @property
    def periodic(self) -> bool:
        """Whether the frames have cells."""
        return "cell" in self.train.fields

    def mean_neighbours(self, frames: int = 20) -> float:
        """Neighbours within the cutoff, the mean over atoms of some training frames."""
        edges, atoms = 0, 0
        for frame in self.train[:frames]:
            cell = frame.cell[0] if self.periodic else None
            found, _ = neighbour_list(frame.pos, CUTOFF, cell=cell)
            edges += found.shape[1]
            atoms += len(frame.z)
        return edges / atoms


def md17(molecule: str) -> Callable[[Path], Task]:
    """Revised MD17: official split 1, its last 50 training frames for validation."""

    def load(folder: Path) -> Task:
        data = read_md17(npz=folder / "md17" / f"rmd17_{molecule}.npz", unit="eV")
        split = data.official_split(1, valid=VALID)
        train, valid, test = (data[part] for part in split.parts)
        return Task(molecule, train, valid, {"test": test}, 5, "official split 1")

    return load


def bpa(folder: Path) -> Task:
    """3BPA: trained at 300 K, tested on the frames of mixed temperature."""
    path = folder / "md17" / "extra" / "3bpa.npz"
    data = read_npz(path, "train_300K")
    mixed = read_npz(path, "train_mixedT")
    new = ~_repeated(mixed, data)
    tests = {}
    for name, (start, stop) in MIXED.items():
        tests[name] = mixed[np.flatnonzero(new[start:stop]) + start]
    train, valid = _hold_out(data)
    words = "train_300K; tests are train_mixedT without frames of train_300K"
    return Task("3bpa", train, valid, tests, 5, words)


def acac(folder: Path) -> Task:
    """Acetylacetone: trained at 300 K, tested at 300 and 600 K and on the scan."""
    path = folder / "md17" / "extra" / "acac.npz"
    data = read_npz(path, "train_300K")
    tests = {
        f"{kelvin} K": read_npz(path, f"test_MD_{kelvin}K") for kelvin in (300, 600)
    }
    path_frames = read_npz(path, "test_dihedral")
    angles = [dihedral(frame.pos, SCAN_ATOMS) for frame in path_frames]
    train, valid = _hold_out(data)
    words = "train_300K; tests test_MD_300K, test_MD_600K, test_dihedral"
    return Task("acac", train, valid, tests, 5, words, (path_frames, angles))


def water(folder: Path) -> Task:
    """Liquid water, 64 molecules in a periodic box, 130 of the 400 frames."""
    path = folder / "structures" / "water_192_pbc.npz"
    data = read_npz(path)
    split = split_indices(len(data), *WATER, seed=0)
    return _split_task("water", data, split, 1, "own, seed 0")


def crystal(element: str) -> Callable[[Path], Task]:
    """Cells of one element: the source's test part, own validation cells."""

    def load(folder: Path) -> Task:
        path = folder / "structures" / f"crystal_{element}.npz"
        with np.load(path) as arrays:
            test = np.flatnonzero(arrays["split"] == "test")
            rest = np.flatnonzero(arrays["split"] == "training")
        order = np.random.default_rng(0).permutation(rest)
        split = Split(np.sort(order[20:]), np.sort(order[:20]), test, seed=0)
        data = read_npz(path)
        words = "the source's test part; 20 of its training cells for validation"
        return _split_task(element, data, split, 1, words)

    return load


TASKS: dict[str, Callable[[Path], Task]] = {
    "ethanol": md17("ethanol"),
    "acac": acac,
    "aspirin": md17("aspirin"),
    "3bpa": bpa,
    "Si": crystal("Si"),
    "water": water,
    **{
        name: md17(name)
        for name in ("toluene", "malonaldehyde", "naphthalene", "salicylic", "benzene")
    },
    "Mo": crystal("Mo"),
    "Li": crystal("Li"),
}


def dihedral(pos: Tensor, atoms: tuple[int, int, int, int]) -> float:
    """Dihedral angle of four atoms in degrees, from -180 to 180."""
    a, b, c, d = (pos[atom] for atom in atoms)
    axis = (c - b) / (c - b).norm()
    first = torch.linalg.cross(b - a, axis)
    second = torch.linalg.cross(axis, d - c)
    sine = torch.dot(torch.linalg.cross(first, second), axis)
    return float(torch.rad2deg(torch.atan2(sine, torch.dot(first, second))))


def _split_task(name: str, data: Frames, split: Split, batch: int, words: str) -> Task:
    split.check(len(data))
    train, valid, test = (data[part] for part in split.parts)
    return Task(name, train, valid, {"test": test}, batch, words)


def _hold_out(data: Frames) -> tuple[Frames, Frames]:
    """Training frames, and some of them for validation, by a seeded permutation."""
    order = np.random.default_rng(0).permutation(len(data))
    return data[np.sort(order[VALID:])], data[np.sort(order[:VALID])]


def _repeated(frames: Frames, others: Frames) -> NDArray[np.bool_]:
    """Which frames are among the others, to 1e-4 Angstrom."""
    known = torch.stack([frame.pos for frame in others])
    distances = [(known - frame.pos).abs().amax(dim=(1, 2)).min() for frame in frames]
    found: NDArray[np.bool_] = torch.stack(distances).lt(1e-4).numpy()
    return found
