"""Geometries that both sides begin with, made by RDKit."""

from __future__ import annotations

from typing import Any

import numpy as np
from organic_gfn2.molecules import Molecule, embedded, numbers

from organic_checks import lists

Arrays = dict[str, Any]
SEED = 7


def _mol(smiles: str, count: int = 1) -> Any:
    from rdkit import Chem

    if "[H]" not in smiles:
        return embedded(smiles, np.random.default_rng(SEED), count)
    # a hydrogen that is named keeps its place
    from rdkit.Chem import AllChem

    options = Chem.SmilesParserParams()
    options.removeHs = False
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles, options))
    AllChem.EmbedMolecule(mol, randomSeed=SEED)
    AllChem.MMFFOptimizeMolecule(mol)
    return mol


def _of(name: str, mol: Any, conformer: int = -1) -> Arrays:
    pos = mol.GetConformer(conformer).GetPositions()
    return {f"{name}:z": numbers(mol), f"{name}:pos": pos}


def _bonds(mol: Any) -> tuple[tuple[int, int], ...]:
    return tuple((b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in mol.GetBonds())


def _behind(mol: Any, first: int, second: int) -> Any:
    """Atoms on the second one's side of a bond."""
    from organic_gfn2.distort import side

    bonds = tuple(
        (first, second) if set(bond) == {first, second} else bond
        for bond in _bonds(mol)
    )
    return np.array(side(bonds, (first, second)))


def molecules(many: dict[str, str]) -> Arrays:
    """One geometry of each."""
    found: Arrays = {}
    for name, smiles in many.items():
        found |= _of(name, _mol(smiles))
    return found


def conformers() -> Arrays:
    """Several geometries of some drugs."""
    found: Arrays = {}
    for name in lists.FLEXIBLE:
        mol = _mol(lists.DRUGS[name], lists.CONFORMERS)
        for number, conformer in enumerate(mol.GetConformers()):
            found |= _of(f"{name}/{number}", mol, conformer.GetId())
    return found


def torsions() -> Arrays:
    """Molecules, the bond to turn around and what turns."""
    found: Arrays = {}
    for name, (smiles, atoms) in lists.TORSIONS.items():
        mol = _mol(smiles)
        _, second, third, _ = atoms
        found |= _of(name, mol)
        found[f"{name}:axis"] = np.array([second, third])
        found[f"{name}:moved"] = _behind(mol, second, third)
    return found


def stretches() -> Arrays:
    """Molecules, the bond and what moves away."""
    found: Arrays = {}
    for name, (smiles, (first, second)) in lists.STRETCHES.items():
        mol = _mol(smiles)
        found |= _of(name, mol)
        found[f"{name}:axis"] = np.array([first, second])
        found[f"{name}:moved"] = _behind(mol, first, second)
    return found


def protons() -> Arrays:
    """Molecules, and where each proton goes."""
    found: Arrays = {}
    for name, (smiles, ways) in lists.PROTONS.items():
        mol = _mol(smiles)
        _closed(mol, ways[0])
        found |= _of(name, mol)
        found[f"{name}:ways"] = np.array(ways)
    return found


def _closed(mol: Any, way: tuple[int, int, int]) -> None:
    """Bend a chain by MMFF until the proton reaches both atoms."""
    from rdkit.Chem import AllChem

    proton, _, other = way
    given = AllChem.MMFFGetMoleculeProperties(mol)
    field = AllChem.MMFFGetMoleculeForceField(mol, given)
    field.Initialize()
    field.MMFFAddDistanceConstraint(proton, other, False, 1.5, 1.7, 1000.0)
    field.Minimize(maxIts=2000)


def waters() -> Arrays:
    """Clusters, and one alone."""
    from organic_gfn2 import together

    mol = _mol("O")
    one = Molecule("O", numbers(mol), mol.GetConformer().GetPositions(), ())
    found: Arrays = {"1:z": one.z, "1:pos": one.pos}
    for count in lists.WATERS:
        rng = np.random.default_rng(SEED + count)
        found[f"{count}:z"] = np.tile(one.z, count)
        found[f"{count}:pos"] = together.packed([one] * count, rng)
    return found


def alkanes() -> Arrays:
    """Zigzag chains, by hand: RDKit takes long for them."""
    found: Arrays = {}
    for count in lists.ALKANES:
        z, pos = _chain(count)
        found |= {f"{len(z)}:z": z, f"{len(z)}:pos": pos}
    return found


def _chain(count: int) -> tuple[Any, Any]:
    step, height = 1.27, 0.42
    carbon = [[step * k, height * (-1) ** k, 0.0] for k in range(count)]
    hydrogen = [
        [step * k, (height + 0.63) * (-1) ** k, side]
        for k in range(count)
        for side in (0.89, -0.89)
    ]
    last = (-1) ** (count - 1)
    ends = [
        [-0.89, height - 0.63, 0.0],
        [step * (count - 1) + 0.89, last * (height - 0.63), 0.0],
    ]
    z = np.array([6] * count + [1] * (2 * count + 2))
    return z, np.array([*carbon, *hydrogen, *ends])
