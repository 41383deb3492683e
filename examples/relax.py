"""Relax a molecule with a Cormorant potential.

    python examples/relax.py                       # disturbed ethanol, small potential
    python examples/relax.py --model m.safetensors --start molecule.xyz --fmax 0.001

Writes relaxed.xyz, relax.extxyz (all steps) and relax.png to --out.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.io import write as write_atoms
from ase.optimize import BFGS
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from torch_cormorant.errors import CormorantError
from torch_cormorant.interfaces.ase import CormorantCalculator
from torch_cormorant.interfaces.structures import read_atoms

COLORS = {1: "#bbbbbb", 6: "#333333", 8: "#cc3333"}
MODELS = Path(__file__).parent / "models"


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=MODELS / "ethanol.safetensors")
    parser.add_argument("--start", type=Path, default=MODELS / "ethanol.xyz")
    parser.add_argument("--rattle", type=float, default=0.05, help="Angstrom")
    parser.add_argument("--fmax", type=float, default=0.005, help="eV/Angstrom")
    parser.add_argument("--steps", type=int, default=300, help="at most")
    parser.add_argument("--out", type=Path, default=Path("runs/relax"))
    return parser.parse_args(argv)


def plot(
    path: Path, energies: list[float], forces: list[float], first: Atoms, last: Atoms
) -> None:
    """Energy and largest force of every step, and the molecule before and after."""
    figure = Figure(figsize=(8.4, 4.0), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    steps = np.arange(len(energies))
    above = 1000 * (np.array(energies) - min(energies))
    shown = above > 0  # a logarithm knows no zero, which the lowest step has
    left.semilogy(steps[shown], above[shown], color="#1f5fa8")
    left.set_ylabel("energy above the lowest [meV]", color="#1f5fa8")
    other = left.twinx()
    other.semilogy(steps, forces, color="#d9772b")
    other.set_ylabel("largest force [eV/Angstrom]", color="#d9772b")
    left.set_xlabel("step")
    axes = np.linalg.svd(last.positions - last.positions.mean(0))[2][:2]
    for atoms, alpha in ((first, 0.3), (last, 1.0)):
        flat = (atoms.positions - last.positions.mean(0)) @ axes.T
        length = atoms.get_all_distances()
        near = np.triu((length > 0) & (length < 1.7))
        for i, j in zip(*np.nonzero(near), strict=True):
            if atoms.numbers[i] == atoms.numbers[j] == 1:
                continue
            right.plot(*flat[[i, j]].T, color="#777777", alpha=alpha, zorder=1)
        colors = [COLORS.get(z, "#3366cc") for z in atoms.numbers]
        sizes = 40 + 18 * atoms.numbers
        right.scatter(*flat.T, s=sizes, color=colors, alpha=alpha, zorder=2)
    right.set_aspect("equal")
    right.set_axis_off()
    right.set_title("before (pale) and after", fontsize=10)
    figure.savefig(path)


def run(args: argparse.Namespace) -> None:
    """Relax, print, draw."""
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    atoms = read_atoms(args.start)
    atoms.info.clear()  # words of a comment line
    atoms.rattle(args.rattle, seed=0)
    atoms.calc = CormorantCalculator.from_file(args.model, dtype=torch.float64)
    first, energies, forces = atoms.copy(), [], []
    frames = args.out / "relax.extxyz"
    frames.unlink(missing_ok=True)

    def note() -> None:
        energies.append(atoms.get_potential_energy())
        forces.append(float(np.linalg.norm(atoms.get_forces(), axis=1).max()))
        write_atoms(frames, atoms, format="extxyz", append=True)

    with BFGS(atoms, logfile=None) as optimiser:
        optimiser.attach(note)
        done = optimiser.run(fmax=args.fmax, steps=args.steps)
    write_atoms(args.out / "relaxed.xyz", atoms)
    plot(args.out / "relax.png", energies, forces, first, atoms)
    print(
        f"{'relaxed' if done else 'not yet relaxed'} after {len(energies) - 1} steps: "
        f"{energies[0]:.4f} -> {energies[-1]:.4f} eV, largest force {forces[-1]:.4f} "
        f"eV/Angstrom; files in {args.out}"
    )


def main(argv: list[str] | None = None) -> int:
    """Run; a mistake ends in one line."""
    try:
        run(parse(argv))
    except (CormorantError, OSError) as error:
        print(f"relax.py: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
