r"""The interaction of PaiNN as a PyTorch Geometric operator."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from torch_cormorant.conv.arguments import check_channels
from torch_cormorant.conv.inputs import NodeInput
from torch_cormorant.conv.irreps_conv import IrrepsConv
from torch_cormorant.errors import ShapeError
from torch_cormorant.irreps import Irreps
from torch_cormorant.ops import ProductPaths
from torch_cormorant.ops.autocast import weights_precision
from torch_cormorant.so3.flat import flat_blocks

__all__ = ["PaiNNConv"]


class PaiNNConv(IrrepsConv):
    r"""Message and update of `PaiNN <https://arxiv.org/abs/2102.03150>`_.

    With (a, b, d) = three parts of :math:`\phi(s_j) \circ W(r_{ij})`, eqs. (7) and (8)
    of Schütt et al. 2021:

    .. math::
        s_i \mathrel{+}= \sum_j a_{ij}, \qquad
        \vec v_i \mathrel{+}= \sum_j b_{ij}\, \hat r_{ij} + d_{ij}\, \vec v_j,

    three paths (0 x 0 -> 0, 0 x 1 -> 1, 1 x 0 -> 1) of the weighted sum; then within
    every atom, eqs. (9) and (10), with (V, U) = two linear maps of the vectors and
    (a, b, d) = parts of :math:`\psi(s_i, |V_i|)`:

    .. math::
        s_i \mathrel{+}= a_i + d_i\, \langle V_i, U_i \rangle, \qquad
        \vec v_i \mathrel{+}= b_i\, U_i .

    Args:
        channels: Channels C of scalars and of vectors.
        edge_dim: Number of radial functions per edge, passed as ``edge_attr``.
        epsilon: Added to squared norms. Default 1e-8.
        backend: As of :func:`~torch_cormorant.ops.weighted_neighbour_sum`.
        kwargs: Of PyG's ``MessagePassing``.

    Shapes:
        - ``x`` ``[N, 4 C]``: flat rows of ``"Cx0e + Cx1o"``, or a pair (source, target)
          on a bipartite graph.
        - ``edge_index`` ``[2, E]``, row 0 = source, or anything that PyG accepts, with
          ``edge_vec`` ``[E, 3]`` (``pos[target] - pos[source]``, Angstrom) or ``pos``;
          or an :class:`~torch_cormorant.EdgeGeometry`.
        - ``edge_attr`` ``[E, edge_dim]``: radial functions, without the cutoff.
        - ``edge_weight`` ``[E]``: the cutoff function of each edge; default one.
        - result ``[N_target, 4 C]``.

    Raises:
        ConfigError, ShapeError, DtypeError: If something does not fit.

    Note:
        Components of vectors are (y, z, x), as everywhere here.

    Example:
        >>> import torch
        >>> conv = PaiNNConv(16, edge_dim=20)
        >>> conv
        PaiNNConv(16, edge_dim=20)
        >>> index = torch.tensor([[0, 1, 2], [1, 0, 0]])
        >>> vec, radial = torch.randn(3, 3), torch.rand(3, 20)
        >>> conv(torch.randn(3, 64), index, vec, radial, torch.rand(3)).shape
        torch.Size([3, 64])
    """

    def __init__(
        self,
        channels: int,
        *,
        edge_dim: int,
        epsilon: float = 1e-8,
        backend: str = "auto",
        **kwargs: Any,
    ) -> None:
        C = check_channels(channels, "channels")
        paths = ProductPaths(
            [(C, "0e"), (C, "0e"), (C, "1o")],
            "0e + 1o",
            paths=[(0, 0, "0e"), (1, 1, "1o"), (2, 0, "1o")],
        )
        super().__init__(paths, edge_dim, backend, **kwargs)
        self.channels, self.epsilon = C, epsilon
        self.irreps = Irreps([(C, "0e"), (C, "1o")])
        self.filter = nn.Linear(edge_dim, 3 * C)
        self.context = _two_layers(C, C, 3 * C)
        self.mixing = nn.Linear(C, 2 * C, bias=False)
        self.scales = _two_layers(2 * C, C, 3 * C)

    def reset_parameters(self) -> None:
        """Start all weights again."""
        super().reset_parameters()
        for part in (self.filter, *self.context, self.mixing, *self.scales):
            if isinstance(part, nn.Linear):
                part.reset_parameters()

    @weights_precision
    def forward(
        self,
        x: NodeInput,
        edge_index: Any,
        edge_vec: Tensor | None = None,
        edge_attr: Any = None,
        edge_weight: Tensor | None = None,
        *,
        pos: NodeInput | None = None,
    ) -> Tensor:
        """Update the nodes; arguments and shapes as in the class description."""
        source, target, geometry = self.edges(
            x, self.irreps, edge_index, edge_vec, edge_attr, pos
        )
        weights = self._filters(edge_attr, edge_weight)
        s, v = flat_blocks(source, self.irreps)
        a, b, d = self.context(s).split(self.channels, dim=2)
        rows = torch.cat([a.flatten(1), b.flatten(1), (d * v).flatten(1)], dim=1)
        ds, dv = self.summed(rows, geometry, weights)
        dv = dv[..., : self.channels] + dv[..., self.channels :]
        s, v = flat_blocks(target, self.irreps)
        return self.updated(s + ds, v + dv)

    def updated(self, s: Tensor, v: Tensor) -> Tensor:
        """The update within every atom, of blocks ``[N, 1, C]`` and ``[N, 3, C]``."""
        V, U = self.mixing(v).split(self.channels, dim=2)
        norm = (V.square().sum(1, keepdim=True) + self.epsilon).sqrt()
        a, b, d = self.scales(torch.cat([s, norm], dim=2)).split(self.channels, dim=2)
        s, v = s + a + d * (V * U).sum(1, keepdim=True), v + b * U
        return torch.cat([s.flatten(1), v.flatten(1)], dim=1)

    def _filters(
        self, edge_attr: Tensor, edge_weight: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The filters as a hidden layer and the matrix behind it, the bias a row."""
        cutoff = edge_attr.new_ones(edge_attr.shape[0], 1)
        if edge_weight is not None:
            if edge_weight.shape != edge_attr.shape[:1]:
                msg = (
                    f"edge_weight must have shape {[*edge_attr.shape[:1]]}, got "
                    f"{list(edge_weight.shape)}"
                )
                raise ShapeError(msg)
            cutoff = edge_weight.unsqueeze(1)
        hidden = torch.cat([edge_attr * cutoff, cutoff], dim=1)
        last = torch.cat([self.filter.weight.t(), self.filter.bias.unsqueeze(0)])
        return hidden, last

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.channels}, edge_dim={self.edge_dim})"


def _two_layers(first: int, middle: int, last: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(first, middle), nn.SiLU(), nn.Linear(middle, last))
