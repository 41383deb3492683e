"""Everything about the edges of a graph that all layers share."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

from torch_cormorant.errors import (
    ConfigError,
    ShapeError,
)
from torch_cormorant.ops import fused
from torch_cormorant.ops.edges import (
    check_edge_index,
    check_edge_vec,
    check_edges,
)
from torch_cormorant.ops.frames import edge_frames
from torch_cormorant.ops.plan import GraphPlan, make_plan
from torch_cormorant.ops.tensors import safe_norm
from torch_cormorant.ops.transforms import refuse_batched
from torch_cormorant.so3.harmonics import spherical_harmonics
from torch_cormorant.so3.layout import check_degree, lmax_of

HARMONICS = ("unit", "solid")


class EdgeGeometry:
    r"""Edges, their vectors, lengths, harmonics and the plan of a graph, made once.

    ``edge_vec = pos[target] - pos[source]``: the paper's :math:`r_{ij} = r_i - r_j`,
    atom i receives. Pass it to :class:`~torch_cormorant.CormorantConv` in the place of
    ``edge_index``; layers that share it share the sorted plan and the harmonics.

    Args:
        edge_index: Row 0 = source j, row 1 = target i.
        edge_vec: Vectors in Angstrom. Zero is accepted on self edges only.
        num_nodes: Number of nodes, or (sources, targets) of a bipartite graph.
        harmonics: ``"unit"``: :math:`Y(r/|r|)`, the paper; ``"solid"``:
            :math:`|r|^l Y(r/|r|)`, the published code. Default ``"unit"``.
        pairs: Share what is symmetric between an edge and its reverse, if every edge
            has one with an exactly negated vector. The gradient with respect to the
            length then goes to one of the two, which leaves gradients with respect to
            positions and cells exact. Default True.
        validate: Check indices, finiteness and coincident atoms. False: only indices
            on a CPU are checked. Default True.

    Shapes:
        ``edge_index`` ``[2, E]``, ``edge_vec`` ``[E, 3]``.

    Attributes:
        pair_index: (source, target) of each undirected pair, or of each edge where none
            are shared.
        types: What :meth:`of_types` was given, or None.
        kinds: Kind of each pair, see there, or None.

    Raises:
        ShapeError, DtypeError, DeviceError: If a tensor is not as above.
        EdgeIndexError: If an index is negative or too large.
        NonFiniteError: If ``edge_vec`` holds NaN or infinity.
        CoincidentAtomsError: If two different nodes are less than 1e-6 A apart.

    Example:
        >>> import torch
        >>> pos = torch.tensor([[0.0, 0, 0], [0, 0, 1], [0, 1, 0]])
        >>> edge_index = torch.tensor([[0, 1, 0, 2], [1, 0, 2, 0]])
        >>> geometry = EdgeGeometry.from_pos(pos, edge_index)
        >>> geometry
        EdgeGeometry(3 nodes, 4 edges, 2 pairs, unit)
        >>> tuple(geometry.sh(2).shape)
        (4, 9)
    """

    types: tuple[Tensor, Tensor] | None = None
    kinds: Tensor | None = None

    def __init__(
        self,
        edge_index: Tensor,
        edge_vec: Tensor,
        num_nodes: int | tuple[int, int],
        *,
        harmonics: str = "unit",
        pairs: bool = True,
        validate: bool = True,
    ) -> None:
        bipartite = not isinstance(num_nodes, int)
        sizes = num_nodes if isinstance(num_nodes, tuple) else (num_nodes, num_nodes)
        if harmonics not in HARMONICS:
            msg = f'harmonics must be "unit" or "solid", got {harmonics!r}'
            raise ConfigError(msg)
        plan = _checked_plan(
            edge_index,
            edge_vec,
            sizes,
            bipartite=bipartite,
            pairs=pairs and not bipartite,
            validate=validate,
        )
        self._set(edge_index, edge_vec, plan, harmonics)

    def _set(
        self, edge_index: Tensor, edge_vec: Tensor, plan: GraphPlan, harmonics: str
    ) -> None:
        self.edge_index, self.harmonics, self.plan = edge_index, harmonics, plan
        self.num_sources, self.num_targets = plan.num_sources, plan.num_targets
        self.pair_index = self._pair_index()
        self._start(edge_vec)

    def _start(self, edge_vec: Tensor) -> None:
        self.edge_vec = edge_vec
        self._sh: dict[int, Tensor] = {}
        self._rows: dict[Hashable, Tensor] = {}

    def moved(self, edge_vec: Tensor) -> EdgeGeometry:
        """The same graph with other vectors ``[E, 3]``, which are not checked."""
        refuse_batched("edge_vec", edge_vec)
        made = copy.copy(self)
        made._start(edge_vec)  # noqa: SLF001
        return made

    def of_types(self, source: Tensor, target: Tensor | None = None) -> EdgeGeometry:
        r"""The same edges between nodes of known types, for what depends on elements.

        Pairs of types a and b, in either order, are of kind
        :math:`\max(a, b) (\max(a, b) + 1) / 2 + \min(a, b)`.

        Args:
            source: Type of every source, 0, 1, ... ``[sources]``, int64.
            target: The same of the targets. Default: the nodes are both.

        Returns:
            A geometry that shares with this one what is computed.
        """
        made = copy.copy(self)
        made.types = (source, source if target is None else target)
        first, second = (
            types.index_select(0, index)
            for types, index in zip(made.types, self.pair_index, strict=True)
        )
        high = torch.maximum(first, second)
        made.kinds = high * (high + 1) // 2 + torch.minimum(first, second)
        return made

    def target_types(self) -> Tensor:
        """Types of the targets, as :meth:`of_types` was given them.

        Raises:
            ConfigError: It was not called.
        """
        if self.types is None:
            msg = "the elements of the nodes are not known: give EdgeGeometry.of_types"
            raise ConfigError(msg)
        return self.types[1]

    @classmethod
    def from_plan(
        cls,
        edge_index: Tensor,
        edge_vec: Tensor,
        plan: GraphPlan,
        *,
        harmonics: str = "unit",
    ) -> EdgeGeometry:
        """Geometry around a plan that exists already: nothing is checked or sorted.

        Args:
            edge_index: Edges that the plan was made for ``[2, E]``.
            edge_vec: Their vectors in Angstrom ``[E, 3]``.
            plan: The plan.
            harmonics: As above.
        """
        made = cls.__new__(cls)
        made._set(edge_index, edge_vec, plan, harmonics)  # noqa: SLF001
        return made

    @classmethod
    def from_pos(
        cls,
        pos: Tensor,
        edge_index: Tensor,
        *,
        harmonics: str = "unit",
        pairs: bool = True,
        validate: bool = True,
    ) -> EdgeGeometry:
        """Geometry of a graph without periodic cell, from positions in Angstrom."""
        if pos.ndim != 2 or pos.shape[1] != 3:
            msg = f"pos must have shape [N, 3], got {tuple(pos.shape)}"
            raise ShapeError(msg)
        refuse_batched("pos", pos)
        if validate and not torch.compiler.is_compiling():
            check_edge_index(edge_index, (pos.shape[0], pos.shape[0]), pos.device)
        edge_vec = pos[edge_index[1]] - pos[edge_index[0]]
        return cls(
            edge_index,
            edge_vec,
            pos.shape[0],
            harmonics=harmonics,
            pairs=pairs,
            validate=validate,
        )

    @classmethod
    def from_data(
        cls, data: Any, *, harmonics: str = "unit", pairs: bool = True
    ) -> EdgeGeometry:
        """Geometry from a PyG ``Data`` or batch with ``edge_index`` and ``edge_vec``.

        Harmonics in ``edge_sh`` (see ``AddEdgeGeometry``) are taken over.

        Raises:
            ConfigError: If an attribute is missing.
        """
        index, vec = data.get("edge_index"), data.get("edge_vec")
        if index is None or vec is None:
            msg = "the data needs edge_index and edge_vec; apply AddEdgeGeometry first"
            raise ConfigError(msg)
        made = cls(index, vec, data.num_nodes, harmonics=harmonics, pairs=pairs)
        sh = data.get("edge_sh")
        if sh is not None:
            if sh.ndim != 2 or sh.shape[0] != index.shape[1]:
                msg = f"edge_sh must have shape [E, M], got {tuple(sh.shape)}"
                raise ShapeError(msg)
            made._sh[lmax_of(sh.shape[1])] = sh
        return made

    def sh(self, lmax: int) -> Tensor:
        """Real spherical harmonics ``[E, (lmax + 1)^2]``, computed once."""
        check_degree(lmax, "lmax")
        if lmax not in self._sh:
            larger = [l for l in self._sh if l > lmax]
            if larger:
                return self._sh[min(larger)][:, : (lmax + 1) ** 2]
            self._sh[lmax] = spherical_harmonics(
                self.edge_vec, lmax, normalize=self.harmonics == "unit"
            )
        return self._sh[lmax]

    def prepare(self, lmax: int, backend: str = "auto") -> None:
        """Compute harmonics and lengths of pairs at once, where one operator can.

        Args:
            lmax: Largest degree that will be asked for.
            backend: What computes the layers; see
                :func:`~torch_cormorant.ops.use_backend`.
        """
        if any(l >= lmax for l in self._sh) or not fused.fits(backend, self.edge_vec):
            return
        pairs = None if self.plan.pairs is None else self.plan.pairs.edge
        unit = self.harmonics == "unit"
        sh, length = edge_frames(self.edge_vec, pairs, lmax, normalize=unit)
        self._sh[lmax] = sh
        self._rows[_here("length of pairs")] = length

    @property
    def edge_length(self) -> Tensor:
        """Length of each edge."""
        return self._kept("length of edges", lambda: safe_norm(self.edge_vec))

    @property
    def shared(self) -> bool:
        """True if edges share what is symmetric with their reverse."""
        return self.plan.pairs is not None

    @property
    def pair_length(self) -> Tensor:
        """Length of each undirected pair, or of each edge where none are shared."""
        pairs = self.plan.pairs
        if pairs is None:
            return self._kept("length of pairs", lambda: self.edge_length)
        return self._kept(
            "length of pairs", lambda: self.edge_length.index_select(0, pairs.edge)
        )

    def _kept(self, key: Hashable, function: Callable[[], Tensor]) -> Tensor:
        """What was computed before, with gradients where they are wanted."""
        key = _here(key)
        if key not in self._rows:
            self._rows[key] = function()
        return self._rows[key]

    def pair_rows(self, key: Hashable, function: Callable[[Tensor], Tensor]) -> Tensor:
        """A function of the lengths of all pairs, computed once for all layers.

        Args:
            key: What tells it from other functions.
            function: ``[pairs]`` in Angstrom to rows of pairs.
        """
        return self._kept(("pairs", key), lambda: function(self.pair_length))

    def _pair_index(self) -> tuple[Tensor, Tensor]:
        """(source, target) of each undirected pair, or of each edge."""
        source, target = self.edge_index[0], self.edge_index[1]
        pairs = self.plan.pairs
        if pairs is None:
            return source, target
        return source.index_select(0, pairs.edge), target.index_select(0, pairs.edge)

    def to_edges(self, values: Tensor) -> Tensor:
        """Rows of pairs repeated for both of their edges (no copy where directed)."""
        pairs = self.plan.pairs
        # the gradient of index_select is much faster than that of indexing
        return values if pairs is None else values.index_select(0, pairs.of_edge)

    def __repr__(self) -> str:
        nodes = f"{self.num_targets}"
        if self.num_sources != self.num_targets:
            nodes = f"{self.num_sources} -> {self.num_targets}"
        pairs = self.plan.pairs
        count = "directed" if pairs is None else f"{pairs.edge.numel()} pairs"
        edges = self.edge_index.shape[1]
        return f"EdgeGeometry({nodes} nodes, {edges} edges, {count}, {self.harmonics})"


def _here(key: Hashable) -> Hashable:
    """A key that tells values with a record for gradients from those without."""
    return key, torch.is_grad_enabled()


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _checked_plan(
    edge_index: Tensor,
    edge_vec: Tensor,
    sizes: tuple[int, int],
    *,
    bipartite: bool,
    pairs: bool,
    validate: bool,
) -> GraphPlan:
    """Check edges and sort them: what depends on numbers, and so on no compiler."""
    check_edge_vec(edge_vec, edge_index)
    if validate:
        check_edges(edge_index, edge_vec, sizes, bipartite=bipartite)
    elif edge_index.device.type == "cpu":
        check_edge_index(edge_index, sizes, edge_vec.device)
    return make_plan(edge_index, *sizes, edge_vec=edge_vec if pairs else None)
