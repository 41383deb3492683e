"""A training step of ``CormorantQM9``: all pairs, squared error, gradients."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.nn import functional

from benchmarks.speed import captured, graphs
from benchmarks.speed.measure import (
    Step,
    interleaved,
    memory_of,
    relative_error,
)
from benchmarks.speed.results import Row
from benchmarks.speed.settings import Settings
from torch_cormorant.models import Cormorant, CormorantQM9

PUBLISHED_S = {"25x18": 6.16, "1x50": 1.54, "1x100": 7.01, "1x200": 28.5}
"""Forward and backward of the published code (same network and inputs, float32, torch
2.13 on two cores of an idle machine): risilab/cormorant, commit 6a4b637."""
REFERENCE_EDGES = 12_000
"""Larger graphs are not compared: the reference needs 40 kB per edge and level."""


class TrainingStep:
    """A network with a batch of clusters and random targets."""

    def __init__(self, name: str, settings: Settings) -> None:
        torch.manual_seed(0)
        self.data = graphs.molecules(name, settings.inputs)
        self.model: Cormorant = CormorantQM9()
        self.target = torch.randn(self.data.count, 1)
        sizes = torch.bincount(self.data.batch)
        self.edges = int(sizes.square().sum())

    def __call__(self) -> None:
        """Zero the gradients, run forward, then backward."""
        data = self.data
        self.model.zero_grad(set_to_none=True)
        out = self.model(data.z, data.pos, data.batch, num_graphs=data.count)
        functional.mse_loss(out, self.target).backward()

    @torch.no_grad()
    def error(self) -> float | None:
        """Largest relative difference of outputs and levels from the reference path."""
        if self.edges > REFERENCE_EDGES:
            return None
        data, results = self.data, []
        for backend in ("auto", "reference"):
            self.model.set_backend(backend)
            out, levels = self.model(data.z, data.pos, data.batch, return_levels=True)
            results.append((out, *levels))
        self.model.set_backend("auto")
        return relative_error(*results)


def step_of(case: str, settings: Settings) -> Step:
    """``"25x18"``."""
    return TrainingStep(case, settings)


def run(settings: Settings) -> Iterator[Row]:
    """All rows of this section."""
    for name in settings.steps:
        step = TrainingStep(name, settings)
        row = Row(
            "step",
            name,
            "training step",
            step.edges,
            "CormorantQM9",
            error=step.error(),
            published_s=PUBLISHED_S.get(name),
        )
        timing = interleaved({name: step}, settings.repeat)[name]
        memory, note = memory_of(f"step/{name}", settings)
        yield row.timed(timing, memory_mb=memory, note=note)
        yield from captured.rows(name, settings, row)
