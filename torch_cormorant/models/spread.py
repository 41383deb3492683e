"""When the models of an ensemble disagree too much to be believed."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from torch_cormorant.errors import EnsembleSpreadWarning

__all__ = [
    "PER_ATOM",
    "limits_of",
    "potential_spreads",
    "property_spreads",
    "warn_of_spread",
]

QUANTILE, MARGIN = 0.995, 1.5
"""Limits are so many times what this share of a calibration's structures is within."""
PER_ATOM = "energy_per_atom"
"""What the limit of a potential's energy is called: large structures spread more."""
MOST_NAMED = 3


def potential_spreads(found: Any, batch: Tensor | None) -> dict[str, Tensor]:
    """Spread of each structure: of its energy for each atom, largest of its forces.

    Args:
        found: An :class:`.EnsembleResult`.
        batch: Structure of each atom ``[N]``; None: one.

    Returns:
        ``[B]`` by name, of what was computed.
    """
    std, count = found.energy_std.detach().cpu(), len(found.energy)
    length = None
    if found.forces_std is not None:
        length = torch.linalg.vector_norm(found.forces_std.detach().cpu(), dim=1)
    if count == 1:  # at every step of a run
        alone = {PER_ATOM: std / max(len(found.energies), 1)}
        if length is not None and len(length):
            alone["forces"] = length.max()[None]
        return alone
    if batch is None:
        batch = torch.zeros(len(found.energies), dtype=torch.long)
    batch = batch.cpu()
    spreads = {PER_ATOM: std / torch.bincount(batch, minlength=count).clamp(min=1)}
    if length is not None:
        largest = length.new_zeros(count)
        spreads["forces"] = largest.scatter_reduce(0, batch, length, "amax")
    return spreads


def property_spreads(std: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """Spread of each structure, the largest of all components.

    Args:
        std: ``[B, ...]``, the targets along the second axis if there are several.
        names: Of the targets.
    """
    parts = std.detach().flatten(1).unflatten(1, (len(names), -1))
    return dict(zip(names, parts.amax(2).unbind(1), strict=True))


def limits_of(spreads: Mapping[str, Tensor]) -> dict[str, float]:
    """One and a half times the spreads that 99.5 % of these structures are within."""
    found = {
        name: MARGIN * float(torch.quantile(values.double().cpu(), QUANTILE))
        for name, values in spreads.items()
    }
    return {name: value for name, value in found.items() if value > 0}


def warn_of_spread(
    spreads: Mapping[str, Tensor],
    limits: Mapping[str, float],
    units: Mapping[str, str],
    names: Sequence[str] = (),
) -> bool:
    """Warn of structures that the models disagree about.

    Args:
        spreads: Of each structure ``[B]``, by name.
        limits: What is allowed, by name.
        units: For the message.
        names: What the structures are called. Default: by their numbers.

    Returns:
        Whether there was a warning.
    """
    held = [name for name in spreads if name in limits]
    if not held:
        return False
    # of a spread that is no number nothing is known
    far = {name: ~(spreads[name] <= limits[name]) for name in held}
    if not any(bool(some.any()) for some in far.values()):
        return False
    rows = torch.stack(list(far.values())).any(0).nonzero().flatten().tolist()
    first = rows[0]
    parts = [
        f"{_WORDS.get(name, name)} by {float(spreads[name][first]):.3g} {units[name]} "
        f"(limit {limits[name]:.3g})"
        for name in held
        if far[name][first]
    ]
    called = [names[k] if names else f"structure {k}" for k in rows[:MOST_NAMED]]
    more = len(rows) - len(called)
    rest = f"; also {', '.join(called[1:])}" if called[1:] else ""
    rest += f" and {more} more" if more else ""
    text = (
        f"{called[0]}: the models of the ensemble disagree about "
        f"{' and '.join(parts)}, more than on the structures of their calibration: it "
        f"is far from what they have learned, so do not rely on the result{rest}"
    )
    warnings.warn(text, EnsembleSpreadWarning, stacklevel=3)
    return True


_WORDS = {PER_ATOM: "the energy", "forces": "a force"}
