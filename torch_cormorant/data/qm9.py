"""QM9 from PyG's raw files, its own archive, or plain arrays."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from torch_cormorant.data.arrays import NpzFile, read_arrays
from torch_cormorant.data.download import Progress
from torch_cormorant.data.frame_arrays import FrameArrays, molecules_of
from torch_cormorant.data.molecules import Molecules
from torch_cormorant.data.qm9_files import QM9_ARRAYS, read_qm9_root
from torch_cormorant.data.targets import (
    QM9_TARGETS,
    Target,
    atom_reference_sums,
    chosen_targets,
    energy_target,
)
from torch_cormorant.errors import ConfigError

__all__ = ["read_qm9", "read_qm9_g4mp2"]

_ARRAYS = ("index", "offset", "z", "pos", "g4mp2_atom")
_TARGET = energy_target("G4MP2_atom", "g4mp2_atom")


def read_qm9(
    root: str | os.PathLike[str] | None = None,
    npz: str | os.PathLike[str] | None = None,
    target: str | Sequence[str] | None = None,
    *,
    source: str = "auto",
    subtract_references: bool = True,
    keep_uncharacterized: bool = False,
    download: bool = True,
    progress: Progress | None = None,
) -> Molecules:
    r"""QM9: 130,831 molecules of H, C, N, O, F and 19 properties, B3LYP/6-31G(2df,p).

    Ramakrishnan et al., *Sci. Data* 1, 140022 (2014). Order, names and units of the
    properties are those of :class:`torch_geometric.datasets.QM9` (eV, Debye, bohr);
    names of the paper are understood too, in any case. Differences to PyG's class:

    * Everything is float64 up to and including ``y``. float32 knows total energies
      near -11,000 eV only in steps of 1 meV.
    * ``zpve``, ``U0``, ``U``, ``H``, ``G`` and ``Cv`` have the references of their
      atoms subtracted, before anything is rounded, as in the paper.
    * ``idx`` is QM9's own number of the molecule, counted from 1.

    The 3,054 molecules that failed QM9's own consistency check are left out.
    :func:`~torch_cormorant.data.split_indices` of the length gives the published split.

    Args:
        root: Folder with PyG's raw files (``raw/gdb9.sdf``, ``raw/gdb9.sdf.csv``,
            ``raw/uncharacterized.txt``) or QM9's own archive
            (``raw/dsgdb9nsd.xyz.tar.bz2``, ``raw/uncharacterized.txt``). What is
            missing is downloaded.
        npz: In place of ``root``: a file of flat arrays with the values as QM9 prints
            them. It holds ``index [n]``, ``offset [n + 1]``, ``z [N]``, ``pos [N, 3]``
            (Angstrom), ``y [n, K]``, ``y_names [K]``, ``y_units [K]`` (Hartree,
            kcal/mol, Debye, ...) and ``smiles [n]``.
        target: One property, several, or all of
            :data:`~torch_cormorant.data.QM9_TARGETS` (default).
        source: With ``root``: ``"pyg"`` (positions to four decimals), ``"xyz"`` (all
            decimals) or ``"auto"`` (default): what is there, else ``"pyg"``.
        subtract_references: ``False`` keeps the total values.
        keep_uncharacterized: With ``root``: keep the 3,054 molecules too.
        download: With ``root``: whether to fetch what is missing.
        progress: Called with the bytes that are there and the length, where known.

    Returns:
        The molecules, in memory.

    Shapes:
        Per molecule of N atoms: z ``[N]`` int64, pos ``[N, 3]`` float64 in Angstrom,
        y ``[1, T]`` float64 for T properties.

    Raises:
        DataError: A file is missing, damaged or not understood, or the target is
            unknown; file and molecule are named.
        ConfigError: Neither or both of ``root`` and ``npz`` are given.

    Example:
        >>> read_qm9(npz="no_such_file.npz")
        Traceback (most recent call last):
            ...
        torch_cormorant.errors.DataError: no_such_file.npz: no such file
    """
    if (root is None) == (npz is None):
        raise ConfigError(
            "root, npz: give one of them, the folder of the raw files or the file of "
            "arrays"
        )
    targets = chosen_targets(target, QM9_TARGETS)
    if npz is not None:
        file = read_arrays(npz, QM9_ARRAYS)
    else:
        file = read_qm9_root(
            Path(str(root)).expanduser(),
            source,
            download=download,
            keep_uncharacterized=keep_uncharacterized,
            progress=progress,
        )
    molecules, index = molecules_of(file), file.integers("index")
    count = len(index)
    if len(molecules) != count:
        raise file.fail("index", f"{count} numbers for {len(molecules)} molecules")
    return Molecules(
        molecules,
        targets,
        _values(file, targets, count, subtract=subtract_references),
        idx=index,
        smiles=file.texts("smiles", count),
        name="QM9",
        source=str(file.path),
        digest=file.digest,
        level_of_theory="B3LYP/6-31G(2df,p)",
        is_qm9=True,
    )


def _values(
    file: NpzFile, targets: Sequence[Target], count: int, *, subtract: bool
) -> NDArray[np.float64]:
    """The properties ``[n, T]`` in the units of the targets."""
    y, names, units = file.reals("y"), file.texts("y_names"), file.texts("y_units")
    if y.shape != (count, len(names)) or len(names) != len(units):
        raise file.fail(
            "y",
            f"shape {y.shape} does not fit {count} molecules, {len(names)} names and "
            f"{len(units)} units",
        )
    finite = np.isfinite(y).all(axis=1)
    if not finite.all():
        raise file.fail("y", f"molecule {int(np.argmin(finite))} is not finite")
    found = []
    for target in targets:
        if names.count(target.column) != 1:
            what = "there twice" if target.column in names else "missing"
            there = f"{target.column!r} is {what}; there are {', '.join(names)}"
            raise file.fail("y_names", there)
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
        found.append(values * target.factor)
    return np.stack(found, axis=1)


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
