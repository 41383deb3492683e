"""The commands as a user types them, with tiny networks."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from torch_cormorant import CormorantMD17, CormorantQM9, load_model
from torch_cormorant.cli import main
from torch_cormorant.data import MiniEthanol, MiniQM9, read_extxyz, write_extxyz
from torch_cormorant.errors import CormorantWarning, DataError

CONFIG = (Path(__file__).parent / "gap.yaml").read_text()
FRAMES = """data: {source: mini_ethanol, train: 6, valid: 3, test: 4}
model:
  network: potential
  options: {num_levels: 1, lmax: 1, channels: 4, hidden: 8}
training: {epochs: 1, batch_size: 3, guard: rollback}
"""
KINDS = [("qm9", CormorantQM9), ("md17", CormorantMD17)]
Command = Callable[..., str]


@pytest.fixture(scope="module")
def ethanol(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run on frames."""
    folder = tmp_path_factory.mktemp("ethanol")
    (folder / "ethanol.yaml").write_text(FRAMES)
    arguments = ["train", str(folder / "ethanol.yaml"), "--out", str(folder / "run")]
    assert main(arguments) == 0
    return folder / "run"


def test_a_run_leaves_model_report_and_record(gap: Path) -> None:
    names = {file.name for file in gap.iterdir()}
    assert names == {
        "best.ckpt",
        "last.ckpt",
        "model.safetensors",
        "report.html",
        "results.json",
        "settings.json",
    }
    results = json.loads((gap / "results.json").read_text())
    assert [row["epoch"] for row in results["epochs"]] == [1, 2]
    assert results["data"]["sizes"] == [12, 6, 10]
    model = load_model(gap / "model.safetensors")
    assert model.info.targets == ("gap",)
    assert model.info.units == ("eV",)
    assert model.info.training["seed"] == 0
    # The file predicts what the run has tested.
    data = MiniQM9("gap")
    from torch_cormorant.data import split_indices

    test = data[split_indices(310, 12, 6, 10).test]
    errors = [
        (model.predict(one.z, one.pos.float()) - one.y).abs().item() for one in test
    ]
    expected = results["test"]["gap"]["ours"]
    assert np.mean(errors) == pytest.approx(expected, rel=1e-5)


def test_captured_steps_train_as_ordinary_ones(
    cormorant: Command, tmp_path: Path
) -> None:
    (tmp_path / "a.yaml").write_text(f"{CONFIG}output: {{report: false}}\n")
    change = ("--override", "training.guard=off", "training.dtype=float64")
    cormorant("train", "a.yaml", *change, "--out", "one")
    cormorant("train", "a.yaml", *change, "training.captured=true", "--out", "two")
    rows = [
        json.loads((tmp_path / name / "results.json").read_text())["epochs"]
        for name in ("one", "two")
    ]
    for ours, theirs in zip(*rows, strict=True):
        for name in ("train_loss", "train_mae", "valid_mae", "lr"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-5)
    error = cormorant("train", "a.yaml", "--override", "training.captured=true", code=2)
    assert "captured steps need guard: off" in error


def test_resume_overwrite_and_other_settings(
    cormorant: Command, tmp_path: Path
) -> None:
    (tmp_path / "a.yaml").write_text(f"{CONFIG}output: {{report: false}}\n")
    short = ("train", "a.yaml", "--override", "training.epochs=1")
    assert "epoch   1/1" in cormorant(*short)
    assert "already holds a run" in cormorant(*short, code=2)
    text = cormorant("train", "a.yaml", "--resume")
    assert "started for 1 epochs, goes on to 2" in text
    assert "epoch   2/2" in text
    other = ("train", "a.yaml", "--override", "training.lr=0.1", "--resume")
    assert "cannot be resumed with lr = 0.1" in cormorant(*other, code=2)
    assert (tmp_path / "runs/a/model.safetensors").exists(), "runs/<config>"


def test_wrong_keys_are_answered_before_anything_runs(
    cormorant: Command, tmp_path: Path
) -> None:
    (tmp_path / "a.yaml").write_text(CONFIG + "  epoch: 3\n")
    error = cormorant("train", "a.yaml", code=2)
    assert "a.yaml, line" in error
    (tmp_path / "b.yaml").write_text(CONFIG)
    error = cormorant("train", "b.yaml", "--override", "data.target=gab", code=2)
    assert "did you mean 'gap'?" in error
    error = cormorant("train", "--resume", code=2)
    assert "which file?" in error
    assert "fine" in cormorant("train", "b.yaml", "--check")
    for change, answer in (
        (CONFIG.replace("gap", "gab"), "did you mean 'gap'?"),
        (
            "data: {source: extxyz, path: no.extxyz}\n",
            "data.path: no.extxyz: no such file",
        ),
        (
            CONFIG.splitlines()[0] + "\ntraining: {start: a.safetensors}\n",
            "a.safetensors: cannot be read",
        ),
    ):
        (tmp_path / "c.yaml").write_text(change)
        assert answer in cormorant("train", "c.yaml", "--check", code=2)
    assert "batch_size: 25" in cormorant("train", "--keys")
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_cannot_be_and_a_full_disk(
    cormorant: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.yaml").write_text(f"{CONFIG}output: {{report: false}}\n")
    error = cormorant("train", "a.yaml", "--out", "a.yaml/run", code=2)
    assert "a.yaml/run: cannot be written (Not a directory)" in error
    calls, fsync = [], os.fsync

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 6:  # after the first epoch
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        error = cormorant("train", "a.yaml", code=2)
    assert "runs/a: writing failed (No space left on device)" in error
    assert not list((tmp_path / "runs/a").glob("*.safetensors"))
    assert not [f for f in (tmp_path / "runs/a").iterdir() if "tmp" in f.name]
    assert "in runs/a" in cormorant("train", "a.yaml", "--resume")
    assert load_model(tmp_path / "runs/a/model.safetensors").info.targets == ("gap",)


def test_several_targets_and_an_ensemble(cormorant: Command, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(CONFIG)
    text = cormorant(
        "train",
        "a.yaml",
        "--override",
        "data.target=[mu, energy_atom]",
        "training.seeds=[1, 2]",
        "training.epochs=1",
        "training.balanced=true",
        "output.report=false",
        "output.tensorboard=true",
    )
    # Each in its own unit, never an average of Debye and eV.
    assert "mu, 2 seeds: MAE" in text
    assert "energy_atom, 2 seeds: MAE" in text
    summary = json.loads((tmp_path / "runs/a/ensemble.json").read_text())
    assert summary["seeds"] == [1, 2]
    assert set(summary["targets"]) == {"mu", "energy_atom"}
    assert summary["targets"]["energy_atom"]["unit"] == "eV"
    for name, found in summary["targets"].items():
        errors = [
            json.loads((tmp_path / f"runs/a/seed-{seed}/results.json").read_text())
            for seed in (1, 2)
        ]
        ours = [one["test"][name]["ours"] for one in errors]
        assert found["mae"] == pytest.approx(ours)
        assert (tmp_path / f"runs/a/calibration_{name}.png").exists()
    logs = list((tmp_path / "runs/a/seed-1/tensorboard").iterdir())
    events = b"".join(f.read_bytes() for f in logs if f.name.startswith("events"))
    assert b"train_loss" in events
    assert b"valid_mae" in events
    model = load_model(tmp_path / "runs/a/seed-1/model.safetensors")
    assert model.info.targets == ("mu", "energy_atom")
    # The zero of a dipole stays, an energy has a composition subtracted.
    units = model.info.normalisation
    assert units.mean[0] == 0
    assert units.atom_values[6][0] == 0 != units.atom_values[6][1]


def test_info_tells_everything(cormorant: Command, gap: Path) -> None:
    text = cormorant("info", gap / "model.safetensors")
    for part in (
        "gap [eV]",
        "elements:    1, 6, 7, 8, 9",
        "parameters per part",
        "soft radii",
        "paths of the sum: 0x0>0",
        "normalisation",
        '"MiniQM9 (not QM9)"',
    ):
        assert part in text, part


def test_predictions_for_sdf_smiles_and_frames(
    cormorant: Command, tmp_path: Path, gap: Path
) -> None:
    chem = pytest.importorskip("rdkit.Chem", reason="needs rdkit")
    from rdkit.Chem import AllChem

    model = gap / "model.safetensors"
    (tmp_path / "a.csv").write_text("name,SMILES\nx,CCO\ny,c1ccccc1\n")
    cormorant("predict", model, "a.csv", "-o", "out.csv")
    rows = list(csv.reader((tmp_path / "out.csv").read_text().splitlines()))
    assert rows[0] == ["smiles", "name", "gap [eV]"]
    assert [row[:2] for row in rows[1:]] == [["CCO", "x"], ["c1ccccc1", "y"]]
    molecule = chem.AddHs(chem.MolFromSmiles("CCO"))
    AllChem.EmbedMolecule(molecule, randomSeed=1)
    AllChem.MMFFOptimizeMolecule(molecule, maxIters=2000)
    with chem.SDWriter(str(tmp_path / "b.sdf")) as writer:
        writer.write(molecule)
    cormorant("predict", model, "b.sdf", "-o", "sdf.csv")
    same = list(csv.reader((tmp_path / "sdf.csv").read_text().splitlines()))
    # Coordinates in an sdf file have four digits.
    assert float(same[1][1]) == pytest.approx(float(rows[1][2]), rel=1e-3)
    cormorant("predict", model, "a.csv", "-o", "out.extxyz")
    first = (tmp_path / "out.extxyz").read_text().splitlines()[1]
    assert f"gap={rows[1][2]}" in first


def test_a_potential_predicts_and_is_evaluated(
    cormorant: Command, tmp_path: Path, ethanol: Path
) -> None:
    model, data = ethanol / "model.safetensors", MiniEthanol()
    write_extxyz(tmp_path / "in.extxyz", [data[k] for k in range(5)])
    text = cormorant("evaluate", model, "in.extxyz")
    assert "5 structures" in text
    assert "force components" in text
    cormorant("predict", model, "in.extxyz", "-o", "out.extxyz", "--batch-size", "2")
    found = read_extxyz(tmp_path / "out.extxyz")
    network = load_model(model)
    energy, forces = network.energy_and_forces(data[3].z, data[3].pos)
    torch.testing.assert_close(found[3].energy, energy, rtol=1e-6, atol=1e-4)
    torch.testing.assert_close(found[3].forces, forces.double(), rtol=1e-4, atol=1e-4)
    again = ("predict", model, "in.extxyz", "-o", "out.extxyz")
    assert "out.extxyz: is there already" in cormorant(*again, code=2)
    assert "forces" not in cormorant(*again, "--overwrite")
    text = cormorant("predict", model, "in.extxyz", "-o", "out.csv")
    assert "a table holds no forces; for them write .extxyz" in text


def test_a_report_compares_sizes_only_where_there_are_several(
    gap: Path, ethanol: Path
) -> None:
    pages = {run: (run / "report.html").read_text() for run in (gap, ethanol)}
    assert 'alt="errors gap"' in pages[gap]
    assert 'alt="errors energy"' not in pages[ethanol]
    assert 'alt="parity of energy"' in pages[ethanol]


def test_an_energy_of_another_composition_is_warned_of(
    cormorant: Command, tmp_path: Path, ethanol: Path
) -> None:
    model = ethanol / "model.safetensors"
    assert load_model(model).info.training["compositions"] == [{"1": 6, "6": 2, "8": 1}]
    (tmp_path / "w.xyz").write_text("3\n\nO 0 0 0\nH 0 0 0.96\nH 0 0.93 -0.24\n")
    with pytest.warns(CormorantWarning, match=r"w\.xyz: frame 0: .*many eV"):
        cormorant("predict", model, "w.xyz", "-o", "out.csv")


def test_positions_in_nm_are_warned_of(
    tmp_path: Path, ethanol: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = MiniEthanol()
    for name, factor in (("nm", 0.1), ("angstrom", 1.0)):
        frames = [data[k].clone() for k in range(3)]
        for frame in frames:
            frame.pos *= factor
        write_extxyz(tmp_path / f"{name}.extxyz", frames)
    monkeypatch.chdir(tmp_path)
    # In a process of its own, as a user sees it.
    base = (sys.executable, "-m", "torch_cormorant")
    done = {
        name: subprocess.run(
            [*base, command, f"{ethanol}/model.safetensors", f"{name}.extxyz", *rest],
            capture_output=True,
            text=True,
            check=True,
        ).stderr
        for name, command, rest in (
            ("nm", "predict", ["-o", "out.csv"]),
            ("angstrom", "evaluate", []),
        )
    }
    assert done["angstrom"] == ""
    assert done["nm"].startswith("cormorant predict: warning: nm.extxyz: frame 0: most")
    assert done["nm"].count("\n") == 1
    with pytest.warns(CormorantWarning, match="in nm"):
        main(["evaluate", f"{ethanol}/model.safetensors", "nm.extxyz"])


def test_unfit_input_names_the_structure(
    cormorant: Command, tmp_path: Path, gap: Path, ethanol: Path
) -> None:
    model = gap / "model.safetensors"
    (tmp_path / "a.xyz").write_text("1\n\nH 0 0 0\n1\n\nXe 0 0 0\n")
    assert "structure 1:" in cormorant("predict", model, "a.xyz", "-o", "o.csv", code=2)
    assert "no such file" in cormorant("predict", model, "a.pdf", "-o", "o.csv", code=2)
    assert "written are" in cormorant("predict", model, "a.xyz", "-o", "o.md", code=2)
    write_extxyz(tmp_path / "c.extxyz", [MiniEthanol()[0]])
    for name in ("c.extxyz", tmp_path / "c.extxyz"):
        error = cormorant("predict", model, "c.extxyz", "-o", name, code=2)
        assert "would replace what is read" in error
    assert "cannot be read" in cormorant("info", "none.safetensors", code=2)
    (tmp_path / "bad.csv").write_text("smiles\nC(C\n")
    error = cormorant("predict", model, "bad.csv", "-o", "o.csv", code=2)
    assert "line 2: 'C(C' is no SMILES" in error
    (tmp_path / "bad.sdf").write_text("nothing\n")
    cormorant("predict", model, "bad.sdf", "-o", "o.csv", code=2)
    shutil.copy(ethanol / "model.safetensors", tmp_path / "cut.safetensors")
    with (tmp_path / "cut.safetensors").open("r+b") as stream:
        stream.truncate(3000)
    assert "cut.safetensors" in cormorant("info", "cut.safetensors", code=2)
    assert not (tmp_path / "o.csv").exists()


@pytest.mark.parametrize(("kind", "make"), KINDS)
def test_weights_of_the_original_there_and_back(
    cormorant: Command,
    tmp_path: Path,
    kind: str,
    make: type[CormorantQM9 | CormorantMD17],
) -> None:
    model = make(num_levels=1, lmax=1, channels=4)
    np.savez(tmp_path / "weights.npz", **model.to_original())
    # The settings that are not published travel beside the weights.
    extra = {"num_cg_levels": 1, "maxl": [1], "max_sh": [1], "num_channels": [4, 4]}
    named = {f"cfg_{name}": np.array(value) for name, value in extra.items()}
    np.savez(tmp_path / "weights.npz", **model.to_original(), **named)
    start = ("convert", "weights.npz", "a.safetensors", "--target", "U0")
    cormorant(*start, "--kind", kind)
    cormorant("convert", "a.safetensors", "back.npz")
    back = np.load(tmp_path / "back.npz")
    for name, array in model.to_original().items():
        np.testing.assert_array_equal(back[name], array)
    assert "expected .npz" in cormorant("convert", "a.txt", "b.npz", code=2)


def test_datasets_and_backends(cormorant: Command) -> None:
    assert "mini_qm9" in cormorant("datasets")
    assert "molecules:       310" in cormorant("datasets", "mini_qm9")
    assert "right" in cormorant("datasets", "mini_qm9", "--verify")
    assert "no digests are known" in cormorant(
        "datasets", "extxyz", "--path", ".", "--verify", code=2
    )
    assert "did you mean 'mini_qm9'" in cormorant("datasets", "mini_qm8", code=2)
    assert "molecules:       310" in cormorant("datasets", "mini-qm9", "--verify")
    assert "only MD17 has several" in cormorant(
        "datasets", "mini_qm9", "--molecule", "ethanol", code=2
    )
    assert "B3LYP/6-31G(2df,p)" in cormorant("datasets", "qm9")
    assert "which? give --path" in cormorant("datasets", "qm9", "--fetch", code=2)
    assert "which? give --path" in cormorant("datasets", "frames", code=2)
    assert "--fetch downloads it" in cormorant(
        "datasets", "qm9", "--path", "none", code=2
    )
    assert "torch" in cormorant("backends")


@pytest.mark.parametrize("source", ["qm9", "md17"])
@pytest.mark.parametrize("path", ["none", "folder", "file", "file/none", "none.npz"])
def test_data_are_downloaded_only_if_asked_for(
    cormorant: Command,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    source: str,
    path: str,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise DataError("a download was begun")

    for name in ("qm9_files", "md17"):
        monkeypatch.setattr(f"torch_cormorant.data.{name}.fetch_file", refuse)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    there = sorted(tmp_path.rglob("*"))
    error = cormorant("datasets", source, "--path", path, code=2)
    assert "no such file" in error
    assert ("--fetch downloads it" in error) == (not path.endswith("npz"))
    assert sorted(tmp_path.rglob("*")) == there
    if path == "folder":
        asked = ("datasets", source, "--path", path, "--fetch")
        assert "a download was begun" in cormorant(*asked, code=2)


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (["train", "a.yaml", "--out", ""], "--out"),
        (["train", ""], "config"),
        (["info", ""], "model"),
        (["evaluate", "", "mini_qm9"], "model"),
        (["predict", "m.safetensors", "", "-o", "a.csv"], "input"),
        (["predict", "m.safetensors", "a.xyz", "-o", ""], "-o/--output"),
        (["convert", "", "a.npz"], "source"),
    ],
)
def test_an_empty_name_is_not_the_folder_one_stands_in(
    cormorant: Command, tmp_path: Path, words: list[str], place: str
) -> None:
    (tmp_path / "a.yaml").write_text(CONFIG)
    error = cormorant(*words, code=2)
    assert f"argument {place}: no name is given" in error
    assert [path.name for path in tmp_path.iterdir()] == ["a.yaml"]


def test_help_teaches(cormorant: Command) -> None:
    text = cormorant("--help")
    listed = text.split("COMMAND\n")[1].split("\n\n")[0].splitlines()
    assert len(listed) == 9, "one whole line for each command"
    assert not any(line.rstrip().endswith((",", ":")) for line in listed)
    for name in ("train", "evaluate", "predict", "info", "convert", "datasets"):
        assert name in text
        assert "usage: cormorant" in cormorant(name, "--help")
    assert "invalid choice" in cormorant("trian", code=2)


def test_the_report_opens_in_a_browser(tmp_path: Path, ethanol: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no Chromium on this machine (apt-get install chromium)")
    page = ethanol / "report.html"
    assert "http" not in page.read_text().split("<h2>Record")[0], "self-contained"
    done = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path}/profile",
            "--window-size=1000,2500",
            f"--screenshot={tmp_path}/page.png",
            page.as_uri(),
        ],
        capture_output=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-500:]
    from matplotlib.image import imread

    image = imread(tmp_path / "page.png")
    assert image.shape[:2] == (2500, 1000)
    dark = (image[..., :3].mean(axis=-1) < 0.9).mean()
    assert dark > 0.02, "an empty page"
