r"""The attention of SE(3)-Transformers, and the convolution behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from torch_cormorant.conv.arguments import (
    check_channels,
    check_count,
    has_hooks,
    one_of,
)
from torch_cormorant.conv.inputs import NodeInput, check_edge_attr
from torch_cormorant.conv.irreps_conv import IrrepsConv
from torch_cormorant.errors import ConfigError
from torch_cormorant.irreps import Block, Irrep, Irreps
from torch_cormorant.nn.edge_kernel import EdgeKernel
from torch_cormorant.nn.envelopes import Envelope
from torch_cormorant.nn.irreps_linear import IrrepsLinear
from torch_cormorant.nn.norm_network import AttentiveMixing
from torch_cormorant.ops import EdgeGeometry
from torch_cormorant.ops.autocast import full_precision
from torch_cormorant.ops.segment import scatter_sum
from torch_cormorant.so3.flat import flat_blocks

__all__ = ["SE3KernelConv", "SE3TransformerConv"]

VECTOR = Irrep(1)


class _KernelLayer(IrrepsConv):
    """What the two layers share: scalars of edges and their envelope."""

    def __init__(
        self,
        irreps_in: object,
        irreps_out: object,
        options: dict[str, Any],
        **kwargs: Any,
    ) -> None:
        super().__init__(options, **kwargs)
        self.irreps_in, self.irreps_out = Irreps(irreps_in), Irreps(irreps_out)
        for irreps in (self.irreps_in, self.irreps_out):
            degrees = [block.ir for block in irreps]
            if irreps.has_parity or len(set(degrees)) != len(degrees) or not degrees:
                msg = (
                    "the SE(3)-Transformer has one block of each degree and no "
                    f"parities, '8x0 + 8x1' for example, got {irreps}"
                )
                raise ConfigError(msg)
        self.edge_dim = check_count(options["edge_dim"], "edge_dim")
        self.envelope = None
        if options["envelope"] is not None:
            if options["cutoff"] is None:
                raise ConfigError("an envelope needs a cutoff; or give envelope=None")
            self.envelope = Envelope(options["envelope"], options["cutoff"])

    def edge_scalars(self, geometry: EdgeGeometry, given: Tensor | None) -> Tensor:
        """What the user gave, then lengths ``[E, edge_dim + 1]``."""
        length = geometry.edge_length.unsqueeze(1)
        check_edge_attr(given, geometry.plan.num_edges, self.edge_dim, length)
        return length if given is None else torch.cat([given, length], dim=1)

    def weights_of(self, geometry: EdgeGeometry) -> Tensor | None:
        """Envelope of edges ``[E, 1]``, or None."""
        if self.envelope is None:
            return None
        made: Tensor = self.envelope(geometry.edge_length)
        return made.unsqueeze(1)

    def total(self, rows: Tensor, geometry: EdgeGeometry) -> Tensor:
        """Sums over the edges of every receiver."""
        target = geometry.edge_index[1]
        return scatter_sum(rows, target, geometry.num_targets, validate=False)

    def edge_sum(self, rows: Tensor, geometry: EdgeGeometry) -> Tensor:
        """Sum of messages, through ``propagate`` where someone listens."""
        if not (self.explain or has_hooks(self)):
            return self.total(rows, geometry)
        size = (geometry.num_sources, geometry.num_targets)
        return self.propagate(geometry.edge_index, rows=rows, size=size)

    def message(self, rows: Tensor) -> Tensor:  # type: ignore[override]
        """Messages of edges."""
        return rows

    def arguments(self) -> str:
        """The positional arguments, for ``repr``."""
        return f"{str(self.irreps_in)!r}, {str(self.irreps_out)!r}"


class SE3TransformerConv(_KernelLayer):
    r"""Equivariant attention of `SE(3)-Transformers <https://arxiv.org/abs/2006.10503>`_.

    Eqs. (10) and (11) of Fuchs et al. 2020, keys and values by
    :class:`~torch_cormorant.nn.EdgeKernel`, heads that split the channels of every
    degree:

    .. math::
        \alpha_{ij} &= \frac{u_{ij} \, e^{q_i \cdot k_{ij} / \sqrt{d}}}
        {[1] + \sum_{j'} u_{ij'} \, e^{q_i \cdot k_{ij'} / \sqrt{d}}}, \qquad
        q_i = W_Q F_i \\
        F_i' &= W \Big[ \textstyle\sum_j \alpha_{ij} v_{ij}, \; F_i \Big]

    with the size d of a key. With an envelope u there is a 1 in the denominator, and
    results are smooth where a neighbour comes in; without one, as published, u = 1 and
    there is none: forces jump.

    Args:
        irreps_in: What the features are made of, no parities.
        irreps_out: What the result is made of, no parities.
        heads: Number of heads. Default 1.
        div: Values and keys have this factor fewer channels than ``irreps_out``,
            rounded down. Default 2.
        edge_dim: Scalars of an edge that are given beside the length. Default 0.
        mixing: W: ``"linear"`` (default), or ``"attentive"``:
            :class:`~torch_cormorant.nn.AttentiveMixing`.
        relative: How the vector of the edge enters features of degree 1 of the sender:
            ``"add"`` to the first, if there are two, ``"cat"`` as one more; None
            (default): not at all.
        cutoff: Of the envelope, in Angstrom. Default 5.
        envelope: u, as in :class:`~torch_cormorant.nn.Envelope`, or None. Default
            ``"polynomial"``.
        **kwargs: Passed to :class:`torch_geometric.nn.MessagePassing`.

    Shapes:
        - ``x``: ``[N, irreps_in.dim]``; a pair (source, target) on bipartite graphs
        - ``edge_index``: ``[2, E]``, or an ``EdgeIndex``, a sparse (transposed)
          adjacency, an :class:`~torch_cormorant.EdgeGeometry`
        - ``edge_vec``: ``[E, 3]`` Angstrom, target minus source; or ``pos``: ``[N, 3]``
        - ``edge_attr``: ``[E, edge_dim]``
        - returns ``[N, irreps_out.dim]``

    Raises:
        ConfigError: An argument is out of range, or inputs and result share no degree.
        ShapeError, DtypeError, DeviceError, EdgeIndexError, NonFiniteError,
        CoincidentAtomsError: If an input does not fit.

    Example:
        >>> import torch
        >>> from torch_cormorant import radius_graph
        >>> from torch_cormorant.conv import SE3TransformerConv
        >>> pos = torch.tensor([[0.0, 0, 0], [0, 0, 1.1], [0, 1.0, -0.4]])
        >>> edge_index = radius_graph(pos, cutoff=3.0)
        >>> conv = SE3TransformerConv("8x0", "8x0 + 8x1", heads=2, cutoff=3.0)
        >>> tuple(conv(torch.randn(3, 8), edge_index, pos=pos).shape)
        (3, 32)
    """

    def __init__(
        self,
        irreps_in: object,
        irreps_out: object,
        *,
        heads: int = 1,
        div: float = 2,
        edge_dim: int = 0,
        mixing: str = "linear",
        relative: str | None = None,
        cutoff: float | None = 5.0,
        envelope: str | None = "polynomial",
        **kwargs: Any,
    ) -> None:
        super().__init__(irreps_in, irreps_out, locals(), **kwargs)
        self.heads = check_channels(heads, "heads")
        self.mixing = one_of(mixing, ("linear", "attentive"), "mixing")
        if relative not in (None, "add", "cat"):
            msg = f'relative must be "add", "cat" or None, got {relative!r}'
            raise ConfigError(msg)
        self.relative = relative
        sent = self.irreps_in
        if relative == "cat":
            sent = _with_vector(sent)
        values = Irreps([(int(mul // div), ir) for mul, ir in self.irreps_out])
        keys = values.filter(self.irreps_in)
        odd = [b for b in values if b.mul < 1 or b.mul % heads]
        if odd or not len(keys):
            msg = (
                f"{self.irreps_in} -> {self.irreps_out} with div={div:g} makes values "
                f"{values} and keys {keys}: every degree needs a multiple of "
                f"heads={heads} channels, and the two a degree in common"
            )
            raise ConfigError(msg)
        self.values = EdgeKernel(sent, values, self.edge_dim + 1)
        self.keys = EdgeKernel(sent, keys, self.edge_dim + 1)
        self.queries = IrrepsLinear(self.irreps_in, keys)
        kind = IrrepsLinear if mixing == "linear" else AttentiveMixing
        inner = values + self.irreps_in.filter(values)
        self.project = kind(inner, self.irreps_out)

    def reset_parameters(self) -> None:
        """Start all weights again."""
        super().reset_parameters()
        for part in (self.values, self.keys, self.queries, self.project):
            part.reset_parameters()

    @full_precision
    def forward(
        self,
        x: NodeInput,
        edge_index: Any,
        edge_vec: Tensor | None = None,
        *,
        pos: NodeInput | None = None,
        edge_attr: Tensor | None = None,
    ) -> Tensor:
        """Update the nodes; arguments and shapes as in the class description."""
        rows = (self.irreps_in, self.irreps_in)
        source, target, geometry = self.inputs(x, rows, edge_index, edge_vec, pos)
        sent = self.sent(source, geometry)
        scalars = self.edge_scalars(geometry, edge_attr)
        sh = geometry.sh(self.values.paths.second.lmax)
        v = self.values(sent, sh, scalars)
        k = self.keys(sent, sh[:, : self.keys.paths.second.dim], scalars)
        alpha = self.attention(self.queries(target), k, geometry)
        z = self.edge_sum(self._weighted(v, alpha), geometry)
        skip = [
            part.flatten(1)
            for part, (_, ir) in zip(
                flat_blocks(target, self.irreps_in), self.irreps_in, strict=True
            )
            if ir in self.values.paths.out
        ]
        result: Tensor = self.project(torch.cat([z, *skip], dim=1))
        return result

    def sent(self, source: Tensor, geometry: EdgeGeometry) -> Tensor:
        """Features of the sender of every edge, with its vector if that is wanted."""
        rows = source.index_select(0, geometry.edge_index[0])
        if self.relative is None:
            return rows
        vec = geometry.edge_vec[:, [1, 2, 0]].unsqueeze(2)  # y, z, x
        blocks = dict(
            zip(
                [ir for _, ir in self.irreps_in],
                flat_blocks(rows, self.irreps_in),
                strict=True,
            )
        )
        own = blocks.get(VECTOR)
        if self.relative == "cat":
            blocks[VECTOR] = vec if own is None else torch.cat([own, vec], dim=2)
        elif own is not None and own.shape[2] > 1:
            blocks[VECTOR] = torch.cat([own[..., :1] + vec, own[..., 1:]], dim=2)
        order = self.values.paths.first
        return torch.cat([blocks[ir].flatten(1) for _, ir in order], dim=1)

    def attention(self, q: Tensor, k: Tensor, geometry: EdgeGeometry) -> Tensor:
        """Weights of edges ``[E, heads]``.

        Args:
            q: Queries of receivers.
            k: Keys of edges.
            geometry: The edges.
        """
        irreps, target = self.keys.paths.out, geometry.edge_index[1]
        products = flat_blocks(k * q.index_select(0, target), irreps)
        parts = [p.sum(1).unflatten(1, (self.heads, -1)).sum(2) for p in products]
        scores = torch.stack(parts).sum(0) * irreps.dim**-0.5
        # the largest score of a node is a constant that drops out
        start = scores.new_zeros(geometry.num_targets, self.heads)
        index = target.unsqueeze(1).expand_as(scores)
        include = self.envelope is not None  # the one in the denominator has score 0
        largest = start.scatter_reduce(
            0, index, scores.detach(), "amax", include_self=include
        )
        weight: Tensor = (scores - largest.index_select(0, target)).exp()
        u = self.weights_of(geometry)
        weight = weight if u is None else weight * u
        total = self.total(weight, geometry)
        if include:
            total = total + (-largest).exp()
        shares: Tensor = weight / total.index_select(0, target)
        return shares

    def _weighted(self, v: Tensor, alpha: Tensor) -> Tensor:
        """Values times the weights of their heads."""
        irreps = self.values.paths.out
        parts = []
        for part, (mul, _) in zip(flat_blocks(v, irreps), irreps, strict=True):
            columns = alpha.repeat_interleave(mul // self.heads, dim=1)
            parts.append((part * columns.unsqueeze(1)).flatten(1))
        return torch.cat(parts, dim=1)


class SE3KernelConv(_KernelLayer):
    r"""The convolution of SE(3)-Transformers without attention: a mean of messages.

    .. math::
        F_i' = W F_i + \frac{\sum_j u_{ij} \, m_{ij}}{1 + \sum_j u_{ij}}

    with messages of :class:`~torch_cormorant.nn.EdgeKernel`; the last layer of their
    networks, and of the tensor field networks they compare with. Without an envelope u,
    as published, it is the mean of :math:`m_{ij} + W F_i` over the edges, zero without
    edges.

    Args:
        irreps_in: What the features are made of, no parities.
        irreps_out: What the result is made of, no parities.
        edge_dim: Scalars of an edge that are given beside the length. Default 0.
        cutoff: Of the envelope, in Angstrom. Default 5.
        envelope: u, as in :class:`~torch_cormorant.nn.Envelope`, or None. Default
            ``"polynomial"``.
        **kwargs: Passed to :class:`torch_geometric.nn.MessagePassing`.

    Shapes:
        As :class:`SE3TransformerConv`.

    Raises:
        ConfigError: An argument is out of range.
        ShapeError, DtypeError, DeviceError, EdgeIndexError, NonFiniteError,
        CoincidentAtomsError: If an input does not fit.

    Example:
        >>> import torch
        >>> from torch_cormorant import radius_graph
        >>> from torch_cormorant.conv import SE3KernelConv
        >>> pos = torch.tensor([[0.0, 0, 0], [0, 0, 1.1], [0, 1.0, -0.4]])
        >>> conv = SE3KernelConv("8x0", "4x0 + 2x1", cutoff=3.0)
        >>> out = conv(torch.randn(3, 8), radius_graph(pos, cutoff=3.0), pos=pos)
        >>> tuple(out.shape)
        (3, 10)
    """

    def __init__(
        self,
        irreps_in: object,
        irreps_out: object,
        *,
        edge_dim: int = 0,
        cutoff: float | None = 5.0,
        envelope: str | None = "polynomial",
        **kwargs: Any,
    ) -> None:
        super().__init__(irreps_in, irreps_out, locals(), **kwargs)
        self.kernel = EdgeKernel(self.irreps_in, self.irreps_out, self.edge_dim + 1)
        self.own = IrrepsLinear(self.irreps_in, self.irreps_out)

    def reset_parameters(self) -> None:
        """Start all weights again."""
        super().reset_parameters()
        self.kernel.reset_parameters()
        self.own.reset_parameters()

    @full_precision
    def forward(
        self,
        x: NodeInput,
        edge_index: Any,
        edge_vec: Tensor | None = None,
        *,
        pos: NodeInput | None = None,
        edge_attr: Tensor | None = None,
    ) -> Tensor:
        """Update the nodes; arguments and shapes as in the class description."""
        rows = (self.irreps_in, self.irreps_in)
        source, target, geometry = self.inputs(x, rows, edge_index, edge_vec, pos)
        sent = source.index_select(0, geometry.edge_index[0])
        scalars = self.edge_scalars(geometry, edge_attr)
        sh = geometry.sh(self.kernel.paths.second.lmax)
        messages = self.kernel(sent, sh, scalars)
        own, u = self.own(target), self.weights_of(geometry)
        ones = messages.new_ones(len(messages), 1)
        if u is None:
            count = self.total(ones, geometry)
            mean = self.edge_sum(messages, geometry) / count.clamp_min(1)
            plain: Tensor = mean + torch.where(count > 0, own, 0.0)
            return plain
        sums = self.edge_sum(messages * u, geometry)
        result: Tensor = own + sums / (1 + self.total(u, geometry))
        return result


def _with_vector(irreps: Irreps) -> Irreps:
    """One copy of degree 1 more."""
    if VECTOR in irreps:
        return Irreps([Block(mul + (ir == VECTOR), ir) for mul, ir in irreps])
    blocks: Mapping[int, Block] = {ir.l: Block(mul, ir) for mul, ir in irreps}
    made = {**blocks, 1: Block(1, VECTOR)}
    return Irreps([made[l] for l in sorted(made)])
