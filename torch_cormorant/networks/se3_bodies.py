r"""SE(3)-Transformer for charged bodies that move."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from torch_cormorant.conv import SE3TransformerConv
from torch_cormorant.graph import all_pairs
from torch_cormorant.irreps import Irreps
from torch_cormorant.networks.checks import check_counts
from torch_cormorant.networks.original import ReadsOriginal
from torch_cormorant.networks.original_se3 import OriginalSE3Bodies
from torch_cormorant.networks.se3_trunk import SE3Trunk, degrees
from torch_cormorant.nn.facts import StatesFacts
from torch_cormorant.ops import EdgeGeometry
from torch_cormorant.ops.autocast import full_precision

__all__ = ["SE3TransformerBodies"]


class SE3TransformerBodies(ReadsOriginal, StatesFacts):
    r"""The N-body network of `SE(3)-Transformers <https://arxiv.org/abs/2006.10503>`_.

    Velocities in, two vectors of every body out: how far it moves, and how its velocity
    changes. Edges carry their length and the product of charges.

    Args:
        channels: Channels of every degree. Default 8.
        num_degrees: Degrees 0 to ``num_degrees - 1``, at least 2. Default 3.
        num_levels: Layers before the last. Default 3.
        heads: Heads of the attention, at most 2 in the last layer. Default 2.
        div: Factor by which values and keys have fewer channels. Default 2.
        relative: As in :class:`~torch_cormorant.conv.SE3TransformerConv`. Default None.
        mixing: The same, of all layers before the last. Default ``"linear"``.
        last_mixing: The same, of the last. Default ``"linear"``.
        eps: Smallest norm in the non-linearities. Default 1e-12, as published.

    Shapes:
        ``pos`` and ``vel`` ``[N, 3]``, ``charges`` ``[N]``, ``batch`` ``[N]``, the
        system of each body (None: one); returns ``[N, 2, 3]``.

    Raises:
        ConfigError: An argument is out of range.

    Example:
        >>> import torch
        >>> from torch_cormorant.networks import SE3TransformerBodies
        >>> network = SE3TransformerBodies(channels=4, num_degrees=2, num_levels=1)
        >>> pos, vel, charges = torch.randn(5, 3), torch.randn(5, 3), torch.ones(5)
        >>> tuple(network(pos, vel, charges).shape)
        (5, 2, 3)
    """

    original = OriginalSE3Bodies()

    def __init__(
        self,
        *,
        channels: int = 8,
        num_degrees: int = 3,
        num_levels: int = 3,
        heads: int = 2,
        div: float = 2,
        relative: str | None = None,
        mixing: str = "linear",
        last_mixing: str = "linear",
        eps: float = 1e-12,
    ) -> None:
        super().__init__()
        check_counts({"channels": channels, "num_levels": num_levels})
        hidden = degrees(channels, num_degrees)
        common: dict[str, Any] = {"edge_dim": 1, "cutoff": None, "envelope": None}
        options: dict[str, Any] = {"relative": relative, "heads": heads, "div": div}
        last: dict[str, Any] = {"heads": min(heads, 2), "div": 1, "mixing": last_mixing}
        self.trunk = SE3Trunk(
            [Irreps("1x1"), *[hidden] * num_levels],
            SE3TransformerConv(hidden, "2x1", **common, **{**options, **last}),
            norm="bias",
            attention=True,
            linear=False,
            eps=eps,
            common=common,
            mixing=mixing,
            **options,
        )

    @full_precision
    def forward(
        self, pos: Tensor, vel: Tensor, charges: Tensor, batch: Tensor | None = None
    ) -> Tensor:
        """Two vectors of every body; shapes as above."""
        index = all_pairs(batch, len(pos), loop=False, device=pos.device)
        geometry = EdgeGeometry.from_pos(pos, index)
        q, (source, target) = charges.reshape(-1), geometry.edge_index
        product = q.index_select(0, source) * q.index_select(0, target)
        out: Tensor = self.trunk(vel[:, [1, 2, 0]], geometry, product.unsqueeze(1))
        vectors: Tensor = out.unflatten(1, (3, 2))[:, [2, 0, 1]]  # y, z, x to x, y, z
        return vectors.mT

    def facts(self) -> dict[str, Any]:
        """What decides the numbers beside the weights; see ``StatesFacts``."""
        return {"last": repr(self.trunk.last)}
