r"""SchNet: scalars on atoms, filters of distances."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

from torch import Tensor, nn

from torch_cormorant.conv import TensorFieldConv
from torch_cormorant.networks.base import register_network
from torch_cormorant.networks.checks import check_counts
from torch_cormorant.networks.original import WithOriginal
from torch_cormorant.networks.original_schnet import OriginalSchNet
from torch_cormorant.networks.painn import NUM_ELEMENTS
from torch_cormorant.networks.radial_weights import WithRadialWeights
from torch_cormorant.nn.activations import ShiftedSoftplus
from torch_cormorant.nn.envelopes import cosine_cutoff
from torch_cormorant.nn.heads import HeadSpec, LevelSizes
from torch_cormorant.nn.mlp import MLP, enveloped
from torch_cormorant.nn.radial import RadialSpec, make_radial
from torch_cormorant.ops import EdgeGeometry
from torch_cormorant.ops.weighted_sum import Weights

__all__ = ["SchNet"]


@register_network("schnet")
class SchNet(WithOriginal, WithRadialWeights):
    r"""`SchNet <https://arxiv.org/abs/1706.08566>`_ (Schütt et al. 2017).

    An embedding of the species, then levels of a
    :class:`~torch_cormorant.conv.TensorFieldConv` of scalars,

    .. math::
        h_i' = h_i + W_3 \, \mathrm{ssp}\Big( W_2 \sum_j (W_1 h_j) \odot
        \mathrm{MLP}(e(r_{ij})) \, u(r_{ij}) + b_2 \Big) + b_3

    with Gaussians e and the cosine envelope u.

    Args:
        species: Atomic numbers that may occur. Default H C N O F.
        cutoff: In Angstrom. Default 5.
        channels: Scalars of an atom. Default 64.
        filters: Features of the filters. Default: ``channels``.
        num_levels: Rounds of messages. Default 3.
        basis: Radial functions. Default ``"gaussian_basis"``.
        num_basis: Number of them. Default 50.
        num_targets: Outputs per molecule. Default 1.
        head: As in :class:`~torch_cormorant.Cormorant`. Default: ``"atomwise"`` with
            one hidden layer of half the channels.

    Example:
        >>> import torch
        >>> from torch_cormorant.networks import SchNet
        >>> network = SchNet([1, 8], channels=8, num_levels=2)
        >>> z, pos = torch.tensor([8, 1]), torch.tensor([[0.0, 0, 0], [0, 0, 1.0]])
        >>> tuple(network(z, pos).shape)
        (1, 1)
    """

    self_edges = False
    smooth_cutoff = True
    original = OriginalSchNet()

    def __init__(
        self,
        species: Sequence[int] = (1, 6, 7, 8, 9),
        *,
        cutoff: float = 5.0,
        channels: int = 64,
        filters: int | None = None,
        num_levels: int = 3,
        basis: RadialSpec = "gaussian_basis",
        num_basis: int = 50,
        num_targets: int = 1,
        head: HeadSpec | Sequence[HeadSpec] | None = None,
    ) -> None:
        super().__init__(species, cutoff)
        width = channels if filters is None else filters
        counts = {"channels": channels, "filters": width, "num_levels": num_levels}
        check_counts(counts)
        self.radius, self.hops = cutoff, num_levels
        self.embedding = nn.Embedding(NUM_ELEMENTS, channels)
        self.basis = make_radial(
            basis, num_basis=num_basis, cutoff=cutoff, complex=False
        )
        sizes = [self.basis.out_channels, width, width]
        levels = range(num_levels)
        self.radials = nn.ModuleList(MLP(sizes, "ssp", bias=True) for _ in levels)
        self.before = nn.ModuleList(MLP([channels, width]) for _ in levels)
        self.convs = nn.ModuleList(
            TensorFieldConv([(width, "0e")], [(channels, "0e")], cutoff=None)
            for _ in levels
        )
        self.act = ShiftedSoftplus()
        self.after = nn.ModuleList(MLP([channels] * 2, bias=True) for _ in levels)
        default = {"kind": "atomwise", "layers": [max(1, channels // 2)], "act": "ssp"}
        self.set_head(
            default if head is None else head,
            LevelSizes.of_scalars(channels),
            num_targets,
            species=range(NUM_ELEMENTS),
        )

    def start(self, z: Tensor) -> Tensor:
        """The embedding ``[N, C]``."""
        x: Tensor = self.embedding(z)
        return x

    def level(
        self, s: int, x: Tensor, z: Tensor, geometry: EdgeGeometry, weights: Weights
    ) -> Tensor:
        """One interaction, ``[N, C]`` to ``[N, C]``."""
        del z
        h, count = self.before[s](x), geometry.num_targets
        given = h if count == len(h) else (h, h[:count])
        out = self.convs[s](given, geometry, edge_weight=weights)
        result: Tensor = x[:count] + self.after[s](self.act(out))
        return result

    def level_sizes(self) -> list[tuple[int, int]]:
        """Channels and filters."""
        convs: Any = self.convs
        return [(self.embedding.embedding_dim, c.irreps_in.dim) for c in convs]

    def radial_weights(self, x: Tensor, levels: Iterable[int]) -> Iterator[Weights]:
        """Filters times envelope, ``[E, filters]`` each."""
        u, rows = cosine_cutoff(x, self.radius).unsqueeze(-1), self.basis(x)
        for s in levels:
            hidden, radial = rows, cast("MLP", self.radials[s])
            *layers, last = radial
            for layer in layers:
                hidden = layer(hidden)
            yield from enveloped([cast("nn.Linear", last)], hidden, u)

    def facts(self) -> dict[str, Any]:
        """Those of every network, and the radial functions."""
        return {**super().facts(), "basis": str(self.basis)}
