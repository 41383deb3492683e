"""Frames of a molecule away from its minimum."""

from __future__ import annotations

from typing import Any

import numpy as np

from organic_gfn2.gfn2 import Floats, Gfn2, Integers
from organic_gfn2.molecules import Molecule, UnusableError, radii

BOLTZMANN = 8.617333262e-5  # eV/K
ACCELERATION = 9.648533212e-3  # Angstrom/fs^2 of 1 eV/Angstrom on 1 u
TIME_STEP = 1.0  # fs
FRICTION = 0.02  # 1/fs
WARM_UP, STRIDE = 60, 12  # steps
LOOSE = 1.0  # accuracy of the SCF of what is no label
STIFF = 0.0368  # eV/(Angstrom^2 u): softer modes, below 100 / cm, are left alone
DISPLACEMENT = 0.01  # Angstrom
FACTORS = (0.7, 2.2)  # of stretched bonds


def masses(z: Integers) -> Floats:
    """Mean masses in u."""
    return radii(z, "GetAtomicWeight")


def shaken(pos: Floats, rng: np.random.Generator, width: float) -> Floats:
    """Positions with Gaussian noise."""
    return pos + width * rng.normal(size=pos.shape)


def hessian(z: Integers, pos: Floats) -> Floats:
    """Second derivatives from differences of forces, eV/Angstrom^2."""
    potential, rows = Gfn2(z), []
    for coordinate in range(pos.size):
        step = np.zeros(pos.size)
        step[coordinate] = DISPLACEMENT
        above, below = (
            potential(pos + sign * step.reshape(pos.shape), warm=True)[1].ravel()
            for sign in (1, -1)
        )
        rows.append((below - above) / (2 * DISPLACEMENT))
    found = np.array(rows)
    return (found + found.T) / 2


def normal_modes(
    molecule: Molecule, rng: np.random.Generator, count: int
) -> list[Floats]:
    """The geometry itself, and draws of its harmonic modes at 50 to 1,500 K."""
    weight = np.repeat(masses(molecule.z), 3) ** -0.5
    scaled = hessian(molecule.z, molecule.pos) * weight * weight[:, None]
    values, vectors = np.linalg.eigh(scaled)
    stiff = values > STIFF
    shapes = vectors[:, stiff] / np.sqrt(values[stiff]) * weight[:, None]
    frames = [molecule.pos]
    for _ in range(count - 1):
        thermal = BOLTZMANN * rng.uniform(50.0, 1500.0)
        moved = shapes @ rng.normal(size=stiff.sum()) * np.sqrt(thermal)
        frames.append(molecule.pos + moved.reshape(-1, 3))
    return frames


def dynamics(
    z: Integers,
    pos: Floats,
    rng: np.random.Generator,
    count: int,
    temperatures: tuple[float, float] = (300.0, 1000.0),
) -> list[Floats]:
    """The start, and frames of Langevin dynamics (BAOAB) at one temperature."""
    potential = Gfn2(z, LOOSE)
    mass = masses(z)[:, None]
    thermal = BOLTZMANN * rng.uniform(*temperatures) * ACCELERATION / mass
    keep = np.exp(-FRICTION * TIME_STEP)
    velocity = np.sqrt(thermal) * rng.normal(size=pos.shape)
    half = 0.5 * TIME_STEP * ACCELERATION / mass
    frames, pos = [pos], pos.copy()
    kick = half * potential(pos)[1]
    for step in range(1, WARM_UP + STRIDE * (count - 1) + 1):
        velocity += kick
        pos += 0.5 * TIME_STEP * velocity
        noise = np.sqrt((1 - keep**2) * thermal) * rng.normal(size=pos.shape)
        velocity = keep * velocity + noise
        pos += 0.5 * TIME_STEP * velocity
        try:
            kick = half * potential(pos, warm=True)[1]
        except RuntimeError:
            break
        velocity += kick
        if step > WARM_UP and (step - WARM_UP) % STRIDE == 0:
            frames.append(pos.copy())
    return frames


def side(bonds: tuple[tuple[int, int], ...], cut: tuple[int, int]) -> list[int]:
    """Atoms on the second atom's side of a bond; all of them if it is in a ring."""
    reached, last = {cut[1]}, [cut[1]]
    while last:
        atom = last.pop()
        for bond in bonds:
            if atom in bond and bond != cut:
                other = bond[0] + bond[1] - atom
                if other not in reached:
                    reached.add(other)
                    last.append(other)
    return sorted(reached)


def stretched_bonds(
    molecule: Molecule, rng: np.random.Generator, count: int
) -> list[Floats]:
    """One bond longer or shorter, its far side moved as a whole, and some noise."""
    sides = {bond: side(molecule.bonds, bond) for bond in molecule.bonds}
    open_bonds = [bond for bond in sides if bond[0] not in sides[bond]]
    if not open_bonds:
        raise UnusableError("all bonds are in rings")
    frames = []
    for _ in range(count):
        first, second = bond = open_bonds[rng.integers(len(open_bonds))]
        pos = shaken(molecule.pos, rng, rng.uniform(0.0, 0.05))
        pos[sides[bond]] += (pos[second] - pos[first]) * (rng.uniform(*FACTORS) - 1)
        frames.append(pos)
    return frames


def conformers(mol: Any, rng: np.random.Generator) -> list[Floats]:
    """Conformers of MMFF94, the atoms of all but the first shaken a little."""
    places = [conformer.GetPositions() for conformer in mol.GetConformers()]
    return [places[0], *(shaken(p, rng, rng.uniform(0, 0.06)) for p in places[1:])]


def torsion_scan(
    molecule: Molecule, rng: np.random.Generator, count: int
) -> list[Floats]:
    """A turn around one bond in equal steps, the rest relaxed with MMFF94."""
    from rdkit import Chem
    from rdkit.Chem import AllChem

    pattern = Chem.MolFromSmarts("*~[!D1]-!@[!D1]~*")
    found = molecule.mol.GetSubstructMatches(pattern)
    force_field = AllChem.MMFFGetMoleculeProperties(molecule.mol)
    if not found or force_field is None:
        raise UnusableError("nothing to turn")
    atoms = found[rng.integers(len(found))]
    frames, start = [], rng.uniform(0.0, 360.0)
    for angle in start + 360.0 * np.arange(count) / count:
        mol = Chem.Mol(molecule.mol)
        relaxed = AllChem.MMFFGetMoleculeForceField(mol, force_field)
        relaxed.Initialize()
        relaxed.MMFFAddTorsionConstraint(*atoms, False, angle, angle, 100.0)
        relaxed.Minimize(maxIts=300)
        frames.append(mol.GetConformer().GetPositions())
    return frames
