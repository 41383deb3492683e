"""Training with Lightning: module, data, checkpoints, records and plots.

Needs the extra ``train``: ``pip install "torch-cormorant[train]"``.
"""

from __future__ import annotations

from torch_cormorant.train.requirements import require_extra

require_extra()

from torch_cormorant.train.activations import ActivationLog, level_activations
from torch_cormorant.train.base import Regression
from torch_cormorant.train.batches import EpochBatches, EpochSampler, edge_counts
from torch_cormorant.train.callbacks import (
    EpochLog,
    EpochRow,
    energy_target,
    force_target,
)
from torch_cormorant.train.capture import (
    CapturedAdamW,
    CapturedStep,
    PaddedBatch,
    PaddedSizes,
    pad_batch,
)
from torch_cormorant.train.checkpoint import (
    AtomicCheckpointIO,
    RunCheckpoints,
    best_and_last,
)
from torch_cormorant.train.config import RunConfig
from torch_cormorant.train.config_checks import make_config
from torch_cormorant.train.datamodule import (
    FrameDataModule,
    MoleculeDataModule,
)
from torch_cormorant.train.ensemble import (
    EnsembleCalibration,
    calibration,
    plot_calibration,
)
from torch_cormorant.train.files import (
    RunFolder,
    write_atomically,
    write_json,
)
from torch_cormorant.train.fitting import Fitted, fit, fit_seeds
from torch_cormorant.train.frame_errors import (
    MD17_PUBLISHED,
    FrameErrors,
    frame_errors,
    join_outputs,
)
from torch_cormorant.train.guard import SpikeGuard
from torch_cormorant.train.html_report import RunReport, write_report
from torch_cormorant.train.module import PropertyRegression
from torch_cormorant.train.muon import Muon
from torch_cormorant.train.plots import plot_learning_curve, plot_parity
from torch_cormorant.train.potential_module import (
    PotentialRegression,
    potential_normalisation,
)
from torch_cormorant.train.progress import EpochBar
from torch_cormorant.train.quiet import quiet_lightning
from torch_cormorant.train.record import hardware, results_table, versions
from torch_cormorant.train.report import Comparison, compare
from torch_cormorant.train.resume import resume_point
from torch_cormorant.train.starting import refit_references

__all__ = [
    "MD17_PUBLISHED",
    "ActivationLog",
    "AtomicCheckpointIO",
    "CapturedAdamW",
    "CapturedStep",
    "Comparison",
    "EnsembleCalibration",
    "EpochBar",
    "EpochBatches",
    "EpochLog",
    "EpochRow",
    "EpochSampler",
    "Fitted",
    "FrameDataModule",
    "FrameErrors",
    "MoleculeDataModule",
    "Muon",
    "PaddedBatch",
    "PaddedSizes",
    "PotentialRegression",
    "PropertyRegression",
    "Regression",
    "RunCheckpoints",
    "RunConfig",
    "RunFolder",
    "RunReport",
    "SpikeGuard",
    "best_and_last",
    "calibration",
    "compare",
    "edge_counts",
    "energy_target",
    "fit",
    "fit_seeds",
    "force_target",
    "frame_errors",
    "hardware",
    "join_outputs",
    "level_activations",
    "make_config",
    "pad_batch",
    "plot_calibration",
    "plot_learning_curve",
    "plot_parity",
    "potential_normalisation",
    "quiet_lightning",
    "refit_references",
    "require_extra",
    "results_table",
    "resume_point",
    "versions",
    "write_atomically",
    "write_json",
    "write_report",
]
