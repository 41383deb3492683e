"""Radius graphs of thousands of atoms: the search, a layer, a network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from benchmarks.speed import graphs
from benchmarks.speed.aggregation import BOTH
from benchmarks.speed.graphs import Graph
from benchmarks.speed.layer import layer_error
from benchmarks.speed.measure import Step, interleaved, memory_of
from benchmarks.speed.results import Row
from benchmarks.speed.settings import Settings
from torch_cormorant.conv import CormorantConv
from torch_cormorant.graph import radius_graph
from torch_cormorant.models import Cormorant
from torch_cormorant.ops import EdgeGeometry

SEARCH, LAYER, NETWORK = "radius_graph", "CormorantConv", "Cormorant"
BRUTE_FORCE_ATOMS = 3000
"""Up to here the search is compared with that over all pairs."""
MAX_REPEAT = 3
"""These runs are long, and their ratio to anything is not asked for."""


class LargeLayer:
    """Geometry and one layer, gradients of features, positions and weights."""

    def __init__(self, graph: Graph, settings: Settings) -> None:
        torch.manual_seed(0)
        channels, lmax = settings.channels, settings.lmax
        self.graph = graph
        self.conv = CormorantConv(
            channels, channels, lmax=lmax, lmax_in=lmax, cutoff=settings.cutoff
        )
        self.x = torch.randn(graph.num_nodes, (lmax + 1) ** 2, 2, channels)

    def __call__(self) -> None:
        """One forward and backward pass."""
        x = self.x.detach().requires_grad_()
        pos = self.graph.pos.detach().requires_grad_()
        out = self.conv(x, EdgeGeometry.from_pos(pos, self.graph.edge_index))
        torch.autograd.grad(
            out.sum(), (x, pos, *self.conv.parameters()), allow_unused=True
        )

    def error(self) -> float:
        """As :func:`benchmarks.speed.layer.layer_error`."""
        graph = self.graph
        return layer_error(self.conv, self.x, graph.edge_index, graph.edge_vec)


class LargeNetwork:
    """Search, four levels, energy; gradients of all weights."""

    def __init__(self, graph: Graph, settings: Settings) -> None:
        torch.manual_seed(0)
        self.pos, self.z = graph.pos, graphs.elements(graph.num_nodes)
        self.model = Cormorant(
            channels=settings.channels, lmax=settings.lmax, cutoff=settings.cutoff
        )

    def __call__(self) -> None:
        """One forward and backward pass."""
        self.model.zero_grad(set_to_none=True)
        self.model(self.z, self.pos).sum().backward()


def step_of(case: str, settings: Settings) -> Step:
    """``"1000/CormorantConv"`` or ``"1000/Cormorant"``."""
    atoms, kind = case.split("/")
    graph = graphs.radius_cluster(int(atoms), settings.cutoff)
    if kind == NETWORK:
        return LargeNetwork(graph, settings)
    return LargeLayer(graph, settings)


def run(settings: Settings) -> Iterator[Row]:
    """All rows of this section; the largest graph carries the fitted exponents."""
    search: list[Row] = []
    layers: list[Row] = []
    for atoms in settings.large:
        graph = graphs.radius_cluster(atoms, settings.cutoff)
        last = atoms == settings.large[-1]
        for rows, row in (
            (search, _search_row(graph, settings)),
            (layers, _layer_row(graph, settings)),
        ):
            rows.append(row)
            yield replace(row, exponent=_exponent(rows)) if last else row
        if atoms in settings.networks:
            step = LargeNetwork(graph, settings)
            yield _timed(_base(graph, NETWORK), step, settings)


def _base(graph: Graph, formulation: str) -> Row:
    return Row(
        "large",
        graph.name,
        "search" if formulation == SEARCH else BOTH,
        graph.num_edges,
        formulation,
    )


def _timed(row: Row, step: Step, settings: Settings) -> Row:
    timing = interleaved({"step": step}, min(settings.repeat, MAX_REPEAT))["step"]
    memory, note = None, ""
    if row.formulation != SEARCH:
        atoms = row.graph.split()[0]
        memory, note = memory_of(f"large/{atoms}/{row.formulation}", settings)
    return row.timed(timing, memory_mb=memory, note=note)


def _search_row(graph: Graph, settings: Settings) -> Row:
    pos, cutoff = graph.pos, settings.cutoff
    error = None
    if graph.num_nodes <= BRUTE_FORCE_ATOMS:
        every = radius_graph(pos, cutoff, backend="brute_force")
        cells = radius_graph(pos, cutoff, backend="cells")
        error = 0.0 if torch.equal(every, cells) else math.inf
    row = replace(_base(graph, SEARCH), error=error)
    return _timed(row, lambda: radius_graph(pos, cutoff), settings)


def _layer_row(graph: Graph, settings: Settings) -> Row:
    step = LargeLayer(graph, settings)
    row = replace(_base(graph, LAYER), error=step.error())
    return _timed(row, step, settings)


def _exponent(rows: Sequence[Row]) -> float:
    """Slope of log(CPU time) against log(edges), least squares."""
    points = [(math.log(row.edges), math.log(row.cpu_ms or 1.0)) for row in rows]
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
