"""The Cormorant network for users: with units, energies and forces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from torch_cormorant.models.cormorant_potential import CormorantPotential
from torch_cormorant.models.energy import Result
from torch_cormorant.models.facts import OutputFacts
from torch_cormorant.models.potential import Potential
from torch_cormorant.models.predictor import Predictor
from torch_cormorant.networks import CormorantNetwork, register_network

__all__ = ["Cormorant", "CormorantPotential"]


@register_network("Cormorant")
class Cormorant(OutputFacts, CormorantNetwork):
    r"""A Cormorant network for molecules, over a sparse radius graph.

    Anderson, Hy and Kondor 2019, section 4: atoms start with scalars; every level is a
    :class:`~torch_cormorant.CormorantConv` that hands its edge scalars on; the
    a head turns all levels into predictions. :class:`~torch_cormorant.CormorantQM9` and
    :class:`~torch_cormorant.CormorantMD17` are the published networks; the defaults
    here are those for new work: a cutoff with a smooth envelope, bounded radial
    functions.

    Args:
        species: Atomic numbers that may occur. Default H C N O F.
        num_targets: Outputs per molecule, of each head if there are several. Default 1.
        channels: Channels of every level, or one number for each of input and levels.
        num_levels: Number of levels. Default 4.
        lmax: Largest degree, or one for each level. Default 3. Degrees that no product
            reaches are absent, as in the published code.
        lmax_sh: Largest degree of the harmonics. Default: ``lmax``.
        cutoff: Radius of the graph in Angstrom; None: all pairs. Default 5.
        input: ``"mpnn"`` (published QM9, default), ``"mpnn_learned"`` (its mask with
            learned radius and width, as in the supplement) or ``"linear"`` (MD17).
        head: What is predicted, one of :data:`~torch_cormorant.nn.HEADS`: a sum of
            atomic contributions ``"extensive"``, ``"mean"``, ``"attention"``,
            ``"dipole"``, ``"dipole_norm"``, ``"spatial_extent"``, ``"polarizability"``,
            ``"polarizability_trace"``, ``"vector"``, ``"atom_vector"``, ``"so3"``; the
            published ``"published"`` (QM9, default) and ``"linear"`` (MD17). Options
            go into a mapping, ``{"kind": "so3", "degree": 2}``; a list joins several.
            An own :class:`~torch_cormorant.nn.Head` is given by its registered name,
            its class, ``{"class": MyHead, "width": 8}`` or as an instance.
        num_mpnn_layers: Layers of the ``"mpnn"`` input. Default 1.
        mpnn_cutoff: Hard radius of the ``"mpnn"`` input in Angstrom (published: 1.73,
            where its filter jumps). Default None: the cutoff, with the smooth envelope;
            1.73 where the levels have no envelope.
        charge_power: Powers of the charge in the atom features. Default 2.
        charge_scale: Charge that counts as one. Default: the largest of ``species``.
        norm: ``"norm"``: an :class:`~torch_cormorant.SO3Norm` after every level;
            an own :class:`~torch_cormorant.nn.Norm` as for ``head``; None (default).
        gate: A :class:`~torch_cormorant.Gate` after every level. Default False.
        species_scale: A :class:`~torch_cormorant.nn.SpeciesScale` after every level:
            factors of the elements. Default False.
        residual: Add the input of every level to its result, as far as both have the
            degrees; needs equal channels. Default False.
        hidden: Width of hidden layers. Default 256.
        middle: Width between the two MLPs of the ``"published"`` head. Default 64.
        activation: ``"leaky_relu"`` (published, default), ``"silu"``, ``"relu"``.
        max_edges: With all pairs: edges per call beyond which an error is raised.
        **conv: Arguments of :class:`~torch_cormorant.CormorantConv`: ``paths``,
            ``radial``, ``harmonics``, ``init``, ``gain``, ``complex``, ...
            Default here: ``radial="bessel"`` (``"power_trig"`` without a cutoff).

    Shapes:
        - ``z`` ``[N]`` atomic numbers, ``pos`` ``[N, 3]`` Angstrom, ``batch`` ``[N]``
        - returns ``[num_graphs, num_targets]``; tensor heads ``[num_graphs, 3]`` and
          so on, heads per atom ``[N, ...]``

    Raises:
        ConfigError, SpeciesError, DegreeError: If the arguments contradict each other.
        ArgumentError: If no argument has that name.
        ShapeError, DtypeError, DeviceError, NonFiniteError, SpeciesError,
        CoincidentAtomsError, EdgeBudgetError: If an input does not fit.

    Example:
        >>> import torch
        >>> from torch_cormorant import Cormorant
        >>> model = Cormorant(species=[1, 8], channels=8, num_levels=2, lmax=2)
        >>> z = torch.tensor([8, 1, 1])
        >>> pos = torch.tensor([[0.0, 0, 0], [0, 0, 0.96], [0, 0.93, -0.24]])
        >>> tuple(model(z, pos).shape)
        (1, 1)

    Note:
        Self edges (weight one, zero vector) belong to the network and are added here.
        SO(3)-invariant; with ``paths="even"`` also under reflections. ``pos`` may have
        a higher precision than the weights: edge vectors are formed in it.
    """

    @staticmethod
    def potential(
        species: Sequence[int] = (1, 6, 7, 8, 9), **options: Any
    ) -> CormorantPotential:
        """The documented default for force fields, ready to train on forces.

        Args:
            species: Atomic numbers that may occur. Default H C N O F.
            **options: As :class:`~torch_cormorant.models.CormorantPotential`.

        Returns:
            The potential.
        """
        return CormorantPotential(species, **options)

    def evaluate(self, *args: Any, **options: Any) -> Result:
        """Energies, forces and stress, as :meth:`.Potential.evaluate`."""
        return Potential(self, info=self.info).evaluate(*args, **options)

    def energy_and_forces(self, *args: Any, **options: Any) -> tuple[Tensor, Tensor]:
        """Energies and forces, as :meth:`.Potential.energy_and_forces`."""
        return Potential(self, info=self.info).energy_and_forces(*args, **options)

    def predict(self, *args: Any, **options: Any) -> Tensor:
        """Predict in the units of ``info``, as :meth:`.Predictor.predict`."""
        return Predictor(self, self.info).predict(*args, **options)
