"""How well a potential conserves energy: several runs of one structure at once.

    python examples/md_gates.py --ps 100
    python examples/md_gates.py --runs nve:300:0.5 nve:300:0.25 langevin:1000:0.5
    python examples/md_gates.py --engine --model water.safetensors --start box.xyz

Every run is ensemble:temperature in K:time step in fs. All runs are one batch. Small
molecules are traced once as the graph of all pairs; --engine searches neighbours
instead, for larger structures and periodic cells. results.json in --out is written
again and again, so the script may be stopped at any time; it ends by itself if a run
blows up. energies.npz holds what drifts are fitted to, RUN.xyz frames of every run;
"stretch" is the largest length of a bond so far over that at the start: a molecule
above 1.6 has come apart. The error of a drift is that of a line through 20 block
means, where it is larger than that of a line through all samples, which are not
independent.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from ase import Atoms, units
from ase.io import read
from ase.io import write as write_atoms
from torch import Tensor

from torch_cormorant import load_model
from torch_cormorant.errors import BlowUpError, ConfigError, CormorantError
from torch_cormorant.interfaces.dynamics import Bonds, linear_drift
from torch_cormorant.interfaces.engine import Engine
from torch_cormorant.interfaces.traced import TracedPotential
from torch_cormorant.models.energy import Result

MODELS = Path(__file__).parent / "models"
RUNS = ("nve:300:0.5", "nve:300:0.25", "nve:1000:0.5", "nve:1000:0.25")
RUNS += ("langevin:300:0.5", "langevin:1000:0.5")
MAX_FORCE = 200.0  # eV/Angstrom
BLOCKS = 20
Potential = Callable[[Tensor], Result]


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=MODELS / "ethanol.safetensors")
    parser.add_argument("--start", type=Path, default=MODELS / "ethanol.xyz")
    parser.add_argument("--runs", nargs="+", default=list(RUNS))
    parser.add_argument("--ps", type=float, default=1.0, help="of the largest step")
    parser.add_argument("--friction", type=float, default=0.01, help="1/fs; Langevin")
    parser.add_argument("--every", type=int, default=10, help="steps between samples")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--compiled", action="store_true", help="for long runs")
    how.add_argument("--engine", action="store_true", help="large, periodic structures")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/md_gates"))
    return parser.parse_args(argv)


def searched(engine: Engine, atoms: Atoms, count: int) -> Potential:
    """Copies of a structure by the engine with its neighbour list."""
    z = torch.from_numpy(atoms.numbers).long().repeat(count)
    batch = torch.arange(count).repeat_interleave(len(atoms))
    cells, pbc = None, None
    if atoms.pbc.any():
        cells = torch.from_numpy(atoms.cell.array).repeat(count, 1, 1)
        pbc = torch.from_numpy(atoms.pbc).repeat(count, 1)

    def call(pos: Tensor) -> Result:
        return engine(z, pos.reshape(-1, 3), batch, cells, pbc, num_graphs=count)

    return call


def make_potential(args: argparse.Namespace, atoms: Atoms) -> Potential:
    """Energies and forces of one copy for every run."""
    engine, count = Engine(load_model(args.model), dtype=torch.float64), len(args.runs)
    engine.check_species(atoms.numbers, str(args.start))
    if args.engine:
        return searched(engine, atoms, count)
    if atoms.pbc.any():
        msg = f"{args.start} is periodic; use --engine"
        raise ConfigError(msg)
    z, pos = torch.from_numpy(atoms.numbers), torch.from_numpy(atoms.positions)
    return TracedPotential(engine, z.long(), pos, count, compiled=args.compiled)


class Batch:
    """Copies of a structure, each with a temperature, a time step and a friction."""

    def __init__(self, args: argparse.Namespace) -> None:
        atoms = read(args.start)
        self.size, self.count = len(atoms), len(args.runs)
        self.random = torch.Generator().manual_seed(args.seed)
        shape = (self.count, 1, 1)
        kinds = [split(run) for run in args.runs]
        self.kT = units.kB * torch.tensor([t for _, t, _ in kinds]).double().view(shape)
        fs = torch.tensor([step for *_, step in kinds], dtype=torch.float64)
        self.step = units.fs * fs.view(shape)
        rates = [args.friction if kind == "langevin" else 0.0 for kind, *_ in kinds]
        friction = torch.tensor(rates).double().view(shape) / units.fs
        self.damping = torch.exp(-friction * self.step)
        self.mass = torch.from_numpy(atoms.get_masses()).view(1, -1, 1)
        self.potential = make_potential(args, atoms)
        self.pos = torch.from_numpy(atoms.positions).repeat(self.count, 1, 1)
        speed = self.noise() * (self.kT / self.mass).sqrt()
        self.speed = speed - (self.mass * speed).sum(1, keepdim=True) / self.mass.sum()
        self.done = 0
        self.atoms, self.bonds = atoms, Bonds(atoms)
        self.image = torch.from_numpy(self.bonds.shift @ atoms.cell.array)
        self.start = self.lengths()
        self.stretch = torch.ones(self.count, dtype=torch.float64)
        self.energy, self.forces = self.compute()

    def lengths(self) -> Tensor:
        """Lengths of the bonds of the first frame ``[copies, bonds]``."""
        bonds, pos = self.bonds, self.pos
        return (pos[:, bonds.second] - pos[:, bonds.first] + self.image).norm(dim=2)

    def look(self) -> None:
        """Note how far bonds have been stretched."""
        now = (self.lengths() / self.start).amax(1)
        self.stretch = torch.maximum(self.stretch, now)

    def noise(self) -> Tensor:
        """The same random numbers for every copy, so that time steps compare."""
        drawn = torch.randn(1, self.size, 3, generator=self.random, dtype=torch.float64)
        return drawn.expand(self.count, -1, -1)

    def compute(self) -> tuple[Tensor, Tensor]:
        """Energies and forces of all copies."""
        out = self.potential(self.pos)
        forces = out.forces.view_as(self.pos)
        size = forces.norm(dim=2)
        if not bool((size < MAX_FORCE).all()):
            run, atom = (~(size < MAX_FORCE)).nonzero()[0].tolist()
            msg = (
                f"run {run} blew up at step {self.done}, atom {atom}: the force is "
                f"{float(size[run, atom]):.3g} eV/Angstrom"
            )
            raise BlowUpError(msg)
        return out.energy, forces

    def advance(self) -> None:
        """One step of the BAOAB scheme, which without friction is velocity Verlet."""
        half = self.step / 2
        self.speed = self.speed + half * self.forces / self.mass
        self.pos = self.pos + half * self.speed
        kick = ((1 - self.damping**2) * self.kT / self.mass).sqrt()
        self.speed = self.damping * self.speed + kick * self.noise()
        self.pos = self.pos + half * self.speed
        self.done += 1
        self.energy, self.forces = self.compute()
        self.speed = self.speed + half * self.forces / self.mass

    def kinetic(self) -> Tensor:
        """Kinetic energies in eV."""
        return (self.mass * self.speed.square()).sum((1, 2)) / 2


def split(run: str) -> tuple[str, float, float]:
    """Ensemble, temperature and time step."""
    try:
        kind, temperature, step = run.split(":")
        found = (kind, float(temperature), float(step))
    except ValueError:
        kind, found = "", ("", 0.0, 0.0)
    if kind not in ("nve", "langevin") or min(found[1:]) <= 0:
        msg = f"--runs: {run!r} is not like nve:300:0.5 (K, fs)"
        raise ConfigError(msg)
    return found


def report(batch: Batch, runs: list[str], rows: list[Tensor], cpu: float) -> list[dict]:
    """Numbers of every run so far."""
    table = torch.stack(rows)  # samples, (time, total, kinetic), runs
    common = table[-1, 0].min()  # fluctuations grow with time: compare equal ones
    found = []
    for k, run in enumerate(runs):
        times, total, kinetic = table[:, :, k].t()
        drift = linear_drift(times.tolist(), total.tolist(), batch.size)
        drift["error"] = max(drift["error"], block_error(times, total, batch.size))
        early = times <= common + 1e-9
        part = linear_drift(times[early].tolist(), total[early].tolist(), batch.size)
        drift["fluctuation"] = part["fluctuation"]
        freedom = 3 * batch.size - (3 if run.startswith("nve") else 0)
        mean = float(2 * kinetic.mean() / freedom / units.kB)
        line = {"run": run, "ps": float(times[-1]), "mean_K": mean, **drift}
        found.append(line | {"stretch": float(batch.stretch[k])})
    found.append({"steps": batch.done, "cpu_ms_per_step": 1000 * cpu / batch.done})
    return found


def block_error(times: Tensor, total: Tensor, size: int) -> float:
    """Standard error of the slope through means of blocks; 0 for less than those."""
    length = len(times) // BLOCKS
    if length == 0:
        return 0.0
    means = [
        part[: BLOCKS * length].view(BLOCKS, -1).mean(1) for part in (times, total)
    ]
    found: float = linear_drift(*(part.tolist() for part in means), size)["error"]
    return found


def frames(run: str, out: Path) -> Path:
    """Where the frames of a run go."""
    return out / f"{run.replace(':', '-')}.xyz"


def save(batch: Batch, args: argparse.Namespace) -> None:
    """Append a frame of every run."""
    for name, pos in zip(args.runs, batch.pos, strict=True):
        atoms = batch.atoms.copy()
        atoms.positions = pos.numpy()
        write_atoms(frames(name, args.out), atoms, format="extxyz", append=True)


def run(args: argparse.Namespace) -> None:
    """Run, and write the results every hundred samples."""
    torch.set_num_threads(1)
    for text in args.runs:
        split(text)
    args.out.mkdir(parents=True, exist_ok=True)
    batch, rows = Batch(args), []
    longest = float(batch.step.max()) / units.fs
    steps, begin = round(1000 * args.ps / longest), time.process_time()
    per_step = batch.step.flatten() / units.fs / 1000
    for name in args.runs:
        frames(name, args.out).unlink(missing_ok=True)
    for number in range(1, steps + 1):
        batch.advance()
        if number % (100 * args.every) == 0:
            save(batch, args)
        if number % args.every == 0:
            batch.look()
            kinetic = batch.kinetic()
            sample = [number * per_step, batch.energy + kinetic, kinetic]
            rows.append(torch.stack(sample))
        if len(rows) >= 3 and (number % (100 * args.every) == 0 or number == steps):
            found = report(batch, args.runs, rows, time.process_time() - begin)
            (args.out / "results.json").write_text(json.dumps(found, indent=2) + "\n")
            table = torch.stack(rows).numpy()
            names = ("time_ps", "total_eV", "kinetic_eV")
            columns = dict(zip(names, table.transpose(1, 0, 2), strict=True))
            np.savez(args.out / "energies.npz", runs=args.runs, **columns)
    for line in found[:-1]:
        print(
            f"{line['run']:>18} {line['ps']:8.3f} ps  {line['mean_K']:6.0f} K  drift "
            f"{line['drift']:9.1e} +- {line['error']:.0e} eV/atom/ps  fluctuation "
            f"{line['fluctuation']:.2e} eV/atom  stretch {line['stretch']:.2f}"
        )


def main(argv: list[str] | None = None) -> int:
    """Run; a mistake or a blown-up run ends in one line."""
    try:
        run(parse(argv))
    except (CormorantError, OSError) as error:
        print(f"md_gates.py: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
