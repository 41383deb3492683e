r"""NequIP: features of any degree and parity on atoms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from torch_cormorant.conv import NequIPConv
from torch_cormorant.errors import ConfigError
from torch_cormorant.irreps import Irreps
from torch_cormorant.networks.base import register_network
from torch_cormorant.networks.building import per_level
from torch_cormorant.networks.checks import check_counts
from torch_cormorant.networks.edge_cutoffs import parts_of_cutoffs, reciprocals
from torch_cormorant.networks.nequip_zbl import UNITS, nequip_zbl
from torch_cormorant.networks.original import WithOriginal
from torch_cormorant.networks.original_nequip import OriginalNequIP
from torch_cormorant.networks.radial_weights import WithRadialWeights
from torch_cormorant.nn.bases import BesselBasis
from torch_cormorant.nn.envelopes import polynomial_cutoff
from torch_cormorant.nn.heads import HeadSpec, LevelSizes
from torch_cormorant.nn.mlp import MLP
from torch_cormorant.nn.species import SpeciesIndex
from torch_cormorant.ops import EdgeGeometry
from torch_cormorant.ops.segment import scatter_sum
from torch_cormorant.ops.weighted_sum import Weights

__all__ = ["NequIP"]


@register_network("nequip")
class NequIP(WithOriginal, WithRadialWeights):
    r"""`NequIP <https://doi.org/10.1038/s41467-022-29939-5>`_ (Batzner et al. 2022).

    An embedding of the species, then levels of
    :class:`~torch_cormorant.conv.NequIPConv`, the last with even scalars only. Energies
    are linear in them, or an MLP of them.

    Args:
        species: Atomic numbers that may occur, in the order of the rows of weights.
            Default H C N O F.
        cutoff: In Angstrom. Default 5.
        channels: Copies of every irrep; or one number for each degree. Default 32.
        num_levels: Rounds of messages. Default 4.
        lmax: Largest degree. Default 1.
        parity: Features of both parities at every degree; False: only :math:`(-1)^l`.
            Default True.
        embedding: Width of the embedding. Default: channels of degree 0.
        num_basis: Bessel functions. Default 8.
        trainable_basis: Learn their frequencies. Default False.
        power: Of the polynomial envelope. Default 6.
        radial: Widths of the hidden layers of the radial MLPs. Default (64, 64).
        avg_num_neighbors: Neighbours within the cutoff; or one number for each of
            ``species``. Default 8.
        edge_cutoffs: Smaller cutoffs for pairs of species, rows: the receiver, in the
            order of ``species``. Default: ``cutoff`` for all.
        zbl: ``"metal"`` (eV) or ``"real"`` (kcal/mol): add the repulsion of the nequip
            package to the result, for its weights. New potentials have their own.
            Default None.
        constants: Of the gates, as in
            :func:`~torch_cormorant.nn.moment_factor`. Default ``"exact"``.
        num_targets: Outputs per molecule. Default 1.
        head: As in :class:`~torch_cormorant.Cormorant`. Default: ``"atomwise"``, linear
            without bias, so that atoms without neighbours have no energy.

    Raises:
        ConfigError, SpeciesError: An argument is out of range.

    Example:
        >>> import torch
        >>> from torch_cormorant.networks import NequIP
        >>> network = NequIP([1, 8], channels=4, num_levels=2)
        >>> z, pos = torch.tensor([8, 1]), torch.tensor([[0.0, 0, 0], [0, 0, 1.0]])
        >>> tuple(network(z, pos).shape)
        (1, 1)
    """

    self_edges = False
    smooth_cutoff = True
    original = OriginalNequIP()
    recip: Tensor

    def __init__(
        self,
        species: Sequence[int] = (1, 6, 7, 8, 9),
        *,
        cutoff: float = 5.0,
        channels: int | Sequence[int] = 32,
        num_levels: int = 4,
        lmax: int = 1,
        parity: bool = True,
        embedding: int | None = None,
        num_basis: int = 8,
        trainable_basis: bool = False,
        power: float = 6.0,
        radial: Sequence[int] = (64, 64),
        avg_num_neighbors: float | Sequence[float] = 8.0,
        edge_cutoffs: Sequence[Sequence[float]] | None = None,
        zbl: str | None = None,
        constants: str = "exact",
        num_targets: int = 1,
        head: HeadSpec | Sequence[HeadSpec] | None = None,
    ) -> None:
        super().__init__(species, cutoff)
        counts = per_level(channels, lmax + 1, "channels")
        width = counts[0] if embedding is None else embedding
        check_counts({"num_levels": num_levels, "embedding": width})
        self.radius, self.hops, self.power, self.zbl = cutoff, num_levels, power, zbl
        self.constants = constants
        if zbl not in (None, *UNITS):
            msg = f"zbl must be one of {tuple(UNITS)} or None, got {zbl!r}"
            raise ConfigError(msg)
        self.index = SpeciesIndex(species)
        self.embedding = nn.Embedding(len(species), width)
        self.basis = BesselBasis(num_basis, 1.0, trainable=trainable_basis)
        self.register_buffer("recip", reciprocals(cutoff, edge_cutoffs, len(species)))
        parities = [(1, -1) if parity else ((-1) ** l,) for l in range(lmax + 1)]
        hidden = Irreps(
            [(counts[l], (l, p)) for l, ps in enumerate(parities) for p in ps]
        )
        self.convs, self.radials = nn.ModuleList(), nn.ModuleList()
        irreps = Irreps([(width, (0, 1))])
        for s in range(num_levels):
            last = s == num_levels - 1
            conv = NequIPConv(
                irreps,
                Irreps([(counts[0], (0, 1))]) if last else hidden,
                num_attr=width if s else 0,
                lmax_sh=lmax,
                cutoff=None,
                avg_num_neighbors=avg_num_neighbors,
                constants=constants,
            )
            mlp = MLP([num_basis, *radial, conv.paths.weight_numel])
            conv.scale_paths(mlp)
            self.convs.append(conv)
            self.radials.append(mlp)
            irreps = conv.irreps_out
        sizes = LevelSizes.of_scalars(counts[0], *([1] if zbl else []))
        default = {"kind": "atomwise", "bias": False, "pair": zbl is not None}
        self.set_head(
            default if head is None else head,
            sizes,
            num_targets,
            species=tuple(species),
        )

    def start(self, z: Tensor) -> Tensor:
        """The embedding ``[N, embedding]``."""
        return self._table().index_select(0, self.index(z))

    def _table(self) -> Tensor:
        """The embedding of every species: rows of a type, whose products are few."""
        every = torch.arange(len(self.index.species), device=self.recip.device)
        table: Tensor = self.embedding(every)
        return table

    def level(
        self, s: int, x: Tensor, z: Tensor, geometry: EdgeGeometry, weights: Weights
    ) -> Tensor:
        """One interaction; rows of ``convs[s].irreps_in`` to ``irreps_out``."""
        conv, types, count = self.convs[s], self.index(z), geometry.num_targets
        whole = count == len(x)
        out: Tensor = conv(
            x if whole else (x, x[:count]),
            geometry,
            node_attr=None if conv.connection is None else self._table(),
            node_type=types if whole else (types, types[:count]),
            edge_weight=weights,
        )
        return out

    def level_sizes(self) -> list[tuple[int, int]]:
        """Of rows and of paths."""
        convs: Any = self.convs
        return [(conv.irreps_in.dim, conv.paths.weight_numel) for conv in convs]

    @property
    def span(self) -> float:
        """1.0, as the functions depend on lengths as parts of the cutoff."""
        return 1.0

    def radial_weights(self, x: Tensor, levels: Iterable[int]) -> Iterator[Weights]:
        """MLPs of Bessel functions under the envelope, see :meth:`basis_rows`."""
        rows = self.basis_rows(x)
        for s in levels:
            yield self.radials[s](rows)

    def basis_rows(self, x: Tensor) -> Tensor:
        r"""Bessel functions under the envelope ``[E, num_basis]``.

        :math:`2 / r_c^2 \, \sin(\omega_n x) / x \, u(x)`, x being the length as a part
        of the cutoff.
        """
        factor = polynomial_cutoff(x, self.power) * (2 / self.radius**2)
        rows: Tensor = self.basis(x) * factor.unsqueeze(-1)
        return rows

    def coordinate(self, z: Tensor, geometry: EdgeGeometry) -> Tensor:
        """Lengths as parts of the cutoffs, of pairs or of edges."""
        return parts_of_cutoffs(self.recip, self.index(z), geometry)

    def to_edges(self, rows: Tensor, geometry: EdgeGeometry) -> Tensor:
        """Rows of what :meth:`coordinate` gives as rows of edges."""
        return geometry.to_edges(rows) if self.recip.numel() == 1 else rows

    def edge_terms(self, z: Tensor, geometry: EdgeGeometry) -> Tensor | None:
        """The repulsion of every atom ``[N, 1]`` with ``zbl``."""
        if self.zbl is None:
            return None
        source, target = geometry.edge_index
        x = self.to_edges(self.coordinate(z, geometry), geometry)
        energy = nequip_zbl(geometry.edge_length, x, z[source], z[target], self.zbl)
        sums = scatter_sum(energy, target, geometry.num_targets, validate=False)
        return sums.unsqueeze(1)

    def facts(self) -> dict[str, Any]:
        """Those of every network, and what else decides numbers."""
        return {
            **super().facts(),
            "rows": list(self.index.species),
            "power": self.power,
            "zbl": self.zbl,
        }
