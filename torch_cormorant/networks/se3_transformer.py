r"""SE(3)-Transformer: equivariant attention between atoms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from torch_cormorant.conv import SE3KernelConv
from torch_cormorant.errors import ConfigError
from torch_cormorant.irreps import Irreps
from torch_cormorant.networks.base import register_network
from torch_cormorant.networks.checks import check_counts
from torch_cormorant.networks.original import WithOriginal
from torch_cormorant.networks.original_se3 import OriginalSE3Transformer
from torch_cormorant.networks.se3_trunk import SE3Trunk, degrees
from torch_cormorant.networks.segnn_trunk import one_hot
from torch_cormorant.networks.starts import StartsFromRows
from torch_cormorant.nn.heads import HeadSpec, LevelSizes
from torch_cormorant.nn.species import SpeciesIndex
from torch_cormorant.ops import EdgeGeometry
from torch_cormorant.ops.autocast import full_precision

__all__ = ["SE3Transformer"]


@register_network("se3_transformer")
class SE3Transformer(WithOriginal, StartsFromRows):
    r"""`SE(3)-Transformer <https://arxiv.org/abs/2006.10503>`_ (Fuchs et al. 2020).

    One-hot species and the atomic number; layers of
    :class:`~torch_cormorant.conv.SE3TransformerConv`, each with a network of norms
    (:class:`~torch_cormorant.nn.NormNetwork`); a last
    :class:`~torch_cormorant.conv.SE3KernelConv` to scalars that the head reads.

    Args:
        species: Atomic numbers that may occur, in the order of the one-hot rows.
            Default H C N O F.
        cutoff: In Angstrom; None: all pairs of a molecule, as published. Default 5.
        channels: Channels of every degree. Default 16.
        num_degrees: Degrees 0 to ``num_degrees - 1``. Default 2.
        num_levels: Layers before the last. Default 3.
        heads: Heads of the attention. Default 1.
        div: Factor by which values and keys have fewer channels. Default 2.
        attention: False: tensor field layers in the place of attention. Default True.
        edge_dim: Scalars of edges beside the length, for :meth:`run_levels`; the
            published network has the types of bonds there. Default 0.
        envelope: As in :class:`~torch_cormorant.conv.SE3TransformerConv`; None, as
            published, where ``cutoff`` is None. Default ``"polynomial"``.
        norm_linear: Networks of norms have a linear layer. Default False.
        eps: Of the norms, see :class:`~torch_cormorant.nn.NormNetwork`. Default 0.01.
        num_targets: Outputs per molecule. Default 1.
        head: As in :class:`~torch_cormorant.Cormorant`. Default: ``"atomwise"`` with
            one hidden layer; the published one is ``"pooled"``.

    Raises:
        ConfigError, SpeciesError: An argument is out of range.

    Example:
        >>> import torch
        >>> from torch_cormorant.networks import SE3Transformer
        >>> network = SE3Transformer([1, 8], channels=8, num_levels=2)
        >>> z, pos = torch.tensor([8, 1]), torch.tensor([[0.0, 0, 0], [0, 0, 1.0]])
        >>> tuple(network(z, pos).shape)
        (1, 1)
    """

    self_edges = False
    original = OriginalSE3Transformer()

    def __init__(
        self,
        species: Sequence[int] = (1, 6, 7, 8, 9),
        *,
        cutoff: float | None = 5.0,
        channels: int = 16,
        num_degrees: int = 2,
        num_levels: int = 3,
        heads: int = 1,
        div: float = 2,
        attention: bool = True,
        edge_dim: int = 0,
        envelope: str | None = "polynomial",
        norm_linear: bool = False,
        eps: float = 0.01,
        num_targets: int = 1,
        head: HeadSpec | Sequence[HeadSpec] | None = None,
    ) -> None:
        super().__init__(species, cutoff)
        sizes = {"channels": channels, "num_degrees": num_degrees}
        check_counts({**sizes, "num_levels": num_levels})
        envelope = None if cutoff is None else envelope
        self.hops = None if cutoff is None else num_levels + 1
        self.smooth_cutoff = cutoff is not None and envelope is not None
        self.edge_dim, self.attention, self.eps = edge_dim, attention, eps
        self.index = SpeciesIndex(species)
        hidden, width = degrees(channels, num_degrees), channels * num_degrees
        common: dict[str, Any] = {
            "edge_dim": edge_dim,
            "cutoff": cutoff,
            "envelope": envelope,
        }
        more: dict[str, Any] = {"heads": heads, "div": div} if attention else {}
        self.trunk = SE3Trunk(
            [Irreps([(len(species) + 1, (0, 0))]), *[hidden] * num_levels],
            SE3KernelConv(hidden, [(width, (0, 0))], **common),
            norm="network",
            attention=attention,
            linear=norm_linear,
            eps=eps,
            common=common,
            **more,
        )
        default = {"kind": "atomwise", "layers": [width]}
        self.set_head(
            default if head is None else head,
            LevelSizes.of_scalars(width),
            num_targets,
            species=tuple(species),
        )

    def start(self, z: Tensor) -> Tensor:
        """One-hot species and the atomic number ``[N, species + 1]``."""
        rows = one_hot(self.index(z), len(self.index.species), self.dtype)
        return torch.cat([rows, z.to(self.dtype).unsqueeze(1)], dim=1)

    @full_precision
    def run_levels(
        self, z: Tensor, geometry: EdgeGeometry, edge_attr: Tensor | None = None
    ) -> list[Tensor]:
        """Scalars of atoms ``[N, C]``.

        Args:
            z: Atomic numbers.
            geometry: The edges.
            edge_attr: Scalars of edges ``[E, edge_dim]``.

        Raises:
            ConfigError: The network was made for scalars of edges and has none.
        """
        return self.levels_from(self.start(z), z, geometry, edge_attr)

    @full_precision
    def levels_from(
        self,
        x: Tensor,
        z: Tensor,
        geometry: EdgeGeometry,
        edge_attr: Tensor | None = None,
    ) -> list[Tensor]:
        """As :meth:`run_levels`, from given rows of atoms."""
        del z
        if edge_attr is None and self.edge_dim:
            msg = (
                f"the network was made with edge_dim={self.edge_dim}: give "
                "edge_attr to run_levels(z, geometry, edge_attr), and then call "
                "read_out"
            )
            raise ConfigError(msg)
        return [self.trunk(x, geometry, edge_attr)]

    def facts(self) -> dict[str, Any]:
        """Those of every network, and what else decides numbers."""
        return {
            **super().facts(),
            "rows": list(self.index.species),
            "eps": self.eps,
        }
