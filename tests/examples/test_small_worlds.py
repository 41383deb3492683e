"""Tetris, multipoles and particles, with few steps."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{name}_example", EXAMPLES / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_shapes_that_mirrors_exchange(tmp_path: Path) -> None:
    tetris = load("tetris.py")
    cubes = tetris.places()
    distances = [torch.cdist(c, c).flatten().sort().values for c in cubes]
    assert torch.equal(distances[0], distances[1])
    assert not torch.equal(distances[0], distances[2])
    picture = tmp_path / "tetris.png"
    found = tetris.main(["--steps", "100", "--picture", str(picture)])
    assert found["degree 1, all paths"] > 0.99
    assert found["degree 0"] < 0.9 > found["degree 1, even paths"]
    assert picture.stat().st_size > 1000


def test_dipoles_need_a_degree(tmp_path: Path) -> None:
    picture = tmp_path / "multipoles.png"
    options = ["--steps", "40", "--systems", "200", "--picture", str(picture)]
    found = load("multipoles.py").main(options)
    assert found["degree 1"] < 0.5 * found["degree 0"]
    assert found["degree 2"] < 0.5 * found["degree 0"]
    assert picture.stat().st_size > 1000


FLYING = ["cormorant", "nequip", "tensor field", "n-body", "segnn", "se(3)-transformer"]


@pytest.mark.parametrize("name", FLYING)
def test_particles_fly(name: str, tmp_path: Path) -> None:
    particles = load("particles.py")
    picture = tmp_path / "particles.png"
    options = ["--networks", name, "--steps", "60", "--systems", "200"]
    found = particles.main([*options, "--picture", str(picture)])
    assert found[name] < 0.9
    assert picture.stat().st_size > 1000
    torch.manual_seed(0)
    network = particles.Flight(particles.NETWORKS[name], channels=4)
    data = particles.simulate(20, seed=3)
    wrong = particles.error(network, data)
    near = 1e-4 * max(1.0, wrong)
    assert abs(particles.error(network, particles.turned(data)) - wrong) < near
    mirrored = particles.error(network, particles.turned(data, mirrored=True))
    assert (abs(mirrored - wrong) < near) is (name != "se(3)-transformer")


def test_flights_keep_momentum() -> None:
    particles = load("particles.py")
    data = particles.simulate(20, seed=3)
    drift = (data.after - data.pos).mean(1) - particles.FLIGHT * data.velocity.mean(1)
    assert float(drift.abs().max()) < 1e-5
