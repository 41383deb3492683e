"""Structures of all kinds: cells, single atoms, many neighbours, laws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from torch_cormorant.graph import neighbour_list
from torch_cormorant.interfaces.engine import Engine
from torch_cormorant.interfaces.native import NativePotential
from torch_cormorant.models.energy import Result

Agree = Callable[..., Result]
Make = Callable[..., Any]
CELL = np.array([[6.1, 0.4, 0.1], [-1.5, 5.5, 0.2], [0.4, 2.1, 7.0]])


@pytest.fixture
def model(make: Make) -> Any:
    return make(channels=4, num_levels=2)


@pytest.mark.parametrize(
    "pbc",
    [(True, True, True), (True, True, False), (False, True, False), (False,) * 3],
)
@pytest.mark.parametrize("scale", [1.0, 0.4])
def test_cells(
    model: Any, agree: Agree, atoms: Any, pbc: tuple[bool, ...], scale: float
) -> None:
    z, pos = atoms(8 if scale == 1 else 2)
    pos = pos * scale + [30.0, -20.0, 5.0]
    flags = torch.tensor(pbc)
    agree(model, z, pos, scale * CELL, pbc=flags, stress=True)
    vectors = np.where(np.array(pbc)[:, None], scale * CELL, 0.0)
    agree(model, z, pos, vectors, pbc=flags)


def test_a_cell_in_which_an_atom_sees_itself_only(model: Any, agree: Agree) -> None:
    for cell in (2.0 * np.eye(3), np.diag([1.6, 9.0, 9.0]), CELL * [1, 1, 0.3]):
        agree(model, [6], np.array([[0.3, 0.2, 40.0]]), cell, stress=True)


def test_left_handed_and_slanted_cells(model: Any, agree: Agree, atoms: Any) -> None:
    z, pos = atoms(6)
    slanted = np.array([[5.0, 0, 0], [4.9, 1.0, 0], [2.4, 0.4, 5.0]])
    for cell in (CELL[[1, 0, 2]], slanted):
        agree(model, z, pos, cell, stress=True)


@pytest.mark.parametrize("count", [1, 2, 65])
def test_sizes(model: Any, agree: Agree, atoms: Any, count: int) -> None:
    agree(model, *atoms(count))


def test_many_neighbours(make: Make, agree: Agree, atoms: Any) -> None:
    agree(make(channels=2, num_levels=2, cutoff=9.0), *atoms(70, spread=1.1))


def test_far_apart(model: Any, agree: Agree) -> None:
    pos = np.array([[0, 0, 0], [1e7, 0, 0], [1e7, 1.1, 0], [-3e6, 5e8, 4.0]])
    agree(model, [1, 6, 8, 1], pos)


def test_nothing_at_all(model: Any) -> None:
    found = NativePotential(model).evaluate([], np.zeros((0, 3)))
    assert found.energy.tolist() == [0.0]
    assert found.forces is not None
    assert found.forces.shape == (0, 3)
    assert NativePotential(model).evaluate([1], [[0, 0, 0]]).forces is not None


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 14),
    shape=st.tuples(*[st.floats(-0.9, 0.9)] * 3),
    sides=st.tuples(*[st.floats(1.5, 8.0)] * 3),
    pbc=st.tuples(*[st.booleans()] * 3),
)
def test_configurations(
    make: Make,
    agree: Agree,
    atoms: Any,
    seed: int,
    count: int,
    shape: tuple[float, ...],
    sides: tuple[float, ...],
    pbc: tuple[bool, ...],
) -> None:
    a, b, c = shape
    cell = np.array([[1, 0, 0], [a, 1, 0], [b, c, 1]]) * np.array(sides)[:, None]
    z, pos = atoms(count, seed)
    every = make(channels=2, num_levels=2, lmax=1 + seed % 2, gate=bool(seed % 3))
    agree(every, z, pos, cell, pbc=torch.tensor(pbc), stress=True)


def test_forces_and_stress_are_slopes(model: Any, atoms: Any) -> None:
    z, pos = atoms(6)
    native, step = NativePotential(model), 1e-5
    found = native.evaluate(z, pos, CELL, stress=True)
    assert found.forces is not None
    assert found.stress is not None

    def energy(moved: Any, cell: Any) -> float:
        return native.evaluate(z, moved, cell, forces=False).energy.item()

    random = np.random.default_rng(0)
    push = random.normal(size=pos.shape)
    ends = [energy(pos + sign * step * push, CELL) for sign in (1, -1)]
    slope = -(found.forces.numpy() * push).sum()
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(slope, rel=1e-6)
    strain = random.normal(size=(3, 3))
    strain = strain + strain.T
    grown = [np.eye(3) + sign * step * strain for sign in (1, -1)]
    ends = [energy(pos @ by, CELL @ by) for by in grown]
    slope = np.linalg.det(CELL) * (found.stress[0].numpy() * strain).sum()
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(slope, rel=1e-6)


def test_rotated_and_permuted(model: Any, atoms: Any) -> None:
    z, pos = atoms(20)
    native = NativePotential(model)
    found = native.evaluate(z, pos)
    turn = Rotation.from_rotvec([0.3, -1.1, 0.7]).as_matrix()
    turned = native.evaluate(z, pos @ turn.T)
    assert found.forces is not None
    np.testing.assert_allclose(turned.energies, found.energies, rtol=1e-13)
    np.testing.assert_allclose(turned.forces, found.forces.numpy() @ turn.T, atol=1e-12)
    order = np.random.default_rng(0).permutation(20)
    other = native.evaluate(z[order], pos[order])
    np.testing.assert_allclose(other.energies, found.energies[order], rtol=1e-13)
    np.testing.assert_allclose(other.forces, found.forces[order], atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_threads_change_no_bit(make: Make, atoms: Any, dtype: torch.dtype) -> None:
    model = make(channels=5, num_levels=3, repulsion="zbl", gate=True).to(dtype)
    given = (*atoms(331), 14 * np.eye(3))
    native, before = NativePotential(model), torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 3, 7):
            torch.set_num_threads(count)
            found.append(native.evaluate(*given, stress=True))
    finally:
        torch.set_num_threads(before)
    for name in ("energy", "energies", "forces", "stress"):
        first, *others = (getattr(out, name) for out in found)
        for other in others:
            assert torch.equal(first, other), name


def test_an_atom_with_5000_neighbours(make: Make) -> None:
    """A star: its arms know its centre only."""
    model = make(channels=2, num_levels=2, lmax=2)
    random, count = np.random.default_rng(0), 5000
    arms = random.normal(size=(count, 3))
    arms *= random.uniform(1.0, 4.9, size=(count, 1)) / np.linalg.norm(
        arms, axis=1, keepdims=True
    )
    z = random.choice((1, 6, 8), size=count + 1)
    pairs = np.stack([np.zeros(count, int), np.arange(1, count + 1)])
    found, _ = NativePotential(model).evaluate_pairs(z, pairs, arms)
    index = torch.from_numpy(np.concatenate([pairs, pairs[::-1]], axis=1))
    both = torch.from_numpy(np.concatenate([-arms, arms])).requires_grad_()
    engine = Engine(model)
    wanted = engine.atom_energies(torch.from_numpy(z), index, both)
    (slope,) = torch.autograd.grad(wanted.sum(), both)
    np.testing.assert_allclose(found.energies, wanted.detach(), rtol=1e-11)
    forces = torch.zeros(count + 1, 3, dtype=torch.float64)
    forces.index_add_(0, index[1], slope, alpha=-1).index_add_(0, index[0], slope)
    assert found.forces is not None
    error = (found.forces - forces).abs().max()
    assert float(error) < 1e-10 * float(forces.abs().max())


def test_pairs_with_ghosts(make: Make, atoms: Any) -> None:
    """Ghosts out to levels times cutoff give what a periodic cell gives."""
    model = make(channels=3, num_levels=2, cutoff=3.0, repulsion="zbl")
    z, pos = atoms(4, spread=2.0)
    cell, native = 5.0 * np.eye(3), NativePotential(model)
    whole = native.evaluate(z, pos, cell, stress=True)
    shifts = np.array([k for k in np.ndindex(5, 5, 5) if k != (2, 2, 2)]) - 2
    points = np.concatenate([pos, *(pos + shift @ cell for shift in shifts)])
    owner = np.tile(np.arange(4), 125)
    index, _ = neighbour_list(torch.from_numpy(points), 4.0)
    index = index[:, index[0] < index[1]]
    vec = points[index[0]] - points[index[1]]
    found, strain = native.evaluate_pairs(z[owner], index, vec, 4)
    assert found.forces is not None
    assert found.energies is not None
    assert found.energies[4:].eq(0).all()
    np.testing.assert_allclose(found.energy, whole.energy, rtol=1e-13)
    forces = np.zeros((4, 3))
    np.add.at(forces, owner, found.forces.numpy())
    np.testing.assert_allclose(forces, whole.forces, atol=1e-12)
    np.testing.assert_allclose(strain / 125, whole.stress[0], atol=1e-12)
