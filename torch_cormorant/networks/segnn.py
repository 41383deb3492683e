r"""SEGNN: non-linear steerable messages between atoms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from torch_cormorant.conv.steerable_conv import node_attributes
from torch_cormorant.errors import ConfigError
from torch_cormorant.irreps import Irreps
from torch_cormorant.networks.base import register_network
from torch_cormorant.networks.building import per_level
from torch_cormorant.networks.checks import check_counts
from torch_cormorant.networks.original import WithOriginal
from torch_cormorant.networks.original_segnn import OriginalSEGNN
from torch_cormorant.networks.segnn_trunk import SEGNNTrunk, one_hot
from torch_cormorant.networks.starts import StartsFromRows
from torch_cormorant.nn.heads import HeadSpec, LevelSizes
from torch_cormorant.nn.species import SpeciesIndex
from torch_cormorant.ops import EdgeGeometry
from torch_cormorant.ops.autocast import full_precision

__all__ = ["SEGNN"]


@register_network("segnn")
class SEGNN(WithOriginal, StartsFromRows):
    r"""`SEGNN <https://arxiv.org/abs/2110.02905>`_ (Brandstetter et al. 2022).

    Species, mixed under the mean direction of the neighbours; layers of
    :class:`~torch_cormorant.conv.SEGNNConv` (or
    :class:`~torch_cormorant.conv.SEConv`); two steerable layers to the scalars that the
    head reads.

    Args:
        species: Atomic numbers that may occur, in the order of the one-hot rows.
            Default H C N O F.
        cutoff: In Angstrom. Default 5; published for QM9: 2.
        channels: Copies of every degree, of parity :math:`(-1)^l`; or one number for
            each. Default 32.
        lmax: Largest degree of features. Default 1.
        lmax_attr: Largest degree of attributes. Default: ``lmax``.
        num_levels: Layers. Default 4.
        layer: ``"segnn"`` (default); ``"linear"`` or ``"nonlinear"``: ``SEConv``.
        envelope: Of messages, as in :class:`~torch_cormorant.nn.Envelope`; None: as
            published, for properties: forces jump where a neighbour comes in. Default
            ``"polynomial"``.
        norm: ``"instance"``: as published, over the atoms of a molecule, for properties
            only; or None (default).
        constants: Of the gates, as in
            :func:`~torch_cormorant.nn.moment_factor`. Default ``"exact"``.
        num_targets: Outputs per molecule. Default 1.
        head: As in :class:`~torch_cormorant.Cormorant`. Default: ``"atomwise"`` with
            one hidden layer; the published one is ``"pooled"``.

    Raises:
        ConfigError, SpeciesError: An argument is out of range.

    Example:
        >>> import torch
        >>> from torch_cormorant.networks import SEGNN
        >>> network = SEGNN([1, 8], channels=4, num_levels=2)
        >>> z, pos = torch.tensor([8, 1]), torch.tensor([[0.0, 0, 0], [0, 0, 1.0]])
        >>> tuple(network(z, pos).shape)
        (1, 1)
    """

    self_edges = False
    original = OriginalSEGNN()

    def __init__(
        self,
        species: Sequence[int] = (1, 6, 7, 8, 9),
        *,
        cutoff: float = 5.0,
        channels: int | Sequence[int] = 32,
        lmax: int = 1,
        lmax_attr: int | None = None,
        num_levels: int = 4,
        layer: str = "segnn",
        envelope: str | None = "polynomial",
        norm: str | None = None,
        constants: str = "exact",
        num_targets: int = 1,
        head: HeadSpec | Sequence[HeadSpec] | None = None,
    ) -> None:
        super().__init__(species, cutoff)
        counts = per_level(channels, lmax + 1, "channels")
        check_counts({"num_levels": num_levels, "channels": min(counts)})
        self.hops, self.constants = num_levels + 1, constants
        self.smooth_cutoff = envelope is not None
        self.index = SpeciesIndex(species)
        self.irreps = Irreps([(c, (l, (-1) ** l)) for l, c in enumerate(counts)])
        width = sum(counts)
        self.trunk = SEGNNTrunk(
            [(len(species), "0e")],
            self.irreps,
            [(width, "0e")],
            lmax_attr=lmax if lmax_attr is None else lmax_attr,
            num_levels=num_levels,
            layer=layer,
            norm=norm,
            constants=constants,
            cutoff=cutoff,
            envelope=envelope,
        )
        default = {"kind": "atomwise", "layers": [width]}
        self.set_head(
            default if head is None else head,
            LevelSizes.of_scalars(width),
            num_targets,
            species=tuple(species),
        )

    def start(self, z: Tensor) -> Tensor:
        """One-hot species ``[N, species]``."""
        return one_hot(self.index(z), len(self.index.species), self.dtype)

    @full_precision
    def levels_from(self, x: Tensor, z: Tensor, geometry: EdgeGeometry) -> list[Tensor]:
        """Scalars of atoms ``[N, C]``.

        Raises:
            ConfigError: There is a norm over molecules, which are not known here.
        """
        if self.trunk.norm is not None:
            msg = (
                "norm='instance' runs over all atoms of a molecule: it is for "
                "predictions of properties, energies and forces of a potential need "
                "norm=None"
            )
            raise ConfigError(msg)
        del z
        return self._levels(x, geometry, None)

    def _levels(
        self,
        x: Tensor,
        geometry: EdgeGeometry,
        molecules: tuple[Tensor | None, int] | None,
    ) -> list[Tensor]:
        attr, u = self.trunk.attributes(geometry)
        node_attr = node_attributes(attr, geometry, u)
        return [self.trunk(x, geometry, node_attr, molecules=molecules)]

    def _run(
        self,
        z: Tensor,
        geometry: EdgeGeometry,
        batch: Tensor | None,
        count: int,
        pos: Tensor | None,
    ) -> tuple[Tensor, list[Tensor]]:
        levels = self._levels(self.start(z), geometry, (batch, count))
        return self.read_out(levels, geometry, batch, count, z=z, pos=pos), levels

    def facts(self) -> dict[str, Any]:
        """Those of every network, and what else decides numbers."""
        return {
            **super().facts(),
            "rows": list(self.index.species),
            "layer": self.trunk.layer,
            "norm": self.trunk.norm,
        }
