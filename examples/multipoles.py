r"""Networks of degree 0, 1 and 2 learn the energy of charged dipoles.

    python examples/multipoles.py [--picture multipoles.png]

Two or three particles have a charge and a dipole moment, both inputs of their node. The
energy of each pair is that of Anderson et al. 2019, eq. (6), up to degree 1:
charge-charge, charge-dipole, dipole-dipole. It depends on how dipoles lie to each
other, which no network of invariants can see, whatever it is told of their lengths.
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor, nn

from torch_cormorant import CormorantConv, EdgeGeometry
from torch_cormorant.graph import all_pairs
from torch_cormorant.ops.segment import scatter_sum
from torch_cormorant.physics import cartesian_to_spherical, multipole_energy
from torch_cormorant.so3 import random_rotation

NEAR, FAR = 2.0, 4.0
"""Distances of neighbours."""
RIDGE = 1e-13
"""What keeps the linear map from growing, as a part of its features."""


class Systems(NamedTuple):
    """Particles of all systems: ``[S K]`` charges, dipoles, positions; energies."""

    charges: Tensor
    dipoles: Tensor
    pos: Tensor
    batch: Tensor
    energy: Tensor


def simulate(count: int, particles: int, seed: int) -> Systems:
    """Random particles in a row of random turns, and their exact energies."""
    generator = torch.Generator().manual_seed(seed)
    options = {"generator": generator, "dtype": torch.float64}
    charges = torch.randn(count, particles, **options)
    dipoles = torch.randn(count, particles, 3, **options)
    steps = torch.randn(count, particles, 3, **options)
    steps = steps / steps.norm(dim=-1, keepdim=True)
    length = NEAR + (FAR - NEAR) * torch.rand(count, particles, 1, **options)
    steps[:, 1:, 0] = steps[:, 1:, 0].abs()  # never back to where another one is
    pos = (steps / steps.norm(dim=-1, keepdim=True) * length).cumsum(1)
    energy = torch.zeros(count, dtype=torch.float64)
    moments = torch.cat([charges[..., None], cartesian_to_spherical(dipoles, 1)], -1)
    for i in range(particles):
        for j in range(i):
            apart = pos[:, i] - pos[:, j]
            energy += multipole_energy(moments[:, i], moments[:, j], apart)
    batch = torch.arange(count).repeat_interleave(particles)
    flat = charges.flatten(), dipoles.flatten(0, 1), pos.flatten(0, 1)
    return Systems(*flat, batch, energy)


class DipoleNetwork(nn.Module):
    """One Cormorant layer, and a linear map of dot products of nodes before and behind.

    The layer makes the field of the others at each particle, the dot products are the
    energy of the particle in it.

    Args:
        lmax: Largest degree of features; harmonics go to twice that.
        channels: Channels.
    """

    def __init__(self, lmax: int, channels: int = 16) -> None:
        super().__init__()
        self.lmax = lmax
        options = {"complex": False, "basis_set": (0, 3), "cutoff_type": ("hard",)}
        self.conv = CormorantConv(
            3,
            channels,
            lmax=lmax,
            lmax_in=min(lmax, 1),
            lmax_sh=2 * lmax,
            cutoff=100.0,
            **options,
        )
        edge = self.conv.edge_network
        for l in range(edge.lmax + 1):  # begin without dot products in the edges
            weight = edge.weights.get_parameter(f"weight_l{l}")
            nn.init.zeros_(weight.data[..., : sum(edge.widths(l)[:2])])
        self.last = nn.Linear(3 * channels * (min(lmax, 1) + 1), 1)

    def describe(self, given: Systems) -> Tensor:
        """Dot products of all systems, summed over their particles."""
        count = int(given.batch[-1]) + 1
        index = all_pairs(given.batch)
        geometry = EdgeGeometry.from_pos(given.pos, index)
        one = torch.ones_like(given.charges)
        size = given.dipoles.square().sum(1)
        rows = torch.stack([given.charges, one, size], dim=-1)[:, None]
        if self.lmax:
            vector = cartesian_to_spherical(given.dipoles, 1)[..., None]
            rows = torch.cat([rows, vector.expand(-1, -1, 3)], dim=1)
        field = self.conv(rows.unsqueeze(2), geometry)[:, :, 0]
        degrees = [slice(0, 1), slice(1, 4)][: min(self.lmax, 1) + 1]
        dots = [rows[:, at].mT @ field[:, at] for at in degrees]
        return scatter_sum(torch.stack(dots, dim=1).flatten(1), given.batch, count)

    def forward(self, given: Systems) -> Tensor:
        """Energies of all systems."""
        return self.last(self.describe(given))[:, 0]


def solve(network: DipoleNetwork, rows: Tensor, energy: Tensor) -> None:
    """Give the last map the weights that are best for what stands before it."""
    wide = torch.cat([rows.detach(), rows.new_ones(len(rows), 1)], dim=1)
    size = wide.square().mean(0).sqrt() + 1e-9
    scaled = wide / size
    gram = scaled.T @ scaled + RIDGE * len(rows) * torch.eye(len(size)).to(rows)
    found = torch.linalg.solve(gram, scaled.T @ energy) / size
    network.last.weight.data, network.last.bias.data = found[None, :-1], found[-1:]


def train(network: DipoleNetwork, data: Systems, steps: int) -> None:
    """Least squares by Adam, then by L-BFGS; the last map is solved for every time."""
    scale, parameters = data.energy.std(), list(network.conv.parameters())

    def closure() -> Tensor:
        optimizer.zero_grad()
        rows = network.describe(data)
        solve(network, rows, data.energy)
        wrong = network.last(rows)[:, 0] - data.energy
        loss = (wrong / scale).square().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, limit)
        return loss

    limit = 1.0
    optimizer: torch.optim.Optimizer = torch.optim.Adam(parameters, lr=2e-2)
    falling = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 2e-2, total_steps=steps, pct_start=0.1
    )
    for _ in range(steps):
        closure()
        optimizer.step()
        falling.step()
    limit = float("inf")
    optimizer = torch.optim.LBFGS(
        parameters,
        max_iter=steps,
        max_eval=3 * steps,
        history_size=100,
        tolerance_grad=0,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )
    optimizer.step(closure)


@torch.no_grad()
def error(network: nn.Module, data: Systems) -> tuple[float, Tensor]:
    """Root mean square error as a part of the spread, and the predictions."""
    found = network(data)
    wrong = (found - data.energy).square().mean().sqrt()
    return float(wrong / data.energy.std()), found


def turned(data: Systems) -> Systems:
    """All systems turned together."""
    R = random_rotation()
    return data._replace(pos=data.pos @ R.T, dipoles=data.dipoles @ R.T)


def picture(data: Systems, found: dict[str, tuple[float, Tensor]], path: str) -> None:
    """Predicted over exact energies, one panel for each network."""
    figure = Figure(figsize=(4 * len(found), 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, (wrong, values)) in zip(
        figure.subplots(1, len(found)), found.items(), strict=True
    ):
        axes.plot(data.energy.numpy(), values.numpy(), ".", markersize=3, alpha=0.6)
        ends = [float(data.energy.min()), float(data.energy.max())]
        axes.plot(ends, ends, color="k", linewidth=0.8)
        axes.set_title(f"{name}: error {wrong:.1e} of the spread")
        axes.set_xlabel("energy")
        axes.set_ylabel("prediction")
    figure.savefig(path)


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Train all networks; return their errors as parts of the spread."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--systems", type=int, default=500)
    parser.add_argument("--particles", type=int, default=2)
    parser.add_argument("--picture", help="file to draw the results into")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    train_set = simulate(args.systems, args.particles, seed=1)
    test_set = simulate(500, args.particles, seed=2)
    found = {}
    for lmax in (0, 1, 2):
        torch.manual_seed(0)
        network = DipoleNetwork(lmax).double()
        train(network, train_set, args.steps)
        name = f"degree {lmax}"
        found[name] = error(network, test_set)
        again, _ = error(network, turned(test_set))
        print(f"{name}: error {found[name][0]:.2e} of the spread, turned {again:.2e}")
    if args.picture:
        picture(test_set, found, args.picture)
    return {name: wrong for name, (wrong, _) in found.items()}


if __name__ == "__main__":
    main()
