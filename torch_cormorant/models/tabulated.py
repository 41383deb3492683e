"""Potentials whose radial functions are read from tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from torch_cormorant.errors import ConfigError
from torch_cormorant.models.copies import copied
from torch_cormorant.networks.radial_weights import RadialTables, WithRadialWeights

__all__ = ["tabulated"]

PIECES = (64, 128, 256, 512, 1024)
"""Tried in this order where none are given."""
ATOMS, TRIALS, CLOSEST = 24, 4, 0.9
"""Atoms, number and smallest distance in Angstrom of the structures of the check."""
M = TypeVar("M", bound=nn.Module)
Structure = tuple[Tensor, Tensor]


def tabulated(
    potential: M,
    pieces: int | None = None,
    tolerance: float = 1e-5,
    structures: Sequence[Structure] | None = None,
) -> M:
    """See :meth:`torch_cormorant.models.Potential.tabulate`."""
    made: Any = copied(potential).eval().requires_grad_(False)
    network = made.network
    if not isinstance(network, WithRadialWeights):
        msg = (
            f"{type(network).__name__} has no functions of lengths alone, which"
            " tables could hold; NequIP, PaiNN and SchNet have"
        )
        raise ConfigError(msg)
    if not (isinstance(tolerance, (int, float)) and tolerance > 0):
        raise ConfigError(f"tolerance must be a positive number, got {tolerance!r}")
    network.tables = None
    given = trials(network) if structures is None else list(structures)
    exact = [_forces(made, structure) for structure in given]
    doubled = copied(network).double().cpu()
    error = float("inf")
    for count in PIECES if pieces is None else (pieces,):
        network.tables = RadialTables(network, doubled, count)
        error = max(
            _difference(_forces(made, structure), forces)
            for structure, forces in zip(given, exact, strict=True)
        )
        if error <= tolerance / 2 or (pieces is not None and error <= tolerance):
            return cast("M", made)
    if error <= tolerance:
        return cast("M", made)
    msg = (
        f"with tables of {count} pieces forces differ by {error:.1e} of the largest, "
        f"more than tolerance={tolerance:g}; give more pieces or a larger tolerance"
    )
    raise ConfigError(msg)


def trials(network: WithRadialWeights) -> list[Structure]:
    """Random clusters of all species, at distances from short ones to the cutoff.

    Args:
        network: Tells species, cutoff, type and device.
    """
    generator = torch.Generator().manual_seed(0)
    known = torch.tensor(network.features.known)
    like = next(network.parameters())
    found = []
    for _ in range(TRIALS):
        z = known[torch.randint(len(known), (ATOMS,), generator=generator)]
        pos = _cluster(generator, 0.5 * float(network.cutoff or 0.0))
        found.append((z.to(like.device), pos.to(like)))
    return found


def _cluster(generator: torch.Generator, radius: float) -> Tensor:
    """Points in a cube, none too close to another."""
    side = max(2 * radius, CLOSEST * 1.5 * ATOMS ** (1 / 3))
    points = torch.zeros(0, 3, dtype=torch.float64)
    while len(points) < ATOMS:
        point = side * torch.rand(1, 3, generator=generator, dtype=torch.float64)
        if not bool(((points - point).norm(dim=1) < CLOSEST).any()):
            points = torch.cat([points, point])
    return points


def _forces(potential: Any, structure: Structure) -> Tensor:
    forces: Tensor = potential.evaluate(*structure).forces.double()
    return forces


def _difference(found: Tensor, exact: Tensor) -> float:
    """Largest difference as a part of the largest force."""
    largest = exact.abs().max().clamp_min(torch.finfo(torch.float32).tiny)
    return float((found - exact).abs().max() / largest)
