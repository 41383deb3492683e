"""All laws of potentials on one model, as a list that can be printed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations_with_replacement

import torch
from torch import Tensor

from torch_cormorant.errors import ConfigError
from torch_cormorant.models import Model
from torch_cormorant.models.copies import copied
from torch_cormorant.testing.equivariance import equivariance_error
from torch_cormorant.testing.potentials import (
    DiatomicScan,
    diatomic_scan,
    force_difference_error,
    force_jacobian_asymmetry,
    net_force_and_torque,
    work_error,
)

__all__ = ["Check", "check_potential", "scan_checks"]

LARGE = 1e4
"""Translation in Angstrom."""


@dataclass(frozen=True)
class Check:
    """One law, measured.

    Attributes:
        law: What was measured.
        value: The result.
        limit: What it may be at most.
    """

    law: str
    value: float
    limit: float

    @property
    def passed(self) -> bool:
        """Whether the value keeps to the limit; NaN does not."""
        return self.value <= self.limit


def check_potential(model: Model, z: Tensor, pos: Tensor) -> list[Check]:
    """Measure the laws of potentials on one structure, in float64.

    Args:
        model: A trained potential with a cutoff; a float64 copy of it is measured.
        z: Atomic numbers ``[N]`` of a structure, best one from the training data.
        pos: Its positions ``[N, 3]`` in Angstrom.

    Returns:
        The checks; the limits are those the project promises for float64.

    Raises:
        ConfigError: The model has no cutoff.

    Example:
        >>> from torch_cormorant import Cormorant
        >>> from torch_cormorant.testing import random_molecule
        >>> model = Cormorant.potential(channels=4, num_levels=1, repulsion="zbl")
        >>> checks = check_potential(model, *random_molecule(4))
        >>> all(check.passed for check in checks)
        True
    """
    if model.cutoff is None:
        raise ConfigError("model has no cutoff; these laws are for short-ranged models")
    measured = copied(model).double().eval()
    return list(_checks(measured, z, pos.detach().double()))


def _checks(model: Model, z: Tensor, pos: Tensor) -> Iterator[Check]:
    error, forces = force_difference_error(model, z, pos)
    size = float(forces.abs().max())
    energy = float(model.evaluate(z, pos, forces=False).energy)
    # differences lose what rounding takes from a large total energy
    noise = 1e-8 + 1e-7 * size + 1e-11 * abs(energy)
    yield Check("forces are the slope of the energy", float(error.abs().max()), noise)
    asymmetry = force_jacobian_asymmetry(model, z, pos)
    yield Check("force Jacobian is symmetric (relative)", asymmetry, 1e-11)
    total, torque = net_force_and_torque(model, z, pos)
    limit = 1e-12 * len(z) * max(size, 1.0)
    yield Check("sum of forces", float(total.abs().max()), limit)
    yield Check("sum of torques", float(torque.abs().max()), 10 * limit)

    def turned(numbers: Tensor, places: Tensor) -> Tensor:
        return model.energy_and_forces(numbers, places)[1].detach()

    yield Check(
        "forces turn with the molecule (relative)",
        equivariance_error(turned, z, pos, "vector"),
        1e-12,
    )
    moved = turned(z, pos + LARGE) - forces
    yield Check("forces 1e4 A away", float(moved.abs().max()), 1e-8 * max(size, 1.0))
    mirrored = model.evaluate(z, -pos, forces=False).energy - energy
    yield Check(
        "energy of the mirror image", float(mirrored.abs()), 1e-11 * abs(energy)
    )
    yield _additivity(model, z, pos)
    stretched = [pos, 1.05 * pos, 0.97 * pos]
    work = abs(work_error(model, z, stretched, pieces=40))
    yield Check("energy is the work along a path", work, 1e-7 * max(size, 1.0))
    yield from _scans(model)


def _additivity(model: Model, z: Tensor, pos: Tensor) -> Check:
    """Two copies out of each other's reach have twice the energy."""
    extent = float((pos.amax(0) - pos.amin(0)).max())
    shift = torch.tensor([extent + 1.01 * (model.cutoff or 0.0), 0, 0]).to(pos)
    single = model.evaluate(z, pos, forces=False).energy
    both = model.evaluate(z.repeat(2), torch.cat([pos, pos + shift]), forces=False)
    gap = float((both.energy - 2 * single).abs())
    return Check("two far copies", gap, 1e-12 * float(both.energy.abs()))


def _scans(model: Model) -> Iterator[Check]:
    """Holes and wiggles of every pair of elements."""
    for first, second in combinations_with_replacement(model.features.known, 2):
        scan = diatomic_scan(model, first, second)
        yield from scan_checks(scan, f"elements {first} and {second}")


def scan_checks(scan: DiatomicScan, pair: str) -> list[Check]:
    """Holes and wiggles of one pair.

    Args:
        scan: The pair at many distances.
        pair: Its name.

    Returns:
        The checks.
    """
    turns = float(scan.turns(scan.bond))
    return [
        Check(f"{pair}: holes at short range", float(not scan.is_repulsive), 0),
        Check(f"{pair}: turns of the force within a bond", turns, 1),
    ]
