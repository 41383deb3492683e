r"""Steerable convolutions: depthwise as in tensor field networks, or full."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from torch_cormorant.conv.arguments import one_of
from torch_cormorant.conv.inputs import NodeInput
from torch_cormorant.conv.irreps_conv import IrrepsConv
from torch_cormorant.errors import ConfigError
from torch_cormorant.irreps import Irreps
from torch_cormorant.nn.envelopes import Envelope
from torch_cormorant.nn.irreps_linear import IrrepsLinear
from torch_cormorant.nn.mlp import RadialMLP
from torch_cormorant.nn.radial import RadialSpec, make_radial
from torch_cormorant.ops import ProductPaths
from torch_cormorant.ops.autocast import full_precision
from torch_cormorant.ops.weighted_sum import Weights

__all__ = ["TensorFieldConv"]

MODES = {"depthwise": "uvu", "full": "uvw"}


class TensorFieldConv(IrrepsConv):
    r"""A linear, rotation-steerable convolution with learned radial functions.

    Thomas et al. 2018 (`Tensor field networks <https://arxiv.org/abs/1802.08219>`_).
    ``"depthwise"``: every path weights the copies one by one, and a linear map mixes
    them after the sum (self-interaction, with a bias for scalars):

    .. math::
        F_i' = L \, \frac{1}{\sqrt{\bar n}} \sum_j
        w(r_{ij}) \odot \big( F_j \otimes Y(r_{ij}) \big)

    ``"full"``: every path has a matrix for each edge, and nothing comes behind it:

    .. math::
        F_i'^{l} = \frac{1}{\sqrt{\bar n}} \sum_j \sum_{l_1 l_2} W^{l_1 l_2 l}(r_{ij})
        \big( F_j^{l_1} \otimes Y^{l_2}(r_{ij}) \big)^{l}

    With scalars alone, depthwise, it is the filter convolution of SchNet.

    Args:
        irreps_in: What the features are made of.
        irreps_out: What the result is made of; irreps that nothing reaches are zero.
        mode: ``"depthwise"`` (default) or ``"full"``.
        lmax_sh: Largest degree of the harmonics. Default: the largest that any path can
            use.
        cutoff: In Angstrom; None: the weights of edges are given. Default 5.
        basis: Radial functions, as in :func:`~torch_cormorant.nn.make_radial`. Default
            ``"bessel_basis"``.
        num_basis: Number of them. Default 8.
        hidden: Widths of the hidden layers of the radial MLP. Default (32,).
        act: Its activation. Default ``"silu"``.
        envelope: As in :class:`~torch_cormorant.nn.Envelope`. Default
            ``"polynomial"``.
        avg_num_neighbors: :math:`\bar n`. Default 1.
        bias: A bias of scalars behind the sum, depthwise. Default True.
        **kwargs: Passed to :class:`torch_geometric.nn.MessagePassing`.

    Shapes:
        - ``x``: ``[N, irreps_in.dim]``; a pair (source, target) on bipartite graphs, of
          which only the number of targets is used
        - ``edge_index``: ``[2, E]``, or an ``EdgeIndex``, a sparse (transposed)
          adjacency, an :class:`~torch_cormorant.EdgeGeometry`
        - ``edge_vec``: ``[E, 3]`` Angstrom, target minus source; or ``pos``: ``[N, 3]``
        - ``edge_weight``: ``[E, paths.weight_numel]``, or what else
          :func:`~torch_cormorant.ops.weighted_neighbour_sum` takes
        - returns ``[N, irreps_out.dim]``

    Raises:
        ConfigError: An argument is out of range.
        ShapeError, DtypeError, DeviceError, EdgeIndexError, NonFiniteError,
        CoincidentAtomsError: If an input does not fit.

    Example:
        >>> import torch
        >>> from torch_cormorant import radius_graph
        >>> from torch_cormorant.conv import TensorFieldConv
        >>> pos = torch.tensor([[0.0, 0, 0], [0, 0, 1.1], [0, 1.0, -0.4]])
        >>> edge_index = radius_graph(pos, cutoff=3.0)
        >>> conv = TensorFieldConv("8x0", "8x0 + 4x1", cutoff=3.0)
        >>> tuple(conv(torch.randn(3, 8), edge_index, pos=pos).shape)
        (3, 20)
    """

    def __init__(
        self,
        irreps_in: object,
        irreps_out: object,
        *,
        mode: str = "depthwise",
        lmax_sh: int | None = None,
        cutoff: float | None = 5.0,
        basis: RadialSpec = "bessel_basis",
        num_basis: int = 8,
        hidden: Sequence[int] = (32,),
        act: str = "silu",
        envelope: str = "polynomial",
        avg_num_neighbors: float = 1.0,
        bias: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(locals(), **kwargs)
        self.irreps_in, self.irreps_out = Irreps(irreps_in), Irreps(irreps_out)
        if not avg_num_neighbors > 0:
            msg = f"avg_num_neighbors must be positive, got {avg_num_neighbors}"
            raise ConfigError(msg)
        self.mode = one_of(mode, tuple(MODES), "mode")
        self.norm = float(avg_num_neighbors) ** -0.5
        top = self.irreps_in.lmax + self.irreps_out.lmax if lmax_sh is None else lmax_sh
        parity = self.irreps_in.has_parity
        self.paths = ProductPaths(
            self.irreps_in,
            Irreps.harmonics(top, parity=parity),
            out=self.irreps_out,
            mode=MODES[mode],
        )
        self.radial = None
        if cutoff is not None:
            made = make_radial(basis, num_basis=num_basis, cutoff=cutoff, complex=False)
            self.radial = RadialMLP(
                made,
                hidden,
                self.paths.weight_numel,
                act=act,
                envelope=Envelope(envelope, cutoff),
            )
        self.linear = None
        if mode == "depthwise":
            self.linear = IrrepsLinear(self.paths.out, self.irreps_out, bias=bias)

    def reset_parameters(self) -> None:
        """Start all weights again."""
        super().reset_parameters()
        for part in (self.radial, self.linear):
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
        rows = (self.irreps_in, None)
        source, _, geometry = self.inputs(x, rows, edge_index, edge_vec, pos)
        sums: Tensor = self.norm * self.neighbour_sum(source, geometry, edge_weight)
        if self.linear is None:
            return sums
        result: Tensor = self.linear(sums)
        return result

    def arguments(self) -> str:
        """The positional arguments, for ``repr``."""
        return f"{str(self.irreps_in)!r}, {str(self.irreps_out)!r}"
