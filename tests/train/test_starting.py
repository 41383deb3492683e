"""Trainings that start from a model file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from torch_cormorant import Cormorant, load_model, save_model, train
from torch_cormorant.data import MiniEthanol, MiniQM9
from torch_cormorant.errors import ConfigError
from torch_cormorant.models import ModelInfo, Normalisation
from torch_cormorant.train.job import Job
from torch_cormorant.train.starting import Start

SMALL: dict[str, Any] = {"channels": 2, "num_levels": 1, "lmax": 1}
FRAMES = {"source": "mini_ethanol", "train": 20, "valid": 5, "test": 5}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Return the file of a potential that knows no oxygen."""
    torch.manual_seed(0)
    model = Cormorant.potential([1, 6], **SMALL)
    model.set_units({1: -10.0, 6: -40.0}, scale=0.5)
    path = tmp_path / "old.safetensors"
    save_model(path, model, training={"data": {"name": "alkanes"}})
    return path


def config(path: Path, **training: Any) -> train.RunConfig:
    return train.make_config(
        {
            "data": FRAMES,
            "training": {
                "start": str(path),
                "epochs": 1,
                "batch_size": 10,
                "ema": 0.9,
                **training,
            },
            "output": {"report": False},
        }
    )


def test_a_potential_goes_on_with_new_elements_and_references(
    old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = train.fit(
        config(old, freeze=["convs.0"], rates={"input": 1e-9}), tmp_path / "run"
    )
    text = capsys.readouterr().out
    assert "starts from old.safetensors, trained on alkanes" in text
    assert "frozen: convs.0" in text
    assert "references: refitted to 20 training frames, changed by H" in text
    before = load_model(old)
    after: Any = load_model(found.folder.model)
    assert after.network.features.known == (1, 6, 8)
    for name, weight in before.network.convs.named_parameters():
        torch.testing.assert_close(after.network.convs.get_parameter(name), weight)
    rows = after.network.input.linear.weight[:, :6]
    kept = before.network.input.linear.weight
    torch.testing.assert_close(rows, kept, atol=1e-5, rtol=0)  # at a tiny rate
    units = after.info.normalisation
    assert units.std == (0.5,)
    assert set(units.atom_values) == {1, 6, 8}
    record = after.info.training["start"]
    assert record["sha256"] == before.info.digest
    assert record["new_species"] == [8]
    assert record["frozen"] == ["convs.0"]
    errors = found.record["test"]
    assert errors["energy_mae"] < 1.0  # of energies near -300 eV


def test_references_of_the_frames_leave_the_network_as_it_is(old: Path) -> None:
    frames = MiniEthanol()[:20]
    model: Any = load_model(old)
    start = Start(config(old).training)
    start.extend(frames.species)
    model = start.to_potential()
    units, said = train.refit_references(model, frames)
    assert said.startswith("refitted to 20 training frames")
    raw = model.network(frames[0].z, frames[0].pos.float())
    model.info = ModelInfo(("energy",), ("eV",), units)
    found = model.evaluate_all(list(frames), forces=False)
    rest = frames.energies - found.energy
    assert float(rest.mean()) == pytest.approx(0.0, abs=1e-6)
    torch.testing.assert_close(model.network(frames[0].z, frames[0].pos.float()), raw)


def test_old_frames_are_shown_beside_the_new_ones(old: Path, tmp_path: Path) -> None:
    again = {"source": "mini_ethanol", "train": 7, "split_seed": 3, "weight": 0.5}
    job = Job(config(old, replay={"ethanol": again}), 0)
    batches = list(job.loaders.train_dataloader())
    weights = torch.cat([batch.weight for batch in batches])
    assert weights.sort().values.tolist() == [0.5] * 7 + [1.0] * 20
    new = job.module.normalisation
    assert new.std == load_model(old).info.normalisation.std
    data, before = MiniEthanol(), 6 * -10.0 + 2 * -40.0
    for batch in batches:
        for one in batch.to_data_list():
            energy = float(one.energy)
            if float(one.weight) < 1:
                energy += before - float(new.atoms(one.z).sum())
            assert (data.energies - energy).abs().min() < 1e-6
    found = train.fit(config(old, replay={"ethanol": again}), tmp_path / "run")
    assert found.record["start"]["replayed"] == 7
    with pytest.raises(ConfigError, match=r"replay.a: .* not 'sorce'"):
        Job(config(old, replay={"a": {"sorce": "mini_ethanol"}}), 0)


def test_a_property_goes_on_or_gets_another_head(tmp_path: Path) -> None:
    sizes = {"train": 12, "valid": 6, "test": 5}
    model = Cormorant(head="extensive", **SMALL)
    model.info = ModelInfo(("gap",), ("eV",), Normalisation((7.0,), (1.5,)))
    save_model(tmp_path / "gap.safetensors", model)
    for target, head in (("gap", "extensive"), ("mu", "dipole_norm")):
        made = train.make_config(
            {
                "data": {"target": target, **sizes},
                "training": {"start": str(tmp_path / "gap.safetensors"), "epochs": 1},
                "output": {"report": False},
            }
        )
        found = train.fit(made, tmp_path / target)
        assert found.module.network.head.kind == head
        again = found.module.normalisation.std == (1.5,)
        assert found.record["start"]["new_head"] is not again


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"training": {"freeze": ["input"]}}, "training.freeze: needs training.start"),
        (
            {"training": {"start": "a"}, "model": {"network": "potential"}},
            "model.network: the network is that of training.start",
        ),
        (
            {"training": {"start": "a", "rates": {"convs": 0}}},
            "training.rates.convs: 0 is not more",
        ),
        (
            {"training": {"start": "a", "captured": True}},
            "training.captured: is not for a training with training.start",
        ),
    ],
)
def test_what_does_not_go_together(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        train.make_config({"data": FRAMES, **values})


def test_a_training_goes_on_with_the_head_it_finds(tmp_path: Path) -> None:
    def config(target: Any, **training: Any) -> train.RunConfig:
        sizes = {"train": 12, "valid": 6, "test": 5}
        model = {"options": {"channels": 4, "num_levels": 1, "lmax": 1}}
        return train.make_config(
            {
                "data": {"target": target, **sizes},
                **({} if "start" in training else {"model": model}),
                "training": {"epochs": 1, "batch_size": 6, **training},
                "output": {"report": False},
            }
        )

    train.fit(config(["mu", "homo", "gap"]), tmp_path / "whole")
    start = str(tmp_path / "whole" / "model.safetensors")
    still = train.fit(config("gap", start=start, lr=1e-12), tmp_path / "part")
    assert still.record["start"]["chosen"] == ["gap"]
    assert not still.record["start"]["new_head"]
    molecules = MiniQM9("gap")[:4]
    expected = load_model(start).predict(molecules)[:, 2:]
    found = load_model(tmp_path / "part" / "model.safetensors").predict(molecules)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    other = train.fit(config("r2", start=start), tmp_path / "other")
    assert other.record["start"]["new_head"]
