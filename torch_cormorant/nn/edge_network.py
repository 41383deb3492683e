"""The edge network: scalars g_ij from dot products and radial functions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from torch_cormorant.errors import ShapeError
from torch_cormorant.nn.cutoff import Mask, SoftCutoff, envelope
from torch_cormorant.nn.init import init_block, init_edge, writable
from torch_cormorant.nn.mixing import DegreeWeights, interleave_columns, real_rows
from torch_cormorant.nn.radial import Bessel, Gaussian, PowerTrig, Radial
from torch_cormorant.nn.species_radial import SpeciesRadial
from torch_cormorant.ops import EdgeGeometry, edge_dots, fused
from torch_cormorant.ops.autocast import weights_precision
from torch_cormorant.ops.cg_product import from_complex, to_complex
from torch_cormorant.ops.edge_network import MAX_DEGREES, EdgeMask, edge_network
from torch_cormorant.ops.radial_rows import (
    bessel_rows,
    gaussian_rows,
    power_trig_rows,
)
from torch_cormorant.ops.reference import edge_dots as reference_dots
from torch_cormorant.ops.tensors import real_view


class EdgeNetwork(nn.Module):
    r"""Edge scalars of one level.

    .. math::
        g_{ij}^{l} = \mu_c(r_{ij}) \, W^l \left[ g_{ij}^{l} \oplus
        \bigoplus_{l'} F_i^{l'} \cdot F_j^{l'} \oplus \eta(r_{ij}) \oplus a_{ij} \right]

    Eqs. (9) and (S2) of Anderson et al. 2019, plus the user's own invariants
    :math:`a_{ij}`. Everything but the incoming edge scalars and :math:`a_{ij}` is
    symmetric in i and j and is computed once per undirected pair.

    Args:
        channels: Channels of the node features and of the result; None: not known yet.
        lmax: Largest degree of the result.
        dots_lmax: Largest degree of the node features.
        state_channels: Channels of the incoming edge scalars; 0 for none.
        state_lmax: Largest degree of the incoming edge scalars.
        radial: The radial functions.
        cutoff: The mask; its channels are made with the layer's.
        edge_dim: Number of the user's invariants per edge.
        envelope_cutoff: Cutoff in Angstrom of the smooth envelope, or None.
        complex: Complex (default) or real.
        start: Start the weights (default). False: zeros, for an owner that starts them
            itself.

    Attributes:
        backend: What computes the dot products; see
            :func:`~torch_cormorant.ops.edge_dots`. ``"reference"``: edge by edge, as
            the formula is written.
    """

    def __init__(
        self,
        channels: int | None,
        *,
        lmax: int,
        dots_lmax: int,
        state_channels: int | None,
        state_lmax: int,
        radial: Radial,
        cutoff: Mask,
        edge_dim: int = 0,
        envelope_cutoff: float | None = None,
        complex: bool = True,
        start: bool = True,
    ) -> None:
        super().__init__()
        self.backend = "auto"
        self.lmax, self.dots_lmax, self.state_lmax = lmax, dots_lmax, state_lmax
        self.channels, self.state_channels = channels, state_channels
        self.edge_dim, self.envelope_cutoff = edge_dim, envelope_cutoff
        self.planes = 2 if complex else 1
        self.radial, self.cutoff = radial, cutoff
        known = channels is not None
        self.weights = DegreeWeights(
            channels if channels is not None else 0,
            tuple(map(self.columns, range(lmax + 1))) if known else None,
            lmax,
            complex=complex,
            start=False,
        )
        if start and known:
            self._start("fan_in", 1.0)

    @property
    def wide(self) -> int:
        """Real numbers in one row of one degree."""
        return self.planes * (self.channels or 0)

    # ------------------------------------------------------------------ columns

    def widths(self, l: int) -> tuple[int, int, int, int]:
        """Columns of degree l: previous scalars, dots, radial functions, invariants."""
        channels = self.channels or 0
        state = (self.state_channels or 0) if l <= self.state_lmax else 0
        dots = (self.dots_lmax + 1) * channels if l <= self.dots_lmax else 0
        return state, dots, self.radial.out_channels, self.edge_dim

    def columns(self, l: int) -> int:
        """Number of columns of the weight matrix of degree l."""
        return sum(self.widths(l))

    def block(self, l: int, which: int) -> Tensor:
        """Columns of one kind (0 state, 1 dots, 2 radial, 3 invariants) of degree l."""
        block: Tensor = self.weights()[l].split(self.widths(l), dim=-1)[which]
        return block

    def reset_parameters(self, kind: str = "fan_in", gain: float = 1.0) -> None:
        """Start the weights; ``kind`` as in :class:`~torch_cormorant.CormorantConv`."""
        self.radial.reset_parameters()
        self.cutoff.reset_parameters()
        self._start(kind, gain)

    def _start(self, kind: str, gain: float) -> None:
        for l in range(self.lmax + 1):
            weight = writable(self.weights, f"weight_l{l}")
            if kind == "fan_in":
                self._init_fan_in(weight, l, gain)
            else:
                init_edge(weight, kind, gain)

    def _init_fan_in(self, weight: Tensor, l: int, gain: float) -> None:
        """Every kind of input adds an equal share to a variance of gain^2."""
        blocks = weight.detach().split(self.widths(l), dim=-1)
        kinds = [k for k in range(4) if self.widths(l)[k]]
        for which in kinds:
            block = blocks[which]
            init_block(block, gain**2 / len(kinds))
            if which == 1:  # a dot product over 2 l' + 1 components has that variance
                with torch.no_grad():
                    for q, part in enumerate(block.chunk(self.dots_lmax + 1, dim=-1)):
                        part.div_((2 * q + 1) ** 0.5)

    # ------------------------------------------------------------------ forward

    @weights_precision
    def forward(
        self,
        target: Tensor,
        source: Tensor,
        geometry: EdgeGeometry,
        state: Tensor | None = None,
        edge_attr: Tensor | None = None,
    ) -> Tensor:
        """Edge scalars, one row per pair where possible, else one row per edge.

        Args:
            target: Complex (or real) node features of the receivers ``[N, M, C]``.
            source: Those of the sources.
            geometry: The edges.
            state: Scalars of the last level: complex, of pairs ``[pairs, L + 1, C']``
                or of edges ``[E, L + 1, C']``.
            edge_attr: The user's invariants ``[E, edge_dim]``.

        Returns:
            Complex (or real) ``[pairs or E, lmax + 1, C]``.
        """
        if self.backend == "reference":
            return self._reference(target, source, geometry, state, edge_attr)
        if edge_attr is None and self.fits(target, source, geometry, state):
            return self._fused(target, source, geometry, state)
        index = geometry.pair_index
        length = geometry.pair_length
        dots = edge_dots(target, source, index[1], index[0], self.backend)
        state_rows, dot_rows, radial_rows, attr_rows = self._matrices()
        radial = self._radial(length, geometry.kinds)
        out = self._symmetric(dots, radial, dot_rows, radial_rows)
        mask = self._mask(length)
        directed = edge_attr is not None
        if state is not None:
            directed = directed or state.shape[0] != length.shape[0]
        if directed:
            out, mask = geometry.to_edges(out), geometry.to_edges(mask)
        if state is not None:
            rows = state if not directed else rows_of_edges(state, geometry)
            out = out + self._from_state(rows, state_rows)
        if edge_attr is not None:
            out = out + self._from_attr(edge_attr, attr_rows)
        out = out * mask.unsqueeze(1)
        if self.planes == 2:
            return torch.view_as_complex(out.view(*out.shape[:2], self.wide // 2, 2))
        return out

    def _radial(self, length: Tensor, kinds: Tensor | None) -> Tensor:
        """Radial functions, of pairs of elements for those that know them."""
        radial = self.radial
        if isinstance(radial, SpeciesRadial):
            radial.check_kinds(kinds)
            typed: Tensor = radial(length, kinds)
            return typed
        plain: Tensor = radial(length)
        return plain

    def _mask(self, length: Tensor) -> Tensor:
        return self._mask_rows(length).repeat_interleave(self.planes, dim=-1)

    def _mask_rows(self, length: Tensor) -> Tensor:
        mask: Tensor = self.cutoff(length)
        expected = (length.shape[0], self.channels)
        if not isinstance(self.cutoff, SoftCutoff) and mask.shape != expected:
            msg = (
                f"cutoff_type {type(self.cutoff).__name__} returned shape "
                f"{list(mask.shape)}, expected [E, channels] = {list(expected)}"
            )
            raise ShapeError(msg)
        if self.envelope_cutoff is not None:
            mask = mask * envelope(length, self.envelope_cutoff).unsqueeze(-1)
        return mask

    # -------------------------------------------------------------------- fused

    def fits(
        self,
        target: Tensor,
        source: Tensor,
        geometry: EdgeGeometry,
        state: Tensor | None,
    ) -> bool:
        """Whether one operator computes it all."""
        vec, weight = geometry.edge_vec, self.weights[0]
        # written so that torch.compile can follow: dtype.to_real() ends a graph
        paired = torch.complex64 if weight.dtype == torch.float32 else torch.complex128
        expected = paired if self.planes == 2 else weight.dtype
        return (
            fused.fits(self.backend, target, source, vec, weight, state)
            and (target.dtype, vec.dtype) == (expected, weight.dtype)
            and (state is None or state.shape[0] == geometry.pair_index[0].shape[0])
            and self.lmax < MAX_DEGREES
        )

    def _fused(
        self,
        target: Tensor,
        source: Tensor,
        geometry: EdgeGeometry,
        state: Tensor | None,
    ) -> Tensor:
        index = geometry.pair_index[1], geometry.pair_index[0]
        return edge_network(target, source, index, state, *self.operands(geometry))

    def operands(
        self, geometry: EdgeGeometry
    ) -> tuple[Tensor, EdgeMask, Sequence[Tensor], Sequence[tuple[int, int, int, int]]]:
        """Radial functions, mask, weights and their columns, as the operator reads."""
        return (
            self._fused_radial(self.radial, geometry),
            self._fused_mask(geometry.pair_length),
            self.weights(),
            [self.widths(l) for l in range(self.lmax + 1)],
        )

    def _fused_radial(self, radial: Radial, geometry: EdgeGeometry) -> Tensor:
        """Radial functions; fixed ones are computed once for all layers."""
        length = geometry.pair_length
        kind = None if is_hooked(radial) else type(radial)
        if isinstance(radial, SpeciesRadial) and kind is SpeciesRadial:
            basis = self._fused_radial(radial.basis, geometry)
            return radial.mixed(basis, geometry.kinds)
        if isinstance(radial, (Bessel, Gaussian)) and kind in {Bessel, Gaussian}:
            rows = bessel_rows if kind is Bessel else gaussian_rows
            count, cutoff = radial.num_basis, radial.cutoff
            return geometry.pair_rows(
                (kind, count, cutoff), lambda length: rows(length, count, cutoff)
            )
        if isinstance(radial, PowerTrig) and kind is PowerTrig:
            powers = radial.basis_set[1] + 1
            return power_trig_rows(length, radial.scales, radial.phases, powers)
        return self._radial(length, geometry.kinds)

    def _fused_mask(self, length: Tensor) -> EdgeMask:
        cutoff = self.cutoff
        if not isinstance(cutoff, SoftCutoff) or _is_changed(cutoff):
            return EdgeMask(rows=self._mask_rows(length))
        radii = {}
        if cutoff.soft:
            radii["radius"] = cutoff.radius
        if cutoff.soft and not cutoff.gaussian:
            radii["width"] = cutoff.width
        return EdgeMask(
            length=length,
            envelope=self.envelope_cutoff or 0.0,
            hard=cutoff.hard_radius or 0.0,
            **radii,
        )

    # -------------------------------------------------------------- composition

    def _matrices(self) -> list[list[Tensor]]:
        """Real matrices ``[in * P, P * out]`` of each kind, a list over degrees.

        Rows and columns are interleaved: (re, im) of channel 0, of channel 1, ...
        """
        rows = interleave_columns(real_rows(self.weights()), self.planes)
        widths = [self.widths(l) for l in range(self.lmax + 1)]
        parts = rows.split([self.planes * n for kinds in widths for n in kinds])
        return [list(parts[which::4]) for which in range(4)]

    def _symmetric(
        self,
        dots: Tensor,
        radial: Tensor,
        dot_rows: list[Tensor],
        radial_rows: list[Tensor],
    ) -> Tensor:
        """Dots and radial functions of all degrees at once: two matrix products."""
        base = radial @ torch.cat(radial_rows, dim=1)
        used = dot_rows[: self.dots_lmax + 1]
        if len(used) <= self.lmax:  # other degrees do not see them
            missing = self.lmax + 1 - len(used)
            used.append(used[0].new_zeros(used[0].shape[0], missing * self.wide))
        flat = real_view(dots).flatten(1)
        out = torch.addmm(base, flat, torch.cat(used, dim=1))
        return out.view(out.shape[0], self.lmax + 1, self.wide)

    def _from_state(self, state: Tensor, state_rows: list[Tensor]) -> Tensor:
        top = min(self.state_lmax, self.lmax)
        rows = real_view(state[:, : top + 1]).transpose(0, 1)
        out = torch.bmm(rows, torch.stack(state_rows[: top + 1])).transpose(0, 1)
        return (
            functional.pad(out, (0, 0, 0, self.lmax - top)) if top < self.lmax else out
        )

    def _from_attr(self, edge_attr: Tensor, attr_rows: list[Tensor]) -> Tensor:
        """Real numbers meet the real rows only."""
        matrix = torch.cat(attr_rows, dim=1)[:: self.planes]
        out = edge_attr @ matrix
        return out.view(out.shape[0], self.lmax + 1, self.wide)

    # ---------------------------------------------------------------- reference

    def _reference(
        self,
        target: Tensor,
        source: Tensor,
        geometry: EdgeGeometry,
        state: Tensor | None,
        edge_attr: Tensor | None,
    ) -> Tensor:
        index = geometry.edge_index
        dots = reference_dots(target, source, index[1], index[0])
        rows = None if state is None else rows_of_edges(state, geometry)
        kinds = None if geometry.kinds is None else geometry.to_edges(geometry.kinds)
        return self.reference(dots, geometry.edge_length, rows, edge_attr, kinds)

    def reference(
        self,
        dots: Tensor,
        length: Tensor,
        state: Tensor | None,
        edge_attr: Tensor | None,
        kinds: Tensor | None = None,
    ) -> Tensor:
        """The same per edge and per degree, as the formula is written."""
        radial = self._radial(length, kinds)
        eta = (
            torch.view_as_complex(
                radial.view(*length.shape, self.radial.out_channels, 2)
            )
            if self.planes == 2
            else radial
        )
        mask = self._mask_rows(length)
        parts = []
        for l, weight in enumerate(self.weights()):
            of_state, of_dots, of_radial, of_attr = (
                to_complex(block.transpose(0, 1)).t()
                for block in weight.split(self.widths(l), dim=-1)
            )
            out = eta @ of_radial
            if l <= self.dots_lmax:
                out = out + dots.flatten(1) @ of_dots
            if state is not None and l <= self.state_lmax:
                out = out + state[:, l] @ of_state
            if edge_attr is not None:
                out = out + edge_attr.to(of_attr.dtype) @ of_attr
            parts.append(out * mask)
        return torch.stack(parts, dim=1)

    def extra_repr(self) -> str:
        """Sizes."""
        return (
            f"channels={self.channels}, lmax={self.lmax}, "
            f"state_channels={self.state_channels}, edge_dim={self.edge_dim}"
        )


def rows_of_edges(state: Tensor, geometry: EdgeGeometry) -> Tensor:
    """A state of pairs repeated for the edges; a state of edges as it is."""
    if geometry.shared and state.shape[0] == geometry.pair_length.shape[0]:
        return geometry.to_edges(state)
    return state


def _is_changed(cutoff: SoftCutoff) -> bool:
    return type(cutoff) is not SoftCutoff or is_hooked(cutoff)


HOOKS = tuple(
    f"_{kind}_hooks" for kind in ("forward", "forward_pre", "backward", "backward_pre")
)
"""Attributes of a module that hold its hooks."""


def is_hooked(module: nn.Module) -> bool:
    """Whether someone watches or replaces the calls of a module."""
    own = vars(module)
    return "forward" in own or any(map(own.get, HOOKS))


def planes_of_state(g: Tensor, geometry: EdgeGeometry) -> Tensor:
    """Public form ``[E, L + 1, P, C]`` of edge scalars."""
    return from_complex(rows_of_edges(g, geometry))
