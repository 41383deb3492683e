r"""What can each network tell apart? Pairs of graphs that differ in one respect only.

    python -m benchmarks.expressivity [--table docs/expressivity_table.inc]

The pairs are those of the geometric GNN dojo (Joshi et al. 2023, arXiv:2301.09308),
built anew: chains whose ends differ, stars with an axis of symmetry, environments with
equal distances, or equal distances and angles. A network tells a pair apart if its
answers differ for random weights in float64 by more than round-off: what no weights can
do is measured exactly, and what almost all weights can do is not left to a training.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch_geometric.nn import MessagePassing

from torch_cormorant.conv import AllegroBlock
from torch_cormorant.networks import (
    SEGNN,
    TFN,
    Allegro,
    CormorantNetwork,
    KernelNet,
    NBodyNetwork,
    NequIP,
    Network,
    PaiNN,
    SchNet,
    SE3Transformer,
    SO3Net,
)
from torch_cormorant.networks.edges import own_edges

SCALES = {"chemical": 1.5, "suite": 5.0}
"""Length of a bond: in molecules, and in the published tests."""
SEEDS, ROUND_OFF = 3, 1e-13
"""Sets of random weights, and the relative difference that counts."""
FOLDS = (2, 3, 5, 10)
DEGREES = (1, 2, 3, 4, 5, 6, 8)
LAYER_KINDS = (MessagePassing, AllegroBlock)
CHAIN, LAYERS = 4, 6
"""Length of the chain, and the most layers that look at it."""
HEADER = (
    f"| network | chain of {CHAIN}, 1 to {LAYERS} layers | equal distances, 1 to 3 "
    "layers | equal distances and angles, 1 to 3 layers | mirror images, 1 to 3 layers"
    " |"
)


class Graph(NamedTuple):
    """Positions ``[N, 3]`` and edges ``[2, E]``, both ways."""

    pos: Tensor
    edge_index: Tensor


Pair = tuple[Graph, Graph]


def both_ways(pairs: Sequence[tuple[int, int]]) -> Tensor:
    """Edges of undirected pairs."""
    index = torch.tensor(pairs).T
    return torch.cat([index, index.flip(0)], dim=1)


def chains(k: int, length: float) -> Pair:
    r"""K atoms in a row with an end bent to one side, and to the other.

    Equal up to :math:`\lfloor k / 2 \rfloor` steps from every atom.
    """
    row = [[0.0, float(j), 0.0] for j in range(k)]
    ends = (
        [[-0.8, -0.6, 0.0], [0.8, k - 0.4, 0.0]],
        [[-0.8, -0.6, 0], [-0.8, k - 0.4, 0]],
    )
    index = both_ways([(j, j + 1) for j in range(k - 1)] + [(k, 0), (k + 1, k - 1)])
    made = [torch.tensor([*row, *two], dtype=torch.float64) * length for two in ends]
    return Graph(made[0], index), Graph(made[1], index)


def star(angles: Sequence[float], length: float) -> Graph:
    """Neighbours of one atom in a plane, at angles in turns."""
    turn = 2 * math.pi * torch.tensor(angles, dtype=torch.float64)
    ring = torch.stack([turn.cos(), turn.sin(), 0 * turn], dim=1) * length
    index = both_ways([(0, j + 1) for j in range(len(angles))])
    return Graph(torch.cat([torch.zeros(1, 3, dtype=torch.float64), ring]), index)


def folded(fold: int, length: float) -> Pair:
    """A star with an axis of that order, and the same turned by half of its period."""
    angles = [j / fold for j in range(fold)]
    return star(angles, length), star([a + 0.5 / fold for a in angles], length)


def two_body(length: float) -> Pair:
    """Equal distances, different angles."""
    return star([0, 1 / 4, 1 / 2], length), star([0, 1 / 3, 2 / 3], length)


def three_body(length: float) -> Pair:
    """Equal distances and equal angles, not congruent: homometric sets of eighths."""
    first, second = (0, 1, 3, 4), (0, 1, 2, 5)
    return star([a / 8 for a in first], length), star([a / 8 for a in second], length)


def mirrored(length: float) -> Pair:
    """Four neighbours at four distances, on no plane, and their mirror image."""
    rows = [[0, 0, 0], [1, 0, 0], [0.3, 0.9, 0], [-0.4, 0.3, 1.1], [-0.5, -0.8, -0.2]]
    pos = torch.tensor(rows, dtype=torch.float64) * length
    index = both_ways([(0, j) for j in range(1, len(rows))])
    return Graph(pos, index), Graph(-pos, index)


class Entry(NamedTuple):
    """A network of the table.

    Attributes:
        make: From levels, degree and cutoff to the network.
        lmax: Degrees that it can have; None: any.
        last: Its last level makes scalars only.
    """

    make: Callable[[int, int, float], Network]
    lmax: int | None = None
    last: bool = False


def cormorant(levels: int, lmax: int, cutoff: float, **more: Any) -> Network:
    """With Bessel functions and reflections, the soft masks as wide as the cutoff."""
    options: dict[str, Any] = {"channels": 3, "head": "extensive", "input": "linear"}
    options |= {"radial": "bessel", "paths": "even", "complex": False}
    options |= {"soft_radius": cutoff, **more}
    return CormorantNetwork([6], num_levels=levels, lmax=lmax, cutoff=cutoff, **options)


def masked(levels: int, lmax: int, cutoff: float) -> Network:
    """With the published start of the masks, 1.73 Angstrom."""
    return cormorant(levels, lmax, cutoff, soft_radius=1.73)


def all_paths(levels: int, lmax: int, cutoff: float) -> Network:
    """With products that a mirror turns around."""
    return cormorant(levels, lmax, cutoff, paths="all")


def nequip(levels: int, lmax: int, cutoff: float) -> Network:
    """Features to that degree, of both parities."""
    options: dict[str, Any] = {"channels": 3, "radial": [8]}
    return NequIP([6], num_levels=levels, lmax=lmax, cutoff=cutoff, **options)


def painn(levels: int, lmax: int, cutoff: float) -> Network:
    """Scalars and vectors."""
    del lmax
    return PaiNN([6], num_levels=levels, channels=4, cutoff=cutoff)


def schnet(levels: int, lmax: int, cutoff: float) -> Network:
    """Scalars."""
    del lmax
    return SchNet([6], num_levels=levels, channels=4, cutoff=cutoff)


def allegro(levels: int, lmax: int, cutoff: float) -> Network:
    """Tensors of edges to that degree, of both parities."""
    options: dict[str, Any] = {"channels": 3, "scalars": 8}
    return Allegro([6], num_levels=levels, lmax=lmax, cutoff=cutoff, **options)


def so3net(levels: int, lmax: int, cutoff: float) -> Network:
    """Features to that degree, multiplied with each other."""
    options: dict[str, Any] = {"channels": 4, "num_levels": levels}
    return SO3Net([6], lmax=lmax, cutoff=cutoff, **options)


def tfn(levels: int, lmax: int, cutoff: float) -> Network:
    """Features to that degree, of one parity for each."""
    options: dict[str, Any] = {"num_levels": levels, "out_channels": 4}
    options |= {"head": {"kind": "atomwise", "layers": [4]}}
    irreps = " + ".join(f"4x{l}{'eo'[l % 2]}" for l in range(lmax + 1))
    return TFN([6], irreps=irreps, cutoff=cutoff, **options)


def thesis(levels: int, lmax: int, cutoff: float) -> Network:
    """The networks of the thesis, no parities; the last layer of those that count."""
    irreps = " + ".join(f"4x{l}" for l in range(lmax + 1))
    options: dict[str, Any] = {"embedding": 4, "radius": cutoff, "radial": (16,)}
    # one convolution more: to scalars
    return KernelNet([6], irreps=irreps, num_levels=levels, cutoff=cutoff, **options)


def segnn(levels: int, lmax: int, cutoff: float) -> Network:
    """Features and attributes to that degree."""
    options: dict[str, Any] = {"channels": 4, "num_levels": levels}
    return SEGNN([6], lmax=lmax, cutoff=cutoff, **options)


def se3_transformer(levels: int, lmax: int, cutoff: float) -> Network:
    """Features to that degree, no parities."""
    options: dict[str, Any] = {"channels": 4, "num_levels": levels}
    return SE3Transformer([6], num_degrees=lmax + 1, cutoff=cutoff, **options)


def nbody(gate: str) -> Callable[[int, int, float], Network]:
    """Balls around the atoms, and one of the gates."""

    def make(levels: int, lmax: int, cutoff: float) -> Network:
        options: dict[str, Any] = {"channels": 3, "norm": None, "gates": gate}
        options |= {"product": "full", "num_radial": 8}
        return NBodyNetwork([6], num_levels=levels, lmax=lmax, cutoff=cutoff, **options)

    return make


NETWORKS: dict[str, Entry] = {
    "SchNet": Entry(schnet, 0),
    "PaiNN": Entry(painn, 1),
    "TFN": Entry(tfn, last=True),
    "Thesis": Entry(thesis),
    "SE(3)-Transformer": Entry(se3_transformer),
    "SEGNN": Entry(segnn),
    "SO3net": Entry(so3net),
    "NequIP": Entry(nequip, last=True),
    "Allegro": Entry(allegro, last=True),
    "Cormorant": Entry(cormorant),
    "Cormorant, all paths": Entry(all_paths),
    "Cormorant, masks as published": Entry(masked),
    "N-body, gate (10)": Entry(nbody("single")),
    "N-body, gate (11)": Entry(nbody("pairs")),
    "N-body, gate (12)": Entry(nbody("relative")),
}


def built(
    make: Callable[..., Network], levels: int, lmax: int, length: float
) -> Network:
    """A network with a cutoff of 1.6 bonds; further atoms are no neighbours."""
    return make(levels, lmax, 1.6 * length).double().eval()


class Reading(NamedTuple):
    """What is compared, and the size of what it is the sum of."""

    value: Tensor
    size: Tensor


@torch.no_grad()
def answer(network: Network, graph: Graph) -> Reading:
    """What the network says of a graph."""
    z = torch.full((len(graph.pos),), 6)
    index = graph.edge_index
    vec = graph.pos[index[1]] - graph.pos[index[0]]
    out, levels = network.forward_edges(z, index, vec, return_levels=True)
    # atoms may cancel each other, and what is left has round-off of its parts
    return Reading(cast("Tensor", out), network.atomwise(list(levels), z).abs().sum())


@torch.no_grad()
def first_features(network: Network, graph: Graph) -> Reading:
    """What the first layer makes of the atom in the middle, all degrees.

    Of layers on edges the sum over those that end there.
    """
    kept: list[Reading] = []
    layer = next(m for m in network.modules() if isinstance(m, LAYER_KINDS))
    index = graph.edge_index

    def keep(_: Any, __: Any, out: Any) -> None:
        if isinstance(layer, AllegroBlock):
            rows = out[1][index[1] == 0]
        else:
            rows = (out[0] if isinstance(out, tuple) else out)[0].flatten()[None]
        kept.append(Reading(rows.sum(0), rows.abs().sum(0).max()))

    hook = layer.register_forward_hook(keep)
    vec = graph.pos[index[1]] - graph.pos[index[0]]
    count = len(graph.pos)
    edges = own_edges(index, vec, count, loop=network.self_edges)
    network.run_levels(torch.full((count,), 6), network.geometry(*edges, count))
    hook.remove()
    return kept[0]


def apart(
    make: Callable[[], Network], pair: Pair, read: Callable[[Network, Graph], Reading]
) -> float:
    """How far random weights tell the graphs of a pair apart, as a part of the answer.

    Returns:
        The largest relative difference of all seeds; 0 below :data:`ROUND_OFF`.
    """
    found = 0.0
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        network = make()
        one, two = (read(network, graph) for graph in pair)
        difference = float((one.value - two.value).abs().max())
        found = max(found, difference / (float(one.size) or 1.0))
    return found if found > ROUND_OFF else 0.0


def degree_of(entry: Entry, wanted: int) -> int:
    """The degree that is used, at most what the network has."""
    return wanted if entry.lmax is None else min(wanted, entry.lmax)


def chain_rows(
    scale: float, names: Sequence[str] | None = None
) -> dict[str, list[float]]:
    """Chains, by layers 1, 2, ..., with degree 1; default: all networks."""
    pair = chains(CHAIN, scale)
    found: dict[str, list[float]] = {}
    for name in names or NETWORKS:
        entry = NETWORKS[name]
        l = degree_of(entry, 1)
        found[name] = [
            apart(lambda: built(entry.make, levels, l, scale), pair, answer)  # noqa: B023
            for levels in range(1, LAYERS + 1)
        ]
    return found


def body_rows(scale: float) -> dict[str, list[float]]:
    """Two- and three-body pairs, mirror images; layers 1, 2, 3, degree 2."""
    found: dict[str, list[float]] = {}
    for name, entry in NETWORKS.items():
        l = degree_of(entry, 2)
        found[name] = [
            apart(lambda: built(entry.make, levels, l, scale), pair, answer)  # noqa: B023
            for pair in (two_body(scale), three_body(scale), mirrored(scale))
            for levels in (1, 2, 3)
        ]
    return found


def star_rows(scale: float, degrees: Sequence[int]) -> dict[str, dict[int, list[int]]]:
    """Orders of axes that the first layer's features see, by degree."""
    found: dict[str, dict[int, list[int]]] = {}
    for name, entry in NETWORKS.items():
        own = [l for l in degrees if entry.lmax is None or l == max(entry.lmax, 1)]
        rows = found.setdefault(name, {})
        for l in own:
            top = degree_of(entry, l)
            levels = 2 if entry.last else 1
            rows[top] = [
                fold
                for fold in FOLDS
                if apart(
                    lambda: built(entry.make, levels, top, scale),  # noqa: B023
                    folded(fold, scale),
                    first_features,
                )
            ]
    return found


def mark(difference: float) -> str:
    """A cell of the table: the order of the difference, or no."""
    return f"1e{math.floor(math.log10(difference))}" if difference else "no"


def table(degrees: Sequence[int]) -> str:
    """All results in Markdown, at both lengths."""
    lines: list[str] = []
    theory = " / ".join(["no"] * (CHAIN // 2) + ["yes"] * (LAYERS - CHAIN // 2))
    for name, scale in SCALES.items():
        lines += [
            f"**Bonds of {scale:g} ({name}).**",
            "",
            HEADER,
            "| --- | --- | --- | --- | --- |",
            f"| *theory, degree 1 and more* | {theory} | | | |",
        ]
        chain, body = chain_rows(scale), body_rows(scale)
        for network in NETWORKS:
            cells = [" / ".join(map(mark, chain[network]))]
            cells += [
                " / ".join(map(mark, body[network][k : k + 3])) for k in (0, 3, 6)
            ]
            lines.append(f"| {network} | {' | '.join(cells)} |")
        lines.append("")
    lines += [
        "| network | degree | axes of order that are seen | theory |",
        "| --- | --- | --- | --- |",
    ]
    for network, rows in star_rows(SCALES["chemical"], degrees).items():
        for l, seen in rows.items():
            expected = ", ".join(str(f) for f in FOLDS if f <= l) or "none"
            text = ", ".join(map(str, seen)) or "none"
            lines.append(f"| {network} | {l} | {text} | {expected} |")
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> None:
    """Print the table, or write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, help="file to write")
    parser.add_argument("--degrees", type=int, nargs="+", default=list(DEGREES))
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    text = table(args.degrees)
    if args.table is None:
        print(text)
    else:
        args.table.write_text(text)


if __name__ == "__main__":
    main()
