"""Training of a potential within a budget of CPU time, the same way for every network.

Loss, optimiser, warm-up, cosine and averaged weights are those of
:class:`torch_cormorant.train.PotentialRegression`; only the clock is another: the
schedule moves with the CPU time used, so that slow and fast networks all end theirs.
"""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.loader import DataLoader

from benchmarks.force_data import Task
from benchmarks.force_families import Family, batch_size
from benchmarks.records import DivergedError
from torch_cormorant import train as library
from torch_cormorant.data import Frames
from torch_cormorant.models.energy import Result
from torch_cormorant.train.schedule import learning_rate_factor

EMA, CLIP = 0.99, 10.0
"""As examples/md17.py."""
WARMUP, FINAL = 0.02, 0.01
"""Share of the budget with a growing rate; share of the rate at the end."""
LOOKS = 6
"""How often the validation frames are looked at, evenly over the budget."""
REHEARSALS = 4
"""Steps of a copy that count for nothing: TorchScript compiles in them."""


@dataclass
class Outcome:
    """What one training gave.

    Attributes:
        looks: Seconds used, steps and validation errors (eV, eV/Angstrom) every time.
        steps: Optimiser steps.
        cpu_seconds: Of training alone: batches, forward, backward, optimiser, average.
        test_cpu_seconds_per_frame: Energies and forces of the test frames.
        best: Number of the look whose weights are tested.
    """

    looks: list[dict[str, float]] = field(default_factory=list)
    steps: int = 0
    cpu_seconds: float = 0.0
    test_cpu_seconds_per_frame: dict[str, float] = field(default_factory=dict)
    best: int = 0


def make_module(net: Any, family: Family, task: Task) -> library.PotentialRegression:
    """The network in the library's training class."""
    return library.PotentialRegression(
        net,
        library.potential_normalisation(task.train),
        unit="eV",
        lr=family.lr,
        ema_decay=EMA,
        **family.training,
    )


def endless(task: Task, size: int, seed: int) -> Iterator[Any]:
    """Training batches, in another order every epoch."""
    torch.manual_seed(seed)
    last = len(task.train) > size
    loader = DataLoader(task.train, batch_size=size, shuffle=True, drop_last=last)
    for _ in itertools.count():
        yield from loader


def step(
    module: library.PotentialRegression, optimiser: Any, batch: Any, number: int
) -> float:
    """Forward, loss, backward, clipping, optimiser, average; returns the loss."""
    optimiser.zero_grad(set_to_none=True)
    loss = torch.stack(list(module.losses(batch, module(batch)).values())).sum()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(module.model.parameters(), CLIP)
    if math.isfinite(float(norm)):  # as the guard of the example: skip
        optimiser.step()
        module.average(min(EMA, (1 + number) / (10 + number)))
    return float(loss.detach())


def train(
    module: library.PotentialRegression,
    family: Family,
    task: Task,
    seconds: float,
    seed: int,
) -> Outcome:
    """Train until the budget is used; the module is left with the best weights.

    Args:
        module: As :func:`make_module` returns it.
        family: How it is trained.
        task: The frames.
        seconds: Budget of process CPU time for training alone.
        seed: Of the order of the frames.

    Raises:
        DivergedError: The loss is not finite.
    """
    size = batch_size(family, task)
    rehearse(module, task, size)
    optimiser: Any = module.configure_optimizers()["optimizer"]
    outcome, kept = Outcome(), dict[str, Tensor]()
    module.train()
    batches = endless(task, size, seed)
    while outcome.cpu_seconds < seconds:
        started = time.process_time()
        for group in optimiser.param_groups:
            group["lr"] = family.lr * rate(outcome.cpu_seconds, seconds)
        loss = step(module, optimiser, next(batches), outcome.steps)
        outcome.cpu_seconds += time.process_time() - started
        outcome.steps += 1
        if not math.isfinite(loss):
            raise DivergedError(f"loss {loss} after {outcome.steps} steps")
        if outcome.cpu_seconds >= seconds * (len(outcome.looks) + 1) / LOOKS:
            kept = look(module, task, outcome, kept)
    module.load_state_dict(kept)
    return outcome


def rate(used: float, seconds: float) -> float:
    """The library's schedule, in milliseconds of CPU time in place of steps."""
    total = max(1, round(1e3 * seconds))
    warmup = round(WARMUP * total)
    return learning_rate_factor(round(1e3 * used), total, "cosine", warmup, FINAL)


def rehearse(module: library.PotentialRegression, task: Task, size: int) -> None:
    """Run the network a few times forward and backward, and change nothing."""
    state = copy.deepcopy(module.state_dict())
    module.train()
    for batch in itertools.islice(endless(task, size, 0), REHEARSALS):
        torch.stack(list(module.losses(batch, module(batch)).values())).sum().backward()
    module.zero_grad(set_to_none=True)
    module.load_state_dict(state)


def look(
    module: library.PotentialRegression,
    task: Task,
    outcome: Outcome,
    kept: dict[str, Tensor],
) -> dict[str, Tensor]:
    """Measure the averaged weights on the validation frames; keep the best ones."""
    output, _ = predict(module, task.valid, task.batch)
    errors = library.frame_errors(task.train, task.valid, output).values
    batch = next(iter(DataLoader(task.valid, batch_size=len(task.valid))))
    loss = float(sum(module.losses(batch, output).values()))
    outcome.looks.append(
        {
            "seconds": outcome.cpu_seconds,
            "steps": outcome.steps,
            "loss": loss,
            "energy_mae": errors["energy_mae"],
            "force_mae": errors["force_mae"],
        }
    )
    module.train()
    best = min(range(len(outcome.looks)), key=lambda k: outcome.looks[k]["loss"])
    if best < len(outcome.looks) - 1:
        return kept
    outcome.best = best
    return {name: value.clone() for name, value in module.state_dict().items()}


def predict(
    module: library.PotentialRegression, frames: Frames, size: int
) -> tuple[Result, float]:
    """Energies and forces by the averaged weights, and the CPU seconds per frame."""
    module.eval()
    outputs, used = [], 0.0
    for batch in DataLoader(frames, batch_size=4 * size):
        started = time.process_time()
        found = module(batch)
        used += time.process_time() - started
        outputs.append(found)
    return library.join_outputs(outputs), used / len(frames)
