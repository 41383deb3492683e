"""Laws of physics on any ASE calculator, from outside: energies and forces only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement, pairwise
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from ase import Atoms
from numpy.typing import NDArray

from torch_cormorant.errors import ConfigError, InterfaceError
from torch_cormorant.nn.zbl import COVALENT_RADII
from torch_cormorant.so3 import random_rotation
from torch_cormorant.testing.potentials import GAUSS, STENCIL, DiatomicScan
from torch_cormorant.testing.report import Check, scan_checks

__all__ = ["check_calculator", "scan_pair"]

Array: TypeAlias = NDArray[np.float64]
Precision = Literal["double", "single"]


@dataclass(frozen=True)
class _Limits:
    """How exact a calculator can be in its arithmetic."""

    step: float  # displacement in Angstrom
    strain: float
    slope: float  # error of a difference, share of the largest force
    rounding: float  # relative


LIMITS = {
    "double": _Limits(step=1e-3, strain=1e-4, slope=1e-6, rounding=1e-10),
    "single": _Limits(step=2e-2, strain=2e-3, slope=1e-2, rounding=1e-4),
}


FAR = np.array([100.0, -50.0, 30.0])
"""Translation in Angstrom."""


class _Results(NamedTuple):
    energy: float
    forces: Array


def check_calculator(
    calculator: Any,
    atoms: Atoms,
    *,
    precision: Precision = "double",
    scans: bool = True,
) -> list[Check]:
    """Measure the laws of potentials on one structure.

    Args:
        calculator: Any calculator of ASE with energy and forces.
        atoms: A structure that it is made for; periodic or not. Constraints are left
            out.
        precision: ``"double"`` (default), or ``"single"`` for calculators that compute
            in float32: larger steps and limits.
        scans: Also pull apart every pair of elements of the structure. Default True.

    Returns:
        The laws with what was found and what a calculator of that precision can keep,
        in eV and Angstrom.

    Raises:
        ConfigError: There are no atoms, or ``precision`` is unknown.
        InterfaceError: The calculator raised an error; it is the cause.

    Example:
        >>> from ase.build import molecule
        >>> from ase.calculators.morse import MorsePotential
        >>> morse = MorsePotential(rcut1=8, rcut2=9)
        >>> checks = check_calculator(morse, molecule("H2O"), scans=False)
        >>> all(check.passed for check in checks)
        True
    """
    if precision not in LIMITS:
        msg = f'precision must be "double" or "single", got {precision!r}'
        raise ConfigError(msg)
    if not isinstance(atoms, Atoms) or not len(atoms):
        msg = f"atoms must be ase.Atoms with at least one atom, got {atoms!r}"
        raise ConfigError(msg)
    plain = atoms.copy()
    plain.set_constraint()
    limits = LIMITS[precision]
    checks = [*_of_forces(calculator, plain, limits)]
    checks += _of_symmetries(calculator, plain, limits)
    if all(plain.pbc) and "stress" in getattr(calculator, "implemented_properties", ()):
        checks.append(_of_stress(calculator, plain, limits))
    if scans:
        kinds = sorted(set(plain.numbers.tolist()))
        for first, second in combinations_with_replacement(kinds, 2):
            scan = scan_pair(calculator, first, second)
            checks += scan_checks(scan, f"elements {first} and {second}")
    return checks


def scan_pair(
    calculator: Any, first: int, second: int, length: Sequence[float] | None = None
) -> DiatomicScan:
    """Energy and force of two atoms at many distances.

    Args:
        calculator: Any calculator of ASE with energy and forces.
        first: Atomic number.
        second: Atomic number.
        length: Distances in Angstrom, ascending; the energy of the last one counts as
            zero. Default: 120 from 0.3 to 6.

    Returns:
        The scan.

    Raises:
        InterfaceError: The calculator raised an error.
    """
    places = np.linspace(0.3, 6.0, 120) if length is None else np.asarray(length)
    pair = Atoms([first, second], np.zeros((2, 3)))
    energy, force = [], []
    for distance in places:
        pair.positions[1, 0] = distance
        found = _results(calculator, pair)
        energy.append(found.energy)
        force.append(found.forces[1, 0])
    bond = COVALENT_RADII[first - 1] + COVALENT_RADII[second - 1]
    values = torch.tensor(energy, dtype=torch.float64)
    return DiatomicScan(
        torch.tensor(places, dtype=torch.float64),
        values - values[-1],
        torch.tensor(np.array(force), dtype=torch.float64),
        bond,
    )


def _results(calculator: Any, atoms: Atoms) -> _Results:
    asked = atoms.copy()
    asked.calc = calculator
    try:
        energy = float(asked.get_potential_energy())
        return _Results(energy, np.array(asked.get_forces(), dtype=np.float64))
    except Exception as error:
        msg = f"the calculator raised {type(error).__name__}: {error}"
        raise InterfaceError(msg) from error


def _moved(atoms: Atoms, pos: Array, cell: Array | None = None) -> Atoms:
    other = atoms.copy()
    if cell is not None:
        other.set_cell(cell)
    other.positions = pos
    return other


def _apart(found: Array, expected: Array) -> float:
    return float(np.abs(found - expected).max())


def _of_forces(calculator: Any, atoms: Atoms, limits: _Limits) -> Iterator[Check]:
    """Forces against the energy, and their sums."""
    pos = atoms.positions
    energy, forces = _results(calculator, atoms)
    size = max(float(np.abs(forces).max()), 0.1)
    noise = limits.slope * size + limits.rounding * 0.1 * abs(energy)
    slope = np.zeros_like(forces)
    for place in np.ndindex(*forces.shape):
        for steps, weight in STENCIL:
            there = pos.copy()
            there[place] += steps * limits.step
            found = _results(calculator, _moved(atoms, there)).energy - energy
            slope[place] += weight * found / (12 * limits.step)
    wrong = _apart(forces, -slope)
    yield Check("forces are the slope of the energy", wrong, noise)
    bound = limits.rounding * len(atoms) * size
    yield Check("sum of forces", float(np.abs(forces.sum(0)).max()), bound)
    if not atoms.pbc.any():
        torque = np.cross(pos - pos.mean(0), forces).sum(0)
        yield Check("sum of torques", float(np.abs(torque).max()), 10 * bound)
    work = _work(calculator, atoms, [pos, 1.05 * pos, 0.97 * pos])
    yield Check("energy is the work along a path", abs(work), 10 * noise)


def _work(
    calculator: Any, atoms: Atoms, path: Sequence[Array], pieces: int = 8
) -> float:
    """Energy difference of a path minus the work against the forces along it."""
    total = 0.0
    for start, stop in pairwise(path):
        for piece in range(pieces):
            for place, weight in GAUSS:
                there = start + (piece + place) / pieces * (stop - start)
                forces = _results(calculator, _moved(atoms, there)).forces
                total += weight / pieces * float((forces * (stop - start)).sum())
    first, last = (_results(calculator, _moved(atoms, x)).energy for x in path[::2])
    return last - first + total


def _of_symmetries(calculator: Any, atoms: Atoms, limits: _Limits) -> Iterator[Check]:
    """What must not change, and what must turn, with the structure."""
    energy, forces = _results(calculator, atoms)
    size = max(float(np.abs(forces).max()), 0.1)
    small = limits.rounding * max(abs(energy), 1.0)
    pos, cell = atoms.positions, np.asarray(atoms.cell)
    generator = torch.Generator().manual_seed(0)
    turn = random_rotation(1, generator)[0].double().numpy()
    turned = _results(calculator, _moved(atoms, pos @ turn.T, cell @ turn.T))
    yield Check("energy of the turned structure", abs(turned.energy - energy), small)
    wrong = _apart(turned.forces, forces @ turn.T) / size
    yield Check(
        "forces turn with the structure (relative)", wrong, 10 * limits.rounding
    )
    mirrored = _results(calculator, _moved(atoms, -pos, -cell)).energy
    yield Check("energy of the mirror image", abs(mirrored - energy), small)
    away = _results(calculator, _moved(atoms, pos + FAR))
    wrong = _apart(away.forces, forces) / size
    yield Check("forces 100 A away (relative)", wrong, 100 * limits.rounding)
    order = np.random.default_rng(0).permutation(len(atoms))
    mixed = _results(calculator, atoms[order])
    wrong = _apart(mixed.forces, forces[order]) / size
    yield Check("forces in another order of atoms (relative)", wrong, limits.rounding)
    yield Check("energy in another order", abs(mixed.energy - energy), small)
    again = _results(calculator, atoms)
    yield Check("energy after other structures", abs(again.energy - energy), small)


def _of_stress(calculator: Any, atoms: Atoms, limits: _Limits) -> Check:
    """Stress against the energies of strained cells."""
    asked = atoms.copy()
    asked.calc = calculator
    try:
        stress = np.array(asked.get_stress(voigt=False))
    except Exception as error:
        msg = f"the calculator raised {type(error).__name__}: {error}"
        raise InterfaceError(msg) from error
    energy, cell = _results(calculator, atoms).energy, np.asarray(atoms.cell)
    slope = np.zeros((3, 3))
    for a, b in np.ndindex(3, 3):
        strain = np.zeros((3, 3))
        strain[a, b] += limits.strain / 2
        strain[b, a] += limits.strain / 2
        for steps, weight in STENCIL:
            deform = np.eye(3) + steps * strain
            there = _moved(atoms, atoms.positions @ deform, cell @ deform)
            found = _results(calculator, there).energy - energy
            slope[a, b] += weight * found / (12 * limits.strain)
    volume = float(atoms.get_volume())
    wrong = _apart(stress, slope / volume)
    size = max(float(np.abs(stress).max()), 1e-3)
    noise = limits.rounding * abs(energy) / (limits.strain * volume)
    return Check(
        "stress is the slope of the energy", wrong, limits.slope * size + noise
    )
