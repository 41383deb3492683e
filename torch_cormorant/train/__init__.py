"""Training with Lightning: module, data, checkpoints, records and plots.

Needs the extra ``train``: ``pip install "torch-cormorant[train]"``.
"""

from __future__ import annotations

from torch_cormorant.train.requirements import require_extra

require_extra()

from torch_cormorant.train.activations import (  # noqa: E402
    ActivationLog,
    level_activations,
)
from torch_cormorant.train.base import Regression  # noqa: E402
from torch_cormorant.train.batches import (  # noqa: E402
    EpochBatches,
    EpochSampler,
    edge_counts,
)
from torch_cormorant.train.callbacks import (  # noqa: E402
    EpochLog,
    EpochRow,
    energy_target,
    force_target,
)
from torch_cormorant.train.captured import CapturedAdamW, CapturedStep  # noqa: E402
from torch_cormorant.train.checkpoint import (  # noqa: E402
    AtomicCheckpointIO,
    RunCheckpoints,
    best_and_last,
)
from torch_cormorant.train.config import RunConfig  # noqa: E402
from torch_cormorant.train.config_checks import make_config  # noqa: E402
from torch_cormorant.train.datamodule import (  # noqa: E402
    FrameDataModule,
    MoleculeDataModule,
)
from torch_cormorant.train.ensemble import (  # noqa: E402
    Calibration,
    calibration,
    plot_calibration,
)
from torch_cormorant.train.files import (  # noqa: E402
    RunFolder,
    write_atomically,
    write_json,
)
from torch_cormorant.train.fitting import Fitted, fit, fit_seeds  # noqa: E402
from torch_cormorant.train.frame_errors import (  # noqa: E402
    MD17_PUBLISHED,
    FrameErrors,
    frame_errors,
    join_outputs,
)
from torch_cormorant.train.guard import SpikeGuard  # noqa: E402
from torch_cormorant.train.html_report import (  # noqa: E402
    RunReport,
    write_report,
)
from torch_cormorant.train.module import PropertyRegression  # noqa: E402
from torch_cormorant.train.padding import (  # noqa: E402
    PaddedBatch,
    PaddedSizes,
    pad_batch,
)
from torch_cormorant.train.plots import (  # noqa: E402
    plot_learning_curve,
    plot_parity,
)
from torch_cormorant.train.potential_module import (  # noqa: E402
    PotentialRegression,
    potential_normalisation,
)
from torch_cormorant.train.progress import EpochBar  # noqa: E402
from torch_cormorant.train.quiet import quiet_lightning  # noqa: E402
from torch_cormorant.train.record import (  # noqa: E402
    hardware,
    results_table,
    versions,
)
from torch_cormorant.train.report import Comparison, compare  # noqa: E402
from torch_cormorant.train.resume import resume_point  # noqa: E402

__all__ = [
    "MD17_PUBLISHED",
    "ActivationLog",
    "AtomicCheckpointIO",
    "Calibration",
    "CapturedAdamW",
    "CapturedStep",
    "Comparison",
    "EpochBar",
    "EpochBatches",
    "EpochLog",
    "EpochRow",
    "EpochSampler",
    "Fitted",
    "FrameDataModule",
    "FrameErrors",
    "MoleculeDataModule",
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
    "require_extra",
    "results_table",
    "resume_point",
    "versions",
    "write_atomically",
    "write_json",
    "write_report",
]
