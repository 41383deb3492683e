r"""The energy of structures: the one place where its parts meet.

.. math:: E = \mu + \sum_i \left( \sigma f_i(z, r) + w_{z_i} + p_i(z, r) \right)

with what the network says of an atom :math:`f_i`, scale, constant and references
:math:`\sigma, \mu, w` of the normalisation, and pair energies :math:`p`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from torch_cormorant.errors import CellError, ConfigError
from torch_cormorant.graph.lattice import volumes
from torch_cormorant.models.info import Predicting
from torch_cormorant.models.normalisation import Normalisation
from torch_cormorant.networks import CormorantNetwork

__all__ = ["EnergyNetwork", "Result", "atom_energies", "stress_of", "with_constant"]


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


class EnergyNetwork(Predicting, CormorantNetwork):
    """A network whose outputs have units, with energies of pairs beside it."""

    def pair_energies(
        self, z: Tensor, edge_index: Tensor, edge_vec: Tensor
    ) -> Tensor | None:
        """Energies that are added to the network's, half of each edge's to its target.

        Args:
            z: Atomic numbers ``[N]``.
            edge_index: ``[2, E]``, self edges included.
            edge_vec: ``[E, 3]`` in Angstrom.

        Returns:
            ``[N]`` float64 in the unit of the model, or None (here) for nothing.
        """
        del z, edge_index, edge_vec
        return None


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
