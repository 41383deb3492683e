"""Molecular data sets in memory, their targets, units, splits and baselines."""

from __future__ import annotations

from torch_cormorant.data.baselines import (
    CompositionBaseline,
    MeanBaseline,
    mean_absolute_error,
)
from torch_cormorant.data.dataset import MoleculeDataset
from torch_cormorant.data.extxyz import ExtXYZDataset
from torch_cormorant.data.extxyz_write import write_extxyz
from torch_cormorant.data.frame_checks import FrameArrays
from torch_cormorant.data.frame_dataset import FrameDataset
from torch_cormorant.data.frames import Frames, frame_parts
from torch_cormorant.data.md17 import MD17, MD17_MOLECULES
from torch_cormorant.data.mini_ethanol import MiniEthanol
from torch_cormorant.data.mini_qm9 import MiniQM9
from torch_cormorant.data.properties import ExtXYZProperties
from torch_cormorant.data.qm9 import QM9, QM9Arrays
from torch_cormorant.data.qm9_g4mp2 import QM9G4MP2
from torch_cormorant.data.reference_energies import (
    ReferenceEnergies,
    reference_energies,
)
from torch_cormorant.data.references import ATOM_REFERENCES, atom_reference_sums
from torch_cormorant.data.registry import (
    DATASETS,
    DatasetInfo,
    FileCheck,
    dataset_info,
    fetch_dataset,
    verify_dataset,
)
from torch_cormorant.data.splits import (
    PUBLISHED_SIZES,
    Split,
    load_split,
    save_split,
    split_indices,
)
from torch_cormorant.data.targets import MINI_TARGETS, QM9_TARGETS, Target, find_target
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
    "MD17",
    "MD17_MOLECULES",
    "MINI_TARGETS",
    "PUBLISHED_SIZES",
    "QM9",
    "QM9G4MP2",
    "QM9_TARGETS",
    "CompositionBaseline",
    "DatasetInfo",
    "ExtXYZDataset",
    "ExtXYZProperties",
    "FileCheck",
    "FrameArrays",
    "FrameDataset",
    "Frames",
    "MeanBaseline",
    "MiniEthanol",
    "MiniQM9",
    "MoleculeDataset",
    "QM9Arrays",
    "ReferenceEnergies",
    "Split",
    "Target",
    "atom_reference_sums",
    "dataset_info",
    "fetch_dataset",
    "find_target",
    "frame_parts",
    "load_split",
    "mean_absolute_error",
    "reference_energies",
    "save_split",
    "split_indices",
    "unit_factor",
    "verify_dataset",
    "write_extxyz",
]
