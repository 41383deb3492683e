"""The steps that the benchmark compares are steps of the same kind."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("lightning", reason="the extra train is not installed")

from benchmarks import training_step as command
from benchmarks.painn import PaiNNPeer
from torch_cormorant.graph import radius_graph
from torch_cormorant.ops import cpu_kernel
from torch_cormorant.so3 import random_rotation
from torch_cormorant.train.graphs import graph_of


@pytest.mark.parametrize("name", ["cormorant-real", "painn", "schnet"])
def test_steps_learn_forces(name: str) -> None:
    step = command.Step(command.Case("force-2"), name, fixed=True)
    assert step.fused
    first, *_, last = [step() for _ in range(6)]
    assert last < first
    assert all(weight.grad is not None for weight in step.weights if weight.dim() > 1)


def test_steps_learn_properties_with_their_graphs() -> None:
    step = command.Step(command.Case("qm9-3"), "cormorant-real unfused")
    assert not step.fused
    assert graph_of(step.batch()) is not None
    assert torch.isfinite(torch.tensor([step() for _ in range(2)])).all()


@pytest.mark.parametrize("way", [command.UNFUSED, command.BEFORE])
def test_the_first_losses_are_those_of_the_step_before(way: str) -> None:
    case, steps = command.Case("force-2"), 3
    found = command.Step(case, "cormorant"), command.Step(case, f"cormorant{way}")
    one, other = ([step() for _ in range(steps)] for step in found)
    assert one == pytest.approx(other, rel=1e-6)
    assert found[1].before == (way == command.BEFORE)


@pytest.mark.skipif(bool(cpu_kernel.problem()), reason="the CPU kernel is not there")
@pytest.mark.parametrize(
    ("case", "name", "most"),
    [
        ("force-10", "cormorant", 5e-6),
        ("qm9-25", "cormorant", 1e-5),
    ],
)
def test_fifty_losses_with_and_without_fused_operators(
    case: str, name: str, most: float
) -> None:
    assert command.difference(command.Case(case), name) < most


@pytest.mark.parametrize("name", ["our-schnet", "our-painn", "our-nequip"])
def test_networks_of_the_family_take_steps(name: str) -> None:
    step = command.Step(command.Case("force-1"), name, fixed=True)
    first, second = step(), step()
    assert second < first


def test_batches_are_the_same_for_all() -> None:
    case = command.Case("force-3")
    left, right = case.batches(), command.Case("force-3").batches()
    for _ in range(3):
        assert next(left)[1] == next(right)[1]


def test_painn_is_a_potential() -> None:
    torch.manual_seed(0)
    net = PaiNNPeer(cutoff=3.0, features=8, blocks=2, num_basis=5).double()
    z, pos = torch.tensor([8, 1, 1, 6]), 2 * torch.rand(4, 3).double()
    batch = torch.tensor([0, 0, 0, 1])
    assert radius_graph(pos, 3.0, batch).shape[1] == 6
    turned = pos @ random_rotation(dtype=torch.float64).T
    out, other = net(z, pos, batch, 2), net(z, turned, batch, 2)
    torch.testing.assert_close(out, other, rtol=1e-12, atol=1e-12)
    moved = net(z, pos + torch.tensor([0.1, 0, 0]) * (z == 6)[:, None], batch, 2)
    torch.testing.assert_close(moved, out, rtol=1e-12, atol=1e-12)
    pos.requires_grad_()
    net(z, pos, batch, 2)[0].backward()
    assert pos.grad is not None
    assert pos.grad[:3].abs().min() > 0
