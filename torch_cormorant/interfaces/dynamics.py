"""Molecular dynamics that stops when it blows up, and numbers of its quality.

Works with every ASE integrator and calculator.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import write as write_atoms
from ase.md.md import MolecularDynamics
from numpy.typing import NDArray

from torch_cormorant.errors import BlowUpError, ConfigError, CormorantError

__all__ = ["BlowUpGuard", "linear_drift"]


class BlowUpGuard:
    """Watches a run, and ends it with the last good frame saved.

    Args:
        atoms: The structure that moves.
        path: File of the last good frame, in a format that ASE knows from the suffix.
        max_force: Largest force that is accepted, in eV/Angstrom. Default 200.
        max_temperature: Largest temperature that is accepted, in K. Default 20,000.

    Raises:
        ConfigError: A limit is not positive.

    Example:
        >>> import pathlib, tempfile
        >>> from ase.build import molecule
        >>> from ase.calculators.lj import LennardJones
        >>> from ase.md.verlet import VelocityVerlet
        >>> atoms = molecule("N2")
        >>> atoms.calc = LennardJones(sigma=1.0)
        >>> last = pathlib.Path(tempfile.mkdtemp()) / "last_good.xyz"
        >>> guard = BlowUpGuard(atoms, last)
        >>> guard.run(VelocityVerlet(atoms, timestep=0.1), steps=5)
        >>> last.exists()
        False
    """

    def __init__(
        self,
        atoms: Atoms,
        path: str | Path,
        *,
        max_force: float = 200.0,
        max_temperature: float = 20_000.0,
    ) -> None:
        limits = {"max_force": max_force, "max_temperature": max_temperature}
        for name, value in limits.items():
            if not value > 0:
                msg = f"{name} must be positive, got {value!r}"
                raise ConfigError(msg)
        self.atoms, self.path = atoms, Path(path)
        self.max_force, self.max_temperature = max_force, max_temperature
        self.good = atoms.copy()

    def run(self, dynamics: MolecularDynamics, steps: int) -> None:
        """Run some steps.

        Args:
            dynamics: The integrator; what is attached to it is called as usual.
            steps: Number of steps.

        Raises:
            BlowUpError: A position or force is not finite, a force or the temperature
                is too large, or the potential refuses a frame. The message names the
                step and the atom; the last good frame is in ``path``.
            CormorantError: The potential refuses the frame that the run starts from.
        """
        if dynamics.nsteps == 0:
            # Nothing has moved: an element that the model does not know, or a cell
            # that it cannot use, is no explosion.
            self.atoms.get_forces()
        for _ in range(steps):
            try:
                dynamics.run(1)
                forces = self.atoms.get_forces()
            except CormorantError as error:
                self._stop(dynamics, self._fastest(), str(error), error)
            self._check(dynamics, forces)
            self.good.positions[:] = self.atoms.positions
            self.good.arrays["momenta"] = self.atoms.get_momenta()
            self.good.cell[:] = self.atoms.cell

    def _check(self, dynamics: MolecularDynamics, forces: NDArray[np.float64]) -> None:
        size = np.linalg.norm(forces, axis=1)
        size = np.where(np.isfinite(size), size, np.inf)
        if size.max(initial=0.0) > self.max_force:
            atom = int(size.argmax())
            text = f"the force is {size[atom]:.3g} eV/Angstrom"
            self._stop(dynamics, atom, text)
        temperature = self.atoms.get_temperature()
        if not temperature <= self.max_temperature:
            text = f"the temperature is {temperature:.3g} K"
            self._stop(dynamics, self._fastest(), text)

    def _fastest(self) -> int:
        """The atom that moved most since the last good frame."""
        moved = np.linalg.norm(self.atoms.positions - self.good.positions, axis=1)
        return int(np.where(np.isfinite(moved), moved, np.inf).argmax())

    def _stop(
        self,
        dynamics: MolecularDynamics,
        atom: int,
        text: str,
        cause: CormorantError | None = None,
    ) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atoms(self.path, self.good)
        msg = (
            f"the run blew up at step {dynamics.nsteps}, atom {atom} "
            f"({self.atoms.symbols[atom]}): {text}; the last good frame is in "
            f"{self.path}"
        )
        raise BlowUpError(msg) from cause


def linear_drift(
    times: Sequence[float], energies: Sequence[float], num_atoms: int
) -> dict[str, Any]:
    r"""Drift and fluctuation of the total energy of a run without thermostat.

    Args:
        times: In ps.
        energies: Total energies in eV.
        num_atoms: Number of atoms.

    Returns:
        ``drift``, the slope of the least squares line in eV per atom and ps, its
        standard error ``error``, and ``fluctuation``, the root mean square deviation
        from the line in eV per atom.

    Raises:
        ConfigError: There are less than three values.

    Example:
        >>> found = linear_drift([0, 1, 2, 3], [5.0, 5.1, 5.2, 5.3], num_atoms=10)
        >>> round(found["drift"], 6), round(found["fluctuation"], 6)
        (0.01, 0.0)
    """
    t, e = np.asarray(times, float), np.asarray(energies, float)
    if t.size < 3 or t.size != e.size:
        msg = f"a drift needs three values or more, got {t.size} and {e.size}"
        raise ConfigError(msg)
    t, e = t - t.mean(), (e - e.mean()) / num_atoms
    slope = float(t @ e / (t @ t))
    rest = e - slope * t
    fluctuation = float(np.sqrt(np.mean(rest**2)))
    error = float(np.sqrt(rest @ rest / (t.size - 2) / (t @ t)))
    return {"drift": slope, "error": error, "fluctuation": fluctuation}
