"""The neighbour sum alone, ours beside e3nn and the published algorithm."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from torch_cormorant.bench import graphs
from torch_cormorant.bench.dense import DenseKronecker, largest_tensor_bytes
from torch_cormorant.bench.formulations import (
    E3nnProducts,
    Formulation,
    Leaves,
    Ours,
    e3nn_is_installed,
)
from torch_cormorant.bench.graphs import Graph
from torch_cormorant.bench.measure import (
    Step,
    Timing,
    interleaved,
    memory_of,
    relative_error,
)
from torch_cormorant.bench.results import Row
from torch_cormorant.bench.settings import Settings
from torch_cormorant.errors import ConfigError
from torch_cormorant.ops import PathTable, reference
from torch_cormorant.so3 import spherical_harmonics

NAMES = {
    "ours": Ours.name,
    "e3nn": E3nnProducts.name,
    "dense": DenseKronecker.name,
}
FORWARD, BOTH = "forward", "forward + backward"
GOALS = {"e3nn": 22.0, "dense": 50.0}
"""Forward and backward over that of the portable path, on all pairs, one thread."""
DENSE_LIMIT_BYTES = 2 << 30
"""Kronecker tensors beyond this are not tried."""
NOT_INSTALLED = "e3nn not installed"
REFERENCE_EDGES = 4000
"""Edges that the slow reference is asked for."""


def inputs(graph: Graph, settings: Settings) -> tuple[Tensor, Tensor, Tensor]:
    """Random ``x`` and ``g`` and the harmonics of the graph."""
    generator = torch.Generator().manual_seed(1)
    lmax, channels = settings.lmax, settings.channels

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.complex64, generator=generator)

    x = random(graph.num_nodes, (lmax + 1) ** 2, channels)
    g = random(graph.num_edges, lmax + 1, channels)
    return x, g, spherical_harmonics(graph.edge_vec, lmax)


def formulation(kind: str, graph: Graph, settings: Settings) -> Formulation | str:
    """``"ours"``, ``"e3nn"`` or ``"dense"``, or why it cannot be run."""
    table = _table(settings)
    if kind == "ours":
        return Ours(graph, table)
    if kind == "e3nn":
        if not e3nn_is_installed():
            return NOT_INSTALLED
        return E3nnProducts(graph, table, settings.channels)
    size = largest_tensor_bytes(graph, settings.lmax, settings.channels)
    if not graph.molecules or size > DENSE_LIMIT_BYTES:
        return f"not run: dense pairs, {size / 1e9:.1f} GB for one of its tensors"
    return DenseKronecker(graph, table)


def _table(settings: Settings) -> PathTable:
    return PathTable(settings.lmax, settings.lmax, settings.lmax)


def total(out: Leaves) -> Tensor:
    """A number to differentiate."""
    parts = [torch.view_as_real(x) if x.is_complex() else x for x in out]
    return torch.stack([part.sum() for part in parts]).sum()


def forward_step(way: Formulation, leaves: Leaves) -> Step:
    """The result only."""

    def step() -> None:
        with torch.no_grad():
            way.run(*leaves)

    return step


def both_step(way: Formulation, leaves: Leaves) -> Step:
    """The result and the gradients with respect to x, g and the harmonics."""

    def step() -> None:
        fresh = [leaf.detach().requires_grad_() for leaf in leaves]
        torch.autograd.grad(total(way.run(*fresh)), fresh)

    return step


def _result_and_gradients(
    way: Formulation, given: tuple[Tensor, Tensor, Tensor]
) -> Leaves:
    fresh = [value.detach().requires_grad_() for value in given]
    out = way.canonical(way.run(*way.leaves(*fresh)))
    generator = torch.Generator().manual_seed(2)
    loss = torch.zeros(())
    for part in out:
        weight = torch.randn(part.shape, dtype=part.dtype, generator=generator)
        loss = loss + (weight * part).real.sum()
    gradients = torch.autograd.grad(loss, fresh)
    return (*(part.detach() for part in out), *gradients)


def error_of(way: Formulation, graph: Graph, settings: Settings) -> float:
    """Check a formulation.

    Args:
        way: The formulation.
        graph: What it runs on.
        settings: The run's settings.

    Returns:
        Largest relative difference from our result and gradients; for ours, of the
        result from the plain reference in float64, on the receivers that come first.
    """
    given = inputs(graph, settings)
    if isinstance(way, Ours):
        return _own_error(way, graph, given)
    ours = Ours(graph, _table(settings))
    expected = _result_and_gradients(ours, given)
    return relative_error(_result_and_gradients(way, given), expected)


@torch.no_grad()
def _own_error(ours: Ours, graph: Graph, given: tuple[Tensor, Tensor, Tensor]) -> float:
    receivers, chosen = first_receivers(graph.edge_index, graph.num_nodes)
    x, g, sh = given
    expected = reference.neighbour_sum(
        x.to(torch.complex128),
        g[chosen].to(torch.complex128),
        sh[chosen].double(),
        graph.edge_index[:, chosen],
        receivers,
        ours.table,
    )
    found = ours.run(*given)
    return relative_error(tuple(part[:receivers] for part in found), expected)


def first_receivers(edge_index: Tensor, num_nodes: int) -> tuple[int, Tensor]:
    """How many receivers the slow reference is asked for, and a mask of their edges."""
    ends = torch.bincount(edge_index[1], minlength=num_nodes).cumsum(0)
    receivers = max(1, int((ends <= REFERENCE_EDGES).sum()))
    return receivers, edge_index[1] < receivers


def step_of(case: str, settings: Settings) -> Step:
    """``"25x18/ours"``: the step whose memory is measured."""
    name, kind = case.split("/")
    graph = graphs.make(name)
    way = formulation(kind, graph, settings)
    if isinstance(way, str):
        raise ConfigError(way)
    return both_step(way, way.leaves(*inputs(graph, settings)))


def run(settings: Settings) -> Iterator[Row]:
    """All rows of this section."""
    for name in settings.graphs:
        yield from _run_graph(name, settings)


def _run_graph(name: str, settings: Settings) -> Iterator[Row]:
    graph = graphs.make(name)
    found = {k: formulation(k, graph, settings) for k in ("ours", "e3nn", "dense")}
    ways = {kind: way for kind, way in found.items() if not isinstance(way, str)}
    errors = {kind: error_of(way, graph, settings) for kind, way in ways.items()}
    given = inputs(graph, settings)
    leaves = {
        kind: tuple(leaf.detach() for leaf in way.leaves(*given))
        for kind, way in ways.items()
    }
    for measured, make in ((FORWARD, forward_step), (BOTH, both_step)):
        steps = {kind: make(way, leaves[kind]) for kind, way in ways.items()}
        times = interleaved(steps, settings.repeat)
        for kind, way in found.items():
            row = Row(
                section="aggregation",
                graph=graph.name,
                measured=measured,
                formulation=NAMES[kind],
                threads=torch.get_num_threads(),
                edges=graph.num_edges,
                note=way if isinstance(way, str) else "",
            )
            if isinstance(way, str):
                yield row
                continue
            yield _timed(row, kind, times, errors, settings)


def _timed(
    row: Row,
    kind: str,
    times: dict[str, Timing],
    errors: dict[str, float],
    settings: Settings,
) -> Row:
    timing = times[kind]
    memory, note = None, ""
    both = row.measured == BOTH
    if both:
        memory, note = memory_of(f"aggregation/{row.graph}/{kind}", settings)
    aimed = both and "x" in row.graph and row.threads == 1 and not settings.quick
    return replace(
        row,
        cpu_ms=timing.cpu_ms,
        wall_ms=timing.wall_ms,
        error=errors[kind],
        ratio=timing.over(times["ours"]),
        goal=GOALS.get(kind) if aimed else None,
        memory_mb=memory,
        note=note,
    )
