"""Make torch_cormorant/data/mini_qm9.npz: small molecules at QM9's level of theory.

Enumerates closed-shell molecules of up to four heavy atoms and a sample with five,
embeds them with RDKit, relaxes them with GFN2-xTB (tblite) and labels them with
PySCF at B3LYP/6-31G(2df,p): total and atomisation energy, dipole, HOMO, LUMO, r2.
Every finished molecule is one line of a JSON file, so a second start goes on where
the first one stopped. About an hour on two cores.

    pip install rdkit ase tblite pyscf
    python scripts/generate_mini_qm9.py mini.jsonl
    python scripts/generate_mini_qm9.py mini.jsonl --pack mini_qm9.npz
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

# One thread per worker; must be set before NumPy and PySCF are imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

LEVEL_OF_THEORY = "B3LYP/6-31G(2df,p)//GFN2-xTB"
SYMBOL = {1: "H", 6: "C", 7: "N", 8: "O", 9: "F"}
VALENCE = {"C": 4, "N": 3, "O": 2, "F": 1}
#: Hartree, U0 of QM9's atomref.txt.
ATOM_ENERGY = {
    1: -0.500273,
    6: -37.846772,
    7: -54.583861,
    8: -75.064579,
    9: -99.71873,
}
#: QM9's polarisation functions: p on H; two d (1.6, 0.4) and this f on the others.
F_EXPONENT = {"C": 0.8, "N": 1.0, "O": 1.4, "F": 1.85}
DEBYE_PER_ATOMIC_UNIT = 2.541746473
#: Angstrom. Atoms closer than 1.3 times the sum of radii must be bonded.
COVALENT_RADIUS = {1: 0.35, 6: 0.77, 7: 0.75, 8: 0.72, 9: 0.71}

Array = NDArray[np.float64]


def enumerate_smiles(heavy: int) -> list[str]:
    """SMILES of all accepted molecules with that many heavy atoms, sorted."""
    from rdkit import RDLogger

    RDLogger.DisableLog("rdApp.*")
    found = set()
    for bonds in _bond_patterns(heavy):
        degree = [0] * heavy
        for (first, second), order in bonds.items():
            degree[first] += order
            degree[second] += order
        if max(degree) > 4 or (min(degree) == 0 and heavy > 1):
            continue
        for elements in itertools.product("CNOF", repeat=heavy):
            if _plausible(elements, degree, bonds):
                smiles = _accepted_smiles(elements, bonds)
                if smiles is not None:
                    found.add(smiles)
    return sorted(found)


def _bond_patterns(heavy: int) -> Iterator[dict[tuple[int, int], int]]:
    pairs = list(itertools.combinations(range(heavy), 2))
    for orders in itertools.product((0, 1, 2, 3), repeat=len(pairs)):
        yield {pair: order for pair, order in zip(pairs, orders, strict=True) if order}


def _plausible(
    elements: tuple[str, ...], degree: list[int], bonds: dict[tuple[int, int], int]
) -> bool:
    """No valence exceeded, a carbon atom, no bond between hetero-atoms."""
    if any(d > VALENCE[e] for d, e in zip(degree, elements, strict=True)):
        return False
    if len(elements) > 1 and "C" not in elements:
        return False
    return all("C" in (elements[a], elements[b]) for a, b in bonds)


def _accepted_smiles(
    elements: tuple[str, ...], bonds: dict[tuple[int, int], int]
) -> str | None:
    """SMILES of a connected molecule with at most one, unstrained ring."""
    from rdkit import Chem

    types = {
        1: Chem.BondType.SINGLE,
        2: Chem.BondType.DOUBLE,
        3: Chem.BondType.TRIPLE,
    }
    molecule = Chem.RWMol()
    for element in elements:
        molecule.AddAtom(Chem.Atom(element))
    for (first, second), order in bonds.items():
        molecule.AddBond(first, second, types[order])
    try:
        Chem.SanitizeMol(molecule)
    except Chem.MolSanitizeException:
        return None
    smiles: str = Chem.MolToSmiles(molecule)
    return None if "." in smiles or _strained(molecule) else smiles


def _strained(molecule: Any) -> bool:
    """Whether rings are fused or hold bonds that do not fit into them."""
    rings = molecule.GetRingInfo()
    if rings.NumRings() > 1:
        return True
    order = {bond.GetIdx(): bond.GetBondTypeAsDouble() for bond in molecule.GetBonds()}
    for ring in rings.BondRings():
        largest = max(order[bond] for bond in ring)
        if largest == 3 or (len(ring) == 3 and largest > 1):
            return True
    return any(
        atom.IsInRing()
        and sum(bond.GetBondTypeAsDouble() == 2 for bond in atom.GetBonds()) > 1
        for atom in molecule.GetAtoms()
    )


def relaxed_geometry(smiles: str) -> tuple[list[int], Array] | None:
    """Atomic numbers and GFN2-xTB geometry in Angstrom, centred.

    None where no geometry with the bonds of the SMILES was found.
    """
    from ase import Atoms
    from ase.optimize import BFGS
    from rdkit import Chem
    from rdkit.Chem import AllChem
    from tblite.ase import TBLite

    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    if AllChem.EmbedMolecule(molecule, randomSeed=7) != 0:
        return None
    z = [atom.GetAtomicNum() for atom in molecule.GetAtoms()]
    atoms = Atoms(numbers=z, positions=molecule.GetConformer().GetPositions())
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    if not BFGS(atoms, logfile=None).run(fmax=0.005, steps=300):
        return None
    pos = atoms.get_positions()
    distance = np.linalg.norm(pos[:, None] - pos[None], axis=-1)
    for first, second in itertools.combinations(range(len(z)), 2):
        bonded = molecule.GetBondBetweenAtoms(first, second) is not None
        limit = 1.3 * (COVALENT_RADIUS[z[first]] + COVALENT_RADIUS[z[second]])
        if bonded != (distance[first, second] < limit):
            return None
    return z, pos - pos.mean(0)


def _basis(elements: set[str]) -> dict[str, list[Any]]:
    """6-31G with QM9's polarisation functions (2df,p)."""
    from pyscf import gto

    basis = {}
    for element in elements:
        shells = list(gto.basis.load("6-31g", element))
        if element == "H":
            shells += [[1, [1.1, 1.0]]]
        else:
            shells += [
                [2, [1.6, 1.0]],
                [2, [0.4, 1.0]],
                [3, [F_EXPONENT[element], 1.0]],
            ]
        basis[element] = shells
    return basis


def _spherical_f(mol: Any) -> Array:
    """Matrix from Cartesian s, p, d and spherical f to all-Cartesian functions.

    QM9 was computed with Cartesian d and spherical f; PySCF offers one or the other.
    """
    from pyscf import gto
    from scipy.linalg import block_diag

    blocks = []
    for shell in range(mol.nbas):
        degree = mol.bas_angular(shell)
        size = (degree + 1) * (degree + 2) // 2
        block = gto.cart2sph(degree) if degree >= 3 else np.eye(size)
        blocks += [block] * mol.bas_nctr(shell)
    matrix: Array = block_diag(*blocks)
    return matrix


def _solve(mol: Any, to_cartesian: Array) -> Any:
    """Converged B3LYP in the mixed basis."""
    from pyscf import dft, lib, scf

    t = to_cartesian

    class MixedRKS(dft.rks.RKS):  # type: ignore[misc]
        """Restricted Kohn-Sham with every operator taken to the mixed basis."""

        def get_ovlp(self, _mol: object = None) -> Array:
            return t.T @ super().get_ovlp() @ t

        def get_hcore(self, _mol: object = None) -> Array:
            return t.T @ super().get_hcore() @ t

        def get_init_guess(self, *_: object, **__: object) -> Array:
            density, overlap = scf.hf.init_guess_by_minao(mol), super().get_ovlp()
            project = np.linalg.solve(t.T @ overlap @ t, t.T @ overlap)
            return project @ density @ project.T

        def get_veff(
            self, _mol: object = None, dm: Array | None = None, *_: object, **__: object
        ) -> Array:
            dm = self.make_rdm1() if dm is None else dm
            v = dft.rks.get_veff(self, mol, t @ np.asarray(dm) @ t.T)
            mixed = t.T @ np.asarray(v) @ t
            return lib.tag_array(mixed, ecoul=v.ecoul, exc=v.exc, vj=None, vk=None)

    solver = MixedRKS(mol)
    solver.xc, solver.grids.level, solver.conv_tol = "b3lyp", 3, 1e-9
    solver.kernel()
    return solver


def properties(z: list[int], pos: Array) -> dict[str, Any]:
    """Labels of one molecule; units as in the packed file."""
    from pyscf import gto, lib

    lib.num_threads(1)
    mol = gto.M(
        atom=[(SYMBOL[k], p) for k, p in zip(z, pos, strict=True)],
        basis=_basis({SYMBOL[k] for k in z}),
        cart=True,
        verbose=0,
    )
    to_cartesian = _spherical_f(mol)
    solver = _solve(mol, to_cartesian)
    density = to_cartesian @ solver.make_rdm1() @ to_cartesian.T
    charge, xyz = mol.atom_charges(), mol.atom_coords()
    nuclear = (charge[:, None] * xyz).sum(0)
    electronic = np.einsum("xij,ji->x", mol.intor("int1e_r"), density)
    with mol.with_common_orig(nuclear / charge.sum()):
        r2 = float(np.einsum("ij,ji", mol.intor("int1e_r2"), density))
    occupied = mol.nelectron // 2
    return {
        "energy": float(solver.e_tot),
        "energy_atom": float(solver.e_tot - sum(ATOM_ENERGY[k] for k in z)),
        "dipole": ((nuclear - electronic) * DEBYE_PER_ATOMIC_UNIT).tolist(),
        "homo": float(solver.mo_energy[occupied - 1]),
        "lumo": float(solver.mo_energy[occupied]),
        "r2": r2,
        "converged": bool(solver.converged),
    }


def compute(smiles: str) -> dict[str, Any]:
    """One line of the JSON file."""
    start = time.time()
    try:
        found = relaxed_geometry(smiles)
        if found is None:
            return {"smiles": smiles, "skipped": "geometry"}
        z, pos = found
        labels = properties(z, pos)
    except Exception as error:  # noqa: BLE001  one bad molecule must not stop the run
        return {"smiles": smiles, "skipped": f"{type(error).__name__}: {error}"[:200]}
    seconds = round(time.time() - start, 2)
    return {"smiles": smiles, "z": z, "pos": pos.tolist(), **labels, "seconds": seconds}


def all_smiles(five: int) -> list[str]:
    """Everything up to four heavy atoms, and a seeded sample with five."""
    small = [smiles for n in (1, 2, 3, 4) for smiles in enumerate_smiles(n)]
    large = enumerate_smiles(5) if five else []
    chosen = np.random.default_rng(0).permutation(len(large))[:five]
    return small + [large[k] for k in sorted(chosen)]


def compute_all(out: Path, todo: list[str], workers: int, seconds: float) -> None:
    """Append a line per molecule, until all are done or the time is over."""
    stop = time.time() + seconds
    queue = iter(todo)
    with out.open("a") as sink, ProcessPoolExecutor(workers) as pool:
        running: set[Future[dict[str, Any]]] = {
            pool.submit(compute, smiles) for smiles in itertools.islice(queue, workers)
        }
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                sink.write(json.dumps(future.result()) + "\n")
                sink.flush()
                following = next(queue, None) if time.time() < stop else None
                if following is not None:
                    running.add(pool.submit(compute, following))


def pack(source: Path, target: Path) -> None:
    """Write the converged molecules as flat arrays."""
    rows = [row for row in _lines(source) if row.get("converged")]
    rows.sort(key=lambda row: (len(row["z"]), row["smiles"]))
    scalars = ("energy", "energy_atom", "homo", "lumo", "r2")
    np.savez_compressed(
        target,
        z=np.concatenate([row["z"] for row in rows]).astype(np.uint8),
        pos=np.concatenate([row["pos"] for row in rows]),
        offset=np.cumsum([0] + [len(row["z"]) for row in rows]),
        smiles=np.array([row["smiles"] for row in rows]),
        dipole=np.array([row["dipole"] for row in rows]),
        **{name: np.array([row[name] for row in rows]) for name in scalars},
        level_of_theory=np.array(LEVEL_OF_THEORY),
        units=np.array(
            "pos Angstrom; energy, energy_atom, homo, lumo Hartree; dipole Debye; "
            "r2 bohr^2"
        ),
    )
    print(f"{len(rows)} molecules in {target}")


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, help="JSON lines, appended to")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3000)
    parser.add_argument("--five", type=int, default=60, help="molecules of five atoms")
    parser.add_argument("--pack", type=Path, help="write this .npz and stop")
    args = parser.parse_args()
    if args.pack:
        pack(args.out, args.pack)
        return
    done = {row["smiles"] for row in _lines(args.out)} if args.out.exists() else set()
    todo = [smiles for smiles in all_smiles(args.five) if smiles not in done]
    print(f"{len(done)} done, {len(todo)} to do", flush=True)
    compute_all(args.out, todo, args.workers, args.seconds)


if __name__ == "__main__":
    main()
