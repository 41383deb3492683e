"""The Cormorant network with units, references, energies and forces."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor
from typing_extensions import Self

from torch_cormorant.errors import ConfigError
from torch_cormorant.models.calibration import Calibration, calibrate
from torch_cormorant.models.facts import OutputFacts
from torch_cormorant.models.info import ModelInfo
from torch_cormorant.models.normalisation import Normalisation
from torch_cormorant.models.potential import PotentialMethods
from torch_cormorant.nn.facts import activations_of
from torch_cormorant.nn.zbl import ZBL

__all__ = ["Cormorant", "CormorantPotential"]


class Cormorant(OutputFacts, PotentialMethods):
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
        input: ``"mpnn"`` (published QM9, default) or ``"linear"`` (published MD17).
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
            The network.
        """
        return CormorantPotential(species, **options)

    def atom_contributions(
        self, z: Tensor, pos: Tensor, batch: Tensor | None = None
    ) -> Tensor:
        """Contribution of every atom to an extensive prediction.

        Args:
            z: Atomic numbers ``[N]``.
            pos: Positions ``[N, 3]`` in Angstrom.
            batch: Molecule of each atom.

        Returns:
            ``[N, num_targets]``; their sums over molecules are what the model returns,
            before the normalisation in ``model.info``: of a potential with units take
            ``model.evaluate(...).energies``.

        Raises:
            ConfigError: If the head is no sum over atoms.
        """
        _, levels = self.forward(z, pos, batch, return_levels=True)
        return self.atomwise(list(levels))

    def calibrate(
        self, loader: Iterable[Any], target: float | None = None, max_batches: int = 4
    ) -> Calibration:
        """Rescale the levels on data so that activations have a given size.

        An explicit step before training; see
        :func:`torch_cormorant.models.calibration.calibrate`.

        Args:
            loader: Batches with ``z``, ``pos`` and ``batch``, as PyG's loaders give.
            target: RMS that every level and degree gets. Default: the largest of a
                few that survives a rattle and compression test.
            max_batches: Batches that are used. Default 4.

        Returns:
            What was measured and chosen.
        """
        return calibrate(self, loader, target, max_batches)


DEFAULTS: dict[str, Any] = {
    "channels": 16,
    "num_levels": 3,
    "lmax": 2,
    "cutoff": 5.0,
    "input": "linear",
    "head": "extensive",
    "norm": "norm",
    "activation": "silu",
    "hidden": 64,
    "paths": "even",
    "radial": "bessel",
    # half of Cormorant's: fast oscillations bring wiggles where there are no data
    "num_basis": 8,
    "envelope": True,
    "soft_radius": 3.0,
    "soft_width": 0.5,
}


class CormorantPotential(Cormorant):
    r"""A network for force fields: smooth, additive, equal for mirror images.

    What differs from :class:`~torch_cormorant.Cormorant`, and why:

    - ``paths="even"``: enantiomers get equal energies.
    - Bounded radial functions under an envelope with two vanishing derivatives: energy,
      forces and their slopes are continuous when an atom passes the cutoff.
    - A norm after every level: bounded features when atoms come close.
    - SiLU: the published LeakyReLU makes forces jump.
    - Head ``"extensive"``: far fragments add up, per-atom energies exist.
    - References of atoms in float64 (``info.normalisation``): see :meth:`set_units`.
    - Optional repulsion at distances that no training data holds.

    Args:
        species: Atomic numbers that may occur. Default H C N O F.
        repulsion: ``"zbl"``: add :class:`~torch_cormorant.nn.ZBL`; None (default).
        energy_unit: Unit of energies, ``"eV"`` (default) or ``"kcal/mol"``.
        **kwargs: As :class:`~torch_cormorant.Cormorant`. Defaults here: 16 channels,
            3 levels, lmax 2, cutoff 5 A, 8 radial functions, masks that start at 3 A.

    Raises:
        ConfigError: An option would break what the class promises, or is unknown.

    Example:
        >>> import torch
        >>> from torch_cormorant import Cormorant
        >>> model = Cormorant.potential(species=[1, 8], channels=4, num_levels=1)
        >>> z = torch.tensor([8, 1, 1])
        >>> pos = torch.tensor([[0.0, 0, 0], [0, 0, 0.96], [0, 0.93, -0.24]])
        >>> energy, forces = model.energy_and_forces(z, pos)
        >>> tuple(energy.shape), tuple(forces.shape)
        ((1,), (3, 3))
    """

    def __init__(
        self,
        species: Sequence[int] = (1, 6, 7, 8, 9),
        *,
        repulsion: str | None = None,
        energy_unit: str = "eV",
        **kwargs: Any,
    ) -> None:
        if energy_unit not in ("eV", "kcal/mol"):
            msg = f'energy_unit must be "eV" or "kcal/mol", got {energy_unit!r}'
            raise ConfigError(msg)
        if repulsion not in (None, "zbl"):
            msg = f'repulsion must be "zbl" or None, got {repulsion!r}'
            raise ConfigError(msg)
        options = {**DEFAULTS, **kwargs}
        _check_options(options)
        options.setdefault("soft_radius", 3.0)
        super().__init__(species, **options)
        _check_parts(self)
        self.config |= {"repulsion": repulsion, "energy_unit": energy_unit}
        self.energy_unit = energy_unit
        self.zbl = ZBL(self.features.known, energy_unit) if repulsion else None
        reach = 0.0 if self.zbl is None else self.zbl.reach
        if self.cutoff is not None and self.cutoff < reach:
            msg = (
                f"cutoff is {self.cutoff:g} Angstrom, but the repulsion of these "
                f"species reaches {reach:.3g}; raise cutoff or use repulsion=None"
            )
            raise ConfigError(msg)
        self.info = ModelInfo(("energy",), (energy_unit,), Normalisation.none())

    def facts(self) -> dict[str, Any]:
        """Those of the network, and the repulsion."""
        return {**super().facts(), "repulsion": str(self.zbl)}

    def pair_energies(
        self, z: Tensor, edge_index: Tensor, edge_vec: Tensor
    ) -> Tensor | None:
        """The repulsion, if there is one."""
        if self.zbl is None:
            return None
        result: Tensor = self.zbl(z, edge_index, edge_vec)
        return result

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
        missing = [z for z in self.features.known if z not in atom_energies]
        if missing:
            msg = f"atom_energies has no entry for the species {missing}"
            raise ConfigError(msg)
        values = {int(z): (float(e),) for z, e in atom_energies.items()}
        units = Normalisation((0.0,), (float(scale),), values)
        self.info = ModelInfo(("energy",), (self.energy_unit,), units)
        return self

    def predict(
        self,
        z: Tensor,
        pos: Tensor,
        batch: Tensor | None = None,
        *,
        num_graphs: int | None = None,
    ) -> Tensor:
        """Energies ``[B, 1]`` in float64, in the unit of the model, repulsion included.

        Args:
            z: Atomic numbers ``[N]``.
            pos: Positions ``[N, 3]`` in Angstrom.
            batch: Molecule of each atom ``[N]``; None: one molecule.
            num_graphs: Number of molecules. Default: the largest of ``batch`` plus 1.
        """
        out = self.evaluate(z, pos, batch, forces=False, num_graphs=num_graphs)
        return out.energy.detach().unsqueeze(1)


def _check_options(options: Mapping[str, Any]) -> None:
    """Refuse options that make energies jump or forces undefined."""
    required: dict[str, tuple[Any, ...]] = {
        "activation": ("silu",),
        "envelope": (True, None),
        "input": ("linear",),
    }
    for name, allowed in required.items():
        if options[name] not in allowed:
            msg = (
                f"a potential needs {name} {' or '.join(map(repr, allowed))}, got "
                f"{options[name]!r}; Cormorant(...) takes anything"
            )
            raise ConfigError(msg)
    if options["cutoff"] is None or "hard" in options.get("cutoff_type", ()):
        msg = "a potential needs a cutoff in Angstrom with a smooth end"
        raise ConfigError(msg)


def _check_parts(model: CormorantPotential) -> None:
    """Refuse parts that say of themselves what no potential may be."""
    head = model.head
    radials = [conv.edge_network.radial for conv in model.conv_layers()]
    needed = [
        ("head", head, "additive", head.additive),
        ("head", head, "smooth", head.smooth and not JUMPS & {*activations_of(head)}),
        *[("radial", r, "bounded", r.bounded) for r in radials],
        *[("radial", r, "smooth", r.smooth) for r in radials],
    ]
    for name, part, fact, true in needed:
        if not true:
            msg = (
                f"a potential needs a {fact} {name}, which {part.kind!r} does not say "
                f"it is; {_EXAMPLES[name]} are fine, Cormorant(...) takes anything"
            )
            raise ConfigError(msg)


JUMPS = {"LeakyReLU", "ReLU"}
"""Activations with which forces jump."""
_EXAMPLES = {
    "head": "'extensive' and what derives from SumHead",
    "radial": "'bessel', 'gaussian' and classes with bounded = True",
}
