r"""Charged particles in flight: vectors in, vectors out.

    python examples/particles.py [--networks cormorant nequip] [--picture particles.png]

Five particles with charges of one sign or the other push and pull each other for a
while. From their charges, places and velocities a network says where each will be: the
velocities are vectors among the features of the nodes, the answer is one too. The data
are simulated here, with a seed. The errors stand beside those of free flight.

`NETWORKS` is the list of layers that are compared; each maps rows of
"Cx0e + Cx1o" to the same. All but one commute with mirrors: the SE(3)-Transformer
multiplies vectors to vectors.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor, nn

from torch_cormorant import CormorantConv, EdgeGeometry
from torch_cormorant.conv import (
    NBodyConv,
    NequIPConv,
    PaiNNConv,
    SE3TransformerConv,
    SEGNNConv,
    TensorFieldConv,
)
from torch_cormorant.graph import all_pairs
from torch_cormorant.nn import GatedBlock, IrrepsLinear
from torch_cormorant.so3 import as_irreps, as_packed, random_rotation

PARTICLES, CUTOFF, FLIGHT, STEP = 5, 12.0, 1.5, 0.01
"""Particles of a system, reach of the layers, length of a flight and of its steps."""
SOFT = 0.3
"""No force grows without bound: the distance is at least this in the law."""
AXES = [1, 2, 0]
"""x, y, z as the components of degree 1: y, z, x."""


class Flights(NamedTuple):
    """Systems of particles ``[S, K, ...]`` before and after."""

    charge: Tensor
    pos: Tensor
    velocity: Tensor
    after: Tensor


def forces(charge: Tensor, pos: Tensor) -> Tensor:
    """Coulomb's law with a smallest distance."""
    apart = pos.unsqueeze(2) - pos.unsqueeze(1)
    size = (apart.square().sum(-1) + SOFT**2) ** -1.5
    pairs = charge.unsqueeze(2) * charge.unsqueeze(1) * size
    return (pairs.unsqueeze(-1) * apart).sum(2)


def simulate(count: int, seed: int) -> Flights:
    """Flights by the leapfrog rule, in float64."""
    generator = torch.Generator().manual_seed(seed)
    options = {"generator": generator, "dtype": torch.float64}
    charge = torch.randn(count, PARTICLES, **options).sign()
    pos = 1.5 * torch.randn(count, PARTICLES, 3, **options)
    velocity = 0.5 * torch.randn(count, PARTICLES, 3, **options)
    place, speed = pos, velocity + STEP / 2 * forces(charge, pos)
    for _ in range(round(FLIGHT / STEP)):
        place = place + STEP * speed
        speed = speed + STEP * forces(charge, place)
    found = (charge, pos, velocity, place)
    return Flights(*(part.float() for part in found))


class Packed(nn.Module):
    """A layer of packed features behind rows of irreps."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.irreps = hidden(channels)
        self.conv = CormorantConv(
            channels,
            channels,
            lmax=1,
            lmax_in=1,
            complex=False,
            paths="even",
            radial="bessel",
            cutoff=CUTOFF,
        )

    def forward(self, x: Tensor, geometry: EdgeGeometry) -> Tensor:
        """Rows to rows."""
        return as_irreps(self.conv(as_packed(x, self.irreps), geometry))[0]


def hidden(channels: int) -> str:
    """Irreps of the features between layers."""
    return f"{channels}x0e + {channels}x1o"


def gate_by_gate(channels: int) -> nn.Module:
    """Gate (10) of N-body networks: the others are the children of each particle."""
    irreps = hidden(channels)
    options = {"radial": "bessel_basis", "avg_num_children": 4.0}
    return NBodyConv(irreps, irreps, "single", cutoff=CUTOFF, own=True, **options)


def attention(channels: int) -> nn.Module:
    """Four heads; its irreps have no parities."""
    irreps = f"{channels}x0 + {channels}x1"
    return SE3TransformerConv(irreps, irreps, heads=4, div=1, cutoff=CUTOFF)


NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "cormorant": Packed,
    "nequip": lambda c: NequIPConv(
        hidden(c), hidden(c), cutoff=CUTOFF, avg_num_neighbors=4.0
    ),
    "tensor field": lambda c: TensorFieldConv(
        hidden(c), hidden(c), cutoff=CUTOFF, avg_num_neighbors=4.0
    ),
    "painn": lambda c: PaiNNConv(c, cutoff=CUTOFF, epsilon=1e-2),
    "n-body": gate_by_gate,
    "segnn": lambda c: SEGNNConv(hidden(c), cutoff=CUTOFF),
    "se(3)-transformer": attention,
}
"""What is compared."""


class Flight(nn.Module):
    """Levels of one layer, each with a gate, between linear maps.

    Args:
        make: Makes a layer for a number of channels.
        channels: Channels.
        num_levels: Number of levels.
    """

    def __init__(
        self, make: Callable[[int], nn.Module], channels: int = 16, num_levels: int = 2
    ) -> None:
        super().__init__()
        irreps = hidden(channels)
        gates = [GatedBlock(irreps) for _ in range(num_levels)]
        wide = gates[0].irreps_in
        self.start = IrrepsLinear("3x0e + 2x1o", irreps, bias=True)
        self.convs = nn.ModuleList(make(channels) for _ in range(num_levels))
        self.own = nn.ModuleList(IrrepsLinear(irreps, wide, bias=True) for _ in gates)
        self.sums = nn.ModuleList(IrrepsLinear(irreps, wide) for _ in gates)
        self.gates = nn.ModuleList(gates)
        self.last = IrrepsLinear(irreps, "1x1o")

    def forward(self, charge: Tensor, pos: Tensor, velocity: Tensor) -> Tensor:
        """Places after the flight ``[S, K, 3]``."""
        systems, particles = charge.shape
        batch = torch.arange(systems).repeat_interleave(particles)
        index = all_pairs(batch)
        geometry = EdgeGeometry.from_pos(pos.flatten(0, 1), index)
        middle = (pos - pos.mean(1, keepdim=True)).flatten(0, 1)[:, AXES]
        speed = velocity.flatten(0, 1)[:, AXES]
        one, size = torch.ones_like(charge), velocity.norm(dim=-1)
        scalars = torch.stack([charge, one, size], dim=-1).flatten(0, 1)
        vectors = torch.stack([middle, speed], dim=-1).flatten(1)
        x = self.start(torch.cat([scalars, vectors], dim=1))
        for conv, own, sums, gate in zip(
            self.convs, self.own, self.sums, self.gates, strict=True
        ):
            given = x / (1 + x.square().mean(1, keepdim=True)).sqrt()  # of order one
            x = x + gate(own(given) + sums(conv(given, geometry)))
        moved = torch.empty_like(middle)
        moved[:, AXES] = self.last(x)
        return pos + FLIGHT * velocity + moved.view_as(pos)


def train(network: nn.Module, data: Flights, steps: int, batch_size: int) -> float:
    """Least squares by Adam; returns CPU seconds."""
    adam = torch.optim.Adam(network.parameters(), lr=5e-3)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    generator, begun = torch.Generator().manual_seed(0), time.process_time()
    for _ in range(steps):
        rows = torch.randint(len(data.pos), (batch_size,), generator=generator)
        given = Flights(*(part[rows] for part in data))
        loss = (network(*given[:3]) - given.after).square().mean()
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        adam.step()
        falling.step()
    return time.process_time() - begun


@torch.no_grad()
def error(network: nn.Module, data: Flights) -> float:
    """Mean squared error of a coordinate."""
    return float((network(*data[:3]) - data.after).square().mean())


def turned(data: Flights, *, mirrored: bool = False) -> Flights:
    """All flights turned and moved, mirrored too if that is asked for."""
    R = random_rotation().float() * (-1 if mirrored else 1)
    pos, after = (part @ R.T + 1 for part in (data.pos, data.after))
    return Flights(data.charge, pos, data.velocity @ R.T, after)


def picture(found: dict[str, float], free: float, path: str) -> None:
    """Errors as bars."""
    figure = Figure(figsize=(7, 3.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.barh(list(found), list(found.values()), color="#1f5fa8")
    axes.axvline(free, color="k", linewidth=0.8)
    axes.text(free, 0, "free flight ", ha="right", va="center")
    axes.invert_yaxis()
    axes.set_xlabel("mean squared error of a coordinate")
    figure.savefig(path)


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Train the networks; return their errors as parts of those of free flight."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=[*NETWORKS])
    parser.add_argument("--systems", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--picture", help="file to draw the results into")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    data, test = simulate(args.systems, seed=1), simulate(500, seed=2)
    straight = test.pos + FLIGHT * test.velocity
    free = float((straight - test.after).square().mean())
    print(f"{'free flight':18s} error {free:.4f}")
    found = {}
    for name in args.networks:
        torch.manual_seed(0)
        network = Flight(NETWORKS[name])
        seconds = train(network, data, args.steps, args.batch_size)
        found[name] = error(network, test)
        again = error(network, turned(test))
        mirror = error(network, turned(test, mirrored=True))
        weights = sum(part.numel() for part in network.parameters())
        print(
            f"{name:18s} error {found[name]:.4f}, turned {again:.4f}, "
            f"mirrored {mirror:.4f}, {weights} weights, {seconds:.0f} s"
        )
    if args.picture:
        picture(found, free, args.picture)
    return {name: wrong / free for name, wrong in found.items()}


if __name__ == "__main__":
    main()
