"""Spherical harmonics of other packages, alone and as the source of a layer."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.speed import aggregation, graphs
from benchmarks.speed.formulations import is_installed
from benchmarks.speed.layer import Layer
from benchmarks.speed.measure import Step, interleaved, relative_error
from benchmarks.speed.results import Row
from benchmarks.speed.settings import Settings
from torch_cormorant.ops import EdgeGeometry
from torch_cormorant.so3 import spherical_harmonics

OURS = "torch-cormorant"
WITHIN = "layer, forward + backward"
Way = Callable[[Tensor], Tensor]
"""From vectors ``[E, 3]`` to our harmonics ``[E, (lmax + 1)^2]``."""


def _ours(lmax: int) -> Way:
    return lambda vec: spherical_harmonics(vec, lmax)


def _sphericart(lmax: int) -> Way:
    """Orthonormal harmonics, hence a factor per degree."""
    calculator: Any = importlib.import_module("sphericart.torch").SphericalHarmonics
    compute = calculator(lmax)
    degrees = torch.arange((lmax + 1) ** 2).sqrt().floor()
    factor = (4 * torch.pi / (2 * degrees + 1)).sqrt()

    def way(vec: Tensor) -> Tensor:
        found: Tensor = compute(vec)
        return found * factor

    return way


def _e3nn(lmax: int) -> Way:
    """Its polar axis is y."""
    degrees, axes = list(range(lmax + 1)), torch.tensor([1, 2, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # notices about e3nn's own use of torch
        o3: Any = importlib.import_module("e3nn.o3")
        compute = o3.SphericalHarmonics(degrees, normalize=True, normalization="norm")

    def way(vec: Tensor) -> Tensor:
        found: Tensor = compute(vec.index_select(1, axes))
        return found

    return way


WAYS: dict[str, tuple[Callable[[int], Way], str, str]] = {
    OURS: (_ours, "torch", "torch"),
    "sphericart": (_sphericart, "sphericart", "sphericart-torch"),
    "e3nn": (_e3nn, "e3nn", "e3nn"),
}
"""Constructor, module and package; ours first."""


def run(settings: Settings) -> Iterator[Row]:
    """All rows of this section."""
    for name in settings.graphs:
        yield from _run_graph(name, settings)


def _run_graph(name: str, settings: Settings) -> Iterator[Row]:
    graph = graphs.make(name)
    base = Row("harmonics", graph.name, aggregation.FORWARD, graph.num_edges)
    ways = {}
    for kind, (make, module, package) in WAYS.items():
        if is_installed(module):
            ways[kind] = make(settings.lmax)
        else:
            why = f"not installed: pip install {package}"
            yield replace(base, formulation=kind, note=why)
    vec, layer = graph.edge_vec, Layer(graph, settings)
    expected = _with_gradient(ways[OURS], vec)
    measures: dict[str, Callable[[Way], Step]] = {
        aggregation.FORWARD: lambda way: lambda: way(vec),
        aggregation.BOTH: lambda way: lambda: _with_gradient(way, vec),
        WITHIN: lambda way: lambda: _layer(layer, way, settings.lmax),
    }
    for measured, make_step in measures.items():
        steps = {kind: make_step(way) for kind, way in ways.items()}
        times = interleaved(steps, settings.repeat)
        for kind, timing in times.items():
            error = relative_error(_with_gradient(ways[kind], vec), expected)
            named = replace(base, measured=measured, formulation=kind)
            yield named.timed(timing, times[OURS], error=error)


def _with_gradient(way: Way, vec: Tensor) -> tuple[Tensor, Tensor]:
    fresh = vec.detach().requires_grad_()
    found = way(fresh)
    weight = torch.linspace(-1.0, 2.0, found.shape[1])
    (gradient,) = torch.autograd.grad((found * weight).sum(), fresh)
    return found.detach(), gradient


def _layer(layer: Layer, way: Way, lmax: int) -> None:
    """As :meth:`Layer.standalone`, with these harmonics."""
    values = (layer.x, layer.state, layer.edge_vec)
    x, state, vec = (value.detach().requires_grad_() for value in values)
    geometry = EdgeGeometry(layer.edge_index, vec, len(x))
    geometry._sh[lmax] = way(vec)  # noqa: SLF001 - a source that is no option
    out = layer.conv(x, geometry, edge_state=state)
    torch.autograd.grad(
        out.sum(), (x, state, vec, *layer.conv.parameters()), allow_unused=True
    )
