"""Cormorant potentials as models of torch-sim: many systems at once on one device."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from torch_cormorant.errors import (
    CoincidentAtomsError,
    NonFiniteError,
    SpeciesError,
)
from torch_cormorant.interfaces.engine import Engine
from torch_cormorant.interfaces.native_engine import choose_engine
from torch_cormorant.models.batched import raise_first
from torch_cormorant.models.compositions import warn_of_composition
from torch_cormorant.models.domain import check_electrons, said_of
from torch_cormorant.models.energy import Result

with warnings.catch_warnings():
    # torch-sim scripts its neighbour lists, which newer releases of torch report
    warnings.filterwarnings("ignore", "`torch.jit.script", DeprecationWarning)
    from torch_sim.models.interface import ModelInterface
    from torch_sim.state import SimState

__all__ = ["CormorantSimModel"]

_FOUND_LATE = (CoincidentAtomsError, NonFiniteError, SpeciesError)


class CormorantSimModel(ModelInterface):
    """A potential for `torch-sim <https://github.com/TorchSim/torch-sim>`_.

    Args:
        model: A :class:`~torch_cormorant.models.Potential`, an
            :class:`~torch_cormorant.models.Ensemble` of them, or a network with one
            energy; it is copied.
        energy_unit: Unit of the model's energies, such as ``"kcal/mol"``. Default:
            what a model read from a file says. Results are in eV and Angstrom.
        device: Where to compute. Default: where the model is.
        dtype: Type of the results and of the weights. Default: that of the model.
        compute_stress: Also the stress. Default True. States that are not periodic get
            zeros: stress is energy per volume, which they do not have, and torch-sim
            wants a tensor from every model that computes stresses. (ASE's calculator
            raises PropertyNotImplementedError.)
        skin: Skin of the neighbour list in Angstrom. Default 0.5.
        backend: ``"native"``: our C++ evaluator, one system after the other, many times
            faster on a CPU, with the weights that the model has now; ``"model"``: the
            network itself, all systems at once; ``"auto"`` (default): native where the
            model is covered and on a CPU, see :class:`.NativePotential`.

    Attributes:
        backend: What computes, ``"native"`` or ``"model"``.

    Raises:
        ConfigError: The model has several targets, its unit is not known, or
            ``"native"`` does not cover it.

    Note:
        torch-sim 0.3 has one flag for all directions: its ``atoms_to_state`` turns a
        slab, periodic in two, into an open structure without a word. Give such states
        a tensor ``pbc`` ``[3]`` of your own, or use the ASE calculator.

    Example:
        >>> import pytest
        >>> torch_sim = pytest.importorskip("torch_sim")
        >>> import torch
        >>> from ase.build import molecule
        >>> from torch_cormorant import Cormorant
        >>> potential = Cormorant.potential(species=[1, 8], channels=4, num_levels=1)
        >>> model = CormorantSimModel(potential, dtype=torch.float64)
        >>> state = torch_sim.io.atoms_to_state(
        ...     [molecule("H2O"), molecule("OH")], model.device, model.dtype
        ... )
        >>> tuple(model(state)["forces"].shape)
        (5, 3)
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        energy_unit: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        compute_stress: bool = True,
        skin: float = 0.5,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        self.engine = Engine(
            model, energy_unit=energy_unit, device=device, dtype=dtype, skin=skin
        )
        self.backend, self._compute = choose_engine(self.engine, backend, traced=False)
        self._device, self._dtype = self.engine.device, self.engine.dtype
        self._compute_stress, self._compute_forces = compute_stress, True
        self._memory_scales_with = "n_atoms_x_density"
        self._warned = False
        self._seen: Tensor | None = None

    def _alone(
        self, state: SimState, k: int, cell: Tensor | None, pbc: Tensor | None
    ) -> Result:
        """Results of one system."""
        mine = state.system_idx == k
        own = None if cell is None else cell[k : k + 1]
        z, pos = state.atomic_numbers[mine], state.positions[mine]
        return self._compute(z, pos, None, own, pbc, num_graphs=1, reuse=False)

    @property
    def compute_stress(self) -> bool:
        """Whether stresses are computed; may be changed."""
        return self._compute_stress

    @compute_stress.setter
    def compute_stress(self, compute_stress: bool) -> None:
        self._compute_stress = compute_stress

    @property
    def compute_forces(self) -> bool:
        """Whether forces are computed; may be changed."""
        return self._compute_forces

    @compute_forces.setter
    def compute_forces(self, compute_forces: bool) -> None:
        self._compute_forces = compute_forces

    def forward(self, state: SimState, **kwargs: Any) -> dict[str, Tensor]:
        """Results for all systems of a state.

        Args:
            state: The systems; not changed.
            **kwargs: Not used.

        Returns:
            ``energy`` ``[n_systems]``, ``energies`` ``[n_atoms]``, and ``forces``
            ``[n_atoms, 3]`` and ``stress`` ``[n_systems, 3, 3]`` where asked for, in
            the type of the model; of an ensemble also ``energy_std``,
            ``energies_std`` and ``forces_std``.

        Raises:
            CormorantError: A system does not fit; the message names it.
        """
        del kwargs
        z, count = state.atomic_numbers, state.n_systems
        self._look_at(state)
        pbc = torch.as_tensor(state.pbc, device=self.device).expand(3)
        periodic = bool(pbc.any())
        # torch-sim keeps cell vectors in columns
        cell = state.row_vector_cell if periodic else None
        repeats = pbc if periodic else None
        try:
            out = self._compute(
                z,
                state.positions,
                state.system_idx,
                cell,
                repeats,
                num_graphs=count,
                forces=self.compute_forces,
                stress=self.compute_stress and periodic,
            )
        except _FOUND_LATE as error:
            calls = (
                (f"system {k}", partial(self._alone, state, k, cell, repeats))
                for k in range(count)
            )
            raise_first(calls, _FOUND_LATE)
            raise error from None
        found = out.tensors()
        if self.compute_stress:
            zeros = out.energy.new_zeros(count, 3, 3)
            found["stress"] = zeros if out.stress is None else out.stress
        return {name: value.to(self.dtype) for name, value in found.items()}

    def _look_at(self, state: SimState) -> None:
        """Refuse charges, and warn once of other compositions; not in every step."""
        z, system, count = state.atomic_numbers, state.system_idx, state.n_systems
        seen = torch.stack([z.long(), system.long()])
        if self._seen is not None and torch.equal(seen, self._seen):
            return
        self._seen = seen
        self.engine.watch()
        told = {name: getattr(state, name, None) for name in ("charge", "spin")}
        for k in range(count):
            own = {name: v[k] for name, v in told.items() if v is not None}
            said = said_of(own, f"system {k}")
            check_electrons(self.engine.model, z[system == k], f"system {k}", said)
        for k in range(0 if self._warned else count):
            where = f"system {k}"
            if warn_of_composition(self.engine.model, z[system == k], where):
                self._warned = True
                return
