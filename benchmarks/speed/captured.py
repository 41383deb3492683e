"""The captured training step beside the ordinary one, on a CUDA device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch_geometric.data import Data

from benchmarks.speed import graphs
from benchmarks.speed.measure import Step, interleaved
from benchmarks.speed.results import Row
from benchmarks.speed.settings import Settings
from torch_cormorant.models import CormorantQM9

EAGER = "CormorantQM9 on CUDA, with optimiser"
CAPTURED = "captured step"


def rows(name: str, settings: Settings, base: Row) -> Iterator[Row]:
    """Rows of a batch, or one that says what is missing.

    Args:
        name: ``"25x18"``.
        settings: The run's settings.
        base: What the rows have in common.
    """
    base = replace(base, error=None, published_s=None)
    if not torch.cuda.is_available():
        yield replace(base, formulation=CAPTURED, note="needs a CUDA device")
        return
    try:
        steps = steps_of(name, settings, "cuda")
    except ImportError as error:
        yield replace(base, formulation=CAPTURED, note=f"not measured ({error})")
        return
    times = interleaved(steps, settings.repeat)
    first = times[EAGER].wall_ms
    for kind, timing in times.items():
        ratio = None if kind == EAGER else timing.wall_ms / first
        yield replace(base.timed(timing, formulation=kind), ratio=ratio)


def steps_of(name: str, settings: Settings, device: str) -> dict[str, Step]:
    """Both steps, each to the end: batch on the CPU to weights on the device.

    Args:
        name: ``"25x18"``.
        settings: The run's settings.
        device: Where to train.
    """
    from torch_cormorant.train import CapturedStep, PaddedSizes, PropertyRegression

    torch.manual_seed(0)
    data = graphs.molecules(name, settings.inputs)
    sizes = torch.bincount(data.batch)
    batch: Any = Data(z=data.z, pos=data.pos, batch=data.batch)
    batch.y, batch.num_graphs = torch.randn(data.count, 1), data.count
    edges, width = int(sizes.square().sum()), max(2, int(sizes.max()))
    room = PaddedSizes(data.count, data.z.numel(), edges, width)
    module = PropertyRegression(CormorantQM9(), 0.0, 1.0, lr=1e-5).to(device)
    step = CapturedStep(module, room)
    other = PropertyRegression(CormorantQM9(), 0.0, 1.0, lr=1e-5).to(device)
    optimizer = torch.optim.AdamW(other.model.parameters(), lr=1e-5, amsgrad=True)

    def eager() -> None:
        optimizer.zero_grad()
        there = batch.clone().to(device)
        other.terms(there)[0].backward()
        optimizer.step()
        finish()

    def captured() -> None:
        step(batch)
        finish()

    def finish() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    return {EAGER: eager, CAPTURED: captured}
