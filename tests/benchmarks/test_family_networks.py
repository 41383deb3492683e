"""Networks of the family in the comparisons: all learn properties and forces."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("lightning", reason="the extra train is not installed")

from benchmarks import curve_families as curves
from benchmarks import force_families as forces
from benchmarks.charge_dipole import ChargeDipole
from benchmarks.curve_training import make_optimiser
from benchmarks.family_networks import MEMBERS
from torch_cormorant.data import MiniQM9
from torch_cormorant.errors import ConfigError
from torch_cormorant.models import Potential
from torch_cormorant.nn import HeadInput

STEPS, SLOWER = 4, 0.01
"""Steps, and the part of the learning rate that they take: none warms up here."""


@pytest.fixture(scope="module")
def molecules() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four molecules of MiniQM9, atom by atom, and their dipole moments."""
    chosen = [MiniQM9("mu")[k] for k in range(40, 44)]
    sizes = torch.tensor([len(data.z) for data in chosen])
    z = torch.cat([data.z for data in chosen])
    pos = torch.cat([data.pos for data in chosen]).float()
    labels = torch.cat([data.y[:, 0] for data in chosen]).float()
    return z, pos, torch.arange(4).repeat_interleave(sizes), labels


@pytest.mark.parametrize("target", ["alpha", "mu"])
@pytest.mark.parametrize("name", list(MEMBERS))
def test_the_loss_of_a_property_falls(
    name: str, target: str, molecules: tuple[Tensor, Tensor, Tensor, Tensor]
) -> None:
    z, pos, batch, labels = molecules
    family = curves.FAMILIES[f"ours-{name}"]
    net = curves.build(f"ours-{name}", target, 0)
    assert sum(part.numel() for part in net.parameters()) < 400_000
    labels = labels if target == "mu" else labels - labels.mean()
    slow = replace(family, lr=SLOWER * family.lr)
    optimiser, losses = make_optimiser(net, slow), []
    for _ in range(STEPS):
        loss = nn.functional.l1_loss(net(z, pos, batch, 4)[:, 0], labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0], losses


@pytest.mark.parametrize("name", list(MEMBERS))
def test_the_loss_of_forces_falls(
    name: str, molecules: tuple[Tensor, Tensor, Tensor, Tensor]
) -> None:
    z, pos, batch = (part[molecules[2] < 2] for part in molecules[:3])
    train = SimpleNamespace(species=[1, 6, 7, 8, 9])
    task: Any = SimpleNamespace(
        name="molecules", periodic=True, train=train, mean_neighbours=lambda: 8.0
    )
    family = forces.FAMILIES[f"ours-{name}"]
    net = forces.build(family, task, 0)
    assert json.loads(json.dumps(family.settings()))["note"] == family.note
    labels = 0.3 * (pos.mean(0) - pos)
    optimiser, losses = torch.optim.Adam(net.parameters(), lr=SLOWER * family.lr), []
    for _ in range(STEPS):
        found = net.evaluate(z, pos, batch, num_graphs=2)
        loss = (found.forces - labels).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0], losses


def test_a_network_with_an_instance_norm_makes_no_potential() -> None:
    given = MEMBERS["segnn"]
    potential = Potential(given.network([1, 8], **given.sizes))
    with pytest.raises(ConfigError, match="instance"):
        potential.evaluate(torch.tensor([8, 1]), torch.eye(3)[:2])


def test_charges_are_neutral_and_their_dipole_does_not_move() -> None:
    head, pos = ChargeDipole(3), torch.randn(5, 3)
    batch, z = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([8, 1, 1, 9, 6])
    values = torch.randn(5, 3)
    first = torch.tensor([[3.44], [2.20], [2.20], [3.98], [2.55]])
    charge = 0.1 * head.mlp(values) - 0.5 * first
    charge[:3] -= charge[:3].mean()
    charge[3:] -= charge[3:].mean()
    rows = charge * pos
    wanted = torch.stack([rows[:3].sum(0).norm(), rows[3:].sum(0).norm()])
    for shift in (0.0, 7.0):
        found = head(HeadInput(values, [], batch, 2, z, pos + shift))
        torch.testing.assert_close(found[:, 0], wanted, rtol=1e-4, atol=1e-5)
    single = torch.zeros(1, dtype=torch.long)
    alone = head(HeadInput(values[:1], [], single, 1, z[:1], pos[:1]))
    assert torch.isfinite(torch.autograd.grad(alone.sum(), head.mlp[0].weight)[0]).all()
