"""A potential in eV and Angstrom, ready to be called again and again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from torch_cormorant.data.units import unit_factor
from torch_cormorant.errors import ConfigError, SpeciesError
from torch_cormorant.graph import NeighbourCache
from torch_cormorant.models.copies import copied
from torch_cormorant.models.energy import Result
from torch_cormorant.models.ensemble import Ensemble
from torch_cormorant.models.files import as_device
from torch_cormorant.models.holder import Holder
from torch_cormorant.models.potential import Potential
from torch_cormorant.networks import Network
from torch_cormorant.networks.edges import own_edges
from torch_cormorant.ops.autocast import full_precision

__all__ = ["Engine"]


class Engine:
    """A model's own copy on a device, in eV, with a neighbour list that is reused.

    Args:
        model: A :class:`~torch_cormorant.models.Potential`, an
            :class:`~torch_cormorant.models.Ensemble` of them, or a network with one
            energy; it is copied.
        energy_unit: Unit of the model's energies, such as ``"kcal/mol"``. Default:
            that of ``model.info``.
        device: Where to compute. Default: where the model is.
        dtype: Type of the weights. Default: that of the model.
        skin: Skin of the neighbour list in Angstrom. Default 0.5.

    Raises:
        ConfigError: The model has several targets or no known unit, there is no such
            device, or an argument is out of range.

    Example:
        >>> import torch
        >>> from torch_cormorant import Cormorant
        >>> model = Cormorant(species=[1, 8], channels=4, num_levels=1, lmax=1)
        >>> engine = Engine(model, energy_unit="kcal/mol")
        >>> pos = torch.tensor([[0.0, 0, 0], [0, 0, 0.96], [0, 0.93, -0.24]])
        >>> out = engine(torch.tensor([8, 1, 1]), pos)
        >>> tuple(out.forces.shape), out.energy.dtype
        ((3, 3), torch.float64)
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        energy_unit: str | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        skin: float = 0.5,
    ) -> None:
        given: object = model  # users pass anything
        if not isinstance(given, (Holder, Network, Ensemble)):
            msg = f"model must be a potential or a network, got {type(given).__name__}"
            raise ConfigError(msg)
        whole = model if isinstance(model, Ensemble) else Potential.of(model)
        self.factor = unit_factor(_unit_of(whole.info.units[0], energy_unit), "eV")
        if dtype is not None and dtype not in (torch.float32, torch.float64):
            msg = f"dtype must be torch.float32 or torch.float64, got {dtype}"
            raise ConfigError(msg)
        device = next(whole.parameters()).device if device is None else device
        self.device = as_device(device)
        self.model = copied(whole).to(device=self.device, dtype=dtype).eval()
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)
        self._silent = getattr(whole, "warns", "") == "never"
        self.watch()
        self.dtype = self.model.network.dtype
        self.cutoff = self.model.network.cutoff
        self.edges = None if self.cutoff is None else NeighbourCache(self.cutoff, skin)

    @property
    def potentials(self) -> list[Potential]:
        """The potential, or all of an ensemble."""
        model = self.model
        members = model.models if isinstance(model, Ensemble) else [model]
        return [Potential.of(member) for member in members]

    @property
    def potential(self) -> Potential:
        """The potential, where an ensemble would not do.

        Raises:
            ConfigError: It is an ensemble.
        """
        if not isinstance(self.model, Potential):
            msg = "model is an ensemble, and this needs one potential; take one of them"
            raise ConfigError(msg)
        return self.model

    def watch(self) -> None:
        """Let the models say once, from now on, that they disagree too much.

        An ensemble that was told never to say so does not.
        """
        if isinstance(self.model, Ensemble) and not self._silent:
            self.model.warns = "once"

    def check_species(self, z: Sequence[int], where: str = "atoms") -> None:
        """Refuse elements that the model was not made for.

        Args:
            z: Atomic numbers.
            where: Name of the structure in the message.

        Raises:
            SpeciesError: Names the atom, the element and those that the model knows.
        """
        known = set(self.model.network.features.known)
        for atom, number in enumerate(z):
            if int(number) not in known:
                msg = (
                    f"{where}: atom {atom} has atomic number {int(number)}, but the "
                    f"model knows {sorted(known)} only; use a model trained with it"
                )
                raise SpeciesError(msg)

    def __call__(
        self,
        z: Tensor,
        pos: Tensor,
        batch: Tensor | None = None,
        cell: Tensor | None = None,
        pbc: Tensor | None = None,
        *,
        num_graphs: int | None = None,
        forces: bool = True,
        stress: bool = False,
        reuse: bool = True,
    ) -> Result:
        """Energies, and what else is asked for.

        Args:
            z: Atomic numbers ``[N]``.
            pos: Positions ``[N, 3]`` in Angstrom, on any device.
            batch: Structure of each atom ``[N]``; None: one structure.
            cell: Cell vectors ``[3, 3]`` or ``[B, 3, 3]``; None: nothing repeats.
            pbc: Which of them repeat ``[3]`` or ``[B, 3]``.
            num_graphs: Number of structures.
            forces: Default True.
            stress: Default False.
            reuse: Use the list with a skin; False: search once, and leave the list
                of the engine as it is.

        Returns:
            Results in eV and Angstrom, in float64, on the engine's device.

        Raises:
            ConfigError: A periodic cell and a model without a cutoff.
        """
        z, pos = z.to(self.device), pos.detach().to(self.device)
        batch, cell, pbc = (
            None if t is None else t.to(self.device) for t in (batch, cell, pbc)
        )
        index, shift = self._search(pos, batch, cell, pbc, reuse=reuse)
        out = self.model.evaluate(
            z,
            pos,
            batch,
            cell,
            pbc,
            forces=forces,
            stress=stress,
            edge_index=index,
            edge_shift=shift,
            num_graphs=num_graphs,
        )
        scaled: dict[str, Any] = {
            name: value.double() * self.factor for name, value in out.tensors().items()
        }
        return replace(out, **scaled, unit="eV")

    @full_precision
    def atom_energies(
        self,
        z: Tensor,
        edge_index: Tensor,
        edge_vec: Tensor,
        potential: Potential | None = None,
    ) -> Tensor:
        """Energies of atoms from given edges, for gradients of your own.

        Args:
            z: Atomic numbers ``[N]``.
            edge_index: ``[2, E]`` without self edges.
            edge_vec: ``[E, 3]`` in Angstrom.
            potential: Which of :attr:`potentials`. Default: the only one.

        Returns:
            ``[N]`` in eV, float64, without the constant of the normalisation.
        """
        loop, count = self.model.network.self_edges, z.shape[0]
        index, vec = own_edges(edge_index, edge_vec, count, loop=loop)
        whole = self.potential if potential is None else potential
        return whole.energies_of(z, index, vec) * self.factor

    def _search(
        self,
        pos: Tensor,
        batch: Tensor | None,
        cell: Tensor | None,
        pbc: Tensor | None,
        *,
        reuse: bool,
    ) -> tuple[Tensor | None, Tensor | None]:
        if self.edges is None:
            if cell is not None:
                msg = (
                    "the model has no cutoff (all pairs of a molecule), so it cannot "
                    "be used with a periodic cell; make it with cutoff="
                )
                raise ConfigError(msg)
            return None, None
        search = self.edges if reuse else NeighbourCache(self.edges.cutoff, 0.0)
        index, shift = search(pos, batch, cell, pbc)
        return index, None if cell is None else shift


def _unit_of(stated: str, given: str | None) -> str:
    unit = given or stated
    if not unit:
        msg = (
            "energy_unit is needed: the model does not say in which unit its energies "
            'are; for example energy_unit="eV" or "kcal/mol"'
        )
        raise ConfigError(msg)
    return unit
