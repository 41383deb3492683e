"""Training within a budget of processor time, the same way for every network.

What other programs do to the caches makes CPU seconds of the same work differ, by up
to a factor of three on a busy machine. So the time of a step can be measured for all
networks in turns (:func:`step_seconds`) and the budget counted in steps of that length.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.curve_data import Task
from benchmarks.curve_families import Family
from benchmarks.records import DivergedError
from torch_cormorant.train.updates import OPTIMIZERS, adamw

BATCH, EVALUATED = 25, 50
WARMUP = 0.05
"""Share of the budget over which the learning rate grows; a half cosine follows."""
CLIP = 1.0
LOOKS = 3
"""How often the validation molecules are looked at, evenly over the budget."""


@dataclass
class Outcome:
    """What one run gave; errors in the unit of the target.

    Attributes:
        valid: Budget used, steps and validation error at every look.
        test_mae: Error on the test molecules with the weights of the best look.
        cpu_seconds: Of training: batches, graphs, forward, backward, optimiser.
        steps: Optimiser steps.
        evaluation_seconds: CPU time of all looks and the test, not in the budget.
    """

    valid: list[dict[str, float]] = field(default_factory=list)
    test_mae: float = math.nan
    cpu_seconds: float = 0.0
    steps: int = 0
    evaluation_seconds: float = 0.0


@torch.no_grad()
def error(model: nn.Module, job: Task, rows: Tensor) -> float:
    """Mean absolute error in the unit of the target."""
    model.eval()
    total = 0.0
    for part in rows.split(EVALUATED):
        out = model(*job.molecules.batch(part))[:, 0]
        total += float((out - job.rest[part]).abs().double().sum())
    model.train()
    return job.molecules.factor * job.std * total / len(rows)


def rate(progress: float) -> float:
    """Share of the largest learning rate after a share of the budget."""
    if progress < WARMUP:
        return max(progress, 1e-3) / WARMUP
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


def train(
    model: nn.Module,
    family: Family,
    job: Task,
    seconds: float,
    seed: int,
    step: float | None = None,
) -> Outcome:
    """Train until the budget is used; the best of :data:`LOOKS` looks is tested.

    Args:
        model: The network.
        family: Its learning rate and loss.
        job: The molecules.
        seconds: Budget of process CPU time for training alone.
        seed: Of the order of the molecules.
        step: CPU seconds that one step counts for; default: what it takes.

    Raises:
        DivergedError: The loss is not finite.
    """
    optimiser = make_optimiser(model, family)
    _, valid, test = job.parts
    outcome, best, kept = Outcome(), math.inf, dict[str, Tensor]()
    used = 0.0
    for rows in job.epochs(BATCH, seed):
        for group in optimiser.param_groups:
            group["lr"] = family.lr * rate(used / seconds)
        started = time.process_time()
        loss = one_step(model, optimiser, family, job, rows)
        spent = time.process_time() - started
        if not math.isfinite(loss):
            raise DivergedError(f"loss {loss} after {outcome.steps} steps")
        outcome.steps += 1
        outcome.cpu_seconds += spent
        used += spent if step is None else step
        if used >= seconds * (len(outcome.valid) + 1) / LOOKS:
            started = time.process_time()
            found = error(model, job, valid)
            look = {"seconds": used, "steps": outcome.steps, "valid_mae": found}
            outcome.valid.append(look)
            if found < best:
                best = found
                kept = {k: v.clone() for k, v in model.state_dict().items()}
            outcome.evaluation_seconds += time.process_time() - started
        if used >= seconds:
            break
    started = time.process_time()
    model.load_state_dict(kept)
    outcome.test_mae = error(model, job, test)
    outcome.evaluation_seconds += time.process_time() - started
    return outcome


def make_optimiser(model: nn.Module, family: Family) -> torch.optim.Optimizer:
    """Adam or Muon at the family's learning rate."""
    own = {} if family.optimizer == "muon" else {"amsgrad": family.amsgrad}
    kind = OPTIMIZERS[family.optimizer]
    return adamw(model.parameters(), kind, lr=family.lr, weight_decay=0.0, **own)


def one_step(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    family: Family,
    job: Task,
    rows: Tensor,
) -> float:
    """Batch, graph, forward, backward, optimiser; returns the loss."""
    loss_of = functional.l1_loss if family.loss == "l1" else functional.mse_loss
    optimiser.zero_grad(set_to_none=True)
    out = model(*job.molecules.batch(rows))[:, 0]
    loss = loss_of(out, job.rest[rows])
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    optimiser.step()
    return loss.item()


def step_seconds(
    models: dict[str, nn.Module], families: dict[str, Family], job: Task, rounds: int
) -> dict[str, list[float]]:
    """CPU seconds of single steps, all networks in turns on the same molecules.

    Returns:
        The times of ``rounds`` steps of every network, ascending.
    """
    optimisers = {
        name: make_optimiser(net, families[name]) for name, net in models.items()
    }
    times: dict[str, list[float]] = {name: [] for name in models}
    for turn, rows in enumerate(job.epochs(BATCH, 0)):
        for name, net in models.items():
            started = time.process_time()
            one_step(net, optimisers[name], families[name], job, rows)
            if turn:  # the first round builds caches
                times[name].append(time.process_time() - started)
        if turn == rounds:
            break
    return {name: sorted(found) for name, found in times.items()}
