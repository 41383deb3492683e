r"""What layers share that weight products with harmonics and sum them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch_geometric.nn import MessagePassing

from torch_cormorant.conv.arguments import (
    changed_options,
    check_message_passing,
    has_hooks,
)
from torch_cormorant.conv.inputs import (
    NodeInput,
    as_pair,
    check_all_finite,
    check_same,
    make_geometry,
)
from torch_cormorant.errors import ConfigError, DtypeError, ShapeError
from torch_cormorant.irreps import Irreps
from torch_cormorant.nn.facts import StatesFacts
from torch_cormorant.nn.mlp import MLP, RadialMLP
from torch_cormorant.ops import (
    EdgeGeometry,
    ProductPaths,
    kernel_neighbour_sum,
    tensor_product,
    weighted_neighbour_sum,
)
from torch_cormorant.ops.autocast import check_weights, dtype_of, raised
from torch_cormorant.ops.segment import scatter_sum
from torch_cormorant.ops.weighted_sum import Weights, weight_rows
from torch_cormorant.so3.flat import check_flat

__all__ = ["IrrepsConv"]


class IrrepsConv(StatesFacts, MessagePassing):
    r"""Base class of layers that sum weighted products over neighbours.

    .. math::
        T_i^{l} = \sum_j w(r_{ij}) \, \big( F_j^{l_1} \otimes Y^{l_2}(r_{ij})
        \big)^{l}

    over a list of paths, one weight for each path and copy of F. A class sets
    :attr:`paths` and writes ``forward``.

    Args:
        options: Arguments of the constructor, for ``repr``.
        **kwargs: Passed to :class:`torch_geometric.nn.MessagePassing`.

    Attributes:
        paths: The products.
        radial: From lengths to weights, or None: weights are given to ``forward``.
    """

    propagate: Callable[..., Tensor]
    paths: ProductPaths
    radial: RadialMLP | None

    def __init__(self, options: dict[str, Any], **kwargs: Any) -> None:
        check_message_passing(type(self), kwargs)
        super().__init__(aggr="sum", node_dim=0, **kwargs)
        self._options = changed_options(type(self), options)

    def facts(self) -> dict[str, Any]:
        """What decides the numbers beside the weights; see ``StatesFacts``."""
        return {"layer": repr(self)}

    @property
    def irreps_sh(self) -> Irreps:
        """Those of the harmonics."""
        return self.paths.second

    @property
    def weight_numel(self) -> int:
        """Weights of an edge, as ``forward`` takes them."""
        return self.paths.weight_numel

    def inputs(
        self,
        x: NodeInput,
        irreps: tuple[Irreps, Irreps | None],
        edge_index: Any,
        edge_vec: Tensor | None,
        pos: NodeInput | None,
    ) -> tuple[Tensor, Tensor, EdgeGeometry]:
        """Features of sources and receivers, and the edges, all checked.

        Args:
            x: What the user gave.
            irreps: Rows of sources and of receivers; None: they are not read.
            edge_index: Edges in any form, or an :class:`EdgeGeometry`.
            edge_vec: Vectors of the edges, or None.
            pos: Positions, or None.
        """
        bipartite, pair = isinstance(x, (tuple, list)), as_pair(x, "x")
        dtype = dtype_of(self) or pair[0].dtype  # without weights: that of x
        check_weights(dtype)
        source, target = raised(pair, dtype)
        given = [(source, irreps[0], "x"), (target, irreps[1], "x_target")]
        for part, own, name in given[: 2 if bipartite else 1]:
            if own is not None:
                check_rows(part, own, name, dtype)
        ready = isinstance(edge_index, EdgeGeometry)
        sizes = (source.shape[0], target.shape[0])
        geometry = make_geometry(
            edge_index, edge_vec, pos, sizes, "unit", bipartite=bipartite
        )
        check_same(geometry.edge_vec, "edge_vec" if pos is None else "pos", source)
        if not ready and not torch.compiler.is_compiling():
            named = {"x": source, "x_target": target} if bipartite else {"x": source}
            check_all_finite(named)
        return source, target, geometry

    def edge_weights(self, geometry: EdgeGeometry, given: Weights | None) -> Weights:
        """Weights of the paths of every edge or pair, computed or given and checked."""
        if given is None:
            if self.radial is None:
                msg = (
                    f"{type(self).__name__} was made with cutoff=None, so it computes "
                    "no weights: give edge_weight"
                )
                raise ConfigError(msg)
            made: Tensor = self.radial(geometry.pair_length)
            return made
        edges, pairs = geometry.plan.num_edges, geometry.pair_index[0].shape[0]
        numel = self.weight_numel
        parts = given if isinstance(given, tuple) else (given, given)
        shape = (*parts[0].shape[:1], *parts[1].shape[1:])
        if shape not in {(edges, numel), (pairs, numel)}:
            msg = (
                f"edge_weight must have shape [{edges}, {numel}] (edges, weights of all"
                f" paths) or a row for each of {pairs} pairs, got {list(shape)}"
            )
            raise ShapeError(msg)
        return given

    def weight_rows(self, geometry: EdgeGeometry, given: Weights | None) -> Tensor:
        """The same as a row for every edge."""
        rows = weight_rows(self.edge_weights(geometry, given))
        own = rows.shape[0] == geometry.plan.num_edges
        return rows if own else geometry.to_edges(rows)

    def neighbour_sum(
        self, source: Tensor, geometry: EdgeGeometry, given: Weights | None
    ) -> Tensor:
        """The sum of the class description, ``[N, paths.out.dim]``.

        Through ``propagate`` where someone listens to it or explains it.

        Args:
            source: Features of the sources.
            geometry: The edges.
            given: Weights of edges or pairs; None: the layer's own.
        """
        if not (self.explain or has_hooks(self)):
            blocks = self.fast_sum(source, geometry, given)
            return torch.cat([block.flatten(1) for block in blocks], dim=1)
        return self.propagate(
            geometry.edge_index,
            x=(source, None),
            w=self.weight_rows(geometry, given),
            sh=geometry.sh(self.irreps_sh.lmax),
            size=(geometry.num_sources, geometry.num_targets),
        )

    def fast_sum(
        self, source: Tensor, geometry: EdgeGeometry, given: Weights | None
    ) -> tuple[Tensor, ...]:
        """One tensor for each block of ``paths.out``, or one; arguments as above.

        Full with own weights: the last layer of their MLP acts behind the sum.
        """
        full = self.paths.mode == "uvw"
        if full and given is None and self.radial is not None:
            hidden, last = self.radial.halves(geometry.pair_length)
            return kernel_neighbour_sum(source, geometry, hidden, last, self.paths)
        if full:
            weights = self.weight_rows(geometry, given)
            index, sh = geometry.edge_index, geometry.sh(self.irreps_sh.lmax)
            sent = self.message(source.index_select(0, index[0]), weights, sh)
            return (scatter_sum(sent, index[1], geometry.num_targets, validate=False),)
        rows = self.edge_weights(geometry, given)
        return weighted_neighbour_sum(source, geometry, rows, self.paths)

    def path_factors(self, *, signs: bool = False) -> Tensor:
        r""":math:`\sqrt{2 l_2 + 1}` for every weight, in float64.

        Args:
            signs: Times :math:`(-1)^{k (k + 1) / 2}`, :math:`k = l_1 + l_2 - l`: what
                e3nn's 3j symbols are of our tables. Default False.
        """
        factors = []
        for path, size in zip(self.paths.paths, self.paths.sizes, strict=True):
            l1, l2, l = self.paths.degrees(path)
            k = l1 + l2 - l
            sign = (-1) ** (k * (k + 1) // 2) if signs else 1
            factors += [sign * (2 * l2 + 1) ** 0.5] * size
        return torch.tensor(factors, dtype=torch.float64)

    @torch.no_grad()
    def scale_paths(self, mlp: MLP) -> None:
        r"""Multiply fresh weights of an MLP that makes those of the paths.

        By :math:`\sqrt{2 l_2 + 1}`: unit harmonics become as large as scalars.
        """
        last = mlp.linears[-1]
        last.weight.mul_(self.path_factors().unsqueeze(1).to(last.weight))

    def message(self, x_j: Tensor, w: Tensor, sh: Tensor) -> Tensor:
        """Products of one edge each, ``[E, paths.out.dim]``."""
        return tensor_product(
            x_j, sh, self.paths.first, self.paths.second, paths=self.paths, weights=w
        )

    def arguments(self) -> str:
        """The positional arguments, for ``repr``."""
        raise NotImplementedError

    def __repr__(self) -> str:
        options = "".join(f", {name}={v!r}" for name, v in self._options.items())
        return f"{type(self).__name__}({self.arguments()}{options})"


def check_rows(x: Tensor, irreps: Irreps, name: str, dtype: torch.dtype) -> None:
    """Refuse features that are not rows of irreps in the type of the weights."""
    check_flat(x, irreps, name)
    if x.ndim != 2:
        msg = f"{name} must have shape [N, {irreps.dim}], got {list(x.shape)}"
        raise ShapeError(msg)
    if x.dtype != dtype:
        msg = (
            f"{name} is {x.dtype} but the layer's weights are {dtype}; convert one of "
            "them, with .double() or .float() for example"
        )
        raise DtypeError(msg)
