"""Geometries of SMILES, made by RDKit."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch_geometric.data import Data

from torch_cormorant.errors import BackendError, DataError

__all__ = ["frame_of", "molecule_of", "rdkit", "read_smiles"]


def read_smiles(smiles: str, where: str = "smiles") -> Data:
    """A molecule by its SMILES, with hydrogens and a geometry (ETKDG and MMFF).

    The same SMILES has the same geometry every time.

    Args:
        smiles: The SMILES.
        where: What it is called in messages.

    Returns:
        ``z [N]``, ``pos [N, 3]`` in Angstrom, and the numbers ``charge`` and
        ``multiplicity``.

    Raises:
        DataError: It is not understood, or no geometry is found.
        BackendError: RDKit is missing.

    Example:
        >>> import pytest
        >>> _ = pytest.importorskip("rdkit")
        >>> read_smiles("CCO").z.tolist()
        [6, 6, 8, 1, 1, 1, 1, 1, 1]
    """
    molecule = rdkit().AddHs(molecule_of(smiles, where))
    return frame_of(_embedded(molecule, where), where)


def rdkit() -> Any:
    """RDKit's ``Chem``.

    Raises:
        BackendError: It is missing.
    """
    try:
        package: Any = import_module("rdkit")
        chem = import_module("rdkit.Chem")
        import_module("rdkit.Chem.AllChem")
    except ImportError:
        raise BackendError(
            'sdf and SMILES need RDKit: pip install "torch-cormorant[chem]"'
        ) from None
    # Its complaints would stand between ours.
    package.rdBase.DisableLog("rdApp.*")
    return chem


def molecule_of(smiles: str, where: str) -> Any:
    """RDKit's molecule of a SMILES.

    Raises:
        DataError: It is not understood.
        BackendError: RDKit is missing.
    """
    molecule = rdkit().MolFromSmiles(smiles) if smiles else None
    if molecule is None or molecule.GetNumAtoms() == 0:
        raise DataError(f"{where}: {smiles[:80]!r} is no SMILES")
    return molecule


def _embedded(molecule: Any, where: str) -> Any:
    chem = rdkit().AllChem
    if chem.EmbedMolecule(molecule, randomSeed=1) != 0:
        raise DataError(f"{where}: RDKit finds no geometry; give one as extxyz")
    if chem.MMFFHasAllMoleculeParams(molecule):
        chem.MMFFOptimizeMolecule(molecule, maxIters=2000)
    return molecule


def frame_of(molecule: Any, where: str) -> Data:
    """Elements, positions, charge and multiplicity of RDKit's molecule.

    Raises:
        DataError: It has no coordinates, or something else than numbers there.
    """
    atoms = list(molecule.GetAtoms())
    z = torch.tensor([atom.GetAtomicNum() for atom in atoms])
    if molecule.GetNumConformers() == 0:
        raise DataError(f"{where}: has no coordinates")
    pos = torch.from_numpy(molecule.GetConformer().GetPositions().copy()).double()
    if not bool(pos.isfinite().all()) or int(z.min()) < 1:
        raise DataError(f"{where}: a coordinate or an element is not understood")
    charge = sum(atom.GetFormalCharge() for atom in atoms)
    unpaired = sum(atom.GetNumRadicalElectrons() for atom in atoms)
    return Data(z=z, pos=pos, charge=charge, multiplicity=unpaired + 1)
