r"""Eight shapes of four cubes, two of them mirror images: what a degree is good for.

    python examples/tetris.py [--picture tetris.png]

A network of degree 0 sees distances only and cannot tell the two mirror images apart;
nor can one of degree 1 with even paths, which is blind to mirrors. All paths of degree
1 can. Each is trained on the eight shapes as they stand and tested on turned ones: its
share is 7 / 8 or 8 / 8. The whole takes under half a minute on one core.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from torch_cormorant import Cormorant
from torch_cormorant.so3 import random_rotation

SHAPES = {
    "chiral, left": [(0, 0, 0), (0, 0, 1), (1, 0, 0), (1, 1, 0)],
    "chiral, right": [(0, 0, 0), (0, 0, 1), (1, 0, 0), (1, -1, 0)],
    "square": [(0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0)],
    "line": [(0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 0, 3)],
    "corner": [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)],
    "L": [(0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 1, 0)],
    "T": [(0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 1, 1)],
    "zigzag": [(0, 0, 0), (1, 0, 0), (1, 1, 0), (2, 1, 0)],
}
NETWORKS: dict[str, dict[str, Any]] = {
    "degree 0": {"lmax": 0},
    "degree 1, even paths": {"lmax": 1, "paths": "even"},
    "degree 1, all paths": {"lmax": 1, "paths": "all"},
}
SIZES = {
    "species": [1],
    "num_targets": len(SHAPES),
    "channels": 8,
    "num_levels": 3,
    "cutoff": 4.0,
    "soft_radius": 4.0,
    "input": "linear",
    "head": "published",
    "norm": "norm",
    "activation": "silu",
    "hidden": 32,
    "middle": 16,
}


def places() -> Tensor:
    """The cubes of all shapes ``[8, 4, 3]``."""
    return torch.tensor(list(SHAPES.values()), dtype=torch.float32)


def answers(network: torch.nn.Module, cubes: Tensor) -> Tensor:
    """One row of numbers for each shape ``[8, 8]``."""
    count = cubes.shape[0]
    z = torch.ones(4 * count, dtype=torch.int64)
    batch = torch.arange(count).repeat_interleave(4)
    rows: Tensor = network(z, cubes.flatten(0, 1), batch)
    return rows


def train(network: torch.nn.Module, steps: int = 200) -> float:
    """Train on the shapes as they stand; return the last loss."""
    labels, cubes = torch.arange(len(SHAPES)), places()
    adam = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(steps):
        loss = torch.nn.functional.cross_entropy(answers(network, cubes), labels)
        adam.zero_grad()
        loss.backward()
        adam.step()
    return float(loss.detach())


@torch.no_grad()
def confusion(network: torch.nn.Module, turns: int = 20) -> Tensor:
    """How often turned shapes (rows) are called what (columns) ``[8, 8]``."""
    found = torch.zeros(len(SHAPES), len(SHAPES))
    for R in random_rotation(turns):
        called = answers(network, places() @ R.float().T).argmax(1)
        found[torch.arange(len(SHAPES)), called] += 1 / turns
    return found


def picture(tables: dict[str, Tensor], path: str) -> None:
    """The shapes, and which of them each network takes for which."""
    figure = Figure(figsize=(12, 5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subfigures(2, 1)
    for k, (name, cubes) in enumerate(SHAPES.items()):
        axes = upper.add_subplot(1, 8, k + 1, projection="3d")
        filled = torch.zeros(4, 4, 4, dtype=torch.bool)
        at = torch.tensor(cubes) - torch.tensor(cubes).min(0).values
        filled[tuple(at.T)] = True
        axes.voxels(filled.numpy(), edgecolor="k")
        axes.set_aspect("equal")
        axes.set_axis_off()
        axes.set_title(name, fontsize=8)
    for k, (name, table) in enumerate(tables.items()):
        axes = lower.add_subplot(1, 3, 1 + k)
        axes.imshow(table.numpy(), vmin=0, vmax=1, cmap="Blues")
        axes.set_title(f"{name}: {8 * float(table.diagonal().mean()):.0f} of 8")
        axes.set_xticks(range(8), list(SHAPES), rotation=90, fontsize=7)
        axes.set_yticks(range(8), list(SHAPES), fontsize=7)
        axes.set_xlabel("called")
        axes.set_ylabel("is")
    figure.savefig(path)


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Train all networks; return the share of turned shapes that each knows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--picture", help="file to draw the results into")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    tables = {}
    for name, options in NETWORKS.items():
        torch.manual_seed(0)
        network = Cormorant(**SIZES, **options)
        loss = train(network, args.steps)
        tables[name] = confusion(network)
        share = float(tables[name].diagonal().mean())
        print(f"{name:22s} loss {loss:.4f}, {8 * share:.1f} of 8 turned shapes")
    if args.picture:
        picture(tables, args.picture)
    return {name: float(table.diagonal().mean()) for name, table in tables.items()}


if __name__ == "__main__":
    main()
