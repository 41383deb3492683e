r"""The interaction of SO3net: one channel with the same channel, degree by degree."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from torch_cormorant.conv.arguments import check_channels, check_count
from torch_cormorant.conv.inputs import NodeInput
from torch_cormorant.conv.irreps_conv import IrrepsConv
from torch_cormorant.irreps import Irreps
from torch_cormorant.nn.envelopes import Envelope
from torch_cormorant.nn.mlp import RadialMLP
from torch_cormorant.nn.radial import RadialSpec, make_radial
from torch_cormorant.ops import (
    EdgeGeometry,
    ProductPaths,
    Splines,
    tensor_product,
    weighted_neighbour_sum,
)
from torch_cormorant.ops.autocast import full_precision, weights_precision
from torch_cormorant.ops.weighted_sum import Weights
from torch_cormorant.so3.flat import flat_blocks

__all__ = ["SO3Conv", "SO3Mixing"]


class SO3Conv(IrrepsConv):
    r"""Interaction of SO3net, the channelwise network of SchNetPack.

    Schütt et al. 2023 (`SchNetPack 2.0 <https://doi.org/10.1063/5.0138367>`_), with the
    same C channels of every degree up to L, and weights that depend on the degree of
    the harmonics alone:

    .. math::
        d_i^{l} = \sum_j \sum_{l_1 l_2} w^{l_2}(r_{ij}) \odot \big( x_j^{l_1} \otimes
        Y^{l_2}(r_{ij}) \big)^{l}, \qquad x_i' = x_i + \mathrm{Mix}(d_i)

    with :class:`SO3Mixing` on every node. Degree l has parity :math:`(-1)^l`, so only
    even :math:`l_1 + l_2 + l` couple: equivariant under rotations and reflections.

    Args:
        channels: C.
        lmax: L. Default 2.
        cutoff: In Angstrom; None: the weights of edges are given. Default 5.
        basis: Radial functions, as in :func:`~torch_cormorant.nn.make_radial`. Default
            ``"gaussian_basis"``.
        num_basis: Number of them. Default 20.
        envelope: As in :class:`~torch_cormorant.nn.Envelope`. Default ``"cosine"``.
        **kwargs: Passed to :class:`torch_geometric.nn.MessagePassing`.

    Shapes:
        - ``x``: ``[N, (L + 1)^2 C]``, rows of ``Cx0e + Cx1o + Cx2e + ...``; or scalars
          ``[N, C]``, all else being zero; a pair (source, target) on bipartite graphs
        - ``edge_index``: ``[2, E]``, or an ``EdgeIndex``, a sparse (transposed)
          adjacency, an :class:`~torch_cormorant.EdgeGeometry`
        - ``edge_vec``: ``[E, 3]`` Angstrom, target minus source; or ``pos``: ``[N, 3]``
        - ``edge_weight``: ``[E, (L + 1) C]``, w of every edge
        - returns ``[N, (L + 1)^2 C]``

    Raises:
        ConfigError: An argument is out of range.
        ShapeError, DtypeError, DeviceError, EdgeIndexError, NonFiniteError,
        CoincidentAtomsError: If an input does not fit.

    Example:
        >>> import torch
        >>> from torch_cormorant import radius_graph
        >>> from torch_cormorant.conv import SO3Conv
        >>> pos = torch.tensor([[0.0, 0, 0], [0, 0, 1.1], [0, 1.0, -0.4]])
        >>> edge_index = radius_graph(pos, cutoff=3.0)
        >>> conv = SO3Conv(8, lmax=2, cutoff=3.0)
        >>> tuple(conv(torch.randn(3, 8), edge_index, pos=pos).shape)
        (3, 72)
    """

    columns: Tensor

    def __init__(
        self,
        channels: int,
        lmax: int = 2,
        *,
        cutoff: float | None = 5.0,
        basis: RadialSpec = "gaussian_basis",
        num_basis: int = 20,
        envelope: str = "cosine",
        **kwargs: Any,
    ) -> None:
        super().__init__(locals(), **kwargs)
        self.channels = check_channels(channels, "channels")
        self.lmax = check_count(lmax, "lmax")
        self.irreps = channelwise(channels, lmax)
        self.paths = ProductPaths(self.irreps, Irreps.harmonics(lmax), self.irreps)
        # which columns of the weights every path takes: those of its harmonics
        blocks = torch.arange(self.weight_numel).view(-1, channels)
        columns = blocks[[path.second for path in self.paths.paths]].flatten()
        self.register_buffer("columns", columns, persistent=False)
        self.radial = None
        if cutoff is not None:
            made = make_radial(basis, num_basis=num_basis, cutoff=cutoff, complex=False)
            ends = Envelope(envelope, cutoff)
            self.radial = RadialMLP(
                made, [], self.weight_numel, bias=True, envelope=ends
            )
        self.mixing = SO3Mixing(channels, lmax)

    @property
    def weight_numel(self) -> int:
        """How many weights an edge has, one for each degree and channel."""
        return (self.lmax + 1) * self.channels

    def reset_parameters(self) -> None:
        """Start all weights again."""
        super().reset_parameters()
        for part in (self.radial, self.mixing):
            if part is not None:
                part.reset_parameters()

    @full_precision
    def forward(
        self,
        x: NodeInput,
        edge_index: Any,
        edge_vec: Tensor | None = None,
        *,
        pos: NodeInput | None = None,
        edge_weight: Tensor | None = None,
    ) -> Tensor:
        """Update the nodes; arguments and shapes as in the class description."""
        if isinstance(x, (tuple, list)):
            x = (self._with_degrees(x[0]), self._with_degrees(x[1]))
        else:
            x = self._with_degrees(x)
        rows = (self.irreps, self.irreps)
        source, target, geometry = self.inputs(x, rows, edge_index, edge_vec, pos)
        sums = self.neighbour_sum(source, geometry, edge_weight)
        result: Tensor = target + self.mixing(add_paths(sums, self.paths))
        return result

    def edge_weights(self, geometry: EdgeGeometry, given: Weights | None) -> Weights:
        """One column for every path and channel, of every edge or pair."""
        weights = super().edge_weights(geometry, given)
        if isinstance(weights, Tensor):
            return weights.index_select(1, self.columns)
        parts = weights[0], weights[1].index_select(1, self.columns)
        return Splines(*parts) if isinstance(weights, Splines) else parts

    def fast_sum(
        self, source: Tensor, geometry: EdgeGeometry, given: Weights | None
    ) -> tuple[Tensor, ...]:
        """Own weights as a product, whose second factor has the columns of paths."""
        if given is not None or self.radial is None:
            return super().fast_sum(source, geometry, given)
        hidden, last = self.radial.halves(geometry.pair_length)
        weights = (hidden, last.index_select(1, self.columns))
        return weighted_neighbour_sum(source, geometry, weights, self.paths)

    def _with_degrees(self, x: Tensor) -> Tensor:
        """Rows of scalars with all else zero."""
        if x.ndim == 2 and x.shape[1] == self.channels:
            more = x.new_zeros(x.shape[0], self.irreps.dim - self.channels)
            return torch.cat([x, more], dim=1)
        return x

    def arguments(self) -> str:
        """The positional arguments, for ``repr``."""
        return f"{self.channels}, {self.lmax}"


class SO3Mixing(nn.Module):
    r"""Mix channels of a node, with a product and a gate: the update of SO3net.

    .. math::
        d' = W_2 \, (d + d \otimes W_1 d), \qquad
        d'' = W_3 \, \big( \sigma(V d'^{0} + b)^l \odot d'^{l} \big)

    The product is channel by channel, with even :math:`l_1 + l_2 + l` only.

    Args:
        channels: Channels of every degree.
        lmax: Largest degree. Default 2.

    Shapes:
        ``[N, (lmax + 1)^2 C]``, rows of ``Cx0e + Cx1o + ...``, to the same.

    Example:
        >>> import torch
        >>> tuple(SO3Mixing(8, lmax=1)(torch.randn(5, 32)).shape)
        (5, 32)
    """

    def __init__(self, channels: int, lmax: int = 2) -> None:
        super().__init__()
        self.channels, self.lmax = channels, lmax
        irreps = channelwise(channels, lmax)
        self.paths = ProductPaths(irreps, irreps, irreps, mode="uuu")
        self.first, self.second, self.third = (
            nn.Linear(channels, channels, bias=False) for _ in range(3)
        )
        self.gate = nn.Linear(channels, (lmax + 1) * channels)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Normal weights that keep the size of what passes; biases zero."""
        for layer in (self.first, self.second, self.third, self.gate):
            nn.init.normal_(layer.weight, std=self.channels**-0.5)
        nn.init.zeros_(self.gate.bias)

    @weights_precision
    def forward(self, x: Tensor) -> Tensor:
        """Shapes as above."""
        product = tensor_product(x, self._mix(self.first, x), "", "", paths=self.paths)
        x = self._mix(self.second, x + add_paths(product, self.paths))
        gates = torch.sigmoid(self.gate(x[:, : self.channels])).chunk(self.lmax + 1, 1)
        rows = flat_blocks(x, self.paths.first)
        gated = [
            (row * gate.unsqueeze(1)).flatten(1)
            for row, gate in zip(rows, gates, strict=True)
        ]
        return self._mix(self.third, torch.cat(gated, dim=1))

    def _mix(self, layer: nn.Linear, x: Tensor) -> Tensor:
        """One matrix for all components, as one product."""
        mixed: Tensor = layer(x.reshape(-1, self.channels))
        return mixed.view(x.shape)

    def extra_repr(self) -> str:
        """Channels and degree."""
        return f"{self.channels}, lmax={self.lmax}"


def channelwise(channels: int, lmax: int) -> Irreps:
    """The same channels of every degree, with the parity of vectors."""
    return Irreps([(channels, ir) for _, ir in Irreps.harmonics(lmax)])


def add_paths(rows: Tensor, paths: ProductPaths) -> Tensor:
    """Paths that stand side by side, added up: rows of ``paths.first``."""
    parts = []
    for block, (mul, _) in zip(flat_blocks(rows, paths.out), paths.first, strict=True):
        parts.append(block.unflatten(-1, (-1, mul)).sum(-2).flatten(1))
    return torch.cat(parts, dim=1)
