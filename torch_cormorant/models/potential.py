"""Potentials: energies, forces and stresses from any network with one energy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from typing_extensions import Self

from torch_cormorant.errors import ConfigError
from torch_cormorant.models.batched import in_batches
from torch_cormorant.models.chunked import evaluate_in_chunks
from torch_cormorant.models.domain import check_data
from torch_cormorant.models.energy import EnergyModel, Result
from torch_cormorant.models.evaluation import Structures, run
from torch_cormorant.models.info import ModelInfo
from torch_cormorant.models.normalisation import Normalisation
from torch_cormorant.models.tabulated import tabulated

__all__ = ["Potential"]


class Potential(EnergyModel):
    r"""Energies, forces and stresses from any network with one energy.

    .. math::
        E = \mu + \sum_i \left( \sigma f_i(z, r) + w_{z_i} + p_i(z, r) \right)

    with what the network says of an atom, scale, constant and references of ``info``,
    and energies of pairs. Forces and stress are exact derivatives. The network stays
    what it is; ``cutoff``, ``head`` and everything else that is not found here is asked
    of it.

    Args:
        network: A :class:`~torch_cormorant.networks.Network` whose head gives one
            number for a structure; to sum over atoms (``"extensive"``) is best.
        pair: A :class:`~torch_cormorant.nn.Pair` beside it, its name (``"zbl"``), or
            None (default).
        info: Unit, scale and references. Default: those of the network where it states
            its unit, else ``energy_unit`` and nothing more.
        energy_unit: Unit of energies, such as ``"kcal/mol"``. Default: that of
            ``info``, or eV.

    Attributes:
        network: The network.
        pair: The energies of pairs, or None.
        info: A :class:`~torch_cormorant.models.ModelInfo`.

    Raises:
        ConfigError: The head gives no single energy, the unit is not known, or the
            pairs reach beyond the cutoff.

    Example:
        >>> import torch
        >>> from torch_cormorant.models import Potential
        >>> from torch_cormorant.networks import CormorantNetwork
        >>> options = {"head": "extensive", "channels": 4, "num_levels": 1}
        >>> potential = Potential(CormorantNetwork([1, 8], **options), pair="zbl")
        >>> z, pos = torch.tensor([8, 1]), torch.tensor([[0.0, 0, 0], [0, 0, 1.0]])
        >>> result = potential.evaluate(z, pos)
        >>> tuple(result.forces.shape), result.unit, potential.cutoff
        ((2, 3), 'eV', 5.0)

    Note:
        Calling it is calling the network: numbers of order one, without units. Its
        ``state_dict`` names weights ``network. ...``; one without these names, as
        potentials wrote it before, is read too.
    """

    def energy_and_forces(self, *args: Any, **options: Any) -> tuple[Tensor, Tensor]:
        r"""Energies and forces :math:`-\partial E / \partial r`.

        Args:
            *args: As :meth:`evaluate`: ``z, pos, batch, cell, pbc``.
            **options: As :meth:`evaluate`.

        Returns:
            Energies ``[B]`` float64 and forces ``[N, 3]``, in the unit of the model and
            that per Angstrom.
        """
        out = self.evaluate(*args, **options)
        return out.energy, cast("Tensor", out.forces)

    def evaluate(
        self,
        z: Tensor,
        pos: Tensor,
        batch: Tensor | None = None,
        cell: Tensor | None = None,
        pbc: Tensor | bool | None = None,
        *,
        forces: bool = True,
        stress: bool = False,
        edge_index: Tensor | None = None,
        edge_shift: Tensor | None = None,
        num_graphs: int | None = None,
        memory: float | str | None = None,
    ) -> Result:
        r"""Energies, atomic energies, forces and stress.

        .. math::
            E = \sigma f(z, r) + \mu + \sum_i w_{z_i}, \quad
            F_i = -\frac{\partial E}{\partial r_i}, \quad
            \sigma_{ab} = \frac{1}{V} \frac{\partial E}{\partial \varepsilon_{ab}}

        with scale, constant and atomic values of ``model.info.normalisation`` (those
        of a new network change nothing); everything is in the unit of the model.

        Args:
            z: Atomic numbers ``[N]``.
            pos: Positions ``[N, 3]`` in Angstrom; not changed. May have a higher
                precision than the weights.
            batch: Graph of each atom ``[N]``; None: one graph.
            cell: Cell vectors in rows, ``[3, 3]`` or ``[B, 3, 3]``, Angstrom.
            pbc: Which of them repeat, ``[3]`` or ``[B, 3]``; default: all.
            forces: Compute forces. Default True.
            stress: Compute the stress, which needs a cell. Default False.
            edge_index: Edges ``[2, E]`` to use instead of a search, as
                :func:`~torch_cormorant.graph.neighbour_list` gives them. Edges beyond
                the cutoff add nothing to a model with an envelope.
            edge_shift: Whole numbers of cell vectors ``[E, 3]`` of these edges.
            num_graphs: Number of graphs B. Default: the largest of ``batch`` plus 1.
            memory: Bytes that the evaluation of one large system may use, ``"4GiB"``
                for example; needs a cutoff and a sum over atoms. See
                :func:`~torch_cormorant.models.chunked.evaluate_in_chunks`, which
                cuts it into chunks. Results are detached. Default: no limit, at once.

        Returns:
            The results. In training mode with gradients enabled they can be
            differentiated further; otherwise nothing keeps the computation alive.

        Raises:
            ConfigError: A network of all pairs gets a cell, cached geometry is
                passed, stress has no cell, or a network that cannot be evaluated level
                by level gets ``memory``.
            CellError: A cell is zero, flat, or has no volume.
            EdgeIndexError: ``edge_shift`` has no ``edge_index``, is missing in a
                periodic cell, holds no whole numbers or counts a vector that does not
                repeat; or an edge connects two graphs.
            ShapeError, DtypeError, DeviceError, NonFiniteError, SpeciesError,
            CoincidentAtomsError, EdgeBudgetError: An input does not fit.

        Example:
            >>> import torch
            >>> from torch_cormorant import Cormorant
            >>> model = Cormorant.potential(channels=4, num_levels=1).eval()
            >>> z, pos = torch.tensor([8, 1]), torch.tensor([[0.0, 0, 0], [0, 0, 1]])
            >>> out = model.evaluate(z, pos, cell=4 * torch.eye(3), stress=True)
            >>> tuple(out.forces.shape), tuple(out.stress.shape)
            ((2, 3), (1, 3, 3))
        """
        if memory is not None:
            given = {"batch": batch, "edge_index": edge_index, "num_graphs": num_graphs}
            several = [name for name, value in given.items() if value is not None]
            if several:
                msg = (
                    "memory= is for one structure whose edges are searched for: leave "
                    f"out {several[0]}, or leave out memory"
                )
                raise ConfigError(msg)
            return evaluate_in_chunks(
                self, z, pos, cell, pbc, memory=memory, stress=stress
            )
        return run(
            self,
            Structures(z, pos, batch, cell, pbc, edge_index, edge_shift, num_graphs),
            forces=forces,
            stress=stress,
            train=self.network.training and torch.is_grad_enabled(),
        )

    def evaluate_all(
        self: Any,  # of an ensemble, too
        structures: Any,
        *,
        forces: bool = True,
        stress: bool = False,
        batch_size: int = 64,
    ) -> Result:
        """Evaluate a list or a data set, some structures at a time.

        Args:
            structures: A PyG ``Data``, a ``Batch``, a list, a data set: with ``z`` and
                ``pos``, and with ``cell`` and ``pbc`` where they are periodic.
            forces: Compute forces. Default True.
            stress: Compute the stress. Default False.
            batch_size: Structures at once. Default 64.

        Returns:
            One result of all structures in their order, detached, on the CPU.

        Raises:
            ConfigError: There are no structures.
            CormorantError: A structure does not fit; its number is named.
        """

        def call(batch: Any) -> Result:
            found: Result = self.evaluate(
                batch.z,
                batch.pos,
                batch.batch,
                getattr(batch, "cell", None),
                getattr(batch, "pbc", None),
                forces=forces,
                stress=stress,
                num_graphs=batch.num_graphs,
            )
            parts: dict[str, Any] = found.tensors()
            return replace(found, **{k: v.detach().cpu() for k, v in parts.items()})

        device = next(self.parameters()).device
        return Result.joined(
            in_batches(structures, call, batch_size, device, partial(check_data, self))
        )

    def predict(
        self,
        z: Any,
        pos: Tensor | None = None,
        batch: Tensor | None = None,
        *,
        num_graphs: int | None = None,
        batch_size: int = 64,
    ) -> Tensor:
        """Energies ``[B, 1]`` in float64, in the unit of the model, pairs included.

        Args:
            z: Atomic numbers ``[N]``; or structures, as :meth:`evaluate_all` takes
                them.
            pos: Positions ``[N, 3]`` in Angstrom.
            batch: Molecule of each atom ``[N]``; None: one molecule.
            num_graphs: Number of molecules. Default: the largest of ``batch`` plus 1.
            batch_size: Structures at once, of a list or a data set.
        """
        if not isinstance(z, Tensor):
            found = self.evaluate_all(z, forces=False, batch_size=batch_size)
        else:
            place = cast("Tensor", pos)
            found = self.evaluate(z, place, batch, forces=False, num_graphs=num_graphs)
        return found.energy.detach().unsqueeze(1)

    def set_units(self, atom_energies: Mapping[int, float], scale: float = 1.0) -> Self:
        r"""Set what is added to and multiplied into the network's output.

        .. math:: E = \sigma \sum_i f_i(z, r) + \sum_i w_{z_i} \,(+ E_{ZBL})

        Do this before training, with references fitted to the training energies (or of
        free atoms) and the spread of the forces as the scale; train on energies and
        forces in the unit of the data.

        Args:
            atom_energies: :math:`w_z` by atomic number, in the model's energy unit.
            scale: :math:`\sigma`, in the model's energy unit.

        Returns:
            The model itself.

        Raises:
            ConfigError: A species of the model has no reference, or a number is not
                finite.

        Example:
            >>> from torch_cormorant import Cormorant
            >>> model = Cormorant.potential([1, 8], channels=4, num_levels=1)
            >>> model.set_units({1: -13.6, 8: -2041.8}, scale=0.5).info.units
            ('eV',)
        """
        missing = [z for z in self.network.features.known if z not in atom_energies]
        if missing:
            msg = f"atom_energies has no entry for the species {missing}"
            raise ConfigError(msg)
        values = {int(z): (float(e),) for z, e in atom_energies.items()}
        units = Normalisation((0.0,), (float(scale),), values)
        self.info = ModelInfo(("energy",), (self.energy_unit,), units)
        return self

    def tabulate(
        self,
        pieces: int | None = None,
        tolerance: float = 1e-5,
        structures: Sequence[tuple[Tensor, Tensor]] | None = None,
    ) -> Self:
        r"""The same potential with its radial functions read from tables.

        For fixed weights: simulations, screening. Splines of degree five,
        :class:`~torch_cormorant.ops.Splines`, stand in for basis, MLP and envelope of
        every level, which cost more than all else in a NequIP; forces are exact
        derivatives of the energies with splines. Forces of some structures are compared
        with the exact ones when it is made.

        Args:
            pieces: Of every spline, from zero to the cutoff. Default: 64, or as many
                times twice that as are needed.
            tolerance: How far forces may be from the exact ones, as a part of the
                largest. Default 1e-5.
            structures: Pairs ``(z, pos)`` that are compared. Default: random clusters.

        Returns:
            A copy in evaluation mode, whose weights require no gradients. It is
            derived: :func:`~torch_cormorant.save_model` saves the exact potential, and
            it refuses to be used in training mode or after its weights were changed.

        Raises:
            ConfigError: The network has no such functions, or forces differ by more
                than the tolerance.

        Example:
            >>> import torch
            >>> from torch_cormorant.models import Potential
            >>> from torch_cormorant.networks import NequIP
            >>> potential = Potential(NequIP([1, 8], channels=4, num_levels=2))
            >>> fast = potential.tabulate()
            >>> z, pos = torch.tensor([8, 1]), torch.tensor([[0.0, 0, 0], [0, 0, 1.0]])
            >>> a, b = (p.evaluate(z, pos).forces for p in (potential, fast))
            >>> torch.allclose(a, b, rtol=1e-4)
            True
        """
        return tabulated(self, pieces, tolerance, structures)
