"""The main job as a user starts it, with little data and few epochs."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from torch_cormorant import load_model
from torch_cormorant.train.job import Job

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "qm9.py"
SMALL = "--train-size 12 --valid-size 6 --test-size 5 --batch-size 6 --threads 1"
FILES = {
    "best.ckpt",
    "last.ckpt",
    "learning_curve.png",
    "model.safetensors",
    "parity.png",
    "results.json",
    "settings.json",
}


@pytest.fixture(scope="module")
def example() -> Iterator[ModuleType]:
    threads = torch.get_num_threads()
    spec = importlib.util.spec_from_file_location("qm9_example", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    torch.set_num_threads(threads)


@pytest.fixture
def fail(
    example: ModuleType, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], str]:
    """Return a function that runs a bad command line and returns its one line."""

    def run(arguments: str) -> str:
        try:
            code = example.main(arguments.split())
        except SystemExit as leave:
            code = leave.code
        captured = capsys.readouterr()
        assert code == 2
        assert captured.err.count("\n") == 1, "one line"
        assert captured.out == ""
        return captured.err

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_first_run_and_its_resume(
    example: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fail: Callable[[str], str],
) -> None:
    monkeypatch.chdir(tmp_path)
    command = f"{SMALL} --out out --target gap --model published"
    assert example.main(f"{command} --epochs 1".split()) == 0
    text = capsys.readouterr().out
    for part in (
        "MiniQM9 (not QM9), B3LYP/6-31G(2df,p)//GFN2-xTB: gap, 12 / 6 / 5",
        "epoch   1/1  loss ",
        "valid MAE",
        "299,808 parameters",
        "Cormorant, published (epoch 1)",
        "least squares on the composition",
        "mean of the training molecules",
    ):
        assert part in text
    assert "paper" not in text
    out = tmp_path / "out"
    assert {file.name for file in out.iterdir()} == FILES
    assert [file.name for file in tmp_path.iterdir()] == ["out"], "no litter"

    before = contents(out)
    assert "already holds a run" in fail(f"{command} --epochs 2")
    assert "lr = 0.002, cannot be resumed" in fail(f"{command} --lr 1 --resume")
    assert contents(out) == before

    assert example.main(f"{command} --epochs 2 --resume".split()) == 0
    text = capsys.readouterr().out
    assert "started for 1 epochs, goes on to 2: a schedule" in text
    assert "epoch   2/2" in text
    assert "epoch   1/2" not in text
    results = json.loads((out / "results.json").read_text())
    assert [row["epoch"] for row in results["epochs"]] == [1, 2]
    assert results["parameters"] == 299_808
    assert results["test"]["gap"]["unit"] == "eV"
    assert results["test"]["gap"]["paper"] is None
    assert results["data"]["name"] == "MiniQM9 (not QM9)"
    assert results["data"]["sizes"] == [12, 6, 5]
    assert len(results["data"]["sha256"]) == 64
    assert load_model(out / "model.safetensors").info.targets == ("gap",)


def test_captured_steps_on_the_embedded_molecules(
    example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = f"{SMALL} --captured --epochs 1 --out {tmp_path}/out"
    assert example.main(command.split()) == 0
    assert "epoch   1/1  loss " in capsys.readouterr().out
    settings = json.loads((tmp_path / "out/results.json").read_text())["settings"]
    assert settings["captured"] is True


def test_the_recipe_in_double_precision_on_real_qm9(
    example: ModuleType,
    tmp_path: Path,
    shared: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    npz = shared / "data/qm9/qm9_labelled.npz"
    command = f"{SMALL} --npz {npz} --target alpha --model recipe --dtype float64"
    arguments = f"{command} --calibrate --epochs 1 --out {tmp_path}/out".split()
    assert example.main(arguments) == 0
    text = capsys.readouterr().out
    assert "QM9, B3LYP/6-31G(2df,p): alpha, 12 / 6 / 5" in text
    assert "paper's Table 1 (100,000 training molecules)" in text
    state = torch.load(tmp_path / "out/last.ckpt", weights_only=True)["state_dict"]
    assert {value.dtype for value in state.values() if value.is_floating_point()} == {
        torch.float64
    }


def test_raw_files_of_pyg_are_read(
    example: ModuleType,
    tmp_path: Path,
    shared: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # A copy: what was read is kept beside the files.
    shutil.copytree(shared / "data/qm9/pyg_raw_sample", tmp_path / "qm9/raw")
    command = f"{SMALL} --root {tmp_path}/qm9 --target mu --epochs 1"
    assert example.main(f"{command} --out {tmp_path}/out".split()) == 0
    assert "QM9, B3LYP/6-31G(2df,p): mu, 12 / 6 / 5" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--npz a", "--npz: a, expected the name of an .npz file"),
        ("--npz a --root b", "argument --root: not allowed with argument --npz"),
        ("--target hommo", "did you mean 'homo'?"),
        ("--npz {tmp}/none.npz", "none.npz: no such file"),
        ("--npz {tmp}/broken.npz", "broken.npz: not an .npz file, or damaged"),
        ("--train-size 400", "473 rows asked for, the data set has 310"),
        ("--train-size 0", "data.train: 0 is not at least 1"),
        ("--epochs many", "argument --epochs"),
        ("--lr -1", "training.lr: -1.0 is not more than 0"),
        ("--clip -1", "training.clip: -1.0 is not at least 0"),
        ("--clip nan", "training.clip: expected a number, found nan"),
        ("--seed -3", "data.split_seed: -3 is not at least 0"),
        ("--cutoff nan", "cutoff must be a positive number of Angstrom, got nan"),
        ("--model other", "argument --model: invalid choice"),
        ("--resume", "--resume needs --out"),
        ("--out {tmp}/new --resume", "no checkpoint to resume from"),
        ("--out {tmp}/broken.npz/out", "cannot be written"),
    ],
)
def test_mistakes_end_in_one_line(
    fail: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 not really")
    assert message in fail(arguments.format(tmp=tmp_path))
    assert [file.name for file in tmp_path.iterdir()] == ["broken.npz"]


def test_damaged_checkpoints_stop_the_resume(
    example: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    command = f"{SMALL} --out out --model recipe"
    assert example.main(f"{command} --epochs 1".split()) == 0
    for name in ("best", "last"):
        file = tmp_path / f"out/{name}.ckpt"
        file.write_bytes(file.read_bytes()[:999])
        before = contents(tmp_path / "out")
        capsys.readouterr()
        assert example.main(f"{command} --epochs 2 --resume".split()) == 2
        assert f"{name}.ckpt: damaged" in capsys.readouterr().err
        assert contents(tmp_path / "out") == before


def test_exit_code_and_stderr_of_the_process(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--target", "energi"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("qm9.py: error: target: MiniQM9 has no property")
    assert "did you mean 'energy'?" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_recipe_takes_the_head_that_fits_the_target(
    example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = f"{SMALL} --target mu --model recipe --epochs 1 --out {tmp_path}/out"
    assert example.main(command.split()) == 0
    assert "recipe network, head dipole_norm" in capsys.readouterr().out
    model = load_model(tmp_path / "out/model.safetensors")
    assert model.info.normalisation.mean == (0.0,)
    assert model.info.normalisation.atom_values == {}


@pytest.mark.parametrize(
    ("arguments", "head", "composition"),
    [
        ("--target homo", "published", True),
        ("--target energy_atom", "extensive", True),
        ("--target mu --model published", "published", False),
        ("--target gap --model published --head mean", "mean", False),
        ("--target gap --reference mean", "published", False),
    ],
)
def test_head_and_reference_follow_target_and_network(
    example: ModuleType, arguments: str, head: str, composition: bool
) -> None:
    job = Job(example.configure(example.parse(arguments.split())), seed=0)
    assert job.module.model.head.kind == head
    assert bool(job.loaders.atom_values) == composition


def test_a_training_starts_from_a_model(
    example: ModuleType,
    tmp_path: Path,
    fail: Callable[[str], str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    command = f"{SMALL} --epochs 1 --target gap --out"
    assert example.main(f"{command} {first}".split()) == 0
    model = first / "model.safetensors"
    assert example.main(f"{command} {second} --start {model}".split()) == 0
    record = load_model(second / "model.safetensors").info.training
    assert record["start"]["file"] == "model.safetensors"
    assert "starts from model.safetensors" in capsys.readouterr().out
    text = fail(f"{command} {tmp_path}/third --start nothing")
    assert "no weights that come with the package have this name" in text
