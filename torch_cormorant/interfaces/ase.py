"""Cormorant potentials as calculators of the Atomic Simulation Environment (ASE)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import (
    Calculator,
    PropertyNotImplementedError,
    all_changes,
)
from ase.data import chemical_symbols
from ase.stress import full_3x3_to_voigt_6_stress
from torch import Tensor, nn
from typing_extensions import Self

from torch_cormorant.data import read_smiles
from torch_cormorant.errors import (
    CellError,
    CoincidentAtomsError,
    ConfigError,
    NonFiniteError,
    ShapeError,
)
from torch_cormorant.graph.spacing import warn_if_not_angstrom
from torch_cormorant.interfaces.engine import Engine
from torch_cormorant.interfaces.native_engine import choose_engine
from torch_cormorant.interfaces.traced import TracedPotential
from torch_cormorant.models import load_models, pretrained
from torch_cormorant.models.batched import raise_first
from torch_cormorant.models.compositions import warn_of_composition
from torch_cormorant.models.domain import KEY as DOMAIN
from torch_cormorant.models.domain import Electrons, check_electrons, said_of
from torch_cormorant.models.energy import Result
from torch_cormorant.models.ensemble import Ensemble
from torch_cormorant.nn import Part

__all__ = ["CormorantCalculator", "from_smiles"]

SPREADS = ("energy_std", "energies_std", "forces_std")
"""What an ensemble reports beside its means."""
OF_ATOMS = {"energies", "forces", "energies_std", "forces_std"}
_FOUND_LATE = (CellError, CoincidentAtomsError, NonFiniteError)
"""What only a calculation finds wrong with a structure."""


class CormorantCalculator(Calculator):
    """Energies, forces and stresses of ASE's ``Atoms`` from a Cormorant potential.

    Args:
        model: A :class:`~torch_cormorant.models.Potential`, or a network with one
            energy; it is copied. Of an :class:`~torch_cormorant.models.Ensemble` the
            means are reported, and ``energy_std``, ``energies_std`` and ``forces_std``
            beside them.
        energy_unit: Unit of the model's energies, such as ``"kcal/mol"``. Default:
            what a model read from a file says. Results are always in eV and Angstrom.
        device: Where to compute, such as ``"cuda"``. Default: where the model is.
        dtype: ``torch.float32`` or ``torch.float64``. Default: that of the model.
            Positions stay in float64 until edges are formed.
        skin: Skin of the neighbour list in Angstrom. Default 0.5. Results depend on
            it by rounding only.
        traced: Trace energies and forces of a molecule once, which makes runs of small
            molecules more than twice as fast (see
            :class:`~torch_cormorant.interfaces.traced.TracedPotential`); tracing takes
            some seconds. Not for periodic structures. ``"compiled"`` also compiles it,
            which takes minutes and pays in long runs. Default False.
        backend: ``"native"``: our C++ evaluator, many times faster on a CPU, with the
            weights that the model has now;
            ``"model"``: the network itself; ``"auto"`` (default): native where the
            model is covered, see :class:`.NativePotential`.

    Attributes:
        engine: The model, with its neighbour list (``engine.edges.searches``).
        backend: What computes, ``"native"`` or ``"model"``.

    Raises:
        ConfigError: The model has several targets, its unit is not known, there is
            no such device, or ``"native"`` does not cover the model.

    Note:
        Can be copied and pickled, as for worker processes. One calculator serves one
        ``Atoms`` at a time, as in all of ASE; for many use :meth:`calculate_many`.

    Example:
        >>> from ase.build import molecule
        >>> from torch_cormorant import Cormorant
        >>> from torch_cormorant.interfaces.ase import CormorantCalculator
        >>> model = Cormorant.potential(species=[1, 8], channels=4, num_levels=1)
        >>> atoms = molecule("H2O")
        >>> atoms.calc = CormorantCalculator(model, energy_unit="eV")
        >>> atoms.get_forces().shape
        (3, 3)
    """

    implemented_properties: ClassVar[list[str]] = [
        "energy",
        "free_energy",
        "energies",
        "forces",
        "stress",
    ]
    default_parameters: ClassVar[dict[str, Any]] = {}
    nolabel = True

    def __init__(
        self,
        model: nn.Module,
        *,
        energy_unit: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        skin: float = 0.5,
        traced: bool | Literal["compiled"] = False,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        self.engine = Engine(
            model, energy_unit=energy_unit, device=device, dtype=dtype, skin=skin
        )
        if isinstance(self.engine.model, Ensemble):
            named = [*self.implemented_properties, *SPREADS]
            self.implemented_properties = named  # type: ignore[misc]
        if traced not in (True, False, "compiled"):
            msg = f'traced must be True, False or "compiled", got {traced!r}'
            raise ConfigError(msg)
        self.traced = traced
        self.backend, self._compute = choose_engine(
            self.engine, backend, traced=bool(traced)
        )
        self._trace: TracedPotential | None = None
        self._warned = False
        self._seen = np.zeros(0, dtype=np.int64)

    def __repr__(self) -> str:
        """What is computed, and how."""
        engine = self.engine
        cutoff = "all pairs" if engine.cutoff is None else f"{engine.cutoff:g} Angstrom"
        network = type(engine.model.network).__name__
        known = engine.model.network.features.known
        species = ", ".join(chemical_symbols[z] for z in sorted(known))
        return (
            f"{type(self).__name__}({network}, elements {species}, "
            f"cutoff {cutoff}, {str(engine.dtype).removeprefix('torch.')} on "
            f"{engine.device})"
        )

    def set(self, **kwargs: Any) -> dict[str, Any]:
        """Refuse what ASE would note and nobody would read.

        Args:
            **kwargs: Must be empty; options belong to the constructor.

        Raises:
            ConfigError: There are any.
        """
        if kwargs:
            msg = (
                f"set: {', '.join(sorted(kwargs))} cannot be changed; the options of "
                "a calculator are chosen when it is made"
            )
            raise ConfigError(msg)
        return {}

    def __getstate__(self) -> dict[str, Any]:
        """What is copied or pickled: all but the traced graph, which is made anew."""
        return {**self.__dict__, "_trace": None}

    @classmethod
    def from_file(
        cls, path: str | Path, *, parts: Iterable[type[Part]] = (), **kwargs: Any
    ) -> Self:
        """Make one from a model file, the folder of an ensemble, or by a name.

        Args:
            path: As for :func:`torch_cormorant.models.load_models`.
            parts: Own classes, as in :func:`torch_cormorant.load_model`.
            **kwargs: As the class.

        Raises:
            ModelFileError: The file is missing, damaged or no model file.
        """
        return cls(load_models(path, parts=parts), **kwargs)

    @classmethod
    def pretrained(cls, name: str, member: int | None = None, **kwargs: Any) -> Self:
        """Make one from weights that come with the package.

        Args:
            name: As for :func:`torch_cormorant.pretrained`.
            member: Which model of an ensemble, from 0. Default: the ensemble, with
                spreads.
            **kwargs: As the class.

        Raises:
            ModelFileError: There are no such weights.
        """
        model: Any = pretrained(name) if member is None else pretrained(name, member)
        return cls(model, **kwargs)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Compute what ASE asks for.

        Args:
            atoms: The structure.
            properties: Names of properties; energies and forces always come along,
                and the stress where all three directions repeat.
            system_changes: What changed since the last call.

        Raises:
            SpeciesError, NonFiniteError, ShapeError, CellError, CoincidentAtomsError:
                The structure does not fit; the message names the atom.
            PropertyNotImplementedError: Stress of a structure that is not periodic in
                three directions.
        """
        super().calculate(atoms, list(properties), list(system_changes))
        if "stress" in properties:
            _check_stress(self.atoms, "atoms")
        # costs next to nothing beside the forces, and a second call as much again
        wants_stress = all(self.atoms.pbc) if isinstance(self.atoms, Atoms) else False
        tensors = self._tensors([self.atoms], ["atoms"])
        if self.traced:
            out = self._traced(*tensors)
        else:
            out = self._compute(*tensors, num_graphs=1, stress=wants_stress)
        self.results = _split(out, [len(self.atoms)])[0]

    @property
    def engine_used(self) -> object:
        """An :class:`.Engine` or a native one, which computes."""
        return self._compute

    def keep(self, atoms: Atoms, results: dict[str, Any]) -> None:
        """Take results from elsewhere, such as an integrator of our own.

        Args:
            atoms: The structure that they belong to; it is copied.
            results: By ASE's names and in its units.
        """
        self.atoms, self.results = atoms.copy(), dict(results)

    def check_state(self, atoms: Atoms, tol: float = 0.0) -> list[str]:
        """What differs from the structure of the last results, in any digit.

        Args:
            atoms: The structure that is asked about.
            tol: Not used: ASE compares up to rounding, which takes longer than a
                small molecule's forces.

        Returns:
            Some of ``"positions"``, ``"numbers"``, ``"cell"`` and ``"pbc"``; nothing
            else matters here.
        """
        del tol
        last = self.atoms
        if not isinstance(last, Atoms) or not isinstance(atoms, Atoms):
            return list(all_changes)
        self._check_electrons(atoms, "atoms")  # results of before do not answer for it
        pairs = {
            "positions": (last.positions, atoms.positions),
            "numbers": (last.numbers, atoms.numbers),
            "cell": (last.cell.array, atoms.cell.array),
            "pbc": (last.pbc, atoms.pbc),
        }
        return [name for name, (a, b) in pairs.items() if not np.array_equal(a, b)]

    def _traced(self, z: Tensor, pos: Tensor, *more: Tensor | None) -> Result:
        """Results of a molecule; another one is traced anew."""
        if any(part is not None for part in more):
            msg = (
                f"traced=True is for molecules, pbc is {self.atoms.pbc.tolist()}; use "
                "traced=False for periodic structures"
            )
            raise ConfigError(msg)
        if self._trace is None or not torch.equal(self._trace.z.cpu(), z):
            compiled = self.traced == "compiled"
            self._trace = TracedPotential(self.engine, z, pos, compiled=compiled)
        return self._trace(pos)

    def calculate_many(
        self, structures: Sequence[Atoms], *, stress: bool = False
    ) -> list[dict[str, Any]]:
        """Results of several structures, computed together.

        Args:
            structures: Of any sizes and cells, periodic or not.
            stress: Also the stress, for structures periodic in three directions.

        Returns:
            For each structure the results by ASE's names.

        Raises:
            SpeciesError, NonFiniteError, ShapeError, CellError, CoincidentAtomsError:
                A structure does not fit; the message names it.

        Example:
            >>> from ase.build import molecule
            >>> from torch_cormorant import Cormorant
            >>> model = Cormorant.potential(species=[1, 8], channels=4, num_levels=1)
            >>> calculator = CormorantCalculator(model, energy_unit="eV")
            >>> found = calculator.calculate_many([molecule("H2O"), molecule("OH")])
            >>> [result["forces"].shape for result in found]
            [(3, 3), (2, 3)]
        """
        if not structures:
            return []
        names = [f"structure {k}" for k in range(len(structures))]
        if stress:
            for atoms, name in zip(structures, names, strict=True):
                _check_stress(atoms, name)
        tensors = self._tensors(structures, names)
        try:
            out = self._compute(
                *tensors, num_graphs=len(structures), stress=stress, reuse=False
            )
        except _FOUND_LATE:
            calls = (
                (name, partial(self._alone, atoms, name))
                for atoms, name in zip(structures, names, strict=True)
            )
            raise_first(calls, _FOUND_LATE)
            raise
        return _split(out, [len(atoms) for atoms in structures])

    def _alone(self, atoms: Atoms, name: str) -> Result:
        tensors = self._tensors([atoms], [name])
        return self._compute(*tensors, num_graphs=1, reuse=False)

    def _look_at(self, atoms: Atoms, name: str) -> None:
        """Warn once of a structure that is hardly meant; a run is looked at once."""
        self._seen = atoms.numbers.copy()
        self.engine.watch()
        if self._warned:
            return
        self._warned = warn_if_not_angstrom(torch.from_numpy(atoms.positions), name)
        if not self._warned:
            kinds = torch.from_numpy(atoms.numbers)
            self._warned = warn_of_composition(self.engine.model, kinds, name)

    def _check_electrons(self, atoms: Atoms, name: str) -> None:
        """Refuse charges and spins that the model does not know, however told."""
        if DOMAIN not in self.engine.model.info.training:
            return
        said = said_of(atoms.info, name)
        charge = float(atoms.get_initial_charges().sum())
        moments = atoms.get_initial_magnetic_moments().reshape(len(atoms), -1)
        unpaired = float(np.linalg.norm(moments, axis=1).sum())
        told = Electrons(said.charge or charge, max(said.unpaired, unpaired))
        z = torch.from_numpy(atoms.numbers)
        check_electrons(self.engine.model, z, name, told)

    def _tensors(
        self, structures: Sequence[Atoms], names: Sequence[str]
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None]:
        """Atomic numbers, positions, batch, cells and periodic directions."""
        for atoms, name in zip(structures, names, strict=True):
            _check_atoms(atoms, name)
            self._check_electrons(atoms, name)
            if len(structures) > 1 or not np.array_equal(self._seen, atoms.numbers):
                self.engine.check_species(atoms.numbers, name)
                self._look_at(atoms, name)
        z = torch.from_numpy(np.concatenate([a.numbers for a in structures])).long()
        pos = torch.from_numpy(np.concatenate([a.positions for a in structures]))
        batch = None
        if len(structures) > 1:
            sizes = torch.tensor([len(atoms) for atoms in structures])
            batch = torch.repeat_interleave(sizes)
        pbc = np.stack([atoms.pbc for atoms in structures])
        if not pbc.any():
            return z, pos, batch, None, None
        cells = np.stack([np.asarray(atoms.cell) for atoms in structures])
        return z, pos, batch, torch.from_numpy(cells), torch.from_numpy(pbc)


def from_smiles(smiles: str) -> Atoms:
    """A molecule by its SMILES, as ASE's ``Atoms``.

    Args:
        smiles: The SMILES.

    Returns:
        Elements and positions in Angstrom, by RDKit (ETKDG and MMFF), with the entries
        ``charge`` and ``multiplicity`` of ``info``.

    Raises:
        DataError: It is not understood, or no geometry is found.
        BackendError: RDKit is missing.

    Example:
        >>> import pytest
        >>> _ = pytest.importorskip("rdkit")
        >>> from torch_cormorant.interfaces.ase import from_smiles
        >>> from_smiles("CCO").get_chemical_formula()
        'C2H6O'
    """
    found = read_smiles(smiles)
    info = {"charge": found.charge, "multiplicity": found.multiplicity}
    return Atoms(found.z.numpy(), found.pos.numpy(), info=info)


def _check_atoms(atoms: Atoms, name: str) -> None:
    if not isinstance(atoms, Atoms):
        msg = f"{name}: expected ase.Atoms, got {type(atoms).__name__}"
        raise ConfigError(msg)
    if len(atoms) == 0:
        msg = f"{name}: there are no atoms; a potential needs at least one"
        raise ShapeError(msg)
    finite = np.isfinite(atoms.positions).all(1)
    if not finite.all():
        atom = int(np.argmin(finite))
        msg = f"{name}: the position of atom {atom} is {atoms.positions[atom].tolist()}"
        raise NonFiniteError(msg)


def _check_stress(atoms: Atoms, name: str) -> None:
    if not all(atoms.pbc):
        msg = (
            f"{name}: stress needs three periodic directions, pbc is "
            f"{atoms.pbc.tolist()}"
        )
        raise PropertyNotImplementedError(msg)


def _split(out: Result, sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Results of a batch as dictionaries by ASE's names."""
    rows = {
        name: value.cpu().split(list(sizes) if name in OF_ATOMS else 1)
        for name, value in out.tensors().items()
    }
    results = []
    for k in range(len(sizes)):
        found: dict[str, Any] = {n: part[k].numpy().copy() for n, part in rows.items()}
        for name in found.keys() - OF_ATOMS - {"stress"}:
            found[name] = float(found[name][0])
        if "stress" in found:
            found["stress"] = full_3x3_to_voigt_6_stress(found["stress"][0])
        results.append({**found, "free_energy": found["energy"]})
    return results
