r"""N-body networks: atoms make parts, and parts the molecule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from torch_cormorant.conv import NBodyConv
from torch_cormorant.errors import ConfigError
from torch_cormorant.irreps import Irreps
from torch_cormorant.networks.base import MAX_EDGES, register_network
from torch_cormorant.networks.building import make_gates, make_norms, per_level
from torch_cormorant.networks.checks import check_counts
from torch_cormorant.networks.parts import SCHEMES, Parts, parts_of
from torch_cormorant.networks.starts import StartsFromRows
from torch_cormorant.nn.heads import HeadSpec, LevelSizes
from torch_cormorant.nn.norm import NormSpec
from torch_cormorant.nn.radial import RadialSpec
from torch_cormorant.nn.so3_linear import SO3Linear
from torch_cormorant.ops import EdgeGeometry
from torch_cormorant.ops.autocast import full_precision
from torch_cormorant.ops.segment import scatter_sum
from torch_cormorant.so3.flat import as_packed

__all__ = ["NBodyNetwork"]


@register_network("nbody")
class NBodyNetwork(StartsFromRows):
    r"""N-body network (Kondor 2018, https://arxiv.org/abs/1803.01588).

    Every level is one gate, :class:`~torch_cormorant.conv.NBodyConv`, from the states
    of parts to those of the parts that they make. Which these are is the ``scheme``:

    ===============  ==================================================================
    scheme           levels
    ===============  ==================================================================
    ``"balls"``      every atom stands for the ball of one cutoff around it, made of the
                     balls of the level below that are drawn around the atoms in it:
                     overlapping parts, smooth where an atom comes in, with cells
    ``"hydrogens"``  heavy atoms with the hydrogens nearest to them, then the molecule
    ``"root"``       the molecule at once
    ``fragments``    parts that are named, then the molecule
    ===============  ==================================================================

    In all but the first, parts sit at the centroids of their atoms, every pair of atoms
    must be in the graph (``cutoff=None``), and a head reads of every atom the mean of
    the parts that hold it. The paper trains nothing; what it does not have is an option
    here, beginning with ``own``, and can be switched off.

    Args:
        species: Atomic numbers that may occur. Default H C N O F.
        scheme: One of the words above, or lists of atoms by
            ``{"fragments": [[0, 1], ...]}``, the same for every molecule.
        cutoff: Radius of balls in Angstrom. Default: 4 with balls, else None.
        channels: Channels of every degree. Default 16.
        lmax: Largest degree of every level. Default 1.
        num_levels: Number of levels with balls. Default 3; else the scheme says it.
        gates: Gate of all levels, or of each: ``"single"``, ``"pairs"`` or
            ``"relative"``. Default: ``"single"``, then ``"pairs"``.
        product: ``"channelwise"`` (default), or ``"full"`` as in the paper.
        radial: As in :class:`~torch_cormorant.conv.NBodyConv`. Default
            ``"bessel_basis"`` with a cutoff, else ``"bounded"``; ``"powers"``: as
            printed.
        num_radial: Number of radial functions. Default: 12 of a basis, else as many
            powers as in the paper.
        avg_num_children: What sums are scaled by, for all levels or each. Default: 12
            with balls, else 4.
        own: Sum the states of children beside the products, and with balls add that of
            the atom's own ball through a matrix. Default True.
        norm: Norm after every level. Default ``"norm"``; None: none.
        gate: A gate of sigmoids after it. Default False.
        parity: States of degree l have parity (-1)^l, so that energies of mirror images
            are equal (default). False: all couplings, as in the paper; a molecule and
            its mirror image may then differ.
        complex: Complex states. Default False.
        num_targets: Outputs per molecule. Default 1.
        head: As in :class:`~torch_cormorant.Cormorant`. Default ``"extensive"``.
        hidden: Width of the head. Default 128.
        max_edges: Edges per call without a cutoff.

    Raises:
        ConfigError: An option is out of range, or scheme and cutoff contradict each
            other.

    Example:
        >>> import torch
        >>> from torch_cormorant.networks import NBodyNetwork
        >>> z = torch.tensor([8, 1, 1])
        >>> pos = torch.tensor([[0.0, 0, 0], [0, 0, 0.96], [0, 0.93, -0.24]])
        >>> network = NBodyNetwork([1, 8], scheme="hydrogens", channels=4)
        >>> out, levels = network(z, pos, return_levels=True)
        >>> tuple(out.shape), [tuple(level.shape) for level in levels]
        ((1, 1), [(3, 4, 1, 4), (3, 4, 1, 4)])
    """

    def __init__(
        self,
        species: Sequence[int] = (1, 6, 7, 8, 9),
        *,
        scheme: str | Mapping[str, Any] = "balls",
        cutoff: float | None = None,
        channels: int = 16,
        lmax: int | Sequence[int] = 1,
        num_levels: int | None = None,
        gates: str | Sequence[str] | None = None,
        product: str = "channelwise",
        radial: RadialSpec | None = None,
        num_radial: int | None = None,
        avg_num_children: float | None = None,
        own: bool = True,
        norm: NormSpec | None = "norm",
        gate: bool = False,
        parity: bool = True,
        complex: bool = False,
        num_targets: int = 1,
        head: HeadSpec | Sequence[HeadSpec] | None = None,
        hidden: int = 128,
        max_edges: int = MAX_EDGES,
    ) -> None:
        self.scheme, self.named = _scheme(scheme)
        balls = self.scheme == "balls"
        if not balls and cutoff is not None:
            msg = (
                f"the scheme {self.scheme!r} looks at whole molecules: leave out cutoff"
            )
            raise ConfigError(msg)
        if not balls and num_levels is not None:
            msg = f"the scheme {self.scheme!r} decides the levels: leave out num_levels"
            raise ConfigError(msg)
        reach = (4.0 if cutoff is None else cutoff) if balls else None
        super().__init__(species, reach, max_edges=max_edges)
        count = 1 if self.scheme == "root" else 2
        count = (3 if num_levels is None else num_levels) if balls else count
        check_counts({"channels": channels, "num_levels": count})
        self.num_levels, self.planes = count, 2 if complex else 1
        self.hops, self.smooth_cutoff = (count if balls else None), balls
        degrees = per_level(lmax, count, "lmax")
        chosen = ["single", *["pairs"] * (count - 1)] if gates is None else gates
        kinds = [chosen] * count if isinstance(chosen, str) else list(chosen)
        if len(kinds) != count:
            raise ConfigError(f"gates must be one or {count}, got {kinds}")
        self.input = nn.Linear(self.features.out_features, self.planes * channels)
        self.convs, self.skips = nn.ModuleList(), nn.ModuleList()
        below = 0
        kind = radial or ("bessel_basis" if balls else "bounded")
        if kind not in ("powers", "bounded") and num_radial is None:
            num_radial = 12
        children = avg_num_children or (12.0 if balls else 4.0)
        for top, name in zip(degrees, kinds, strict=True):
            conv = NBodyConv(
                _irreps(channels, below, parity),
                _irreps(channels, top, parity),
                name,
                product=product,
                radial=kind,
                num_radial=num_radial,
                cutoff=reach,
                own=own,
                avg_num_children=children,
                complex=complex,
            )
            self.convs.append(conv)
            skip = SO3Linear(channels, channels, min(below, top), complex=complex)
            self.skips.append(skip if own and balls else nn.Identity())
            below = top
        sizes = LevelSizes((channels,) * count, tuple(degrees), self.planes)
        self.norms = nn.ModuleList(make_norms(norm, sizes))
        self.gates = nn.ModuleList(make_gates(sizes, wanted=gate))
        self.set_head(head or "extensive", sizes, num_targets, hidden=hidden)

    def start(self, z: Tensor) -> Tensor:
        """Features of atoms ``[N, F]``."""
        x: Tensor = self.features(z, self.dtype)
        return x

    @full_precision
    def levels_from(self, x: Tensor, z: Tensor, geometry: EdgeGeometry) -> list[Tensor]:
        """Of every atom, the states of its ball, or the mean of those that hold it."""
        x = self.input(x)
        if self.scheme == "balls":
            return self._balls(x, geometry)
        return self._parts(x, parts_of(self.scheme, self.named, z, geometry))

    def _balls(self, x: Tensor, geometry: EdgeGeometry) -> list[Tensor]:
        levels: list[Tensor] = []
        for s, (conv, skip) in enumerate(zip(self.convs, self.skips, strict=True)):
            new = self._packed(conv(x, geometry), s)
            if isinstance(skip, SO3Linear):
                old = levels[-1] if levels else self._scalars(x, skip.in_channels)
                kept = skip(old[:, : (skip.lmax + 1) ** 2])
                rest = new.shape[1] - kept.shape[1]
                new = new + nn.functional.pad(kept, (0, 0, 0, 0, 0, rest))
            levels.append(self._finished(new, s))
            x = levels[-1].flatten(1)
        return levels

    def _parts(self, x: Tensor, parts: Sequence[Parts]) -> list[Tensor]:
        levels = []
        for s, (conv, part) in enumerate(zip(self.convs, parts, strict=True)):
            made = conv((x, None), part.edge_index, pos=(part.below, part.pos))
            state = self._finished(self._packed(made, s), s)
            x = state.flatten(1)
            levels.append(_spread(state, part))
        return levels

    def _scalars(self, x: Tensor, channels: int) -> Tensor:
        return x.view(x.shape[0], 1, self.planes, channels)

    def _packed(self, rows: Tensor, s: int) -> Tensor:
        return as_packed(rows, self.convs[s].rows_out, self.planes)

    def _finished(self, x: Tensor, s: int) -> Tensor:
        done: Tensor = self.gates[s](self.norms[s](x))
        return done

    def facts(self) -> dict[str, Any]:
        """Those of every network, and the scheme."""
        return {**super().facts(), "scheme": self.scheme, "fragments": self.named}


def _irreps(channels: int, lmax: int, parity: bool) -> Irreps:
    return Irreps([(channels, ir) for _, ir in Irreps.harmonics(lmax, parity=parity)])


def _scheme(given: str | Mapping[str, Any]) -> tuple[str, list[list[int]] | None]:
    """Name of a scheme, and the atoms of named parts."""
    if isinstance(given, str) and given in SCHEMES:
        return given, None
    if isinstance(given, Mapping) and list(given) == ["fragments"]:
        return "fragments", [[int(a) for a in part] for part in given["fragments"]]
    msg = (
        f"scheme must be one of {SCHEMES} or {{'fragments': [[0, 1], ...]}}, got "
        f"{given!r}"
    )
    raise ConfigError(msg)


def _spread(state: Tensor, part: Parts) -> Tensor:
    """The mean over the parts that hold an atom, for every atom."""
    atom, index = part.atoms
    rows = state.index_select(0, index)
    sums = scatter_sum(rows, atom, part.num_atoms, validate=False)
    held = torch.bincount(atom, minlength=part.num_atoms).clamp_min(1)
    return sums / held.to(sums.dtype).view(-1, 1, 1, 1)
