"""Frames of ethanol that 500 K never shows, with energies and forces by GFN2-xTB.

    python scripts/generate_hot_ethanol.py examples/models/ethanol_hot.npz

Langevin dynamics at 1,000 and 2,000 K, and frames of 1,000 K with one bond shortened or
stretched. A potential that never saw a stretched bond lets atoms go at 1,000 K: with
these it knows how the energy rises. Needs tblite; some minutes of one core.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
from ase import Atoms, units
from ase.io import read
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from numpy.typing import NDArray
from tblite.ase import TBLite

START = Path(__file__).parents[1] / "examples" / "models" / "ethanol.xyz"
BOND = 1.7  # Angstrom: longest heavy-atom bond of the start
HYDROGEN_BOND = 1.25
FACTORS = (0.7, 2.5)
RUNS = ((1000.0, 400, 40), (2000.0, 500, 20))  # K, frames, steps between them
STRETCHED = 40  # frames for each bond


def bonds_of(atoms: Atoms) -> list[tuple[int, int]]:
    """Pairs of bonded atoms."""
    distance = atoms.get_all_distances()
    found = []
    for i in range(len(atoms)):
        for j in range(i + 1, len(atoms)):
            light = 1 in (atoms.numbers[i], atoms.numbers[j])
            if distance[i, j] < (HYDROGEN_BOND if light else BOND):
                found.append((i, j))
    return found


def side(bonds: list[tuple[int, int]], cut: tuple[int, int]) -> list[int]:
    """Atoms on the second atom's side of a bond."""
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


def dynamics(
    atoms: Atoms, run: tuple[float, int, int], rng: np.random.Generator
) -> list[NDArray[np.float64]]:
    """Positions along a run."""
    temperature, frames, stride = run
    MaxwellBoltzmannDistribution(atoms, temperature_K=temperature, rng=rng)
    moving = Langevin(
        atoms,
        0.5 * units.fs,
        temperature_K=temperature,
        friction=0.01 / units.fs,
        rng=rng,
    )
    moving.run(1000)
    found = []
    for _ in range(frames):
        moving.run(stride)
        found.append(atoms.get_positions() - atoms.get_positions().mean(0))
    return found


def stretched(
    bonds: list[tuple[int, int]],
    frames: list[NDArray[np.float64]],
    rng: np.random.Generator,
) -> list[NDArray[np.float64]]:
    """Frames with one bond of another length, its far side moved as a whole."""
    found = []
    for bond in bonds:
        moved = side(bonds, bond)
        for _ in range(STRETCHED):
            pos = frames[rng.integers(len(frames))].copy()
            vector = pos[bond[1]] - pos[bond[0]]
            pos[moved] += vector * (rng.uniform(*FACTORS) - 1)
            found.append(pos - pos.mean(0))
    return found


def main() -> None:
    """Generate, label, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    atoms = read(START)
    bonds = bonds_of(atoms)
    calculator = TBLite(method="GFN2-xTB", verbosity=0)
    atoms.calc = calculator
    hot = [dynamics(atoms, run, rng) for run in RUNS]
    frames = [*hot[0], *hot[1], *stretched(bonds, hot[0], rng)]
    kinds = [*(f"{run[0]:g} K" for run in RUNS), "stretched"]
    counts = [*map(len, hot), len(bonds) * STRETCHED]
    energies, forces = [], []
    for pos in frames:
        atoms.positions = pos
        energies.append(atoms.get_potential_energy())
        forces.append(atoms.get_forces())
    np.savez_compressed(
        given.out,
        z=atoms.numbers.astype(np.uint8),
        pos=np.array(frames),
        energy=np.array(energies),
        forces=np.array(forces).astype(np.float32),
        kind=np.repeat(kinds, counts),
        level_of_theory=np.array("GFN2-xTB"),
        units=np.array("pos Angstrom; energy eV; forces eV/Angstrom"),
    )
    print(f"{len(frames)} frames, energies {np.ptp(energies):.2f} eV wide")


if __name__ == "__main__":
    main()
