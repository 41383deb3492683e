r"""Tensor field networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from torch_cormorant.conv import TensorFieldConv
from torch_cormorant.irreps import Irreps
from torch_cormorant.networks.base import register_network
from torch_cormorant.networks.checks import check_counts
from torch_cormorant.networks.original import WithOriginal
from torch_cormorant.networks.original_tfn import OriginalTFN
from torch_cormorant.networks.starts import StartsFromRows
from torch_cormorant.nn.envelopes import Envelope
from torch_cormorant.nn.gated import NormActivation
from torch_cormorant.nn.heads import HeadSpec, LevelSizes
from torch_cormorant.nn.mlp import MLP
from torch_cormorant.nn.radial import RadialSpec, make_radial
from torch_cormorant.nn.species import SpeciesIndex
from torch_cormorant.ops import EdgeGeometry
from torch_cormorant.ops.autocast import full_precision

__all__ = ["TFN"]


@register_network("tfn")
class TFN(WithOriginal, StartsFromRows):
    r"""Tensor field network (`Thomas et al. 2018 <https://arxiv.org/abs/1802.08219>`_).

    One-hot species, then levels of a depthwise
    :class:`~torch_cormorant.conv.TensorFieldConv` (point convolution and
    self-interaction) and a :class:`~torch_cormorant.nn.NormActivation`:

    .. math::
        F_i' = \eta\Big( L \, \frac{1}{\sqrt{\bar n}} \sum_j \mathrm{MLP}(B(r_{ij})) \,
        u(r_{ij}) \odot \big( F_j \otimes Y(r_{ij}) \big) \Big)

    The last level makes scalars, without :math:`\eta`.

    Args:
        species: Atomic numbers that may occur, in the order of the one-hot scalars.
            Default H C N O F.
        cutoff: In Angstrom. Default 5.
        irreps: Features of the hidden levels, one block of each irrep; without
            parities, ``"16x0 + 8x1"``, all products are taken, those too that change
            the behaviour under reflection. Default ``"32x0e + 16x1o + 8x2e"``.
        num_levels: Rounds of messages. Default 3.
        lmax_sh: Largest degree of the harmonics. Default: that of ``irreps``.
        basis: Radial functions. Default ``"gaussian_basis"``.
        num_basis: Number of them. Default 20.
        radial: Widths of the hidden layers of the radial MLPs. Default (32,).
        envelope: A name of :class:`~torch_cormorant.nn.Envelope`, its arguments without
            the cutoff, or None: messages end suddenly at the cutoff, as published.
            Default ``"polynomial"``.
        avg_num_neighbors: :math:`\bar n`. Default 8.
        out_channels: Scalars of the last level. Default: ``num_targets`` with the
            default head, otherwise as many as before.
        num_targets: Outputs per molecule. Default 1.
        head: As in :class:`~torch_cormorant.Cormorant`. Default: the sum over atoms of
            what the last level makes.

    Example:
        >>> import torch
        >>> from torch_cormorant.networks import TFN
        >>> network = TFN([1, 8], irreps="8x0e + 4x1o", num_levels=2)
        >>> z, pos = torch.tensor([8, 1]), torch.tensor([[0.0, 0, 0], [0, 0, 1.0]])
        >>> tuple(network(z, pos).shape)
        (1, 1)
    """

    self_edges = False
    original = OriginalTFN()

    def __init__(
        self,
        species: Sequence[int] = (1, 6, 7, 8, 9),
        *,
        cutoff: float = 5.0,
        irreps: str = "32x0e + 16x1o + 8x2e",
        num_levels: int = 3,
        lmax_sh: int | None = None,
        basis: RadialSpec = "gaussian_basis",
        num_basis: int = 20,
        radial: Sequence[int] = (32,),
        envelope: str | Mapping[str, Any] | None = "polynomial",
        avg_num_neighbors: float = 8.0,
        out_channels: int | None = None,
        num_targets: int = 1,
        head: HeadSpec | Sequence[HeadSpec] | None = None,
    ) -> None:
        super().__init__(species, cutoff)
        hidden = Irreps(irreps)
        scalar = (0, int(hidden.has_parity))
        if out_channels is None:
            out_channels = num_targets if head is None else hidden.count(scalar)
        check_counts({"num_levels": num_levels, "out_channels": out_channels})
        self.hops = num_levels
        self.index = SpeciesIndex(species)
        self.basis = make_radial(
            basis, num_basis=num_basis, cutoff=cutoff, complex=False
        )
        self.envelope: Envelope | None = None
        self.smooth_cutoff = envelope is not None
        if envelope is not None:
            end = {"kind": envelope} if isinstance(envelope, str) else dict(envelope)
            self.envelope = Envelope(**end, cutoff=cutoff)
        ends = Irreps([(out_channels, scalar)])
        steps = [Irreps([(len(species), scalar)]), *[hidden] * (num_levels - 1), ends]
        convs = [
            TensorFieldConv(
                steps[s],
                steps[s + 1],
                lmax_sh=hidden.lmax if lmax_sh is None else lmax_sh,
                cutoff=None,
                avg_num_neighbors=avg_num_neighbors,
            )
            for s in range(num_levels)
        ]
        width = self.basis.out_channels
        radials = [MLP([width, *radial, conv.paths.weight_numel]) for conv in convs]
        for conv, mlp in zip(convs, radials, strict=True):
            conv.scale_paths(mlp)
            _widen(mlp)
        self.convs, self.radials = nn.ModuleList(convs), nn.ModuleList(radials)
        self.acts = nn.ModuleList(NormActivation(hidden) for _ in steps[1:-1])
        self.set_head(
            {"kind": "atomwise", "layers": None} if head is None else head,
            LevelSizes.of_scalars(out_channels),
            num_targets,
            species=tuple(species),
        )

    def start(self, z: Tensor) -> Tensor:
        """One-hot species ``[N, species]``."""
        kinds = torch.eye(len(self.index.species), dtype=self.dtype, device=z.device)
        return kinds.index_select(0, self.index(z))

    @full_precision
    def levels_from(self, x: Tensor, z: Tensor, geometry: EdgeGeometry) -> list[Tensor]:
        """Scalars of the last level ``[N, out_channels]``."""
        del z
        rows = self.basis(geometry.pair_length)
        acts = [*self.acts, nn.Identity()]
        for conv, radial, act in zip(self.convs, self.radials, acts, strict=True):
            weights = radial(rows)
            if self.envelope is not None:
                weights = weights * self.envelope(geometry.pair_length).unsqueeze(-1)
            x = act(conv(x, geometry, edge_weight=weights))
        return [x]

    def facts(self) -> dict[str, Any]:
        """Those of every network, and what else decides numbers."""
        return {
            **super().facts(),
            "rows": list(self.index.species),
            "basis": str(self.basis),
            "envelope": str(self.envelope),
        }


@torch.no_grad()
def _widen(mlp: MLP) -> None:
    """At any length few functions of a basis are there: start with larger weights."""
    first = mlp.linears[0]
    first.weight.mul_(first.in_features**0.5)
