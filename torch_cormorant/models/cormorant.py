r"""The whole network: input layer, covariant levels, readout."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from torch_cormorant.conv import CormorantConv
from torch_cormorant.conv.inputs import as_internal
from torch_cormorant.errors import ConfigError
from torch_cormorant.graph import all_pairs, radius_graph
from torch_cormorant.models.calibration import Calibration, calibrate
from torch_cormorant.models.checks import (
    check_atoms,
    check_counts,
    check_edge_tensors,
    check_molecules,
    check_output,
    count_graphs,
)
from torch_cormorant.models.config import plain_config
from torch_cormorant.nn.inputs import AtomFeatures, LinearInput, MPNNInput
from torch_cormorant.nn.norm import Gate, SO3Norm
from torch_cormorant.nn.readout import (
    AtomwiseReadout,
    LinearReadout,
    MLPReadout,
    num_scalars,
    scalars,
)
from torch_cormorant.ops import EdgeGeometry
from torch_cormorant.ops.radial_basis import check_cutoff
from torch_cormorant.so3.layout import check_degree

logger = logging.getLogger(__name__)

MPNN_CUTOFF = 1.73
"""Published hard radius of the message-passing input, in Angstrom."""
MAX_EDGES = 4_000_000
"""Edges that a model without a cutoff accepts."""
CONVENTION = "cormorant-real-1"
"""Tag of the conventions that weights belong to."""


class Cormorant(nn.Module):
    r"""A Cormorant network for molecules, over a sparse radius graph.

    Anderson, Hy and Kondor 2019, section 4: atoms start with scalars; every level is a
    :class:`~torch_cormorant.CormorantConv` that hands its edge scalars on; the
    invariants of all levels are read out. :class:`~torch_cormorant.CormorantQM9` and
    :class:`~torch_cormorant.CormorantMD17` are the published networks; the defaults
    here are those for new work: a cutoff with a smooth envelope, bounded radial
    functions.

    Args:
        species: Atomic numbers that may occur. Default H C N O F.
        num_targets: Outputs per molecule. Default 1.
        channels: Channels of every level, or one number for each of input and levels.
        num_levels: Number of levels. Default 4.
        lmax: Largest degree, or one for each level. Default 3.
        lmax_sh: Largest degree of the harmonics. Default: ``lmax``.
        cutoff: Radius of the graph in Angstrom; None: all pairs. Default 5.
        input: ``"mpnn"`` (published QM9, default) or ``"linear"`` (published MD17).
        readout: ``"mlp"`` (published QM9, default), ``"linear"`` (published MD17) or
            ``"atomwise"`` (a sum of atomic contributions).
        num_mpnn_layers: Layers of the ``"mpnn"`` input. Default 1.
        mpnn_cutoff: Hard radius of the ``"mpnn"`` input in Angstrom (published: 1.73,
            where its filter jumps). Default None: the cutoff, with the smooth envelope;
            1.73 where the levels have no envelope.
        charge_power: Powers of the charge in the atom features. Default 2.
        charge_scale: Charge that counts as one. Default: the largest of ``species``.
        norm: ``"norm"``: an :class:`~torch_cormorant.SO3Norm` after every level;
            None (default).
        gate: A :class:`~torch_cormorant.Gate` after every level. Default False.
        hidden: Width of hidden layers. Default 256.
        middle: Width between the two MLPs of the ``"mlp"`` readout. Default 64.
        activation: ``"leaky_relu"`` (published, default), ``"silu"``, ``"relu"``.
        max_edges: With all pairs: edges per call beyond which an error is raised.
        **conv: Arguments of :class:`~torch_cormorant.CormorantConv`: ``paths``,
            ``radial``, ``harmonics``, ``init``, ``gain``, ``complex``, ...
            Default here: ``radial="bessel"`` (``"power_trig"`` without a cutoff).

    Shapes:
        - ``z`` ``[N]`` atomic numbers, ``pos`` ``[N, 3]`` Angstrom, ``batch`` ``[N]``
        - returns ``[num_graphs, num_targets]``

    Raises:
        ConfigError, SpeciesError, DegreeError: If the arguments contradict each other.
        ShapeError, DtypeError, DeviceError, NonFiniteError, SpeciesError,
        CoincidentAtomsError, EdgeBudgetError: If an input does not fit.

    Example:
        >>> import torch
        >>> from torch_cormorant import Cormorant
        >>> model = Cormorant(species=[1, 8], channels=8, num_levels=2, lmax=2)
        >>> z = torch.tensor([8, 1, 1])
        >>> pos = torch.tensor([[0.0, 0, 0], [0, 0, 0.96], [0, 0.93, -0.24]])
        >>> tuple(model(z, pos).shape)
        (1, 1)

    Note:
        Self edges (weight one, zero vector) belong to the network and are added here.
        SO(3)-invariant; with ``paths="even"`` also under reflections. ``pos`` may have
        a higher precision than the weights: edge vectors are formed in it.
    """

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
        readout: str = "mlp",
        num_mpnn_layers: int = 1,
        mpnn_cutoff: float | None = None,
        charge_power: int = 2,
        charge_scale: float | None = None,
        norm: str | None = None,
        gate: bool = False,
        hidden: int = 256,
        middle: int = 64,
        activation: str = "leaky_relu",
        max_edges: int = MAX_EDGES,
        **conv: Any,
    ) -> None:
        given = dict(locals())
        super().__init__()
        self.config = plain_config(given)
        counts = {
            "num_levels": num_levels,
            "num_targets": num_targets,
            "num_mpnn_layers": num_mpnn_layers,
            "hidden": hidden,
            "middle": middle,
        }
        check_counts(counts)
        self.num_levels, self.num_targets = num_levels, num_targets
        self.cutoff = None if cutoff is None else check_cutoff(cutoff)
        self.max_edges = max_edges
        self.channels = _per_level(channels, num_levels + 1, "channels")
        check_counts({"channels": min(self.channels)})
        self.lmax = _per_level(lmax, num_levels, "lmax")
        self.lmax_sh = _per_level(
            self.lmax if lmax_sh is None else lmax_sh, num_levels, "lmax_sh"
        )
        for degree in (*self.lmax, *self.lmax_sh):
            check_degree(degree, "lmax")
        conv = _conv_defaults(conv, cutoff)
        self.planes = 2 if conv.get("complex", True) else 1
        self.harmonics: str = conv.get("harmonics", "unit")
        self._has_envelope = _has_envelope(conv)
        self.features = AtomFeatures(species, charge_power, charge_scale)
        width = self.planes * self.channels[0]
        self.input: LinearInput | MPNNInput = self._make_input(
            input, width, num_mpnn_layers, mpnn_cutoff, hidden, activation
        )
        self.convs = nn.ModuleList(self._make_conv(s, conv) for s in range(num_levels))
        self.norms, self.gates = nn.ModuleList(), nn.ModuleList()
        for s in range(num_levels):
            out, degree = self.channels[s + 1], self.lmax[s]
            plain = nn.Identity()
            self.norms.append(_make_norm(norm, out, degree))
            paired = self.planes == 2
            self.gates.append(Gate(out, degree, complex=paired) if gate else plain)
        self.readout = self._make_readout(readout, hidden, middle, activation)

    # ---------------------------------------------------------------- building

    def _make_input(
        self,
        kind: str,
        width: int,
        layers: int,
        mpnn_cutoff: float | None,
        hidden: int,
        act: str,
    ) -> LinearInput | MPNNInput:
        inputs = self.features.out_features
        if kind == "linear":
            return LinearInput(inputs, width)
        if kind != "mpnn":
            msg = f'input must be "mpnn" or "linear", got {kind!r}'
            raise ConfigError(msg)
        smooth = mpnn_cutoff is None and self._has_envelope
        hard = MPNN_CUTOFF if mpnn_cutoff is None else check_cutoff(mpnn_cutoff)
        if self.cutoff is not None:
            hard = self.cutoff if smooth else min(hard, self.cutoff)
        inner = max(inputs, self.channels[0])
        return MPNNInput(
            inputs,
            width,
            num_layers=layers,
            hidden=hidden,
            inner=inner,
            hard_radius=hard,
            smooth=smooth,
            act=act,
        )

    def _make_conv(self, s: int, conv: dict[str, Any]) -> CormorantConv:
        return CormorantConv(
            self.channels[s],
            self.channels[s + 1],
            lmax=self.lmax[s],
            lmax_in=self.lmax[s - 1] if s else 0,
            lmax_sh=self.lmax_sh[s],
            edge_state_channels=self.channels[s - 1] if s else 0,
            edge_state_lmax=self.lmax_sh[s - 1] if s else None,
            **conv,
        )

    def _make_readout(
        self, kind: str, hidden: int, middle: int, act: str
    ) -> MLPReadout | LinearReadout | AtomwiseReadout:
        inputs = num_scalars(self.channels[1:], self.lmax, self.planes)
        if kind == "mlp":
            return MLPReadout(
                inputs, self.num_targets, hidden=hidden, middle=middle, act=act
            )
        if kind == "linear":
            return LinearReadout(inputs, self.num_targets)
        if kind == "atomwise":
            return AtomwiseReadout(inputs, self.num_targets, hidden=hidden, act=act)
        msg = f'readout must be "mlp", "linear" or "atomwise", got {kind!r}'
        raise ConfigError(msg)

    # ---------------------------------------------------------------- forward

    @property
    def dtype(self) -> torch.dtype:
        """Floating point type of the weights."""
        return next(self.parameters()).dtype

    def set_backend(self, backend: str) -> None:
        """Choose ``"auto"``, ``"portable"`` or ``"reference"`` for all levels."""
        for conv in self.conv_layers():
            conv.set_backend(backend)

    def conv_layers(self) -> list[CormorantConv]:
        """The layers of all levels."""
        return [conv for conv in self.convs if isinstance(conv, CormorantConv)]

    def forward(
        self,
        z: Tensor,
        pos: Tensor,
        batch: Tensor | None = None,
        *,
        num_graphs: int | None = None,
        return_levels: bool = False,
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Predict from atomic numbers and positions.

        Args:
            z: Atomic numbers ``[N]``.
            pos: Positions ``[N, 3]`` in Angstrom.
            batch: Molecule of each atom ``[N]``; None: one molecule.
            num_graphs: Number of molecules. Default: the largest of ``batch`` plus 1.
            return_levels: Also return the output of every level.

        Returns:
            ``[num_graphs, num_targets]``, and with ``return_levels`` a list of tensors
            ``[N, M_s, P, C]``, the input not included.
        """
        check_molecules(z, pos, batch)
        self.features.check(z)
        count = count_graphs(batch, pos.shape[0], num_graphs)
        edge_index = self.make_edges(pos, batch)
        edge_vec = (pos[edge_index[1]] - pos[edge_index[0]]).to(self.dtype)
        geometry = EdgeGeometry(
            edge_index, edge_vec, pos.shape[0], harmonics=self.harmonics
        )
        return self._run(z, geometry, batch, count, return_levels=return_levels)

    def forward_edges(
        self,
        z: Tensor,
        edge_index: Tensor,
        edge_vec: Tensor,
        *,
        batch: Tensor | None = None,
        num_graphs: int | None = None,
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
            return_levels: As in :meth:`forward`.

        Returns:
            As :meth:`forward`.
        """
        check_edge_tensors(edge_index, edge_vec)
        num_nodes = z.shape[0] if isinstance(z, Tensor) else 0
        check_atoms(z, batch, num_nodes, edge_vec.device)
        self.features.check(z)
        count = count_graphs(batch, num_nodes, num_graphs)
        geometry = EdgeGeometry(
            *with_self_edges(edge_index, edge_vec.to(self.dtype), num_nodes),
            num_nodes,
            harmonics=self.harmonics,
        )
        return self._run(z, geometry, batch, count, return_levels=return_levels)

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
        return_levels: bool,
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        features = self.features(z, self.dtype)
        out, levels = self.forward_features(features, geometry, batch, num_graphs)
        return (out, levels) if return_levels else out

    def forward_features(
        self,
        features: Tensor,
        geometry: EdgeGeometry,
        batch: Tensor | None,
        num_graphs: int,
    ) -> tuple[Tensor, list[Tensor]]:
        """From atom features (``model.features``) to outputs and levels.

        Args:
            features: ``[N, F]``.
            geometry: The edges, self edges included.
            batch: Molecule of each atom.
            num_graphs: Number of molecules.

        Returns:
            ``[num_graphs, num_targets]`` and the outputs of all levels.
        """
        levels = self._run_levels(self.input(features, geometry), geometry)
        if batch is None:
            batch = geometry.edge_index.new_zeros(features.shape[0])
        out: Tensor = self.readout(scalars(levels), batch, num_graphs)
        if not torch.compiler.is_compiling():
            check_output(out, geometry)
        return out, levels

    def _run_levels(self, h: Tensor, geometry: EdgeGeometry) -> list[Tensor]:
        """All levels from the features of the input layer ``[N, P * C]``."""
        x = h.view(h.shape[0], self.channels[0], self.planes)
        x = x.transpose(1, 2).unsqueeze(1)
        outputs, state = [], None
        for conv, norm, gate in zip(
            self.conv_layers(), self.norms, self.gates, strict=True
        ):
            internal = as_internal(x, self.planes)
            x, state = conv.levels(internal, internal, geometry, state)
            x = gate(norm(x))
            outputs.append(x)
        return outputs

    # ---------------------------------------------------------------- services

    def energy_and_forces(
        self, z: Tensor, pos: Tensor, batch: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        r"""Energies and forces :math:`-\partial E / \partial r`.

        Args:
            z: Atomic numbers ``[N]``.
            pos: Positions ``[N, 3]`` in Angstrom; not changed.
            batch: Molecule of each atom.

        Returns:
            Energies ``[num_graphs]`` and forces ``[N, 3]``, energy unit per Angstrom.
            In training mode (and with gradients enabled) both can be differentiated.

        Raises:
            ConfigError: If the model has more than one target.
        """
        if self.num_targets != 1:
            msg = f"forces need one target, this model has {self.num_targets}"
            raise ConfigError(msg)
        train = self.training and torch.is_grad_enabled()
        with torch.inference_mode(mode=False), torch.enable_grad():
            moved = pos if pos.requires_grad else pos.detach().clone().requires_grad_()
            energy = self.forward(z, moved, batch)
            if not isinstance(energy, Tensor):
                msg = "forward returned no tensor"
                raise TypeError(msg)
            (gradient,) = torch.autograd.grad(
                energy.sum(), moved, create_graph=train, materialize_grads=True
            )
        energy = energy.squeeze(-1)
        return (energy if train else energy.detach()), -gradient

    def calibrate(
        self, loader: Iterable[Any], target: float | None = None, max_batches: int = 4
    ) -> Calibration:
        """Rescale the levels on data so that activations have a given size.

        An explicit step before training; see
        :func:`torch_cormorant.models.calibration.calibrate`.

        Args:
            loader: Batches with ``z``, ``pos`` and ``batch``, as PyG's loaders give.
            target: RMS that every level and degree gets. Default: the largest of a
                few that survives a rattle and compression test.
            max_batches: Batches that are used. Default 4.

        Returns:
            What was measured and chosen.
        """
        return calibrate(self, loader, target, max_batches)


def _per_level(value: int | Sequence[int], count: int, name: str) -> list[int]:
    if isinstance(value, int):
        return [value] * count
    given = [int(v) for v in value]
    if len(given) != count:
        msg = f"{name} must be one number or {count}, got {len(given)}"
        raise ConfigError(msg)
    return given


def _make_norm(kind: str | None, channels: int, lmax: int) -> nn.Module:
    if kind is None:
        return nn.Identity()
    if kind == "norm":
        return SO3Norm(channels, lmax)
    msg = f'norm must be "norm" or None, got {kind!r}'
    raise ConfigError(msg)


def _conv_defaults(conv: dict[str, Any], cutoff: float | None) -> dict[str, Any]:
    """Arguments of every level: cutoff, radial functions, clamped soft radii."""
    conv = dict(conv, cutoff=cutoff)
    conv.setdefault("radial", "power_trig" if cutoff is None else "bessel")
    soft = conv.setdefault("soft_radius", 1.73)
    if cutoff is not None and soft > cutoff:
        logger.warning("soft_radius %g A is clamped to the cutoff %g A", soft, cutoff)
        conv["soft_radius"] = cutoff
    return conv


def _has_envelope(conv: dict[str, Any]) -> bool:
    """Whether the levels multiply by the envelope, as CormorantConv decides it."""
    chosen = conv.get("envelope")
    if chosen is not None:
        return bool(chosen)
    return conv["cutoff"] is not None and "hard" not in conv.get("cutoff_type", ())


def with_self_edges(
    edge_index: Tensor, edge_vec: Tensor, num_nodes: int
) -> tuple[Tensor, Tensor]:
    """Exactly one self edge with a zero vector for each atom."""
    itself = (edge_index[0] == edge_index[1]) & (edge_vec.detach() == 0).all(-1)
    if bool(itself.any()):
        edge_index, edge_vec = edge_index[:, ~itself], edge_vec[~itself]
    loop = torch.arange(num_nodes, device=edge_index.device)
    index = torch.cat([edge_index, torch.stack([loop, loop])], dim=1)
    return index, torch.cat([edge_vec, edge_vec.new_zeros(num_nodes, 3)])
