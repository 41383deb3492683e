"""The neighbour sum alone, ours beside e3nn and the published algorithm."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.speed import graphs
from benchmarks.speed.cuequivariance import CuEquivariance
from benchmarks.speed.dense import DenseKronecker, largest_tensor_bytes
from benchmarks.speed.e3nn_products import E3nnConvolution, E3nnProducts
from benchmarks.speed.formulations import (
    SHOWN,
    Formulation,
    Leaves,
    Ours,
    is_installed,
    problem_with,
)
from benchmarks.speed.graphs import Graph
from benchmarks.speed.measure import (
    Step,
    Timing,
    interleaved,
    memory_of,
    relative_error,
)
from benchmarks.speed.results import Row
from benchmarks.speed.settings import Settings
from torch_cormorant.errors import ConfigError
from torch_cormorant.ops import PathTable, reference
from torch_cormorant.so3 import spherical_harmonics

BACKENDS = {
    kind: f"{Ours.name}{SHOWN[kind]}" for kind in ("triton", "cpu_kernel", "portable")
}
"""Ours, the fastest first; the first one that runs is what others are compared with."""
NAMES = BACKENDS | {
    "e3nn": E3nnProducts.name,
    "e3nn_uvu": E3nnConvolution.name,
    "e3nn_compiled": f"{E3nnProducts.name}, compiled",
    "e3nn_uvu_compiled": f"{E3nnConvolution.name}, compiled",
    "cuequivariance": CuEquivariance.name,
    "openequivariance": "OpenEquivariance",
    "dense": DenseKronecker.name,
}
"""Rows in order."""
FORWARD, BOTH = "forward", "forward + backward"
GOALS = {"e3nn": 100.0, "dense": 200.0}
"""Forward and backward over ours, on all pairs, one thread."""
DENSE_LIMIT_BYTES = 2 << 30
"""Kronecker tensors beyond this are not tried."""
NOT_INSTALLED = "e3nn not installed"
CUE_EDGES = 8000
"""More are not asked of cuEquivariance's naive method."""
REFERENCE_EDGES = 4000
"""Edges that the slow reference is asked for."""


def inputs(graph: Graph, lmax: int, channels: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random ``x`` and ``g`` and the harmonics of the graph."""
    generator = torch.Generator().manual_seed(1)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.complex64, generator=generator)

    x = random(graph.num_nodes, (lmax + 1) ** 2, channels)
    g = random(graph.num_edges, lmax + 1, channels)
    return x, g, spherical_harmonics(graph.edge_vec, lmax)


def formulation(kind: str, graph: Graph, settings: Settings) -> Formulation | str:
    """One of :data:`NAMES`, or why it cannot be run."""
    if kind in BACKENDS:
        return problem_with(kind) or Ours(graph, _table(settings), kind)
    return _PEERS[kind.partition("_")[0]](kind, graph, settings)


def ours(graph: Graph, settings: Settings) -> Ours:
    """What a user gets who asks for nothing."""
    return Ours(graph, _table(settings))


def _e3nn(kind: str, graph: Graph, settings: Settings) -> Formulation | str:
    if not is_installed("e3nn"):
        return NOT_INSTALLED
    compiled = kind.endswith("compiled")
    if compiled and not settings.compiled:
        return "not asked for: --compiled"
    way = E3nnConvolution if kind.startswith("e3nn_uvu") else E3nnProducts
    return way(graph, _table(settings), settings.channels, compiled=compiled)


def _cuequivariance(kind: str, graph: Graph, settings: Settings) -> Formulation | str:
    del kind
    if not (is_installed("cuequivariance") and is_installed("cuequivariance_torch")):
        return "not installed: pip install cuequivariance-torch"
    if graph.num_edges > CUE_EDGES and not torch.cuda.is_available():
        return "not run: its method for CPUs needs too long for so many edges"
    fast = torch.cuda.is_available() and is_installed("cuequivariance_ops_torch")
    method = "uniform_1d" if fast else "naive"
    return CuEquivariance(graph, _table(settings), settings.channels, method)


def _openequivariance(kind: str, graph: Graph, settings: Settings) -> str:
    """It has no product without a weight for every path and edge, and no CPU."""
    del kind, graph, settings
    if not torch.cuda.is_available():
        return "not run: needs a CUDA device"
    return "not run: no uuu product; the complex one costs 17 times our edge scalars"


def _dense(kind: str, graph: Graph, settings: Settings) -> Formulation | str:
    del kind
    if not graph.molecules:
        return "not run: knows all pairs of a molecule only, no sparse graph"
    size = largest_tensor_bytes(graph, settings.lmax, settings.channels)
    if size > DENSE_LIMIT_BYTES:
        return f"not run: {size / 1e9:.1f} GB for one of its tensors"
    return DenseKronecker(graph, _table(settings))


_PEERS: dict[str, Callable[[str, Graph, Settings], Formulation | str]] = {
    "e3nn": _e3nn,
    "cuequivariance": _cuequivariance,
    "openequivariance": _openequivariance,
    "dense": _dense,
}


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
    given = inputs(graph, settings.lmax, settings.channels)
    if isinstance(way, Ours):
        return _own_error(way, graph, given)
    expected = _result_and_gradients(ours(graph, settings), given)
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


def not_compiled(error: Exception) -> str:
    """A remark: compilers want tools and memory that are not everywhere."""
    first = (str(error).strip().splitlines() or [""])[0]
    return f"not compiled: {type(error).__name__}: {first}"


def step_of(case: str, settings: Settings) -> Step:
    """``"25x18/ours"``: the step whose memory is measured."""
    name, kind = case.split("/")
    graph = graphs.make(name)
    way = formulation(kind, graph, settings)
    if isinstance(way, str):
        raise ConfigError(way)
    return both_step(way, way.leaves(*inputs(graph, settings.lmax, settings.channels)))


def run(settings: Settings) -> Iterator[Row]:
    """All rows of this section."""
    for name in settings.graphs:
        yield from _run_graph(name, settings)


def _run_graph(name: str, settings: Settings) -> Iterator[Row]:
    graph = graphs.make(name)
    found = {kind: formulation(kind, graph, settings) for kind in NAMES}
    ways = {kind: way for kind, way in found.items() if not isinstance(way, str)}
    errors = {}
    for kind, way in list(ways.items()):
        try:
            errors[kind] = error_of(way, graph, settings)
        except Exception as error:
            if not kind.endswith("compiled"):
                raise
            found[kind] = not_compiled(error)
            del ways[kind]
    given = inputs(graph, settings.lmax, settings.channels)
    leaves = {
        kind: tuple(leaf.detach() for leaf in way.leaves(*given))
        for kind, way in ways.items()
    }
    base = Row("aggregation", graph.name, FORWARD, graph.num_edges)
    for measured, make in ((FORWARD, forward_step), (BOTH, both_step)):
        steps = {kind: make(way, leaves[kind]) for kind, way in ways.items()}
        times = interleaved(steps, settings.repeat)
        row = replace(base, measured=measured)
        for kind, way in ways.items():
            named = replace(row, formulation=way.name)
            yield _timed(named, kind, times, errors, settings)
    for kind, why in found.items():
        if isinstance(why, str):
            yield replace(base, measured=BOTH, formulation=NAMES[kind], note=why)


def _timed(
    row: Row,
    kind: str,
    times: dict[str, Timing],
    errors: dict[str, float],
    settings: Settings,
) -> Row:
    memory, note = None, ""
    both = row.measured == BOTH
    if both:
        memory, note = memory_of(f"aggregation/{row.graph}/{kind}", settings)
    aimed = both and "x" in row.graph and row.threads == 1 and not settings.quick
    return row.timed(
        times[kind],
        next(iter(times.values())),
        error=errors[kind],
        goal=GOALS.get(kind) if aimed else None,
        memory_mb=memory,
        note=note,
    )
