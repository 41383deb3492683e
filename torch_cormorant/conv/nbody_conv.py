r"""Gates of N-body networks: from children to the nodes that they are parts of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from torch_cormorant.conv.arguments import changed_options, check_message_passing
from torch_cormorant.conv.children import Children, children_input
from torch_cormorant.conv.inputs import NodeInput
from torch_cormorant.conv.irreps_conv import check_rows
from torch_cormorant.errors import ConfigError
from torch_cormorant.irreps import Irrep, Irreps
from torch_cormorant.nn.envelopes import Envelope
from torch_cormorant.nn.facts import StatesFacts
from torch_cormorant.nn.mlp import RadialMLP
from torch_cormorant.nn.powers import InversePowers
from torch_cormorant.nn.radial import RadialSpec, make_radial
from torch_cormorant.ops.autocast import (
    check_weights,
    dtype_of,
    full_precision,
    raised,
)
from torch_cormorant.ops.nbody import fragments_of_pairs, fragments_of_sums
from torch_cormorant.ops.nbody_paths import NBodyPaths
from torch_cormorant.so3.flat import flat_blocks

__all__ = ["NBodyConv"]

POWERS = {"single": 3, "pairs": 4, "relative": 4}
"""How many powers of distances the paper prints."""


class NBodyConv(StatesFacts, MessagePassing):
    r"""A gate of N-body networks: the state of a node from the states of its children.

    Kondor 2018 (`N-body networks <https://arxiv.org/abs/1803.01588>`_). Children i of a
    node have states :math:`\psi_i` and vectors :math:`v_i = r_i - r` from the node,
    with their length :math:`d_i`; :math:`v_{ii'} = v_i - v_{i'}`. The gates are

    .. math::
        \text{(10):}\quad & L \Big( \sum_i d_i^{-p} \, \psi_i \otimes v_i \Big)
        \quad p = 0, 1, 2 \\
        \text{(11):}\quad & L \Big( \sum_{i, i'} d_i^{-p} d_{i'}^{-p} \,
        \psi_i \otimes \psi_{i'} \otimes v_i \otimes v_{i'} \Big)
        \quad p = 0, \ldots, 3 \\
        \text{(12):}\quad & L \Big( \sum_{i \ne i'} d_{ii'}^{-p} \,
        \psi_i \otimes \psi_{i'} \otimes v_{ii'} \Big) \quad p = 0, \ldots, 3

    where L mixes all fragments of a degree by one matrix, eqs. (8) and (9). There is no
    other non-linearity. (11) is a product of two sums, so its cost is linear in the
    children; (12) looks at pairs of children, all of a node at once.

    Args:
        irreps_in: What states of children are made of.
        irreps_out: What the result is made of; irreps that nothing reaches are zero.
        gate: ``"single"`` (10), ``"pairs"`` (11) or ``"relative"`` (12, default).
        product: ``"full"``: all pairs of channels (default); ``"channelwise"``.
        form: Of (11): ``"sums"`` couples every child with its vector first (default),
            ``"chain"`` in the order that is printed. Both span the same.
        fragments: ``"distinct"`` (default): products that repeat others or vanish,
            because a sum over pairs is symmetric, have no weights; ``"printed"``: all.
        radial: ``"powers"`` as printed (default); ``"bounded"``:
            :math:`(d^2 + a^2)^{-p/2}`; or a basis as in
            :func:`~torch_cormorant.nn.make_radial`: learned functions of the distance
            times unit vectors, which needs a cutoff.
        num_radial: Number of powers or functions. Default: that of the paper.
        soften: a of ``"bounded"`` in Angstrom. Default 1.
        cutoff: In Angstrom; children and pairs of children count less with their
            distance and nothing beyond. Default None: all count the same, as printed.
        num_basis: Size of a basis. Default 8.
        hidden: Hidden layers of the MLP behind it. Default (32,).
        own: Also sum the states of the children as they are, which the paper does not:
            a node with one child, at its place, is zero without. Default False.
        avg_num_children: Sums are divided by the root of this number, once for each
            child in the product. Default 1.
        complex: States are complex: rows hold, block by block, real and then imaginary
            parts of all channels, and so do the weights. Default False.
        **kwargs: Passed to :class:`torch_geometric.nn.MessagePassing`.

    Attributes:
        paths: The fragments, a :class:`~torch_cormorant.ops.NBodyPaths`.
        weights: ``[fragments, channels out]`` by the names of irreps; where
            complex ``[2, ...]``.

    Shapes:
        - ``x``: ``[children, D]`` with D numbers of ``irreps_in``, twice as many where
          complex; or a pair (children, nodes), of the second only the number is used
        - ``edge_index``: ``[2, E]``, child to node
        - ``edge_vec``: ``[E, 3]`` Angstrom, node minus child; or ``pos``: ``[N, 3]``,
          or a pair of positions (children, nodes)
        - returns the same of ``irreps_out`` for all nodes

    Raises:
        ConfigError: An argument is out of range.
        ShapeError, DtypeError, DeviceError, EdgeIndexError, NonFiniteError: If an input
            does not fit.

    Example:
        >>> import torch
        >>> from torch_cormorant.conv import NBodyConv
        >>> atoms = torch.tensor([[0.0, 0, 0], [0, 0, 1.1], [0, 1.0, -0.4]])
        >>> parts = atoms.mean(0, keepdim=True)
        >>> edge_index = torch.tensor([[0, 1, 2], [0, 0, 0]])
        >>> conv = NBodyConv("4x0", "4x0 + 4x1", "pairs")
        >>> conv(torch.randn(3, 4), edge_index, pos=(atoms, parts)).shape
        torch.Size([1, 16])
    """

    propagate: Callable[..., Tensor]

    def __init__(
        self,
        irreps_in: object,
        irreps_out: object,
        gate: str = "relative",
        *,
        product: str = "full",
        form: str = "sums",
        fragments: str = "distinct",
        radial: RadialSpec = "powers",
        num_radial: int | None = None,
        soften: float = 1.0,
        cutoff: float | None = None,
        num_basis: int = 8,
        hidden: Sequence[int] = (32,),
        own: bool = False,
        avg_num_children: float = 1.0,
        complex: bool = False,
        **kwargs: Any,
    ) -> None:
        given = locals()
        check_message_passing(type(self), kwargs)
        super().__init__(aggr="sum", node_dim=0, **kwargs)
        self._options = changed_options(type(self), given)
        if not avg_num_children > 0:
            msg = f"avg_num_children must be positive, got {avg_num_children}"
            raise ConfigError(msg)
        self.irreps_in, self.irreps_out = Irreps(irreps_in), Irreps(irreps_out)
        self.paths = NBodyPaths(
            irreps_in,
            irreps_out,
            gate,
            product=product,
            form=form,
            fragments=fragments,
        )
        self.gate, self.own, self.planes = gate, own, 2 if complex else 1
        self.norm = float(avg_num_children) ** -0.5
        self.cutoff = cutoff
        self.envelope = None if cutoff is None else Envelope("polynomial", cutoff)
        count = POWERS[gate] if num_radial is None else num_radial
        self.radial, self.learned = _radial(
            radial, count, soften, cutoff, num_basis, hidden
        )
        numbers = self.paths.counts()
        self.weights = nn.ParameterDict()
        for ir, number in numbers.items():
            rows = number * count + (self.irreps_in.count(ir) if own else 0)
            shape = (rows, self.irreps_out.count(ir))
            if rows:
                size = shape if self.planes == 1 else (2, *shape)
                self.weights[str(ir)] = nn.Parameter(torch.empty(size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start all weights again, so that sums over fragments keep their size."""
        super().reset_parameters()
        for weight in self.weights.values():
            nn.init.normal_(weight, std=(self.planes * weight.shape[-2]) ** -0.5)
        if isinstance(self.radial, RadialMLP):
            self.radial.reset_parameters()

    def facts(self) -> dict[str, Any]:
        """What decides the numbers beside the weights; see ``StatesFacts``."""
        return {"layer": repr(self)}

    @property
    def rows_in(self) -> Irreps:
        """Rows of the children as real numbers."""
        return _planes(self.irreps_in, self.planes)

    @property
    def rows_out(self) -> Irreps:
        """Rows of the result as real numbers."""
        return _planes(self.irreps_out, self.planes)

    @full_precision
    def forward(
        self,
        x: NodeInput | tuple[Tensor, None],
        edge_index: Any,
        edge_vec: Tensor | None = None,
        *,
        pos: NodeInput | None = None,
    ) -> Tensor:
        """States of the nodes; arguments and shapes as in the class description."""
        dtype = cast("torch.dtype", dtype_of(self))
        check_weights(dtype)
        given = children_input(raised(x, dtype), edge_index, edge_vec, pos)
        check_rows(given.x, self.rows_in, "x", dtype)
        fragments = self.fragments(given)
        return self._mixed(fragments, given)

    def fragments(self, given: Children) -> dict[Irrep, Tensor]:
        """All fragments by irreps, ``[T, 2l + 1, fragments]``, before they are mixed.

        Args:
            given: Checked inputs.
        """
        length = given.length
        u = given.vec.new_ones(()) if self.envelope is None else self.envelope(length)
        x = given.x.index_select(0, given.edges[0]) * u.reshape(-1, 1)
        v = given.vec[:, [1, 2, 0]]
        made: dict[Irrep, Tensor]
        if self.gate == "relative":
            blocks = self._blocks(x * self.norm)
            made = fragments_of_pairs(
                blocks,
                v,
                given.edges[1],
                given.num_nodes,
                self._between,
                self.paths,
                self.cutoff,
            )
            if not self.own:
                return made
        w = self._functions(length) if self.gate != "relative" else None
        sums = self.norm * self.propagate(
            given.edges,
            x=(given.x, None),
            u=u.expand(length.shape),
            v=v,
            w=w,
            size=(given.x.shape[0], given.num_nodes),
        )
        dim = self.rows_in.dim
        if self.gate != "relative":
            outer = sums[:, dim * self.own :].unflatten(1, (-1, 3, dim))
            blocks = [block.flatten(2, 3) for block in self._blocks(outer)]
            made = fragments_of_sums(blocks, self.paths)
        return made if not self.own else self._with_own(made, sums[:, :dim])

    def message(self, x_j: Tensor, u: Tensor, v: Tensor, w: Tensor | None) -> Tensor:
        """What the node sums of every child: its state, and that times its vector."""
        x = x_j * u.unsqueeze(1)
        if w is None:
            return x
        outer = torch.einsum("ep,ev,ed->epvd", w, v, x).flatten(1)
        return torch.cat([x, outer], dim=1) if self.own else outer

    def _functions(self, length: Tensor) -> Tensor:
        """Radial functions that vectors are multiplied by, ``[n, P]``."""
        rows: Tensor = self.radial(length)
        if not self.learned:
            return rows
        zero = length == 0
        inverse = torch.where(zero, 0.0, 1 / torch.where(zero, 1.0, length))
        return rows * inverse.unsqueeze(1)

    def _between(self, length: Tensor) -> Tensor:
        """The same for vectors between children."""
        rows = self._functions(length)
        if self.envelope is None:
            return rows
        result: Tensor = rows * self.envelope(length).unsqueeze(1)
        return result

    def _blocks(self, x: Tensor) -> list[Tensor]:
        """Blocks of rows; where complex, as complex numbers."""
        parts = list(flat_blocks(x, self.rows_in))
        if self.planes == 1:
            return parts
        return [torch.complex(*part.chunk(2, dim=-1)) for part in parts]

    def _with_own(self, made: dict[Irrep, Tensor], sums: Tensor) -> dict[Irrep, Tensor]:
        """Sums of the states of the children beside the fragments."""
        for part, (_, ir) in zip(self._blocks(sums), self.irreps_in, strict=True):
            if ir in made:
                made[ir] = torch.cat([made[ir], part], dim=-1)
        return made

    def _mixed(self, fragments: dict[Irrep, Tensor], given: Children) -> Tensor:
        """L of eqs. (8) and (9): rows of the result."""
        left: dict[Irrep, Tensor] = {}
        for ir, rows in fragments.items():
            if str(ir) in self.weights:
                weight = self.weights[str(ir)]
                if self.planes == 2:
                    weight = torch.complex(weight[0], weight[1])
                left[ir] = rows @ weight
        parts = []
        for mul, ir in self.irreps_out:
            if ir in left:
                part, left[ir] = left[ir][..., :mul], left[ir][..., mul:]
                if self.planes == 2:
                    part = torch.cat([part.real, part.imag], dim=-1)
                parts.append(part.flatten(1))
            else:
                dim = self.planes * mul * ir.dim
                parts.append(given.x.new_zeros(given.num_nodes, dim))
        return torch.cat(parts, dim=1)

    def __repr__(self) -> str:
        options = "".join(f", {name}={v!r}" for name, v in self._options.items())
        return (
            f"{type(self).__name__}({str(self.irreps_in)!r}, {str(self.irreps_out)!r}, "
            f"{self.gate!r}{options})"
        )


def _planes(irreps: Irreps, planes: int) -> Irreps:
    return Irreps([(planes * mul, ir) for mul, ir in irreps])


def _radial(
    radial: RadialSpec,
    count: int,
    soften: float,
    cutoff: float | None,
    num_basis: int,
    hidden: Sequence[int],
) -> tuple[nn.Module, bool]:
    """The radial functions, and whether they are learned."""
    if radial in ("powers", "bounded"):
        return InversePowers(count, soften if radial == "bounded" else 0.0), False
    if cutoff is None:
        msg = f"learned radial functions ({radial!r}) need a cutoff in Angstrom"
        raise ConfigError(msg)
    basis = make_radial(radial, num_basis=num_basis, cutoff=cutoff, complex=False)
    return RadialMLP(basis, hidden, count), True
