"""Where molecules come from: a file of QM9, or SMILES that are put together here."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

ELEMENTS = (1, 6, 7, 8, 9, 16, 17)
BOND = 1.25  # bonded: nearer than this times the sum of the radii
TRIES = 300

# {} is a place for one of GROUPS, or for a hydrogen.
CORES = (
    *("C{}", "C{}C{}C", "C{}=C{}", "C#C{}", "O=C{}N{}", "N{}C(=O)N{}", "C{}OC{}"),
    *("O=C(O)C{}", "O=C{}C{}", "N{}C{}C", "C{}SC{}", "CS(=O)(=O)N{}", "C1CC1{}"),
    *("C1CCC{}C1", "C1CCC{}CC1{}", "C1CCN{}CC1", "C1COCCN1{}", "O=C1CCCN1{}"),
    *("C1CSCC1{}", "C1CO1", "c1ccc{}cc1{}", "c1cc{}cc{}c1{}", "c1cc{}ncc1{}"),
    *("c1nc{}nc{}n1", "c1cc{}oc1{}", "c1cc{}sc1{}", "c1cc{}[nH]c1", "c1cn{}cn1"),
    *("c1c{}ocn1", "c1c{}snc1", "c1ccc2c(c1)c{}c[nH]2", "c1ccc2ncc{}cc2c1"),
    *("CC(=O)NC{}C(=O)NC", "O=c1cc{}[nH]c(=O)[nH]1", "c1nc{}c2nc[nH]c2n1"),
)
# Bound by their first atom; rings in them are numbered 9, those of cores 1 and 2.
GROUPS = (
    *("C", "CC{}", "C(C)C", "CCC{}", "C=C{}", "C#C{}", "CO", "CN{}", "CCl", "C(F)F"),
    *("F", "F", "Cl", "Cl", "C(F)(F)F", "O", "OC{}", "N", "NC{}", "N(C)C{}", "C=O"),
    *("S", "SC{}", "S(=O)C", "S(=O)(=O)C{}", "S(=O)(=O)N{}", "C#N", "C(=O)O"),
    *("C(=O)N{}", "C(=O)C{}", "C(=O)OC{}", "NC(=O)C{}", "[N+](=O)[O-]", "CSC{}"),
    *("C9CC9", "c9ccccc9", "c9ccccn9", "c9cccs9", "N9CCOCC9", "C9CCCO9"),
)
# Halogens on other atoms than carbon, chains of O, S and N.
STRANGE = (
    "[F,Cl]~[!#6]",
    "[OX2,SX2;!a]-[OX2,SX2,NX3;!a]",
    "[NX3;!a]-[NX3;!a]",
)
RARE = "[F,S,s,Cl]"  # elements that QM9 has little or nothing of
# Of dimers and clusters.
SMALL = (
    *("O", "N", "C", "S", "Cl", "F", "CO", "CN", "CS", "CF", "CCl", "CC", "C=C"),
    *("C#C", "C=O", "C#N", "CC#N", "O=C=O", "NC=O", "O=CO", "CC(=O)O", "CC(C)=O"),
    *("COC", "CSC", "CNC(C)=O", "NC(N)=O", "CS(C)=O", "CC(F)(F)F", "ClC(Cl)Cl"),
    *("c1ccccc1", "c1ccncc1", "c1c[nH]cn1", "c1ccoc1", "c1ccsc1", "Oc1ccccc1"),
)


class UnusableError(Exception):
    """A molecule that no structure can be made of; it is counted and left out."""


@dataclass(frozen=True)
class Molecule:
    """A molecule at some geometry (Angstrom).

    ``name`` is its canonical SMILES without stereochemistry, ``mol`` RDKit's, where
    there is one.
    """

    name: str
    z: Integers
    pos: Floats
    bonds: tuple[tuple[int, int], ...]
    mol: Any = None


def quiet() -> None:
    """Keep RDKit from reporting SMILES that were tried in vain."""
    from rdkit import RDLogger

    RDLogger.DisableLog("rdApp.*")


def canonical(smiles: str) -> str | None:
    """Canonical SMILES, if it is a closed-shell neutral molecule of known elements."""
    from rdkit import Chem

    mol = Chem.MolFromSmiles(smiles)
    if mol is None or Chem.GetFormalCharge(mol) != 0:
        return None
    if any(
        atom.GetNumRadicalElectrons() or atom.GetAtomicNum() not in ELEMENTS
        for atom in mol.GetAtoms()
    ):
        return None
    name: str = Chem.MolToSmiles(mol, isomericSmiles=False)
    return name


@functools.lru_cache(maxsize=1)
def _qm9_arrays(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path, allow_pickle=False) as file:
        found = {name: file[name] for name in ("z", "pos", "offset", "smiles")}
    return {**found, "rows": np.flatnonzero(found["smiles"] != "")}


def qm9(path: Path, rng: np.random.Generator) -> Molecule:
    """A molecule of a file like those of ``read_qm9(npz=...)``, at its geometry."""
    arrays = _qm9_arrays(path)
    row = int(rng.choice(arrays["rows"]))
    name = canonical(str(arrays["smiles"][row]))
    if name is None:
        raise UnusableError("SMILES of QM9 not understood")
    atoms = slice(*arrays["offset"][row : row + 2])
    z = arrays["z"][atoms].astype(np.int64)
    pos = arrays["pos"][atoms].astype(np.float64)
    return Molecule(name, z, pos, perceived(z, pos))


def radii(z: Integers, which: str = "GetRcovalent") -> Floats:
    """Covalent (or with ``GetRvdw`` van der Waals) radii, Angstrom."""
    from rdkit import Chem

    radius = getattr(Chem.GetPeriodicTable(), which)
    return np.array([radius(int(k)) for k in z])


def perceived(z: Integers, pos: Floats) -> tuple[tuple[int, int], ...]:
    """Pairs of atoms that are near enough to be bonded."""
    radius = radii(z)
    apart = np.linalg.norm(pos[:, None] - pos[None], axis=-1)
    bonded = np.triu(apart < BOND * (radius[:, None] + radius), 1)
    return tuple((int(i), int(j)) for i, j in np.argwhere(bonded))


def assembled(rng: np.random.Generator, heavy: int) -> str:
    """SMILES of a core with groups, and groups on those, up to about that size."""
    text = str(rng.choice(CORES))
    while "{}" in text:
        size = sum(letter in "CcNnOoFSs" for letter in text)
        group = ""
        if size < heavy and rng.random() < 0.8:
            group = f"({rng.choice(GROUPS)})"
        text = text.replace("{}", group, 1)
    return text


def drawn(
    rng: np.random.Generator, atoms: tuple[int, int], *, rare: bool = False
) -> str:
    """Canonical SMILES of a molecule with that many atoms, hydrogen included.

    ``rare``: and with F, S or Cl.
    """
    from rdkit import Chem

    refused = tuple(map(Chem.MolFromSmarts, STRANGE))
    wanted = Chem.MolFromSmarts(RARE)
    for _ in range(TRIES):
        heavy = int(rng.integers(atoms[0] // 2, atoms[1] // 2 + 2))
        name = canonical(assembled(rng, heavy))
        if name is None:
            continue
        mol = Chem.MolFromSmiles(name)
        if not atoms[0] <= mol.GetNumAtoms(onlyExplicit=False) <= atoms[1]:
            continue
        if rare and not mol.HasSubstructMatch(wanted):
            continue
        if not any(map(mol.HasSubstructMatch, refused)):
            return name
    raise UnusableError("no SMILES of that size found")


def embedded(name: str, rng: np.random.Generator, conformers: int = 1) -> Any:
    """RDKit's molecule with hydrogens and conformers, relaxed with MMFF94."""
    from rdkit import Chem
    from rdkit.Chem import AllChem

    mol = Chem.AddHs(Chem.MolFromSmiles(name))
    seed = int(rng.integers(2**31 - 1))
    made = AllChem.EmbedMultipleConfs(mol, conformers, randomSeed=seed, numThreads=1)
    if len(made) == 0:
        raise UnusableError("not embedded")
    if AllChem.MMFFHasAllMoleculeParams(mol):
        AllChem.MMFFOptimizeMoleculeConfs(mol, numThreads=1, maxIters=500)
    return mol


def numbers(mol: Any) -> Integers:
    """Atomic numbers."""
    return np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()], dtype=np.int64)


def built(name: str, rng: np.random.Generator) -> Molecule:
    """A molecule of that SMILES, embedded."""
    mol = embedded(name, rng)
    bonds = tuple((b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in mol.GetBonds())
    return Molecule(name, numbers(mol), mol.GetConformer().GetPositions(), bonds, mol)
