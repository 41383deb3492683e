r"""The Cormorant layer as a PyTorch Geometric operator."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from torch_cormorant.conv.arguments import (
    changed_options,
    check_channels,
    check_count,
    check_message_passing,
    has_hooks,
    one_of,
)
from torch_cormorant.conv.inputs import (
    NodeInput,
    as_internal,
    as_pair,
    check_all_finite,
    check_edge_attr,
    check_features,
    check_same,
    make_geometry,
    rows_of_state,
)
from torch_cormorant.conv.masks import mask_facts, start_radius, warn_of_masks
from torch_cormorant.conv.whole import whole_level
from torch_cormorant.errors import ConfigError
from torch_cormorant.nn.cutoff import MaskSpec, is_smooth, make_mask
from torch_cormorant.nn.edge_network import EdgeNetwork, planes_of_state, rows_of_edges
from torch_cormorant.nn.facts import StatesFacts
from torch_cormorant.nn.init import VERTEX_INITS
from torch_cormorant.nn.radial import RadialSpec, make_radial
from torch_cormorant.nn.vertex import VertexMixing
from torch_cormorant.ops import EdgeGeometry, neighbour_sum
from torch_cormorant.ops.autocast import check_weights, full_precision, raised
from torch_cormorant.ops.cg_product import from_complex, product, to_complex
from torch_cormorant.ops.dispatch import NAMES, check_backend
from torch_cormorant.ops.geometry import HARMONICS
from torch_cormorant.ops.radial_basis import check_cutoff
from torch_cormorant.ops.reference import edge_vectors
from torch_cormorant.so3.layout import check_degree

BACKENDS = (*NAMES, "reference")


class CormorantConv(StatesFacts, MessagePassing):
    r"""The covariant layer of `Cormorant <https://arxiv.org/abs/1906.04015>`_.

    Eqs. (8) and (9) of Anderson, Hy and Kondor 2019:

    .. math::
        g_{ij}^l &= \mu(r_{ij}) \, W_e^l
        [ g_{ij}^l \oplus F_i \cdot F_j \oplus \eta(r_{ij}) ] \\
        F_i'^l &= W_v^l \Big[ \big(\sum_{j} g_{ij} Y(r_{ij}) \otimes F_j \big)^l
        \oplus F_i^l \oplus (F_i \otimes F_i)^l \Big]

    with channelwise Clebsch-Gordan products :math:`\otimes` and
    :math:`r_{ij} = r_i - r_j`, i receiving. Equivariant under SO(3): rotating all
    ``edge_vec`` by R multiplies the output by ``wigner_D(R, lmax)``.

    Args:
        in_channels: Channels of the node features; -1 takes them from the first input.
        out_channels: Channels of the result.
        lmax: Largest degree of the result. Default 3.
        lmax_in: Largest degree of the input; 0 (default) takes scalars.
        lmax_sh: Largest degree of the harmonics. Default: ``lmax``.
        complex: Complex SO(3)-vectors, P = 2 planes (default), or real ones, P = 1.
        edge_dim: Number of invariants per edge that you pass as ``edge_attr``.
        edge_state_channels: Channels of ``edge_state``. Default: ``in_channels`` where
            ``lmax_in > 0``, else 0.
        edge_state_lmax: Largest degree of ``edge_state``. Default: ``lmax_sh``.
        paths: ``"all"``, or ``"even"``: only even ``l1 + l2 + l``, which makes the
            layer symmetric under reflections too. Default ``"all"``.
        radial: ``"power_trig"`` as published (default), or bounded: ``"bessel"``,
            ``"gaussian"``, or learned functions of the elements at both ends
            ``"species"``, a :class:`~torch_cormorant.nn.SpeciesRadial`
            (these need ``cutoff``); or an own
            :class:`~torch_cormorant.nn.Radial`: its name, its class, a mapping with
            ``class`` and options, or an instance.
        basis_set: (T, R) of ``"power_trig"``. Default (3, 3).
        num_basis: Number of functions of the bounded ones. Default 16.
        cutoff: Cutoff radius of your graph in Angstrom. Default None: no envelope.
        envelope: Multiply by a smooth envelope that vanishes at the cutoff. Default:
            True if there is a cutoff and no ``"hard"`` in ``cutoff_type``.
        cutoff_type: As in :class:`~torch_cormorant.nn.SoftCutoff`; or an own
            :class:`~torch_cormorant.nn.Mask`, given as ``radial``. Default
            ``("learn",)``.
        soft_radius: Start of the soft radii in Angstrom. Default: 0.8 of ``cutoff``,
            or 1.73 (published) without one. A layer whose masks let less than half of
            the edges of its first graph through says so
            (:class:`~torch_cormorant.errors.CormorantWarning`).
        soft_width: Start of the soft widths in Angstrom. Default 0.2.
        gaussian_mask: Gaussian soft masks. Default False.
        harmonics: ``"unit"`` (the paper, default) or ``"solid"`` (the published code).
        init: ``"fan_in"`` (default) keeps activations of a stack at order one;
            ``"published"`` and ``"supplement"`` as there.
        gain: Factor of the initial weights. Default 1.
        avg_num_neighbors: Neighbours within the soft cutoff, for ``"fan_in"``.
            Default 4.
        backend: ``"auto"`` (default): the fastest way that works here;
            ``"portable"``: the fast path in PyTorch alone; ``"cpu_kernel"`` and
            ``"triton"``: these or an error; ``"reference"``: edge by edge through
            ``propagate``, slow and readable.
        species: Number of elements, for ``radial="species"``; then the geometry must
            know the atoms (:meth:`.EdgeGeometry.of_types`). Default 0: all are alike.
        **kwargs: Passed to :class:`torch_geometric.nn.MessagePassing`.

    Shapes:
        - ``x``: ``[N, in_channels]`` (``lmax_in=0``) or ``[N, M_in, P, in_channels]``
          with ``M_in = (lmax_in + 1)^2``; a pair (source, target) on bipartite graphs
        - ``edge_index``: ``[2, E]``, or an ``EdgeIndex``, a sparse (transposed)
          adjacency, an :class:`~torch_cormorant.EdgeGeometry`
        - ``edge_vec``: ``[E, 3]`` Angstrom; or ``pos``: ``[N, 3]``
        - ``edge_attr``: ``[E, edge_dim]``
        - ``edge_state``: ``[E, edge_state_lmax + 1, P, edge_state_channels]``
        - ``norm``: a module that the result goes through, computed with the layer
          where that is faster; the same as calling it on the result
        - returns ``[N, M, P, out_channels]``, ``M = (lmax + 1)^2``; with
          ``return_edge_state=True`` also ``[E, lmax_sh + 1, P, in_channels]``; with
          ``return_edge_state="rows"`` the same as it is held inside, complex (or real)
          ``[pairs or E, lmax_sh + 1, in_channels]``, which ``edge_state`` takes too

    Attributes:
        check_masks: Whether the next graph is looked at; networks switch it off.

    Raises:
        ConfigError, DegreeError: If the arguments contradict each other.
        BackendError: If the backend asked for by name is missing on this machine.
        ShapeError, DtypeError, DeviceError, EdgeIndexError, NonFiniteError,
        CoincidentAtomsError: If an input does not fit; see
            :class:`~torch_cormorant.EdgeGeometry`.

    Example:
        >>> import torch
        >>> from torch_cormorant import CormorantConv, radius_graph
        >>> pos = torch.tensor([[0.0, 0, 0], [0, 0, 1.1], [0, 1.0, -0.4]])
        >>> edge_index = radius_graph(pos, cutoff=3.0)
        >>> conv1 = CormorantConv(4, 8, lmax=2)
        >>> conv2 = CormorantConv(8, 8, lmax=2, lmax_in=2)
        >>> x = conv1(torch.randn(3, 4), edge_index, pos=pos)
        >>> x = conv2(x, edge_index, pos=pos)
        >>> tuple(x.shape)
        (3, 9, 2, 8)

    Note:
        Cost per edge is linear in the channels; the CG products act once per node.
        Deterministic; differentiable to any order. Reduced precision features (under
        autocast) are computed in the dtype of the weights, values and gradients;
        weights of half precision are refused. On a symmetric graph the
        gradient with respect to ``edge_vec`` is exact for positions and cells, but not
        for every vector on its own; see ``pairs`` of
        :class:`~torch_cormorant.EdgeGeometry`.
    """

    explain_message: Callable[..., Tensor]
    propagate: Callable[..., Tensor]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        lmax: int = 3,
        lmax_in: int = 0,
        *,
        lmax_sh: int | None = None,
        complex: bool = True,
        edge_dim: int = 0,
        edge_state_channels: int | None = None,
        edge_state_lmax: int | None = None,
        paths: str = "all",
        radial: RadialSpec = "power_trig",
        basis_set: tuple[int, int] = (3, 3),
        num_basis: int = 16,
        cutoff: float | None = None,
        envelope: bool | None = None,
        cutoff_type: MaskSpec = ("learn",),
        soft_radius: float | None = None,
        soft_width: float = 0.2,
        gaussian_mask: bool = False,
        harmonics: str = "unit",
        init: str = "fan_in",
        gain: float = 1.0,
        avg_num_neighbors: float = 4.0,
        backend: str = "auto",
        species: int = 0,
        **kwargs: Any,
    ) -> None:
        options = changed_options(CormorantConv, locals())
        check_message_passing(CormorantConv, kwargs)
        super().__init__(aggr="sum", node_dim=0, **kwargs)
        self._options = options
        self.in_channels = check_channels(in_channels, "in_channels", lazy=True)
        self.out_channels = check_channels(out_channels, "out_channels")
        self.lmax = check_degree(lmax, "lmax")
        self.lmax_in = check_degree(lmax_in, "lmax_in")
        self.lmax_sh = lmax if lmax_sh is None else check_degree(lmax_sh, "lmax_sh")
        self.planes = 2 if complex else 1
        self.edge_dim = check_count(edge_dim, "edge_dim")
        self.harmonics = one_of(harmonics, HARMONICS, "harmonics")
        self.paths = paths
        self.init, self.gain = one_of(init, VERTEX_INITS, "init"), gain
        self.avg_num_neighbors = avg_num_neighbors
        if not avg_num_neighbors > 0 or not math.isfinite(gain):
            msg = (
                "avg_num_neighbors must be positive and gain finite, got "
                f"{avg_num_neighbors} and {gain}"
            )
            raise ConfigError(msg)
        self._state_channels = edge_state_channels
        if edge_state_channels is not None:
            check_count(edge_state_channels, "edge_state_channels")
        self.edge_state_lmax = (
            self.lmax_sh
            if edge_state_lmax is None
            else check_degree(edge_state_lmax, "edge_state_lmax")
        )
        if cutoff is not None:
            check_cutoff(cutoff)
        ends = cutoff is not None and is_smooth(cutoff_type)
        smooth = ends if envelope is None else envelope
        if smooth and cutoff is None:
            msg = "envelope=True needs cutoff= in Angstrom"
            raise ConfigError(msg)
        known = None if in_channels == -1 else in_channels
        self.edge_network = EdgeNetwork(
            known,
            lmax=self.lmax_sh,
            dots_lmax=self.lmax_in,
            state_channels=self.edge_state_channels if known is not None else None,
            state_lmax=self.edge_state_lmax,
            radial=make_radial(
                radial,
                basis_set=basis_set,
                num_basis=num_basis,
                cutoff=cutoff,
                complex=complex,
                species=species,
            ),
            cutoff=make_mask(
                cutoff_type,
                known or 1,
                soft_radius=start_radius(soft_radius, cutoff),
                soft_width=soft_width,
                hard_radius=cutoff,
                gaussian=gaussian_mask,
            ),
            edge_dim=edge_dim,
            envelope_cutoff=cutoff if smooth else None,
            complex=complex,
            start=False,  # below, with the options of the layer
        )
        self.vertex = VertexMixing(
            known,
            out_channels,
            lmax=self.lmax,
            lmax_in=self.lmax_in,
            lmax_sh=self.lmax_sh,
            paths=paths,
            complex=complex,
            start=False,
        )
        self.check_masks = True
        self.set_backend(backend)
        if known is None:
            self.lazy_hook = self.register_forward_pre_hook(_initialize)
        else:
            self.reset_parameters()

    @property
    def edge_state_channels(self) -> int:
        """Channels of ``edge_state``; its weight columns always exist."""
        if self._state_channels is not None:
            return self._state_channels
        return self.in_channels if self.lmax_in > 0 else 0

    def facts(self) -> dict[str, Any]:
        """What decides the numbers beside the weights; see ``StatesFacts``."""
        net = self.edge_network
        return {
            "lmax": self.lmax,
            "lmax_in": self.lmax_in,
            "lmax_sh": self.lmax_sh,
            "complex": self.planes == 2,
            "paths": self.paths,
            "harmonics": self.harmonics,
            "radial": str(net.radial),
            **mask_facts(net.cutoff),
            "envelope_cutoff": net.envelope_cutoff,
        }

    def reset_parameters(self) -> None:
        """Start all weights again."""
        super().reset_parameters()
        if self.in_channels == -1:
            return
        self.edge_network.reset_parameters(self.init, self.gain)
        self.vertex.reset_parameters(self.init, self.gain, self.avg_num_neighbors)

    def set_backend(self, backend: str) -> None:
        """Choose how the layer is computed; names as in the class description."""
        self.backend = one_of(backend, BACKENDS, "backend")
        if backend != "reference":
            check_backend(backend)
        self.edge_network.backend = self.vertex.backend = backend

    def materialize(self, in_channels: int) -> None:
        """Fix the number of input channels of a lazy layer and start its weights."""
        self.in_channels = check_channels(in_channels, "in_channels")
        net = self.edge_network
        net.channels, net.state_channels = in_channels, self.edge_state_channels
        net.weights.materialize(
            tuple(map(net.columns, range(net.lmax + 1))), in_channels
        )
        net.cutoff.set_channels(in_channels)
        self.vertex.in_channels = in_channels
        columns = tuple(in_channels * n for n in self.vertex.blocks_per_degree)
        self.vertex.weights.materialize(columns, self.out_channels)
        self.reset_parameters()

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any
    ) -> None:
        weight = state_dict.get(f"{prefix}edge_network.weights.weight_l0")
        if self.in_channels == -1 and weight is not None:
            self.materialize(weight.shape[1])
            self.lazy_hook.remove()
        super()._load_from_state_dict(state_dict, prefix, *args)

    @full_precision
    def forward(
        self,
        x: NodeInput,
        edge_index: Any,
        edge_vec: Tensor | None = None,
        edge_attr: Tensor | None = None,
        *,
        pos: NodeInput | None = None,
        edge_state: Tensor | None = None,
        return_edge_state: bool | str = False,
        norm: nn.Module | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Update the nodes; arguments and shapes as in the class description."""
        dtype = self.edge_network.weights[0].dtype
        check_weights(dtype)
        bipartite = isinstance(x, (tuple, list))
        source, target = raised(as_pair(x, "x"), dtype)
        state, attr = raised(edge_state, dtype), raised(edge_attr, dtype)
        for part in (source, target) if bipartite else (source,):
            self._check_x(part)
        given = isinstance(edge_index, EdgeGeometry)
        sizes = (source.shape[0], target.shape[0])
        geometry = make_geometry(
            edge_index, edge_vec, pos, sizes, self.harmonics, bipartite=bipartite
        )
        check_same(geometry.edge_vec, "edge_vec" if pos is None else "pos", source)
        rows = None
        if state is not None:
            shape = (self.edge_state_lmax + 1, self.planes, self.edge_state_channels)
            rows = rows_of_state(state, geometry, shape, source)
        check_edge_attr(attr, geometry.plan.num_edges, self.edge_dim, source)
        if not given and not torch.compiler.is_compiling():
            named = {"x": source, "x_target": target} if bipartite else {"x": source}
            check_all_finite({**named, "edge_attr": attr, "edge_state": state})
        if self.check_masks and not torch.compiler.is_compiling():
            self.check_masks = False
            warn_of_masks(self.edge_network.cutoff, geometry.edge_length)
        xs = as_internal(source, self.planes)
        xt = as_internal(target, self.planes) if bipartite else xs
        out, g = self.levels(xs, xt, geometry, rows, attr, norm)
        if return_edge_state == "rows":
            return out, g
        return (out, planes_of_state(g, geometry)) if return_edge_state else out

    def levels(
        self,
        source: Tensor,
        target: Tensor,
        geometry: EdgeGeometry,
        state: Tensor | None = None,
        edge_attr: Tensor | None = None,
        norm: nn.Module | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The layer on internal tensors, without checks.

        Args:
            source: Complex (or real) ``[N, M_in, C]``.
            target: The same of the receivers.
            geometry: The edges.
            state: Edge scalars of the last level, rows of pairs or of edges.
            edge_attr: ``[E, edge_dim]``.
            norm: What the features go through at the end.

        Returns:
            Real ``[N, M, P, C_out]``, and the edge scalars, rows of pairs or of edges.
        """
        if self.backend != "reference":
            geometry.prepare(self.lmax_sh, self.backend)
        if source is target and edge_attr is None and not self._watched:
            parts = self.edge_network, self.vertex, norm
            found = whole_level(*parts, source, geometry, state, self.lmax_sh)
            if found is not None:
                return found
        out, g = self._part_by_part(source, target, geometry, state, edge_attr)
        return (out if norm is None else norm(out)), g

    @property
    def _watched(self) -> bool:
        """Whether someone wants to see messages."""
        return bool(self.explain) or has_hooks(self)

    def _part_by_part(
        self,
        source: Tensor,
        target: Tensor,
        geometry: EdgeGeometry,
        state: Tensor | None,
        edge_attr: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        g = self.edge_network(target, source, geometry, state, edge_attr)
        if self.backend == "reference" or has_hooks(self):
            return self.vertex(self._propagated(source, target, geometry, g), target), g
        masked = g
        if self.explain:
            masked = rows_of_edges(g, geometry)
            masked = self.explain_message(masked, geometry.num_targets)
        sums = neighbour_sum(
            source,
            masked,
            geometry.sh(self.lmax_sh),
            geometry.plan,
            self.vertex.sum_paths,
            self.backend,
        )
        return self.vertex(sums, target), g

    def _propagated(
        self, source: Tensor, target: Tensor, geometry: EdgeGeometry, g: Tensor
    ) -> list[Tensor]:
        """Neighbour sums through PyG's ``propagate``, edge by edge, hooks included."""
        flat = self.propagate(
            geometry.edge_index,
            x=(source, target),
            g=rows_of_edges(g, geometry),
            sh=geometry.sh(self.lmax_sh),
            size=(geometry.num_sources, geometry.num_targets),
        )
        sums, start = [], 0
        for l, count in enumerate(self.vertex.sum_paths.counts):
            length = (2 * l + 1) * count
            part = flat[:, start : start + length].unflatten(1, (2 * l + 1, count))
            sums.append(to_complex(part))
            start += length
        return sums

    def message(self, x_j: Tensor, g: Tensor, sh: Tensor) -> Tensor:
        """CG products of one edge each, ``[E, rows of all paths, P, C]``."""
        parts = product(edge_vectors(g, sh), x_j, self.vertex.sum_paths)
        return from_complex(torch.cat([part.flatten(1, 2) for part in parts], dim=1))

    def _check_x(self, x: Tensor) -> None:
        check_features(
            x,
            "x",
            channels=self.in_channels,
            lmax=self.lmax_in,
            planes=self.planes,
            like=self.edge_network.weights[0],
        )

    def __repr__(self) -> str:
        extra = f", lmax_in={self.lmax_in}" if self.lmax_in else ""
        extra += "".join(f", {name}={value!r}" for name, value in self._options.items())
        return (
            f"{type(self).__name__}({self.in_channels}, {self.out_channels}, "
            f"lmax={self.lmax}{extra})"
        )


def _initialize(module: CormorantConv, args: tuple[Any, ...]) -> None:
    """Forward pre-hook of a lazy layer: take in_channels from the first input."""
    module.materialize(as_pair(args[0], "x")[0].shape[-1])
    module.lazy_hook.remove()
