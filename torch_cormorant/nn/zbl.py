"""Repulsion of atoms that come too close, which no training data shows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from torch_cormorant.errors import ConfigError
from torch_cormorant.nn.cutoff import envelope
from torch_cormorant.nn.pairs import Pair
from torch_cormorant.nn.parts import Registry
from torch_cormorant.ops.autocast import weights_precision
from torch_cormorant.ops.segment import scatter_sum

__all__ = ["COULOMB", "COVALENT_RADII", "PAIR_PARTS", "ZBL", "zbl_energy"]

COULOMB = {"eV": 14.399645478, "kcal/mol": 332.06371330}
r""":math:`e^2 / 4 \pi \epsilon_0` in Angstrom times each energy unit (CODATA 2018)."""
BOHR = 0.529177210903
"""Angstrom."""
SCREENING = (
    (0.18175, 3.19980),
    (0.50986, 0.94229),
    (0.28022, 0.40290),
    (0.02817, 0.20162),
)
"""Amplitudes and decay rates of the universal screening function."""
# Cordero et al. 2008, elements 1 to 96 (low spin where it matters), in Angstrom.
COVALENT_RADII = (
    *(0.31, 0.28, 1.28, 0.96, 0.84, 0.76, 0.71, 0.66, 0.57, 0.58),
    *(1.66, 1.41, 1.21, 1.11, 1.07, 1.05, 1.02, 1.06, 2.03, 1.76),
    *(1.70, 1.60, 1.53, 1.39, 1.39, 1.32, 1.26, 1.24, 1.32, 1.22),
    *(1.22, 1.20, 1.19, 1.20, 1.20, 1.16, 2.20, 1.95, 1.90, 1.75),
    *(1.64, 1.54, 1.47, 1.46, 1.42, 1.39, 1.45, 1.44, 1.42, 1.39),
    *(1.39, 1.38, 1.39, 1.40, 2.44, 2.15, 2.07, 2.04, 2.03, 2.01),
    *(1.99, 1.98, 1.98, 1.96, 1.94, 1.92, 1.92, 1.89, 1.90, 1.87),
    *(1.87, 1.75, 1.70, 1.62, 1.51, 1.44, 1.41, 1.36, 1.36, 1.32),
    *(1.45, 1.46, 1.48, 1.40, 1.50, 1.50, 2.60, 2.21, 2.15, 2.06),
    *(2.00, 1.96, 1.90, 1.87, 1.80, 1.69),
)


def zbl_energy(
    length: Tensor, z_source: Tensor, z_target: Tensor, unit: str = "eV"
) -> Tensor:
    r"""Screened repulsion of two nuclei (Ziegler, Biersack and Littmark 1985).

    .. math::
        V(r) = \frac{e^2}{4 \pi \epsilon_0} \frac{Z_1 Z_2}{r} \,
        \phi\Big(\frac{r}{a}\Big), \quad
        a = \frac{0.8854 \, a_0}{Z_1^{0.23} + Z_2^{0.23}}, \quad
        \phi(x) = \sum_k c_k e^{-d_k x}

    Args:
        length: Distances in Angstrom, positive.
        z_source: Atomic numbers.
        z_target: Atomic numbers.
        unit: ``"eV"`` (default) or ``"kcal/mol"``.

    Shapes:
        All ``[P]``.

    Returns:
        ``[P]``, not switched off anywhere.

    Raises:
        ConfigError: The unit is not known.

    Example:
        >>> import torch
        >>> six = torch.tensor([6])
        >>> zbl_energy(torch.tensor([0.5], dtype=torch.float64), six, six).round()
        tensor([120.], dtype=torch.float64)
    """
    if unit not in COULOMB:
        msg = f"unit must be one of {sorted(COULOMB)}, got {unit!r}"
        raise ConfigError(msg)
    first, second = z_source.to(length.dtype), z_target.to(length.dtype)
    x = length * (first**0.23 + second**0.23) / (0.8854 * BOHR)
    screened = sum(c * torch.exp(-d * x) for c, d in SCREENING)
    return COULOMB[unit] * first * second / length * screened


class ZBL(Pair):
    r"""ZBL repulsion, switched off smoothly at the length of a bond.

    .. math:: E_i = \frac{1}{2} \sum_{j} V(r_{ij}) \, u(r_{ij} / r_{ij}^{max})

    with :func:`zbl_energy`, the C2 polynomial of
    :func:`~torch_cormorant.nn.envelope`, and ``scale`` times the sum of the covalent
    radii as :math:`r^{max}`: nothing is left at the distance of bonded atoms.

    Args:
        species: Atomic numbers that may occur, at most 96.
        unit: ``"eV"`` (default) or ``"kcal/mol"``.
        scale: Factor on the sum of covalent radii. Default 1.

    Raises:
        ConfigError: The unit, an element or the factor is not known.

    Example:
        >>> import torch
        >>> zbl = ZBL([1, 6])
        >>> vec = torch.tensor([[0.0, 0, 0.5], [0, 0, -0.5]])
        >>> index = torch.tensor([[0, 1], [1, 0]])
        >>> energies = zbl(torch.tensor([6, 1]), index, vec)
        >>> bool(energies[0] == energies[1]), bool(energies[0] > 1)
        (True, True)
    """

    kind = "zbl"
    hundredths: Tensor

    def __init__(
        self, species: Sequence[int], unit: str = "eV", *, scale: float = 1.0
    ) -> None:
        super().__init__()
        unknown = [z for z in species if not 1 <= z <= len(COVALENT_RADII)]
        if unknown or unit not in COULOMB or not scale > 0:
            msg = (
                f"ZBL knows atomic numbers 1 to {len(COVALENT_RADII)}, the units "
                f"{sorted(COULOMB)} and positive scales, got {list(species)}, "
                f"{unit!r} and {scale}"
            )
            raise ConfigError(msg)
        self.unit, self.scale = unit, float(scale)
        self.reach = 2 * scale * max(COVALENT_RADII[z - 1] for z in species)
        # hundredths of an Angstrom: ``model.float()`` must not round the table
        table = [0, *(round(100 * radius) for radius in COVALENT_RADII)]
        self.register_buffer("hundredths", torch.tensor(table), persistent=False)

    @weights_precision
    def forward(self, z: Tensor, edge_index: Tensor, edge_vec: Tensor) -> Tensor:
        """Energy of every atom.

        Args:
            z: Atomic numbers ``[N]``.
            edge_index: ``[2, E]``; edges longer than a bond and self edges add nothing.
            edge_vec: ``[E, 3]`` in Angstrom.

        Returns:
            ``[N]`` in float64.
        """
        z = z.long()  # uint8 would be taken for a mask
        source, target = edge_index
        vec = edge_vec.double()
        whole = self.hundredths[z[source]] + self.hundredths[z[target]]
        last = whole.double() * (self.scale / 100)
        squared = vec.detach().square().sum(1)
        near = ~((squared == 0) | (squared >= last.square()))  # NaN stays NaN
        if vec.is_cuda:
            # how many there are must be known for rows: a GPU would be waited for.
            # The others get a length at which nothing is left.
            square = torch.where(near, vec.square().sum(1), 1.0)
            length = torch.where(near, square.sqrt(), last)
        else:
            rows = near.nonzero().flatten()
            source, target, last = source[rows], target[rows], last[rows]
            length = vec[rows].square().sum(1).sqrt()
        energy = zbl_energy(length, z[source], z[target], self.unit)
        switched = 0.5 * energy * envelope(length / last, 1.0)
        return scatter_sum(switched, target, z.shape[0], validate=not vec.is_cuda)

    def of_all_pairs(self, z: Tensor, edge_index: Tensor, edge_vec: Tensor) -> Tensor:
        """The same, for tracing: far pairs add zero instead of being left out."""
        source, target = edge_index
        whole = self.hundredths[z[source]] + self.hundredths[z[target]]
        last = whole.double() * (self.scale / 100)
        squared = edge_vec.double().square().sum(1)
        near = (squared.detach() > 0) & (squared.detach() < last.square())
        length = torch.where(near, squared, last.square()).sqrt()
        energy = zbl_energy(length, z[source], z[target], self.unit)
        switched = 0.5 * energy * envelope(length / last, 1.0)
        total = switched.new_zeros(z.shape[0])
        return total.index_add(0, target, torch.where(near, switched, 0.0))

    def extra_repr(self) -> str:
        """Unit and largest reach."""
        return f"unit={self.unit!r}, reach={self.reach:.3g}"


PAIR_PARTS: Registry[Pair] = Registry("pair", Pair, {"zbl": ZBL})
