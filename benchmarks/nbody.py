r"""Cost of the gates of N-body networks: growth with children and parts.

    python -m benchmarks.nbody

CPU time of forward and backward, beside the double sum over pairs of children that eqs.
(11) and (12) print, with a tensor of all products for each pair.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from torch_cormorant.conv import NBodyConv
from torch_cormorant.so3 import flat_blocks

IRREPS = "4x0 + 4x1"
GATES = ("single", "pairs", "relative")


def parts(children: int, nodes: int) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Random states, edges and positions, every part with children of its own."""
    count = children * nodes
    x = torch.randn(count, 16, requires_grad=True)
    index = torch.arange(count)
    edges = torch.stack([index, index // children])
    return x, edges, (3 * torch.randn(count, 3), torch.randn(nodes, 3))


def dense(conv: NBodyConv, x: Tensor, pos: tuple[Tensor, Tensor], nodes: int) -> Tensor:
    """Eqs. (11) and (12) pair by pair: all products of all pairs, then the sum."""
    psi = [block.unflatten(0, (nodes, -1)) for block in flat_blocks(x, IRREPS)]
    v = (pos[0].unflatten(0, (nodes, -1)) - pos[1][:, None])[..., [1, 2, 0]]
    if conv.gate == "relative":
        between = v[:, :, None] - v[:, None]
        rest = between[..., None]
    else:
        rest = v[:, :, None, :, None] * v[:, None, :, None, :]
    length = rest.flatten(3).norm(dim=-1).clamp_min(1e-3)
    total = x.new_zeros(())
    for piece in conv.paths.pieces:
        a, b = (psi[k] for k in piece.blocks)
        for table in piece.tables.values():
            if conv.gate == "relative":
                own = table.to(x).view(a.shape[2], 3, b.shape[2], -1)
                made = torch.einsum(
                    "tiac,tjbd,tijv,avbf->tijcdf", a, b, rest[..., 0], own
                )
            else:
                own = table.to(x).view(3, a.shape[2], 3, b.shape[2], -1)
                made = torch.einsum("tiac,tjbd,tijvw,vawbf->tijcdf", a, b, rest, own)
            for p in range(4):  # the powers of both gates
                weighted = made * length[..., None, None, None] ** -p
                total = total + weighted.sum((1, 2)).square().sum()
    return total


def seconds(function: Callable[[], Tensor], repeats: int = 3) -> float:
    """CPU time of forward and backward, the best of some."""
    times = []
    for _ in range(repeats + 1):
        start = time.process_time()
        function().backward()
        times.append(time.process_time() - start)
    return min(times[1:])


def gate_seconds(gate: str, children: int, nodes: int) -> float:
    """Of the layer."""
    x, edges, pos = parts(children, nodes)
    conv = NBodyConv(IRREPS, IRREPS, gate)
    return seconds(lambda: conv(x, edges, pos=pos).square().sum())


def main(argv: list[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--children", type=int, nargs="+", default=[4, 8, 16, 32, 64])
    parser.add_argument("--nodes", type=int, nargs="+", default=[16, 64, 256])
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print("ms, 16 parts | children: " + " ".join(f"{k:>8d}" for k in args.children))
    for gate in GATES:
        times = [1e3 * gate_seconds(gate, k, 16) for k in args.children]
        print(f"{gate:25s} " + " ".join(f"{t:8.2f}" for t in times))
    for gate in GATES[1:]:
        row = []
        for k in args.children:
            x, _, pos = parts(k, 16)
            conv = NBodyConv(IRREPS, IRREPS, gate)
            run = lambda x=x, pos=pos, conv=conv: dense(conv, x, pos, 16)  # noqa: E731
            row.append(1e3 * seconds(run, 1) if k <= 32 else float("nan"))
        print(f"{gate + ', double sum':25s} " + " ".join(f"{t:8.2f}" for t in row))
    print("ms, 8 children | parts: " + " ".join(f"{n:>8d}" for n in args.nodes))
    for gate in GATES:
        times = [1e3 * gate_seconds(gate, 8, n) for n in args.nodes]
        print(f"{gate:25s} " + " ".join(f"{t:8.2f}" for t in times))


if __name__ == "__main__":
    main()
