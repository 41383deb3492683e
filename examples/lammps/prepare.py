r"""Model files and structures for the scripts beside this file, which need no Python.

    make lammps-plugin
    python examples/lammps/prepare.py runs/lammps
    cd runs/lammps
    lmp -in in.ethanol                     # NVE, 300 K, the potential of ../models
    mpiexec -n 2 lmp -in in.water          # NPT, random weights
    mpiexec -n 2 lmp -in in.silica         # one frame, random weights

Random weights show that it runs and how fast; what the atoms do means nothing. Water
can have trained ones, two CPU minutes away, and a frame of the liquid to start from:

    cormorant train examples/configs/water_box.yaml --override data.path=FRAMES.npz
    python examples/lammps/prepare.py runs/lammps --frames FRAMES.npz \
        --water runs/water_box/model.safetensors
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.build import molecule
from ase.io import read, write
from ase.spacegroup import crystal

from torch_cormorant import Cormorant, load_model
from torch_cormorant.data import read_npz
from torch_cormorant.errors import CormorantError
from torch_cormorant.interfaces.native import NativePotential

HERE = Path(__file__).parent
PLUGIN = HERE.parents[1] / "build" / "lammps"
SIDE = 3.11  # Angstrom along the box for each molecule of liquid water


def ethanol() -> Atoms:
    """One molecule in the middle of a large box."""
    atoms = read(HERE.parent / "models" / "ethanol.xyz")
    atoms.set_cell(20 * np.eye(3))
    atoms.center()
    return atoms


def water(count: int = 4) -> Atoms:
    """Molecules on a lattice, turned at random, as dense as the liquid."""
    random = np.random.default_rng(0)
    atoms = Atoms(cell=SIDE * count * np.eye(3), pbc=True)
    for place in np.ndindex(count, count, count):
        one = molecule("H2O")
        one.euler_rotate(*random.uniform(0, 360, size=3))
        one.positions += SIDE * (np.array(place) + 0.5) - one.get_center_of_mass()
        atoms += one
    return atoms


def silica(repeats: int = 2) -> Atoms:
    """Beta-cristobalite, its atoms moved a little."""
    atoms = crystal(
        ["Si", "O"],
        [(0, 0, 0), (0.125, 0.125, 0.125)],
        spacegroup=227,
        cellpar=[7.16, 7.16, 7.16, 90, 90, 90],
    ).repeat(repeats)
    atoms.rattle(0.05, seed=0)
    return atoms


def random_model(species: list[int]) -> Cormorant:
    """A small potential as it is before training."""
    torch.manual_seed(0)
    return Cormorant.potential(species, channels=8, num_levels=2, cutoff=4.0)


def liquid(path: Path) -> Atoms:
    """The first frame of a file of arrays."""
    frame = read_npz(path)[0]
    cell = frame.cell[0].numpy()
    return Atoms(frame.z.numpy(), frame.pos.numpy(), cell=cell, pbc=True)


SYSTEMS = {
    "ethanol": (ethanol, ["H", "C", "O"], [1, 6, 8]),
    "water": (water, ["H", "O"], [1, 8]),
    "silica": (silica, ["O", "Si"], [8, 14]),
}


def prepare(out: Path, weights: dict[str, Path], frames: Path | None = None) -> None:
    """Write everything into a folder.

    Args:
        out: The folder.
        weights: Model files by system; the others have random weights.
        frames: Where water starts. Default: molecules on a lattice.
    """
    out.mkdir(parents=True, exist_ok=True)
    for name, (make, order, species) in SYSTEMS.items():
        path = weights.get(name)
        model = load_model(path) if path else random_model(species)
        NativePotential(model.double()).save(out / f"{name}.cormorant")
        atoms = liquid(frames) if frames and name == "water" else make()
        data = out / f"{name}.data"
        write(data, atoms, format="lammps-data", specorder=order, masses=True)
        shutil.copy(HERE / f"in.{name}", out)
    for library in PLUGIN.glob("*.so"):
        shutil.copy(library, out)


def main(argv: list[str] | None = None) -> int:
    """Run; a mistake ends in one line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder, such as runs/lammps")
    parser.add_argument("--water", type=Path, help="model file")
    parser.add_argument("--frames", type=Path, help=".npz whose first frame is liquid")
    args = parser.parse_args(argv)
    weights = {"ethanol": HERE.parent / "models" / "ethanol.safetensors"}
    if args.water:
        weights["water"] = args.water
    try:
        prepare(args.out, weights, args.frames)
    except (CormorantError, OSError) as error:
        print(f"prepare.py: error: {error}", file=sys.stderr)
        return 2
    if not (args.out / "cormorantplugin.so").exists():
        print("there is no plugin yet: make lammps-plugin", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
