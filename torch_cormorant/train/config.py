"""What a configuration of a training may hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch_cormorant.data.registry import SOURCES
from torch_cormorant.networks import (
    ARandNet,
    BRandNet,
    L0Net,
    L1Net,
    L2Net,
    NBodyNetwork,
    Network,
)
from torch_cormorant.networks.recognised import KINDS
from torch_cormorant.train.updates import OPTIMIZERS

__all__ = ["SECTIONS", "RunConfig"]

OTHERS: tuple[type[Network], ...] = (
    ARandNet,
    BRandNet,
    L0Net,
    L1Net,
    L2Net,
    NBodyNetwork,
)
"""Networks that are not known by the names of their weights alone."""
FAMILY = tuple(kind.kind for kind in (*KINDS, *OTHERS))
NETWORKS = ("published", "recipe", "potential", "custom", *FAMILY)


def doc(default: Any, text: str) -> Any:
    """A field with a default and a line of help."""
    if isinstance(default, (list, dict)):
        # A copy for each configuration, which may be changed.
        return field(default_factory=default.copy, metadata={"doc": text})
    return field(default=default, metadata={"doc": text})


@dataclass
class DataConfig:
    """Which molecules, and how they are divided."""

    source: str = doc("mini_qm9", f"one of {', '.join(SOURCES)}")
    path: str = doc("", "file, or folder of raw files (qm9, md17)")
    target: str | list[str] = doc(
        "", "property, or a list of them (property sets; extxyz: its name in the file)"
    )
    molecule: str = doc("", "molecule of MD17, where the file does not tell it")
    part: str = doc("", "part of a divided file of frames")
    energy: str = doc("energy", "name of the energy in an extxyz file")
    forces: str = doc("forces", "name of the forces in an extxyz file")
    stress: str = doc("", "name of the stress in an extxyz file")
    virial: str = doc("", "name of the virial, to have the stress from it")
    units: dict[str, str] = doc(
        {},
        "units of a file where they are not ASE's: {energy: Hartree}; with a target "
        "that of each: {gap: eV}",
    )
    unit: str = doc(
        "", "unit to hand energies out in, or all targets of an extxyz file"
    )
    train: int | None = doc(None, "training molecules; default the published share")
    valid: int | None = doc(None, "validation molecules")
    test: int | None = doc(None, "test molecules")
    split_seed: int = doc(0, "seed of the split")
    by_part: bool = doc(
        False,
        "frames: train, valid and test are the parts of the file of these names; sizes "
        "then take so many of each",
    )
    official_split: int | None = doc(
        None, "number of an official split of revised MD17, in place of the sizes"
    )

    @property
    def names(self) -> list[str]:
        """The properties that are named, one or several."""
        several = [self.target] if isinstance(self.target, str) else self.target
        return [name for name in several if name]


@dataclass
class ModelConfig:
    """Which network."""

    network: str = doc("recipe", f"one of {', '.join(NETWORKS)}")
    options: dict[str, Any] = doc(
        {}, "arguments of Cormorant and CormorantConv, or of the network that is named"
    )


@dataclass
class LossConfig:
    """What the loss of frames with energies and forces consists of."""

    energy: float = doc(1.0, "weight of the energies")
    forces: float = doc(1.0, "weight of the forces; 0: energies alone")
    stress: float = doc(0.0, "weight of the stresses")
    per_atom: bool = doc(True, "divide the error of an energy by the number of atoms")
    huber: float = doc(
        0.0, "errors beyond this, over the scale, count by their size; 0: squares"
    )
    first_energy: float = doc(
        0.0, "weight of the energies at the start, moving to energy; 0: no change"
    )


@dataclass
class TrainingConfig:
    """How it is trained."""

    epochs: int = doc(30, "passes over the training molecules")
    batch_size: int = doc(25, "molecules per step, all devices together")
    optimizer: str = doc(
        "auto",
        "adam (AMSGrad), muon, or auto: muon for potential and recipe, adam for other "
        "networks and captured steps",
    )
    lr: float = doc(5e-4, "learning rate")
    momentum: float = doc(0.98, "momentum of muon")
    schedule: str = doc("cosine", "constant or cosine")
    warmup_steps: int = doc(0, "steps over which the rate rises")
    final_lr_factor: float = doc(0.01, "share of the rate that the cosine ends at")
    weight_decay: float = doc(0.0, "decoupled weight decay")
    ema: float = doc(0.0, "decay of the average of the weights; 0: none")
    keep: str = doc(
        "best",
        "whose weights are tested and saved: best, those of the epoch with the lowest "
        "validation error, or last, which pairs with ema",
    )
    clip: float = doc(1.0, "largest norm of the gradient; 0: no limit")
    reference: str = doc(
        "auto",
        "auto; property sets: mean, composition or none; frames: isolated, the atoms' "
        "energies of the file in place of a fit; with start: none, those of the model",
    )
    start: str = doc(
        "", "model file to start from, in place of the section model but for a head"
    )
    freeze: list[str] = doc([], "parts that keep their weights: [input, convs.0]")
    rates: dict[str, float] = doc(
        {}, "factors on the rate of parts, by their names: {convs: 0.1}"
    )
    replay: dict[str, Any] = doc(
        {},
        "old frames to train on beside the new ones, by names of your choice: {old: "
        "{source: mini_ethanol, train: 100, weight: 0.5}}",
    )
    balanced: bool = doc(False, "batches with equal numbers of edges")
    calibrate: bool = doc(False, "rescale the levels on data first")
    captured: bool = doc(
        False, "whole steps as one CUDA graph, batches of fixed sizes; needs guard: off"
    )
    guard: str = doc("skip", "answer to a spike: skip, lower, rollback, stop or off")
    seed: int = doc(0, "seed of weights and order")
    seeds: list[int] = doc([], "several seeds: an ensemble, one folder each")
    dtype: str = doc("float32", "float32 or float64")
    device: str = doc("auto", "auto, cpu or cuda")
    devices: int = doc(1, "processes on this machine")
    threads: int = doc(1, "threads of each process on the CPU")
    checkpoint_minutes: float = doc(5.0, "minutes between checkpoints in an epoch")


@dataclass
class OutputConfig:
    """What is written."""

    folder: str = doc("", "default: runs/<name of the config>")
    tensorboard: bool = doc(False, "write TensorBoard logs")
    report: bool = doc(True, "write report.html")
    plots: bool = doc(False, "write learning_curve.png, and parity.png of each target")


@dataclass
class RunConfig:
    """A whole configuration: everything that :func:`~torch_cormorant.train.fit` needs.

    :func:`~torch_cormorant.train.make_config` makes one out of plain values.
    """

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    output: OutputConfig = field(default_factory=OutputConfig)


SECTIONS: dict[str, type] = {
    "data": DataConfig,
    "model": ModelConfig,
    "loss": LossConfig,
    "training": TrainingConfig,
    "output": OutputConfig,
}
#: Values that are words out of a list.
CHOICES: dict[str, tuple[str, ...]] = {
    "data.source": SOURCES,
    "model.network": NETWORKS,
    "training.optimizer": ("auto", *OPTIMIZERS),
    "training.schedule": ("constant", "cosine"),
    "training.keep": ("best", "last"),
    "training.reference": ("auto", "mean", "composition", "none", "isolated"),
    "training.guard": ("skip", "lower", "rollback", "stop", "off"),
    "training.dtype": ("float32", "float64"),
    "training.device": ("auto", "cpu", "cuda"),
}
#: Smallest allowed value, and whether it is allowed itself.
LIMITS: dict[str, tuple[float, bool]] = {
    "data.train": (1, True),
    "data.valid": (1, True),
    "data.test": (1, True),
    "data.split_seed": (0, True),
    "data.official_split": (1, True),
    "loss.energy": (0, True),
    "loss.forces": (0, True),
    "loss.stress": (0, True),
    "loss.huber": (0, True),
    "loss.first_energy": (0, True),
    "training.epochs": (1, True),
    "training.batch_size": (1, True),
    "training.lr": (0, False),
    "training.momentum": (0, True),
    "training.warmup_steps": (0, True),
    "training.final_lr_factor": (0, True),
    "training.weight_decay": (0, True),
    "training.ema": (0, True),
    "training.clip": (0, True),
    "training.seed": (0, True),
    "training.devices": (1, True),
    "training.threads": (1, True),
    "training.checkpoint_minutes": (0, False),
}
