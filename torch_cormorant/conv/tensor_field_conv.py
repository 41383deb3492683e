r"""The convolution of tensor field networks as a PyTorch Geometric operator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from torch_cormorant.conv.arguments import one_of
from torch_cormorant.conv.inputs import NodeInput
from torch_cormorant.conv.irreps_conv import IrrepsConv
from torch_cormorant.irreps import Irreps
from torch_cormorant.nn.irreps_linear import IrrepsLinear
from torch_cormorant.nn.radial_mlp import RadialMLP
from torch_cormorant.ops import ProductPaths
from torch_cormorant.ops.autocast import weights_precision

__all__ = ["TensorFieldConv"]

KINDS = ("depthwise", "full")


class TensorFieldConv(IrrepsConv):
    r"""The convolution of `tensor fields <https://arxiv.org/abs/1802.08219>`_.

    Linear in the features:

    .. math::
        F_i' = W \sum_j \sum_p R_p(r_{ij})\, C(F_j, Y(r_{ij})) + b,

    eq. (4) of Thomas et al. 2018: with ``"depthwise"`` every path and channel has a
    radial weight and a linear map mixes the channels (self-interaction); with
    ``"full"`` the radial weights mix them themselves (the kernel of Weiler et al. 2018,
    eq. (5)) and W is left out. Orthonormal Clebsch-Gordan tables, unit harmonics; with
    ``lmax_sh=0`` the continuous-filter convolution of SchNet.

    Args:
        in_irreps: Irreps of the input.
        out_irreps: Irreps of the result.
        lmax_sh: Largest degree of the harmonics. Default: that of the result.
        edge_dim: Number of radial functions per edge, passed as ``edge_attr``.
        hidden: Widths of the hidden layers of the radial network. Default ``(16,)``.
        activation: Of the radial network. Default ``"silu"``.
        kind: ``"depthwise"`` (default) or ``"full"``.
        harmonics: Irreps of the harmonics; default: degrees up to ``lmax_sh``, of
            parity ``(-1)^l`` where irreps have one. All even, ``"0e + 1e + 2e"``, makes
            a layer of SO(3) that cannot tell mirror images apart by their labels.
        bias: Bias on scalars, depthwise only. Default True.
        avg_num_neighbors: Sums are divided by its square root. Default 1.
        backend: As of :func:`~torch_cormorant.ops.weighted_neighbour_sum`.
        kwargs: Of PyG's ``MessagePassing``.

    Shapes:
        - ``x`` ``[N, in_irreps.dim]`` or a pair (source, target) on a bipartite graph.
        - ``edge_index`` ``[2, E]``, row 0 = source, or anything that PyG accepts, with
          ``edge_vec`` ``[E, 3]`` (``pos[target] - pos[source]``, Angstrom) or ``pos``;
          or an :class:`~torch_cormorant.EdgeGeometry`.
        - ``edge_attr`` ``[E, edge_dim]``: radial functions of the lengths; let them
          vanish at the cutoff where forces are wanted.
        - result ``[N_target, out_irreps.dim]``.

    Raises:
        ConfigError, ShapeError, DtypeError: If something does not fit.

    Example:
        >>> import torch
        >>> conv = TensorFieldConv("5x0e", "4x0e + 3x1o", edge_dim=6)
        >>> conv
        TensorFieldConv(5x0e -> 4x0e + 3x1o, lmax_sh=1, depthwise)
        >>> index = torch.tensor([[0, 1, 2], [1, 0, 0]])
        >>> out = conv(torch.randn(3, 5), index, torch.randn(3, 3), torch.rand(3, 6))
        >>> out.shape
        torch.Size([3, 13])
    """

    def __init__(
        self,
        in_irreps: object,
        out_irreps: object,
        lmax_sh: int | None = None,
        *,
        edge_dim: int,
        hidden: Sequence[int] = (16,),
        activation: str = "silu",
        kind: str = "depthwise",
        harmonics: object | None = None,
        bias: bool = True,
        avg_num_neighbors: float = 1.0,
        backend: str = "auto",
        **kwargs: Any,
    ) -> None:
        first, out = Irreps(in_irreps), Irreps(out_irreps)
        top = out.lmax if lmax_sh is None else lmax_sh
        if harmonics is None:
            harmonics = Irreps.harmonics(top, parity=first.has_parity)
        full = one_of(kind, KINDS, "kind") == "full"
        mode = "uvw" if full else "uvu"
        paths = ProductPaths(first, harmonics, out, mode=mode)
        super().__init__(paths, edge_dim, backend, **kwargs)
        self.in_irreps, self.out_irreps, self.kind = first, out, kind
        self.avg_num_neighbors = avg_num_neighbors
        self.radial = RadialMLP(edge_dim, hidden, paths.weight_numel, activation)
        self.linear = None if full else IrrepsLinear(paths.out, out, bias=bias)

    def reset_parameters(self) -> None:
        """Start all weights again."""
        super().reset_parameters()
        self.radial.reset_parameters()
        if self.linear is not None:
            self.linear.reset_parameters()

    @weights_precision
    def forward(
        self,
        x: NodeInput,
        edge_index: Any,
        edge_vec: Tensor | None = None,
        edge_attr: Any = None,
        *,
        pos: NodeInput | None = None,
    ) -> Tensor:
        """Convolve; arguments and shapes as in the class description."""
        source, _, geometry = self.edges(
            x, self.in_irreps, edge_index, edge_vec, edge_attr, pos
        )
        scale = self.avg_num_neighbors**-0.5
        blocks = self.summed(source * scale, geometry, self.radial.split(edge_attr))
        if self.linear is not None:
            found: Tensor = self.linear(blocks)
            return found
        return torch.cat([block.flatten(1) for block in blocks], dim=1)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.in_irreps} -> {self.out_irreps}, "
            f"lmax_sh={self.lmax_sh}, {self.kind})"
        )
