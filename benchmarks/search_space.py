"""What the search for the best potential tries: changes of the default, by name.

One change at a time first, then those that helped together.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

__all__ = ["CANDIDATES", "Candidate"]


@dataclass(frozen=True)
class Candidate:
    """A network and how it is trained.

    Attributes:
        network: Arguments of ``Cormorant.potential``.
        lr: Largest learning rate.
        batch: Molecules of a batch; of periodic frames a tenth, at least one.
        ema: Decay of the averaged weights.
        loss: Arguments of ``PotentialRegression``.
        adam: What its optimiser has otherwise, such as ``betas``.
        training: Other arguments of ``PotentialRegression``, of the optimiser.
    """

    network: dict[str, Any] = field(default_factory=dict)
    lr: float = 1e-2
    batch: int = 10
    ema: float = 0.99
    loss: dict[str, Any] = field(default_factory=dict)
    adam: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)

    def size(self, *, periodic: bool) -> int:
        """Frames of a batch."""
        return max(1, self.batch // 10) if periodic else self.batch

    def settings(self) -> dict[str, Any]:
        """What a record keeps."""
        return {part.name: getattr(self, part.name) for part in fields(self)}


def _made(*parts: dict[str, Any], **network: Any) -> Candidate:
    """A candidate of changes; ``lr``, ``batch``, ``loss``, ... are no network's."""
    given: dict[str, Any] = {"size": "complex", "num_levels": 2}
    for part in (*parts, network):
        given |= part
    names = [part.name for part in fields(Candidate) if part.name != "network"]
    own = {name: given.pop(name) for name in names if name in given}
    return Candidate(given, **own)


R16 = {"complex": False}
R32 = {"complex": False, "channels": 32}
R32L3 = {**R32, "lmax": 3}
HUBER: dict[str, Any] = {"loss": {"huber": 0.01}}
LATE = {"first_energy_weight": 0.1, "energy_weight": 10.0}
ADAM: dict[str, Any] = {"amsgrad": False}
MUON: dict[str, Any] = {
    "lr": 5e-3,
    "training": {"optimizer": "muon", "momentum": 0.98},
}


def _decay(share: float) -> dict[str, Any]:
    return {**MUON, "training": {**MUON["training"], "weight_decay": share}}


SPECIES = {"radial": {"kind": "species", "hidden": 16}}

CANDIDATES: dict[str, Candidate] = {
    "default": _made(num_levels=3),
    "levels-2": _made(),
    # the shape of the network
    "real-16": _made(R16),
    "real-24": _made(R16, channels=24),
    "real-32": _made(R32),
    "real-48": _made(R16, channels=48),
    "real-64": _made(R16, channels=64),
    "real-32-lmax-1": _made(R32, lmax=1),
    "real-64-lmax-1": _made(R16, channels=64, lmax=1),
    "real-16-lmax-3": _made(R16, lmax=3),
    "real-24-lmax-3": _made(R16, channels=24, lmax=3),
    "real-32-lmax-3": _made(R32L3),
    "real-48-lmax-3": _made(R16, channels=48, lmax=3),
    "real-32-levels-3": _made(R32, num_levels=3),
    "real-16-levels-3": _made(R16, num_levels=3),
    "real-32-levels-1": _made(R32, num_levels=1),
    # its parts, one at a time
    "basis-6": _made(R32, num_basis=6),
    "basis-12": _made(R32, num_basis=12),
    "basis-16": _made(R32, num_basis=16),
    "gaussian-16": _made(R32, radial="gaussian", num_basis=16),
    "cutoff-4": _made(R32, cutoff=4.0),
    "cutoff-6": _made(R32, cutoff=6.0),
    "soft-2": _made(R32, soft_radius=2.0),
    "soft-4": _made(R32, soft_radius=4.0),
    "gate": _made(R32, gate=True),
    "hidden-32": _made(R32, hidden=32),
    "hidden-128": _made(R32, hidden=128),
    "no-norm": _made(R32, norm=None),
    # its training
    "batch-5": _made(R32, batch=5),
    "batch-20": _made(R32, batch=20),
    "lr-5e-3": _made(R32, lr=5e-3),
    "lr-2e-2": _made(R32, lr=2e-2),
    "ema-0.995": _made(R32, ema=0.995),
    "ema-0.999": _made(R32, ema=0.999),
    "energy-10": _made(R32, loss={"energy_weight": 10.0}),
    "energy-0.1": _made(R32, loss={"energy_weight": 0.1}),
    "energy-late": _made(R32, loss=LATE),
    "huber-0.03": _made(R32, loss={"huber": 0.03}),
    "huber-0.01": _made(R32, loss={"huber": 0.01}),
    "adam": _made(R32, adam={"amsgrad": False}),
    "adam-0.99": _made(R32, adam={"amsgrad": False, "betas": (0.9, 0.99)}),
    # what other networks have
    "species": _made(R32, SPECIES),
    "species-32": _made(R32, radial={"kind": "species", "hidden": 32}),
    "species-scale": _made(R32, species_scale=True),
    "residual": _made(R32, residual=True),
    # by another optimiser
    "muon": _made(R32, HUBER, MUON),
    "muon-squares": _made(R32, MUON),
    "muon-adam": _made(R32, HUBER, MUON, adam=ADAM),
    "muon-levels-2": _made(HUBER, MUON),
    "muon-levels-3": _made(R32, HUBER, MUON, num_levels=3),
    "muon-levels-4": _made(R32, HUBER, MUON, num_levels=4),
    "muon-16": _made(R16, HUBER, MUON),
    "muon-48": _made(R16, HUBER, MUON, channels=48),
    "muon-64": _made(R16, HUBER, MUON, channels=64),
    "muon-lmax-1": _made(R32, HUBER, MUON, lmax=1),
    "muon-lmax-3": _made(R32L3, HUBER, MUON),
    "muon-lmax-3-decay-0.01": _made(R32L3, HUBER, _decay(0.01)),
    "muon-lmax-3-decay-0.1": _made(R32L3, HUBER, _decay(0.1)),
    "muon-lmax-3-decay-1": _made(R32L3, HUBER, _decay(1.0)),
    "muon-64-lmax-1": _made(R16, HUBER, MUON, channels=64, lmax=1),
    "muon-batch-5": _made(R32, HUBER, MUON, batch=5),
    "muon-batch-20": _made(R32, HUBER, MUON, batch=20),
    "muon-lr-3e-3": _made(R32, HUBER, MUON, lr=3e-3),
    "muon-lr-1e-2": _made(R32, HUBER, MUON, lr=1e-2),
    "muon-0.95": _made(R32, HUBER, MUON, training={"optimizer": "muon"}),
    "muon-0.99": _made(
        R32, HUBER, MUON, training={"optimizer": "muon", "momentum": 0.99}
    ),
    "muon-ema-0.995": _made(R32, HUBER, MUON, ema=0.995),
    "muon-huber-0.03": _made(R32, MUON, loss={"huber": 0.03}),
    "muon-huber-0.1": _made(R32, MUON, loss={"huber": 0.1}),
    "muon-huber-0.003": _made(R32, MUON, loss={"huber": 0.003}),
    "muon-late": _made(R32, MUON, loss={**HUBER["loss"], **LATE}),
    "muon-energy-10": _made(R32, MUON, loss={**HUBER["loss"], "energy_weight": 10.0}),
    "muon-energy-0.1": _made(R32, MUON, loss={**HUBER["loss"], "energy_weight": 0.1}),
    "muon-cutoff-4": _made(R32, HUBER, MUON, cutoff=4.0),
    "muon-cutoff-6": _made(R32, HUBER, MUON, cutoff=6.0),
    "muon-basis-12": _made(R32, HUBER, MUON, num_basis=12),
    "muon-gate": _made(R32, HUBER, MUON, gate=True),
    "muon-species": _made(R32, HUBER, MUON, SPECIES),
    "muon-species-scale": _made(R32, HUBER, MUON, species_scale=True),
    "muon-residual": _made(R32, HUBER, MUON, residual=True),
    "muon-no-norm": _made(R32, HUBER, MUON, norm=None),
    "muon-hidden-32": _made(R32, HUBER, MUON, hidden=32),
    "muon-hidden-128": _made(R32, HUBER, MUON, hidden=128),
    # together
    "species-lmax-3": _made(R32L3, SPECIES),
    "species-both": _made(R32, SPECIES, species_scale=True),
    "species-all": _made(R32, SPECIES, species_scale=True, residual=True),
    "species-all-lmax-3": _made(R32L3, SPECIES, species_scale=True, residual=True),
    "huber-levels-2": _made(HUBER),
    "huber-lmax-3": _made(R32L3, HUBER),
    "huber-48": _made(R16, HUBER, channels=48),
    "huber-batch-20": _made(R32, HUBER, batch=20),
    "huber-batch-5": _made(R32, HUBER, batch=5),
    "huber-lr-5e-3": _made(R32, HUBER, lr=5e-3),
    "huber-lr-2e-2": _made(R32, HUBER, lr=2e-2),
    "huber-ema-0.995": _made(R32, HUBER, ema=0.995),
    "huber-0.003": _made(R32, loss={"huber": 0.003}),
    "huber-late": _made(R32, loss={**HUBER["loss"], **LATE}),
    "huber-cutoff-4": _made(R32, HUBER, cutoff=4.0),
    "huber-basis-12": _made(R32, HUBER, num_basis=12),
    "huber-gate": _made(R32, HUBER, gate=True),
    "huber-levels-3": _made(R32, HUBER, num_levels=3),
    "huber-16-levels-3": _made(R16, HUBER, num_levels=3),
    "huber-adam": _made(R32, HUBER, adam={"amsgrad": False}),
    "huber-species": _made(R32, HUBER, SPECIES),
    "huber-species-lmax-3": _made(R32L3, HUBER, SPECIES),
    "huber-residual-lmax-3": _made(R32L3, HUBER, residual=True),
}
