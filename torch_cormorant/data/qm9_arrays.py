"""QM9 from a single ``.npz`` file of flat arrays."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from torch_cormorant.data.arrays import (
    NpzFile,
    check_molecules,
    check_values,
    read_npz,
)
from torch_cormorant.data.dataset import MoleculeDataset
from torch_cormorant.data.references import atom_reference_sums
from torch_cormorant.data.targets import QM9_TARGETS, Target, find_target

__all__ = ["QM9Arrays"]


class QM9Arrays(MoleculeDataset):
    """QM9, or a part of it, from an ``.npz`` file with the values as published.

    The file holds ``index [n]`` (QM9's own number), ``offset [n + 1]``, ``z [N]``,
    ``pos [N, 3]`` (Angstrom), ``y [n, K]``, ``y_names [K]``, ``y_units [K]`` and
    ``smiles [n]``; units as QM9 prints them (Hartree, kcal/mol, Debye, ...), which
    ``y_units`` must confirm. Units handed out are PyG's: eV, Debye, bohr.

    Thermochemical properties (``U0``, ``U``, ``H``, ``G``, ``zpve``, ``Cv``) have their
    atom references subtracted, as in the paper. Everything is float64 up to and
    including ``y``: total energies near -400 Hartree would lose 0.8 meV in float32.

    Args:
        path: The file.
        target: Name of one property, PyG's or the paper's, in any case; default all of
            :data:`~torch_cormorant.data.QM9_TARGETS`.
        subtract_references: ``False`` keeps the total values.

    Raises:
        DataError: The file is missing, damaged or does not hold what is said above, or
            the target is unknown.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        target: str | None = None,
        *,
        subtract_references: bool = True,
    ) -> None:
        targets = list(QM9_TARGETS.values())
        if target is not None:
            targets = [find_target(target, QM9_TARGETS)]
        file = read_npz(
            path,
            ("index", "offset", "z", "pos", "y", "y_names", "y_units", "smiles"),
        )
        count = check_molecules(file)
        for name in ("index", "smiles"):
            if file[name].shape != (count,):
                raise file.fail(
                    name, f"expected shape ({count},), found {file[name].shape}"
                )
        y = check_values(file, "y", count)
        values = [_property(file, y, chosen, subtract_references) for chosen in targets]
        super().__init__(
            file,
            targets,
            np.stack(values, axis=1),
            file.integers("index"),
            [str(smiles) for smiles in file["smiles"]],
            name="QM9",
            level_of_theory="B3LYP/6-31G(2df,p)",
            is_qm9=True,
        )


def _property(
    file: NpzFile, y: NDArray[np.float64], target: Target, subtract: bool
) -> NDArray[np.float64]:
    names = [str(name) for name in np.atleast_1d(file["y_names"])]
    units = [str(unit) for unit in np.atleast_1d(file["y_units"])]
    if y.ndim != 2 or not len(names) == len(units) == y.shape[1]:
        raise file.fail(
            "y",
            f"shape {y.shape} does not fit {len(names)} names and {len(units)} units",
        )
    if target.column not in names:
        raise file.fail(
            "y_names", f"{target.column!r} is missing; there are {', '.join(names)}"
        )
    column = names.index(target.column)
    if units[column] != target.file_unit:
        raise file.fail(
            "y_units",
            f"{target.column!r} must be in {target.file_unit}, the file says "
            f"{units[column]}",
        )
    values = y[:, column]
    if subtract and target.reference is not None:
        values = values - atom_reference_sums(
            file.integers("z"), file.integers("offset"), target.reference
        )
    return values * target.factor
