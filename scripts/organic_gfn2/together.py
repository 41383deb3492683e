"""Several molecules at many distances."""

from __future__ import annotations

import numpy as np

from organic_gfn2.distort import shaken
from organic_gfn2.gfn2 import Floats
from organic_gfn2.molecules import Molecule, radii

FAR = 16.0  # Angstrom: where a molecule comes from
NOISE = 0.03  # Angstrom


def turned(pos: Floats, rng: np.random.Generator) -> Floats:
    """Turned at random around the centre, which goes to the origin."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    q[0] *= np.linalg.det(q)
    return (pos - pos.mean(0)) @ q.T


def tightness(
    first: Floats, first_radii: Floats, second: Floats, second_radii: Floats
) -> float:
    """Smallest distance in units of the sum of van der Waals radii."""
    apart = np.linalg.norm(first[:, None] - second[None], axis=-1)
    return float((apart / (first_radii[:, None] + second_radii)).min())


def approached(
    fixed: tuple[Floats, Floats],
    moving: tuple[Floats, Floats],
    direction: Floats,
    wanted: float,
) -> Floats:
    """The second molecule moved in from far away until it is as tight as wanted."""
    low, high = 0.0, FAR + np.linalg.norm(fixed[0], axis=1).max()
    for _ in range(30):
        middle = (low + high) / 2
        near = tightness(*fixed, moving[0] + middle * direction, moving[1]) < wanted
        low, high = (middle, high) if near else (low, middle)
    return moving[0] + high * direction


def direction(rng: np.random.Generator) -> Floats:
    """A direction at random."""
    vector = rng.normal(size=3)
    return np.asarray(vector / np.linalg.norm(vector))


def _ready(molecule: Molecule, rng: np.random.Generator) -> tuple[Floats, Floats]:
    pos = turned(shaken(molecule.pos, rng, NOISE), rng)
    return pos, radii(molecule.z, "GetRvdw")


def dimer_scan(
    first: Molecule, second: Molecule, rng: np.random.Generator, count: int
) -> list[Floats]:
    """Two molecules in one orientation, from pressed together to far apart.

    Two in five frames have less than 0.9 of the contact of van der Waals radii, where
    hydrogen bonds are; the farthest three times as much.
    """
    fixed, moving = _ready(first, rng), _ready(second, rng)
    way = direction(rng)
    bounds = ((0.5, 0.9), (0.9, 1.2), (1.2, 3.0))
    frames = []
    for which in rng.choice(3, size=count, p=(0.4, 0.3, 0.3)):
        wanted = rng.uniform(*bounds[which])
        moved = approached(fixed, moving, way, wanted)
        frames.append(np.concatenate([fixed[0], moved]))
    return frames


def packed(molecules: list[Molecule], rng: np.random.Generator) -> Floats:
    """Molecules around each other, each as near as hydrogen bonds or a bit farther."""
    pos, size = _ready(molecules[0], rng)
    for molecule in molecules[1:]:
        moving, wanted = _ready(molecule, rng), rng.uniform(0.7, 1.1)
        moved = approached((pos, size), moving, direction(rng), wanted)
        pos = np.concatenate([pos, moved])
        size = np.concatenate([size, moving[1]])
        pos = pos - pos.mean(0)
    return pos
