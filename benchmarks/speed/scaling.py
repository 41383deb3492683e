"""How the neighbour sum grows with the channels and the largest degree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from benchmarks.speed import graphs
from benchmarks.speed.aggregation import BOTH, both_step, inputs
from benchmarks.speed.e3nn_products import E3nnProducts
from benchmarks.speed.formulations import Formulation, Ours, is_installed
from benchmarks.speed.measure import interleaved
from benchmarks.speed.results import Row
from benchmarks.speed.settings import Settings
from torch_cormorant.ops import PathTable

PEER_NUMBERS = 40_000_000
"""e3nn runs up to this many numbers in its product of all edges."""


def run(settings: Settings) -> Iterator[Row]:
    """Channels at the usual degree, then degrees at the usual number of channels."""
    for channels in settings.widths:
        yield from _case(channels, settings.lmax, settings)
    for lmax in settings.degrees:
        if lmax != settings.lmax:
            yield from _case(settings.channels, lmax, settings)


def _case(channels: int, lmax: int, settings: Settings) -> Iterator[Row]:
    graph = graphs.make(settings.graphs[0])
    table = PathTable(lmax, lmax, lmax)
    given = inputs(graph, lmax, channels)
    ways: dict[str, Formulation] = {Ours.name: Ours(graph, table)}
    rows = sum((2 * l + 1) * count for l, count in enumerate(table.counts))
    note = ""
    if not is_installed("e3nn"):
        note = "e3nn not installed"
    elif graph.num_edges * rows * 2 * channels > PEER_NUMBERS:
        note = "not run: too long"
    else:
        ways[E3nnProducts.name] = E3nnProducts(graph, table, channels)
    steps = {
        name: both_step(way, tuple(leaf.detach() for leaf in way.leaves(*given)))
        for name, way in ways.items()
    }
    times = interleaved(steps, min(settings.repeat, 3))
    base = Row(
        "scaling", graph.name, BOTH, graph.num_edges, channels=channels, lmax=lmax
    )
    for name, timing in times.items():
        yield base.timed(timing, times[Ours.name], formulation=name)
    if note:
        yield replace(base, formulation=E3nnProducts.name, note=note)
