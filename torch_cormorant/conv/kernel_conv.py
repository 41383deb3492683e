r"""The full convolution of the first e3nn networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from torch_cormorant.conv.inputs import NodeInput
from torch_cormorant.conv.irreps_conv import IrrepsConv
from torch_cormorant.errors import ConfigError
from torch_cormorant.irreps import Irrep, Irreps
from torch_cormorant.nn.activations import Softplus
from torch_cormorant.nn.envelopes import Envelope
from torch_cormorant.nn.mlp import RadialMLP
from torch_cormorant.nn.radial import RadialSpec, make_radial
from torch_cormorant.ops import ProductPaths
from torch_cormorant.ops.autocast import full_precision
from torch_cormorant.so3.flat import flat_blocks

__all__ = ["KernelConv"]

NEAR = 1e-30
"""A length of nothing, in Angstrom: radial functions are zero at zero itself."""


class KernelConv(IrrepsConv):
    r"""A full steerable convolution in which every node is its own neighbour too.

    Equation (2.49) of Miller's thesis on e3nn (2020), with matrices R of radial
    functions for every coupling of degrees:

    .. math::
        F_i'^{l} = \frac{1}{\sqrt{\bar n}} \Big( \sum_j \sum_{l_1 l_2}
        R^{l_1 l_2 l}(r_{ij}) \big( F_j^{l_1} \otimes Y^{l_2}(r_{ij}) \big)^{l}
        + R_i F_i \Big), \qquad
        R_i^{l} = \sqrt{n_l / C_l} \, R^{l 0 l}(0)

    :math:`C_l` are the copies of degree l in the input, :math:`n_l = \sum_{l_1} C_{l_1}
    (2 \min(l_1, l) + 1)` the couplings that lead to l, by which weights are normalised
    for neighbours but not for the node itself. The last layer of the radial network
    acts behind the sum, so there is no matrix for every edge.

    Args:
        irreps_in: What the features are made of.
        irreps_out: What the result is made of.
        basis: Radial functions, as in :func:`~torch_cormorant.nn.make_radial`. Default
            ``"cosine_basis"``.
        num_basis: Number of them. Default 50.
        radius: Their largest centre, in Angstrom. Default 10.
        hidden: Widths of the hidden layers of the radial network. Default (128, 128).
        beta: Of its activation, a shifted :class:`~torch_cormorant.nn.Softplus`.
            Default 5.
        factor: Of its activation. Default: exact, as there.
        cutoff: Where messages end smoothly, in Angstrom; None (default): where the
            edges end, as published.
        envelope: As in :class:`~torch_cormorant.nn.Envelope`. Default
            ``"polynomial"``.
        avg_num_atoms: :math:`\bar n`. Default 1.
        **kwargs: Passed to :class:`torch_geometric.nn.MessagePassing`.

    Shapes:
        - ``x``: ``[N, irreps_in.dim]``; a pair (source, target) on bipartite graphs
        - ``edge_index``: ``[2, E]``, or an ``EdgeIndex``, a sparse (transposed)
          adjacency, an :class:`~torch_cormorant.EdgeGeometry`; self edges add nothing
        - ``edge_vec``: ``[E, 3]`` Angstrom, target minus source; or ``pos``: ``[N, 3]``
        - ``edge_weight``: ``[E, paths.weight_numel]``
        - returns ``[N, irreps_out.dim]``

    Raises:
        ConfigError: An argument is out of range.
        ShapeError, DtypeError, DeviceError, EdgeIndexError, NonFiniteError,
        CoincidentAtomsError: If an input does not fit.

    Example:
        >>> import torch
        >>> from torch_cormorant.conv import KernelConv
        >>> from torch_cormorant.graph import all_pairs
        >>> pos = torch.tensor([[0.0, 0, 0], [0, 0, 1.1], [0, 1.0, -0.4]])
        >>> conv = KernelConv("8x0", "8x0 + 4x1", hidden=[16])
        >>> tuple(conv(torch.randn(3, 8), all_pairs(num_nodes=3), pos=pos).shape)
        (3, 20)
    """

    radial: RadialMLP

    def __init__(
        self,
        irreps_in: object,
        irreps_out: object,
        *,
        basis: RadialSpec = "cosine_basis",
        num_basis: int = 50,
        radius: float = 10.0,
        hidden: Sequence[int] = (128, 128),
        beta: float = 5.0,
        factor: float | None = None,
        cutoff: float | None = None,
        envelope: str = "polynomial",
        avg_num_atoms: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(locals(), **kwargs)
        self.irreps_in, self.irreps_out = Irreps(irreps_in), Irreps(irreps_out)
        if not avg_num_atoms > 0:
            msg = f"avg_num_atoms must be positive, got {avg_num_atoms}"
            raise ConfigError(msg)
        self.norm = float(avg_num_atoms) ** -0.5
        top = self.irreps_in.lmax + self.irreps_out.lmax
        harmonics = Irreps.harmonics(top, parity=self.irreps_in.has_parity)
        self.paths = ProductPaths(
            self.irreps_in, harmonics, out=self.irreps_out, mode="uvw"
        )
        self.radial = RadialMLP(
            make_radial(basis, num_basis=num_basis, cutoff=radius, complex=False),
            hidden,
            self.paths.weight_numel,
            act=Softplus(beta, factor=factor, shifted=True),
            envelope=None if cutoff is None else Envelope(envelope, cutoff),
        )
        self._normalise()

    def reset_parameters(self) -> None:
        """Start all weights again."""
        super().reset_parameters()
        self.radial.reset_parameters()
        self._normalise()

    @torch.no_grad()
    def _normalise(self) -> None:
        """Fresh weights as the thesis has them: activations keep second moments."""
        first, *others = linears = self.radial.mlp.linears
        if others:
            first.weight.mul_(first.in_features**0.5)
        for layer in others:
            layer.weight.mul_(0.5**0.5)
        last = linears[-1].weight
        last.mul_(self.kernel_factors().to(last).unsqueeze(1))

    def couplings(self, ir: Irrep) -> int:
        """The number n of products that lead to an irrep."""
        return sum(mul * (2 * min(own.l, ir.l) + 1) for mul, own in self.irreps_in)

    def kernel_factors(self) -> Tensor:
        r""":math:`\sqrt{(2 l_2 + 1)(2 l_1 + 1) / (2 l + 1) / n_l}` for every weight."""
        factors = []
        for path, size in zip(self.paths.paths, self.paths.sizes, strict=True):
            l1, l2, l = self.paths.degrees(path)
            count = (2 * l + 1) * self.couplings(self.paths.out[path.out].ir)
            factors += [((2 * l1 + 1) * (2 * l2 + 1) / count) ** 0.5] * size
        return torch.tensor(factors, dtype=torch.float64)

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
        rows = (self.irreps_in, self.irreps_in)
        source, target, geometry = self.inputs(x, rows, edge_index, edge_vec, pos)
        sums = self.neighbour_sum(source, geometry, edge_weight)
        result: Tensor = self.norm * (sums + self.own(target))
        return result

    def own(self, x: Tensor) -> Tensor:
        """What every node gives to itself, before the norm."""
        weights: Tensor = self.radial(x.new_full((1,), NEAR))[0]
        blocks = flat_blocks(x, self.irreps_in)
        outs = [x.new_zeros(x.shape[0], ir.dim, mul) for mul, ir in self.irreps_out]
        parts = weights.split(self.paths.sizes)
        for path, shape, part in zip(
            self.paths.paths, self.paths.shapes, parts, strict=True
        ):
            if self.paths.second[path.second].ir.l == 0:
                mul, ir = self.irreps_in[path.first]
                size = (self.couplings(ir) / mul) ** 0.5
                matrix = part.view(shape[0], shape[2]) * size
                outs[path.out] = outs[path.out] + blocks[path.first] @ matrix
        return torch.cat([out.flatten(1) for out in outs], dim=1)

    def arguments(self) -> str:
        """The positional arguments, for ``repr``."""
        return f"{str(self.irreps_in)!r}, {str(self.irreps_out)!r}"
