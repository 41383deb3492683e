"""The search for the best potential: budgets in steps, cut trials, halving, records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("lightning", reason="the extra train is not installed")

from benchmarks import search, search_run
from benchmarks.force_data import Task
from benchmarks.search_run import Trial
from benchmarks.search_space import CANDIDATES, Candidate
from torch_cormorant import Cormorant, load_model
from torch_cormorant.data import MiniEthanol
from torch_cormorant.models import Normalisation
from torch_cormorant.train import PotentialRegression

SMALL = Candidate({"channels": 3, "num_levels": 1, "lmax": 1}, batch=4)


@pytest.fixture(scope="module")
def task() -> Task:
    data = MiniEthanol()
    parts = {"test": data[40:46]}
    return Task("ethanol", data[:30], data[30:40], parts, 5, "the first frames")


def test_a_cut_trial_goes_on_as_if_nothing_had_happened(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Trial(SMALL, task, 0, 12)
    whole.run(tmp_path / "whole.pt")
    cut, file = Trial(SMALL, task, 0, 12), tmp_path / "cut.pt"
    monkeypatch.setattr(search_run, "KEEP_EVERY", 0.0)
    taken = cut.step

    def step() -> float:
        if cut.outcome.steps == 7:
            raise KeyboardInterrupt
        return taken()

    monkeypatch.setattr(cut, "step", step)
    with pytest.raises(KeyboardInterrupt):
        cut.run(file)
    again = Trial(SMALL, task, 0, 12)
    again.run(file)
    assert [look["loss"] for look in again.outcome.looks] == [
        look["loss"] for look in whole.outcome.looks
    ]
    for name, weight in whole.module.state_dict().items():
        assert torch.equal(weight, again.module.state_dict()[name]), name


def test_every_epoch_has_all_frames_in_another_order(task: Task) -> None:
    trial = Trial(SMALL, task, 0, 12)
    epochs = [[row for k in range(7) for row in trial.rows(7 * e + k)] for e in (0, 1)]
    assert all(len(set(rows)) == 28 for rows in epochs)
    assert epochs[0] != epochs[1]
    assert Trial(SMALL, task, 1, 12).rows(0) != trial.rows(0)


def test_a_costly_step_is_taken_less_often_and_test_frames_stay_closed(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "TASKS", {"ethanol": lambda _: task})
    monkeypatch.setitem(CANDIDATES, "species", SMALL)
    monkeypatch.setattr(search, "cost", lambda *_: {"ratio": 2.0})
    command = ["--data", ".", "--candidates", "species", "--seconds", "0.3"]
    places = ["--records", str(tmp_path), "--scratch", str(tmp_path / "scratch")]
    assert search.main([*command, *places]) == 0
    (path,) = tmp_path.glob("*.json")
    record = json.loads(path.read_text())
    assert record["steps"] == record["planned_steps"] == round(0.3 / 0.0183 / 2)
    assert record["test"] is None
    assert record["valid"]["force_mae"] > 0
    kept = ["--frames", "20", "--models", str(tmp_path / "models"), "--test"]
    assert search.main([*command, *places, *kept]) == 0
    name = "species-ethanol-20-0.3s-seed0"
    record = json.loads((tmp_path / f"{name}.json").read_text())
    assert record["frames"]["train"] == 20
    model = load_model(tmp_path / f"models/{name}.safetensors")
    out = model.evaluate_all(list(task.tests["test"]))
    wrong = 1e3 * (out.forces - torch.cat([f.forces for f in task.tests["test"]]))
    found = record["test"]["test"]["force_mae"]
    assert float(wrong.abs().mean()) == pytest.approx(found, rel=1e-4)
    assert not list((tmp_path / "scratch").glob("*"))
    assert "species" in search.table(tmp_path)


def test_costs_are_ratios_of_steps_in_turns(task: Task) -> None:
    trials = [Trial(SMALL, task, 0), Trial(SMALL, task, 0)]
    ratios, least = search_run.in_turns(trials, turns=2, block=1)
    assert ratios[0] == 1.0
    assert ratios[1] > 0
    assert min(least) > 0


def test_the_best_of_the_shorter_trials_go_on_with_the_default(tmp_path: Path) -> None:
    errors = {"gate": 9.0, "huber-0.01": 7.0, "species": 8.0, "default": 10.0}
    for name, error in errors.items():
        record: dict[str, Any] = {
            "candidate": name,
            "set": "ethanol",
            "budget_quiet_cpu_seconds": 60.0,
            "valid": {"force_mae": error},
        }
        (tmp_path / f"{name}.json").write_text(json.dumps(record))
    given = ["--data", ".", "--best", "2", "--records", str(tmp_path)]
    assert search.chosen(search.parse(given)) == ["default", "huber-0.01", "species"]


@pytest.mark.parametrize("name", CANDIDATES)
def test_every_candidate_can_be_trained(name: str) -> None:
    candidate = CANDIDATES[name]
    with torch.device("meta"):
        network = Cormorant.potential((1, 6, 8), **candidate.network)
    units = Normalisation((0.0,), (1.0,), {})
    assert PotentialRegression(network, units, **candidate.loss).weights["forces"] > 0
