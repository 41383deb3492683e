r"""The whole network: input layer, covariant levels, head."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from torch_cormorant.conv import CormorantConv
from torch_cormorant.errors import ConfigError
from torch_cormorant.networks.base import MAX_EDGES, Network, register_network
from torch_cormorant.networks.building import (
    check_residual,
    conv_arguments,
    has_envelope,
    input_radius,
    make_gates,
    make_input,
    make_norms,
    make_scales,
    per_level,
    radial_species,
    reached_degrees,
)
from torch_cormorant.networks.calibration import Calibration, calibrate
from torch_cormorant.networks.checks import check_counts
from torch_cormorant.networks.config import plain_config
from torch_cormorant.networks.level import run_level
from torch_cormorant.nn.facts import activations_of
from torch_cormorant.nn.heads import HeadSpec, LevelSizes
from torch_cormorant.nn.norm import NormSpec, SO3Norm
from torch_cormorant.ops import EdgeGeometry
from torch_cormorant.ops.autocast import full_precision
from torch_cormorant.so3.layout import check_degree

__all__ = ["CormorantNetwork"]

YOUNGER = ("species_scale", "residual")
"""Options that older model files do not name; no file names them where they are off."""


@register_network("CormorantNetwork")
class CormorantNetwork(Network):
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
        species_scale: bool = False,
        residual: bool = False,
        hidden: int = 256,
        middle: int = 64,
        activation: str = "leaky_relu",
        max_edges: int = MAX_EDGES,
        **conv: Any,
    ) -> None:
        given = dict(locals())
        super().__init__(
            species,
            cutoff,
            charge_power=charge_power,
            charge_scale=charge_scale,
            max_edges=max_edges,
        )
        given["head"] = self.default_head if head is None else head
        kept = {k: v for k, v in given.items() if v or k not in YOUNGER}
        self.made_with = self.config = plain_config(kept)
        counts = {
            "num_levels": num_levels,
            "num_targets": num_targets,
            "num_mpnn_layers": num_mpnn_layers,
            "hidden": hidden,
            "middle": middle,
            "max_edges": max_edges,
        }
        check_counts(counts)
        own = [name for name in given if name not in {"self", "conv", "__class__"}]
        conv = conv_arguments(conv, cutoff, own)
        self.num_levels = num_levels
        self.channels = per_level(channels, num_levels + 1, "channels")
        check_counts({"channels": min(self.channels)})
        self.lmax = per_level(lmax, num_levels, "lmax")
        self.lmax_sh = per_level(
            self.lmax if lmax_sh is None else lmax_sh, num_levels, "lmax_sh"
        )
        for degree in (*self.lmax, *self.lmax_sh):
            check_degree(degree, "lmax")
        self.lmax = reached_degrees(self.lmax, self.lmax_sh)
        check_residual(self.channels, wanted=residual)
        self.residual = residual
        self.planes = 2 if conv.get("complex", True) else 1
        self.harmonics: str = conv.get("harmonics", "unit")
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
        told = radial_species(conv["radial"], len(species))
        if told:
            conv["species"] = told
        self.typed = bool(told) or species_scale
        self.convs = nn.ModuleList(self._make_conv(s, conv) for s in range(num_levels))
        sizes = LevelSizes(tuple(self.channels[1:]), tuple(self.lmax), self.planes)
        self.norms = nn.ModuleList(make_norms(norm, sizes))
        self._tell(conv.get("backend", "auto"))
        self.gates = nn.ModuleList(make_gates(sizes, wanted=gate))
        scales = make_scales(sizes, len(species), wanted=species_scale)
        self.scales = nn.ModuleList(scales)
        options = {"hidden": hidden, "middle": middle, "act": activation}
        self.set_head(given["head"], sizes, num_targets, **options)

    # ---------------------------------------------------------------- building

    def _make_conv(self, s: int, conv: dict[str, Any]) -> CormorantConv:
        # every level learns radial functions and masks of its own
        own = {"radial", "cutoff_type"} & conv.keys()
        conv = {**conv, **{name: copy.deepcopy(conv[name]) for name in own}}
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

    def facts(self) -> dict[str, Any]:
        """Those of every network, and the input layer's."""
        return {
            **super().facts(),
            "input": type(self.input).__name__,
            "input_cutoff": getattr(self.input, "hard_radius", None),
            "input_envelope": getattr(self.input, "smooth", False),
            "input_activation": activations_of(self.input),
            "residual": self.residual,
        }

    @property
    def hops(self) -> int:  # type: ignore[override]
        """How many cutoffs far an atom looks, one for each level and input layer."""
        return self.num_levels + len(getattr(self.input, "filters", ()))

    @property
    def smooth_cutoff(self) -> bool:  # type: ignore[override]
        """Whether all levels multiply by an envelope."""
        networks = [conv.edge_network for conv in self.conv_layers()]
        return all(part.envelope_cutoff is not None for part in networks)

    def calibrate(
        self, loader: Iterable[Any], target: float | None = None, max_batches: int = 4
    ) -> Calibration:
        """Rescale the levels on data so that activations have a given size.

        An explicit step before training; see
        :func:`torch_cormorant.networks.calibration.calibrate`.

        Args:
            loader: Batches with ``z``, ``pos`` and ``batch``, as PyG's loaders give.
            target: RMS that every level and degree gets. Default: the largest of a
                few that survives a rattle and compression test.
            max_batches: Batches that are used. Default 4.

        Returns:
            What was measured and chosen.
        """
        return calibrate(self, loader, target, max_batches)

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
        geometry = self._typed(geometry, features)
        levels = self._run_levels(self.input(features, geometry), geometry)
        out = self.read_out(
            levels, geometry, batch, num_graphs, z=z, pos=pos, check=check
        )
        return out, levels

    @full_precision
    def run_levels(self, z: Tensor, geometry: EdgeGeometry) -> list[Tensor]:
        """Outputs of all levels, each ``[N, M_s, P, C]``, the input not included."""
        features = self.features(z, self.dtype)
        geometry = self._typed(geometry, features)
        return self._run_levels(self.input(features, geometry), geometry)

    def _typed(self, geometry: EdgeGeometry, features: Tensor) -> EdgeGeometry:
        if not self.typed:
            return geometry
        return self.with_types(geometry, self.features.types_of(features))

    def with_types(self, geometry: EdgeGeometry, types: Tensor) -> EdgeGeometry:
        """The geometry with the elements of its atoms, for parts that ask for them.

        Args:
            geometry: The edges; receivers are the first of the sources.
            types: Which of the species every source is ``[N]``.
        """
        if not self.typed:
            return geometry
        return geometry.of_types(types, types[: geometry.num_targets])

    def _run_levels(self, h: Tensor, geometry: EdgeGeometry) -> list[Tensor]:
        """All levels from the features of the input layer ``[N, P * C]``."""
        x, state, outputs = self.first_level(h), None, []
        for s in range(self.num_levels):
            x, state = run_level(self, s, x, geometry, state)
            outputs.append(x)
        return outputs

    def first_level(self, h: Tensor) -> Tensor:
        """``[N, P * C]`` of the input layer as scalars ``[N, 1, P, C]``."""
        x = h.view(h.shape[0], self.channels[0], self.planes)
        return x.transpose(1, 2).unsqueeze(1)
