"""Sections by name, and the steps whose memory fresh processes measure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks.speed import (
    aggregation,
    harmonics,
    large,
    layer,
    network,
    scaling,
    training,
)
from benchmarks.speed.measure import Step
from benchmarks.speed.results import Row
from benchmarks.speed.settings import Settings
from torch_cormorant.errors import ConfigError

RUNS: dict[str, Callable[[Settings], Iterator[Row]]] = {
    "aggregation": aggregation.run,
    "layer": layer.run,
    "harmonics": harmonics.run,
    "step": training.run,
    "network": network.run,
    "scaling": scaling.run,
    "large": large.run,
}
STEPS: dict[str, Callable[[str, Settings], Step]] = {
    "aggregation": aggregation.step_of,
    "layer": layer.step_of,
    "step": training.step_of,
    "network": network.step_of,
    "large": large.step_of,
}


def make_step(case: str, settings: Settings) -> Step:
    """Prepare one step, such as ``"aggregation/25x18/ours"``.

    Raises:
        ConfigError: No section has that name.
    """
    section, _, rest = case.partition("/")
    if section not in STEPS:
        msg = f"no section {section!r}; expected one of {', '.join(STEPS)}"
        raise ConfigError(msg)
    return STEPS[section](rest, settings)
