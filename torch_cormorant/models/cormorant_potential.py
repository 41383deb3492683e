"""The default potential: a Cormorant network with the options that forces need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch_cormorant.errors import ConfigError
from torch_cormorant.models.potential import Potential
from torch_cormorant.networks import CormorantNetwork
from torch_cormorant.nn.cutoff import is_smooth
from torch_cormorant.nn.facts import activations_of

__all__ = ["SIZES", "CormorantPotential"]

SIZES: dict[str, dict[str, Any]] = {
    "small": {"complex": False, "channels": 16, "num_levels": 2, "lmax": 2},
    "medium": {"complex": False, "channels": 32, "num_levels": 2, "lmax": 2},
    "large": {"complex": False, "channels": 32, "num_levels": 2, "lmax": 3},
    "complex": {"complex": True, "channels": 16, "num_levels": 3, "lmax": 2},
}
"""Named sizes. ``"complex"`` is what was the default before there were others."""
DEFAULTS: dict[str, Any] = {
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


class CormorantPotential(Potential):
    r"""A potential for force fields: smooth, additive, equal for mirror images.

    What differs from :class:`~torch_cormorant.Cormorant`, and why:

    - ``paths="even"``: enantiomers get equal energies.
    - Bounded radial functions under an envelope with two vanishing derivatives: energy,
      forces and their slopes are continuous when an atom passes the cutoff.
    - A norm after every level: bounded features when atoms come close.
    - SiLU: the published LeakyReLU makes forces jump.
    - Head ``"extensive"``: far fragments add up, per-atom energies exist.
    - References of atoms in float64 (``info.normalisation``): see
      :meth:`.Potential.set_units`.
    - Optional repulsion at distances that no training data holds.

    Args:
        species: Atomic numbers that may occur. Default H C N O F.
        repulsion: ``"zbl"``: add :class:`~torch_cormorant.nn.ZBL`; None (default).
        energy_unit: Unit of energies, ``"eV"`` (default) or ``"kcal/mol"``.
        size: Of the network: ``"small"``, ``"medium"`` (default) or ``"large"``, 2
            levels of 16 real channels and lmax 2, 32 and 2, 32 and 3; or ``"complex"``,
            3 levels of 16 complex channels and lmax 2. What each costs and reaches
            stands on the page *Trained on forces*.
        **kwargs: As :class:`~torch_cormorant.Cormorant`, before those of the size.
            Defaults here: cutoff 5 A, 8 radial functions, masks that start at 3 A.

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
        size: str = "medium",
        **kwargs: Any,
    ) -> None:
        if size not in SIZES:
            raise ConfigError(f"size must be one of {tuple(SIZES)}, got {size!r}")
        if energy_unit not in ("eV", "kcal/mol"):
            msg = f'energy_unit must be "eV" or "kcal/mol", got {energy_unit!r}'
            raise ConfigError(msg)
        if repulsion not in (None, "zbl"):
            msg = f'repulsion must be "zbl" or None, got {repulsion!r}'
            raise ConfigError(msg)
        options = {**DEFAULTS, **SIZES[size], **kwargs}
        _check_options(options)
        options.setdefault("soft_radius", 3.0)
        network = CormorantNetwork(species, **options)
        _check_parts(network)
        super().__init__(network, repulsion, energy_unit=energy_unit)

    @property
    def config(self) -> dict[str, Any]:
        """The arguments of the constructor as plain values."""
        own = {"repulsion": self.pair and "zbl", "energy_unit": self.energy_unit}
        return {**self.network.config, **own}


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
    if options["cutoff"] is None or not is_smooth(options.get("cutoff_type", ())):
        msg = (
            "a potential needs a cutoff in Angstrom with a smooth end, got cutoff="
            f"{options['cutoff']}, cutoff_type={options.get('cutoff_type', ())!r}; "
            "Cormorant(...) takes anything"
        )
        raise ConfigError(msg)


def _check_parts(model: CormorantNetwork) -> None:
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
