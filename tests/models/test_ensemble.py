"""Means and spreads of models that differ in their weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.md.verlet import VelocityVerlet
from torch_geometric.data import Data

from torch_cormorant import Cormorant, load_model, save_model
from torch_cormorant.errors import BlowUpError, ConfigError, ModelFileError
from torch_cormorant.interfaces.ase import CormorantCalculator
from torch_cormorant.interfaces.dynamics import BlowUpGuard
from torch_cormorant.interfaces.engine import Engine
from torch_cormorant.interfaces.traced import TracedPotential
from torch_cormorant.models import Ensemble, Potential, load_models
from torch_cormorant.networks import CormorantNetwork

SMALL: dict[str, Any] = {"channels": 2, "num_levels": 1, "lmax": 1}
Z = torch.tensor([8, 1, 1])
POS = torch.tensor([[0.0, 0, 0], [0, 0, 0.96], [0, 0.93, -0.24]], dtype=torch.float64)


def potential(seed: int, **options: Any) -> Potential:
    torch.manual_seed(seed)
    made = Cormorant.potential([1, 8], **{**SMALL, "cutoff": 3.0, **options})
    return made.double().eval().set_units({1: -1.0, 8: -2.0}, scale=2.0)


def team(**options: Any) -> Ensemble:
    return Ensemble(potential(seed, **options) for seed in range(3))


def test_means_and_spreads_are_those_of_the_members() -> None:
    whole = team()
    cell = 4 * torch.eye(3)
    found = whole.evaluate(Z, POS, cell=cell, stress=True)
    each = [potential(k).evaluate(Z, POS, cell=cell, stress=True) for k in range(3)]
    for name in ("energy", "energies", "forces", "stress"):
        rows = torch.stack([getattr(one, name) for one in each])
        torch.testing.assert_close(getattr(found, name), rows.mean(0))
        if name in ("energy", "forces"):
            torch.testing.assert_close(getattr(found, f"{name}_std"), rows.std(0))
    assert found.unit == "eV"
    assert whole.evaluate(Z, POS, forces=False).forces_std is None


def test_predictions_have_a_spread_too() -> None:
    models = [Cormorant([1, 8], **SMALL).double() for _ in range(4)]
    data = [Data(z=Z, pos=POS), Data(z=Z[:2], pos=POS[:2])]
    found = Ensemble(models).predict(data)
    rows = torch.stack([model.predict(data) for model in models])
    torch.testing.assert_close(found.mean, rows.mean(0))
    torch.testing.assert_close(found.std, rows.std(0))
    bare = Ensemble(CormorantNetwork([1, 8], **SMALL) for _ in range(2))
    assert bare.predict(Z, POS).std.shape == (1, 1)


def test_the_calculator_of_an_ensemble_reports_its_spread() -> None:
    calculator = CormorantCalculator(team(energy_unit="kcal/mol"))
    atoms = Atoms(Z.numpy(), POS.numpy(), calculator=calculator)
    energy = atoms.get_potential_energy()
    expected = team(energy_unit="kcal/mol").evaluate(Z, POS)
    factor = 1 / 23.060547830619
    assert energy == pytest.approx(float(expected.energy) * factor, rel=1e-9)
    assert expected.energy_std is not None
    spread = calculator.results["energy_std"]
    assert spread == pytest.approx(float(expected.energy_std) * factor, rel=1e-9)
    assert calculator.results["forces_std"].shape == (3, 3)
    assert calculator.get_property("energy_std", atoms) == spread
    many = calculator.calculate_many([atoms[:2], atoms])
    assert many[1]["energy_std"] == pytest.approx(spread)
    assert many[0]["forces_std"].shape == (2, 3)


def test_a_folder_of_seeds_is_loaded(tmp_path: Path) -> None:
    for seed in range(3):
        save_model(tmp_path / f"seed-{seed}" / "model.safetensors", potential(seed))
    found = Ensemble.load(tmp_path).evaluate(Z, POS)
    torch.testing.assert_close(found.energy_std, team().evaluate(Z, POS).energy_std)
    files = sorted(tmp_path.rglob("*.safetensors"))[:2]
    assert len(Ensemble.load(files).models) == 2
    with pytest.raises(ModelFileError, match="seed-9: a folder with model files"):
        Ensemble.load(tmp_path / "seed-9")
    with pytest.raises(ModelFileError, match="a folder; give a file of it"):
        load_model(tmp_path)


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"cutoff of number 1 is 4.0, of number 0 3"):
        Ensemble([potential(0), potential(0, cutoff=4.0)])
    with pytest.raises(ConfigError, match="units of number 1"):
        Ensemble([potential(0), potential(0, energy_unit="kcal/mol")])
    with pytest.raises(ConfigError, match="needs one potential"):
        TracedPotential(Engine(team()), Z, POS)


def test_a_run_that_the_models_disagree_about_is_ended(tmp_path: Path) -> None:
    atoms = Atoms(Z.numpy(), POS.numpy(), calculator=CormorantCalculator(team()))
    last = tmp_path / "last.xyz"
    guard = BlowUpGuard(atoms, last, max_spread=1e-6)
    with pytest.raises(BlowUpError, match=r"step 1, atom \d .*the models disagree"):
        guard.run(VelocityVerlet(atoms, timestep=0.1), steps=3)
    assert last.exists()
    atoms.calc = CormorantCalculator(potential(0))
    with pytest.raises(ConfigError, match="needs the calculator of an Ensemble"):
        BlowUpGuard(atoms, last, max_spread=1.0)


@pytest.mark.parametrize("repulsion", [None, "zbl"])
def test_what_is_shared_changes_nothing(repulsion: str | None) -> None:
    """Edges, plan and pairs once, in a cell and in batches, also for training."""
    whole = team(repulsion=repulsion)
    z, pos = torch.cat([Z, Z]), torch.cat([POS, POS + 0.1])
    batch = torch.tensor([0, 0, 0, 1, 1, 1])
    given = (z, pos, batch, 4 * torch.eye(3).double().expand(2, 3, 3))
    found = whole.evaluate(*given, stress=True)
    each = [m.evaluate(*given, stress=True) for m in whole.models]
    for name in ("energy", "energies", "forces", "stress"):
        rows = torch.stack([getattr(one, name) for one in each])
        torch.testing.assert_close(getattr(found, name), rows.mean(0))
        if name != "stress":
            torch.testing.assert_close(getattr(found, f"{name}_std"), rows.std(0))
    place = POS.clone().requires_grad_()
    forces = whole.train().evaluate(Z, place).forces
    assert forces is not None
    (slope,) = torch.autograd.grad(forces.square().sum(), place)
    parts = [m.train().evaluate(Z, place).forces for m in whole.models]
    expected = torch.stack(parts).mean(0).square().sum()
    torch.testing.assert_close(slope, torch.autograd.grad(expected, place)[0])


def test_the_native_evaluator_computes_the_members() -> None:
    calculators = [CormorantCalculator(team(), backend=b) for b in ("model", "auto")]
    atoms = [Atoms(Z.numpy(), POS.numpy(), calculator=c) for c in calculators]
    for one in atoms:
        one.get_forces()
    first, second = (one.calc.results for one in atoms)
    assert set(first) == set(second)
    for name, value in first.items():
        np.testing.assert_allclose(second[name], value, rtol=1e-9, atol=1e-12)


def test_a_calibrated_spread_is_as_large_as_the_error(tmp_path: Path) -> None:
    whole = team()
    rng = torch.Generator().manual_seed(0)
    frames = []
    for _ in range(20):
        pos = POS + 0.1 * torch.randn(3, 3, generator=rng).double()
        forces = torch.randn(3, 3, generator=rng).double()
        energy = torch.randn(1, generator=rng).double() - 4.0
        frames.append(Data(z=Z, pos=pos, energy=energy, forces=forces))
    before = whole.evaluate_all(frames)
    factors = whole.calibrate(frames)
    after = whole.evaluate_all(frames)
    wrong = after.forces - torch.cat([f.forces for f in frames])
    sizes = [float(part.square().mean().sqrt()) for part in (wrong, after.forces_std)]
    assert sizes[0] == pytest.approx(sizes[1])
    torch.testing.assert_close(after.energy_std, before.energy_std * factors["energy"])
    predicted = whole.predict(Z, POS).std
    torch.testing.assert_close(predicted[0], whole.evaluate(Z, POS).energy_std)
    whole.save(tmp_path / "team")
    again = load_models(tmp_path / "team")
    assert isinstance(again, Ensemble)
    assert again.factors == factors
    alone = tmp_path / "alone"
    save_model(alone / "a.safetensors", potential(0))
    assert isinstance(load_models(alone), Potential)
    with pytest.raises(ConfigError, match="at least two with labels"):
        whole.calibrate(frames[:1])
    with pytest.raises(ConfigError, match="factors: 'force'"):
        Ensemble(whole.models, {"force": 2.0})
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelFileError, match="without a model file"):
        load_models(tmp_path / "empty")
