"""Second derivatives of potentials, and the vibrations of small molecules."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from torch_cormorant.data.units import unit_factor
from torch_cormorant.errors import (
    ConfigError,
    CormorantWarning,
    DtypeError,
    ShapeError,
    SpeciesError,
)
from torch_cormorant.models.evaluation import Structures, run
from torch_cormorant.models.potential import Potential
from torch_cormorant.models.potential_masses import ATOMIC_MASSES
from torch_cormorant.ops.autocast import full_precision

__all__ = ["Vibrations", "hessian", "vibrational_frequencies"]

_EV = 1.602176634e-19  # joule
_DALTON = 1.66053906660e-27  # kilogram
_LIGHT = 299_792_458.0  # metre / second
WAVENUMBER = math.sqrt(_EV / _DALTON) * 1e10 / (2 * math.pi * 100 * _LIGHT)
"""Wavenumber in 1/cm of one eV / (Angstrom^2 u), the root of which is a frequency."""
LARGEST_FORCE = 0.05
"""Force in eV/Angstrom above which a structure is taken for unrelaxed."""
RIGID = 1e-4
"""Rigid motions whose share is below this are rotations about a linear axis."""


@dataclass(frozen=True)
class Vibrations:
    """Normal modes of a molecule.

    Attributes:
        frequencies: ``[K]`` wavenumbers in 1/cm, ascending; an imaginary frequency
            (a direction in which the energy falls) is given as a negative number.
        modes: ``[K, N, 3]`` displacements in Angstrom, each of length one when
            weighted by the roots of the masses.
    """

    frequencies: Tensor
    modes: Tensor


@full_precision
def hessian(
    model: nn.Module,
    z: Tensor,
    pos: Tensor,
    cell: Tensor | None = None,
    pbc: Tensor | bool | None = None,
) -> Tensor:
    r"""Second derivatives of the energy of one structure.

    .. math:: H_{(i a)(j b)} = \frac{\partial^2 E}{\partial r_{ia} \partial r_{jb}}

    Exact, by differentiating the forces; symmetric up to rounding.

    Args:
        model: A network with one energy.
        z: Atomic numbers ``[N]``.
        pos: Positions ``[N, 3]`` in Angstrom; not changed.
        cell: Cell vectors in rows ``[3, 3]``; None: nothing repeats.
        pbc: Which of them repeat.

    Returns:
        ``[3 N, 3 N]``, energy unit of the model per square Angstrom.

    Raises:
        CormorantError: As :meth:`.Cormorant.evaluate`.

    Example:
        >>> import torch
        >>> from torch_cormorant import Cormorant
        >>> model = Cormorant.potential([1, 8], channels=4, num_levels=1).double()
        >>> pos = torch.tensor([[0.0, 0, 0], [0, 0, 0.96]], dtype=torch.float64)
        >>> H = hessian(model, torch.tensor([8, 1]), pos)
        >>> bool((H - H.T).abs().max() < 1e-10 * H.abs().max())
        True

    Note:
        3 N backward passes, one after the other: for molecules, not for proteins.
    """
    with torch.inference_mode(mode=False), torch.enable_grad():
        leaf = pos.detach().clone().requires_grad_()
        given = Structures(z, leaf, None, cell, pbc)
        out = run(Potential.of(model), given, forces=True, stress=False, train=True)
        if out.forces is None or not out.forces.requires_grad:
            return pos.new_zeros(pos.numel(), pos.numel())
        parts = out.forces.flatten()
        rows = [
            torch.autograd.grad(part, leaf, retain_graph=True, materialize_grads=True)[
                0
            ].flatten()
            for part in parts
        ]
    return -torch.stack(rows) if rows else pos.new_zeros(0, 0)


@full_precision
def vibrational_frequencies(
    model: nn.Module,
    z: Tensor,
    pos: Tensor,
    masses: Tensor | None = None,
) -> Vibrations:
    r"""Harmonic vibrations of a molecule, translations and rotations removed.

    .. math::
        \sum_{j b} \frac{H_{(ia)(jb)}}{\sqrt{m_i m_j}} u_{jb} = \omega^2 u_{ia},
        \quad \tilde\nu = \frac{\omega}{2 \pi c}

    Args:
        model: A network with one energy, whose unit is in ``model.info.units``
            (eV, kcal/mol, Hartree, ...).
        z: Atomic numbers ``[N]``.
        pos: Positions ``[N, 3]`` in Angstrom, at a minimum of the energy (forces below
            1e-3 eV/Angstrom); elsewhere the numbers mean little, and a force above
            0.05 eV/Angstrom is warned of.
        masses: Masses ``[N]`` in u. Default: standard atomic weights.

    Returns:
        The 3 N - 6 modes (3 N - 5 of a linear molecule).

    Raises:
        ConfigError: The energy unit of the model is not stated or not understood.
        ShapeError, DtypeError: ``masses`` is not ``[N]``, not positive or no tensor.
        SpeciesError: An element has no standard weight here; give ``masses``.

    Example:
        >>> import torch
        >>> from torch_cormorant import Cormorant
        >>> options = {"channels": 4, "num_levels": 1, "energy_unit": "kcal/mol"}
        >>> model = Cormorant.potential([1, 8], **options)
        >>> z = torch.tensor([8, 1, 1])
        >>> pos = torch.tensor([[0.0, 0, 0], [0, 0, 0.96], [0, 0.93, -0.24]])
        >>> vibrational_frequencies(model, z, pos).frequencies.shape[0]
        3
    """
    factor = _energy_factor(model)
    weights = _masses(z, pos, masses)
    _warn_of_forces(model, z, pos, factor)
    second = hessian(model, z, pos).double() * factor
    root = weights.sqrt().repeat_interleave(3)
    weighted = (second + second.T) / 2 / (root.unsqueeze(0) * root.unsqueeze(1))
    inner = _internal(pos.detach().double(), weights)
    values, vectors = torch.linalg.eigh(inner.T @ weighted @ inner)
    frequencies = values.sign() * values.abs().sqrt() * WAVENUMBER
    modes = (inner @ vectors).T / root
    return Vibrations(frequencies, modes.view(len(values), pos.shape[0], 3))


def _warn_of_forces(model: nn.Module, z: Tensor, pos: Tensor, factor: float) -> None:
    forces = Potential.of(model).evaluate(z, pos.detach()).forces
    if forces is None or not forces.numel():
        return
    size = forces.detach().double().norm(dim=1) * factor
    atom = int(size.argmax())
    if float(size[atom]) > LARGEST_FORCE:
        text = (
            f"pos: the force on atom {atom} is {float(size[atom]):.3g} eV/Angstrom, so "
            "this is no minimum of the energy and the wavenumbers mean little; relax "
            "the structure first, as examples/relax.py does"
        )
        warnings.warn(text, CormorantWarning, stacklevel=3)


def _energy_factor(model: nn.Module) -> float:
    unit = Potential.of(model).info.units[0]
    if not unit:
        msg = (
            "model.info.units does not state the energy unit, without which there are "
            'no wavenumbers; make the model with Cormorant.potential(energy_unit="eV")'
        )
        raise ConfigError(msg)
    return unit_factor(unit, "eV")


def _masses(z: Tensor, pos: Tensor, masses: Tensor | None) -> Tensor:
    if masses is None:
        unknown = (z < 1) | (z > len(ATOMIC_MASSES))
        if bool(unknown.any()):
            msg = f"no standard weight for element {int(z[unknown][0])}; give masses="
            raise SpeciesError(msg)
        table = torch.tensor((0.0, *ATOMIC_MASSES), dtype=torch.float64)
        return table.to(z.device)[z.long()]
    given: object = masses  # users pass lists too
    if not isinstance(given, Tensor):
        msg = f"masses must be a tensor [{pos.shape[0]}] in u, got {masses!r}"
        raise DtypeError(msg)
    usable = (masses > 0) & masses.isfinite()
    if tuple(masses.shape) != (pos.shape[0],) or not bool(usable.all()):
        msg = f"masses must be {pos.shape[0]} positive numbers in u, got {masses}"
        raise ShapeError(msg)
    return masses.to(device=pos.device, dtype=torch.float64)


def _internal(pos: Tensor, weights: Tensor) -> Tensor:
    """Orthonormal directions ``[3 N, K]`` without rigid motions, mass-weighted."""
    count = pos.shape[0]
    if count == 0:
        return pos.new_zeros(0, 0)
    arm = pos - (weights.unsqueeze(1) * pos).sum(0) / weights.sum()
    axes = torch.eye(3, dtype=torch.float64, device=pos.device)
    shifts = axes.unsqueeze(1).expand(3, count, 3)
    turns = torch.linalg.cross(
        axes.unsqueeze(1).expand(3, count, 3), arm.unsqueeze(0).expand(3, count, 3)
    )
    scale = arm.norm(dim=1).max().clamp_min(1e-12)
    rigid = torch.cat([shifts, turns / scale]) * weights.sqrt().view(1, -1, 1)
    left, sizes, _ = torch.linalg.svd(rigid.flatten(1).T, full_matrices=True)
    rank = int((sizes > RIGID * sizes.max()).sum())
    inner: Tensor = left[:, rank:]
    return inner
