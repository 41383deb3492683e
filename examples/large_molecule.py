"""Energy and forces of a large molecule within a memory budget.

    python examples/large_molecule.py protein.pdb --memory 4GiB
    python examples/large_molecule.py water.npz --device cuda
    python examples/large_molecule.py --scaling 1000 10000 100000 --memory 8GiB

Reads PDB, XYZ, extxyz and npz (z, pos, cell, pbc). Receivers are taken in chunks, so
nothing is cut off: forces are those of the whole system. Prints atoms/s, edges/s and
peak memory; --scaling draws time and memory of boxes of growing size. Without --model
the network has size="complex" and random weights: right for timing, not for physics.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from ase.data import atomic_numbers
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from torch import Tensor

from torch_cormorant import Cormorant, load_model
from torch_cormorant.errors import ConfigError, CormorantError, DataError
from torch_cormorant.interfaces.structures import read_atoms
from torch_cormorant.models.chunked import evaluate_in_chunks
from torch_cormorant.models.memory_plan import as_bytes

SPECIES = (1, 6, 7, 8, 9, 11, 12, 14, 15, 16, 17, 20, 30)
DENSITY = 0.1  # atoms per cubic Angstrom, as in water


@dataclass
class System:
    """A structure as tensors."""

    name: str
    z: Tensor
    pos: Tensor
    cell: Tensor | None
    pbc: Tensor | None


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--model", type=Path, help="default: random weights")
    parser.add_argument(
        "--memory", type=as_bytes, help="such as 8GiB; default: no limit"
    )
    parser.add_argument("--scaling", type=int, nargs="+", default=[], help="atoms")
    parser.add_argument("--cutoff", type=float, default=5.0, help="of random weights")
    parser.add_argument("--levels", type=int, default=3)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--lmax", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/large"))
    args = parser.parse_args(argv)
    if not args.files and not args.scaling:
        parser.error("give a structure file, or --scaling with numbers of atoms")
    return args


def read_system(path: Path) -> System:
    """A structure file of any of the formats."""
    if not path.exists():
        raise DataError(f"{path}: no such file")
    if path.suffix == ".npz":
        return _from_npz(path)
    atoms = read_atoms(path, index=0)
    pbc = torch.from_numpy(np.array(atoms.pbc))
    real = bool(pbc.any())
    if path.suffix.lower() in (".pdb", ".ent"):
        # they often hold a cell of one Angstrom that means nothing
        real = real and abs(np.linalg.det(atoms.cell.array)) > len(atoms)
    return System(
        path.name,
        torch.from_numpy(atoms.numbers).long(),
        torch.from_numpy(atoms.positions),
        torch.from_numpy(atoms.cell.array) if real else None,
        pbc if real else None,
    )


def _from_npz(path: Path) -> System:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        z = torch.from_numpy(arrays["z"].astype(np.int64))
        pos = torch.from_numpy(arrays["pos"].astype(np.float64)).reshape(-1, 3)
        pos = pos[: z.shape[0]]
        cell = torch.from_numpy(np.array(arrays.get("cell", np.zeros((3, 3)))))
        # a cell without pbc repeats, as in all frames of this package
        periodic = np.full(3, bool(cell.any()))
        pbc = torch.from_numpy(np.array(arrays.get("pbc", periodic), dtype=bool))
    except (KeyError, ValueError, OSError) as error:
        msg = f"{path}: needs z [N] and pos [N, 3], and cell, pbc if periodic ({error})"
        raise DataError(msg) from error
    if len(arrays.get("offset", ())) > 2:
        count = len(arrays["offset"]) - 1
        msg = (
            f"{path}: holds {count} structures; write one of them to a file of its own"
        )
        raise DataError(msg)
    if z.ndim != 1 or z.shape[0] == 0 or pos.shape[0] != z.shape[0]:
        shapes = f"{list(arrays['z'].shape)} and {list(arrays['pos'].shape)}"
        raise DataError(f"{path}: z [N] and pos [N, 3] do not fit, they are {shapes}")
    if arrays["pos"].ndim == 3 and len(arrays["pos"]) > 1:
        print(f"{path.name}: frame 0 of {len(arrays['pos'])}")
    if not bool(pbc.any()):
        return System(path.name, z, pos, None, None)
    pbc = pbc.reshape(-1, 3)[0]
    return System(path.name, z, pos, cell.double().reshape(-1, 3, 3)[0], pbc)


def random_box(atoms: int) -> System:
    """Water-like elements and density on a disturbed lattice in a periodic box."""
    random = np.random.default_rng(0)
    side = int(np.ceil(atoms ** (1 / 3)))
    spacing = DENSITY ** (-1 / 3)
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3), axis=-1).reshape(-1, 3)
    pos = spacing * (grid[:atoms] + 0.1 * random.normal(size=(atoms, 3)))
    z = np.where(np.arange(atoms) % 3 == 0, atomic_numbers["O"], atomic_numbers["H"])
    height = spacing * np.ceil(atoms / side**2)
    cell = np.diag([spacing * side, height, spacing * side])
    return System(
        "box",
        torch.from_numpy(z),
        torch.from_numpy(pos),
        torch.from_numpy(cell),
        torch.ones(3, dtype=torch.bool),
    )


def peak_memory(device: str) -> int:
    """Largest memory so far, in bytes: of the process, or of the GPU's tensors."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure(model: Cormorant, system: System, args: argparse.Namespace) -> dict:
    """Evaluate once, print and return the numbers."""
    tensors = (system.z, system.pos, system.cell, system.pbc)
    z, pos, cell, pbc = (None if t is None else t.to(args.device) for t in tensors)
    before = peak_memory(args.device)
    begin, cpu = time.perf_counter(), time.process_time()
    out = evaluate_in_chunks(model, z, pos, cell, pbc, memory=args.memory)
    force = float(out.forces.norm(dim=1).max())  # waits for the device
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    row = {
        "name": system.name,
        "atoms": z.shape[0],
        "edges": out.num_edges,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak_bytes": peak_memory(args.device),
        "peak_bytes_before": before,
        "chunk_edges": out.plan.chunk_edges,
        "keep_edges": out.plan.keep_edges,
        "energy": float(out.energy),
        "largest_force": force,
    }
    # a busy machine makes the clock on the wall useless
    used = cpu if args.device == "cpu" else seconds
    print(
        f"{system.name}: {row['atoms']:,} atoms, {row['edges']:,} edges, {used:.1f} s"
        f"{' CPU' if args.device == 'cpu' else ''}, "
        f"{row['atoms'] / used:,.0f} atoms/s, "
        f"{row['edges'] / used:,.0f} edges/s, peak memory "
        f"{row['peak_bytes'] / 2**30:.2f} GiB (before: {before / 2**30:.2f}), energy "
        f"{row['energy']:.6g}, largest force {force:.3g}",
        flush=True,
    )
    return row


def plot(path: Path, rows: list[dict], device: str, budget: int | None = None) -> None:
    """Time and memory over atoms, the slope of least squares, and the budget."""
    atoms = np.array([row["atoms"] for row in rows], float)
    name = "cpu_seconds" if device == "cpu" else "seconds"
    used = np.array([row[name] for row in rows])
    memory = np.array([row["peak_bytes"] for row in rows]) / 2**30
    slope = np.polyfit(np.log(atoms), np.log(used), 1)[0]
    figure = Figure(figsize=(7.6, 3.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    left.loglog(atoms, used, "o-", color="#1f5fa8")
    left.set_title(f"energy and forces, exponent {slope:.2f}", fontsize=10)
    left.set_ylabel("CPU seconds" if device == "cpu" else "seconds")
    right.loglog(atoms, memory, "o-", color="#d9772b")
    right.set_ylabel("peak memory of the process [GiB]")
    right.set_title("no budget given", fontsize=10)
    if budget is not None:
        right.axhline(budget / 2**30, color="#777777", linestyle="--", linewidth=1)
        right.set_title(f"budget {budget / 2**30:g} GiB (dashed)", fontsize=10)
    # powers of ten alone would leave a short axis without numbers
    ticks = (1,) if atoms[-1] > 100 * atoms[0] else (1, 3)
    for axes in (left, right):
        axes.set_xlabel("atoms")
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.xaxis.set_major_locator(LogLocator(subs=ticks))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.grid(which="both", color="#e4e4e4", linewidth=0.6)
    figure.savefig(path)
    print(f"time grows with atoms to the power {slope:.2f}; {path}")


def run(args: argparse.Namespace) -> None:
    """All structures, then the scaling."""
    torch.set_num_threads(args.threads)
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError("--device cuda: this PyTorch sees no CUDA device")
    if args.model is None:
        torch.manual_seed(0)
        model = Cormorant.potential(
            SPECIES,
            size="complex",
            channels=args.channels,
            num_levels=args.levels,
            lmax=args.lmax,
            cutoff=args.cutoff,
        )
    else:
        model = load_model(args.model)
    model = model.to(args.device).eval()
    args.out.mkdir(parents=True, exist_ok=True)
    rows = [measure(model, read_system(path), args) for path in args.files]
    boxes = [measure(model, random_box(n), args) for n in sorted(args.scaling)]
    text = json.dumps(rows + boxes, indent=2)
    (args.out / "large.json").write_text(text + "\n")
    if len(boxes) > 1:
        plot(args.out / "scaling.png", boxes, args.device, args.memory)


def main(argv: list[str] | None = None) -> int:
    """Run; a mistake ends in one line."""
    try:
        run(parse(argv))
    except (CormorantError, OSError) as error:
        print(f"large_molecule.py: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
