r"""Radial functions that know the elements at both ends of an edge."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from torch_cormorant.errors import ConfigError
from torch_cormorant.nn.activations import moment_factor
from torch_cormorant.nn.parts import text_of
from torch_cormorant.nn.radial import RADIAL_PARTS, Bessel, Radial
from torch_cormorant.ops.autocast import weights_precision

__all__ = ["SpeciesRadial"]


@RADIAL_PARTS.register("species")
class SpeciesRadial(Radial):
    r"""A layer of a small network over Bessel functions, one for each pair of elements.

    .. math::
        \eta_h(r_{ij}) = c \, \mathrm{silu}\Big(
        a_{h, Z_i Z_j} \sum_n W_{hn} B_n(r_{ij}) + b_{h, Z_i Z_j} \Big)

    with :math:`a` and :math:`b` equal for both orders of the elements, and the constant
    c that keeps the second moment of a normal input. The weights of the edge network
    are the second layer: the radial functions of every degree and channel are a
    network of one hidden layer. NequIP and MACE make theirs so, without the elements.

    Args:
        num_basis: Number of Bessel functions B. Default of layers: 16.
        cutoff: Their radius in Angstrom.
        hidden: Number of functions. Default 16.
        species: Number of elements; 0: all atoms are alike. The network knows it.
        complex: Pair the functions to complex channels. Default True.

    Raises:
        ConfigError: A number is out of range.

    Example:
        >>> import torch
        >>> from torch_cormorant.nn import SpeciesRadial
        >>> radial = SpeciesRadial(8, 5.0, hidden=12, species=3)
        >>> tuple(radial(torch.tensor([1.0, 2.0]), torch.tensor([0, 5])).shape)
        (2, 12)
    """

    kind = "species"
    from_network = ("species",)
    bounded = True

    def __init__(
        self,
        num_basis: int,
        cutoff: float,
        *,
        hidden: int = 16,
        species: int = 0,
        complex: bool = True,
    ) -> None:
        super().__init__(hidden, complex=complex)
        self.basis = Bessel(num_basis, cutoff, complex=False)
        self.hidden, self.species = hidden, species
        kinds = max(1, species * (species + 1) // 2)
        self.factor = moment_factor("silu", "exact")
        self.weight = nn.Parameter(torch.empty(num_basis, hidden))
        self.scale = nn.Parameter(torch.empty(kinds, hidden))
        self.shift = nn.Parameter(torch.empty(kinds, hidden))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Normal weights, scales of one, different shifts."""
        nn.init.normal_(self.weight)
        nn.init.ones_(self.scale)
        nn.init.normal_(self.shift, std=0.5)

    @weights_precision
    def forward(self, length: Tensor, kinds: Tensor | None = None) -> Tensor:
        """``[E]`` in Angstrom, kinds of pairs ``[E]`` (None: 0), to ``[E, hidden]``."""
        if kinds is None:
            kinds = torch.zeros_like(length, dtype=torch.int64)
        return self.mixed(self.basis(length), kinds)

    def mixed(self, basis: Tensor, kinds: Tensor | None) -> Tensor:
        """The functions from those of the basis ``[E, num_basis]``.

        Args:
            basis: Values of the Bessel functions.
            kinds: Kind of each pair; None: all atoms are alike.

        Raises:
            ConfigError: The kinds are missing.
        """
        self.check_kinds(kinds)
        rows: list[Tensor] = [self.scale, self.shift]
        if kinds is not None:
            rows = [row.index_select(0, kinds) for row in rows]
        scale, shift = rows
        hidden = torch.addcmul(shift, scale, basis @ self.weight)
        return self.factor * functional.silu(hidden)

    def check_kinds(self, kinds: Tensor | None) -> None:
        """Refuse pairs of unknown kind.

        Raises:
            ConfigError: The kinds are missing.
        """
        if kinds is None and self.species > 1:
            msg = (
                "radial 'species' needs to know the elements of the atoms: take it in "
                "a network, or give the layer EdgeGeometry.of_types(...)"
            )
            raise ConfigError(msg)

    def extra_repr(self) -> str:
        """The arguments, and the number of elements."""
        return f"{text_of(self)}, species={self.species}"
