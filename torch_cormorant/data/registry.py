"""The known data sets: what they are, how to fetch them, whether files are right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from torch_cormorant.data.describe import describe_rows
from torch_cormorant.data.download import Progress
from torch_cormorant.data.files import file_digest
from torch_cormorant.data.md17 import MD17_MOLECULES, fetch_md17
from torch_cormorant.data.qm9_files import QM9_FILES, QM9_SOURCES, fetch_qm9
from torch_cormorant.errors import ConfigError, DataError, nearest

__all__ = [
    "DATASETS",
    "DatasetInfo",
    "FileCheck",
    "dataset_info",
    "fetch_dataset",
    "verify_dataset",
]

SOURCE_TEXTS: dict[str, str] = {
    "mini_qm9": "310 small molecules of this project, embedded",
    "mini_ethanol": "2,000 frames of ethanol (GFN2-xTB) of this project, embedded",
    "qm9": "QM9: --path of PyG's folder, an archive or arrays",
    "md17": "(revised) MD17: --path of PyG's folder or arrays, --molecule",
    "frames": "frames in plain arrays: --path of an .npz file",
    "extxyz": "your own structures: --path",
}
"""What a configuration or a command line may name as its data, and what it is."""
SOURCES = tuple(SOURCE_TEXTS)
_OTHER_SOURCES = {"rmd17": "md17", "qm9_xyz": "qm9"}
_HERE = Path(__file__).parent


def source_name(text: str) -> str:
    """A source by any of its spellings: hyphens for underscores, large letters.

    Names of :data:`DATASETS` stand for what one of the sources reads.

    Example:
        >>> source_name("Mini-QM9"), source_name("rmd17")
        ('mini_qm9', 'md17')
    """
    plain = text.lower().replace("-", "_")
    return _OTHER_SOURCES.get(plain, plain)


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a data set.

    Args:
        name: Its name, as in a configuration; hyphens for underscores are understood.
        title: What it is.
        size: How much.
        level_of_theory: How its values were computed.
        units: Units of what this package hands out.
        licence: Terms of the source, as far as known.
        reference: Publication.
        how: The class that reads it.
        files: Files below the root folder; their digests where known.
        download: Size of the download, or ``"none"``.
    """

    name: str
    title: str
    size: str
    level_of_theory: str
    units: str
    licence: str
    reference: str
    how: str
    download: str
    files: dict[str, str | None] = field(default_factory=dict)

    def describe(self) -> str:
        """All of it as lines of text."""
        rows = {
            "what": self.title,
            "size": self.size,
            "level of theory": self.level_of_theory,
            "units": self.units,
            "licence": self.licence,
            "reference": self.reference,
            "read by": self.how,
            "download": self.download,
        }
        return describe_rows(self.name, rows)


@dataclass(frozen=True)
class FileCheck:
    """One file of a data set, looked at.

    Args:
        path: The file.
        size: Its length in bytes.
        digest: Its SHA-256.
        expected: The SHA-256 it should have, where known.
    """

    path: Path
    size: int
    digest: str
    expected: str | None

    @property
    def verdict(self) -> str:
        """``"right"``, ``"WRONG"`` or ``"no digest is known"``."""
        if self.expected is None:
            return "no digest is known"
        return "right" if self.digest == self.expected else "WRONG"


_LIST = {"raw/uncharacterized.txt": QM9_FILES["uncharacterized"].sha256}
_QM9 = {
    "size": "130,831 molecules of H, C, N, O, F with 3 to 29 atoms, 19 properties",
    "level_of_theory": "B3LYP/6-31G(2df,p)",
    "units": "PyG's: eV, Debye, bohr, cal/(mol K), GHz",
    "reference": "Ramakrishnan et al., Sci. Data 1, 140022 (2014)",
}
#: The known data sets by name.
DATASETS: dict[str, DatasetInfo] = {
    info.name: info
    for info in (
        DatasetInfo(
            name="mini_qm9",
            title="small molecules computed by this project; not QM9 entries",
            size="310 molecules of H, C, N, O, F with 2 to 16 atoms, 7 properties",
            level_of_theory="B3LYP/6-31G(2df,p)//GFN2-xTB",
            units="eV, Debye, bohr^2",
            licence="MIT, part of the package",
            reference="scripts/generate_mini_qm9.py",
            how="MiniQM9(target)",
            download="none",
            files={
                "mini_qm9.npz": (
                    "64072bfdc8904787e4ae4b4440c29ff9e8e7ae1dc68142a3b36af6e78deeb477"
                )
            },
        ),
        DatasetInfo(
            name="mini_ethanol",
            title="ethanol with energies and forces, by this project; not MD17",
            size="2,000 frames of 9 atoms",
            level_of_theory="GFN2-xTB, Langevin 500 K, frames 10 fs apart",
            units="eV, eV/Angstrom",
            licence="MIT, part of the package",
            reference="scripts/generate_mini_ethanol.py",
            how="MiniEthanol()",
            download="none",
            files={
                "ethanol_xtb.npz": (
                    "f1b241e3101ad543a5da27cd90214f5b4553e63c4f4551f67cd6de36e75ca6d7"
                )
            },
        ),
        DatasetInfo(
            name="qm9",
            title="QM9 in the form that PyG uses (positions to four decimals)",
            licence="CC0 according to catalogues of QM9",
            how='read_qm9(root, target=..., source="pyg")',
            download="no digest is published; that of the first one is kept",
            files={**{f"raw/{name}": None for name in QM9_SOURCES["pyg"]}, **_LIST},
            **_QM9,
        ),
        DatasetInfo(
            name="qm9_xyz",
            title="QM9's own archive (all decimals)",
            licence="CC0",
            how='read_qm9(root, target=..., source="xyz")',
            download="87 MB, SHA-256 pinned",
            files={
                f"raw/{QM9_FILES['xyz'].name}": QM9_FILES["xyz"].sha256,
                **_LIST,
            },
            **_QM9,
        ),
        DatasetInfo(
            name="rmd17",
            title="revised MD17: trajectories of ten molecules",
            size="100,000 frames each, five splits of 1,000 + 1,000",
            level_of_theory="PBE/def2-SVP",
            units="kcal/mol (default), kcal/mol/Angstrom",
            licence="CC0",
            reference="Christensen and von Lilienfeld, MLST 1, 045018 (2020)",
            how='read_md17(root, molecule="ethanol")',
            download="1.1 GB, SHA-256 pinned",
            files={
                f"raw/rmd17/npz_data/{names[0]}": None
                for names in MD17_MOLECULES.values()
            },
        ),
        DatasetInfo(
            name="md17",
            title="original MD17: trajectories of ten molecules",
            size="99,999 to 993,237 frames each",
            level_of_theory="PBE+TS",
            units="kcal/mol (default), kcal/mol/Angstrom",
            licence="not stated by the source",
            reference="Chmiela et al., Sci. Adv. 3, e1603015 (2017)",
            how='read_md17(root, molecule="ethanol", revised=False)',
            download="one file for each molecule; the digest of the first one is kept",
            files={
                f"{molecule}/raw/{names[1]}": None
                for molecule, names in MD17_MOLECULES.items()
            },
        ),
    )
}


def dataset_info(name: str) -> DatasetInfo:
    """What is known of a data set.

    Args:
        name: One of :data:`DATASETS`.

    Returns:
        The entry.

    Raises:
        ConfigError: There is no such data set; the nearest name is suggested.

    Example:
        >>> dataset_info("rmd17").level_of_theory
        'PBE/def2-SVP'
    """
    found = DATASETS.get(name.lower().replace("-", "_"))
    if found is not None:
        return found
    hint = nearest(name.lower().replace("-", "_"), DATASETS)
    raise ConfigError(
        f"dataset: there is no {name!r}{hint} (there are {', '.join(DATASETS)})"
    )


def fetch_dataset(
    name: str,
    root: Path,
    molecule: str = "ethanol",
    progress: Progress | None = None,
) -> list[Path]:
    """Download what is missing of a data set.

    Args:
        name: One of :data:`DATASETS`.
        root: Folder of the data set.
        molecule: For the two MD17 sets.
        progress: Called with the bytes that are there and the length, where known.

    Returns:
        Its files.

    Raises:
        ConfigError: There is no such data set or molecule.
        DataError: A file cannot be had or is not what it should be.
    """
    info = dataset_info(name)
    fetchers: dict[str, Callable[[], list[Path]]] = {
        "qm9": lambda: fetch_qm9(root, "pyg", progress),
        "qm9_xyz": lambda: fetch_qm9(root, "xyz", progress),
        "rmd17": lambda: [fetch_md17(root, molecule, True, progress)],
        "md17": lambda: [fetch_md17(root, molecule, False, progress)],
    }
    if info.name not in fetchers:
        return [_HERE / file for file in info.files]
    return fetchers[info.name]()


def verify_dataset(name: str, root: Path | None = None) -> list[FileCheck]:
    """Compute the digests of the files that are there.

    Args:
        name: One of :data:`DATASETS`.
        root: Folder of the data set; not needed for the embedded ones.

    Returns:
        One entry for every file that exists.

    Raises:
        ConfigError: There is no such data set.
        DataError: None of its files is there, or one cannot be read.
    """
    info = dataset_info(name)
    folder = root if root is not None and not info.name.startswith("mini") else _HERE
    found = []
    for file, expected in info.files.items():
        path = folder / file
        if not path.exists():
            continue
        digest = file_digest(path)
        found.append(FileCheck(path, path.stat().st_size, digest, expected))
    if not found:
        raise DataError(
            f"{folder}: holds no file of {info.name} ({', '.join(info.files)})"
        )
    return found
