"""Molecular dynamics in C++: hundreds of steps for one call of Python."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ase import Atoms, units

from torch_cormorant.errors import ConfigError
from torch_cormorant.interfaces.ase import CormorantCalculator
from torch_cormorant.interfaces.native_engine import NativeEngine

__all__ = ["NativeDynamics"]

_P, _I, _L, _D = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64, ctypes.c_double


class _Run(ctypes.Structure):
    """As csrc/native/cormorant.h has it."""

    _fields_ = (
        ("atoms", _L),
        *((name, _P) for name in ("numbers", "inverse_masses", "cell", "periodic")),
        *((name, _P) for name in ("positions", "velocities", "forces")),
        *((name, _D) for name in ("energy", "timestep", "friction", "temperature")),
        ("max_force", _D),
        ("random", ctypes.c_uint64 * 4),
        ("fresh", _I),
        ("done", _L),
    )


class NativeDynamics:
    r"""Velocity Verlet or Langevin dynamics of ASE's ``Atoms`` by the native evaluator.

    Without friction the integrator is velocity Verlet; with friction
    :math:`\gamma` and a bath of temperature T it is BAOAB (Leimkuhler and Matthews,
    Appl. Math. Res. Express 2013, 34): velocities are kicked, half of a drift, then

    .. math:: v \leftarrow e^{-\gamma h} v + \sqrt{(1 - e^{-2 \gamma h}) k_B T / m}\, R

    with normal random numbers R, the other half, and a kick. To be used like an
    integrator of ASE: positions and momenta of the atoms, and the results of their
    calculator, are those of the last step whenever :meth:`run` returns.

    Args:
        atoms: What moves; its calculator is a :class:`.CormorantCalculator` whose
            backend is ``"native"``. Constraints are not supported.
        timestep: In ASE's unit, such as ``0.5 * units.fs``.
        temperature_K: Of the bath, in K. Needed with friction.
        friction: In ASE's unit, such as ``0.01 / units.fs``. Default 0: no bath.
        seed: Of the random numbers; two runs of equal seed are equal to the last bit.
        max_force: Largest force in eV/Angstrom; a larger one ends the run. Default 200.

    Attributes:
        nsteps: Steps that are done.

    Raises:
        ConfigError: The calculator, or an argument, does not fit.

    Example:
        >>> from ase import units
        >>> from ase.build import molecule
        >>> from torch_cormorant import Cormorant
        >>> from torch_cormorant.interfaces.ase import CormorantCalculator
        >>> from torch_cormorant.interfaces.native_dynamics import NativeDynamics
        >>> model = Cormorant.potential([1, 8], channels=4, num_levels=2)
        >>> atoms = molecule("H2O")
        >>> atoms.calc = CormorantCalculator(model, backend="native")
        >>> dynamics = NativeDynamics(atoms, 0.5 * units.fs)
        >>> dynamics.run(100)
        >>> dynamics.nsteps
        100
    """

    def __init__(
        self,
        atoms: Atoms,
        timestep: float,
        *,
        temperature_K: float | None = None,
        friction: float = 0.0,
        seed: int | Sequence[int] = 0,
        max_force: float = 200.0,
    ) -> None:
        calculator = atoms.calc
        engine = getattr(calculator, "engine_used", None)
        if not isinstance(calculator, CormorantCalculator) or not isinstance(
            engine, NativeEngine
        ):
            msg = (
                "NativeDynamics needs atoms whose calc is a CormorantCalculator with "
                'backend="native"'
            )
            raise ConfigError(msg)
        if len(engine.natives) != 1:
            raise ConfigError("NativeDynamics runs one potential, not an ensemble")
        if atoms.constraints:
            raise ConfigError("NativeDynamics does not know constraints of atoms")
        if not 0 < timestep < np.inf or not 0 <= friction < np.inf or not max_force > 0:
            msg = (
                "timestep and max_force must be positive, friction not negative, got "
                f"{timestep!r}, {max_force!r} and {friction!r}"
            )
            raise ConfigError(msg)
        if friction and not (temperature_K is not None and 0 <= temperature_K < np.inf):
            msg = f"friction needs a temperature_K of the bath, got {temperature_K!r}"
            raise ConfigError(msg)
        self.atoms, self.calculator, self.engine = atoms, calculator, engine
        self.timestep, self.nsteps = timestep, 0
        self._observers: list[tuple[Callable[[], object], int]] = []
        self._kept: dict[str, Any] = {}
        factor = engine.factor
        bath = units.kB * (temperature_K or 0.0) / factor
        random = np.random.SeedSequence(seed).generate_state(4, np.uint64)
        self._run = _Run(
            atoms=len(atoms),
            timestep=timestep,
            friction=friction,
            temperature=bath,
            max_force=max_force / factor,
            random=(ctypes.c_uint64 * 4)(*map(int, random)),
        )

    def attach(self, function: Callable[[], object], interval: int = 1) -> None:
        """Call a function at the start and after every ``interval`` steps.

        Args:
            function: Without arguments.
            interval: At least 1. Default 1.
        """
        if interval < 1:
            msg = f"interval must be at least 1, got {interval!r}"
            raise ConfigError(msg)
        self._observers.append((function, interval))

    def get_time(self) -> float:
        """Time since the start in ASE's unit."""
        return self.nsteps * self.timestep

    def run(self, steps: int) -> None:
        """Go some steps.

        Args:
            steps: Number of steps.

        Raises:
            BlowUpError: A force is larger than ``max_force``; atoms and results are
                those of the last step that went well.
            CormorantError: The potential refuses a frame.
        """
        if self.nsteps == 0:
            self._go(0)
            self._observe()
        last = self.nsteps + steps
        while self.nsteps < last:
            waits = (every - self.nsteps % every for _, every in self._observers)
            self._go(min([last - self.nsteps, *waits]))
            self._observe()

    def _observe(self) -> None:
        for function, every in self._observers:
            if self.nsteps % every == 0:
                function()

    def _go(self, steps: int) -> None:
        self._read()
        try:
            self.engine.natives[0].run_dynamics(self._run, steps)
        finally:
            self.nsteps += self._run.done
            if self._run.fresh:
                self._write()

    def _read(self) -> None:
        """The atoms as they are now: what attached functions changed counts."""
        atoms, masses = self.atoms, self.atoms.get_masses()
        arrays = {
            "numbers": atoms.numbers.astype(np.int32),
            "inverse_masses": self.engine.factor / masses,
            "positions": atoms.positions.copy(),
            "velocities": atoms.get_velocities(),
        }
        periodic = bool(atoms.pbc.any())
        if periodic:
            arrays["cell"] = np.array(atoms.cell.array)
            arrays["periodic"] = atoms.pbc.astype(np.int32)
        known = bool(self._run.fresh) and not self.calculator.check_state(atoms)
        forces = self._kept["forces"] if known else np.zeros((len(atoms), 3))
        self._kept = {**arrays, "forces": forces}
        self._run.fresh, self._run.done = int(known), 0
        self._run.cell = self._run.periodic = None
        for name, array in self._kept.items():
            setattr(self._run, name, array.ctypes.data)

    def _write(self) -> None:
        atoms, kept, factor = self.atoms, self._kept, self.engine.factor
        atoms.positions[:] = kept["positions"]
        atoms.set_velocities(kept["velocities"])
        energy = self._run.energy * factor
        self.calculator.keep(
            atoms,
            {
                "energy": energy,
                "free_energy": energy,
                "forces": kept["forces"] * factor,
            },
        )
