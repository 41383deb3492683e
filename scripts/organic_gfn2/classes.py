"""Classes of structures: how many, of how many frames, and how each is made."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from organic_gfn2 import distort, molecules, together
from organic_gfn2.gfn2 import Floats, Integers

QM9_SIZE = (5, 20)
MEDIUM, BIG = (20, 40), (41, 60)  # atoms
WATER = "O"

Rng = np.random.Generator


@dataclass(frozen=True)
class Structure:
    """Frames of one composition.

    ``name``: SMILES of its molecules, sorted and joined by dots.
    """

    name: str
    z: Integers
    frames: list[Floats]


@dataclass(frozen=True)
class Request:
    """Which structure is asked for: its number, frames, random numbers, QM9's file."""

    number: int
    frames: int
    rng: Rng
    qm9: Path


def _modes(request: Request, molecule: molecules.Molecule) -> Structure:
    frames = distort.normal_modes(molecule, request.rng, request.frames)
    return Structure(molecule.name, molecule.z, frames)


def _hot(request: Request, molecule: molecules.Molecule) -> Structure:
    z, pos = molecule.z, molecule.pos
    frames = distort.dynamics(z, pos, request.rng, request.frames)
    return Structure(molecule.name, z, frames)


def _stretched(request: Request, molecule: molecules.Molecule) -> Structure:
    frames = distort.stretched_bonds(molecule, request.rng, request.frames)
    return Structure(molecule.name, molecule.z, frames)


def _qm9(request: Request) -> molecules.Molecule:
    return molecules.qm9(request.qm9, request.rng)


def _drawn(request: Request, atoms: tuple[int, int]) -> molecules.Molecule:
    name = molecules.drawn(request.rng, atoms, rare=atoms == QM9_SIZE)
    return molecules.built(name, request.rng)


def qm9_modes(request: Request) -> Structure:
    """Molecules of QM9, normal modes."""
    return _modes(request, _qm9(request))


def qm9_dynamics(request: Request) -> Structure:
    """Molecules of QM9, hot dynamics."""
    return _hot(request, _qm9(request))


def qm9_bonds(request: Request) -> Structure:
    """Molecules of QM9, one bond stretched or compressed."""
    return _stretched(request, _qm9(request))


def small_modes(request: Request) -> Structure:
    """Drawn molecules of QM9's size that hold F, S or Cl, normal modes."""
    return _modes(request, _drawn(request, QM9_SIZE))


def small_dynamics(request: Request) -> Structure:
    """The same, hot dynamics."""
    return _hot(request, _drawn(request, QM9_SIZE))


def small_bonds(request: Request) -> Structure:
    """The same, one bond stretched or compressed."""
    return _stretched(request, _drawn(request, QM9_SIZE))


def medium_conformers(request: Request) -> Structure:
    """Drawn molecules of 20 to 40 atoms, conformers."""
    name = molecules.drawn(request.rng, MEDIUM)
    mol = molecules.embedded(name, request.rng, request.frames)
    return Structure(name, molecules.numbers(mol), distort.conformers(mol, request.rng))


def medium_dynamics(request: Request) -> Structure:
    """Drawn molecules of 20 to 40 atoms, hot dynamics."""
    return _hot(request, _drawn(request, MEDIUM))


def medium_torsions(request: Request) -> Structure:
    """Drawn molecules of 20 to 40 atoms, a turn around a bond."""
    molecule = _drawn(request, MEDIUM)
    frames = distort.torsion_scan(molecule, request.rng, request.frames)
    return Structure(molecule.name, molecule.z, frames)


def big_dynamics(request: Request) -> Structure:
    """Drawn molecules of 41 to 60 atoms, hot dynamics."""
    return _hot(request, _drawn(request, BIG))


def _names(rng: Rng, count: int) -> list[str]:
    """Small molecules, every third one water."""
    return [
        WATER if rng.random() < 1 / 3 else str(rng.choice(molecules.SMALL))
        for _ in range(count)
    ]


def _many(names: list[str], rng: Rng) -> tuple[str, list[molecules.Molecule]]:
    """What they are called together, and the molecules."""
    parts = [molecules.built(str(molecules.canonical(name)), rng) for name in names]
    return ".".join(sorted(part.name for part in parts)), parts


def dimers(request: Request) -> Structure:
    """Two small molecules in one orientation at many distances."""
    rng = request.rng
    name, (first, second) = _many(_names(rng, 2), rng)
    frames = together.dimer_scan(first, second, rng, request.frames)
    return Structure(name, np.concatenate([first.z, second.z]), frames)


def _cluster(request: Request, names: list[str]) -> Structure:
    name, parts = _many(names, request.rng)
    z = np.concatenate([part.z for part in parts])
    pos = together.packed(parts, request.rng)
    temperatures = (100.0, 500.0)
    frames = distort.dynamics(z, pos, request.rng, request.frames, temperatures)
    return Structure(name, z, frames)


def water_clusters(request: Request) -> Structure:
    """Two to seven molecules of water, dynamics at 100 to 500 K."""
    return _cluster(request, [WATER] * int(request.rng.integers(2, 8)))


def mixed_clusters(request: Request) -> Structure:
    """Two to four small molecules, dynamics at 100 to 500 K."""
    count = int(request.rng.integers(2, 5))
    return _cluster(request, _names(request.rng, count))


def big_clusters(request: Request) -> Structure:
    """Eight to twelve molecules of water, or five to six small ones."""
    rng = request.rng
    if rng.random() < 0.5:
        return _cluster(request, [WATER] * int(rng.integers(8, 13)))
    return _cluster(request, _names(rng, int(rng.integers(5, 7))))


def atoms(request: Request) -> Structure:
    """Isolated atoms."""
    z = np.array(molecules.ELEMENTS)[[request.number]]
    return Structure(f"[{z[0]}]", z, [np.zeros((1, 3))])


def diatomics(request: Request) -> Structure:
    """All pairs of elements, from 0.7 of a bond to 5 Angstrom."""
    pairs = itertools.combinations_with_replacement(molecules.ELEMENTS, 2)
    z = np.array(list(pairs)[request.number])
    nearest = 0.7 * molecules.radii(z).sum()
    apart = np.geomspace(nearest, 5.0, request.frames)
    frames = [np.array([[0.0, 0, 0], [0, 0, r]]) for r in apart]
    return Structure(f"[{z[0]}][{z[1]}]", z, frames)


@dataclass(frozen=True)
class Kind:
    """A class: who makes a structure of it, how many, and frames of each."""

    make: Callable[[Request], Structure]
    structures: int
    frames: int
    chunk: int = 50
    whole: bool = False
    """Made as a whole at any scale."""
    held_out: bool = False


CLASSES = {
    kind.make.__name__: kind
    for kind in (
        Kind(atoms, 7, 1, whole=True),
        Kind(diatomics, 28, 40, whole=True),
        Kind(qm9_modes, 1800, 10),
        Kind(qm9_dynamics, 2000, 10),
        Kind(qm9_bonds, 600, 10),
        Kind(small_modes, 800, 10),
        Kind(small_dynamics, 1200, 10),
        Kind(small_bonds, 400, 10),
        Kind(medium_conformers, 1000, 5),
        Kind(medium_dynamics, 1200, 10, 25),
        Kind(medium_torsions, 350, 24, 25),
        Kind(dimers, 1000, 10),
        Kind(water_clusters, 300, 10),
        Kind(mixed_clusters, 400, 10),
        Kind(big_dynamics, 100, 10, 10, held_out=True),
        Kind(big_clusters, 100, 10, 10, held_out=True),
    )
}
