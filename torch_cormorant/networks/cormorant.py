r"""The whole network: input layer, covariant levels, head."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from torch_cormorant.conv import CormorantConv
from torch_cormorant.errors import ArgumentError, ConfigError
from torch_cormorant.graph import all_pairs, radius_graph
from torch_cormorant.networks.building import (
    conv_arguments,
    has_envelope,
    input_radius,
    make_gates,
    make_input,
    make_norms,
    per_level,
    reached_degrees,
    with_self_edges,
)
from torch_cormorant.networks.checks import (
    check_atoms,
    check_counts,
    check_edge_tensors,
    check_molecules,
    check_output,
    check_positions,
    count_graphs,
    refuse_arguments,
)
from torch_cormorant.networks.config import plain_config
from torch_cormorant.networks.facts import NetworkFacts
from torch_cormorant.nn.heads import (
    HeadInput,
    HeadSpec,
    LevelSizes,
    make_head,
    targets_of,
)
from torch_cormorant.nn.inputs import AtomFeatures
from torch_cormorant.nn.norm import NormSpec, SO3Norm
from torch_cormorant.nn.readout import scalars
from torch_cormorant.ops import EdgeGeometry
from torch_cormorant.ops.autocast import check_weights, full_precision
from torch_cormorant.ops.finite import refuse_nonfinite
from torch_cormorant.ops.radial_basis import check_cutoff
from torch_cormorant.so3.layout import check_degree

MAX_EDGES = 4_000_000
"""Edges that a model without a cutoff accepts."""


class CormorantNetwork(NetworkFacts):
    """Species, graph, levels and head of a Cormorant network, and nothing else.

    Arguments, shapes and errors as in :class:`~torch_cormorant.Cormorant`, which adds
    units, references, energies and forces.

    Example:
        >>> import torch
        >>> from torch_cormorant.networks import CormorantNetwork
        >>> network = CormorantNetwork([1, 8], channels=4, num_levels=1, lmax=1)
        >>> z, pos = torch.tensor([8, 1]), torch.tensor([[0.0, 0, 0], [0, 0, 1.0]])
        >>> tuple(network(z, pos).shape)
        (1, 1)
    """

    default_head = "published"
    backend = "auto"

    def __init__(
        self,
        species: Sequence[int] = (1, 6, 7, 8, 9),
        *,
        num_targets: int = 1,
        channels: int | Sequence[int] = 16,
        num_levels: int = 4,
        lmax: int | Sequence[int] = 3,
        lmax_sh: int | Sequence[int] | None = None,
        cutoff: float | None = 5.0,
        input: str = "mpnn",
        head: HeadSpec | Sequence[HeadSpec] | None = None,
        num_mpnn_layers: int = 1,
        mpnn_cutoff: float | None = None,
        charge_power: int = 2,
        charge_scale: float | None = None,
        norm: NormSpec | None = None,
        gate: bool = False,
        hidden: int = 256,
        middle: int = 64,
        activation: str = "leaky_relu",
        max_edges: int = MAX_EDGES,
        **conv: Any,
    ) -> None:
        given = dict(locals())
        super().__init__()
        given["head"] = self.default_head if head is None else head
        self.config = plain_config(given)
        counts = {
            "num_levels": num_levels,
            "num_targets": num_targets,
            "num_mpnn_layers": num_mpnn_layers,
            "hidden": hidden,
            "middle": middle,
            "max_edges": max_edges,
        }
        check_counts(counts)
        self.cutoff = None if cutoff is None else check_cutoff(cutoff)
        own = [name for name in given if name not in {"self", "conv", "__class__"}]
        conv = conv_arguments(conv, cutoff, own)
        self.num_levels, self.max_edges = num_levels, max_edges
        self.channels = per_level(channels, num_levels + 1, "channels")
        check_counts({"channels": min(self.channels)})
        self.lmax = per_level(lmax, num_levels, "lmax")
        self.lmax_sh = per_level(
            self.lmax if lmax_sh is None else lmax_sh, num_levels, "lmax_sh"
        )
        for degree in (*self.lmax, *self.lmax_sh):
            check_degree(degree, "lmax")
        self.lmax = reached_degrees(self.lmax, self.lmax_sh)
        self.planes = 2 if conv.get("complex", True) else 1
        self.harmonics: str = conv.get("harmonics", "unit")
        self.features = AtomFeatures(species, charge_power, charge_scale)
        hard, smooth = input_radius(mpnn_cutoff, self.cutoff, smooth=has_envelope(conv))
        self.input = make_input(
            input,
            self.features.out_features,
            self.channels[0],
            self.planes,
            num_layers=num_mpnn_layers,
            hidden=hidden,
            act=activation,
            hard_radius=hard,
            smooth=smooth,
        )
        self.convs = nn.ModuleList(self._make_conv(s, conv) for s in range(num_levels))
        sizes = LevelSizes(tuple(self.channels[1:]), tuple(self.lmax), self.planes)
        self.norms = nn.ModuleList(make_norms(norm, sizes))
        self._tell(conv.get("backend", "auto"))
        self.gates = nn.ModuleList(make_gates(sizes, wanted=gate))
        options = {"hidden": hidden, "middle": middle, "act": activation}
        self.head = make_head(given["head"], sizes, num_targets, **options)
        self.num_targets = targets_of(self.head)

    # ---------------------------------------------------------------- building

    def _make_conv(self, s: int, conv: dict[str, Any]) -> CormorantConv:
        # every level learns radial functions of its own
        conv = {**conv, "radial": copy.deepcopy(conv["radial"])}
        made = CormorantConv(
            self.channels[s],
            self.channels[s + 1],
            lmax=self.lmax[s],
            lmax_in=self.lmax[s - 1] if s else 0,
            lmax_sh=self.lmax_sh[s],
            edge_state_channels=self.channels[s - 1] if s else 0,
            edge_state_lmax=self.lmax_sh[s - 1] if s else None,
            **conv,
        )
        made.check_masks = False  # published networks mask most pairs of a molecule
        return made

    # ---------------------------------------------------------------- forward

    @property
    def dtype(self) -> torch.dtype:
        """Floating point type of the weights."""
        return next(self.parameters()).dtype

    def set_backend(self, backend: str) -> None:
        """Choose ``"auto"``, ``"portable"`` or ``"reference"`` for all levels."""
        for conv in self.conv_layers():
            conv.set_backend(backend)
        self._tell(backend)

    def _tell(self, backend: str) -> None:
        self.backend = backend
        for norm in self.norms:
            if isinstance(norm, SO3Norm):
                norm.backend = backend

    def conv_layers(self) -> list[CormorantConv]:
        """The layers of all levels; refuses levels that something is wrapped around."""
        layers = [conv for conv in self.convs if isinstance(conv, CormorantConv)]
        if len(layers) != len(self.convs):
            kinds = ", ".join(type(conv).__name__ for conv in self.convs)
            msg = f"this needs the bare layer of every level; model.convs holds {kinds}"
            raise ConfigError(msg)
        return layers

    @full_precision
    def forward(
        self,
        z: Tensor,
        pos: Tensor | None = None,
        batch: Tensor | None = None,
        *,
        num_graphs: int | None = None,
        return_levels: bool = False,
        **others: Any,
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Predict from atomic numbers and positions.

        Args:
            z: Atomic numbers ``[N]``.
            pos: Positions ``[N, 3]`` in Angstrom; never left out.
            batch: Molecule of each atom ``[N]``; None: one molecule.
            num_graphs: Number of molecules. Default: the largest of ``batch`` plus 1.
                A number that no atom has is a molecule without atoms: its row is what
                the head makes of an empty sum.
            return_levels: Also return the output of every level.
            **others: Refused; for cells there is ``Cormorant.evaluate``.

        Returns:
            ``[num_graphs, *head.shape]``, and with ``return_levels`` a list of tensors
            ``[N, M_s, P, C]``, the input not included.
        """
        if others:
            refuse_arguments(others)
        if pos is None:
            msg = (
                f"the model needs z and pos, got one {type(z).__name__}; call "
                "model(batch.z, batch.pos, batch.batch)"
            )
            raise ArgumentError(msg)
        check_weights(self.dtype)
        z, batch = check_molecules(z, pos, batch)
        self.features.check(z)
        count = count_graphs(batch, pos.shape[0], num_graphs)
        edge_index = self.make_edges(pos, batch)
        edge_vec = (pos[edge_index[1]] - pos[edge_index[0]]).to(self.dtype)
        geometry = EdgeGeometry(
            edge_index, edge_vec, pos.shape[0], harmonics=self.harmonics
        )
        return self._run(
            z, geometry, batch, count, pos=pos, return_levels=return_levels
        )

    @full_precision
    def forward_edges(
        self,
        z: Tensor,
        edge_index: Tensor,
        edge_vec: Tensor,
        *,
        batch: Tensor | None = None,
        num_graphs: int | None = None,
        pos: Tensor | None = None,
        return_levels: bool = False,
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Predict from an edge list: the core that :meth:`forward` builds a graph for.

        Args:
            z: Atomic numbers ``[N]``.
            edge_index: ``[2, E]``, row 0 = source, row 1 = target. Self edges with a
                zero vector may be present or not: each atom gets exactly one.
            edge_vec: ``pos[target] - pos[source]`` (+ cell shift) ``[E, 3]``, Angstrom.
            batch: As in :meth:`forward`.
            num_graphs: As in :meth:`forward`.
            pos: Positions ``[N, 3]`` in Angstrom, for heads that read them
                (``"dipole"``, ``"spatial_extent"``, ``"polarizability"``).
            return_levels: As in :meth:`forward`.

        Returns:
            As :meth:`forward`.
        """
        check_weights(self.dtype)
        check_edge_tensors(edge_index, edge_vec)
        num_nodes = z.shape[0] if isinstance(z, Tensor) else 0
        z, batch = check_atoms(z, batch, num_nodes, edge_vec.device)
        if pos is not None:
            check_positions(pos, num_nodes, edge_vec.device)
        self.features.check(z)
        count = count_graphs(batch, num_nodes, num_graphs)
        geometry = EdgeGeometry(
            *with_self_edges(edge_index, edge_vec.to(self.dtype), num_nodes),
            num_nodes,
            harmonics=self.harmonics,
        )
        return self._run(
            z, geometry, batch, count, pos=pos, return_levels=return_levels
        )

    def make_edges(self, pos: Tensor, batch: Tensor | None) -> Tensor:
        """The graph of a batch ``[2, E]``: with self edges, sorted by target."""
        if self.cutoff is None:
            return all_pairs(
                batch,
                pos.shape[0],
                loop=True,
                max_edges=self.max_edges,
                device=pos.device,
            )
        return radius_graph(pos.detach(), self.cutoff, batch, loop=True)

    def _run(
        self,
        z: Tensor,
        geometry: EdgeGeometry,
        batch: Tensor | None,
        num_graphs: int,
        *,
        pos: Tensor | None,
        return_levels: bool,
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        features = self.features(z, self.dtype)
        out, levels = self.forward_features(
            features, geometry, batch, num_graphs, z=z, pos=pos
        )
        return (out, levels) if return_levels else out

    @full_precision
    def forward_features(
        self,
        features: Tensor,
        geometry: EdgeGeometry,
        batch: Tensor | None,
        num_graphs: int,
        *,
        z: Tensor | None = None,
        pos: Tensor | None = None,
        check: bool = True,
    ) -> tuple[Tensor, list[Tensor]]:
        """From atom features (``model.features``) to outputs and levels.

        Args:
            features: ``[N, F]``.
            geometry: The edges, self edges included.
            batch: Molecule of each atom.
            num_graphs: Number of molecules.
            z: Atomic numbers, for heads that read them.
            pos: Positions, for heads that read them.
            check: Refuse outputs that are not finite, which waits for a GPU (a graph
                compiled for one returns NaN instead). Default True.

        Returns:
            ``[num_graphs, *head.shape]`` and the outputs of all levels.
        """
        levels = self._run_levels(self.input(features, geometry), geometry)
        if batch is None:
            batch = geometry.edge_index.new_zeros(features.shape[0])
        values = scalars(levels, self.backend)
        out: Tensor = self.head(HeadInput(values, levels, batch, num_graphs, z, pos))
        if check and torch.compiler.is_compiling():
            out = out if out.is_cuda else refuse_nonfinite(out, self.head.rows)
        elif check:
            check_output(out, geometry, rows=self.head.rows)
        return out, levels

    @full_precision
    def run_levels(self, z: Tensor, geometry: EdgeGeometry) -> list[Tensor]:
        """Outputs of all levels, each ``[N, M_s, P, C]``.

        Args:
            z: Atomic numbers ``[N]``.
            geometry: The edges, self edges included.

        Returns:
            The outputs, the input not included.
        """
        return self._run_levels(
            self.input(self.features(z, self.dtype), geometry), geometry
        )

    def _run_levels(self, h: Tensor, geometry: EdgeGeometry) -> list[Tensor]:
        """All levels from the features of the input layer ``[N, P * C]``."""
        x = h.view(h.shape[0], self.channels[0], self.planes)
        x = x.transpose(1, 2).unsqueeze(1)
        outputs, state = [], None
        # called, not reached into: hooks of modules and wrapped modules take effect
        for conv, norm, gate in zip(self.convs, self.norms, self.gates, strict=True):
            x, state = conv(x, geometry, edge_state=state, return_edge_state="rows")
            x = gate(norm(x))
            outputs.append(x)
        return outputs

    # ---------------------------------------------------------------- services

    @full_precision
    def atomwise(self, levels: Sequence[Tensor]) -> Tensor:
        """Contribution of every atom to an extensive prediction, from the levels.

        Args:
            levels: Outputs of all levels, as ``return_levels`` gives.

        Returns:
            ``[N, num_targets]``; their sums over molecules are the prediction.

        Raises:
            ConfigError: If the head is no sum over atoms.
        """
        if not self.head.additive:
            msg = (
                f"the head must be a sum over atoms, this model has "
                f"{self.head.kind!r}; make it with head='extensive'"
            )
            raise ConfigError(msg)
        batch = torch.zeros_like(levels[0][:, 0, 0, 0], dtype=torch.int64)
        given = HeadInput(scalars(levels, self.backend), levels, batch, 1)
        result: Tensor = self.head(given, summed=False)
        return result
