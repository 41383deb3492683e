"""Starting structures for examples/md_gates.py, from the data of the force comparison.

    python -m benchmarks.dynamics_starts --data DATA --out starts

Writes aspirin.xyz (the test frame of lowest energy, to be relaxed), water_box.extxyz
(the first test frame, periodic) and water_cluster.xyz (the 85 whole molecules nearest
to the centre of eight copies of that box: 255 atoms with a surface).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.geometry import find_mic
from ase.io import write
from torch_geometric.data import Data

from benchmarks.force_data import TASKS
from torch_cormorant.errors import DataError

MOLECULES = 85
BOND = 1.4  # Angstrom: no O-H bond of liquid water is longer


def atoms_of(frame: Data) -> Atoms:
    """A frame as ASE has it."""
    atoms = Atoms(frame.z.numpy(), frame.pos.double().numpy())
    if "cell" in frame:
        atoms.set_cell(frame.cell[0].numpy())
        atoms.pbc = True
    return atoms


def cluster(box: Atoms, molecules: int) -> Atoms:
    """The whole water molecules nearest to the centre of eight copies of a box.

    Args:
        box: Periodic water; atoms of a molecule may lie on different sides.
        molecules: How many.

    Returns:
        Oxygen, hydrogen, hydrogen, molecule by molecule; not periodic.

    Raises:
        DataError: An oxygen atom has no two hydrogen atoms of its own.
    """
    many = box * (2, 2, 2)
    pos, cell = many.positions, many.cell
    oxygen, hydrogen = (np.flatnonzero(many.numbers == z) for z in (8, 1))
    centre = cell.array.sum(0) / 2
    away, distance = find_mic(pos[oxygen] - centre, cell)
    taken, found = set[int](), list[np.ndarray]()
    for k in np.argsort(distance)[:molecules]:
        bonds, length = find_mic(pos[hydrogen] - pos[oxygen[k]], cell)
        near = np.argsort(length)[:2]
        if length[near].max() > BOND or taken & set(near.tolist()):
            raise DataError(f"atom {oxygen[k]} is not the oxygen of a water molecule")
        taken |= set(near.tolist())
        found.append(away[k] + np.array([np.zeros(3), *bonds[near]]))
    return Atoms("OH2" * molecules, np.concatenate(found))


def main(argv: list[str] | None = None) -> None:
    """Write the structures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the arrays")
    parser.add_argument("--out", type=Path, default=Path("starts"))
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    aspirin = TASKS["aspirin"](args.data).tests["test"]
    lowest = int(aspirin.energies.argmin())
    write(args.out / "aspirin.xyz", atoms_of(aspirin[lowest]))
    box = atoms_of(TASKS["water"](args.data).tests["test"][0])
    write(args.out / "water_box.extxyz", box)
    write(args.out / "water_cluster.xyz", cluster(box, MOLECULES))


if __name__ == "__main__":
    main()
