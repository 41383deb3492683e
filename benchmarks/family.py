"""Networks of the family against the public ones, with the same weights, in turns.

    python -m benchmarks.family [--rounds 7] [--only painn] [--structures water]
        [--peer-python PATH] [--json FILE]

Energies and forces in float32 on one thread, from positions and given edges: 25 random
molecules of 18 atoms (all pairs within 5 A), 64 molecules of water in a periodic box
and 343 of them (cutoff 5 A). Every side is a process of its own, ours with exact radial
functions, ours with tables, and the peer; in every round each computes once and says
its CPU time, of which medians are compared. The first time tells the growth of the peak
memory. SchNet is that of torch-geometric, PaiNN its equations in plain PyTorch with
rows for every edge; NequIP and, as "painn-spk", PaiNN of SchNetPack are taken from the
Python that ``--peer-python`` names, and so is Allegro of nequip-allegro, which has no
tables here.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import torch
from torch import Tensor

from benchmarks.machine import cpu_model
from benchmarks.weighted_sum import water_box
from torch_cormorant.graph import neighbour_list
from torch_cormorant.testing import random_molecule

CUTOFF = 5.0
PAINN = {"cutoff": CUTOFF, "channels": 128, "levels": 3, "n_rbf": 20}
NEQUIP = {
    "r_max": CUTOFF,
    "type_names": ["H", "C", "N", "O", "F"],
    "l_max": 2,
    "parity": False,
    "num_features": 32,
    "avg_num_neighbors": 15.0,
}
ALLEGRO = {
    **{name: value for name, value in NEQUIP.items() if name != "num_features"},
    "num_tensor_features": 32,
    "radial_chemical_embed": {
        "_target_": "allegro.nn.TwoBodyBesselScalarEmbed",
        "num_bessels": 8,
    },
}


class Case(NamedTuple):
    """A network: its kind, settings, what the other side is, and our sides."""

    kind: str
    settings: dict[str, Any]
    peer: str
    own: tuple[str, ...] = ("exact", "tables")


CASES = {
    "schnet": Case("schnet", {**PAINN, "levels": 6, "n_rbf": 50}, "pyg"),
    "painn": Case("painn", PAINN, "plain"),
    "painn-spk": Case("painn", PAINN, "python"),
    "nequip": Case("nequip", NEQUIP, "python"),
    "nequip-defaults": Case(
        "nequip", {**NEQUIP, "l_max": 1, "parity": True, "num_features": 32}, "python"
    ),
    "allegro": Case("allegro", ALLEGRO, "python", ("exact",)),
}


def molecules(count: int = 25, atoms: int = 18) -> dict[str, Tensor]:
    """Random molecules in float32 and their edges.

    Example:
        >>> molecules(2, 3)["z"].shape
        torch.Size([6])
    """
    generator = torch.Generator().manual_seed(0)
    parts = [random_molecule(atoms, generator, torch.float32) for _ in range(count)]
    z, pos = (torch.cat(list(values)) for values in zip(*parts, strict=True))
    batch = torch.arange(count).repeat_interleave(atoms)
    edges, shift = neighbour_list(pos, CUTOFF, batch)
    return _atoms(z, pos, batch, edges, shift, torch.zeros(3, 3))


def water(side: int) -> dict[str, Tensor]:
    """A periodic box of water and its edges.

    Example:
        >>> water(3)["z"].shape
        torch.Size([81])
    """
    pos, cell = water_box(side)
    z = torch.tensor([8, 1, 1]).repeat(side**3)
    edges, shift = neighbour_list(pos, CUTOFF, cell=cell)
    return _atoms(z, pos, torch.zeros_like(z), edges, shift, cell)


def _atoms(
    z: Tensor, pos: Tensor, batch: Tensor, edges: Tensor, shift: Tensor, cell: Tensor
) -> dict[str, Tensor]:
    order = edges[1].argsort(stable=True)
    found = {"z": z, "pos": pos, "batch": batch, "cell": cell}
    return {**found, "edges": edges[:, order], "shift": shift[order].to(pos)}


STRUCTURES: dict[str, Callable[[], dict[str, Tensor]]] = {
    "molecules": molecules,
    "water": partial(water, 4),
    "large": partial(water, 7),
}


class Side:
    """A process that computes when it is asked."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name, self.times, self.growth = name, list[float](), 0.0
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.orders, self.answers = (
            cast("IO[str]", stream)
            for stream in (self.process.stdin, self.process.stdout)
        )
        self.problem = self.read().removeprefix("missing: ").strip()
        if self.problem == "ready":
            self.problem = ""

    def read(self) -> str:
        """The next line."""
        return self.answers.readline() or "missing: it ended"

    def go(self, *, first: bool) -> None:
        """Compute once."""
        self.orders.write(f"{self.name}.pt\n")
        self.orders.flush()
        took, *growth = map(float, self.read().split())
        if first:
            (self.growth,) = growth
        else:
            self.times.append(took)

    def end(self) -> None:
        """Let the process end."""
        self.process.communicate()


def compare(
    case: Case, atoms: dict[str, Tensor], rounds: int, python: str | None
) -> dict[str, Any] | str:
    """Medians of all sides and differences of forces; or why there are none."""
    here = [sys.executable, "-m", "benchmarks.family_worker"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        torch.save(
            {**atoms, "kind": case.kind, "settings": case.settings}, folder / "given.pt"
        )
        command = [*here, name, case.peer]
        if case.peer == "python":
            if python is None:
                return "not run: give --peer-python"
            command = [python, "-m", "benchmarks.peer_worker", name]
        sides = [Side("peer", command)]
        if sides[0].problem:
            sides[0].end()
            return f"not run: {sides[0].problem}"
        sides += [Side(side, [*here, name, side]) for side in case.own]
        for round_ in range(rounds + 1):
            for side in sides:
                side.go(first=round_ == 0)
        for side in sides:
            side.end()
        peer, *own = (torch.load(folder / f"{side.name}.pt") for side in sides)
    found: dict[str, Any] = {"edges": atoms["edges"].shape[1]}
    for side in sides:
        found[f"{side.name}_ms"] = statistics.median(side.times)
        found[f"{side.name}_mib"] = side.growth
    for side, forces in zip(sides[1:], own, strict=True):
        ratio = found["peer_ms"] / found[f"{side.name}_ms"]
        difference = float((forces - peer).abs().max() / peer.abs().max())
        found |= {f"{side.name}_ratio": ratio, f"{side.name}_difference": difference}
    return found


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=list(CASES), action="append")
    parser.add_argument("--structures", choices=list(STRUCTURES), action="append")
    parser.add_argument("--peer-python", help="a Python with nequip or SchNetPack")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    print(f"{cpu_model()}, torch {torch.__version__}")
    rows = []
    for structure in args.structures or ["molecules", "water"]:
        atoms = STRUCTURES[structure]()
        for name in args.only or CASES:
            found = compare(CASES[name], atoms, args.rounds, args.peer_python)
            if isinstance(found, str):
                print(f"{name}, {structure}: {found}")
                continue
            rows.append({"network": name, "structure": structure, **found})
            print(f"{name}, {structure}, {found['edges']} edges:")
            for side in ("peer", *CASES[name].own):
                line = f"  {side:7}{found[f'{side}_ms']:8.1f} ms"
                line += f"{found[f'{side}_mib']:8.0f} MiB"
                if side != "peer":
                    line += f", ratio {found[f'{side}_ratio']:.1f}, forces differ by "
                    line += f"{found[f'{side}_difference']:.1e}"
                print(line, flush=True)
    if args.json is not None:
        args.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
