"""QM9 from PyG's raw files, its own archive, or plain arrays."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from torch_cormorant.data.arrays import NpzFile, read_arrays
from torch_cormorant.data.download import Progress
from torch_cormorant.data.frame_arrays import molecules_of
from torch_cormorant.data.molecules import Molecules
from torch_cormorant.data.qm9_files import QM9_ARRAYS, read_qm9_root
from torch_cormorant.data.references import atom_reference_sums
from torch_cormorant.data.targets import QM9_TARGETS, Target, chosen_targets
from torch_cormorant.errors import ConfigError

__all__ = ["read_qm9"]


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
