"""Make torch_cormorant/data/ethanol_xtb.npz: ethanol with energies and forces.

Embeds the molecule with RDKit, heats it with Langevin dynamics (ASE) on the potential
of GFN2-xTB (tblite) and stores a frame every 20 steps of 0.5 fs, after 1 ps to warm up.
Positions are relative to the mean of the atoms. Positions and forces are kept in steps
of 1e-5. About ten minutes on one core.

    pip install rdkit ase tblite
    python scripts/generate_mini_ethanol.py ethanol_xtb.npz
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

# One thread: more are slower on nine atoms, and sums would change their last bit.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from torch_cormorant.data.fixed_point import in_steps

STEP = 0.5  # fs
FRICTION = 0.01  # 1 / fs
WARM_UP = 2000  # steps
EMBEDDING_SEED = 7


def molecule(smiles: str) -> Any:
    """The molecule at a first geometry, with GFN2-xTB as its calculator."""
    from ase import Atoms
    from rdkit import Chem
    from rdkit.Chem import AllChem
    from tblite.ase import TBLite

    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    AllChem.EmbedMolecule(mol, randomSeed=EMBEDDING_SEED)
    numbers = [atom.GetAtomicNum() for atom in mol.GetAtoms()]
    atoms = Atoms(numbers, mol.GetConformer().GetPositions())
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    return atoms


def trajectory(
    atoms: Any, frames: int, stride: int, temperature: float, seed: int
) -> dict[str, np.ndarray]:
    """Positions, energies and forces along the dynamics."""
    from ase import units
    from ase.md.langevin import Langevin
    from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

    rng = np.random.default_rng(seed)
    MaxwellBoltzmannDistribution(atoms, temperature_K=temperature, rng=rng)
    dynamics = Langevin(
        atoms,
        STEP * units.fs,
        temperature_K=temperature,
        friction=FRICTION / units.fs,
        rng=rng,
    )
    dynamics.run(WARM_UP)
    pos, energy, forces = [], [], []
    for _ in range(frames):
        dynamics.run(stride)
        pos.append(atoms.get_positions() - atoms.get_positions().mean(0))
        energy.append(atoms.get_potential_energy())
        forces.append(atoms.get_forces())
    return {
        "z": atoms.numbers.astype(np.uint8),
        "pos": np.array(pos),
        "energy": np.array(energy),
        "forces": np.array(forces),
    }


def write(out: Path, arrays: dict[str, np.ndarray], smiles: str, level: str) -> None:
    """The file, positions and forces rounded to steps of 1e-5."""
    stored = {name: arrays[name] for name in ("z", "energy")}
    for name in ("pos", "forces"):
        stored |= in_steps(name, arrays[name])
    np.savez_compressed(
        out,
        **stored,
        smiles=np.array(smiles),
        level_of_theory=np.array(level),
        units=np.array("pos 1e-5 Angstrom; energy eV; forces 1e-5 eV/Angstrom"),
    )


def main() -> None:
    """Read the command line, run, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--smiles", default="CCO")
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--stride", type=int, default=20, help="steps between frames")
    parser.add_argument("--temperature", type=float, default=500.0, help="K")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    arrays = trajectory(
        molecule(args.smiles), args.frames, args.stride, args.temperature, args.seed
    )
    apart = args.stride * STEP
    level = f"GFN2-xTB, Langevin {args.temperature:g} K, frames {apart:g} fs apart"
    write(args.out, arrays, args.smiles, level)
    print(f"{args.out}: {args.frames} frames of {args.smiles}, {level}")


if __name__ == "__main__":
    main()
