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
from ase.io.formats import UnknownFileTypeError, filetype, get_ioformat
from ase.md.md import MolecularDynamics
from ase.neighborlist import natural_cutoffs, neighbor_list
from numpy.typing import NDArray

from torch_cormorant.errors import BlowUpError, ConfigError, CormorantError

__all__ = ["BlowUpGuard", "Bonds", "linear_drift"]


class Bonds:
    """The bonds of a structure, and how far they are stretched later.

    A smooth potential that never saw a stretched bond may let atoms go without any
    large force: energies stay finite, the run goes on, and the molecule is gone.

    Args:
        atoms: The structure. Pairs closer than ``reach`` times the sum of their
            covalent radii are bonded; periodic images count.
        reach: Default 1.2.

    Attributes:
        first, second: Atoms of every bond.

    Example:
        >>> from ase.build import molecule
        >>> water = molecule("H2O")
        >>> bonds = Bonds(water)
        >>> water.set_distance(0, 1, 1.5 * water.get_distance(0, 1), fix=0)
        >>> stretch, (first, second) = bonds.stretch(water)
        >>> round(stretch, 1), first, second
        (1.5, 0, 1)
    """

    def __init__(self, atoms: Atoms, reach: float = 1.2) -> None:
        cutoffs = natural_cutoffs(atoms, mult=reach)
        first, second, shift = neighbor_list("ijS", atoms, cutoffs)
        once = first < second  # an atom bonded to its own image is left out
        self.first, self.second = first[once], second[once]
        self.shift = shift[once]
        self.start = self.lengths(atoms)

    def lengths(self, atoms: Atoms) -> NDArray[np.float64]:
        """Their lengths in Angstrom, for positions that are not wrapped into the cell.

        Args:
            atoms: The same structure later.
        """
        pos = atoms.positions
        vectors = pos[self.second] - pos[self.first] + self.shift @ atoms.cell.array
        lengths: NDArray[np.float64] = np.linalg.norm(vectors, axis=1)
        return lengths

    def stretch(self, atoms: Atoms) -> tuple[float, tuple[int, int]]:
        """The largest length over that at the start, and the atoms of that bond.

        Args:
            atoms: The same structure later.

        Returns:
            1 and the atoms (0, 0) where there are no bonds.
        """
        if len(self.start) == 0:
            return 1.0, (0, 0)
        ratio = self.lengths(atoms) / self.start
        worst = int(ratio.argmax())
        return float(ratio[worst]), (int(self.first[worst]), int(self.second[worst]))


class BlowUpGuard:
    """Watches a run, and ends it with the last good frame saved.

    Args:
        atoms: The structure that moves.
        path: File of the last good frame, in a format that ASE knows from the suffix.
        max_force: Largest force that is accepted, in eV/Angstrom. Default 200.
        max_temperature: Largest temperature that is accepted, in K. Default 20,000.
        max_stretch: Largest length of a bond over that at the start; None (default):
            bonds may break.
        max_spread: Largest spread of the force on an atom in eV/Angstrom, where the
            calculator is one of an :class:`~torch_cormorant.models.Ensemble`; None
            (default): any.

    Raises:
        ConfigError: A limit is not positive, nothing can be written to the path, or
            the calculator tells no spread.

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
        max_stretch: float | None = None,
        max_spread: float | None = None,
    ) -> None:
        limits = {"max_force": max_force, "max_temperature": max_temperature}
        limits["max_stretch"] = np.inf if max_stretch is None else max_stretch
        limits["max_spread"] = np.inf if max_spread is None else max_spread
        for name, value in limits.items():
            if not value > 0:
                msg = f"{name} must be positive, got {value!r}"
                raise ConfigError(msg)
        self.atoms, self.path = atoms, Path(path)
        _check_path(self.path)
        self.max_force, self.max_temperature = max_force, max_temperature
        self.max_stretch, self.max_spread = max_stretch, max_spread
        told = getattr(atoms.calc, "implemented_properties", ())
        if max_spread is not None and "forces_std" not in told:
            msg = "max_spread needs the calculator of an Ensemble, with forces_std"
            raise ConfigError(msg)
        self.bonds = None if max_stretch is None else Bonds(atoms)
        self.good = atoms.copy()

    def run(self, dynamics: MolecularDynamics, steps: int, stride: int = 1) -> None:
        """Run some steps.

        Args:
            dynamics: The integrator, of ASE or a :class:`.NativeDynamics`; what is
                attached to it is called as usual.
            steps: Number of steps.
            stride: Steps between two looks. Default 1; a NativeDynamics looks at the
                forces of every step itself, and is fast only where it runs many.

        Raises:
            BlowUpError: A position or force is not finite, a force, the temperature or
                a bond is too large, or the potential refuses a frame. The message names
                the step and the atom; the last good frame is in ``path``.
            CormorantError: The potential refuses the frame that the run starts from.
        """
        if dynamics.nsteps == 0:
            # Nothing has moved: an element that the model does not know, or a cell
            # that it cannot use, is no explosion.
            self.atoms.get_forces()
        last = dynamics.nsteps + steps
        while dynamics.nsteps < last:
            try:
                dynamics.run(min(stride, last - dynamics.nsteps))
                forces = self.atoms.get_forces()
            except CormorantError as error:
                # a step counts when it is done
                self._stop(dynamics.nsteps + 1, self._fastest(), str(error), error)
            self._check(dynamics.nsteps, forces)
            self.good.positions[:] = self.atoms.positions
            self.good.arrays["momenta"] = self.atoms.get_momenta()
            self.good.cell[:] = self.atoms.cell

    def _check(self, step: int, forces: NDArray[np.float64]) -> None:
        size = np.linalg.norm(forces, axis=1)
        size = np.where(np.isfinite(size), size, np.inf)
        if size.max(initial=0.0) > self.max_force:
            atom = int(size.argmax())
            text = f"the force is {size[atom]:.3g} eV/Angstrom"
            self._stop(step, atom, text)
        if self.max_spread is not None:
            spread = np.linalg.norm(self.atoms.calc.results["forces_std"], axis=1)
            if not spread.max(initial=0.0) <= self.max_spread:
                atom = int(spread.argmax())
                size = f"{spread[atom]:.3g} eV/Angstrom"
                self._stop(step, atom, f"the models disagree about its force by {size}")
        temperature = self.atoms.get_temperature()
        if not temperature <= self.max_temperature:
            text = f"the temperature is {temperature:.3g} K"
            self._stop(step, self._fastest(), text)
        if self.bonds is None or self.max_stretch is None:
            return
        stretch, (first, second) = self.bonds.stretch(self.atoms)
        if stretch > self.max_stretch:
            text = (
                f"its bond to atom {first} ({self.atoms.symbols[first]}) is "
                f"{stretch:.2f} times as long as at the start: the molecule comes apart"
            )
            self._stop(step, second, text)

    def _fastest(self) -> int:
        """The atom that moved most since the last good frame."""
        moved = np.linalg.norm(self.atoms.positions - self.good.positions, axis=1)
        return int(np.where(np.isfinite(moved), moved, np.inf).argmax())

    def _stop(
        self,
        step: int,
        atom: int,
        text: str,
        cause: CormorantError | None = None,
    ) -> None:
        where = f"is in {self.path}"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atoms(self.path, self.good)
        except OSError as error:  # what went wrong with the run matters more
            where = f"could not be written ({error})"
        msg = (
            f"the run blew up at step {step}, atom {atom} "
            f"({self.atoms.symbols[atom]}): {text}; the last good frame {where}"
        )
        raise BlowUpError(msg) from cause


def _check_path(path: Path) -> None:
    """Refuse a path that would fail when the run has blown up, hours later."""
    try:
        writable = get_ioformat(filetype(str(path), read=False)).can_write
    except UnknownFileTypeError:
        writable = False
    if path.is_dir() or not writable:
        msg = f"path {path} is no file that ASE can write, such as last_good.xyz"
        raise ConfigError(msg)


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
