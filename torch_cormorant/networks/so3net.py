r"""SO3Net: the same channels of every degree on atoms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from torch_cormorant.conv import SO3Conv
from torch_cormorant.networks.base import register_network
from torch_cormorant.networks.checks import check_counts
from torch_cormorant.networks.original import WithOriginal
from torch_cormorant.networks.original_so3net import OriginalSO3Net
from torch_cormorant.networks.painn import NUM_ELEMENTS
from torch_cormorant.networks.starts import StartsFromRows
from torch_cormorant.nn.envelopes import Envelope
from torch_cormorant.nn.heads import HeadSpec, LevelSizes
from torch_cormorant.nn.radial import RadialSpec, make_radial
from torch_cormorant.ops import EdgeGeometry
from torch_cormorant.ops.autocast import full_precision
from torch_cormorant.so3.flat import as_packed

__all__ = ["SO3Net"]


@register_network("so3net")
class SO3Net(WithOriginal, StartsFromRows):
    r"""The channelwise network of `SchNetPack <https://doi.org/10.1063/5.0138367>`_.

    Schütt et al. 2023. An embedding of the species, then levels of
    :class:`~torch_cormorant.conv.SO3Conv`. All degrees of the last level are there for
    heads that want them (``"dipole"``); energies are made of its scalars.

    Args:
        species: Atomic numbers that may occur. Default H C N O F.
        cutoff: In Angstrom. Default 5.
        channels: Channels of every degree. Default 64.
        lmax: Largest degree. Default 2.
        num_levels: Rounds of messages. Default 3.
        basis: Radial functions. Default ``"gaussian_basis"``.
        num_basis: Number of them. Default 20.
        envelope: A name of :class:`~torch_cormorant.nn.Envelope`, or its arguments
            without the cutoff. Default ``"cosine"``.
        shared_levels: All levels have the same weights. Default False.
        num_targets: Outputs per molecule. Default 1.
        head: As in :class:`~torch_cormorant.Cormorant`. Default: ``"atomwise"`` with
            one hidden layer of half the channels.

    Example:
        >>> import torch
        >>> from torch_cormorant.networks import SO3Net
        >>> network = SO3Net([1, 8], channels=8, num_levels=2)
        >>> z, pos = torch.tensor([8, 1]), torch.tensor([[0.0, 0, 0], [0, 0, 1.0]])
        >>> tuple(network(z, pos).shape)
        (1, 1)
    """

    self_edges = False
    smooth_cutoff = True
    original = OriginalSO3Net()

    def __init__(
        self,
        species: Sequence[int] = (1, 6, 7, 8, 9),
        *,
        cutoff: float = 5.0,
        channels: int = 64,
        lmax: int = 2,
        num_levels: int = 3,
        basis: RadialSpec = "gaussian_basis",
        num_basis: int = 20,
        envelope: str | Mapping[str, Any] = "cosine",
        shared_levels: bool = False,
        num_targets: int = 1,
        head: HeadSpec | Sequence[HeadSpec] | None = None,
    ) -> None:
        super().__init__(species, cutoff)
        check_counts({"channels": channels, "num_levels": num_levels})
        self.channels, self.lmax, self.num_levels = channels, lmax, num_levels
        self.hops = num_levels
        self.embedding = nn.Embedding(NUM_ELEMENTS, channels)
        self.basis = make_radial(
            basis, num_basis=num_basis, cutoff=cutoff, complex=False
        )
        end = {"kind": envelope} if isinstance(envelope, str) else dict(envelope)
        self.envelope = Envelope(**end, cutoff=cutoff)
        own = range(1 if shared_levels else num_levels)
        convs = [SO3Conv(channels, lmax, cutoff=None) for _ in own]
        width = self.basis.out_channels
        self.convs = nn.ModuleList(convs)
        self.filters = nn.ModuleList(nn.Linear(width, c.weight_numel) for c in convs)
        default = {"kind": "atomwise", "layers": [max(1, channels // 2)]}
        self.set_head(
            default if head is None else head,
            LevelSizes((channels,), (lmax,), 1, inputs=channels),
            num_targets,
            species=range(NUM_ELEMENTS),
        )

    def start(self, z: Tensor) -> Tensor:
        """The embedding ``[N, C]``."""
        x: Tensor = self.embedding(z)
        return x

    @full_precision
    def levels_from(self, x: Tensor, z: Tensor, geometry: EdgeGeometry) -> list[Tensor]:
        """All degrees of the last level ``[N, (lmax + 1)^2, 1, C]``."""
        del z
        length = geometry.pair_length
        u, rows = self.envelope(length).unsqueeze(-1), self.basis(length)
        weights = [filters(rows) * u for filters in self.filters]
        for s in range(self.num_levels):
            k = min(s, len(self.convs) - 1)
            x = self.convs[k](x, geometry, edge_weight=weights[k])
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
