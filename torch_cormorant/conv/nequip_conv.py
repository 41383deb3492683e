r"""The interaction of NequIP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from torch_cormorant.conv.arguments import check_count
from torch_cormorant.conv.inputs import NodeInput, as_pair
from torch_cormorant.conv.irreps_conv import IrrepsConv
from torch_cormorant.errors import ConfigError
from torch_cormorant.irreps import Irreps
from torch_cormorant.nn.bases import BesselBasis
from torch_cormorant.nn.envelopes import Envelope
from torch_cormorant.nn.gated import GatedBlock
from torch_cormorant.nn.irreps_linear import IrrepsLinear, SpeciesLinear
from torch_cormorant.nn.mlp import RadialMLP
from torch_cormorant.ops import ProductPaths
from torch_cormorant.ops.autocast import full_precision
from torch_cormorant.ops.weighted_sum import Weights

__all__ = ["NequIPConv"]


class NequIPConv(IrrepsConv):
    r"""The interaction block of `NequIP <https://doi.org/10.1038/s41467-022-29939-5>`_.

    Batzner et al. 2022, equivariant under O(3); with the depthwise product of the
    neighbour sum, linear maps :math:`L` of every irrep, a self connection S that
    depends on the species, and a gate:

    .. math::
        F_i' = \mathrm{Gate}\Big( L_2 \sum_j w(r_{ij}) \, \big(
        L_1 F_j / \sqrt{\bar n} \otimes Y(r_{ij}) \big) + S(a_i) F_i \Big)

    Args:
        irreps_in: What the features are made of, one block of each irrep.
        irreps_out: What the result is made of; irreps that no product reaches are left
            out of it, see :attr:`irreps_out`.
        num_attr: Scalars of a node for the self connection; 0 (default): there is none.
        lmax_sh: Largest degree of the harmonics. Default: that of ``irreps_out``.
        cutoff: In Angstrom; None: the weights of edges are given. Default 5.
        num_basis: Bessel functions. Default 8.
        hidden: Widths of the hidden layers of the radial MLP. Default (64, 64).
        power: Of the polynomial envelope. Default 6.
        avg_num_neighbors: :math:`\bar n`; or one number for each type of node, that of
            the neighbour counts. Default 1.
        constants: Of the gate, as in
            :func:`~torch_cormorant.nn.moment_factor`. Default ``"exact"``.
        **kwargs: Passed to :class:`torch_geometric.nn.MessagePassing`.

    Attributes:
        irreps_in: As given.
        irreps_out: What the result is made of.

    Shapes:
        - ``x``: ``[N, irreps_in.dim]``; a pair (source, target) on bipartite graphs
        - ``edge_index``: ``[2, E]``, or an ``EdgeIndex``, a sparse (transposed)
          adjacency, an :class:`~torch_cormorant.EdgeGeometry`
        - ``edge_vec``: ``[E, 3]`` Angstrom, target minus source; or ``pos``: ``[N, 3]``
        - ``node_attr``: ``[N, num_attr]`` of the receivers, or ``[T, num_attr]`` with
          ``node_type``
        - ``node_type``: ``[N]``, 0 to T - 1; a pair on bipartite graphs
        - ``edge_weight``: ``[E, paths.weight_numel]``, or what else
          :func:`~torch_cormorant.ops.weighted_neighbour_sum` takes
        - returns ``[N, irreps_out.dim]``

    Raises:
        ConfigError: An argument is out of range, or the inputs make no scalars that
            gates could be.
        ShapeError, DtypeError, DeviceError, EdgeIndexError, NonFiniteError,
        CoincidentAtomsError: If an input does not fit.

    Example:
        >>> import torch
        >>> from torch_cormorant import radius_graph
        >>> from torch_cormorant.conv import NequIPConv
        >>> pos = torch.tensor([[0.0, 0, 0], [0, 0, 1.1], [0, 1.0, -0.4]])
        >>> edge_index = radius_graph(pos, cutoff=3.0)
        >>> conv = NequIPConv("8x0e", "8x0e + 4x1o + 4x1e", cutoff=3.0)
        >>> tuple(conv(torch.randn(3, 8), edge_index, pos=pos).shape), conv.irreps_out
        ((3, 20), Irreps('8x0e + 4x1o'))
    """

    norm: Tensor

    def __init__(
        self,
        irreps_in: object,
        irreps_out: object,
        *,
        num_attr: int = 0,
        lmax_sh: int | None = None,
        cutoff: float | None = 5.0,
        num_basis: int = 8,
        hidden: Sequence[int] = (64, 64),
        power: float = 6.0,
        avg_num_neighbors: float | Sequence[float] = 1.0,
        constants: str = "exact",
        **kwargs: Any,
    ) -> None:
        super().__init__(locals(), **kwargs)
        self.irreps_in, wanted = Irreps(irreps_in), Irreps(irreps_out)
        self._wanted = wanted
        top = wanted.lmax if lmax_sh is None else lmax_sh
        parity = self.irreps_in.has_parity
        harmonics = Irreps.harmonics(top, parity=parity)
        self.irreps_out = wanted.filter(self.irreps_in.product(harmonics))
        self.gate = GatedBlock(self.irreps_out, constants=constants)
        self.paths = ProductPaths(
            self.irreps_in, harmonics, out=self.gate.irreps_in, mode="uvu"
        )
        if self.gate.gate in self.gate.irreps_in and (
            self.gate.gate not in self.paths.out
        ):
            msg = (
                f"{self.irreps_in} and harmonics to degree {top} make no scalars "
                f"{self.gate.gate}, which the gates of {self.irreps_out} are made of"
            )
            raise ConfigError(msg)
        self.radial = None
        if cutoff is not None:
            self.radial = RadialMLP(
                BesselBasis(num_basis, cutoff),
                hidden,
                self.paths.weight_numel,
                envelope=Envelope("polynomial", cutoff, power=power),
                inside=True,
            )
            self.scale_paths(self.radial.mlp)
        self.linear_1 = IrrepsLinear(self.irreps_in, self.irreps_in)
        self.linear_2 = IrrepsLinear(self.paths.out, self.gate.irreps_in)
        self.connection = None
        if check_count(num_attr, "num_attr"):
            made = SpeciesLinear(self.irreps_in, self.gate.irreps_in, num_attr)
            self.connection = made
        counts = (
            list(avg_num_neighbors)
            if isinstance(avg_num_neighbors, Sequence)
            else [avg_num_neighbors]
        )
        if not counts or not all(count > 0 for count in counts):
            msg = (
                "avg_num_neighbors must be a positive number or a list of them, got "
                f"{avg_num_neighbors!r}"
            )
            raise ConfigError(msg)
        norm = torch.tensor([count**-0.5 for count in counts], dtype=torch.float64)
        # to the type of the weights when they are moved, exact until then
        self.register_buffer("norm", norm, persistent=False)

    def reset_parameters(self) -> None:
        """Start all weights again."""
        super().reset_parameters()
        for part in (self.radial, self.linear_1, self.linear_2, self.connection):
            if part is not None:
                part.reset_parameters()
        if self.radial is not None:
            self.scale_paths(self.radial.mlp)

    @full_precision
    def forward(
        self,
        x: NodeInput,
        edge_index: Any,
        edge_vec: Tensor | None = None,
        *,
        pos: NodeInput | None = None,
        node_attr: Tensor | None = None,
        node_type: NodeInput | None = None,
        edge_weight: Weights | None = None,
    ) -> Tensor:
        """Update the nodes; arguments and shapes as in the class description."""
        rows = (self.irreps_in, self.irreps_in)
        source, target, geometry = self.inputs(x, rows, edge_index, edge_vec, pos)
        types = (None, None) if node_type is None else as_pair(node_type, "node_type")
        self._check_given(node_attr, types[0])
        mixed = self.linear_1(source) * self._norm_of(types[0], source)
        out = self.linear_2(self.neighbour_sum(mixed, geometry, edge_weight))
        if self.connection is not None:
            out = out + self.connection(target, node_attr, types[1])
        result: Tensor = self.gate(out)
        return result

    def _norm_of(self, types: Tensor | None, like: Tensor) -> Tensor:
        norm = self.norm.to(like.dtype)
        if len(norm) == 1 or types is None:
            return norm
        return norm.index_select(0, types).unsqueeze(1)

    def _check_given(self, attr: Tensor | None, types: Tensor | None) -> None:
        if (self.connection is None) != (attr is None):
            count = 0 if self.connection is None else self.connection.num_attr
            msg = (
                f"the layer was made with num_attr={count}, but node_attr is "
                f"{'missing' if attr is None else 'given'}"
            )
            raise ConfigError(msg)
        if len(self.norm) > 1 and types is None:
            msg = "avg_num_neighbors differs between types of nodes: give node_type"
            raise ConfigError(msg)

    def arguments(self) -> str:
        """The positional arguments, for ``repr``."""
        return f"{str(self.irreps_in)!r}, {str(self._wanted)!r}"
