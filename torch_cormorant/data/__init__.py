"""Molecules, structures and their files; targets, units, splits and baselines."""

from __future__ import annotations

from torch_cormorant.data.baselines import (
    CompositionBaseline,
    MeanBaseline,
    mean_absolute_error,
)
from torch_cormorant.data.extxyz import read_extxyz
from torch_cormorant.data.extxyz_write import write_extxyz
from torch_cormorant.data.frame_arrays import FrameArrays
from torch_cormorant.data.frame_file import FrameFile
from torch_cormorant.data.frames import Frames
from torch_cormorant.data.md17 import MD17_MOLECULES, read_md17
from torch_cormorant.data.mini import MiniEthanol, MiniQM9
from torch_cormorant.data.molecules import Molecules
from torch_cormorant.data.npz import frame_parts, read_npz
from torch_cormorant.data.properties import read_extxyz_properties
from torch_cormorant.data.qm9 import read_qm9, read_qm9_g4mp2
from torch_cormorant.data.reference_energies import (
    ReferenceEnergies,
    reference_energies,
)
from torch_cormorant.data.registry import (
    DATASETS,
    DatasetInfo,
    FileCheck,
    dataset_info,
    fetch_dataset,
    verify_dataset,
)
from torch_cormorant.data.smiles import read_smiles
from torch_cormorant.data.splits import (
    PUBLISHED_SIZES,
    Split,
    load_split,
    save_split,
    split_indices,
)
from torch_cormorant.data.structures import StructureDataset
from torch_cormorant.data.targets import (
    ATOM_REFERENCES,
    MINI_TARGETS,
    QM9_TARGETS,
    Target,
    atom_reference_sums,
    find_target,
)
from torch_cormorant.data.units import (
    HARTREE_TO_EV,
    KCAL_PER_MOL_TO_EV,
    unit_factor,
)

__all__ = [
    "ATOM_REFERENCES",
    "DATASETS",
    "HARTREE_TO_EV",
    "KCAL_PER_MOL_TO_EV",
    "MD17_MOLECULES",
    "MINI_TARGETS",
    "PUBLISHED_SIZES",
    "QM9_TARGETS",
    "CompositionBaseline",
    "DatasetInfo",
    "FileCheck",
    "FrameArrays",
    "FrameFile",
    "Frames",
    "MeanBaseline",
    "MiniEthanol",
    "MiniQM9",
    "Molecules",
    "ReferenceEnergies",
    "Split",
    "StructureDataset",
    "Target",
    "atom_reference_sums",
    "dataset_info",
    "fetch_dataset",
    "find_target",
    "frame_parts",
    "load_split",
    "mean_absolute_error",
    "read_extxyz",
    "read_extxyz_properties",
    "read_md17",
    "read_npz",
    "read_qm9",
    "read_qm9_g4mp2",
    "read_smiles",
    "reference_energies",
    "save_split",
    "split_indices",
    "unit_factor",
    "verify_dataset",
    "write_extxyz",
]
