"""G4MP2 atomisation energies of QM9's molecules."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from torch_cormorant.data.arrays import NpzFile, read_arrays
from torch_cormorant.data.frame_arrays import FrameArrays, molecules_of
from torch_cormorant.data.molecules import Molecules
from torch_cormorant.data.targets import energy_target
from torch_cormorant.errors import ConfigError

__all__ = ["read_qm9_g4mp2"]

_ARRAYS = ("index", "offset", "z", "pos", "g4mp2_atom")
_TARGET = energy_target("G4MP2_atom", "g4mp2_atom")


def read_qm9_g4mp2(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
) -> Molecules:
    """Atomisation energies by G4MP2, for more than 100,000 molecules of QM9.

    Narayanan et al., *Chem. Sci.* 10, 7449 (2019): G4MP2 at QM9's B3LYP geometries.
    This is **another level of theory than** ``U0_atom``; the two must not be mixed, and
    no error that is published for QM9 may stand beside it. The sign is that of QM9's
    own atomisation energies: molecule minus atoms.

    Args:
        paths: One ``.npz`` file or several, joined in this order. Each holds ``index
            [n]`` (QM9's number), ``offset [n + 1]``, ``z [N]``, ``pos [N, 3]``
            (Angstrom) and ``g4mp2_atom [n]`` (Hartree, negative, NaN where unknown).

    Returns:
        The molecules that have a value.

    Shapes:
        Per molecule of N atoms: z ``[N]`` int64, pos ``[N, 3]`` float64 in Angstrom,
        y ``[1, 1]`` float64 in eV.

    Raises:
        DataError: A file is missing, damaged or does not hold what is said above, or a
            molecule comes twice.
        ConfigError: No file is given.
    """
    several = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    if not several:
        raise ConfigError("paths: none given; name at least one file")
    files = [
        read_arrays(
            path, ("index", "offset", "z", "pos", "g4mp2_atom"), ("g4mp2_unit",)
        )
        for path in several
    ]
    molecules, index, energy = zip(*map(_known, files), strict=True)
    numbers = np.concatenate(index)
    if len(np.unique(numbers)) < len(numbers):
        raise files[0].fail("index", "a molecule comes twice")
    digest = files[0].digest
    if len(files) > 1:
        joined = "".join(file.digest for file in files)
        digest = hashlib.sha256(joined.encode()).hexdigest()
    return Molecules(
        FrameArrays.joined(molecules),
        [_TARGET],
        (np.concatenate(energy) * _TARGET.factor)[:, None],
        idx=numbers,
        name="QM9, G4MP2",
        source=str(files[0].path),
        digest=digest,
        level_of_theory="G4MP2//B3LYP/6-31G(2df,p)",
    )


def _known(
    file: NpzFile,
) -> tuple[FrameArrays, NDArray[np.int64], NDArray[np.float64]]:
    """Molecules of one file that have a value, their numbers and values."""
    unit = file.text("g4mp2_unit")
    if unit not in (None, "Hartree"):
        raise file.fail("g4mp2_unit", f"{unit!r}, expected 'Hartree'")
    molecules, index = molecules_of(file), file.integers("index")
    values, count = file.reals("g4mp2_atom"), len(molecules)
    if values.shape != (count,):
        raise file.fail(
            "g4mp2_atom", f"expected {count} real numbers, found {values.shape}"
        )
    if index.shape != (count,):
        raise file.fail("index", f"expected {count} numbers")
    rows = np.flatnonzero(~np.isnan(values))
    bad = rows[~((values[rows] < 0) & (values[rows] > -np.inf))]
    if len(bad):
        raise file.fail(
            "g4mp2_atom",
            f"molecule {bad[0]} has {values[bad[0]]}, expected a negative number",
        )
    if not len(rows):
        raise file.fail("g4mp2_atom", "no molecule has a value")
    return molecules.keep(rows), index[rows], values[rows]
