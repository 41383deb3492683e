"""Molecular dynamics with a Cormorant potential: NVE or Langevin, with ASE.

    python examples/md.py                                   # ethanol, NVE, 300 K
    python examples/md.py --ensemble langevin --temperature 1000 --ps 10
    python examples/md.py --model runs/md17-1/model.safetensors --start frame.xyz

Writes trajectory.extxyz, energies.csv, drift.png and results.json to --out. A run that
blows up, or whose molecule comes apart, stops with the step and the atom, and leaves
last_good.xyz. Without --model the
small ethanol potential beside this file is used (see models/README.md).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from ase import Atoms, units
from ase.io import read
from ase.io import write as write_atoms
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics
from ase.md.velocitydistribution import Stationary, ZeroRotation
from ase.md.verlet import VelocityVerlet
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from tqdm import tqdm

from torch_cormorant.errors import CormorantError
from torch_cormorant.interfaces.ase import CormorantCalculator
from torch_cormorant.interfaces.dynamics import BlowUpGuard, linear_drift

HERE = Path(__file__).parent
MODEL = HERE / "models" / "ethanol.safetensors"
START = HERE / "models" / "ethanol.xyz"
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=MODEL, help="model file")
    parser.add_argument("--start", type=Path, default=START, help="structure")
    parser.add_argument("--ensemble", choices=("nve", "langevin"), default="nve")
    parser.add_argument(
        "--temperature",
        type=positive,
        default=300.0,
        help="K, of the velocities at the start (NVE) or of the bath (Langevin)",
    )
    parser.add_argument("--ps", type=positive, default=1.0, help="length; default 1")
    parser.add_argument("--timestep", type=positive, default=0.5, help="fs")
    parser.add_argument("--friction", type=positive, default=0.01, help="1/fs")
    parser.add_argument("--every", type=int, default=10, help="steps between frames")
    parser.add_argument("--dtype", choices=tuple(DTYPES), default="float64")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--skin", type=positive, default=1.0, help="Angstrom")
    parser.add_argument(
        "--max-stretch",
        type=positive,
        default=2.0,
        help="length of a bond over that at the start at which a run stops",
    )
    parser.add_argument(
        "--traced",
        nargs="?",
        const="traced",
        choices=("traced", "compiled"),
        help="trace a small molecule once: faster; compiled: for long runs",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/md"))
    args = parser.parse_args(argv)
    if args.every < 1:
        parser.error(f"--every: {args.every} is not at least 1")
    return args


def positive(text: str) -> float:
    """A positive number."""
    value = float(text)
    if not 0 < value < float("inf"):
        msg = f"{text} is not a positive number"
        raise argparse.ArgumentTypeError(msg)
    return value


def make_dynamics(
    atoms: Atoms, args: argparse.Namespace, rng: np.random.Generator
) -> MolecularDynamics:
    """Starting velocities, and the integrator."""
    speed = np.sqrt(units.kB * args.temperature / atoms.get_masses())
    atoms.set_velocities(speed[:, None] * rng.normal(size=(len(atoms), 3)))
    Stationary(atoms)
    if not atoms.pbc.any():
        ZeroRotation(atoms)
    step = args.timestep * units.fs
    if args.ensemble == "nve":
        return VelocityVerlet(atoms, step)
    return Langevin(
        atoms,
        step,
        temperature_K=args.temperature,
        friction=args.friction / units.fs,
        fixcm=False,
        rng=rng,
    )


class Log:
    """Frames and energies of a run, kept as it goes."""

    def __init__(self, atoms: Atoms, dynamics: MolecularDynamics, out: Path) -> None:
        self.atoms, self.dynamics, self.out = atoms, dynamics, out
        self.rows: list[tuple[float, float, float, float]] = []
        self.table = (out / "energies.csv").open("w")
        self.table.write("time_ps,potential_eV,kinetic_eV,temperature_K\n")

    def __call__(self) -> None:
        """One frame."""
        time_ps = self.dynamics.get_time() / (1000 * units.fs)
        atoms = self.atoms
        row = (
            time_ps,
            atoms.get_potential_energy(),
            atoms.get_kinetic_energy(),
            atoms.get_temperature(),
        )
        self.rows.append(row)
        self.table.write("{:.6f},{:.12f},{:.12f},{:.3f}\n".format(*row))
        self.table.flush()
        path = self.out / "trajectory.extxyz"
        write_atoms(path, atoms, format="extxyz", append=True)

    def close(self) -> None:
        """Close the table."""
        self.table.close()


def plot(log: Log, args: argparse.Namespace, drift: dict[str, float]) -> None:
    """Total energy and temperature over time."""
    times, potential, kinetic, temperature = np.array(log.rows).T
    total = (potential + kinetic) * 1000 / len(log.atoms)
    figure = Figure(figsize=(6.4, 5.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot(times, total - total[0], color="#1f5fa8", linewidth=0.8)
    above.set_ylabel("total energy - start\n[meV/atom]")
    title = f"{args.ensemble.upper()}, {args.timestep:g} fs"
    if args.ensemble == "nve":
        line = drift["drift"] * 1000 * (times - times.mean())
        above.plot(times, line + (total - total[0]).mean(), color="#d9772b")
        title += f", drift {drift['drift']:.1e} eV/atom/ps"
    above.set_title(title, fontsize=10)
    below.plot(times, temperature, color="#1f5fa8", linewidth=0.8)
    below.axhline(temperature.mean(), color="#d9772b", linewidth=1)
    below.set_ylabel("temperature [K]")
    below.set_xlabel("time [ps]")
    figure.savefig(args.out / "drift.png")


def run(args: argparse.Namespace) -> dict[str, object]:
    """Run, and write everything to the folder."""
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    for name in ("trajectory.extxyz", "last_good.xyz"):
        (args.out / name).unlink(missing_ok=True)
    atoms = read(args.start)
    atoms.calc = CormorantCalculator.from_file(
        args.model,
        device=args.device,
        dtype=DTYPES[args.dtype],
        skin=args.skin,
        traced="compiled" if args.traced == "compiled" else bool(args.traced),
    )
    atoms.get_forces()  # a structure that does not fit is refused here
    rng = np.random.default_rng(args.seed)
    dynamics = make_dynamics(atoms, args, rng)
    log = Log(atoms, dynamics, args.out)
    dynamics.attach(log, interval=args.every)
    guard = BlowUpGuard(atoms, args.out / "last_good.xyz", max_stretch=args.max_stretch)
    steps = max(round(args.ps * 1000 / args.timestep), 2 * args.every)
    begin, used = time.time(), time.process_time()
    bar = tqdm(total=steps, unit="step", disable=not sys.stderr.isatty())
    try:
        while dynamics.nsteps < steps:
            part = min(args.every, steps - dynamics.nsteps)
            guard.run(dynamics, part)
            bar.update(part)
            bar.set_postfix(T=f"{log.rows[-1][3]:.0f} K", refresh=False)
    finally:
        bar.close()
        log.close()
        if len(log.rows) >= 3:
            results = summary(log, args, dynamics.nsteps)
            results["cpu_ms_per_step"] = round(
                1000 * (time.process_time() - used) / max(dynamics.nsteps, 1), 2
            )
            results["seconds"] = round(time.time() - begin, 1)
            text = json.dumps(results, indent=2)
            (args.out / "results.json").write_text(text + "\n")
            plot(log, args, results["total_energy"])
    return results


def summary(log: Log, args: argparse.Namespace, steps: int) -> dict[str, object]:
    """Numbers of a run."""
    times, potential, kinetic, temperature = np.array(log.rows).T
    drift = linear_drift(times, potential + kinetic, len(log.atoms))
    return {
        "ensemble": args.ensemble,
        "timestep_fs": args.timestep,
        "steps": steps,
        "ps": float(times[-1]),
        "mean_temperature_K": float(temperature.mean()),
        "total_energy": drift,
        "dtype": args.dtype,
        "seed": args.seed,
    }


def main(argv: list[str] | None = None) -> int:
    """Run; a mistake or a blown-up run ends in one line."""
    args = parse(argv)
    try:
        results = run(args)
    except (CormorantError, OSError) as error:
        print(f"md.py: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"md.py: stopped; what was done is in {args.out}", file=sys.stderr)
        return 130
    drift = results["total_energy"]
    print(
        f"{results['ensemble'].upper()}, {results['ps']:.3g} ps, mean temperature "
        f"{results['mean_temperature_K']:.0f} K, total energy: drift "
        f"{drift['drift']:.1e} +- {drift['error']:.0e} eV/atom/ps, fluctuation "
        f"{drift['fluctuation']:.1e} eV/atom; {results['cpu_ms_per_step']} ms CPU per "
        f"step; files in {args.out}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
