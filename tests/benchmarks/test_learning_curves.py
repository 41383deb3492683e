"""The learning curves against peers: same molecules, a budget, records, a picture."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("lightning", reason="the extra train is not installed")

import peer_curves as drawn

from benchmarks import curve_data as data
from benchmarks import curve_families as families
from benchmarks import curve_training as training
from benchmarks import learning_curves as curves

ROOT = Path(__file__).parents[2]
QM9 = ROOT.parent / "shared" / "data" / "qm9" / "qm9_labelled.npz"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few molecules to validate and test on, and networks that take no time."""
    monkeypatch.setattr(data, "VALID", 5)
    monkeypatch.setattr(data, "TEST", 6)
    tiny = families.Family(lambda _: Tiny(), lr=1e-2, note="tiny")
    monkeypatch.setitem(families.FAMILIES, "schnet", tiny)


class Tiny(nn.Module):
    """A number per element."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Embedding(10, 1)

    def forward(self, z: Tensor, pos: Tensor, batch: Tensor, count: int) -> Tensor:
        out = self.weight(z) + 0 * pos.sum()
        return torch.zeros(count, 1).index_add(0, batch, out)


def test_batches_hold_the_molecules_asked_for(qm9: Path) -> None:
    molecules = data.load(qm9, "alpha")
    z, pos, batch, count = molecules.batch(torch.tensor([7, 2]))
    with np.load(qm9) as arrays:
        first = slice(*arrays["offset"][7:9])
        second = slice(*arrays["offset"][2:4])
        expected = np.concatenate([arrays["z"][first], arrays["z"][second]])
        places = np.concatenate([arrays["pos"][first], arrays["pos"][second]])
    assert count == 2
    np.testing.assert_array_equal(z, expected)
    np.testing.assert_allclose(pos, places, rtol=1e-6)
    count_first = first.stop - first.start
    assert batch.bincount().tolist() == [count_first, len(z) - count_first]


@pytest.mark.usefixtures("small")
def test_a_composition_leaves_nothing_of_a_sum_over_elements(qm9: Path) -> None:
    job = data.task(data.load(qm9, "alpha"), 15, 0)
    assert job.baselines["composition"] < 1e-10
    assert job.baselines["training_mean"] > 1
    parts = [set(part.tolist()) for part in job.parts]
    assert [len(part) for part in parts] == [15, 5, 6]
    assert len(set.union(*parts)) == 26


@pytest.mark.usefixtures("small")
def test_dipoles_keep_their_whole_value(qm9: Path) -> None:
    job = data.task(data.load(qm9, "mu"), 15, 0)
    torch.testing.assert_close(
        job.rest.double() * job.std, job.molecules.values, rtol=1e-6, atol=0
    )


def test_only_molecules_with_a_g4mp2_energy_are_taken(qm9: Path) -> None:
    molecules = data.load(qm9, "g4mp2_atom")
    with np.load(qm9) as arrays:
        known = np.isfinite(arrays["g4mp2_atom"])
        energies = arrays["g4mp2_atom"][known]
        sizes = np.diff(arrays["offset"])[known]
    assert len(molecules) == known.sum()
    assert molecules.theory.startswith("G4MP2")
    np.testing.assert_allclose(molecules.values, energies * 27.211386246)
    np.testing.assert_array_equal(molecules.offset.diff(), sizes)


def test_the_rate_warms_up_and_falls_to_nothing() -> None:
    rate = training.rate
    assert rate(0.0) < 0.1
    assert rate(0.05) > 0.9
    assert rate(0.5) == pytest.approx(0.5)
    assert rate(1.2) == pytest.approx(0.0)


@pytest.mark.usefixtures("small")
def test_the_budget_is_counted_in_steps_of_the_given_length(qm9: Path) -> None:
    job = data.task(data.load(qm9, "mu"), 15, 0)
    family = families.FAMILIES["schnet"]
    torch.manual_seed(0)
    before = Tiny()
    start = training.error(before, job, job.parts[2])
    outcome = training.train(before, family, job, seconds=6.0, seed=0, step=0.1)
    assert outcome.steps == pytest.approx(60, abs=1)
    assert len(outcome.valid) == training.LOOKS
    assert outcome.test_mae < start


@pytest.mark.usefixtures("small")
def test_a_loss_that_is_not_a_number_is_an_error(qm9: Path) -> None:
    job = data.task(data.load(qm9, "mu"), 15, 0)
    broken = Tiny()
    nn.init.constant_(broken.weight.weight, math.nan)
    family = families.FAMILIES["schnet"]
    with pytest.raises(training.DivergedError, match="nan after 0 steps"):
        training.train(broken, family, job, seconds=1.0, seed=0)


@pytest.mark.usefixtures("small")
def test_a_run_is_recorded_once_and_drawn(
    qm9: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "records"
    speed = tmp_path / "speed.json"
    common = ["--npz", str(qm9), "--models", "schnet", "--speed", str(speed)]
    assert curves.main([*common, "--sizes", "15", "--measure", "1"]) == 0
    assert json.loads(speed.read_text())["median"]["schnet"] > 0
    speed.write_text(json.dumps({"median": {"schnet": 0.5}}))
    run = [*common, "--targets", "alpha", "mu", "--sizes", "15", "10"]
    run += ["--cpu-seconds", "3", "--records", str(folder)]
    assert curves.main(run) == 0
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == [
        f"schnet-{target}-{size}-3s-seed0.json"
        for target in ("alpha", "mu")
        for size in (10, 15)
    ]
    record: dict[str, Any] = json.loads(files[-1].read_text())
    assert record["split"]["sizes"] == [15, 5, 6]
    assert record["steps"] == 6
    assert record["versions"]["torch"] == torch.__version__
    times = [file.stat().st_mtime_ns for file in files]
    assert curves.main(run) == 0
    assert [file.stat().st_mtime_ns for file in files] == times

    monkeypatch.setattr(drawn, "RECORDS", folder)
    figure = drawn.peer_curves()
    assert [axis.get_title() for axis in figure.axes[:2]] == [r"$\alpha$", r"$\mu$"]
    lines = {line.get_label(): line for line in figure.axes[1].lines}
    assert list(lines["SchNet (PyG)"].get_xdata()) == [10, 15]
    assert "**" not in drawn.table(drawn.records())
    assert "| mu | 15 | 3 | SchNet (PyG) | 10 | 6 |" in drawn.table(drawn.records())


def test_seeds_of_one_network_are_one_row() -> None:
    plain = {
        "target": "alpha",
        "train_size": 10,
        "budget_cpu_seconds": 3.0,
        "model": "schnet",
        "parameters": 1,
        "steps": 1,
        "epochs": 1.0,
        "baselines": {"composition": 9.0, "training_mean": 9.0},
        "unit": "bohr^3",
    }
    runs = [{**plain, "seed": k, "test_mae": mae} for k, mae in ((1, 4.0), (0, 2.0))]
    (joined,) = drawn.merged(runs)
    assert (joined["test_mae"], joined["seed"], joined["seeds"]) == (3.0, 0, 2)
    assert joined["spread"] == pytest.approx(math.sqrt(2))
    assert "| 3 ± 1 (2 seeds) |" in drawn.table(runs)
    runs[0]["test_mae"] = None
    assert drawn.merged(runs)[0]["test_mae"] is None
    assert "| diverged |" in drawn.table(runs)


def test_a_missing_file_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert curves.main(["--npz", "absent.npz"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.skipif(not QM9.exists(), reason="shared/data/qm9 is not here")
def test_published_records_name_the_split_that_is_made_again() -> None:
    runs = [run for run in drawn.records() if run["target"] == "alpha"]
    assert runs
    count = len(data.load(QM9, "alpha"))
    for run in runs:
        sizes = run["split"]["sizes"]
        split = data.split_indices(count, *sizes, run["split"]["seed"])
        assert split.digest == run["split"]["sha256"]
