"""Energies and forces by GFN2-xTB."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

EV = 27.211386245988  # of a Hartree
BOHR = 0.529177210903  # Angstrom
SCF_ACCURACY = 0.1  # of tblite: the noise of a force is 2e-5 eV/Angstrom
CYCLES = 250
LARGEST_FORCE = 30.0  # eV/Angstrom
CLOSEST = 0.4  # Angstrom


class Gfn2:
    """GFN2-xTB of one composition, with as few unpaired electrons as can be.

    Its energy does not ask for the spin (it has no term of it): with another number of
    unpaired electrons only the entropy of the 300 K at which electrons are spread
    changes, by 0.05 to 0.1 eV of an atom. So atoms and pairs of atoms get none or one
    like every molecule, and a stretched bond ends near the atoms' energies.
    """

    def __init__(self, z: Integers, accuracy: float = SCF_ACCURACY) -> None:
        self.z, self.accuracy = z, accuracy
        self._calculator, self._last = None, None

    def __call__(self, pos: Floats, *, warm: bool = False) -> tuple[float, Floats]:
        """Energy in eV and forces in eV/Angstrom.

        ``warm``: begin with the charges of the last call.
        """
        from tblite.interface import Calculator

        if self._calculator is None:
            unpaired = int(self.z.sum()) % 2
            self._calculator = Calculator("GFN2-xTB", self.z, pos / BOHR, uhf=unpaired)
            for name, value in (
                ("verbosity", 0),
                ("accuracy", self.accuracy),
                ("max-iter", CYCLES),
            ):
                self._calculator.set(name, value)
        self._calculator.update(positions=pos / BOHR)
        self._last = self._calculator.singlepoint(self._last if warm else None)
        gradient = self._last["gradient"]
        return float(self._last["energy"]) * EV, -gradient * (EV / BOHR)


@dataclass(frozen=True)
class Labelled:
    """Frames of one molecule with energies and forces, and how many were dropped."""

    name: str
    z: Integers
    pos: Floats
    energy: Floats
    forces: Floats
    dropped: Counter[str]


def closest(pos: Floats) -> float:
    """Shortest distance between two atoms."""
    apart = np.linalg.norm(pos[:, None] - pos[None], axis=-1)
    return float(np.min(apart[np.triu_indices(len(pos), 1)], initial=np.inf))


def label(name: str, z: Integers, frames: list[Floats]) -> Labelled:
    """Each frame from a fresh start, so that none depends on those before it."""
    potential, dropped = Gfn2(z), Counter[str]()
    kept: list[tuple[Floats, float, Floats]] = []
    for frame in frames:
        pos = frame - frame.mean(0)
        if closest(pos) < CLOSEST:
            dropped["atoms too close"] += 1
            continue
        try:
            energy, forces = potential(pos)
        except RuntimeError:
            dropped["SCF failed"] += 1
            continue
        largest = float(np.linalg.norm(forces, axis=1).max())
        if np.isfinite(energy) and largest <= LARGEST_FORCE:
            kept.append((pos, energy, forces))
        else:
            dropped["forces too large"] += 1
    shape = (-1, len(z), 3)
    return Labelled(
        name,
        z,
        np.array([pos for pos, _, _ in kept]).reshape(shape),
        np.array([energy for _, energy, _ in kept]),
        np.array([forces for _, _, forces in kept]).reshape(shape),
        dropped,
    )
