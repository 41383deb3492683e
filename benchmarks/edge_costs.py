r"""Multiply-adds that the formula of each network asks for at one edge of one level.

    python -m benchmarks.edge_costs --json docs/records/side_by_side/costs.json

Of a middle level, in the sizes that are compared: the radial network and other layers
that act on edges, an entry of a Clebsch-Gordan table for every channel, a weight of a
path for every component, channel to channel where the product is full. What acts on
nodes is left out. This is what the equations say; the package does less where a
sum can be taken first (the last layer of a radial network, the table of Cormorant), or
where both directions of an edge share a number.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from torch import nn

from benchmarks import records
from benchmarks.curve_families import build
from benchmarks.family_networks import MEMBERS
from torch_cormorant.cg import exact_entries
from torch_cormorant.cg import paths as couplings
from torch_cormorant.irreps import Irreps
from torch_cormorant.models import recipe
from torch_cormorant.ops import ProductPaths
from torch_cormorant.train import write_json

LEVEL = 1
"""The second level: all degrees come in, all go out."""


def entries(l1: int, l2: int, l: int) -> int:
    """Numbers of a Clebsch-Gordan table that are not zero.

    Example:
        >>> entries(0, 1, 1), entries(1, 1, 0), entries(1, 1, 1)
        (3, 3, 6)
    """
    return len(exact_entries(l1, l2, l))


def product(paths: ProductPaths) -> int:
    """Table, and weights of paths, of a product with harmonics.

    Example:
        >>> product(ProductPaths("8x0 + 4x1", "0 + 1", out="0"))  # 8 + 8, 4 * 3 + 4
        32
        >>> product(ProductPaths("8x0", "0", out="2x0", mode="uvw"))  # 8 + 8 * 2
        24
    """
    total = 0
    for path, shape in zip(paths.paths, paths.shapes, strict=True):
        degrees = paths.degrees(path)
        full = shape[2] if paths.mode == "uvw" else 1
        total += shape[0] * (entries(*degrees) + (2 * degrees[2] + 1) * full)
    return total


def linears(module: nn.Module) -> int:
    """Weights of all linear layers inside.

    Example:
        >>> linears(nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2)))
        40
    """
    layers = [part for part in module.modules() if isinstance(part, nn.Linear)]
    return sum(layer.in_features * layer.out_features for layer in layers)


def steerable(parts: Iterable[Any]) -> int:
    """Products of features with attributes of edges, and their mixing."""
    total = 0
    for part in parts:
        layer = getattr(part, "map", part)  # a gate has its layer inside
        for path in layer.paths.paths:
            mul = layer.paths.first[path.first].mul
            total += mul * entries(*layer.paths.degrees(path))
        for name, weight in layer.linear.weights.items():
            total += (2 * Irreps(name).lmax + 1) * weight.numel()
    return total


def radial(net: Any) -> int:
    """NequIP, TFN, SchNet: an MLP of the length and a depthwise product."""
    return linears(net.radials[LEVEL]) + product(net.convs[LEVEL].paths)


def so3net(net: Any) -> int:
    """A linear filter and a depthwise product."""
    return linears(net.filters[LEVEL]) + product(net.convs[LEVEL].paths)


def painn(net: Any) -> int:
    """Filters, filters times scalars, times the direction, times vectors."""
    return linears(net.filters[LEVEL]) + 9 * int(net.channels)


def kernel(net: Any) -> int:
    """A full product with a matrix for every path, made by the radial network."""
    conv = net.convs[LEVEL]
    return linears(conv.radial) + product(conv.paths)


def se3(net: Any) -> int:
    """Full kernels: of messages, or of keys and values, compared and weighted."""
    conv = net.trunk.convs[LEVEL]
    kernels = [conv.values, conv.keys] if net.attention else [conv.kernel]
    total = sum(linears(part) + product(part.paths) for part in kernels)
    return total + (sum(part.paths.out.dim for part in kernels) if net.attention else 0)


def segnn(net: Any) -> int:
    """One or two steerable layers of messages."""
    conv = net.trunk.convs[LEVEL]
    layers = (conv.message_1, conv.message_2)
    return steerable(layer for layer in layers if layer is not None)


def allegro(net: Any) -> int:
    """Sum over the environment, channelwise product with it, MLP of scalars."""
    block = net.blocks[0]
    environment: int = (net.lmax + 1) ** 2 * net.channels
    return linears(block.latent) + environment + product(block.paths.paths)


def nbody(net: Any) -> int:
    """State times vector for every radial function; gates (10) and (11) alike."""
    conv = net.convs[LEVEL]
    vector = "1o" if conv.irreps_in.has_parity else "1"
    paths = ProductPaths(conv.irreps_in, vector)
    functions: int = conv.radial.mlp.linears[-1].out_features
    return linears(conv.radial) + functions * sum(
        paths.first[path.first].mul * entries(*paths.degrees(path))
        for path in paths.paths
    )


def cormorant(net: Any) -> int:
    """Dot products, edge network, harmonics times it, product with them; real."""
    conv = net.convs[LEVEL]
    matrices = sum(weight.numel() for weight in conv.edge_network.weights())
    degrees = (conv.lmax_in, conv.lmax_sh, conv.lmax)
    tables = sum(entries(*path) for path in couplings(*degrees, conv.paths))
    components = (conv.lmax_in + 1) ** 2 + (conv.lmax_sh + 1) ** 2
    return int(matrices + conv.in_channels * (components + tables))


COUNTS: dict[str, Callable[[Any], int]] = {
    "nequip": radial,
    "tfn": radial,
    "schnet": radial,
    "so3net": so3net,
    "painn": painn,
    "allegro": allegro,
    **dict.fromkeys(("l0net", "l1net", "l2net", "arandnet", "brandnet"), kernel),
    **dict.fromkeys(("segnn", "seconv", "seconv-linear"), segnn),
    **dict.fromkeys(("se3", "se3-tfn"), se3),
}


def counted() -> dict[str, int]:
    """All networks, by the names of the learning curves."""
    found = {
        f"ours-{name}": count(MEMBERS[name].make("alpha"))
        for name, count in COUNTS.items()
    }
    ball = build("nbody", "alpha", 0)
    return found | {"real": cormorant(recipe()), "nbody": nbody(ball.net)}


def main(argv: list[str] | None = None) -> None:
    """Print the numbers, or write them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    found = counted()
    for name, number in found.items():
        print(f"{name}: {number:,}")
    if args.json is not None:
        kind = {"kind": "multiply-adds of an edge", "counted": found}
        write_json(args.json, kind | records.circumstances("edge_costs"))


if __name__ == "__main__":
    main()
