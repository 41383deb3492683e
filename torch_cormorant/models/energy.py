r"""The energy of structures: the one place where its parts meet.

.. math:: E = \mu + \sum_i \left( \sigma f_i(z, r) + w_{z_i} + p_i(z, r) \right)

with what the network says of an atom :math:`f_i`, scale, constant and references
:math:`\sigma, \mu, w` of the normalisation, and pair energies :math:`p`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Self

from torch_cormorant.data.units import unit_factor
from torch_cormorant.errors import CellError, ConfigError
from torch_cormorant.graph.lattice import volumes
from torch_cormorant.models.holder import Holder
from torch_cormorant.models.info import ModelInfo
from torch_cormorant.models.normalisation import Normalisation
from torch_cormorant.networks import Network
from torch_cormorant.nn.pairs import Pair
from torch_cormorant.nn.parts import plain_part
from torch_cormorant.nn.zbl import PAIR_PARTS
from torch_cormorant.ops import EdgeGeometry
from torch_cormorant.ops.segment import scatter_sum

__all__ = ["EnergyModel", "Result", "atom_energies", "stress_of", "with_constant"]


@dataclass(frozen=True)
class Result:
    r"""Energies, forces and stress of a batch of structures.

    The same for models, large systems, ASE, torch-sim, LAMMPS and traced molecules.

    Attributes:
        energy: ``[B]`` float64.
        energies: ``[N]`` float64, the contribution of every atom; None where the head
            is no sum over atoms.
        forces: ``[N, 3]``, :math:`-\partial E / \partial r_i`, per Angstrom; None when
            not asked for.
        stress: ``[B, 3, 3]``, :math:`\sigma = V^{-1} \partial E / \partial
            \varepsilon` (positive: the cell wants to shrink), per cubic Angstrom,
            symmetric; None when not asked for. The virial is :math:`-V \sigma`.
        unit: Unit of energy; empty: not stated.
    """

    energy: Tensor
    energies: Tensor | None = None
    forces: Tensor | None = None
    stress: Tensor | None = None
    unit: str = ""

    def tensors(self) -> dict[str, Tensor]:
        """What there is, by name."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: v for name, v in named.items() if isinstance(v, Tensor)}

    @classmethod
    def joined(cls, results: Sequence[Result]) -> Result:
        """Results of several batches as those of one.

        Args:
            results: At least one; all with the same fields.
        """
        parts = [result.tensors() for result in results]
        whole: dict[str, Any] = {
            name: torch.cat([part[name] for part in parts]) for name in parts[0]
        }
        return type(results[0])(**whole, unit=results[0].unit)


class EnergyModel(Holder):
    r"""A network with one energy, energies of pairs beside it, and their unit.

    Args:
        network: The network, its class, or what describes it in a model file.
        pair: A :class:`~torch_cormorant.nn.Pair`, its name such as ``"zbl"``, or None.
        info: Unit, scale and references of the energy. Default: those of the network
            where it states its unit, else ``energy_unit`` and nothing more.
        energy_unit: Unit of energies. Default: that of ``info``, or eV.

    Raises:
        ConfigError: The head gives no single energy, the unit is not known, or the
            cutoff is shorter than the pairs reach.
    """

    pair: Pair | None
    energy_unit: str

    def __init__(
        self,
        network: Network | Mapping[str, Any] | type[Network],
        pair: Pair | str | Mapping[str, Any] | None = None,
        info: ModelInfo | None = None,
        energy_unit: str | None = None,
    ) -> None:
        super().__init__(network, info)
        check_head(self.network)
        if energy_unit is not None:
            unit_factor(energy_unit, "eV")
        self.energy_unit = energy_unit or self.info.units[0] or "eV"
        if info is None and not any(self.info.units):
            self.info = replace(
                self.info, targets=("energy",), units=(self.energy_unit,)
            )
        self.pair = None
        if pair is not None:
            known = self.network.features.known
            told = {"species": known, "unit": self.energy_unit}
            self.pair = PAIR_PARTS.make(pair, {}, told)
            self._check_pair(self.pair)

    @classmethod
    def of(cls, model: Any) -> Self:
        """A model itself, if it is of this class, or one around its network.

        Args:
            model: A potential, or a network with one energy and perhaps ``info``.

        Raises:
            ConfigError: It is no network, or has no single energy.
        """
        if isinstance(model, cls):
            return model
        network = model.network if isinstance(model, Holder) else model
        pair = getattr(model, "pair", None)
        return cls(network, pair, getattr(model, "info", None))

    def _check_pair(self, pair: Pair) -> None:
        if pair.unit != self.energy_unit:
            msg = (
                f"energy_unit is {self.energy_unit!r}, but the energies of pairs are "
                f"in {pair.unit!r}; make both with one unit"
            )
            raise ConfigError(msg)
        if self.network.cutoff is not None and self.network.cutoff < pair.reach:
            msg = (
                f"cutoff is {self.network.cutoff:g} Angstrom, but the repulsion of "
                f"these species reaches {pair.reach:.3g}; raise cutoff or use "
                "repulsion=None"
            )
            raise ConfigError(msg)

    def replace_head(self, head: Any, num_targets: int = 1, **options: Any) -> Self:
        """As that of a network; unit, scale and references stay.

        Raises:
            ConfigError: The head gives no single energy: for another property, take
                the network out, ``Predictor(potential.network).replace_head(...)``.
        """
        made = self.network.again(head=head, num_targets=num_targets, **options)
        check_head(made)
        self.network.take_head(made)
        return self

    @property
    def config(self) -> dict[str, Any]:
        """What makes the same again, as plain values."""
        own = {"pair": plain_part(self.pair), "energy_unit": self.energy_unit}
        return {**super().config, **own}

    def facts(self) -> dict[str, Any]:
        """Those of the network, and the repulsion."""
        return {**super().facts(), "repulsion": str(self.pair)}

    def pair_energies(
        self, z: Tensor, edge_index: Tensor, edge_vec: Tensor
    ) -> Tensor | None:
        """Energies that are added to the network's, half of each edge's to its target.

        Args:
            z: Atomic numbers ``[N]``.
            edge_index: ``[2, E]``, self edges included.
            edge_vec: ``[E, 3]`` in Angstrom.

        Returns:
            ``[N]`` float64 in the unit of the model, or None for nothing.
        """
        return None if self.pair is None else self.pair(z, edge_index, edge_vec)

    def energies_of(
        self,
        z: Tensor,
        edge_index: Tensor,
        edge_vec: Tensor,
        geometry: EdgeGeometry | None = None,
        pairs: Tensor | None = None,
    ) -> Tensor:
        """Energies of atoms, without the constant.

        Args:
            z: Atomic numbers ``[N]``.
            edge_index: ``[2, E]``, with the self edges that the network wants.
            edge_vec: ``[E, 3]`` in Angstrom.
            geometry: What was made of these edges. Default: it is made.
            pairs: :meth:`pair_energies` of these edges. Default: they are computed.

        Returns:
            ``[N]`` float64 in the unit of the model.
        """
        if geometry is None:
            geometry = self.network.geometry(edge_index, edge_vec, z.shape[0])
        raw = self.network.atomwise(self.network.run_levels(z, geometry), z).squeeze(1)
        if pairs is None:
            pairs = self.pair_energies(z, edge_index, edge_vec)
        units = self.info.normalisation
        return atom_energies(raw, units.atoms(z)[:, 0], units, pairs)

    def energy_of(
        self,
        z: Tensor,
        pos: Tensor,
        batch: Tensor | None,
        count: int,
        edge_index: Tensor,
        edge_vec: Tensor,
        geometry: EdgeGeometry,
        pairs: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Energies of structures, and of atoms where the head is a sum over them.

        Args:
            z: Atomic numbers ``[N]``.
            pos: Positions ``[N, 3]``, for heads that read them.
            batch: Structure of each atom.
            count: Number of structures B.
            edge_index: ``[2, E]``, with the self edges that the network wants.
            edge_vec: ``[E, 3]`` in Angstrom.
            geometry: What was made of the edges.
            pairs: As for :meth:`energies_of`.

        Returns:
            ``[B]`` and ``[N]`` or None, float64 in the unit of the model.
        """
        network, units = self.network, self.info.normalisation
        if batch is None:
            batch = torch.zeros_like(z, dtype=torch.int64)
        if not network.head.additive:
            levels = network.run_levels(z, geometry)
            out = network.head(network.head_input(levels, batch, count, z, pos))
            energy = units.restore(out.view(count, 1), z, batch).squeeze(1)
            if pairs is None:
                pairs = self.pair_energies(z, edge_index, edge_vec)
            if pairs is not None:
                energy = energy + scatter_sum(pairs, batch, count, validate=False)
            return energy, None
        energies = self.energies_of(z, edge_index, edge_vec, geometry, pairs)
        energy = scatter_sum(energies, batch, count, validate=False)
        if not units.mean[0]:
            return energy, energies
        size = scatter_sum(torch.ones_like(energies), batch, count, validate=False)
        return with_constant(energy, energies, size[batch], units)


def check_head(network: nn.Module) -> None:
    """Refuse networks whose head gives no single energy.

    Raises:
        ConfigError: It gives several numbers, or numbers of atoms.
    """
    head: Any = network.head
    shape, targets = tuple(head.shape), network.num_targets
    if targets != 1 or head.per_atom or shape not in ((), (1,)):
        msg = (
            f"forces need one target per molecule, this model has {targets} of shape "
            f"{list(shape)} (head {head.kind!r})"
        )
        raise ConfigError(msg)


def atom_energies(
    raw: Tensor, references: Tensor, units: Normalisation, pairs: Tensor | None = None
) -> Tensor:
    """Energies of atoms in float64, without the constant.

    Args:
        raw: What the network says of every atom ``[N]``.
        references: ``units.atoms(z)[:, 0]``.
        units: Scale of the network.
        pairs: Energies of pairs ``[N]``.

    Returns:
        ``[N]``.

    Example:
        >>> import torch
        >>> units = Normalisation((1.0,), (2.0,), {1: (-3.0,)})
        >>> atom_energies(torch.ones(2), units.atoms(torch.tensor([1, 1]))[:, 0], units)
        tensor([-1., -1.], dtype=torch.float64)
    """
    energies = raw.double() * units.std[0] + references
    return energies if pairs is None else energies + pairs


def with_constant(
    energy: Tensor, energies: Tensor, atoms: Tensor | int, units: Normalisation
) -> tuple[Tensor, Tensor]:
    """Energies of structures and atoms with the constant, shared among the atoms.

    Args:
        energy: ``[B]`` sums over atoms.
        energies: ``[N]``, or ``[B, N]`` of copies.
        atoms: Number of atoms of the structure of each atom.
        units: Where the constant stands.
    """
    constant = units.mean[0]
    return energy + constant, energies + constant / atoms if constant else energies


def stress_of(strain: Tensor, cell: Tensor | None) -> Tensor:
    r"""The stress :math:`V^{-1} \partial E / \partial \varepsilon`.

    Args:
        strain: Derivatives of energies with respect to a strain ``[B, 3, 3]``.
        cell: Cell vectors in rows, ``[3, 3]`` or ``[B, 3, 3]``, Angstrom.

    Raises:
        ConfigError: There is no cell.
        CellError: A cell has no volume.
    """
    if cell is None:
        msg = "stress needs a cell: give cell= [3, 3] or [B, 3, 3] in Angstrom"
        raise ConfigError(msg)
    volume = volumes(cell.detach().to(strain.dtype).expand(strain.shape[0], 3, 3))
    usable = (volume > 0) & volume.isfinite()
    if not bool(usable.all()):
        graph = int((~usable).nonzero()[0])
        msg = f"cell of graph {graph} has no volume, and stress is energy per volume"
        raise CellError(msg)
    return (strain + strain.transpose(1, 2)) / (2 * volume.view(-1, 1, 1))
