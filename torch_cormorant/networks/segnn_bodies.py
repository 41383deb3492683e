r"""SEGNN for charged bodies that move: from positions and velocities to a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from torch_cormorant.conv.steerable_conv import node_attributes
from torch_cormorant.errors import ConfigError
from torch_cormorant.graph import all_pairs
from torch_cormorant.irreps import Irreps
from torch_cormorant.networks.building import per_level
from torch_cormorant.networks.original import ReadsOriginal
from torch_cormorant.networks.original_segnn import OriginalSEGNNBodies
from torch_cormorant.networks.segnn_trunk import SEGNNTrunk
from torch_cormorant.nn.facts import StatesFacts
from torch_cormorant.ops import EdgeGeometry
from torch_cormorant.ops.autocast import full_precision
from torch_cormorant.ops.segment import scatter_sum
from torch_cormorant.ops.tensors import safe_norm
from torch_cormorant.so3 import spherical_harmonics

__all__ = ["SEGNNBodies"]

CENTRES = ("system", "published")


class SEGNNBodies(ReadsOriginal, StatesFacts):
    r"""The N-body network of `SEGNN <https://arxiv.org/abs/2110.02905>`_.

    Nodes carry their position relative to the mean, their velocity and its length,
    edges their length and the product of charges. It predicts how far every body moves:
    add the result to the positions.

    Args:
        channels: Copies of every degree; or one number for each. Default 32.
        lmax: Largest degree of features. Default 1.
        lmax_attr: Largest degree of attributes. Default: ``lmax``.
        num_levels: Layers. Default 4.
        layer: ``"segnn"`` (default), or ``"linear"``, ``"nonlinear"``: ``SEConv``.
        norm: ``"instance"``, or None (default).
        centre: ``"system"`` (default): positions relative to the mean of the system;
            ``"published"``: as the published code, to the mean of the three coordinates
            of the body itself, which breaks rotations and translations. For reading
            old weights.
        constants: Of the gates, as in
            :func:`~torch_cormorant.nn.moment_factor`. Default ``"exact"``.

    Shapes:
        ``pos`` and ``vel`` ``[N, 3]``, ``charges`` ``[N]``, ``batch`` ``[N]``, the
        system of each body (None: one); returns ``[N, 3]``.

    Raises:
        ConfigError: An argument is out of range.

    Example:
        >>> import torch
        >>> from torch_cormorant.networks import SEGNNBodies
        >>> network = SEGNNBodies(channels=4, num_levels=2)
        >>> pos, vel, charges = torch.randn(5, 3), torch.randn(5, 3), torch.ones(5)
        >>> tuple(network(pos, vel, charges).shape)
        (5, 3)
    """

    original = OriginalSEGNNBodies()

    def __init__(
        self,
        *,
        channels: int | Sequence[int] = 32,
        lmax: int = 1,
        lmax_attr: int | None = None,
        num_levels: int = 4,
        layer: str = "segnn",
        norm: str | None = None,
        centre: str = "system",
        constants: str = "exact",
    ) -> None:
        super().__init__()
        if centre not in CENTRES:
            raise ConfigError(f"centre must be one of {CENTRES}, got {centre!r}")
        counts = per_level(channels, lmax + 1, "channels")
        self.irreps = Irreps([(c, (l, (-1) ** l)) for l, c in enumerate(counts)])
        self.lmax_attr = lmax if lmax_attr is None else lmax_attr
        self.centre, self.constants = centre, constants
        self.trunk = SEGNNTrunk(
            "2x1o + 1x0e",
            self.irreps,
            "1x1o",
            lmax_attr=self.lmax_attr,
            num_levels=num_levels,
            layer=layer,
            norm=norm,
            constants=constants,
            cutoff=None,
            envelope=None,
            edge_dim=2,
            squared=False,
            normalisation="integral",
        )

    @full_precision
    def forward(
        self, pos: Tensor, vel: Tensor, charges: Tensor, batch: Tensor | None = None
    ) -> Tensor:
        """How far the bodies move; shapes as above."""
        if batch is None:
            batch = torch.zeros(len(pos), dtype=torch.int64, device=pos.device)
        index = all_pairs(batch, len(pos), loop=False, device=pos.device)
        geometry = EdgeGeometry.from_pos(pos, index)
        count = int(batch.max()) + 1 if len(batch) else 0
        attr, _ = self.trunk.attributes(geometry)
        out: Tensor = self.trunk(
            self.node_rows(pos, vel, batch, count),
            geometry,
            self.node_attributes(attr, vel, geometry),
            self.edge_rows(geometry, charges.reshape(-1)),
            (batch, count),
        )
        return out[:, [2, 0, 1]]  # y, z, x to x, y, z

    def node_rows(self, pos: Tensor, vel: Tensor, batch: Tensor, count: int) -> Tensor:
        """Positions and velocities as vectors, then the length of the velocity."""
        if self.centre == "published":
            centre = pos.mean(1, keepdim=True)
        else:
            ones = torch.cat([pos, torch.ones_like(pos[:, :1])], dim=1)
            sums = scatter_sum(ones, batch, count, validate=False)
            centre = (sums[:, :3] / sums[:, 3:].clamp_min(1)).index_select(0, batch)
        vectors = torch.stack([pos - centre, vel], dim=2)[:, [1, 2, 0]]
        return torch.cat([vectors.flatten(1), safe_norm(vel).unsqueeze(1)], dim=1)

    def node_attributes(
        self, attr: Tensor, vel: Tensor, geometry: EdgeGeometry
    ) -> Tensor:
        """Mean of those of edges plus harmonics of the velocity, the scalar one."""
        own = spherical_harmonics(vel, self.lmax_attr)
        roots = [
            ((2 * l + 1) / (4 * torch.pi)) ** 0.5
            for l in range(self.lmax_attr + 1)
            for _ in range(2 * l + 1)
        ]
        own = own * own.new_tensor(roots)
        mean = node_attributes(attr, geometry)
        return torch.cat([mean[:, :1], (mean + own)[:, 1:]], dim=1)

    @staticmethod
    def edge_rows(geometry: EdgeGeometry, charges: Tensor) -> Tensor:
        """Length and product of charges ``[E, 2]``."""
        source, target = geometry.edge_index[0], geometry.edge_index[1]
        product = charges.index_select(0, source) * charges.index_select(0, target)
        return torch.stack([geometry.edge_length, product], dim=1)

    def facts(self) -> dict[str, Any]:
        """What decides the numbers beside the weights; see ``StatesFacts``."""
        return {
            "layer": self.trunk.layer,
            "norm": self.trunk.norm,
            "centre": self.centre,
        }
