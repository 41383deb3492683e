"""A network of another package in a Python of its own, for comparisons in turns.

    PYTHON -m benchmarks.peer_worker FOLDER

``FOLDER/given.pt`` says what: ``kind`` and ``settings`` of the network, and the atoms.
The weights go to ``FOLDER/weights.pt``, then "ready" is printed. For every line that is
read, energy and forces are computed once; their CPU time in milliseconds and the growth
of the peak memory in MiB are printed, and the forces go to ``FOLDER`` under the name
that the line gives. Imports nothing of torch-cormorant.
"""

from __future__ import annotations

import contextlib
import sys
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from benchmarks.mace_peer import mace_input, make_mace

Energy = Callable[[Tensor], Tensor]


def mir(given: dict[str, Any]) -> tuple[torch.nn.Module, Energy]:
    """A network of nequip or nequip-allegro; there row 0 of edges is the receiver."""
    Keys: Any = import_module("nequip.data").AtomicDataDict
    import_module("nequip.utils.global_state").set_global_state()
    module, name = MIR[given["kind"]]
    make: Any = getattr(import_module(module), name)
    model = make(seed=0, model_dtype="float32", **given["settings"])
    names = given["settings"]["type_names"]
    symbols = {1: "H", 6: "C", 7: "N", 8: "O", 9: "F"}
    types = torch.tensor([names.index(symbols[z]) for z in given["z"].tolist()])
    batch = given["batch"]
    data = {
        Keys.EDGE_INDEX_KEY: given["edges"].flip(0),
        Keys.EDGE_CELL_SHIFT_KEY: -given["shift"],
        Keys.CELL_KEY: given["cell"].expand(int(batch.max()) + 1, 3, 3),
        Keys.ATOM_TYPE_KEY: types,
        Keys.BATCH_KEY: batch,
        Keys.NUM_NODES_KEY: batch.bincount(),
    }

    def energy(pos: Tensor) -> Tensor:
        out: Tensor = model.model.func({**data, Keys.POSITIONS_KEY: pos})[
            Keys.TOTAL_ENERGY_KEY
        ]
        return out.sum()

    return model, energy


def painn(given: dict[str, Any]) -> tuple[torch.nn.Module, Energy]:
    """``PaiNN`` of SchNetPack with ``Atomwise``."""
    dataloader: Any = import_module("torch.utils.data.dataloader")
    if not hasattr(dataloader, "T_co"):  # SchNetPack 2.1 imports it
        dataloader.T_co = TypeVar("T_co", covariant=True)
    spk: Any = import_module("schnetpack")
    properties: Any = import_module("schnetpack.properties")

    settings = given["settings"]
    basis = spk.nn.radial.BesselRBF(settings["n_rbf"], settings["cutoff"])
    cosine = spk.nn.CosineCutoff(settings["cutoff"])
    body = spk.representation.PaiNN(
        settings["channels"], settings["levels"], basis, cosine
    )
    head = spk.atomistic.Atomwise(settings["channels"], output_key="energy")
    model = torch.nn.ModuleDict(
        {"representation": body, "output_modules": torch.nn.ModuleList([head])}
    )
    source, target = given["edges"]
    offsets = given["shift"] @ given["cell"]
    count = int(given["batch"].max()) + 1
    data = {
        properties.Z: given["z"],
        properties.idx_i: target,
        properties.idx_j: source,
        properties.idx_m: given["batch"],
        properties.n_atoms: given["batch"].bincount(minlength=count),
    }

    def energy(pos: Tensor) -> Tensor:
        # what PairwiseDistances computes: r_j - r_i
        vec = pos[source] - pos[target] - offsets
        out: Tensor = head(body({**data, properties.Rij: vec}))["energy"]
        return out.sum()

    return model, energy


def mace(given: dict[str, Any]) -> tuple[torch.nn.Module, Energy]:
    """MACE; ``species`` and ``cutoff`` among its settings."""
    settings = given["settings"]
    model = make_mace(**settings)
    kinds = torch.tensor([settings["species"].index(z) for z in given["z"].tolist()])
    batch = given["batch"]
    cells = given["cell"].expand(int(batch.max()) + 1, 3, 3)
    count, edges, shift = len(settings["species"]), given["edges"], given["shift"]

    def energy(pos: Tensor) -> Tensor:
        data = mace_input(kinds, count, pos, batch, edges, shift, cells)
        out: Tensor = model(data, compute_force=False)["node_energy"]
        return out.sum()

    return model, energy


MIR = {
    "nequip": ("nequip.model", "NequIPGNNModel"),
    "allegro": ("allegro.model", "AllegroModel"),
}
KINDS = {"nequip": mir, "allegro": mir, "painn": painn, "mace": mace}


def peak() -> float:
    """Largest resident memory so far, in MiB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def serve(
    folder: Path, given: dict[str, Any], energy: Energy, weights: dict[str, Tensor]
) -> None:
    """Compute once for every line that is read.

    Args:
        folder: Where results go.
        given: What was asked for.
        energy: Sum of the energies as a function of positions.
        weights: By the names of the peer.
    """
    if weights:
        own = {name: value.detach().clone() for name, value in weights.items()}
        torch.save(own, folder / "weights.pt")
    before = peak()
    print("ready", flush=True)
    for line in sys.stdin:
        start = time.process_time()
        pos = given["pos"].clone().requires_grad_()
        (slope,) = torch.autograd.grad(energy(pos), pos)
        took = time.process_time() - start
        torch.save(-slope, folder / line.strip())
        print(1e3 * took, peak() - before, flush=True)


def main() -> None:
    """Compute what is asked for."""
    folder = Path(sys.argv[1])
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    given = torch.load(folder / "given.pt", weights_only=True)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # notices of packages
            model, energy = KINDS[given["kind"]](given)
    except ImportError as missing:
        print(f"missing: {missing}", flush=True)
        return
    model.eval().requires_grad_(requires_grad=False)
    serve(folder, given, energy, model.state_dict())


if __name__ == "__main__":
    main()
