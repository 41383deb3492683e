"""Give the activations of a network a size, measured on data.

Every level multiplies features with features, so the output of S levels is a
polynomial of high degree: a global factor cannot bring all levels to order one
(they die or explode). Level by level and degree by degree, on data, it can. But a
network scaled to order one may be so steep that displaced atoms make it explode;
the default target is therefore the largest one that survives a rattle and a
compression of the molecules. Last, the head is scaled so that the first predictions
are small beside normalised labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from torch_cormorant.errors import ConfigError, NonFiniteError
from torch_cormorant.nn.init import writable

TARGETS = (1.0, 0.3, 0.1, 0.03, 0.01)
"""Sizes that are tried in turn."""
RATTLE = 0.1
"""Displacement in Angstrom (standard deviation of each coordinate)."""
COMPRESSION = 0.95
"""Factor on all coordinates."""
LIMIT = 5.0
"""Largest accepted growth of the top level's RMS under rattle or compression."""
OUTPUT = 0.1
"""RMS given to the predictions; labels are normalised to one."""


@dataclass(frozen=True)
class Calibration:
    """What :meth:`torch_cormorant.Cormorant.calibrate` did.

    Attributes:
        target: RMS given to every level and degree.
        growth: Largest factor by which rattle or compression changed the RMS of the
            top level at that target.
        passed: Whether the growth is below the limit.
        output: RMS of the predictions before the head was rescaled.
    """

    target: float
    growth: float
    passed: bool
    output: float = 0.0


def calibrate(
    model: Any,
    loader: Iterable[Any],
    target: float | None = None,
    max_batches: int = 4,
) -> Calibration:
    """Rescale vertex weights, level by level and degree by degree, on real batches.

    Then the last layers of the head, so that predictions have RMS 0.1: a training on
    normalised labels starts from a loss of about one.

    Args:
        model: A :class:`.CormorantNetwork`; its vertex weights and the last layers of
            its head are multiplied by positive factors.
        loader: Batches with ``z``, ``pos``, ``batch``.
        target: RMS per level and degree. Default: the largest of 1, 0.3, 0.1, 0.03,
            0.01 at which neither a rattle of 0.1 A nor a compression to 95 % changes
            the top level's RMS more than fivefold (the smallest if none passes).
        max_batches: Batches that are used.

    Returns:
        What was chosen and measured.

    Raises:
        ConfigError: If the loader is empty or the target not positive.
        NonFiniteError: If activations are not finite.
    """
    batches = list(islice(iter(loader), max_batches))
    if not batches:
        msg = "calibrate needs at least one batch; the loader is empty"
        raise ConfigError(msg)
    if target is not None and not target > 0:
        msg = f"target must be positive, got {target}"
        raise ConfigError(msg)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    result = Calibration(0.0, float("inf"), passed=False)
    for size in TARGETS if target is None else (target,):
        model.load_state_dict(start)
        for level in range(model.num_levels):
            _rescale(model, batches, level, size)
        growth = _growth(model, batches)
        result = Calibration(size, growth, growth < LIMIT)
        if result.passed:
            break
    output = _predicted(model, batches)
    if output > 0:
        model.head.rescale(OUTPUT / output)
    return replace(result, output=output)


@torch.no_grad()
def _predicted(model: Any, batches: list[Any]) -> float:
    """RMS of the predictions."""
    outputs = [model(batch.z, batch.pos, batch.batch).flatten() for batch in batches]
    return _rms(torch.cat(outputs))


@torch.no_grad()
def _rescale(model: Any, batches: list[Any], level: int, size: float) -> None:
    conv = model.conv_layers()[level]
    power = torch.stack([_powers(model, batch, level) for batch in batches]).mean(0)
    for l, value in enumerate(power.sqrt().tolist()):
        if value > 0:
            writable(conv.vertex.weights, f"weight_l{l}").mul_(size / value)


def _powers(model: Any, batch: Any, level: int) -> Tensor:
    """Mean square of every degree of one level's output, before norm and gate."""
    with _watched(model, level) as before:
        _levels(model, batch, batch.pos)
    features = before.seen
    lmax = model.lmax[level]
    return torch.stack(
        [
            features[:, l * l : (l + 1) ** 2].square().sum(2).mean()
            for l in range(lmax + 1)
        ]
    )


class _Before(torch.nn.Module):
    """A norm that keeps what it was given."""

    seen: Tensor

    def __init__(self, norm: torch.nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        self.seen = x
        result: Tensor = self.norm(x)
        return result


@contextmanager
def _watched(model: Any, level: int) -> Iterator[_Before]:
    """Keep what the layer of a level returns, for a moment."""
    kept = model.norms[level]
    before = model.norms[level] = _Before(kept)
    try:
        yield before
    finally:
        model.norms[level] = kept


@torch.no_grad()
def _levels(model: Any, batch: Any, pos: Tensor) -> list[Tensor]:
    _, levels = model(batch.z, pos, batch.batch, return_levels=True)
    if not all(bool(level.isfinite().all()) for level in levels):
        msg = "activations are not finite; start from a smaller gain"
        raise NonFiniteError(msg)
    return list(levels)


def _growth(model: Any, batches: list[Any]) -> float:
    """Largest change of the top level's RMS under rattle and compression."""
    worst = 1.0
    for batch in batches:
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(batch.pos.shape, generator=generator, dtype=torch.float64)
        noise = noise.to(batch.pos)
        still = _rms(_levels(model, batch, batch.pos)[-1])
        for pos in (batch.pos + RATTLE * noise, batch.pos * COMPRESSION):
            ratio = _rms(_levels(model, batch, pos)[-1]) / max(still, 1e-30)
            worst = max(worst, ratio, 1 / max(ratio, 1e-30))
    return worst


def _rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())
