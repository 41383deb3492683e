"""Training on energies, forces and stresses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch

from torch_cormorant import Cormorant, load_model
from torch_cormorant.data import (
    CompositionBaseline,
    FrameArrays,
    Frames,
    MiniEthanol,
)
from torch_cormorant.errors import ConfigError, NonFiniteError, ShapeError, SpeciesError
from torch_cormorant.models import Normalisation
from torch_cormorant.models.energy import Result
from torch_cormorant.train import (
    PotentialRegression,
    frame_errors,
    join_outputs,
    potential_normalisation,
)

UNITS = Normalisation((0.0,), (0.5,), {1: (-13.6,), 6: (-1000.0,), 8: (-2000.0,)})


def network() -> Cormorant:
    torch.manual_seed(0)
    options: dict[str, Any] = {"channels": 3, "num_levels": 1, "lmax": 1}
    return Cormorant.potential((1, 6, 8), cutoff=4.0, **options).double()


def module(**changed: Any) -> PotentialRegression:
    made = PotentialRegression(network(), UNITS, **changed)
    made.log = lambda *_, **__: None  # type: ignore[method-assign]
    return made


def crystal() -> Frames:
    rng = np.random.default_rng(0)
    stress = rng.standard_normal((2, 3, 3))
    return Frames(
        FrameArrays(
            z=np.array([8, 1, 8, 1, 1]),
            pos=np.array([[0.0, 0, 0], [0, 0, 1], [0, 0, 0], [1.0, 0, 0], [0, 1, 0]]),
            offset=np.array([0, 2, 5]),
            energy=np.array([-2010.0, -2030.0]),
            forces=rng.standard_normal((5, 3)),
            stress=stress + stress.transpose(0, 2, 1),
            cell=np.stack([4 * np.eye(3), 5 * np.eye(3)]),
            pbc=np.ones((2, 3), dtype=bool),
        ),
        name="crystal",
        energy_unit="eV",
    )


@pytest.fixture
def batch() -> Batch:
    data = MiniEthanol()
    return Batch.from_data_list([data[k] for k in (3, 40)])


def test_loss_is_the_sum_that_is_documented(batch: Batch) -> None:
    made = module(energy_weight=2.0, force_weight=3.0)
    loss = made.training_step(batch, 0)
    energy, forces = made.model.energy_and_forces(  # type: ignore[operator]
        batch.z, batch.pos, batch.batch
    )
    expected = 2 * ((energy - batch.energy) / (0.5 * 9)).square().mean()
    expected = expected + 3 * ((forces - batch.forces) / 0.5).square().mean()
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    wrong = (energy - batch.energy).abs().mean()
    assert made.train_mae.compute().item() == pytest.approx(wrong.item(), rel=1e-12)
    loss.backward()
    assert all(p.grad is not None for p in made.model.parameters())


def test_large_errors_count_by_their_size_beyond_a_threshold(batch: Batch) -> None:
    made = module(force_weight=0.0, huber=0.25)
    output = made(batch)
    error = (output.energy - batch.energy) / (0.5 * 9)
    expected = torch.nn.functional.huber_loss(error, 0 * error, delta=0.25)
    loss = made.training_step(batch, 0)
    torch.testing.assert_close(loss, 2 * expected, rtol=1e-12, atol=0)


def test_the_weight_of_the_energy_moves_in_a_training_only(batch: Batch) -> None:
    made = module(energy_weight=10.0, first_energy_weight=0.1)
    output = made(batch)
    made.progress = 0.25
    early = made.losses(batch, output)
    made.progress = 1.0
    late = made.losses(batch, output)
    ratio = float((late["energy"] / early["energy"]).detach())
    assert ratio == pytest.approx(100**0.75, rel=1e-12)
    assert torch.equal(late["forces"], early["forces"])
    made.progress = 0.0
    made.eval()
    assert torch.equal(made.losses(batch, output)["energy"], late["energy"])
    with pytest.raises(ConfigError, match="captured"):
        made.capture(None)


def test_stresses_of_cells_are_learned() -> None:
    data = crystal()
    batch = Batch.from_data_list([data[0], data[1]])
    made = module(energy_weight=0.0, force_weight=0.0, stress_weight=1.0)
    loss = made.training_step(batch, 0)
    out = made.model.evaluate(  # type: ignore[operator]
        batch.z, batch.pos, batch.batch, batch.cell, batch.pbc, stress=True
    )
    per_atom = torch.tensor([64 / 2, 125 / 3], dtype=torch.float64).view(-1, 1, 1) / 0.5
    expected = ((out.stress - batch.stress) * per_atom).square().mean()
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)


def test_energies_alone_are_the_loss_of_the_paper(batch: Batch) -> None:
    made = module(force_weight=0.0, per_atom=False)
    output = made(batch)
    assert output.forces is None
    loss = made.training_step(batch, 0)
    expected = ((output.energy - batch.energy) / 0.5).square().mean()
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)


def test_normalisation_is_that_of_training_frames() -> None:
    data = MiniEthanol()[:50]
    units = potential_normalisation(data)
    forces = torch.cat([frame.forces for frame in data])
    assert units.std[0] == pytest.approx(forces.square().mean().sqrt().item())
    z = data[0].z
    rest = data.energies - units.reference(z)[0, 0]
    assert abs(rest.mean().item()) < 1e-9
    assert units.mean == (0.0,), "a sum over atoms needs it"
    alone = potential_normalisation(data, forces=False)
    assert alone.std[0] == pytest.approx(rest.std(correction=0).item(), rel=1e-9)


def test_a_step_lowers_the_loss(batch: Batch) -> None:
    units = potential_normalisation(MiniEthanol()[:50])
    made = PotentialRegression(network(), units, ema_decay=0.5)
    made.log = lambda *_, **__: None  # type: ignore[method-assign]
    optimizer = torch.optim.Adam(made.model.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        loss = made.training_step(batch, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        made.average(0.5)
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    # Outside training the averaged weights answer.
    made.eval()
    assert made.network is made.averaged
    made.train()
    assert made.network is made.model


def test_average_is_the_exponential_one() -> None:
    made = module(ema_decay=0.9)
    averaged: Any = made.averaged
    before = [p.clone() for p in averaged.parameters()]
    with torch.no_grad():
        for p in made.model.parameters():
            p.add_(1.0)
    made.average(0.9)
    for old, new in zip(before, averaged.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.1)
        assert not new.requires_grad


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"energy_weight": -1.0}, "expected at least 0"),
        ({"huber": 0.0}, "not positive"),
        ({"first_energy_weight": 0.0}, "must be positive"),
        ({"energy_weight": 0.0, "force_weight": 0.0}, "nothing to learn"),
        ({"force_weight": float("nan")}, "expected at least 0"),
        ({"ema_decay": 1.0}, "ema_decay"),
    ],
)
def test_weights_out_of_range(changed: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        module(**changed)


def test_missing_labels_and_other_shapes(batch: Batch) -> None:
    del batch.forces
    with pytest.raises(ConfigError, match="forces: the data set has none"):
        module().training_step(batch, 0)
    batch.energy = batch.energy[:1]
    with pytest.raises(ShapeError, match=r"energy: shape \(1,\), expected \(2,\)"):
        module(force_weight=0.0).training_step(batch, 0)


def test_a_loss_that_is_not_finite_stops(batch: Batch) -> None:
    batch.energy[0] = float("inf")
    with pytest.raises(NonFiniteError, match="became inf in epoch 1, batch 3"):
        module().training_step(batch, 2)


def test_errors_beside_baselines() -> None:
    data = MiniEthanol()
    train, test = data[:60], data[60:100]
    made = module()
    made.eval()
    batches = [
        Batch.from_data_list([test[k] for k in range(s, s + 20)]) for s in (0, 20)
    ]
    output = join_outputs([made.predict_step(batch) for batch in batches])
    found = frame_errors(train, test, output, "ethanol")
    assert output.forces is not None
    forces = torch.cat([frame.forces for frame in test])
    expected = (output.forces - forces).abs().mean().item()
    assert found.values["force_mae"] == pytest.approx(expected)
    assert found.values["force_zero_mae"] == pytest.approx(forces.abs().mean().item())
    text = found.table("ours", "ethanol", factor=1000.0, unit="meV")
    assert "50,000 original MD17 energies" in text
    # 0.027 kcal/mol.
    assert "1.171" in text
    with pytest.raises(ConfigError, match="there are none"):
        join_outputs([])


def test_a_fit_that_meets_every_frame_gives_no_scale() -> None:
    data = made_up([[1, 1], [1, 8]])
    with pytest.raises(ConfigError, match="do not vary"):
        potential_normalisation(data)


def test_frames_of_several_compositions_stand_beside_their_fit() -> None:
    data = made_up([[1, 1], [1, 8], [8, 8, 1], [1] * 4, [8] * 3, [1, 1, 8, 8]])
    output = Result(data.energies[3:], None, None, None)
    found = frame_errors(data[:3], data[3:], output)
    counts, values = data.element_counts(), data.values
    fit = CompositionBaseline.fit(counts[:3], values[:3])
    expected = (fit.predict(counts[3:]) - values[3:]).abs().mean().item()
    assert found.values["energy_composition_mae"] == pytest.approx(expected)
    text = found.table("ours", "made up", factor=1.0, unit="eV")
    assert "least squares on the composition" in text
    ethanol = MiniEthanol()[:20]
    perfect = Result(ethanol.energies[10:], None, None, None)
    same = frame_errors(ethanol[:10], ethanol[10:], perfect)
    assert "energy_composition_mae" not in same.values


def made_up(systems: list[list[int]]) -> Frames:
    """Frames of these elements with energies without any order."""
    rng = np.random.default_rng(0)
    sizes = [len(system) for system in systems]
    return Frames(
        FrameArrays(
            z=np.concatenate(systems),
            pos=rng.normal(size=(sum(sizes), 3)),
            offset=np.concatenate([[0], np.cumsum(sizes)]),
            energy=rng.normal(size=len(systems)),
        ),
        name="made up",
        energy_unit="eV",
    )


def test_energies_of_isolated_atoms_take_the_place_of_the_fit() -> None:
    atoms = {1: -13.0, 6: -1030.0, 8: -2040.0}
    units = potential_normalisation(MiniEthanol()[:20], isolated=atoms)
    assert units.atom_values == {z: (value,) for z, value in atoms.items()}
    assert units.std == potential_normalisation(MiniEthanol()[:20]).std
    with pytest.raises(SpeciesError, match="no energy for atomic number 8"):
        potential_normalisation(MiniEthanol()[:20], isolated={1: 0.0, 6: 0.0})


def test_an_element_without_training_frames_is_written_with_a_zero(
    tmp_path: Path,
) -> None:
    seen = Normalisation((0.0,), (0.5,), {1: (-13.6,), 8: (-2000.0,)})
    made = PotentialRegression(network(), seen)
    made.save_network(tmp_path / "a", ["energy"], ["eV"], {})
    found = load_model(tmp_path / "a").info.normalisation
    assert found.atom_values == {1: (-13.6,), 6: (0.0,), 8: (-2000.0,)}
