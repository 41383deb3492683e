"""Potentials trained on forces beside peers: frames, contract, budget, records."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from torch_cormorant import load_model
from torch_cormorant.errors import ConfigError, DataError

pytest.importorskip("lightning", reason="the extra train is not installed")

import force_tables as shown

from benchmarks import dynamics_starts as starts
from benchmarks import force_data as data
from benchmarks import force_families as families
from benchmarks import force_loop as loop
from benchmarks import force_training as command

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
KCAL = 0.0433641043
SMALL = {
    "cormorant": {"channels": 4, "num_levels": 1},
    "visnet": {"num_layers": 1, "hidden_channels": 8, "num_heads": 2},
    "mace": {"channels": 4, "lmax": 1},
}
NEEDED = {"cormorant": "torch", "visnet": "torch_geometric", "mace": "mace"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Invented frames in the form of the real files: a molecule shaken by springs."""
    root = tmp_path_factory.mktemp("data")
    (root / "md17" / "extra").mkdir(parents=True)
    (root / "structures").mkdir()
    z, pos, energy, forces = shaken(130, (6, 6, 6, 8), 0)
    np.savez(
        root / "md17" / "rmd17_ethanol.npz",
        nuclear_charges=z,
        coords=pos,
        energies=energy / KCAL,
        forces=forces / KCAL,
        energy_unit="kcal/mol",
        split01_train=np.arange(80),
        split01_test=np.arange(80, 130),
    )
    parts: dict[str, Any] = {}
    for seed, (name, count) in enumerate(
        {"train_300K": 70, "test_MD_300K": 6, "test_MD_600K": 6}.items()
    ):
        z, pos, energy, forces = shaken(count, (6, 6, 6, 8), seed)
        parts |= {f"{name}_pos": pos, f"{name}_energy": energy}
        parts[f"{name}_forces"] = forces
    parts |= {"test_dihedral_pos": pos[:3], "test_dihedral_energy": energy[:3]}
    np.savez(root / "md17" / "extra" / "acac.npz", z=z, energy_unit="eV", **parts)
    crystal(root / "structures" / "crystal_Si.npz")
    return root


def shaken(count: int, z: tuple[int, ...], seed: int) -> tuple[Any, Any, Any, Any]:
    random = np.random.default_rng(seed)
    rest = np.array([[0.0, 0, 0], [1.5, 0, 0], [2.2, 1.3, 0], [3.4, 1.3, 0.7]])
    moved = 0.1 * random.normal(size=(count, len(z), 3))
    pos = rest + moved
    away = pos[:, :, None] - pos[:, None]  # springs between all pairs
    far = np.linalg.norm(away, axis=-1) + np.eye(len(z))
    usual = np.linalg.norm(rest[:, None] - rest, axis=-1) + np.eye(len(z))
    energy = np.square(far - usual).sum(axis=(1, 2)) - 100.0
    forces = -4.0 * ((far - usual) / far)[..., None] * away
    return np.array(z, dtype=np.uint8), pos, energy, forces.sum(axis=2)


def crystal(path: Path) -> None:
    """Cells of two sizes, the larger one twice the smaller."""
    random = np.random.default_rng(0)
    sizes = np.array([2, 4] * 16)
    offset = np.concatenate([[0], sizes.cumsum()])
    frames = [
        2.4 * np.arange(size)[:, None] * [1.0, 0, 0]
        + 0.1 * random.normal(size=(size, 3))
        for size in sizes
    ]
    np.savez(
        path,
        z=np.full(offset[-1], 14, dtype=np.uint8),
        pos=np.concatenate(frames),
        offset=offset,
        cell=np.stack([np.diag([2.4 * size, 3.0, 3.0]) for size in sizes]),
        energy=-5.0 * sizes + 0.1 * random.normal(size=len(sizes)),
        forces=random.normal(size=(offset[-1], 3)),
        split=np.array(["training"] * 28 + ["test"] * 4),
        energy_unit="eV",
    )


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks that take no time."""
    known = families.FAMILIES
    for name, sizes in SMALL.items():
        monkeypatch.setitem(known, name, replace(known[name], sizes=sizes))


def skip_without(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # e3nn reads a file of its own with pickle
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    pytest.importorskip(NEEDED[name], reason=f"the package of {name} is not installed")


def test_frames_are_in_electronvolts_and_nobody_is_in_two_parts(folder: Path) -> None:
    task = data.TASKS["ethanol"](folder)
    assert (len(task.train), len(task.valid)) == (30, 50)
    with np.load(folder / "md17" / "rmd17_ethanol.npz") as arrays:
        wanted = KCAL * arrays["energies"][80:]
    energies = task.tests["test"].energies
    torch.testing.assert_close(energies, torch.from_numpy(wanted), rtol=1e-7, atol=0)
    task = data.TASKS["acac"](folder)
    assert [len(part) for part in task.tests.values()] == [6, 6]
    shown = torch.cat([task.train.energies, task.valid.energies])
    assert len(shown.unique()) == 70


def test_a_dihedral_angle_has_the_usual_sign() -> None:
    angle = data.dihedral
    half = math.sqrt(0.5)
    pos = torch.tensor([[1.0, 0, 0], [0, 0, 0], [0, 0, 1], [half, half, 1]])
    # looking from the second to the third atom, the fourth is turned clockwise
    assert angle(pos.double(), (0, 1, 2, 3)) == pytest.approx(45.0, abs=1e-5)
    mirrored = pos * torch.tensor([1.0, -1, 1])
    assert angle(mirrored.double(), (0, 1, 2, 3)) == pytest.approx(-45.0, abs=1e-5)


@pytest.mark.usefixtures("small")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", list(SMALL))
def test_peers_keep_the_contract_of_potentials(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_without(name, monkeypatch)
    task = data.TASKS["ethanol"](folder)
    family = families.FAMILIES[name]
    module = loop.make_module(families.build(family, task, 0), family, task)
    output, _ = loop.predict(module, task.valid[:2], 1)
    assert output.energy.dtype == torch.float64
    # one network on its own gives what it gives in a batch
    alone = [loop.predict(module, task.valid[k : k + 1], 1)[0] for k in (0, 1)]
    together = torch.cat([found.energy for found in alone])
    torch.testing.assert_close(output.energy, together, rtol=1e-6, atol=1e-5)
    # forces are the slope, measured along themselves
    direction = output.forces[:4] / output.forces[:4].norm()
    frames = [task.valid[0].clone(), task.valid[0].clone()]
    for frame, sign in zip(frames, (-1, 1), strict=True):
        frame.pos = frame.pos + sign * 0.02 * direction
    low, high = (float(loop.predict(module, [f], 1)[0].energy) for f in frames)
    slope = -(high - low) / 0.04
    assert slope == pytest.approx(float(output.forces[:4].norm()), rel=0.05, abs=1e-3)


@pytest.mark.usefixtures("small")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["cormorant", "mace"])
def test_periodic_cells_are_seen(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_without(name, monkeypatch)
    task = data.TASKS["Si"](folder)
    assert task.periodic
    family = families.FAMILIES[name]
    module = loop.make_module(families.build(family, task, 0), family, task)
    frame = task.train[0]
    moved = frame.clone()
    shift = torch.zeros(len(frame.z), 1)
    shift[0] = 1.0
    moved.pos = frame.pos + frame.cell[0, 0] * shift
    one, two = (loop.predict(module, [f], 1)[0] for f in (frame, moved))
    torch.testing.assert_close(one.energy, two.energy, rtol=1e-6, atol=1e-4)
    torch.testing.assert_close(one.forces, two.forces, rtol=1e-3, atol=1e-4)
    box = frame.clone()
    box.cell = 10 * frame.cell
    alone = loop.predict(module, [box], 1)[0]
    assert abs(float(alone.energy - one.energy)) > 1e-4


def test_visnet_refuses_cells(folder: Path) -> None:
    task = data.TASKS["Si"](folder)
    with pytest.raises(ConfigError, match="no periodic cells"):
        families.build(families.FAMILIES["visnet"], task, 0)


@pytest.mark.usefixtures("small")
def test_training_ends_with_the_budget_and_learns(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = data.TASKS["ethanol"](folder)
    family = families.FAMILIES["cormorant"]
    module = loop.make_module(families.build(family, task, 0), family, task)
    before, _ = loop.predict(module, task.tests["test"], 5)
    loop.rehearse(module, task, 5)
    same, _ = loop.predict(module, task.tests["test"], 5)
    torch.testing.assert_close(before.forces, same.forces, rtol=0, atol=0)
    clock = itertools.count(step=0.25)
    monkeypatch.setattr(loop.time, "process_time", lambda: next(clock))
    outcome = loop.train(module, family, task, seconds=12.0, seed=0)
    assert outcome.steps == 48
    assert [seen["steps"] for seen in outcome.looks] == [8, 16, 24, 32, 40, 48]
    assert outcome.best == min(range(6), key=lambda k: outcome.looks[k]["loss"])
    after, _ = loop.predict(module, task.tests["test"], 5)
    forces = torch.cat([frame.forces for frame in task.tests["test"]])
    first, last = ((f - forces).abs().mean() for f in (before.forces, after.forces))
    assert last < 0.8 * first


def test_the_rate_warms_up_and_falls() -> None:
    rate = loop.rate
    assert rate(0.0, 100.0) < 0.01
    assert rate(2.0, 100.0) == pytest.approx(1.0)
    assert rate(51.0, 100.0) == pytest.approx(0.5, abs=0.01)
    assert rate(100.0, 100.0) == pytest.approx(0.01)


@pytest.mark.usefixtures("small")
def test_runs_are_recorded_once_and_shown(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = tmp_path / "records"
    weights = tmp_path / "weights"
    weights.mkdir()
    run = ["--data", str(folder), "--cpu-seconds", "0.2", "--records", str(records)]
    run += ["--sets", "acac", "Si", "--models", "cormorant", "visnet"]
    run += ["--weights", str(weights)]
    assert command.main(run) == 0
    names = [f"{name}-0.2s-seed0" for name in ("cormorant-Si", "cormorant-acac")]
    files = sorted(records.iterdir())
    assert [file.stem for file in files] == [*names, "visnet-acac-0.2s-seed0"]
    record = json.loads(files[1].read_text())
    assert list(record["test"]) == ["300 K", "600 K"]
    assert record["test"]["300 K"]["force_mae"] > 0
    assert len(record["scan"]["model"]) == 3
    assert min(record["scan"]["reference"]) == 0
    assert record["versions"]["torch"] == torch.__version__
    model = load_model(weights / f"{names[1]}.safetensors")
    assert model.info.units == ("eV",)
    times = [file.stat().st_mtime_ns for file in files]
    assert command.main(run) == 0
    assert [file.stat().st_mtime_ns for file in files] == times

    monkeypatch.setattr(shown, "RECORDS", records)
    runs = shown.records()
    assert [run["set"] for run in runs] == ["acac", "acac", "Si"]
    text = shown.table(runs)
    assert text.count("\n") == 1 + 3 + 2
    assert text.count("**") == 2 * 4
    assert shown.hotter(runs).count("acetylacetone") == 4
    assert shown.per_atom(runs).count("silicon") == 1
    titles = [axis.get_title() for axis in shown.force_curves().axes]
    assert titles[:2] == ["acetylacetone", "silicon cells"]
    lines = shown.dihedral_scan().axes[0].lines
    assert [line.get_label() for line in lines] == [
        "reference",
        "Cormorant",
        "ViSNet (PyG)",
    ]


def test_other_settings_have_a_name_of_their_own(folder: Path) -> None:
    words = ["--lr", "5e-3", "--sizes", "channels=8", "--batch-factor", "2"]
    args = command.parse(["--data", str(folder), *words, "--energy-weight", "0.1"])
    family, name = command.chosen(args, "cormorant")
    assert name == "-lr0.005-batch2-energy0.1-channels8"
    assert family.sizes["channels"] == 8
    assert family.training == {"energy_weight": 0.1}


def test_a_missing_folder_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--data", "absent"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.skipif(not SHARED.exists(), reason="../shared/data is not here")
def test_published_records_are_of_the_frames_that_are_here() -> None:
    runs = [run for run in shown.records() if run["set"] == "acac"]
    task = data.TASKS["acac"](SHARED)
    for run in runs:
        assert run["data"] == task.train.digest
        assert run["frames"]["train"] == len(task.train)
        assert run["test"]["600 K"]["frames"] == len(task.tests["600 K"])
    assert task.scan is not None
    assert task.scan[1][0] == pytest.approx(1.0, abs=0.6)
    assert task.scan[1][-1] == pytest.approx(177.0, abs=0.6)


def test_a_cluster_is_cut_out_of_water_in_whole_molecules() -> None:
    ase = pytest.importorskip("ase")
    water = np.array([[0, 0, 0], [0, 0.76, 0.59], [0, -0.76, 0.59]])
    places = np.array(
        [[0.1, 0.1, 0.1], [3.3, 3.2, 0.2], [3.1, 0.3, 3.4], [0, 3.3, 3.0]]
    )
    box = ase.Atoms("OH2" * 4, np.concatenate([water + p for p in places]))
    box.set_cell([6.2, 6.2, 6.2])
    box.pbc = True
    box.wrap()
    found = starts.cluster(box, 7)
    assert found.get_chemical_formula() == "H14O7"
    assert not found.pbc.any()
    distances = found.get_all_distances()
    for first in range(0, 21, 3):
        bonds = distances[first, first + 1 : first + 3]
        np.testing.assert_allclose(bonds, np.hypot(0.76, 0.59))
    assert np.linalg.norm(found.positions[::3], axis=1).max() < 6.2
    box.symbols[1] = "O"
    with pytest.raises(DataError, match="is not the oxygen of a water molecule"):
        starts.cluster(box, 20)
