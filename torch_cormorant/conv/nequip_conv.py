r"""The interaction of NequIP as a PyTorch Geometric operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from torch_cormorant.conv.inputs import NodeInput
from torch_cormorant.conv.irreps_conv import IrrepsConv
from torch_cormorant.errors import ConfigError
from torch_cormorant.irreps import Irreps
from torch_cormorant.nn.gated import GatedBlock
from torch_cormorant.nn.irreps_linear import IrrepsLinear, SpeciesLinear
from torch_cormorant.nn.radial_mlp import RadialMLP
from torch_cormorant.ops import ProductPaths
from torch_cormorant.ops.autocast import weights_precision

__all__ = ["NequIPConv"]


class NequIPConv(IrrepsConv):
    r"""The interaction block of `NequIP <https://arxiv.org/abs/2101.03164>`_.

    .. math::
        F_i' = \text{gate}\Big( W_2 \sum_j \sum_p R_p(r_{ij})\,
        C(W_1 F_j, Y(r_{ij})) + W_s(a_i)\, F_i \Big)

    (Batzner et al. 2022, fig. 1): a depthwise tensor field convolution between two
    linear maps, a self connection by matrices of the species, and a gate. Equivariant
    under O(3) where irreps have parities. Orthonormal Clebsch-Gordan tables and unit
    harmonics.

    Args:
        in_irreps: Irreps of the input.
        out_irreps: Irreps that are wanted; those that cannot arise from the input and
            the harmonics are left out, see ``out_irreps`` of the layer.
        lmax_sh: Largest degree of the harmonics. Default: that of ``out_irreps``.
        edge_dim: Number of radial functions per edge, passed as ``edge_attr``.
        attr_dim: Length of the nodes' label; 0 leaves the self connection out.
        hidden: Widths of the hidden layers of the radial network. Default ``(64,)``.
        gate: Function of the gates. Default ``"silu"``.
        normalize: Constants of the functions, as of
            :class:`~torch_cormorant.nn.GatedBlock`. Default ``"exact"``.
        avg_num_neighbors: Sums are divided by its square root. Default 1.
        backend: As of :func:`~torch_cormorant.ops.weighted_neighbour_sum`.
        kwargs: Of PyG's ``MessagePassing``.

    Shapes:
        - ``x`` ``[N, in_irreps.dim]`` or a pair (source, target) on a bipartite graph.
        - ``edge_index`` ``[2, E]``, row 0 = source, or anything that PyG accepts, with
          ``edge_vec`` ``[E, 3]`` (``pos[target] - pos[source]``, Angstrom) or ``pos``;
          or an :class:`~torch_cormorant.EdgeGeometry`.
        - ``edge_attr`` ``[E, edge_dim]``: radial functions times a cutoff.
        - ``node_attr`` ``[N_target, attr_dim]``: one-hot or embedding of the species.
        - result ``[N_target, out_irreps.dim]``.

    Attributes:
        out_irreps: Irreps of the result.

    Raises:
        ConfigError, ShapeError, DtypeError: If something does not fit.

    Example:
        >>> import torch
        >>> conv = NequIPConv("4x0e", "4x0e + 3x1o + 2x1e", edge_dim=8, attr_dim=3)
        >>> conv
        NequIPConv(4x0e -> 4x0e + 3x1o, lmax_sh=1)
        >>> index = torch.tensor([[0, 1, 2], [1, 0, 0]])
        >>> vec, radial = torch.randn(3, 3), torch.rand(3, 8)
        >>> conv(torch.randn(3, 4), index, vec, radial, torch.eye(3)).shape
        torch.Size([3, 13])
    """

    def __init__(
        self,
        in_irreps: object,
        out_irreps: object,
        lmax_sh: int | None = None,
        *,
        edge_dim: int,
        attr_dim: int = 0,
        hidden: Sequence[int] = (64,),
        gate: str = "silu",
        normalize: str = "exact",
        avg_num_neighbors: float = 1.0,
        backend: str = "auto",
        **kwargs: Any,
    ) -> None:
        first, wanted = Irreps(in_irreps), Irreps(out_irreps)
        top = wanted.lmax if lmax_sh is None else lmax_sh
        harmonics = Irreps.harmonics(top, parity=first.has_parity)
        gated = GatedBlock(
            wanted.filter(first.product(harmonics)), gate=gate, normalize=normalize
        )
        paths = ProductPaths(first, harmonics, gated.in_irreps)
        super().__init__(paths, edge_dim, backend, **kwargs)
        self.in_irreps, self.out_irreps = first, gated.out_irreps
        self.attr_dim, self.avg_num_neighbors = attr_dim, avg_num_neighbors
        self.linear_in = IrrepsLinear(first, first)
        self.radial = RadialMLP(edge_dim, hidden, paths.weight_numel)
        self.linear_out = IrrepsLinear(paths.out, gated.in_irreps)
        self.self_connection = (
            SpeciesLinear(first, attr_dim, gated.in_irreps) if attr_dim else None
        )
        self.gate = gated

    def reset_parameters(self) -> None:
        """Start all weights again."""
        super().reset_parameters()
        for part in (self.linear_in, self.radial, self.linear_out):
            part.reset_parameters()
        if self.self_connection is not None:
            self.self_connection.reset_parameters()

    @weights_precision
    def forward(
        self,
        x: NodeInput,
        edge_index: Any,
        edge_vec: Tensor | None = None,
        edge_attr: Any = None,
        node_attr: Tensor | None = None,
        *,
        pos: NodeInput | None = None,
    ) -> Tensor:
        """Update the nodes; arguments and shapes as in the class description."""
        source, target, geometry = self.edges(
            x, self.in_irreps, edge_index, edge_vec, edge_attr, pos
        )
        mixed = self.linear_in(source) * self.avg_num_neighbors**-0.5
        blocks = self.summed(mixed, geometry, self.radial.split(edge_attr))
        total = self.linear_out(blocks)
        if (node_attr is None) != (self.self_connection is None):
            msg = (
                f"the layer was made with attr_dim={self.attr_dim}, but node_attr is "
                f"{'missing' if node_attr is None else 'given'}"
            )
            raise ConfigError(msg)
        if self.self_connection is not None and node_attr is not None:
            total = total + self.self_connection(target, node_attr)
        found: Tensor = self.gate(total)
        return found

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.in_irreps} -> {self.out_irreps}, "
            f"lmax_sh={self.lmax_sh})"
        )
