"""Molecular dynamics with a Cormorant potential: NVE or Langevin, with ASE.

    python examples/md.py                                   # ethanol, NVE, 300 K
    python examples/md.py --ensemble langevin --temperature 1000 --ps 10
    python examples/md.py --model runs/md17-1/model.safetensors --start frame.xyz
    python examples/md.py --resume --ps 5                   # 5 ps more
    python examples/md.py --engine native --dtype float32 --ps 100 --every 100

Writes trajectory.extxyz, energies.csv, drift.png and results.json to --out. A run that
blows up, or whose molecule comes apart, stops with the step and the atom, and leaves
last_good.xyz. --resume goes on from the last frame of --out with its velocities (files
hold eight decimals, so the digits of a run in one piece differ). Without --model the
small ethanol potential beside this file is used (see models/README.md).
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from ase import Atoms, units
from ase.io import write as write_atoms
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics
from ase.md.velocitydistribution import Stationary, ZeroRotation
from ase.md.verlet import VelocityVerlet
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from tqdm import tqdm

from torch_cormorant.errors import CormorantError, DataError
from torch_cormorant.interfaces.ase import CormorantCalculator
from torch_cormorant.interfaces.dynamics import BlowUpGuard, Bonds, linear_drift
from torch_cormorant.interfaces.native_dynamics import NativeDynamics
from torch_cormorant.interfaces.structures import read_atoms

HERE = Path(__file__).parent
MODEL = HERE / "models" / "ethanol.safetensors"
START = HERE / "models" / "ethanol.xyz"
NAMES = {"nve": "NVE", "langevin": "Langevin"}
COLUMNS = "time_ps,potential_eV,kinetic_eV,temperature_K"
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
    parser.add_argument(
        "--engine",
        choices=("ase", "native"),
        default="ase",
        help="integrator; native: all steps between two frames in C++",
    )
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
    parser.add_argument("--resume", action="store_true", help="go on with --out")
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


def last_frame(out: Path) -> Atoms:
    """The frame that a run goes on from, with velocities and its time in ps."""
    path = out / "trajectory.extxyz"
    atoms = read_atoms(path)
    if "momenta" not in atoms.arrays or "time_ps" not in atoms.info:
        msg = f"{path}: its last frame has no velocities or no time_ps to go on from"
        raise DataError(msg)
    return atoms


def set_velocities(atoms: Atoms, temperature: float, rng: np.random.Generator) -> None:
    """Random ones of a temperature; the whole neither moves nor turns."""
    speed = np.sqrt(units.kB * temperature / atoms.get_masses())
    atoms.set_velocities(speed[:, None] * rng.normal(size=(len(atoms), 3)))
    Stationary(atoms)
    if not atoms.pbc.any():
        ZeroRotation(atoms)


def make_dynamics(
    atoms: Atoms, args: argparse.Namespace, rng: np.random.Generator
) -> MolecularDynamics | NativeDynamics:
    """The integrator."""
    step = args.timestep * units.fs
    if args.engine == "native":
        return NativeDynamics(
            atoms,
            step,
            temperature_K=args.temperature,
            friction=args.friction / units.fs if args.ensemble == "langevin" else 0.0,
            seed=int(rng.integers(2**62)),
        )
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
    """Frames and energies of a run, kept as it goes.

    Args:
        atoms: What moves; a time in its ``info`` is that of its first frame, which is
            written already.
        dynamics: The integrator.
        out: The folder.
    """

    def __init__(self, atoms: Atoms, dynamics: MolecularDynamics, out: Path) -> None:
        self.atoms, self.dynamics, self.out = atoms, dynamics, out
        self.begin: float | None = atoms.info.pop("time_ps", None)
        path = out / "energies.csv"
        rows = [] if self.begin is None else read_rows(path, self.begin)
        self.rows: list[tuple[float, ...]] = []
        self.table = path.open("w")
        self.table.write(COLUMNS + "\n")
        for row in rows:
            self._note(row)

    def _note(self, row: tuple[float, ...]) -> None:
        self.rows.append(row)
        self.table.write("{:.6f},{:.12f},{:.12f},{:.3f}\n".format(*row))
        self.table.flush()

    def __call__(self) -> None:
        """One frame."""
        if self.begin is not None and self.dynamics.nsteps == 0:
            return
        time_ps = self.dynamics.get_time() / (1000 * units.fs) + (self.begin or 0.0)
        atoms = self.atoms
        row = (
            time_ps,
            atoms.get_potential_energy(),
            atoms.get_kinetic_energy(),
            atoms.get_temperature(),
        )
        self._note(row)
        path = self.out / "trajectory.extxyz"
        atoms.info["time_ps"] = round(time_ps, 6)
        write_atoms(path, atoms, format="extxyz", append=True)
        del atoms.info["time_ps"]

    def close(self) -> None:
        """Close the table."""
        self.table.close()


def read_rows(path: Path, until: float) -> list[tuple[float, ...]]:
    """What a table holds up to a time; a stopped run may have written one row more."""
    try:
        with path.open(newline="") as file:
            table = list(csv.reader(file))
        rows = [tuple(map(float, row)) for row in table[1:] if len(row) == 4]
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not read as a table of a run ({error})") from error
    return [row for row in rows if row[0] <= until + 1e-6]


def plot(log: Log, args: argparse.Namespace, drift: dict[str, float]) -> None:
    """Total energy and temperature over time."""
    times, potential, kinetic, temperature = np.array(log.rows).T
    total = (potential + kinetic) * 1000 / len(log.atoms)
    figure = Figure(figsize=(6.4, 5.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot(times, total - total[0], color="#1f5fa8", linewidth=0.8)
    above.set_ylabel("total energy - start\n[meV/atom]")
    title = f"{NAMES[args.ensemble]}, {args.timestep:g} fs"
    if args.ensemble == "nve":
        line = drift["drift"] * 1000 * (times - times.mean())
        above.plot(times, line + (total - total[0]).mean(), color="#d9772b")
        title += f", drift {drift['drift']:.1e} eV/atom/ps"
    above.set_title(title, fontsize=10)
    below.plot(times, temperature, color="#1f5fa8", linewidth=0.8)
    mean = temperature.mean()
    below.axhline(mean, color="#d9772b", linewidth=1, label=f"mean {mean:.0f} K")
    if args.ensemble == "langevin":
        bath = args.temperature
        label = f"bath {bath:g} K"
        below.axhline(bath, color="#777777", linewidth=1, linestyle="--", label=label)
    low, high = below.get_ylim()
    below.set_ylim(low, high + 0.2 * (high - low))  # room for the legend
    below.legend(frameon=False, loc="upper right", ncols=2)
    below.set_ylabel("temperature [K]")
    below.set_xlabel("time [ps]")
    figure.savefig(args.out / "drift.png")


def run(args: argparse.Namespace) -> dict[str, object]:
    """Run, and write everything to the folder."""
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.resume:
        atoms = last_frame(args.out)
        atoms.info = {"time_ps": float(atoms.info["time_ps"])}
        rng = np.random.default_rng([args.seed, round(1e6 * atoms.info["time_ps"])])
    else:
        atoms = read_atoms(args.start)
        atoms.info.clear()  # words of a comment line
        rng = np.random.default_rng(args.seed)
        set_velocities(atoms, args.temperature, rng)
    atoms.calc = CormorantCalculator.from_file(
        args.model,
        device=args.device,
        dtype=DTYPES[args.dtype],
        skin=args.skin,
        traced="compiled" if args.traced == "compiled" else bool(args.traced),
        backend="native" if args.engine == "native" else "auto",
    )
    atoms.get_forces()  # a structure that does not fit is refused here
    (args.out / "last_good.xyz").unlink(missing_ok=True)
    if not args.resume:
        (args.out / "trajectory.extxyz").unlink(missing_ok=True)
    dynamics = make_dynamics(atoms, args, rng)
    log = Log(atoms, dynamics, args.out)
    dynamics.attach(log, interval=args.every)
    guard = BlowUpGuard(atoms, args.out / "last_good.xyz", max_stretch=args.max_stretch)
    if args.resume:  # bonds are those of the first frame
        guard.bonds = Bonds(read_atoms(args.out / "trajectory.extxyz", index=0))
    steps = max(round(args.ps * 1000 / args.timestep), 2 * args.every)
    begin, used = time.time(), time.process_time()
    bar = tqdm(total=steps, unit="step", disable=not sys.stderr.isatty())
    try:
        while dynamics.nsteps < steps:
            part = min(args.every, steps - dynamics.nsteps)
            guard.run(dynamics, part, stride=part if args.engine == "native" else 1)
            bar.update(part)
            bar.set_postfix(T=f"{log.rows[-1][3]:.0f} K", refresh=False)
    finally:
        bar.close()
        log.close()
        if len(log.rows) >= 3:
            results, drift = summary(log, args, dynamics.nsteps)
            results["cpu_ms_per_step"] = round(
                1000 * (time.process_time() - used) / max(dynamics.nsteps, 1), 2
            )
            results["seconds"] = round(time.time() - begin, 1)
            text = json.dumps(results, indent=2)
            (args.out / "results.json").write_text(text + "\n")
            plot(log, args, drift)
    return results


def summary(
    log: Log, args: argparse.Namespace, steps: int
) -> tuple[dict[str, object], dict[str, float]]:
    """Numbers of a run, and its drift; a bath changes the energy, which is no drift."""
    times, potential, kinetic, temperature = np.array(log.rows).T
    drift = linear_drift(times, potential + kinetic, len(log.atoms))
    found = {
        "ensemble": args.ensemble,
        "timestep_fs": args.timestep,
        "steps": steps,
        "ps": float(times[-1]),
        "mean_temperature_K": float(temperature.mean()),
        "dtype": args.dtype,
        "seed": args.seed,
    }
    if args.ensemble == "nve":
        found["total_energy"] = drift
    return found, drift


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
    drift, energy = results.get("total_energy"), ""
    if drift:
        energy = (
            f", total energy: drift {drift['drift']:.1e} +- {drift['error']:.0e} "
            f"eV/atom/ps, fluctuation {drift['fluctuation']:.1e} eV/atom"
        )
    print(
        f"{NAMES[results['ensemble']]}, {results['ps']:.3g} ps, mean temperature "
        f"{results['mean_temperature_K']:.0f} K{energy}; "
        f"{results['cpu_ms_per_step']} ms CPU per step; files in {args.out}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
