"""Networks whose edges enter by functions of their lengths, which may be tabulated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from torch_cormorant.errors import ConfigError
from torch_cormorant.networks.base import Network
from torch_cormorant.networks.starts import StartsFromRows
from torch_cormorant.ops import EdgeGeometry, Splines, spline_table
from torch_cormorant.ops.autocast import full_precision
from torch_cormorant.ops.weighted_sum import Weights, weight_rows

__all__ = ["RadialTables", "WithRadialWeights"]


class WithRadialWeights(StartsFromRows):
    """A network whose levels read of edges a direction and functions of one number.

    A class writes :meth:`start`, :meth:`radial_weights`, :meth:`level` and
    :meth:`level_sizes`.

    Attributes:
        tables: What :meth:`level_weights` reads instead of computing, or None.
    """

    tables: RadialTables | None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.register_module("tables", None)

    @full_precision
    def levels_from(self, x: Tensor, z: Tensor, geometry: EdgeGeometry) -> list[Tensor]:
        """What the head reads, see :meth:`levels_of`."""
        every = range(len(self.level_sizes()))
        weights = self.level_weights(self.coordinate(z, geometry), every)
        for s, w in zip(every, weights, strict=True):
            x = self.level(s, x, z, geometry, w)
        return self.levels_of(x, self.edge_terms(z, geometry))

    def level(
        self, s: int, x: Tensor, z: Tensor, geometry: EdgeGeometry, weights: Weights
    ) -> Tensor:
        """Features behind one level, of the receivers.

        Args:
            s: Which.
            x: Features of all atoms; those that receive stand first.
            z: Their atomic numbers.
            geometry: Edges, to all atoms or to the first of them.
            weights: What :meth:`level_weights` gives for this level.
        """
        raise NotImplementedError

    def level_sizes(self) -> list[tuple[int, int]]:
        """Numbers of an atom that each level reads, and weights of an edge."""
        raise NotImplementedError

    def radial_weights(self, x: Tensor, levels: Iterable[int]) -> Iterator[Weights]:
        """Weights of some levels: ``[E]`` to ``[E, W]``, one level after the other.

        Or two matrices whose product they are.
        """
        raise NotImplementedError

    @property
    def span(self) -> float:
        """Largest value of what the functions depend on; from there on they vanish."""
        return float(self.cutoff or 0.0)

    def coordinate(self, z: Tensor, geometry: EdgeGeometry) -> Tensor:
        """What the functions depend on, for every pair or edge: default, the length."""
        del z
        return geometry.pair_length

    def edge_terms(self, z: Tensor, geometry: EdgeGeometry) -> Tensor | None:
        """What the head reads of edges directly, ``[N, 1]``. Default: nothing."""
        del z, geometry
        return None

    def levels_of(self, x: Tensor, terms: Tensor | None) -> list[Tensor]:
        """What the head reads, from features behind the last level and edge terms."""
        return [x] if terms is None else [x, terms]

    def level_weights(self, x: Tensor, levels: Iterable[int]) -> Iterator[Weights]:
        """Weights of some levels, as rows or as places in tables.

        Args:
            x: For every edge or pair what the functions depend on, ``[E]``.
            levels: Which levels.

        Raises:
            ConfigError: Tables stand in for weights that were changed, or that are to
                be trained.
        """
        if self.tables is None:
            return self.radial_weights(x, levels)
        self.tables.check(self)
        return self.tables.at(x, levels)


class RadialTables(nn.Module):
    """The functions of all levels as splines of degree five.

    They are no part of the weights: a ``state_dict`` is that of the exact network.

    Args:
        network: In evaluation mode, without gradients of weights.
        exact: The same network in double precision, on the CPU.
        pieces: Of each spline.

    Raises:
        ConfigError: A function is not finite somewhere.
    """

    def __init__(
        self, network: WithRadialWeights, exact: WithRadialWeights, pieces: int
    ) -> None:
        super().__init__()
        self.pieces, self.scale = pieces, pieces / network.span
        widths: list[int] = []

        def rows(place: Tensor) -> Tensor:
            every = range(len(exact.level_sizes()))
            levels = exact.radial_weights(place / self.scale, every)
            found = [weight_rows(weights) for weights in levels]
            widths[:] = [part.shape[1] for part in found]
            return torch.cat(found, dim=1)

        with torch.no_grad():
            table = spline_table(rows, pieces)
        if not bool(table.isfinite().all()):
            msg = "radial functions that are not finite down to zero have no table"
            raise ConfigError(msg)
        like = next(network.parameters())
        for k, part in enumerate(table.to(like).split(widths, dim=1)):
            self.register_buffer(f"level_{k}", part.contiguous(), persistent=False)
        self.dtype = network.dtype
        self._versions = _versions(network)
        self._weights = [value.detach().clone() for value in _weights(network)]

    def at(self, x: Tensor, levels: Iterable[int]) -> Iterator[Splines]:
        """Places of edges in the tables of some levels."""
        place, tables = x * self.scale, list(self.buffers())
        for s in levels:
            yield Splines(place, tables[s])

    def check(self, network: Network) -> None:
        """Refuse to stand in for other weights than those they were made of."""
        problem = None
        if network.training:
            problem = "the network is in training mode; call eval()"
        elif torch.is_grad_enabled() and any(
            p.requires_grad for p in network.parameters()
        ):
            problem = "weights require gradients; call requires_grad_(False)"
        elif network.dtype != self.dtype:
            problem = f"the type was {self.dtype} and is {network.dtype}"
        elif not self._same(network):
            problem = "the weights were changed"
        if problem is not None:
            msg = (
                f"tables of radial functions hold for fixed weights only: {problem}; "
                "in any case tabulate() of the exact potential makes new ones"
            )
            raise ConfigError(msg)

    def _same(self, network: Network) -> bool:
        versions = _versions(network)
        if versions == self._versions:
            return True
        pairs = zip(_weights(network), self._weights, strict=True)
        if not all(torch.equal(a, b.to(a.device)) for a, b in pairs):
            return False
        self._versions = versions
        return True


def _weights(network: Network) -> Sequence[Tensor]:
    tables = getattr(network, "tables", None)
    own = set() if tables is None else {id(part) for part in tables.buffers()}
    every = [*network.parameters(), *network.buffers()]
    return [part for part in every if id(part) not in own]


def _versions(network: Network) -> list[int]:
    return [0 if p.is_inference() else p._version for p in _weights(network)]  # noqa: SLF001
