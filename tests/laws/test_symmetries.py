"""Reflection, translation, order of atoms and edges, repetition."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from torch_cormorant import CormorantConv, CormorantQM9, EdgeGeometry, radius_graph
from torch_cormorant.testing import random_molecule

Make = Callable[..., Any]


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).detach().abs().max() / b.detach().abs().max())


# ------------------------------------------------------------------ reflection


@pytest.mark.parametrize("complex_", [True, False])
@pytest.mark.parametrize("backend", ["portable", "reference"])
def test_even_paths_make_a_layer_symmetric_under_inversion(
    backend: str, complex_: bool
) -> None:
    """Degree l changes by (-1)^l; with all paths it does not."""
    _, pos = random_molecule(7)
    index = radius_graph(pos, 2.6, loop=True)
    vec = pos[index[1]] - pos[index[0]]
    sign = torch.cat([torch.full((2 * l + 1,), (-1.0) ** l) for l in range(4)]).double()
    sign = sign[:, None, None]
    for paths, symmetric in (("even", True), ("all", False)):
        torch.manual_seed(0)
        conv = CormorantConv(
            3, 3, lmax=3, lmax_in=3, paths=paths, complex=complex_, backend=backend
        ).double()
        x = torch.randn(7, 16, conv.planes, 3, dtype=torch.float64)
        mirrored = conv(sign * x, index, -vec)
        error = relative(mirrored, sign * conv(x, index, vec))
        assert error < 1e-13 if symmetric else error > 1e-3, (paths, error)


@pytest.mark.parametrize("paths", ["even", "all"])
def test_even_paths_make_a_network_symmetric_under_mirrors(
    paths: str, network: Make, molecules: Make
) -> None:
    model = network("even", paths=paths, cutoff=None, radial="power_trig")
    z, pos, _ = molecules(7)
    energy, forces = model.energy_and_forces(z, pos)
    mirrors = [torch.diag(torch.tensor(d).double()) for d in
               ([-1.0, -1, -1], [1.0, 1, -1], [-1.0, 1, 1])]  # fmt: skip
    for mirror in mirrors:
        other, pushes = model.energy_and_forces(z, pos @ mirror)
        error = relative(pushes, forces @ mirror)
        if paths == "even":
            assert relative(other, energy) < 1e-13
            assert error < 1e-12
        else:
            assert relative(other, energy) > 1e-6
            assert error > 1e-4


# ------------------------------------------------------------------ translation


@pytest.mark.parametrize("shift", [1.0, 100.0, 1e4])
def test_translation(name: str, shift: float, network: Make, molecules: Make) -> None:
    model = network(name)
    z, pos, batch = molecules(6, 4)
    energy, forces = model.energy_and_forces(z, pos, batch)
    step = shift * torch.tensor([[1.0, -0.3, 0.7]], dtype=torch.float64)
    moved, pushes = model.energy_and_forces(z, pos + step, batch)
    assert relative(moved, energy) <= 1e-10
    assert relative(pushes, forces) <= 1e-8


def test_translation_in_float32_is_bounded_by_the_rounding_of_positions(
    network: Make, molecules: Make
) -> None:
    """Positions in float64 make it exact; in float32 it is as good as u times shift."""
    model = network("gated", torch.float32)
    z, pos, _ = molecules(7)
    energy = model(z, pos)
    for shift in (10.0, 1e3):
        precise = model(z, pos + shift)
        assert relative(precise, energy) < 2e-6
        rounded = model(z, (pos + shift).float())
        moved = torch.finfo(torch.float32).eps * shift
        steepest = float(model.energy_and_forces(z, pos)[1].abs().sum())
        bound = 2 * moved * steepest + 2e-6 * float(energy.abs())
        assert float((rounded - energy).abs()) < bound


def test_molecules_may_move_each_on_its_own(network: Make, molecules: Make) -> None:
    model = network("cutoff")
    z, pos, batch = molecules(6, 4, 5)
    steps = torch.tensor([[0.0, 0, 0], [40, 0, -7], [1, 1, 1e3]], dtype=torch.float64)
    assert relative(model(z, pos + steps[batch], batch), model(z, pos, batch)) <= 1e-10


# ------------------------------------------------------------------ permutation


@settings(max_examples=50)
@given(seed=st.integers(0, 2**31))
def test_order_of_atoms(seed: int, network: Make, molecules: Make) -> None:
    model = network("cutoff", num_levels=2, lmax=2)
    z, pos, batch = molecules(5, 1, 4)
    order = torch.randperm(10, generator=torch.Generator().manual_seed(seed))
    energy, forces = model.energy_and_forces(z, pos, batch)
    found, pushes = model.energy_and_forces(z[order], pos[order], batch[order])
    assert relative(found, energy) <= 1e-13
    assert relative(pushes, forces[order]) <= 1e-12


def test_order_of_atoms_in_every_network(
    name: str, network: Make, molecules: Make
) -> None:
    z, pos, batch = molecules(5, 1, 4)
    order = torch.tensor([9, 3, 5, 0, 8, 1, 2, 7, 4, 6])
    for dtype, tolerance in ((torch.float64, 1e-13), (torch.float32, 2e-6)):
        model = network(name, dtype)
        expected = model(z, pos.to(dtype), batch)
        found = model(z[order], pos[order].to(dtype), batch[order])
        assert relative(found, expected) <= tolerance


@given(seed=st.integers(0, 2**31))
def test_order_of_edges_of_a_layer(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    _, pos = random_molecule(6, generator)
    index = radius_graph(pos, 2.6, loop=True)
    torch.manual_seed(0)
    conv = CormorantConv(2, 2, lmax=2, edge_dim=1).double()
    x, attr = torch.randn(6, 2).double(), torch.randn(index.shape[1], 1).double()
    expected = conv(x, index, pos=pos, edge_attr=attr)
    order = torch.randperm(index.shape[1], generator=generator)
    found = conv(x, index[:, order], pos=pos, edge_attr=attr[order])
    assert relative(found, expected) <= 1e-13


def test_order_of_edges_of_a_network(name: str, network: Make, molecules: Make) -> None:
    model = network(name)
    z, pos, batch = molecules(5, 1, 4)
    index = radius_graph(pos, 3.0, batch)
    vec = pos[index[1]] - pos[index[0]]
    order = torch.randperm(index.shape[1])
    expected = model.forward_edges(z, index, vec, batch=batch)
    found = model.forward_edges(z, index[:, order], vec[order], batch=batch)
    assert relative(found, expected) <= 1e-13


# ------------------------------------------------------------------ repetition


def gradients(model: Any, tensors: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
    z, pos, batch = tensors
    leaf = pos.clone().requires_grad_()
    out = model(z, leaf, batch)
    wanted = [leaf, *model.parameters()]
    return [out.detach(), *torch.autograd.grad(out.square().sum(), wanted)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_repeated_runs_are_bitwise_equal(
    name: str, dtype: torch.dtype, network: Make, molecules: Make
) -> None:
    model = network(name, dtype).requires_grad_(True)
    z, pos, batch = molecules(5, 1, 4)
    tensors = z, pos.to(dtype), batch
    first = gradients(model, tensors)
    for _ in range(4):
        assert all(map(torch.equal, gradients(model, tensors), first))


def test_hundred_repeated_steps_are_bitwise_equal(molecules: Make) -> None:
    torch.manual_seed(0)
    model = CormorantQM9(channels=3, hidden=8, lmax=(2, 0), num_levels=2)
    z, pos, batch = molecules(5, 4)
    tensors = z, pos.float(), batch
    first = gradients(model, tensors)
    for _ in range(100):
        assert all(map(torch.equal, gradients(model, tensors), first))


PROGRAM = """
import hashlib, torch
from torch_cormorant import CormorantQM9
from torch_cormorant.testing import random_molecule
torch.set_num_threads(1)
torch.manual_seed(0)
model = CormorantQM9(channels=4, hidden=16)
z, pos = random_molecule(9)
pos = pos.float().requires_grad_()
out = model(z, pos)
grads = torch.autograd.grad(out.sum(), [pos, *model.parameters()])
digest = hashlib.sha256()
for part in (out.detach(), *grads):
    digest.update(part.contiguous().numpy().tobytes())
print(digest.hexdigest())
"""


def test_two_processes_give_the_same_bits(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    command = [sys.executable, "-W", "ignore", str(script)]
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    runs = [process.communicate()[0].strip() for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert len(runs[0]) == len(hashlib.sha256().hexdigest())
    assert runs[0] == runs[1]


def test_pairs_and_single_edges_give_the_same() -> None:
    """What an edge shares with its reverse is the same for both."""
    _, pos = random_molecule(8)
    index = radius_graph(pos, 3.0, loop=True)
    torch.manual_seed(0)
    conv = CormorantConv(3, 3, lmax=3).double()
    x = torch.randn(8, 3).double()
    found = [
        conv(x, EdgeGeometry.from_pos(pos, index, pairs=pairs))
        for pairs in (True, False)
    ]
    assert relative(*found) <= 1e-14
