r"""The layer of PaiNN: messages of scalars and vectors, then their mixing."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from torch_cormorant.conv.arguments import check_channels, has_hooks
from torch_cormorant.conv.inputs import NodeInput
from torch_cormorant.conv.irreps_conv import IrrepsConv
from torch_cormorant.irreps import Irreps
from torch_cormorant.nn.envelopes import Envelope
from torch_cormorant.nn.mlp import MLP, RadialMLP
from torch_cormorant.nn.radial import RadialSpec, make_radial
from torch_cormorant.ops import fused
from torch_cormorant.ops.autocast import full_precision, weights_precision
from torch_cormorant.ops.painn_message import (
    fits,
    message_paths,
    message_rows,
    message_step,
    painn_message,
    with_vectors,
)
from torch_cormorant.ops.painn_mixing import mixing, painn_mixing
from torch_cormorant.ops.weighted_sum import Weights

__all__ = ["PaiNNConv", "PaiNNMixing"]


class PaiNNConv(IrrepsConv):
    r"""Message and update of `PaiNN <https://arxiv.org/abs/2102.03150>`_.

    Eqs. (7) to (10) of Schütt, Unke and Gastegger 2021, with scalars s, vectors v and
    :math:`\hat r_{ij} = (r_i - r_j) / r_{ij}`, i receiving:

    .. math::
        (a, b, d)_{ij} &= \phi(s_j) \odot W(r_{ij}) \\
        s_i' &= s_i + \sum_j a_{ij}, \qquad
        v_i' = v_i + \sum_j (b_{ij} \, \hat r_{ij} + d_{ij} \odot v_j)

    and then :class:`PaiNNMixing` on every node. The message is three Clebsch-Gordan
    paths, 0 x 0 -> 0, 0 x 1 -> 1 and 1 x 0 -> 1; equivariant under rotations and
    reflections.

    Args:
        channels: Scalars and vectors of a node, as many of each.
        cutoff: In Angstrom; None: the weights of edges are given. Default 5.
        basis: Radial functions, as in :func:`~torch_cormorant.nn.make_radial`. Default
            ``"bessel_basis"``.
        num_basis: Number of them. Default 20.
        envelope: As in :class:`~torch_cormorant.nn.Envelope`. Default ``"cosine"``.
        epsilon: Under the root of the norm. Default 1e-8.
        **kwargs: Passed to :class:`torch_geometric.nn.MessagePassing`.

    Shapes:
        - ``x``: ``[N, 4 C]``, rows of ``Cx0e + Cx1o``; or scalars ``[N, C]``, with
          vectors that are zero; a pair (source, target) on bipartite graphs
        - ``edge_index``: ``[2, E]``, or an ``EdgeIndex``, a sparse (transposed)
          adjacency, an :class:`~torch_cormorant.EdgeGeometry`
        - ``edge_vec``: ``[E, 3]`` Angstrom, target minus source; or ``pos``: ``[N, 3]``
        - ``edge_weight``: ``[E, 3 C]``, W of every edge, or what else
          :func:`~torch_cormorant.ops.weighted_neighbour_sum` takes
        - returns ``[N, 4 C]``

    Raises:
        ConfigError: An argument is out of range.
        ShapeError, DtypeError, DeviceError, EdgeIndexError, NonFiniteError,
        CoincidentAtomsError: If an input does not fit.

    Example:
        >>> import torch
        >>> from torch_cormorant import radius_graph
        >>> from torch_cormorant.conv import PaiNNConv
        >>> pos = torch.tensor([[0.0, 0, 0], [0, 0, 1.1], [0, 1.0, -0.4]])
        >>> edge_index = radius_graph(pos, cutoff=3.0)
        >>> first, second = PaiNNConv(8, cutoff=3.0), PaiNNConv(8, cutoff=3.0)
        >>> x = first(torch.randn(3, 8), edge_index, pos=pos)
        >>> tuple(second(x, edge_index, pos=pos).shape)
        (3, 32)
    """

    def __init__(
        self,
        channels: int,
        *,
        cutoff: float | None = 5.0,
        basis: RadialSpec = "bessel_basis",
        num_basis: int = 20,
        envelope: str = "cosine",
        epsilon: float = 1e-8,
        **kwargs: Any,
    ) -> None:
        super().__init__(locals(), **kwargs)
        self.channels = C = check_channels(channels, "channels")
        self.irreps = Irreps([(C, "0e"), (C, "1o")])
        self.paths = message_paths(C)
        self.radial = None
        if cutoff is not None:
            made = make_radial(basis, num_basis=num_basis, cutoff=cutoff, complex=False)
            self.radial = RadialMLP(
                made, [], 3 * C, bias=True, envelope=Envelope(envelope, cutoff)
            )
        self.context = MLP([C, C, 3 * C], bias=True)
        self.mixing = PaiNNMixing(C, epsilon)

    def reset_parameters(self) -> None:
        """Start all weights again."""
        super().reset_parameters()
        for part in (self.radial, self.context, self.mixing):
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
        edge_weight: Weights | None = None,
    ) -> Tensor:
        """Update the nodes; arguments and shapes as in the class description."""
        C, pair = self.channels, isinstance(x, (tuple, list))
        if pair:
            x = (with_vectors(x[0], C), with_vectors(x[1], C))
        scalars = isinstance(x, Tensor) and x.shape[1:] == (C,)
        irreps = self.irreps[:1] if scalars else self.irreps
        source, target, geometry = self.inputs(
            x, (irreps, irreps), edge_index, edge_vec, pos
        )
        weights, sh = self.edge_weights(geometry, edge_weight), geometry.sh(1)
        context = None if pair or self.explain or has_hooks(self) else self._fused(sh)
        if context is not None and fits(geometry.plan, weights, C):
            x = painn_message(source, sh, weights, context, geometry.plan)
        else:
            source, target = with_vectors(source, C), with_vectors(target, C)
            rows = message_rows(self.context(source[:, :C]), source[:, C:])
            sums = self.neighbour_sum(rows, geometry, weights)
            blocks = sums[:, :C], sums[:, C:].unflatten(1, (3, 2 * C))
            x = target + message_step(blocks)
        result: Tensor = self.mixing(x)
        return result

    def _fused(self, sh: Tensor) -> list[Tensor] | None:
        """What the fused message reads of the context, if it may compute."""
        return self.context.fixed_weights() if fused.fits("auto", sh) else None

    def arguments(self) -> str:
        """The positional arguments, for ``repr``."""
        return str(self.channels)


class PaiNNMixing(nn.Module):
    r"""Mix scalars and vectors of a node: the update block of PaiNN.

    .. math::
        (V, U) &= W v, \qquad (a, b, d) = \psi(s, \sqrt{|V|^2 + \epsilon}) \\
        s' &= s + a + d \, (V \cdot U), \qquad v' = v + b \, U

    Args:
        channels: Scalars and vectors of a node, as many of each.
        epsilon: Default 1e-8.

    Shapes:
        ``[N, 4 C]``, rows of ``Cx0e + Cx1o``, to the same.

    Example:
        >>> import torch
        >>> tuple(PaiNNMixing(8)(torch.randn(5, 32)).shape)
        (5, 32)
    """

    def __init__(self, channels: int, epsilon: float = 1e-8) -> None:
        super().__init__()
        self.channels, self.epsilon = channels, epsilon
        self.vectors = MLP([channels, 2 * channels])
        self.context = MLP([2 * channels, channels, 3 * channels], bias=True)

    def reset_parameters(self) -> None:
        """Start all weights again."""
        self.vectors.reset_parameters()
        self.context.reset_parameters()

    @weights_precision
    def forward(self, x: Tensor) -> Tensor:
        """Shapes as above."""
        if fused.fits("auto", x):
            vectors, context = (
                self.vectors.fixed_weights(),
                self.context.fixed_weights(),
            )
            if vectors is not None and context is not None:
                return painn_mixing(x, [*vectors, *context], self.epsilon)
        return mixing(x, self.vectors, self.context, self.epsilon)

    def extra_repr(self) -> str:
        """Channels."""
        return str(self.channels)
