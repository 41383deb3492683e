"""One training of the search: a number of steps that can be cut and gone on with."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.force_data import Task
from benchmarks.force_loop import CLIP, FINAL, LOOKS, WARMUP, Outcome, look
from benchmarks.records import DivergedError
from benchmarks.search_space import Candidate
from torch_cormorant import Cormorant
from torch_cormorant import train as library
from torch_cormorant.train.joining import join
from torch_cormorant.train.schedule import learning_rate_factor
from torch_cormorant.train.updates import clip_to

__all__ = ["Trial", "in_turns"]

KEEP_EVERY = 10.0
"""CPU seconds between two checkpoints."""


class Trial:
    """A network in training on the frames of a task.

    Args:
        candidate: Network and training.
        task: The frames.
        seed: Of the weights and of the order of the frames.
        total: Steps of the whole training; 0: none, steps are only measured.
    """

    def __init__(
        self, candidate: Candidate, task: Task, seed: int, total: int = 0
    ) -> None:
        self.candidate, self.task, self.total, self.seed = candidate, task, total, seed
        torch.manual_seed(seed)
        self.module = library.PotentialRegression(
            Cormorant.potential(task.train.species, **candidate.network),
            library.potential_normalisation(task.train),
            unit="eV",
            lr=candidate.lr,
            ema_decay=candidate.ema,
            **candidate.loss,
            **candidate.training,
        )
        self.module.train()
        made: Any = self.module.configure_optimizers()
        self.optimiser = made["optimizer"]
        for group in self.optimiser.param_groups:
            group.update(candidate.adam)
        self.store = self.module.graph_store()
        self.weights = list(self.module.model.parameters())
        self.size = candidate.size(periodic=task.periodic)
        self.outcome, self.kept = Outcome(), dict[str, Tensor]()

    # ------------------------------------------------------------------ batches

    def rows(self, step: int) -> list[int]:
        """Frames of a step: every epoch another order, the rest of it left out."""
        count = len(self.task.train)
        per_epoch = max(1, count // self.size)
        epoch, part = divmod(step, per_epoch)
        order = torch.Generator().manual_seed(1_000_003 * self.seed + epoch)
        found = torch.randperm(count, generator=order)
        return found[part * self.size : (part + 1) * self.size].tolist()

    def batch(self, step: int) -> Any:
        """Frames of a step with their graph."""
        rows = self.rows(step)
        made = join([self.task.train[row] for row in rows])
        return made if self.store is None else self.store.add_to(made, rows)

    # -------------------------------------------------------------------- steps

    def step(self) -> float:
        """Batch, forward, loss, backward, clipping, optimiser, average; its loss."""
        done = self.outcome.steps
        for group in self.optimiser.param_groups:
            group["lr"] = self.candidate.lr * self.rate(done)
        self.module.progress = done / max(1, self.total)
        self.optimiser.zero_grad(set_to_none=True)
        loss, _ = self.module.terms(self.batch(done))
        loss.backward()
        clip_to(self.weights, CLIP)
        self.optimiser.step()
        self.module.average(self.module.decay_at(done))
        self.outcome.steps += 1
        return float(loss.detach())

    def rate(self, step: int) -> float:
        """Factor on the learning rate."""
        warmup = round(WARMUP * self.total)
        return learning_rate_factor(step, self.total, "cosine", warmup, FINAL)

    def run(self, checkpoint: Path) -> Outcome:
        """Take all steps; the module is left with the weights of the best look.

        Args:
            checkpoint: File that a cut run goes on from; gone at the end.

        Raises:
            DivergedError: The loss is not finite.
        """
        if checkpoint.exists():
            self.load(checkpoint)
        outcome, saved = self.outcome, self.outcome.cpu_seconds
        while outcome.steps < self.total:
            started = time.process_time()
            loss = self.step()
            outcome.cpu_seconds += time.process_time() - started
            if not math.isfinite(loss):
                checkpoint.unlink(missing_ok=True)
                raise DivergedError(f"loss {loss} after {outcome.steps} steps")
            if outcome.steps * LOOKS >= self.total * (len(outcome.looks) + 1):
                self.kept = look(self.module, self.task, outcome, self.kept)
            if outcome.cpu_seconds > saved + KEEP_EVERY:
                saved = outcome.cpu_seconds
                self.save(checkpoint)
        self.module.load_state_dict(self.kept)
        return outcome

    # -------------------------------------------------------------- checkpoints

    def save(self, path: Path) -> None:
        """Write all that the rest of the run depends on, whole or not at all."""
        state = {
            "module": self.module.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "outcome": asdict(self.outcome),
            "kept": self.kept,
        }
        part = path.with_suffix(".part")
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, part)
        part.replace(path)

    def load(self, path: Path) -> None:
        """The reverse."""
        state = torch.load(path, weights_only=True)
        self.module.load_state_dict(state["module"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.outcome, self.kept = Outcome(**state["outcome"]), state["kept"]


def in_turns(
    trials: Sequence[Trial], turns: int = 10, block: int = 3
) -> tuple[list[float], list[float]]:
    """CPU time of a step of each trial over that of the first, measured in turns.

    Args:
        trials: Trials with no training before them; their weights change.
        turns: How often each has its turn.
        block: Steps of a turn.

    Returns:
        Medians of the ratios over the turns, and the least seconds of a step of each.
    """
    for trial in trials:
        _seconds(trial.step, block)  # tables, moments of the optimiser
    rows = [[_seconds(t.step, block) / block for t in trials] for _ in range(turns)]
    ratios = [median(row[k] / row[0] for row in rows) for k in range(len(trials))]
    return ratios, [min(row[k] for row in rows) for k in range(len(trials))]


def _seconds(function: Callable[[], object], times: int) -> float:
    started = time.process_time()
    for _ in itertools.repeat(None, times):
        function()
    return time.process_time() - started
