"""The weighted sums of convolutions against e3nn, in turns, on one thread.

    python -m benchmarks.weighted_sum [--rounds 7] [--only sum] [--json FILE]

e3nn computes its (scripted) tensor product for every edge and adds the messages up, as
public networks do; both get float32 features, harmonics and weights and, where there is
a "+ b", give the gradients of all of them. Graphs: 25 molecules of 18 atoms, all pairs
(7,650 edges), and 64 molecules of water in a periodic box, 5 A. Times are CPU times of
the process; every round runs each side, medians are compared.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from math import sqrt
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.machine import cpu_model
from benchmarks.peers import version_of
from torch_cormorant.graph import neighbour_list
from torch_cormorant.irreps import Irreps
from torch_cormorant.ops import (
    GraphPlan,
    ProductPaths,
    build_plan,
    kernel_neighbour_sum,
    weighted_neighbour_sum,
)

CASES = {
    "32 ch, lmax 2": ("32x0e + 32x1o + 32x2e", 2),
    "64 ch, lmax 1": ("64x0e + 64x1o", 1),
    "32 ch, lmax 3": ("32x0e + 32x1o + 32x2e + 32x3o", 3),
    "16 ch, lmax 2, both parities": (
        "16x0e + 16x0o + 16x1e + 16x1o + 16x2e + 16x2o",
        2,
    ),
}
FULL = {"L1Net": "64x0 + 21x1", "L2Net": "42x0 + 14x1 + 8x2"}
Job = Callable[[], object]
Network = Callable[[Tensor], Tensor]


class Row(NamedTuple):
    """One comparison: a name, our side and that of e3nn."""

    name: str
    ours: Job
    theirs: Job


class Graph(NamedTuple):
    """Edges sorted by receiver, and their plan."""

    name: str
    edges: Tensor
    plan: GraphPlan


def molecules(count: int = 25, atoms: int = 18) -> Graph:
    """All pairs of molecules.

    Example:
        >>> molecules(2, 3).edges.shape
        torch.Size([2, 12])
    """
    of = torch.arange(count * atoms) // atoms
    pairs = of.unsqueeze(0) == of.unsqueeze(1)
    pairs.fill_diagonal_(fill_value=False)
    index = pairs.nonzero().t().flip(0).contiguous()
    return Graph(f"{count}x{atoms}", index, build_plan(index, len(of), len(of)))


def water_box(side: int = 4) -> tuple[Tensor, Tensor]:
    """Positions and cell of randomly turned molecules of water on a grid.

    At the density of the liquid.

    Example:
        >>> water_box(2)[0].shape
        torch.Size([24, 3])
    """
    generator = torch.Generator().manual_seed(0)
    step, count = 3.104, side**3
    at = torch.cartesian_prod(*[torch.arange(side)] * 3) * step
    arms = torch.randn(count, 2, 3, generator=generator)
    arms = 0.96 * arms / arms.norm(dim=2, keepdim=True)
    pos = torch.cat([at.unsqueeze(1), at.unsqueeze(1) + arms], dim=1).flatten(0, 1)
    return pos, torch.eye(3) * side * step


def water(cutoff: float = 5.0) -> Graph:
    """64 molecules of water."""
    pos, cell = water_box()
    index = neighbour_list(pos, cutoff, cell=cell)[0]
    index = index[:, index[1].argsort(stable=True)]
    return Graph("water", index, build_plan(index, len(pos), len(pos)))


def product_of_e3nn(paths: ProductPaths) -> Any:
    """The same paths with external weights, sorted as NequIP sorts them."""
    o3 = import_module("e3nn.o3")
    text = {name: str(irreps).replace(" ", "") for name, irreps in _sides(paths)}
    if paths.mode == "uvw":
        return o3.FullyConnectedTensorProduct(
            *text.values(), shared_weights=False, internal_weights=False
        )
    middle = o3.Irreps(
        [(size, str(paths.out[path.out].ir)) for path, size in _sized(paths)]
    )
    ordered, place, _ = middle.sort()
    rules = [
        (path.first, path.second, place[k], "uvu", True)
        for k, path in enumerate(paths.paths)
    ]
    return o3.TensorProduct(
        text["first"],
        text["second"],
        ordered,
        rules,
        shared_weights=False,
        internal_weights=False,
    )


def _sides(paths: ProductPaths) -> list[tuple[str, Irreps]]:
    """Irreps of the three sides; e3nn knows none without a parity."""
    sides = [("first", paths.first), ("second", paths.second), ("out", paths.out)]
    return [
        (name, Irreps([(mul, (ir.l, ir.p or 1)) for mul, ir in irreps]))
        for name, irreps in sides
    ]


def _sized(paths: ProductPaths) -> Iterator[tuple[Any, int]]:
    return zip(paths.paths, paths.sizes, strict=True)


class Case:
    """Operands of both sides on one graph."""

    def __init__(self, paths: ProductPaths, graph: Graph) -> None:
        self.paths, self.graph = paths, graph
        self.product = product_of_e3nn(paths)
        nodes, edges = graph.plan.num_targets, graph.edges.shape[1]
        sizes = [(nodes, paths.first.dim), (edges, paths.second.dim)]
        sizes.append((edges, paths.weight_numel))
        self.leaves = [torch.randn(size).requires_grad_() for size in sizes]

    def ours(self, x: Tensor, sh: Tensor, w: Any) -> list[Tensor]:
        """Our sum."""
        return list(weighted_neighbour_sum(x, (self.graph.plan, sh), w, self.paths))

    def theirs(self, x: Tensor, sh: Tensor, w: Tensor) -> list[Tensor]:
        """Messages and their sum."""
        messages = self.product(x[self.graph.edges[0]], sh, w)
        target = self.graph.edges[1].unsqueeze(1).expand_as(messages)
        total = messages.new_zeros(x.shape[0], messages.shape[1])
        return [total.scatter_add(0, target, messages)]

    def forward(self, function: Callable[..., list[Tensor]]) -> Job:
        """Values only."""

        def run() -> None:
            with torch.no_grad():
                function(*self.leaves)

        return run


def gradients(function: Callable[..., list[Tensor]], leaves: list[Tensor]) -> Job:
    """Values and gradients of everything."""
    ones = [torch.randn_like(part) for part in function(*leaves)]
    return lambda: torch.autograd.grad(function(*leaves), leaves, ones)


def second_order(function: Callable[..., list[Tensor]], leaves: list[Tensor]) -> Job:
    """What a loss of forces needs: gradients of gradients, of everything."""
    ones = [torch.randn_like(p).requires_grad_() for p in function(*leaves)]
    others = [torch.randn_like(leaf) for leaf in leaves]

    def run() -> None:
        first = torch.autograd.grad(function(*leaves), leaves, ones, create_graph=True)
        torch.autograd.grad(first, [*leaves, *ones], others)

    return run


def sums() -> Iterator[Row]:
    """The depthwise sum with weights given."""
    for graph in (molecules(), water()):
        for name, (text, lmax) in CASES.items():
            case = Case(ProductPaths(text, Irreps.harmonics(lmax), text), graph)
            title = f"{name}, {graph.name}"
            yield Row(f"{title}, f", case.forward(case.ours), case.forward(case.theirs))
            yield Row(
                f"{title}, f + b",
                gradients(case.ours, case.leaves),
                gradients(case.theirs, case.leaves),
            )


def seconds() -> Iterator[Row]:
    """Second order, one half of a training step on forces."""
    for graph in (molecules(), water()):
        text, lmax = CASES["32 ch, lmax 2"]
        case = Case(ProductPaths(text, Irreps.harmonics(lmax), text), graph)
        yield Row(
            f"32 ch, lmax 2, {graph.name}, second order",
            second_order(case.ours, case.leaves),
            second_order(case.theirs, case.leaves),
        )


def last_layers() -> Iterator[Row]:
    """The last layer of the radial network inside."""
    for width in (8, 128):
        for name in ("32 ch, lmax 2", "64 ch, lmax 1"):
            text, lmax = CASES[name]
            case = Case(ProductPaths(text, Irreps.harmonics(lmax), text), water())
            hidden = torch.randn(case.leaves[1].shape[0], width)
            last = torch.randn(width, case.paths.weight_numel) / sqrt(width)
            leaves = [*case.leaves[:2], hidden, last]
            for leaf in leaves:
                leaf.requires_grad_()
            yield Row(
                f"{name}, water, last layer of {width}, f + b",
                gradients(lambda x, y, h, v, c=case: c.ours(x, y, (h, v)), leaves),
                gradients(lambda x, y, h, v, c=case: c.theirs(x, y, h @ v), leaves),
            )


def full_layers() -> Iterator[Row]:
    """Layers that mix every channel with every one, radial network 50-128-128."""
    graph = molecules(16)
    for name, irreps in FULL.items():
        harmonics = Irreps.harmonics(Irreps(irreps).lmax, parity=False)
        paths = ProductPaths(irreps, harmonics, irreps, mode="uvw")
        case = Case(paths, graph)
        basis = torch.randn(graph.edges.shape[1], 50)
        network = torch.nn.Sequential(
            torch.nn.Linear(50, 128),
            torch.nn.SiLU(),
            torch.nn.Linear(128, 128),
            torch.nn.SiLU(),
        )
        last = (torch.randn(128, paths.weight_numel) / sqrt(128)).requires_grad_()
        leaves = [case.leaves[0], last, *network.parameters()]
        yield Row(
            f"{name} layer {irreps}, {graph.name}, f + b",
            gradients(partial(_ours, case, network, basis), leaves),
            gradients(partial(_theirs, case, network, basis), leaves),
        )


def _ours(
    case: Case, network: Network, basis: Tensor, x: Tensor, last: Tensor, *_: Tensor
) -> list[Tensor]:
    edges = (case.graph.plan, case.leaves[1].detach())
    return list(kernel_neighbour_sum(x, edges, network(basis), last, case.paths))


def _theirs(
    case: Case, network: Network, basis: Tensor, x: Tensor, last: Tensor, *_: Tensor
) -> list[Tensor]:
    return case.theirs(x, case.leaves[1].detach(), network(basis) @ last)


GROUPS = {"sum": sums, "second": seconds, "last": last_layers, "full": full_layers}


def in_turns(row: Row, rounds: int) -> tuple[float, float]:
    """Median milliseconds of both sides; one round before does not count.

    Example:
        >>> a, b = in_turns(Row("nothing", lambda: None, lambda: None), 1)
        >>> a >= 0 and b >= 0
        True
    """
    times: tuple[list[float], list[float]] = ([], [])
    for round_ in range(rounds + 1):
        for job, found, repeats in ((row.ours, times[0], 5), (row.theirs, times[1], 1)):
            start = time.process_time()
            for _ in range(repeats):
                job()
            if round_:
                found.append((time.process_time() - start) / repeats * 1e3)
    return statistics.median(times[0]), statistics.median(times[1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=list(GROUPS), action="append")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"{cpu_model()}, torch {torch.__version__}, e3nn {version_of('e3nn')}")
    print(f"{'':55} {'ours':>9} {'e3nn':>9} ratio")
    rows = []
    for group in args.only or GROUPS:
        for row in GROUPS[group]():
            ours, theirs = in_turns(row, args.rounds)
            rows.append({"name": row.name, "ours_ms": ours, "e3nn_ms": theirs})
            print(
                f"{row.name:55} {ours:9.2f} {theirs:9.2f} {theirs / ours:5.1f}",
                flush=True,
            )
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
