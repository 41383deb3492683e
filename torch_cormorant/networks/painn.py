r"""PaiNN: scalars and vectors on atoms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from torch_cormorant.conv import PaiNNConv
from torch_cormorant.networks.base import register_network
from torch_cormorant.networks.checks import check_counts
from torch_cormorant.networks.original import WithOriginal
from torch_cormorant.networks.original_painn import OriginalPaiNN
from torch_cormorant.networks.radial_weights import WithRadialWeights
from torch_cormorant.nn.envelopes import Envelope
from torch_cormorant.nn.heads import HeadSpec, LevelSizes
from torch_cormorant.nn.mlp import enveloped
from torch_cormorant.nn.radial import RadialSpec, make_radial
from torch_cormorant.ops import EdgeGeometry
from torch_cormorant.ops.weighted_sum import Weights
from torch_cormorant.so3.flat import as_packed

__all__ = ["PaiNN"]
NUM_ELEMENTS = 100
"""Rows of embeddings, as in SchNetPack and torch-geometric: one for each number."""


@register_network("painn")
class PaiNN(WithOriginal, WithRadialWeights):
    r"""`PaiNN <https://arxiv.org/abs/2102.03150>`_ (Schütt, Unke, Gastegger 2021).

    An embedding of the species, then levels of
    :class:`~torch_cormorant.conv.PaiNNConv`. Vectors of the last level are there for
    heads that want them (``"dipole"``); energies are made of its scalars.

    Args:
        species: Atomic numbers that may occur. Default H C N O F.
        cutoff: In Angstrom. Default 5.
        channels: Scalars and vectors of an atom. Default 64.
        num_levels: Rounds of messages. Default 3.
        basis: Radial functions. Default ``"gaussian_basis"``.
        num_basis: Number of them. Default 20.
        envelope: A name of :class:`~torch_cormorant.nn.Envelope`, or its arguments
            without the cutoff. Default ``"cosine"``.
        epsilon: Under the root of norms. Default 1e-8.
        shared_levels: All levels have the same weights, but for their filters. Default
            False.
        shared_filters: All levels have the same filters. Default False.
        num_targets: Outputs per molecule. Default 1.
        head: As in :class:`~torch_cormorant.Cormorant`. Default: ``"atomwise"`` with
            one hidden layer of half the channels.

    Example:
        >>> import torch
        >>> from torch_cormorant.networks import PaiNN
        >>> network = PaiNN([1, 8], channels=8, num_levels=2)
        >>> z, pos = torch.tensor([8, 1]), torch.tensor([[0.0, 0, 0], [0, 0, 1.0]])
        >>> tuple(network(z, pos).shape)
        (1, 1)
    """

    self_edges = False
    smooth_cutoff = True
    original = OriginalPaiNN()

    def __init__(
        self,
        species: Sequence[int] = (1, 6, 7, 8, 9),
        *,
        cutoff: float = 5.0,
        channels: int = 64,
        num_levels: int = 3,
        basis: RadialSpec = "gaussian_basis",
        num_basis: int = 20,
        envelope: str | Mapping[str, Any] = "cosine",
        epsilon: float = 1e-8,
        shared_levels: bool = False,
        shared_filters: bool = False,
        num_targets: int = 1,
        head: HeadSpec | Sequence[HeadSpec] | None = None,
    ) -> None:
        super().__init__(species, cutoff)
        check_counts({"channels": channels, "num_levels": num_levels})
        self.channels, self.num_levels = channels, num_levels
        self.hops = num_levels
        self.embedding = nn.Embedding(NUM_ELEMENTS, channels)
        self.basis = make_radial(
            basis, num_basis=num_basis, cutoff=cutoff, complex=False
        )
        end = {"kind": envelope} if isinstance(envelope, str) else dict(envelope)
        self.envelope = Envelope(**end, cutoff=cutoff)
        count = 1 if shared_filters else num_levels
        self.filters = nn.ModuleList(
            nn.Linear(self.basis.out_channels, 3 * channels) for _ in range(count)
        )
        self.convs = nn.ModuleList(
            PaiNNConv(channels, cutoff=None, epsilon=epsilon)
            for _ in range(1 if shared_levels else num_levels)
        )
        default = {"kind": "atomwise", "layers": [max(1, channels // 2)]}
        self.set_head(
            default if head is None else head,
            LevelSizes((channels,), (1,), 1, inputs=channels),
            num_targets,
            species=range(NUM_ELEMENTS),
        )

    def start(self, z: Tensor) -> Tensor:
        """The embedding ``[N, C]``: vectors are zero."""
        x: Tensor = self.embedding(z)
        return x

    def level(
        self, s: int, x: Tensor, z: Tensor, geometry: EdgeGeometry, weights: Weights
    ) -> Tensor:
        """Message and update, to ``[N, 4 C]``."""
        del z
        conv, count = self.convs[min(s, len(self.convs) - 1)], geometry.num_targets
        given = x if count == len(x) else (x, x[:count])
        out: Tensor = conv(given, geometry, edge_weight=weights)
        return out

    def level_sizes(self) -> list[tuple[int, int]]:
        """Scalars and vectors, and three filters."""
        return [(4 * self.channels, 3 * self.channels)] * self.num_levels

    def radial_weights(self, x: Tensor, levels: Iterable[int]) -> Iterator[Weights]:
        """Filters times envelope, ``[E, 3 C]`` each."""
        u, rows = self.envelope(x).unsqueeze(-1), self.basis(x)
        filters: Any = [self.filters[min(s, len(self.filters) - 1)] for s in levels]
        return enveloped(filters, rows, u)

    def coordinate(self, z: Tensor, geometry: EdgeGeometry) -> Tensor:
        """The length, made together with the harmonics."""
        del z
        geometry.prepare(1)
        return geometry.pair_length

    def levels_of(self, x: Tensor, terms: Tensor | None) -> list[Tensor]:
        """Scalars and vectors of the last level ``[N, 4, 1, C]``."""
        del terms
        return [as_packed(x, self.convs[0].irreps)]

    def invariants(self, levels: Sequence[Tensor]) -> Tensor:
        """The scalars ``[N, C]``."""
        return levels[-1][:, 0, 0]

    def facts(self) -> dict[str, Any]:
        """Those of every network, and the radial functions."""
        return {
            **super().facts(),
            "basis": str(self.basis),
            "envelope": str(self.envelope),
        }
