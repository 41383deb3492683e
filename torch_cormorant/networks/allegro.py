r"""Allegro: features of any degree and parity on edges, strictly local."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from torch_cormorant.conv import AllegroBlock
from torch_cormorant.conv.allegro_block import inverse_roots, norm_of, scale_degrees
from torch_cormorant.errors import ConfigError, check_keywords
from torch_cormorant.irreps import Irrep, Irreps
from torch_cormorant.networks.base import register_network
from torch_cormorant.networks.checks import check_counts
from torch_cormorant.networks.edge_cutoffs import (
    kinds_of_edges,
    parts_of_cutoffs,
    reciprocals,
)
from torch_cormorant.networks.nequip_zbl import UNITS, nequip_zbl
from torch_cormorant.networks.original import WithOriginal
from torch_cormorant.networks.original_allegro import OriginalAllegro
from torch_cormorant.nn.activations import activation
from torch_cormorant.nn.facts import activations_of
from torch_cormorant.nn.heads import HeadSpec, LevelSizes
from torch_cormorant.nn.mlp import MLP
from torch_cormorant.nn.species import SpeciesIndex
from torch_cormorant.nn.two_body import BesselTwoBody, SplineTwoBody
from torch_cormorant.ops import EdgeGeometry
from torch_cormorant.ops.autocast import full_precision
from torch_cormorant.ops.segment import scatter_sum

__all__ = ["Allegro", "tensor_tracks"]

EMBEDDINGS = {"bessel": BesselTwoBody, "spline": SplineTwoBody}


@register_network("allegro")
class Allegro(WithOriginal):
    r"""`Allegro <https://arxiv.org/abs/2204.05249>`_ (Musaelian et al. 2023).

    Scalars and tensors of edges i <- j, updated by
    :class:`~torch_cormorant.conv.AllegroBlock` from the environment of the receiver i
    alone: however deep, an atom sees no further than one cutoff. Energies of edges are
    an MLP of all scalars, and its last, linear layer acts behind the sum over edges, as
    the head of the network.

    Args:
        species: Atomic numbers that may occur, in the order of the rows of weights.
            Default H C N O F.
        cutoff: In Angstrom. Default 5.
        channels: Tensors of an edge. Default 16.
        scalars: Scalars of an edge. Default 64.
        num_levels: Layers. Default 2.
        lmax: Largest degree. Default 1.
        parity: Tensors of both parities at every degree; False: only
            :math:`(-1)^l`. Default True.
        embedding: ``"bessel"`` (default), ``"spline"``, or a mapping with ``kind`` and
            arguments of :class:`~torch_cormorant.nn.BesselTwoBody` or
            :class:`~torch_cormorant.nn.SplineTwoBody`.
        embedding_dim: Width of it. Default: ``scalars``.
        two_body: Widths of the hidden layers of the MLP behind it. Default (64,).
        latent: Those of the MLPs of layers. Default (64,).
        readout: Those of the MLP of edge energies. Default (32,).
        acts: Activations of these three, of which the last ends with the last hidden
            layer. Default ``("silu", "silu", "silu")``; ``"identity"``: none.
        shared_weights: All channels have the same weights of paths. Default False.
        avg_num_neighbors: Neighbours within the cutoff; or one number for each of
            ``species``. Default 8.
        edge_cutoffs: Smaller cutoffs for pairs of species, rows: the receiver, in the
            order of ``species``. Default: ``cutoff`` for all.
        zbl: As in :class:`NequIP`. Default None.
        num_targets: Outputs per molecule. Default 1.
        head: As in :class:`~torch_cormorant.Cormorant`. Default: ``"atomwise"``, linear
            without bias, so that atoms without neighbours have no energy.

    Raises:
        ConfigError, SpeciesError: An argument is out of range.

    Example:
        >>> import torch
        >>> from torch_cormorant.networks import Allegro
        >>> network = Allegro([1, 8], channels=4, scalars=8)
        >>> z, pos = torch.tensor([8, 1]), torch.tensor([[0.0, 0, 0], [0, 0, 1.0]])
        >>> tuple(network(z, pos).shape), network.hops
        ((1, 1), 1)
    """

    self_edges = False
    smooth_cutoff = True
    hops = 1
    original = OriginalAllegro()
    recip: Tensor
    norm: Tensor

    def __init__(
        self,
        species: Sequence[int] = (1, 6, 7, 8, 9),
        *,
        cutoff: float = 5.0,
        channels: int = 16,
        scalars: int = 64,
        num_levels: int = 2,
        lmax: int = 1,
        parity: bool = True,
        embedding: str | Mapping[str, Any] = "bessel",
        embedding_dim: int | None = None,
        two_body: Sequence[int] = (64,),
        latent: Sequence[int] = (64,),
        readout: Sequence[int] = (32,),
        acts: Sequence[str] = ("silu", "silu", "silu"),
        shared_weights: bool = False,
        avg_num_neighbors: float | Sequence[float] = 8.0,
        edge_cutoffs: Sequence[Sequence[float]] | None = None,
        zbl: str | None = None,
        num_targets: int = 1,
        head: HeadSpec | Sequence[HeadSpec] | None = None,
    ) -> None:
        super().__init__(species, cutoff)
        counts = {"channels": channels, "scalars": scalars, "num_levels": num_levels}
        check_counts(counts)
        if zbl not in (None, *UNITS):
            msg = f"zbl must be one of {tuple(UNITS)} or None, got {zbl!r}"
            raise ConfigError(msg)
        if len(acts) != 3:
            raise ConfigError(f"acts must be three names, got {list(acts)}")
        C, S, self.zbl = channels, scalars, zbl
        self.channels, self.scalars, self.lmax = C, S, lmax
        self.index = SpeciesIndex(species)
        self.register_buffer("recip", reciprocals(cutoff, edge_cutoffs, len(species)))
        self.register_buffer("norm", inverse_roots(avg_num_neighbors), persistent=False)
        width = S if embedding_dim is None else embedding_dim
        self.embedding = _embedding(embedding, len(species), width)
        self.two_body = MLP([width, *two_body, S], acts[0])
        self.tensors = MLP([S, (lmax + 1) * C])
        self.projection = MLP([S, S + (lmax + 1) * C])
        scale_degrees(self.tensors, 0, C)
        scale_degrees(self.projection, S, C)
        self.blocks = nn.ModuleList()
        tracks = tensor_tracks(lmax, num_levels, parity=parity)
        for s in range(num_levels):
            first, last = (
                Irreps([(C, ir) for ir in track]) for track in tracks[s : s + 2]
            )
            block = AllegroBlock(
                first,
                last,
                S * (s + 1),
                S,
                lmax=lmax,
                hidden=latent,
                act=acts[1],
                weights_out=s < num_levels - 1,
                shared_weights=shared_weights,
                avg_num_neighbors=avg_num_neighbors,
            )
            self.blocks.append(block)
        self.start = Irreps([(C, ir) for ir in tracks[0]])
        sizes = [S * (num_levels + 1), *readout]
        # the last, linear layer of the read-out acts on atoms: it is the head
        hidden = [MLP(sizes, acts[2]), activation(acts[2])] if readout else []
        self.readout = nn.Sequential(*hidden)
        levels = LevelSizes.of_scalars(sizes[-1], *([1] if zbl else []))
        default = {"kind": "atomwise", "bias": False, "pair": zbl is not None}
        self.set_head(
            default if head is None else head,
            levels,
            num_targets,
            species=tuple(species),
        )

    @full_precision
    def run_levels(self, z: Tensor, geometry: EdgeGeometry) -> list[Tensor]:
        """Sums over edges ``[N, H]``; with ``zbl`` also that ``[N, 1]``."""
        types = self.index(z)
        rows = self.readout(torch.cat(self.edge_scalars(types, geometry), dim=1))
        target = geometry.edge_index[1]
        sums = scatter_sum(rows, target, geometry.num_targets, validate=False)
        level = sums * norm_of(self.norm, types, sums)
        if self.zbl is None:
            return [level]
        return [level, self._repulsion(z, types, geometry)]

    def edge_scalars(self, types: Tensor, geometry: EdgeGeometry) -> list[Tensor]:
        """Scalars of every layer ``[E, scalars]``, those of the start first."""
        x, row = self._parts(types, geometry)
        kind = kinds_of_edges(types, len(self.index.species), geometry)
        first = self.two_body(self.embedding(x, kind, row))
        v = self.first_tensors(self.tensors(first), geometry)
        made = self.projection(first)
        s, w = made.split([self.scalars, made.shape[1] - self.scalars], dim=1)
        levels = [s]
        for block in self.blocks:
            s, v, w = block(torch.cat(levels, dim=1), v, w, geometry, types)
            levels.append(s)
        return levels

    def first_tensors(self, weights: Tensor, geometry: EdgeGeometry) -> Tensor:
        """Harmonics times weights of their degrees, rows of the first layer."""
        sh, C = geometry.sh(self.lmax), self.channels
        parts = [
            sh[:, l * l : (l + 1) ** 2, None] * weights[:, None, l * C : (l + 1) * C]
            for l in (ir.l for _, ir in self.start)
        ]
        return torch.cat(parts, dim=1).flatten(1)

    def _parts(
        self, types: Tensor, geometry: EdgeGeometry
    ) -> tuple[Tensor, Tensor | None]:
        """Lengths as parts of the cutoffs, and which of them edges have."""
        x, pairs = parts_of_cutoffs(self.recip, types, geometry), geometry.plan.pairs
        shared = self.recip.numel() == 1 and pairs is not None
        return x, pairs.of_edge if pairs is not None and shared else None

    def _repulsion(self, z: Tensor, types: Tensor, geometry: EdgeGeometry) -> Tensor:
        source, target = geometry.edge_index[0], geometry.edge_index[1]
        x, row = self._parts(types, geometry)
        x = x if row is None else x.index_select(0, row)
        energy = nequip_zbl(
            geometry.edge_length, x, z[source], z[target], str(self.zbl)
        )
        sums = scatter_sum(energy, target, geometry.num_targets, validate=False)
        return sums.unsqueeze(1)

    def facts(self) -> dict[str, Any]:
        """Those of every network, and what else decides numbers."""
        return {
            **super().facts(),
            "rows": list(self.index.species),
            "embedding": repr(self.embedding),
            "acts": activations_of(self),
            "avg_num_neighbors": self.config["avg_num_neighbors"],
            "zbl": self.zbl,
        }


def _embedding(spec: str | Mapping[str, Any], types: int, width: int) -> nn.Module:
    """The first numbers of edges, by name or with options."""
    options = {"kind": spec} if isinstance(spec, str) else dict(spec)
    kind = options.pop("kind", None)
    if kind not in EMBEDDINGS:
        msg = f"embedding must be one of {tuple(EMBEDDINGS)}, got {kind!r}"
        raise ConfigError(msg)
    made: Any = EMBEDDINGS[kind]
    known = [*inspect.signature(made).parameters][2:]
    check_keywords(options, known, f"the embedding {kind!r}")
    part: nn.Module = made(types, width, **options)
    return part


def tensor_tracks(lmax: int, num_levels: int, *, parity: bool) -> list[list[Irrep]]:
    """Irreps of the tensors before every layer and behind the last.

    Forward: what products with harmonics can make, at most degree ``lmax``, even before
    odd; behind the last layer even scalars. Backward: what leads to something.

    Args:
        lmax: Largest degree.
        num_levels: Layers.
        parity: Both parities at every degree, or only ``(-1)^l``.

    Example:
        >>> for track in tensor_tracks(1, 3, parity=True):
        ...     print(" + ".join(map(str, track)))
        0e + 1o
        0e + 1e + 1o
        0e + 1o
        0e
    """
    harmonics = [ir for _, ir in Irreps.harmonics(lmax)]
    both = [Irrep(l, p) for l in range(lmax + 1) for p in (1, -1)]
    allowed = both if parity else harmonics

    def makes(a: Irrep, wanted: Sequence[Irrep]) -> bool:
        return any(ir in wanted for b in harmonics for ir in a.product(b))

    tracks = [harmonics]
    for s in range(num_levels):
        kept = [Irrep(0, 1)] if s == num_levels - 1 else allowed
        tracks.append([ir for ir in kept if any(makes(a, [ir]) for a in tracks[-1])])
    for s in range(num_levels - 1, -1, -1):
        tracks[s] = [a for a in tracks[s] if makes(a, tracks[s + 1])]
    return tracks
