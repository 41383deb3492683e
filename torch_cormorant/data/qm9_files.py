"""Where QM9's files are, how they are fetched, and the arrays made of them."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from torch_cormorant.data.archives import extract_archive
from torch_cormorant.data.arrays import NpzFile, read_arrays, write_arrays
from torch_cormorant.data.download import (
    DOWNLOAD,
    Progress,
    RemoteFile,
    fetch_file,
)
from torch_cormorant.data.files import file_digest
from torch_cormorant.data.frame_arrays import offset_of
from torch_cormorant.data.qm9_raw import (
    COLUMNS,
    UNITS,
    RawMolecule,
    read_csv,
    read_sdf,
    read_uncharacterized,
    read_xyz_tar,
)
from torch_cormorant.errors import ConfigError, DataError

__all__ = ["QM9_ARRAYS", "QM9_FILES", "QM9_SOURCES", "fetch_qm9", "read_qm9_root"]

#: QM9's files on the network. Lengths and digests of the two files of the original
#: publication (figshare collection 978904) are pinned. Nobody publishes a digest of
#: MoleculeNet's archive, which PyG uses: the first download's is kept.
QM9_FILES: dict[str, RemoteFile] = {
    "pyg": RemoteFile(
        "qm9.zip",
        "https://deepchemdata.s3-us-west-1.amazonaws.com/datasets/molnet_publish/qm9.zip",
        max_size=1 << 30,
    ),
    "xyz": RemoteFile(
        "dsgdb9nsd.xyz.tar.bz2",
        "https://ndownloader.figshare.com/files/3195389",
        size=86_144_227,
        sha256="3a63848ac80691bdb8d41834b575afad345b9300d7a2db0c38adb7f6eaa8360c",
    ),
    "uncharacterized": RemoteFile(
        "uncharacterized.txt",
        "https://ndownloader.figshare.com/files/3195404",
        size=486_752,
        sha256="3aa5115d540b356de94791d4a74c3bf1ed91c469ecf52a4f5d7cc0506fe02e24",
    ),
}
#: Files that have to lie in ``root/raw``, by source.
QM9_SOURCES: dict[str, tuple[str, ...]] = {
    "pyg": ("gdb9.sdf", "gdb9.sdf.csv", "uncharacterized.txt"),
    "xyz": ("dsgdb9nsd.xyz.tar.bz2", "uncharacterized.txt"),
}
#: What a file of QM9 in plain arrays holds.
QM9_ARRAYS: tuple[str, ...] = (
    *("index", "offset", "z", "pos"),
    *("y", "y_names", "y_units", "smiles"),
)
_MAX_UNPACKED = 2 << 30


def fetch_qm9(
    root: Path, source: str = "pyg", progress: Progress | None = None
) -> list[Path]:
    """Download QM9's files into ``root/raw``, unless they are there.

    Args:
        root: Folder of the data set.
        source: ``"pyg"``, the sdf and csv that PyG uses (positions to four decimals),
            or ``"xyz"``, the original archive (all decimals).
        progress: Called with the bytes that are there and the length, where known.

    Returns:
        The files.

    Raises:
        ConfigError: Unknown source.
        DataError: A file cannot be had or is not what it should be.
    """
    folder, names = _raw_folder(root), _names_of(source)
    if _lie_in(folder, names[:-1]):
        pass  # a part of QM9 in its form is welcome, so no digest is asked for
    elif source == "xyz":
        fetch_file(QM9_FILES["xyz"], folder, progress=progress)
    else:
        archive = fetch_file(QM9_FILES["pyg"], folder, progress=progress)
        found = extract_archive(
            archive, folder, max_bytes=_MAX_UNPACKED, wanted=names[:2].__contains__
        )
        if len(found) < 2:
            raise DataError(f"{archive}: does not hold {' and '.join(names[:2])}")
        archive.unlink()
    if not (folder / names[-1]).exists():
        fetch_file(QM9_FILES["uncharacterized"], folder, progress=progress)
    return [folder / name for name in names]


def _names_of(source: str) -> tuple[str, ...]:
    if source not in QM9_SOURCES:
        raise ConfigError(
            f"source: {source!r} is not one of {', '.join(QM9_SOURCES)} or auto"
        )
    return QM9_SOURCES[source]


def _lie_in(folder: Path, names: Sequence[str]) -> bool:
    return all((folder / name).exists() for name in names)


def _raw_folder(root: Path) -> Path:
    """``root/raw``, or ``root`` itself if the files lie there."""
    in_root = any(_lie_in(root, names) for names in QM9_SOURCES.values())
    return root if in_root else root / "raw"


def read_qm9_root(
    root: Path,
    source: str = "auto",
    *,
    download: bool = True,
    keep_uncharacterized: bool = False,
    progress: Progress | None = None,
) -> NpzFile:
    """QM9 as flat arrays, from the files of a folder.

    What was read is kept as ``root/processed/torch_cormorant_qm9-*.npz``; the digests
    of the raw files are in that name, so changed files are read again.

    Args:
        root: Folder of the data set; the files lie in ``root/raw`` or in ``root``.
        source: ``"pyg"``, ``"xyz"`` or ``"auto"``: what is there, else ``"pyg"``.
        download: Whether to fetch what is missing.
        keep_uncharacterized: Keep the molecules that failed QM9's consistency check.
        progress: As for :func:`fetch_qm9`.

    Returns:
        The arrays under the names that :func:`~torch_cormorant.data.read_qm9` reads.

    Raises:
        ConfigError: Unknown source.
        DataError: A file is missing, damaged or not understood.
    """
    folder = _raw_folder(root)
    if source == "auto":
        here = [kind for kind in QM9_SOURCES if _lie_in(folder, QM9_SOURCES[kind])]
        source = here[0] if here else "pyg"
    paths = [folder / name for name in _names_of(source)]
    if download:
        paths = fetch_qm9(root, source, progress)
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: no such file; {DOWNLOAD}")
    digest = _digest_of(paths, keep_uncharacterized)
    cache = root / "processed" / f"torch_cormorant_qm9-{digest[:16]}.npz"
    with contextlib.suppress(DataError):  # damaged, of another version, or not there
        return NpzFile(folder, digest, read_arrays(cache, QM9_ARRAYS).arrays)
    arrays = _read_raw(paths, source, keep_uncharacterized)
    with contextlib.suppress(OSError):  # a folder that cannot be written is fine
        write_arrays(cache, arrays)
    return NpzFile(folder, digest, arrays)


def _digest_of(paths: list[Path], keep: bool) -> str:
    whole = hashlib.sha256(f"1 {keep}".encode())
    for path in paths:
        whole.update(f"{path.name} {file_digest(path)}\n".encode())
    return whole.hexdigest()


def _read_raw(
    paths: list[Path], source: str, keep: bool
) -> dict[str, NDArray[np.generic]]:
    if source == "xyz":
        molecules = read_xyz_tar(paths[0])
    else:
        molecules = _with_values(read_sdf(paths[0]), paths[1])
    failed = set() if keep else read_uncharacterized(paths[-1])
    kept = [molecule for molecule in molecules if molecule.index not in failed]
    if not kept:
        raise DataError(f"{paths[-1]}: lists every molecule; none is left")
    return {
        "index": np.array([molecule.index for molecule in kept]),
        "offset": offset_of([len(molecule.z) for molecule in kept]),
        "z": np.array([z for molecule in kept for z in molecule.z], dtype=np.uint8),
        "pos": np.array([x for m in kept for x in m.pos]).reshape(-1, 3),
        "y": np.array([molecule.values for molecule in kept]),
        "y_names": np.array(COLUMNS),
        "y_units": np.array(UNITS),
        "smiles": np.array([molecule.smiles for molecule in kept]),
    }


def _with_values(molecules: list[RawMolecule], table: Path) -> list[RawMolecule]:
    """The molecules with the properties of a table that lists them in this order."""
    source = molecules[0].source
    names, values = read_csv(table)
    for row, (molecule, name) in enumerate(zip(molecules, names, strict=False), 1):
        if name != molecule.name:
            raise DataError(
                f"{table}: row {row} is molecule {name!r}, but {source} has "
                f"{molecule.name!r} there; the two files do not belong together"
            )
        molecule.values = values[row - 1]
    if len(names) != len(molecules):
        raise DataError(
            f"{table}: {len(names):,} rows, but {source} has {len(molecules):,} "
            "molecules; one of them is cut off"
        )
    return molecules
