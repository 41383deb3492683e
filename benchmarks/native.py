"""The native evaluator beside the network, its traced graph and other packages.

Energy and forces of one structure, float32, in turns, one thread, CPU time of the
process (which other programs do not add to). Weights are random: right for timing.

    python -m benchmarks.native
    python -m benchmarks.native --systems ethanol dhfr --rounds 9
    python -m benchmarks.native --alone     # the gates only, without the network
    python -m benchmarks.native --threads   # two beside one, on dhfr, by wall time
    python -m benchmarks.native --peers SNAP NequIP=PYTHON MACE=PYTHON GFN2=PYTHON

A peer is run by the Python that is named, where its package is installed; default this
one. PYTHONs are started in the root of the repository.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.machine import ROOT, commit, cpu_model, load
from benchmarks.native_peers import Peer, running
from benchmarks.speed.measure import interleaved
from benchmarks.speed.network import PEERS, Potential, Structure, structure
from benchmarks.speed.settings import Settings
from torch_cormorant import Cormorant
from torch_cormorant.interfaces.engine import Engine
from torch_cormorant.interfaces.native import NativePotential
from torch_cormorant.interfaces.traced import TracedPotential
from torch_cormorant.models import Potential as Model
from torch_cormorant.ops import cpu_kernel

SYSTEMS = {
    "ethanol": "rmd17_ethanol",
    "alanine dipeptide": "alanine_dipeptide",
    "chignolin": "chignolin",
    "water": "water_192_pbc",
    "dhfr": "dhfr",
    "silica": "silica_6k",
}
TRACED = 200
"""Atoms up to which a molecule is traced, as the graph of all pairs."""
EAGER = 3000
"""Atoms up to which the network and SchNet are run."""
SKIN = 0.5
TURN = 0.02
"""Seconds that one turn of one step takes, at least."""
NETWORKS: dict[str, dict[str, Any]] = {
    "complex": {"size": "complex"},
    "small": {"size": "small"},
    "medium": {},
    "large": {"size": "large"},
    "16 real": {"size": "complex", "complex": False},
    "32 real": {"size": "small", "channels": 32, "num_levels": 3},
}


@dataclass(frozen=True)
class Gate:
    """What a system may cost at most."""

    system: str
    network: str
    limit: float
    per_atom: bool

    def holds(self, milliseconds: float, atoms: int) -> tuple[bool, str]:
        """Whether it does, and a line that says so."""
        found = 1e3 * milliseconds / atoms if self.per_atom else milliseconds
        unit = "us/atom" if self.per_atom else "ms"
        fine = found <= self.limit
        word = "holds" if fine else "FAILS"
        text = f"{self.system}, {self.network}: {found:.3g} {unit} of {self.limit:g}"
        return fine, f"gate {word}: {text}"


GATES = (
    Gate("ethanol", "complex", 0.15, per_atom=False),
    Gate("alanine dipeptide", "complex", 0.5, per_atom=False),
    Gate("dhfr", "complex", 50, per_atom=True),
    Gate("silica", "complex", 45, per_atom=True),
    Gate("dhfr", "16 real", 20, per_atom=True),
    Gate("dhfr", "32 real", 50, per_atom=True),
)


def load_system(name: str, data: Path) -> Structure:
    """A structure of the folder of data; ethanol is the first frame of rMD17."""
    if name == "ethanol":
        with np.load(data / "md17" / "rmd17_ethanol.npz") as arrays:
            z, pos = arrays["nuclear_charges"], arrays["coords"][0]
        return Structure(name, torch.tensor(z).long(), torch.tensor(pos).float())
    settings = Settings(structures=data / "structures")
    return structure(SYSTEMS[name], settings)


def network(given: Structure, **options: Any) -> Model:
    """A potential for the elements of a structure, without gradients of weights."""
    torch.manual_seed(0)
    model = Cormorant.potential(given.species, **options).eval()
    for weight in model.parameters():
        weight.requires_grad_(False)
    return model


def native_step(model: Model, given: Structure, dtype: Any) -> Callable[[], object]:
    """The native evaluator on NumPy arrays, with the skin of the ASE calculator."""
    native = NativePotential(model, dtype=dtype, skin=SKIN)
    z, pos = given.z.numpy(), given.pos.double().numpy()
    cell = None if given.cell is None else given.cell.double().numpy()
    return lambda: native.evaluate(z, pos, cell)


def steps_of(given: Structure, *, alone: bool) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    model, atoms = network(given, **NETWORKS["complex"]), len(given.z)
    steps: dict[str, Callable[[], object]] = {}
    for name, options in NETWORKS.items():
        steps[name] = native_step(network(given, **options), given, torch.float32)
    steps["complex, float64"] = native_step(model, given, torch.float64)
    if alone:
        return steps
    if atoms <= EAGER:
        steps["network"] = lambda: model.energy_and_forces(
            given.z, given.pos, cell=given.cell
        )
        schnet = Potential(PEERS["SchNet"](given.species, 5.0), given)
        steps["SchNet"] = schnet
    if atoms <= TRACED and given.cell is None:
        engine = Engine(model)
        traced = TracedPotential(engine, given.z, given.pos.double())
        steps["network, traced"] = lambda: traced(given.pos)
    return steps


def repeated(step: Callable[[], object]) -> tuple[Callable[[], object], int]:
    """A step as often as a turn needs, and how often that is."""
    step()
    start = time.process_time()
    step()
    count = max(1, int(TURN / max(time.process_time() - start, 1e-6)))

    def run() -> None:
        for _ in range(count):
            step()

    return run, count


def measure(
    name: str, given: Structure, rounds: int, *, alone: bool, peers: Sequence[Peer] = ()
) -> tuple[list[str], bool]:
    """Lines of one system, and whether its gates hold."""
    made = {key: repeated(step) for key, step in steps_of(given, alone=alone).items()}
    steps = {key: run for key, (run, _) in made.items()}
    with running(peers, given) as sides:
        turns = {key: partial(side.go, first=False) for key, side in sides.items()}
        found = interleaved({**steps, **turns}, rounds)
    times = {key: found[key].cpu_ms / count for key, (_, count) in made.items()}
    times |= {
        key: statistics.median(side.times[-rounds:]) for key, side in sides.items()
    }
    atoms = len(given.z)
    lines = [
        f"| {name} | {atoms} | {key} | {ms:.3f} | {1e3 * ms / atoms:.1f} | "
        f"{ms / times['complex']:.2f} |"
        for key, ms in times.items()
    ]
    checks = [g.holds(times[g.network], atoms) for g in GATES if g.system == name]
    return [*lines, *(text for _, text in checks)], all(fine for fine, _ in checks)


def threads(given: Structure, rounds: int) -> list[str]:
    """Lines on how much faster two threads are than one, medians and best."""
    lines = []
    for name, options in NETWORKS.items():
        step = native_step(network(given, **options), given, torch.float32)
        times: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(rounds + 1):
            for count, found in times.items():
                torch.set_num_threads(count)
                start = time.perf_counter()
                step()
                found.append(time.perf_counter() - start)
        torch.set_num_threads(1)
        one, two = (found[1:] for found in times.values())
        median = statistics.median(one) / statistics.median(two)
        lines.append(
            f"{given.name}, {name}: {1e3 * statistics.median(one):.1f} ms, two threads "
            f"{median:.2f} times as fast, best against best {min(one) / min(two):.2f}"
        )
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table; 1 where a gate does not hold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--alone", action="store_true", help="the evaluator only")
    parser.add_argument("--threads", action="store_true", help="two beside one")
    parser.add_argument(
        "--peers", nargs="+", type=Peer.parse, default=[], metavar="NAME[=PYTHON]"
    )
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    isa = cpu_kernel.instruction_set()
    print(f"{cpu_model()}, kernels {isa}, commit {commit()}, load {load()}")
    if args.threads:
        for name in args.systems or ["dhfr"]:
            given = load_system(name, args.data)
            print("\n".join(threads(given, args.rounds)), flush=True)
        return 0
    print("| system | atoms | what | CPU ms | us/atom | over native |")
    print("| --- | ---: | --- | ---: | ---: | ---: |")
    fine = True
    for name in args.systems or SYSTEMS:
        given = load_system(name, args.data)
        lines, holds = measure(
            name, given, args.rounds, alone=args.alone, peers=args.peers
        )
        print("\n".join(lines), flush=True)
        fine &= holds
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
