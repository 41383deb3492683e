"""One call from a configuration to a trained network and its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from torch_cormorant import load_model, train
from torch_cormorant.errors import ConfigError

SIZES = {"train": 12, "valid": 6, "test": 5}


def tiny(target: str | list[str], **training: Any) -> train.RunConfig:
    return train.make_config(
        {
            "data": {"target": target, **SIZES},
            "model": {"options": {"channels": 4, "num_levels": 1, "lmax": 1}},
            "training": {"epochs": 1, "batch_size": 6, **training},
            "output": {"report": False, "plots": True},
        }
    )


def test_what_comes_back_is_what_was_written(tmp_path: Path) -> None:
    fitted = train.fit(tiny("gap"), tmp_path / "run")
    assert {file.name for file in (tmp_path / "run").iterdir()} == {
        *("best.ckpt", "last.ckpt", "model.safetensors", "settings.json"),
        *("results.json", "learning_curve.png", "parity.png"),
    }
    assert json.loads(fitted.folder.results.read_text()) == fitted.record
    assert fitted.record["test"] == fitted.report.errors
    saved = load_model(fitted.folder.model).state_dict()
    for name, value in fitted.module.network.state_dict().items():
        assert torch.equal(saved[name], value), name


def test_a_stopped_run_goes_on_and_another_one_is_not_replaced(tmp_path: Path) -> None:
    train.fit(tiny("gap", schedule="constant"), tmp_path / "run")
    two = tiny("gap", schedule="constant", epochs=2)
    with pytest.raises(ConfigError, match="already holds a run"):
        train.fit(two, tmp_path / "run")
    resumed = train.fit(two, tmp_path / "run", resume=True)
    whole = train.fit(two, tmp_path / "whole")
    ours, theirs = (
        [(row["epoch"], row["train_loss"], row["valid_mae"]) for row in one.report.rows]
        for one in (resumed, whole)
    )
    assert ours == theirs
    assert len(ours) == 2


def test_the_epoch_that_is_kept(tmp_path: Path) -> None:
    kept = {}
    for keep in ("best", "last"):
        wild = tiny("gap", epochs=4, lr=0.03, schedule="constant", keep=keep)
        fitted = train.fit(wild, tmp_path / keep)
        errors = [row["valid_mae"] for row in fitted.report.rows]
        kept[keep] = fitted.record["best_epoch"]
        tested = fitted.module.network.state_dict()
        saved = torch.load(tmp_path / keep / "best.ckpt", weights_only=False)
        assert saved["epoch"] + 1 == kept[keep]
        for name, value in load_model(fitted.folder.model).state_dict().items():
            assert torch.equal(tested[name], value), name
    assert kept == {"best": errors.index(min(errors)) + 1, "last": 4}
    assert kept["best"] != 4
    with pytest.raises(ConfigError, match=r"training\.keep"):
        tiny("gap", keep="first")
    with pytest.raises(ConfigError, match="keep: 'first'"):
        train.RunCheckpoints(tmp_path, keep="first")


def test_every_target_has_a_picture_of_its_own(tmp_path: Path) -> None:
    train.fit(tiny(["mu", "gap"]), tmp_path)
    assert {file.name for file in tmp_path.glob("*.png")} == {
        *("learning_curve.png", "parity_mu.png", "parity_gap.png")
    }


def test_one_seed_or_several(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"training.seeds: 2 of them, expected one"):
        train.fit(tiny("gap", seeds=[1, 2]), tmp_path)
    with pytest.raises(ConfigError, match=r"training.seeds: \[3\], expected at least"):
        train.fit_seeds(tiny("gap", seeds=[3]), tmp_path)
    assert list(tmp_path.iterdir()) == []
    found = train.fit_seeds(tiny("gap", seeds=[1, 2]), tmp_path)
    assert [one.record["seed"] for one in found] == [1, 2]
    spread = json.loads((tmp_path / "ensemble.json").read_text())
    assert spread["mae"] == [one.record["test"]["gap"]["ours"] for one in found]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"trainig": {}}, "^trainig: no such section.*did you mean 'training'"),
        ({"training": {"lr": 0}}, "^training.lr: 0.0 is not more than 0"),
        ({"training": 3}, "^training: expected keys and values, found 3"),
        ({}, "^data.target: missing"),
        (
            {"data": {"source": "mini_ethanol", "molecule": "ethanol"}},
            "^data.molecule: source 'mini_ethanol' holds none of MD17",
        ),
    ],
)
def test_mistakes_in_plain_values_name_the_key(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        train.make_config(values)


def test_a_changed_configuration_changes_no_other() -> None:
    first = tiny("gap")
    first.training.seeds.append(3)
    first.data.units["gap"] = "eV"
    assert tiny("gap").training.seeds == []
    assert tiny("gap").data.units == {}
