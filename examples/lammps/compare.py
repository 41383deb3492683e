"""Frames that LAMMPS wrote, by in.water, beside the ASE calculator and one another.

    python examples/lammps/compare.py runs/water_box/model.safetensors runs/lammps [...]

Every folder holds dump.txt and thermo.txt of one run. The first lines say how far its
energies, forces and pressures are from those of the ASE calculator (the network itself,
in double precision) on the same frames; the last ones how far the other runs are from
the first. Forces and pressures are relative to the largest.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.geometry import find_mic
from ase.io import read
from numpy.typing import ArrayLike

from torch_cormorant.errors import CormorantError
from torch_cormorant.interfaces.ase import CormorantCalculator

BAR = 1.6021765e6
"""LAMMPS's own bar in an eV per cubic Angstrom."""


def far(found: ArrayLike, wanted: ArrayLike) -> float:
    """Largest difference over the largest number."""
    wanted = np.asarray(wanted)
    return float(np.abs(np.asarray(found) - wanted).max() / np.abs(wanted).max())


def frames_of(folder: Path) -> tuple[list[Atoms], np.ndarray]:
    """Frames with forces, and rows of step, energy and pressure."""
    frames = read(folder / "dump.txt", index=":", format="lammps-dump-text")
    return frames, np.loadtxt(folder / "thermo.txt", skiprows=1, ndmin=2)


def beside_ase(folder: Path, calculator: CormorantCalculator) -> str:
    """How far a run is from the calculator."""
    frames, rows = frames_of(folder)
    energies, pressures, forces = [], [], 0.0
    for frame in frames:
        atoms = frame.copy()
        atoms.calc = calculator
        energies.append(atoms.get_potential_energy())
        pressures.append(-BAR * atoms.get_stress()[:3].mean())
        forces = max(forces, far(frame.get_forces(), atoms.get_forces()))
    energy = np.abs(rows[:, 1] - energies).max()
    pressure = far(rows[:, 2], pressures)
    return (
        f"{folder}, {len(frames)} frames, from ASE: energy {energy:.1e} eV, "
        f"forces {forces:.1e}, pressure {pressure:.1e}"
    )


def beside_first(folder: Path, first: Path) -> str:
    """How far a run is from another one."""
    (frames, rows), (others, wanted) = frames_of(folder), frames_of(first)
    places, forces = 0.0, 0.0
    for frame, other in zip(frames, others, strict=True):
        apart, _ = find_mic(frame.positions - other.positions, other.cell, True)
        places = max(places, float(np.abs(apart).max()))
        forces = max(forces, far(frame.get_forces(), other.get_forces()))
    energy = np.abs(rows[:, 1] - wanted[:, 1]).max()
    return (
        f"{folder} from {first}: energy {energy:.1e} eV, positions "
        f"{places:.1e} Angstrom, forces {forces:.1e}"
    )


def main(argv: list[str] | None = None) -> int:
    """Run; a mistake ends in one line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="model file")
    parser.add_argument("folders", type=Path, nargs="+", help="of one run each")
    args = parser.parse_args(argv)
    try:
        calculator = CormorantCalculator.from_file(
            args.model, dtype=torch.float64, backend="model"
        )
        for folder in args.folders:
            print(beside_ase(folder, calculator))
        for folder in args.folders[1:]:
            print(beside_first(folder, args.folders[0]))
    except (CormorantError, OSError) as error:
        print(f"compare.py: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
