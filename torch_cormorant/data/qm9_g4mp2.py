"""G4MP2 atomisation energies of QM9's molecules."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from torch_cormorant.data.arrays import NpzFile, check_molecules, read_npz
from torch_cormorant.data.dataset import MoleculeDataset
from torch_cormorant.data.targets import Target
from torch_cormorant.data.units import HARTREE_TO_EV
from torch_cormorant.errors import ConfigError

__all__ = ["QM9G4MP2"]

_TARGET = Target(
    "G4MP2_atom",
    "g4mp2_atom",
    "Hartree",
    "eV",
    factor=HARTREE_TO_EV,
    shown_unit="meV",
    shown_factor=1000.0,
)


class QM9G4MP2(MoleculeDataset):
    """Atomisation energies by G4MP2, for more than 100,000 molecules of QM9.

    Narayanan et al., *Chem. Sci.* 10, 7449 (2019): G4MP2 at QM9's B3LYP geometries.
    This is **another level of theory than** ``U0_atom``; the two must not be mixed, and
    no error that is published for QM9 may stand beside it. The sign is that of QM9's
    own atomisation energies: molecule minus atoms.

    Args:
        paths: One ``.npz`` file or several, joined in this order. Each holds ``index
            [n]`` (QM9's number), ``offset [n + 1]``, ``z [N]``, ``pos [N, 3]``
            (Angstrom) and ``g4mp2_atom [n]`` (Hartree, negative, NaN where unknown).

    Shapes:
        Per molecule of N atoms: z ``[N]`` int64, pos ``[N, 3]`` float64 in Angstrom,
        y ``[1, 1]`` float64 in eV. Molecules without a value are left out.

    Raises:
        DataError: A file is missing, damaged or does not hold what is said above, or a
            molecule comes twice.
        ConfigError: No file is given.
    """

    def __init__(
        self, paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
    ) -> None:
        several = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
        if not several:
            raise ConfigError("paths: none given; name at least one file")
        files = [_known(path) for path in several]
        arrays = {
            name: np.concatenate([file[name] for file in files])
            for name in ("index", "z", "pos", "g4mp2_atom")
        }
        sizes = np.concatenate([np.diff(file.integers("offset")) for file in files])
        arrays["offset"] = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        digest = files[0].digest if len(files) == 1 else _joined(files)
        whole = NpzFile(files[0].path, digest, arrays)
        index = whole.integers("index")
        if len(np.unique(index)) < len(index):
            raise whole.fail("index", "a molecule comes twice")
        super().__init__(
            whole,
            [_TARGET],
            (arrays["g4mp2_atom"].astype(np.float64) * _TARGET.factor)[:, None],
            index,
            [""] * len(index),
            name="QM9, G4MP2",
            level_of_theory="G4MP2//B3LYP/6-31G(2df,p)",
            is_qm9=False,
        )


def _joined(files: Sequence[NpzFile]) -> str:
    return hashlib.sha256("".join(file.digest for file in files).encode()).hexdigest()


def _known(path: str | os.PathLike[str]) -> NpzFile:
    """The molecules of one file that have a value."""
    file = read_npz(
        path, ("index", "offset", "z", "pos", "g4mp2_atom"), ("g4mp2_unit",)
    )
    unit = file.text("g4mp2_unit")
    if unit not in (None, "Hartree"):
        raise file.fail("g4mp2_unit", f"{unit!r}, expected 'Hartree'")
    count = check_molecules(file)
    energy = file["g4mp2_atom"]
    if energy.shape != (count,) or energy.dtype.kind != "f":
        raise file.fail(
            "g4mp2_atom", f"expected {count} real numbers, found {energy.shape}"
        )
    if file["index"].shape != (count,):
        raise file.fail("index", f"expected {count} numbers")
    values = energy.astype(np.float64)
    kept = ~np.isnan(values)
    bad = np.flatnonzero(kept & ~((values < 0) & (values > -np.inf)))
    if len(bad):
        raise file.fail(
            "g4mp2_atom",
            f"molecule {bad[0]} has {values[bad[0]]}, expected a negative number",
        )
    if not kept.any():
        raise file.fail("g4mp2_atom", "no molecule has a value")
    sizes = np.diff(file.integers("offset"))
    atoms = np.repeat(kept, sizes)
    ends = np.concatenate([[0], np.cumsum(sizes[kept])]).astype(np.int64)
    arrays: dict[str, NDArray[np.generic]] = {
        "index": file["index"][kept],
        "g4mp2_atom": values[kept],
        "z": file["z"][atoms],
        "pos": file["pos"][atoms].astype(np.float64),
        "offset": ends,
    }
    return NpzFile(file.path, file.digest, arrays)
