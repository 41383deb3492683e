"""Relaxations, second derivatives and distances with any potential."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.data import atomic_masses
from ase.optimize import BFGS
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Potential = Callable[[Floats], tuple[float, Floats]]
"""Energy in eV and forces in eV/Angstrom at positions in Angstrom."""
Make = Callable[[Integers], Potential]
"""A potential of these atoms."""

WAVENUMBER = 521.4708983725064  # 1/cm of sqrt(eV / (u Angstrom^2))
STEP = 0.005  # Angstrom


class Called(Calculator):
    """A potential as a calculator of ASE."""

    implemented_properties = ("energy", "forces")

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        self.potential = potential

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Any = ("energy",),
        system_changes: Any = all_changes,
    ) -> None:
        """Energy and forces."""
        super().calculate(atoms, properties, system_changes)
        energy, forces = self.potential(self.atoms.positions.copy())
        self.results = {"energy": energy, "forces": forces}


def relax(
    make: Make, z: Integers, pos: Floats, fmax: float, steps: int
) -> tuple[Floats, float, bool]:
    """Positions and energy at the bottom, and whether it was reached."""
    atoms = Atoms(z, pos, calculator=Called(make(z)))
    with BFGS(atoms, logfile=None) as optimiser:
        done = bool(optimiser.run(fmax=fmax, steps=steps))
    return atoms.positions.copy(), atoms.get_potential_energy(), done


def rmsd(first: Floats, second: Floats) -> float:
    """Root mean square deviation of positions after the best rotation."""
    a, b = first - first.mean(0), second - second.mean(0)
    left, _, right = np.linalg.svd(a.T @ b)
    sign = np.sign(np.linalg.det(left @ right))
    turned = a @ left @ np.diag([1.0, 1.0, sign]) @ right
    return float(np.sqrt(((turned - b) ** 2).sum(1).mean()))


def frequencies(make: Make, z: Integers, pos: Floats) -> Floats:
    """Harmonic wavenumbers in 1/cm, imaginary ones negative, without rigid motion."""
    potential, rows = make(z), []
    for coordinate in range(pos.size):
        step = np.zeros(pos.size)
        step[coordinate] = STEP
        above, below = (
            potential(pos + sign * step.reshape(pos.shape))[1].ravel()
            for sign in (1, -1)
        )
        rows.append((below - above) / (2 * STEP))
    weight = np.repeat(atomic_masses[z], 3) ** -0.5
    found = np.array(rows) * weight * weight[:, None]
    projected = _without_rigid(atomic_masses[z], pos)
    values = np.linalg.eigvalsh(projected.T @ (found + found.T) @ projected / 2)
    return np.asarray(np.sign(values) * np.sqrt(np.abs(values)) * WAVENUMBER)


def _without_rigid(masses: Floats, pos: Floats) -> Floats:
    """Mass-weighted displacements that neither move nor turn the molecule."""
    centred = pos - np.average(pos, axis=0, weights=masses)
    root = np.sqrt(masses)[:, None]
    rigid = [(root * axis).ravel() for axis in np.eye(3)]
    rigid += [(root * np.cross(axis, centred)).ravel() for axis in np.eye(3)]
    vectors, sizes, _ = np.linalg.svd(np.array(rigid).T, full_matrices=True)
    return np.asarray(vectors[:, int((sizes > 1e-6).sum()) :])


def turned(pos: Floats, axis: tuple[int, int], moved: Integers, angle: float) -> Floats:
    """Some atoms turned around a bond, by degrees."""
    start, direction = pos[axis[0]], pos[axis[1]] - pos[axis[0]]
    k, t = direction / np.linalg.norm(direction), np.radians(angle)
    v = pos[moved] - start
    found = pos.copy()
    found[moved] = start + (
        v * np.cos(t)
        + np.cross(k, v) * np.sin(t)
        + np.outer(v @ k, k) * (1 - np.cos(t))
    )
    return found


def spearman(first: Floats, second: Floats) -> float:
    """Rank correlation."""
    ranks = [np.argsort(np.argsort(values)) for values in (first, second)]
    return float(np.corrcoef(*ranks)[0, 1])
