"""Laws of physics that a potential obeys, measured; for trained models too.

Every function takes a model with :meth:`~torch_cormorant.Cormorant.evaluate` and one
structure. Give a float64 copy of the model (``copy.deepcopy(model).double()``) where
rounding is not what you want to measure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from torch_cormorant.models import Model, hessian
from torch_cormorant.nn.zbl import COVALENT_RADII

__all__ = [
    "DiatomicScan",
    "assert_forces_match_differences",
    "diatomic_scan",
    "force_difference_error",
    "force_jacobian_asymmetry",
    "net_force_and_torque",
    "stress_difference_error",
    "work_error",
]

STENCIL = ((1, 8.0), (-1, -8.0), (2, -1.0), (-2, 1.0))
"""Steps and weights (over 12) of the central difference of fourth order."""
GAUSS = (
    (0.5 - 0.43056815579702629, 0.17392742256872693),
    (0.5 - 0.16999052179242813, 0.32607257743127307),
    (0.5 + 0.16999052179242813, 0.32607257743127307),
    (0.5 + 0.43056815579702629, 0.17392742256872693),
)
"""Places and weights of the quadrature with four points on [0, 1]."""


def force_difference_error(
    model: Model,
    z: Tensor,
    pos: Tensor,
    cell: Tensor | None = None,
    pbc: Tensor | bool | None = None,
    step: float = 2e-4,
) -> tuple[Tensor, Tensor]:
    """Forces minus central differences of fourth order of the energy.

    Args:
        model: A network with one energy.
        z: Atomic numbers ``[N]``.
        pos: Positions ``[N, 3]`` in Angstrom.
        cell: Cell vectors in rows ``[3, 3]``.
        pbc: Which of them repeat.
        step: Displacement in Angstrom. Default 2e-4.

    Returns:
        ``(error, forces)``, each ``[N, 3]``.

    Example:
        >>> import torch
        >>> from torch_cormorant import Cormorant
        >>> model = Cormorant.potential([1, 8], channels=4, num_levels=1).double()
        >>> pos = torch.tensor([[0.0, 0, 0], [0, 0, 0.96]], dtype=torch.float64)
        >>> error, forces = force_difference_error(model, torch.tensor([8, 1]), pos)
        >>> bool(error.abs().max() < 1e-8)
        True
    """
    count = pos.numel()
    moves = step * torch.eye(count, dtype=pos.dtype, device=pos.device)
    moves = moves.view(count, *pos.shape)
    slope = torch.zeros(count, dtype=torch.float64, device=pos.device)
    batch = torch.arange(count, device=pos.device).repeat_interleave(len(pos))
    cells = None if cell is None else cell.expand(count, 3, 3)
    for factor, weight in STENCIL:
        places = (pos.detach() + factor * moves).flatten(0, 1)
        energy = model.evaluate(
            z.repeat(count), places, batch, cells, pbc, forces=False
        ).energy
        slope += weight * energy.detach()
    forces = _forces(model, z, pos, cell, pbc)
    return forces + slope.view(pos.shape) / (12 * step), forces


def assert_forces_match_differences(
    model: Model,
    z: Tensor,
    pos: Tensor,
    cell: Tensor | None = None,
    pbc: Tensor | bool | None = None,
    *,
    absolute: float = 1e-8,
    relative: float = 1e-7,
    step: float = 2e-4,
) -> None:
    """Fail unless forces are the slope of the energy.

    Args:
        model: A network with one energy, in float64.
        z: Atomic numbers ``[N]``.
        pos: Positions ``[N, 3]`` in Angstrom.
        cell: Cell vectors in rows ``[3, 3]``.
        pbc: Which of them repeat.
        absolute: Accepted error. Default 1e-8; energies of a thousand units in the
            last place need more.
        relative: Accepted error as a share of the force. Default 1e-7.
        step: Displacement in Angstrom. Default 2e-4.

    Raises:
        AssertionError: A component deviates by more, or all forces are zero.

    Example:
        >>> import torch
        >>> from torch_cormorant import Cormorant
        >>> model = Cormorant.potential([1, 8], channels=4, num_levels=1).double()
        >>> pos = torch.tensor([[0.0, 0, 0], [0, 0, 0.96]], dtype=torch.float64)
        >>> assert_forces_match_differences(model, torch.tensor([8, 1]), pos)
    """
    error, forces = force_difference_error(model, z, pos, cell, pbc, step)
    if not bool(forces.any()):
        raise AssertionError("all forces are zero, so the check says nothing")
    bad = ~(error.abs() <= absolute + relative * forces.abs())
    if bool(bad.any()):
        atom, axis = bad.nonzero()[0].tolist()
        raise AssertionError(
            f"force on atom {atom} along {'xyz'[axis]} is {float(forces[atom, axis])}, "
            f"off by {float(error[atom, axis]):.2e} from the slope of the energy"
        )


def force_jacobian_asymmetry(
    model: Model,
    z: Tensor,
    pos: Tensor,
    cell: Tensor | None = None,
    pbc: Tensor | bool | None = None,
) -> float:
    r"""How far forces are from having a potential: :math:`|J - J^T| / |J|`.

    A wrong gradient of one path of a kernel shows here even where energies are right.

    Args:
        model: A network with one energy.
        z: Atomic numbers ``[N]``.
        pos: Positions ``[N, 3]`` in Angstrom.
        cell: Cell vectors in rows ``[3, 3]``.
        pbc: Which of them repeat.

    Returns:
        The ratio of Frobenius norms, zero for an atom alone.

    Example:
        >>> import torch
        >>> from torch_cormorant import Cormorant
        >>> model = Cormorant.potential([1, 8], channels=4, num_levels=1).double()
        >>> pos = torch.tensor([[0.0, 0, 0], [0, 0, 0.96]], dtype=torch.float64)
        >>> force_jacobian_asymmetry(model, torch.tensor([8, 1]), pos) < 1e-11
        True
    """
    jacobian = hessian(model, z, pos, cell, pbc)
    size = float(jacobian.norm())
    return float((jacobian - jacobian.T).norm()) / size if size else 0.0


def net_force_and_torque(model: Model, z: Tensor, pos: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of the forces and of the torques about the centre of an isolated structure.

    Args:
        model: A network with one energy.
        z: Atomic numbers ``[N]``.
        pos: Positions ``[N, 3]`` in Angstrom.

    Returns:
        Two vectors ``[3]``, zero up to rounding.

    Example:
        >>> import torch
        >>> from torch_cormorant import Cormorant
        >>> model = Cormorant.potential([1, 8], channels=4, num_levels=1).double()
        >>> pos = torch.tensor([[0.0, 0, 0], [0, 0, 0.96]], dtype=torch.float64)
        >>> total, torque = net_force_and_torque(model, torch.tensor([8, 1]), pos)
        >>> bool(total.abs().max() < 1e-13), bool(torque.abs().max() < 1e-13)
        (True, True)
    """
    forces = _forces(model, z, pos, None, None)
    arm = pos.detach() - pos.detach().mean(0)
    return forces.sum(0), torch.linalg.cross(arm, forces).sum(0)


def stress_difference_error(
    model: Model,
    z: Tensor,
    pos: Tensor,
    cell: Tensor,
    pbc: Tensor | bool | None = None,
    step: float = 2e-5,
) -> tuple[Tensor, Tensor]:
    """Stress minus differences of fourth order of the energy of strained structures.

    Args:
        model: A network with one energy.
        z: Atomic numbers ``[N]``.
        pos: Positions ``[N, 3]`` in Angstrom.
        cell: Cell vectors in rows ``[3, 3]``.
        pbc: Which of them repeat.
        step: Strain. Default 2e-5.

    Returns:
        ``(error, stress)``, each ``[3, 3]``.

    Example:
        >>> import torch
        >>> from torch_cormorant import Cormorant
        >>> model = Cormorant.potential([1, 8], channels=4, num_levels=1).double()
        >>> pos = torch.tensor([[0.0, 0, 0], [0, 0, 0.96]], dtype=torch.float64)
        >>> cell = 4 * torch.eye(3, dtype=torch.float64)
        >>> error, _ = stress_difference_error(model, torch.tensor([8, 1]), pos, cell)
        >>> bool(error.abs().max() < 1e-8)
        True
    """
    strains = torch.eye(9, dtype=pos.dtype, device=pos.device).view(9, 3, 3)
    strains = step * (strains + strains.transpose(1, 2)) / 2
    batch = torch.arange(9, device=pos.device).repeat_interleave(len(pos))
    slope = torch.zeros(9, dtype=torch.float64, device=pos.device)
    for factor, weight in STENCIL:
        deform = torch.eye(3, dtype=pos.dtype, device=pos.device) + factor * strains
        places = (pos.detach() @ deform).flatten(0, 1)
        energy = model.evaluate(
            z.repeat(9), places, batch, cell @ deform, pbc, forces=False
        ).energy
        slope += weight * energy.detach()
    volume = torch.linalg.det(cell).abs()
    found = slope.view(3, 3) / (12 * step) / volume
    out = model.evaluate(z, pos, None, cell, pbc, forces=False, stress=True)
    stress = _given(out.stress)[0].detach()
    return stress - found, stress


def work_error(
    model: Model, z: Tensor, path: Sequence[Tensor], pieces: int = 8
) -> float:
    r"""Energy difference of a path minus the work against the forces along it.

    .. math:: \Delta E + \int F \cdot dr

    by Gauss-Legendre quadrature with four points on every piece of every straight
    segment.

    Args:
        model: A network with one energy.
        z: Atomic numbers ``[N]``.
        path: Positions ``[N, 3]`` in Angstrom, two or more.
        pieces: Pieces of every segment. Default 8.

    Returns:
        The difference in the energy unit of the model; divide by the range of the
        energy along the path to judge it.

    Example:
        >>> import torch
        >>> from torch_cormorant import Cormorant
        >>> model = Cormorant.potential([1, 8], channels=4, num_levels=1).double()
        >>> pos = torch.tensor([[0.0, 0, 0], [0, 0, 0.96]], dtype=torch.float64)
        >>> abs(work_error(model, torch.tensor([8, 1]), [pos, 1.5 * pos])) < 1e-8
        True
    """
    total = 0.0
    for start, stop in pairwise(path):
        move = (stop - start).detach()
        places, weights = [], []
        for piece in range(pieces):
            for place, weight in GAUSS:
                places.append(start.detach() + (piece + place) / pieces * move)
                weights.append(weight / pieces)
        count = len(places)
        batch = torch.arange(count, device=start.device).repeat_interleave(len(start))
        forces = _given(
            model.evaluate(z.repeat(count), torch.cat(places), batch).forces
        )
        slope = (forces.detach().view(count, -1) @ move.flatten()).double()
        total += float(slope @ torch.tensor(weights).to(slope))
    first, last = (float(_energy(model, z, pos)) for pos in (path[0], path[-1]))
    return last - first + total


@dataclass(frozen=True)
class DiatomicScan:
    """Two atoms pulled apart.

    Attributes:
        length: ``[K]`` distances in Angstrom, ascending.
        energy: ``[K]``, energy minus that of the two atoms alone.
        force: ``[K]``, positive where the atoms push each other away.
        bond: Sum of the covalent radii in Angstrom.
    """

    length: Tensor
    energy: Tensor
    force: Tensor
    bond: float

    @property
    def is_repulsive(self) -> bool:
        """Whether atoms closer than 70 % of a bond length always push apart."""
        near = self.length < 0.7 * self.bond
        return bool((self.force[near] > 0).all())

    def turns(self, shorter_than: float | None = None) -> int:
        """How often the force changes its sign: once for one well, more for wiggles.

        Args:
            shorter_than: Look at smaller distances only, in Angstrom. Default: all.

        Returns:
            The number; forces of less than 1e-3 of the largest force at a bond length
            or more are left out.
        """
        size = self.force[self.length >= self.bond].abs().max()
        force = self.force[: int((self.length < (shorter_than or math.inf)).sum())]
        signs = force[force.abs() > 1e-3 * size].sign()
        return int((signs[1:] != signs[:-1]).sum())

    @property
    def minima(self) -> int:
        """Number of minima of the energy, where the force turns attractive."""
        push = self.force > 0
        return int((push[:-1] & ~push[1:] & (self.force[1:] < 0)).sum())

    @property
    def largest_jump(self) -> float:
        """Largest change of the energy that the forces do not explain.

        Between neighbouring points from 70 % of a bond length on, the change of the
        energy minus the work against the mean of both forces.
        """
        far = self.length >= 0.7 * self.bond
        length, energy, force = self.length[far], self.energy[far], self.force[far]
        work = (force[1:] + force[:-1]) / 2 * length.diff()
        return float((energy.diff() + work).abs().max()) if len(length) > 1 else 0.0


def diatomic_scan(
    model: Model, first: int, second: int, length: Tensor | None = None
) -> DiatomicScan:
    """Energy and force of two atoms at many distances.

    Args:
        model: A network with one energy and a cutoff.
        first: Atomic number.
        second: Atomic number.
        length: Distances in Angstrom. Default: 300 from 0.2 A to the cutoff.

    Returns:
        The scan.

    Example:
        >>> from torch_cormorant import Cormorant
        >>> model = Cormorant.potential([1, 8], repulsion="zbl", num_levels=1)
        >>> diatomic_scan(model.double(), 1, 8).is_repulsive
        True
    """
    dtype = torch.float64
    if length is None:
        length = torch.linspace(0.2, model.cutoff or 10.0, 300, dtype=dtype)
    length = length.to(device=next(model.parameters()).device, dtype=dtype)
    count = len(length)
    pos = torch.zeros(count, 2, 3, dtype=dtype, device=length.device)
    pos[:, 1, 0] = length
    z = torch.tensor([first, second], device=length.device)
    batch = torch.arange(count, device=length.device).repeat_interleave(2)
    out = model.evaluate(z.repeat(count), pos.flatten(0, 1), batch)
    far = torch.zeros(2, 3, dtype=dtype, device=length.device)
    apart = model.evaluate(z, far, torch.tensor([0, 1]).to(batch), forces=False)
    force = _given(out.forces).detach().view(count, 2, 3)[:, 1, 0]
    bond = COVALENT_RADII[first - 1] + COVALENT_RADII[second - 1]
    energy = out.energy.detach() - apart.energy.detach().sum()
    return DiatomicScan(length, energy, force, bond)


def _forces(model: Model, z: Tensor, pos: Tensor, cell: Any, pbc: Any) -> Tensor:
    out = model.evaluate(z, pos.detach(), None, cell, pbc)
    return _given(out.forces).detach()


def _energy(model: Model, z: Tensor, pos: Tensor) -> Tensor:
    return model.evaluate(z, pos.detach(), forces=False).energy.detach()


def _given(value: Tensor | None) -> Tensor:
    if value is None:
        raise TypeError("the model returned nothing where a tensor was asked for")
    return value
