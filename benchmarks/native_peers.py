"""Other packages beside the native evaluator, each in a Python of its own.

Networks have random weights, about 300,000 of them, and are given the edges; SNAP has
coefficients without meaning, and GFN2-xTB needs none.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks.family import CUTOFF, NEQUIP, Side
from benchmarks.speed.network import Structure
from torch_cormorant.errors import ConfigError
from torch_cormorant.graph import neighbour_list

NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "NequIP": ("nequip", {**NEQUIP, "num_layers": 4, "num_features": 25}),
    "MACE": (
        "mace",
        {
            "species": [1, 6, 7, 8, 9],
            "cutoff": CUTOFF,
            "neighbours": NEQUIP["avg_num_neighbors"],
            "channels": 80,
        },
    ),
}
PROGRAMS = {"GFN2": "gfn2", "SNAP": "snap"}
PEERS = (*NETWORKS, *PROGRAMS)
LARGE = 200
"""Atoms up to which all but SNAP are run."""
WARM = 4
"""Steps of a network that do not count: TorchScript compiles in the first ones."""


@dataclass(frozen=True)
class Peer:
    """A package, and the Python that has it."""

    name: str
    python: str = sys.executable

    @classmethod
    def parse(cls, text: str) -> Peer:
        """From ``NAME`` or ``NAME=PYTHON``.

        Example:
            >>> Peer.parse("MACE=/opt/mace/bin/python").name
            'MACE'
        """
        name, _, python = text.partition("=")
        if name not in PEERS:
            msg = f"no peer {name!r}; expected some of {', '.join(PEERS)}"
            raise ConfigError(msg)
        return cls(name, python or sys.executable)

    def start(self, given: Structure, folder: Path) -> Side:
        """Its process; the structure is in the folder."""
        if self.name in PROGRAMS:
            worker, kind = "benchmarks.native_worker", [PROGRAMS[self.name]]
            arrays: dict[str, Any] = {"z": given.z, "pos": given.pos.double()}
            if given.cell is not None:
                arrays["cell"] = given.cell.double()
            np.savez(folder / "given.npz", **arrays)
        else:
            worker, kind = "benchmarks.peer_worker", []
            torch.save(for_network(self.name, given), folder / "given.pt")
        return Side(self.name, [self.python, "-m", worker, str(folder), *kind])


def for_network(name: str, given: Structure) -> dict[str, Any]:
    """What the worker of a network reads."""
    kind, settings = NETWORKS[name]
    edges, shift = neighbour_list(given.pos, CUTOFF, cell=given.cell)
    cell = torch.zeros(3, 3) if given.cell is None else given.cell
    atoms = {"z": given.z, "pos": given.pos, "batch": torch.zeros_like(given.z)}
    return atoms | {
        "kind": kind,
        "settings": settings,
        "cell": cell,
        "edges": edges,
        "shift": shift.to(given.pos),
    }


@contextmanager
def running(peers: Sequence[Peer], given: Structure) -> Iterator[Mapping[str, Side]]:
    """Processes that wait for their turns; who cannot run is said and left out."""
    found = {}
    with ExitStack() as stack:
        for peer in peers:
            if len(given.z) > LARGE and peer.name != "SNAP":
                continue
            folder = Path(stack.enter_context(TemporaryDirectory()))
            side = peer.start(given, folder)
            stack.callback(side.end)
            if side.problem:
                print(f"{peer.name}: not run: {side.problem}", flush=True)
                continue
            for _ in range(WARM if peer.name in NETWORKS else 0):
                side.go(first=False)
            found[peer.name] = side
        yield found
