r"""Heads for vectors and tensors, and for numbers that come from them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from torch_cormorant.errors import ConfigError
from torch_cormorant.nn.heads.base import Head, HeadInput, LevelSizes, rows_of
from torch_cormorant.nn.heads.cartesian import (
    matrix_from_degree_2,
    vector_from_degree_1,
)
from torch_cormorant.nn.heads.contraction import Contraction
from torch_cormorant.ops.autocast import weights_precision
from torch_cormorant.so3.layout import check_degree

EXTENT = 5.0
"""Unit of distances in the spatial extent, in Angstrom."""


class SO3Head(Head):
    r"""An SO3-vector of any degree for each molecule or for each atom.

    .. math:: y^l = \sum_i u_i^l \quad\text{or}\quad y_i^l = u_i^l

    with :math:`u_i` of :class:`Contraction`. Degree 1 comes as x, y, z; a higher degree
    in the packed order m = -l..l, to be turned by ``wigner_D``.

    Args:
        sizes: Sizes of the levels.
        num_targets: Number of vectors. Default 1.
        degree: Degree l. Default 1.
        per_atom: One vector for each atom instead of their sum. Default False.
        hidden: Width of the hidden layer. Default 256.
        act: Activation. Default ``"silu"``.

    Note:
        With ``paths="even"`` in the levels, vectors change sign under inversion as
        positions do (the parity of degree l is (-1)^l); with all paths nothing is
        claimed for reflections.
    """

    kind = "so3"
    scale_only = True

    def __init__(
        self,
        sizes: LevelSizes,
        num_targets: int = 1,
        *,
        degree: int = 1,
        per_atom: bool = False,
        hidden: int = 256,
        act: str = "silu",
    ) -> None:
        super().__init__()
        self.degree, self.per_atom = check_degree(degree, "degree"), per_atom
        self.shape = rows_of(num_targets, 2 * degree + 1) if degree else (num_targets,)
        self.scale_only = degree > 0
        self.contraction = Contraction(
            sizes, [degree], num_targets, hidden=hidden, act=act
        )

    @weights_precision
    def forward(self, atoms: HeadInput) -> Tensor:
        """``[B or N, 2l + 1]``, or ``[B or N, num_targets, 2l + 1]``."""
        (found,) = self.contraction(atoms)
        if self.degree == 1:
            found = vector_from_degree_1(found)
        rows = found if self.per_atom else atoms.sum(found)
        return rows.transpose(1, 2).reshape(-1, *self.shape)

    def last_layers(self) -> list[nn.Linear]:
        """The last layer of the weights."""
        return [self.contraction.last]

    def extra_repr(self) -> str:
        """Degree and rows."""
        return f"degree={self.degree}, per_atom={self.per_atom}"


class DipoleHead(Head):
    r"""The dipole moment of a molecule: charges times positions, and atomic dipoles.

    .. math::
        \mu = \sum_i \Big( \big(q_i - \tfrac1N \textstyle\sum_j q_j\big)
        (r_i - \bar r) + \mu_i \Big)

    The charges are made neutral, so the origin drops out exactly. The dipole of a
    charged molecule, which depends on it, is not described; that of a periodic cell
    neither.

    Args:
        sizes: Sizes of the levels; one must have degree 1.
        num_targets: Number of dipoles. Default 1.
        norm: Return lengths instead of vectors. Default False.
        hidden: Width of the hidden layer. Default 256.
        act: Activation. Default ``"silu"``.

    Note:
        The unit is that of the labels: a charge of 1 then means one unit per Angstrom
        (1 e = 4.803 Debye / Angstrom). The length has no gradient where it is zero;
        zero is returned there.
    """

    kind = "dipole"
    scale_only = True

    def __init__(
        self,
        sizes: LevelSizes,
        num_targets: int = 1,
        *,
        norm: bool = False,
        hidden: int = 256,
        act: str = "silu",
    ) -> None:
        super().__init__()
        self.norm = norm
        self.kind = "dipole_norm" if norm else "dipole"
        self.nonnegative = norm
        self.shape = (num_targets,) if norm else rows_of(num_targets, 3)
        self.contraction = Contraction(
            sizes, [0, 1], num_targets, hidden=hidden, act=act
        )

    @weights_precision
    def forward(self, atoms: HeadInput) -> Tensor:
        """``[B, 3]`` (``[B, num_targets, 3]`` for several), or the lengths."""
        charge, own = self.contraction(atoms)
        centred = _centred(atoms, atoms.positions(self.kind))
        charge = charge - atoms.mean(charge)[atoms.batch]
        moved = centred.to(charge).unsqueeze(-1) * charge
        total = atoms.sum(moved + vector_from_degree_1(own))
        if self.norm:
            return _length(total)
        return total.transpose(1, 2).reshape(-1, *self.shape)

    @weights_precision
    def charges(self, atoms: HeadInput) -> Tensor:
        """The neutral charges ``[N, num_targets]``."""
        charge = self.contraction(atoms)[0]
        neutral: Tensor = charge - atoms.mean(charge)[atoms.batch]
        return neutral.squeeze(1)

    def last_layers(self) -> list[nn.Linear]:
        """The last layer of charges and weights."""
        return [self.contraction.last]

    def extra_repr(self) -> str:
        """Vector or length."""
        return f"norm={self.norm}"


class SpatialExtentHead(Head):
    r"""Electronic spatial extent: charges times squared distance to the centre.

    .. math::
        \langle R^2 \rangle = \sum_i \big( n_i |r_i - c|^2 / r_0^2 + e_i \big), \qquad
        c = \frac{\sum_i Z_i r_i}{\sum_i Z_i}

    with a number :math:`n_i` for the electrons at atom i, their own extent :math:`e_i`
    and :math:`r_0` = 5 Angstrom, which brings both to one size. The centre of
    nuclear charge is the origin that quantum chemistry programs take.

    Args:
        sizes: Sizes of the levels.
        num_targets: Number of outputs. Default 1.
        hidden: Width of the hidden layer. Default 256.
        act: Activation. Default ``"silu"``.
    """

    kind = "spatial_extent"

    def __init__(
        self,
        sizes: LevelSizes,
        num_targets: int = 1,
        *,
        hidden: int = 256,
        act: str = "silu",
    ) -> None:
        super().__init__()
        self.shape = (num_targets,)
        self.contraction = Contraction(
            sizes, [0, 0], num_targets, hidden=hidden, act=act
        )

    @weights_precision
    def forward(self, atoms: HeadInput) -> Tensor:
        """``[B, num_targets]``."""
        electrons, own = self.contraction(atoms)
        pos = atoms.positions(self.kind)
        centred = _centred(atoms, pos, atoms.numbers(self.kind).to(pos.dtype))
        square = (centred / EXTENT).square().sum(-1, keepdim=True).to(own)
        return atoms.sum(electrons.squeeze(1) * square + own.squeeze(1))

    def last_layers(self) -> list[nn.Linear]:
        """The last layer of both numbers."""
        return [self.contraction.last]


class PolarizabilityHead(Head):
    r"""The polarizability tensor of a molecule, degrees 0 and 2.

    .. math::
        \alpha = \sum_i \Big( a_i 1 + Q_i + \tfrac12 \big(
        \nu_i (r_i - \bar r)^T + (r_i - \bar r) \nu_i^T \big) \Big)

    :math:`a_i` and :math:`Q_i` (symmetric, no trace) answer on the atom itself;
    :math:`\nu_i`, with its mean over the molecule subtracted, is charge that a field
    moves from atom to atom. Symmetric, and independent of the origin.

    Args:
        sizes: Sizes of the levels; one must have degree 2.
        num_targets: Number of tensors. Default 1.
        trace: Return the traces instead. Default False. (The isotropic polarizability
            is a third of it.)
        hidden: Width of the hidden layer. Default 256.
        act: Activation. Default ``"silu"``.
    """

    kind = "polarizability"

    def __init__(
        self,
        sizes: LevelSizes,
        num_targets: int = 1,
        *,
        trace: bool = False,
        hidden: int = 256,
        act: str = "silu",
    ) -> None:
        super().__init__()
        self.trace = trace
        self.kind = "polarizability_trace" if trace else "polarizability"
        self.scale_only = self.symmetric = not trace
        self.reference = "composition" if trace else None
        self.shape = (num_targets,) if trace else rows_of(num_targets, 3, 3)
        degrees = [0, 1] if trace else [0, 1, 2]
        self.contraction = Contraction(
            sizes, degrees, num_targets, hidden=hidden, act=act
        )

    @weights_precision
    def forward(self, atoms: HeadInput) -> Tensor:
        """``[B, 3, 3]`` (``[B, num_targets, 3, 3]`` for several), or the traces."""
        own, flow, *rest = self.contraction(atoms)
        flow = vector_from_degree_1(flow)
        flow = flow - atoms.mean(flow)[atoms.batch]
        place = _centred(atoms, atoms.positions(self.kind)).to(flow)
        if self.trace:
            trace = (flow * place.unsqueeze(-1)).sum(1) + 3 * own.squeeze(1)
            return atoms.sum(trace)
        outer = torch.einsum("nat,nb->nabt", flow, place)
        outer = (outer + outer.transpose(1, 2)) / 2
        unit = torch.eye(3, dtype=own.dtype, device=own.device)
        local = own.unsqueeze(2) * unit.unsqueeze(-1)
        total = atoms.sum(outer + local + matrix_from_degree_2(rest[0]))
        return total.movedim(-1, 1).reshape(-1, *self.shape)

    def last_layers(self) -> list[nn.Linear]:
        """The last layer of all weights."""
        return [self.contraction.last]

    def extra_repr(self) -> str:
        """Tensor or trace."""
        return f"trace={self.trace}"


class HeadList(Head):
    """Several heads side by side, their results flattened and joined.

    Args:
        heads: The heads; all per molecule, or all per atom.

    Raises:
        ConfigError: If there is none, or some are per atom and others are not.
    """

    kind = "list"
    reference = "none"

    def __init__(self, heads: list[Head]) -> None:
        super().__init__()
        if not heads or len({head.per_atom for head in heads}) != 1:
            msg = "a list of heads needs at least one, all per molecule or all per atom"
            raise ConfigError(msg)
        self.heads = nn.ModuleList(heads)
        self.per_atom = heads[0].per_atom
        self.scale_only = any(head.scale_only for head in heads)
        self.shapes = [head.shape for head in heads]
        self.widths = [torch.Size(shape).numel() for shape in self.shapes]
        self.shape = (sum(self.widths),)
        self.made_with = {"num_targets": self.shape[0]}

    @weights_precision
    def forward(self, atoms: HeadInput) -> Tensor:
        """``[B, sum of the sizes]``, in the order of the heads."""
        return torch.cat([head(atoms).flatten(1) for head in self.heads], dim=1)

    def split(self, out: Tensor) -> list[Tensor]:
        """The results of the heads in their own shapes.

        Args:
            out: What the model returned ``[B, sum of the sizes]``.

        Returns:
            One tensor ``[B, *shape]`` for every head.
        """
        parts = zip(out.split(self.widths, dim=1), self.shapes, strict=True)
        return [part.reshape(-1, *shape) for part, shape in parts]

    def last_layers(self) -> list[nn.Linear]:
        """The last layers of all heads."""
        return [
            layer
            for head in self.heads
            if isinstance(head, Head)
            for layer in head.last_layers()
        ]


def _centred(atoms: HeadInput, pos: Tensor, weight: Tensor | None = None) -> Tensor:
    """Positions about the centre of each molecule, in their own precision."""
    if weight is None:
        return pos - atoms.mean(pos)[atoms.batch]
    total = atoms.sum(weight)
    centre = atoms.sum(weight.unsqueeze(-1) * pos)
    centre = centre / torch.where(total == 0, 1.0, total).unsqueeze(-1)
    return pos - centre[atoms.batch]


def _length(vectors: Tensor) -> Tensor:
    """Lengths over axis 1; zero, with a zero gradient, where a vector vanishes."""
    square = vectors.square().sum(1)
    positive = square > 0
    return torch.where(positive, torch.where(positive, square, 1.0).sqrt(), 0.0)
