"""A whole ``CormorantConv`` beside nothing but the aggregation of e3nn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.speed import aggregation, graphs
from benchmarks.speed.formulations import Formulation
from benchmarks.speed.graphs import Graph
from benchmarks.speed.measure import (
    Step,
    interleaved,
    memory_of,
    relative_error,
)
from benchmarks.speed.results import Row
from benchmarks.speed.settings import Settings
from torch_cormorant.conv import CormorantConv
from torch_cormorant.ops import EdgeGeometry

GOAL = 25.0
"""Aggregation of e3nn over our whole layer, one thread."""
OURS, STACK, PEER = "CormorantConv", "CormorantConv in a stack", "e3nn"
COMPILED = f"{STACK}, compiled"
CASES = {OURS: "standalone", STACK: "stack", COMPILED: "compiled", PEER: "e3nn"}


class Layer:
    """A second layer with the features and edge scalars of a first one."""

    def __init__(self, graph: Graph, settings: Settings) -> None:
        torch.manual_seed(0)
        channels, lmax = settings.channels, settings.lmax
        # no edge is masked away
        first = CormorantConv(channels, channels, lmax, soft_radius=8.0)
        self.conv = CormorantConv(channels, channels, lmax, lmax, soft_radius=8.0)
        self.edge_index, self.edge_vec = graph.edge_index, graph.edge_vec
        scalars = torch.randn(graph.num_nodes, channels)
        self.geometry = EdgeGeometry(graph.edge_index, self.edge_vec, graph.num_nodes)
        with torch.no_grad():
            self.x, self.state = first(scalars, self.geometry, return_edge_state=True)
            internal = torch.complex(scalars, torch.zeros_like(scalars)).unsqueeze(1)
            _, self.pairs = first.levels(internal, internal, self.geometry)

    def standalone(self) -> None:
        """From plain tensors; gradients of features, edge scalars, vectors, weights."""
        x, state, vec = self._fresh(self.x, self.state, self.edge_vec)
        out = self.conv(x, self.edge_index, vec, edge_state=state)
        torch.autograd.grad(
            out.sum(), (x, state, vec, *self.conv.parameters()), allow_unused=True
        )

    def in_stack(self) -> None:
        """As inside a network: graph and harmonics are there, edge scalars of pairs.

        Gradients of features, edge scalars and weights, as for training on energies.
        """
        self._in_stack(self.conv.levels)

    def compiled(self) -> Step:
        """The same under ``torch.compile``; compiled at the first call."""
        levels = torch.compile(self.conv.levels, dynamic=False)
        return lambda: self._in_stack(levels)

    def _in_stack(self, levels: Callable[..., tuple[Tensor, Tensor]]) -> None:
        x, pairs = self._fresh(_complex(self.x), self.pairs)
        out, _ = levels(x, x, self.geometry, pairs)
        torch.autograd.grad(
            out.sum(), (x, pairs, *self.conv.parameters()), allow_unused=True
        )

    @staticmethod
    def _fresh(*values: Tensor) -> list[Tensor]:
        return [value.detach().requires_grad_() for value in values]

    def error(self) -> float:
        """Largest relative difference from the reference path, on some receivers."""
        return layer_error(
            self.conv, self.x, self.edge_index, self.edge_vec, self.state
        )


def _complex(x: Tensor) -> Tensor:
    return torch.complex(x[:, :, 0], x[:, :, 1])


@torch.no_grad()
def layer_error(
    conv: CormorantConv,
    x: Tensor,
    edge_index: Tensor,
    edge_vec: Tensor,
    state: Tensor | None = None,
) -> float:
    """Compare a layer with its reference path on the receivers that come first.

    A receiver's result depends on the edges that point to it alone, so the reference,
    which needs much memory per edge, gets only so many of them.
    """
    found = conv(x, edge_index, edge_vec, edge_state=state)
    receivers, chosen = aggregation.first_receivers(edge_index, x.shape[0])
    used = conv.backend
    conv.set_backend("reference")
    expected = conv(
        x,
        edge_index[:, chosen],
        edge_vec[chosen],
        edge_state=None if state is None else state[chosen],
    )
    conv.set_backend(used)
    return relative_error((found[:receivers],), (expected[:receivers],))


def step_of(case: str, settings: Settings) -> Step:
    """``"20000/standalone"``, ``.../stack``, ``.../compiled`` or ``.../e3nn``."""
    name, kind = case.split("/")
    if kind == "e3nn":
        return aggregation.step_of(case, settings)
    layer = Layer(graphs.make(name), settings)
    if kind == "compiled":
        return layer.compiled()
    return layer.in_stack if kind == "stack" else layer.standalone


def run(settings: Settings) -> Iterator[Row]:
    """All rows of this section."""
    for name in settings.graphs:
        yield from _run_graph(graphs.make(name), settings)


def _run_graph(graph: Graph, settings: Settings) -> Iterator[Row]:
    layer = Layer(graph, settings)
    ours_error = layer.error()
    steps: dict[str, Step] = {OURS: layer.standalone, STACK: layer.in_stack}
    errors = {OURS: ours_error, STACK: ours_error}
    missing = {}
    if settings.compiled:
        step = layer.compiled()
        try:
            step()
            steps[COMPILED], errors[COMPILED] = step, ours_error
        except Exception as error:  # noqa: BLE001 - whatever a compiler raises
            missing[COMPILED] = aggregation.not_compiled(error)
    peer = aggregation.formulation("e3nn", graph, settings)
    if isinstance(peer, str):
        missing[PEER] = peer
    else:
        steps[PEER], errors[PEER] = _peer(peer, graph, settings)
    times = interleaved(steps, settings.repeat)
    base = Row("layer", graph.name, aggregation.BOTH, graph.num_edges)
    for name, why in missing.items():
        yield replace(base, formulation=name, note=why)
    for name, timing in times.items():
        memory, note = memory_of(f"layer/{graph.name}/{CASES[name]}", settings)
        aimed = name == PEER and base.threads == 1 and not settings.quick
        yield base.timed(
            timing,
            times[OURS],
            formulation="e3nn, aggregation only" if name == PEER else name,
            error=errors[name],
            goal=GOAL if aimed else None,
            memory_mb=memory,
            note=note,
        )


def _peer(peer: Formulation, graph: Graph, settings: Settings) -> tuple[Step, float]:
    error = aggregation.error_of(peer, graph, settings)
    leaves = peer.leaves(*aggregation.inputs(graph, settings.lmax, settings.channels))
    return aggregation.both_step(peer, leaves), error
