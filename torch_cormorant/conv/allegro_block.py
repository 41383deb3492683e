r"""The layer of Allegro: a module on edges, not an operator on nodes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from torch_cormorant.conv.arguments import changed_options, check_channels
from torch_cormorant.errors import ConfigError, ShapeError
from torch_cormorant.irreps import Irrep, Irreps
from torch_cormorant.nn.facts import StatesFacts
from torch_cormorant.nn.mlp import MLP
from torch_cormorant.ops import (
    EdgeGeometry,
    EdgePaths,
    ProductPaths,
    edge_product,
    weighted_neighbour_sum,
)
from torch_cormorant.ops.autocast import weights_precision

__all__ = ["AllegroBlock"]

SCALAR = Irrep(0, 1)


class AllegroBlock(StatesFacts, nn.Module):
    r"""One layer of `Allegro <https://arxiv.org/abs/2204.05249>`_ (Musaelian et al.).

    Features live on edges, so it is no message passing layer: an edge i <- j sees the
    environment of its receiver i alone, and a stack of them no further than one cutoff.
    With weights w of edges that came out of the layer before, channel by channel:

    .. math::
        X_i^{l} &= \frac{1}{\sqrt{\bar n}} \sum_k w_{ik}^{l} \, Y^l(r_{ik}) \\
        V_{ij}' &= \sum_p w_p \, (V_{ij} \otimes X_i)_p \\
        [s_{ij}', w_{ij}'] &= \mathrm{MLP}\big([s_{ij}, V_{ij}'^{\,0}]\big)

    Args:
        irreps_in: What V is made of, every irrep with the same multiplicity C.
        irreps_out: What V' is made of, C times even scalars among them.
        scalars_in: Scalars s of an edge.
        scalars_out: Scalars s' of an edge.
        lmax: Largest degree of the harmonics.
        hidden: Widths of the hidden layers of the MLP. Default (64,).
        act: Its activation; ``"identity"``: none. Default ``"silu"``.
        weights_out: Whether there are weights w' for a next layer. Default True.
        shared_weights: All channels have the same weights of paths. Default False.
        avg_num_neighbors: :math:`\bar n`; or one number for each type of node, that of
            the receiver counts. Default 1.

    Attributes:
        irreps_in: As given.
        irreps_out: As given.
        backend: That of :func:`~torch_cormorant.ops.edge_product`; ``"portable"``: the
            readable reference for all of it. Default ``"auto"``.

    Shapes:
        - ``scalars``: ``[E, scalars_in]``
        - ``tensors``: ``[E, irreps_in.dim]``
        - ``weights``: ``[E, (lmax + 1) C]``, degrees outside
        - ``geometry``: an :class:`~torch_cormorant.EdgeGeometry` with E edges
        - ``node_type``: ``[N]``, where ``avg_num_neighbors`` differs between types
        - returns s' ``[E, scalars_out]``, V' ``[E, irreps_out.dim]`` and w', or None

    Raises:
        ConfigError: An argument is out of range.
        ShapeError: If an input does not fit.

    Example:
        >>> import torch
        >>> from torch_cormorant import EdgeGeometry, radius_graph
        >>> from torch_cormorant.conv import AllegroBlock
        >>> pos = torch.tensor([[0.0, 0, 0], [0, 0, 1.1], [0, 1.0, -0.4]])
        >>> geometry = EdgeGeometry.from_pos(pos, radius_graph(pos, cutoff=3.0))
        >>> block = AllegroBlock("4x0e + 4x1o", "4x0e", 8, 8, lmax=1)
        >>> s, v, w = torch.randn(6, 8), torch.randn(6, 16), torch.randn(6, 8)
        >>> [tuple(part.shape) for part in block(s, v, w, geometry)]
        [(6, 8), (6, 4), (6, 8)]
    """

    norm: Tensor
    backend = "auto"

    def __init__(
        self,
        irreps_in: object,
        irreps_out: object,
        scalars_in: int,
        scalars_out: int,
        *,
        lmax: int,
        hidden: Sequence[int] = (64,),
        act: str = "silu",
        weights_out: bool = True,
        shared_weights: bool = False,
        avg_num_neighbors: float | Sequence[float] = 1.0,
    ) -> None:
        super().__init__()
        self._options = changed_options(type(self), locals())
        self.irreps_in, self.irreps_out = Irreps(irreps_in), Irreps(irreps_out)
        self.scalars_in = check_channels(scalars_in, "scalars_in")
        self.scalars_out = check_channels(scalars_out, "scalars_out")
        if SCALAR not in self.irreps_out:
            msg = f"irreps_out must hold even scalars (0e), got {self.irreps_out}"
            raise ConfigError(msg)
        C, harmonics = self.irreps_in[0].mul, Irreps.harmonics(lmax)
        environment = Irreps([(C, ir) for _, ir in harmonics])
        self.channels, self.lmax = C, lmax
        self.paths = EdgePaths(self.irreps_in, environment, self.irreps_out)
        self.sums = ProductPaths([(C, SCALAR)], harmonics, out=harmonics)
        self.shared_weights = shared_weights
        rows = 1 if shared_weights else C
        self.path_weights = nn.Parameter(torch.empty(self.paths.num_paths, rows))
        outputs = scalars_out + (lmax + 1) * C * weights_out
        self.weights_out = weights_out
        self.latent = MLP([scalars_in + C, *hidden, outputs], act)
        self.register_buffer("norm", inverse_roots(avg_num_neighbors), persistent=False)
        self.reset_parameters()

    def facts(self) -> dict[str, object]:
        """What decides the numbers beside the weights; see ``StatesFacts``."""
        return {"layer": repr(self)}

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start all weights again; environments as large as scalars."""
        self.latent.reset_parameters()
        scale_degrees(self.latent, self.scalars_out, self.channels)
        counts = [self.paths.blocks.count(k) for k in self.paths.blocks]
        roots = torch.tensor(counts, dtype=torch.float64).rsqrt().unsqueeze(1)
        nn.init.normal_(self.path_weights).mul_(roots.to(self.path_weights))

    @weights_precision
    def forward(
        self,
        scalars: Tensor,
        tensors: Tensor,
        weights: Tensor,
        geometry: EdgeGeometry,
        node_type: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Update the edges; arguments and shapes as in the class description."""
        self._check(scalars, tensors, weights, geometry)
        x = self.environment(weights, geometry, node_type)
        backend = self.backend
        v = edge_product(
            tensors, x, geometry.plan, self.path_weights, self.paths, backend
        )
        at = self.irreps_out.slices[[ir for _, ir in self.irreps_out].index(SCALAR)]
        rows: Tensor = self.latent(torch.cat([scalars, v[:, at]], dim=1))
        if not self.weights_out:
            return rows, v, None
        sizes = [self.scalars_out, rows.shape[1] - self.scalars_out]
        s, w = rows.split(sizes, dim=1)
        return s, v, w

    def environment(
        self, weights: Tensor, geometry: EdgeGeometry, node_type: Tensor | None = None
    ) -> Tensor:
        """X of every node ``[N, (lmax + 1)^2 C]``."""
        ones = weights.new_ones(geometry.num_sources, self.channels)
        blocks = weighted_neighbour_sum(
            ones, geometry, weights, self.sums, self.backend
        )
        x = torch.cat([block.flatten(1) for block in blocks], dim=1)
        return x * norm_of(self.norm, node_type, x)

    def _check(
        self, scalars: Tensor, tensors: Tensor, weights: Tensor, geometry: EdgeGeometry
    ) -> None:
        E = geometry.plan.num_edges
        for name, value, width in (
            ("scalars", scalars, self.scalars_in),
            ("tensors", tensors, self.irreps_in.dim),
            ("weights", weights, (self.lmax + 1) * self.channels),
        ):
            if tuple(value.shape) != (E, width):
                msg = f"{name} must have shape [{E}, {width}], got {list(value.shape)}"
                raise ShapeError(msg)

    def __repr__(self) -> str:
        options = "".join(f", {name}={v!r}" for name, v in self._options.items())
        return (
            f"{type(self).__name__}({str(self.irreps_in)!r}, {str(self.irreps_out)!r}, "
            f"{self.scalars_in}, {self.scalars_out}{options})"
        )


def inverse_roots(counts: float | Sequence[float]) -> Tensor:
    r""":math:`1 / \sqrt{\bar n}`, of all nodes or of every type, in float64.

    Raises:
        ConfigError: A number is not positive.
    """
    given = list(counts) if isinstance(counts, Sequence) else [counts]
    if not given or not all(count > 0 for count in given):
        msg = f"avg_num_neighbors must be positive, got {counts}"
        raise ConfigError(msg)
    return torch.tensor(given, dtype=torch.float64).rsqrt()


def norm_of(norm: Tensor, node_type: Tensor | None, like: Tensor) -> Tensor:
    """The rows of :func:`inverse_roots` for nodes ``[N, 1]``, or the one of all."""
    norm = norm.to(like.dtype)
    if len(norm) == 1:
        return norm
    if node_type is None:
        msg = "avg_num_neighbors differs between types of nodes: give node_type"
        raise ConfigError(msg)
    return norm.index_select(0, node_type).unsqueeze(1)


@torch.no_grad()
def scale_degrees(mlp: MLP, skip: int, channels: int) -> None:
    r"""Multiply rows of weights of degree l by :math:`\sqrt{2 l + 1}`.

    Args:
        mlp: Its last layer makes ``skip`` scalars and then weights of degrees.
        skip: How many rows are none.
        channels: Rows of every degree.
    """
    weight = mlp.linears[-1].weight
    for l, rows in enumerate(weight[skip:].split(channels)):
        rows.mul_((2 * l + 1) ** 0.5)
